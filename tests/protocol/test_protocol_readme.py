"""The example in the package's README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "protocol" / "README.md"


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands there, with the events it promises."""
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(example, str(README), "exec"), {})  # noqa: S102 - our own text
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition("(")[0] for line in printed] == [
        "HandshakeDone",
        "HandshakeDone",
        "RequestReceived",
        "ReplyReceived",
    ]
    promised = re.findall(r"# (?:act \d: )?(\w+)$", example, re.MULTILINE)
    assert [name for name in promised if name.endswith(("Done", "Received"))] == [
        line.partition("(")[0] for line in printed
    ]
