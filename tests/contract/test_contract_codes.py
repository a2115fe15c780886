"""Each error code that Core Lightning was seen to raise is met in the contract, or no command of ours can raise it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

TABLE = Path(os.environ.get("LNSTORE_CLN", Path(__file__).resolve().parents[3] / "shared" / "cln")) / "README.md"
NOT_OURS = {200, 204, 208}
"""Of sendpay and waitsendpay, which lnstore never calls: it pays with xpay or pay, and reads listpays."""


@pytest.mark.skipif(not TABLE.exists(), reason=f"no table of Core Lightning's errors at {TABLE}")
def test_every_code_of_the_table_is_in_the_contract() -> None:
    """The suite's tests, which run against both networks, name every code; lnstore's own sources never say sendpay."""
    lines = TABLE.read_text().partition("## Error codes seen")[2].splitlines()
    codes = {int(code) for line in lines if line.startswith("|") for code in re.findall(r"-?\d+", line.split("|")[2])}
    assert len(codes) > 20
    folder = Path(__file__).parent
    tests = "".join(path.read_text() for path in folder.glob("test_*.py") if path != Path(__file__))
    met = {code for code in codes if re.search(rf"(?<![\d_-]){code}(?![\d_])", tests)}
    assert codes - met <= NOT_OURS < codes
    sources = folder.parents[1] / "lnstore"
    assert not any("sendpay" in path.read_text() for path in sources.rglob("*.py"))
