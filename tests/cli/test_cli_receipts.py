"""`lnstore receipts` and `lnstore node receipts|ledger verify`, on a running network and on files of anybody's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_world import RunningNet, last_json, lnstore
from click.testing import CliRunner

from lnstore.cli import cli
from lnstore_protocol.bundles import HEADER, MAX_LINE_CHARACTERS

BUNDLES = [
    case
    for case in json.loads((Path(__file__).parents[2] / "spec" / "vectors" / "receipts.json").read_text())["cases"]
    if case["op"] == "bundle"
]


def test_both_sides_show_the_same_receipts(net: RunningNet, tmp_path: Path) -> None:
    """Bought, fetched, acknowledged, exported by either side, found right; the node's books agree with its daemon."""
    home = net.profile("receipts")
    last_json(lnstore("nodes", "add", net.addresses[0], "--petname", "alice", "--json", home=home))
    last_json(lnstore("channel", "open", "alice", "--json", home=home))
    bought = last_json(lnstore("rent", "buy", "alice", "1GiB", "--deposit", "3000", "--json", home=home))
    assert bought["receipt_warnings"] == []
    listed = lnstore("receipts", "ls", "--json", home=home)
    rows = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [(row["number"], row["purpose"], row["state"]) for row in rows] == [
        (0, "capacity", "acknowledged"),
        (1, "deposit", "acknowledged"),
    ]
    assert last_json(lnstore("receipts", "fetch", "--json", home=home))["new"] == 0
    ours, theirs = tmp_path / "ours.jsonl", tmp_path / "theirs.jsonl"
    assert last_json(lnstore("receipts", "export", str(ours), "--json", home=home))["receipts"] == 2
    node = next(
        path.parent for path in net.directory.glob("nodes/*/address") if path.read_text().strip() == net.addresses[0]
    )
    words = ["node", "receipts", "export", str(node), str(theirs), "--account", rows[0]["account_id"], "--json"]
    assert last_json(lnstore(*words))["receipts"] == 2
    assert theirs.read_text() == ours.read_text()
    checked = last_json(lnstore("receipts", "verify", str(ours), "--json"))
    (account,) = checked["accounts"]
    assert (checked["ok"], account["receipts"], account["acknowledged"], account["preimages"]) == (True, 2, 2, 2)
    verified = last_json(lnstore("node", "ledger", "verify", str(node), "--json"))
    assert verified["ok"]
    assert verified["paid"] >= 2


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", BUNDLES, ids=lambda case: case["name"])
def test_verify_takes_and_refuses_what_the_vectors_say(case: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "bundle"
    file.write_text("".join(line + "\n" for line in case["lines"]))
    result = CliRunner().invoke(cli, ["receipts", "verify", str(file), "--json"])
    said = json.loads(result.stdout.splitlines()[0])
    assert (said["found"], said["ok"]) == (case["found"], not case["found"])
    assert (result.exception is None) is said["ok"]
    shown = CliRunner().invoke(cli, ["receipts", "verify", "-"], input=file.read_text())
    assert ("all is right" in shown.stdout) is said["ok"]
    for finding in said["findings"]:
        assert finding["text"] in shown.stdout


def test_a_line_of_any_length_costs_no_memory_and_is_one_finding(tmp_path: Path) -> None:
    file = tmp_path / "bundle"
    file.write_text(HEADER + "\n" + "x" * (10 * MAX_LINE_CHARACTERS) + "\n" + BUNDLES[0]["lines"][1] + "\n")
    said = json.loads(CliRunner().invoke(cli, ["receipts", "verify", str(file), "--json"]).stdout.splitlines()[0])
    assert [finding["line"] for finding in said["findings"]] == [2]


def test_a_file_that_cannot_be_read_or_written_says_so(net: RunningNet, tmp_path: Path) -> None:
    assert lnstore("receipts", "verify", str(tmp_path / "none")).returncode == 6
    home = net.profile("unwritable")
    assert lnstore("receipts", "export", str(tmp_path / "no" / "file"), home=home).returncode == 6
    file = tmp_path / "text"
    file.write_bytes(b"\xff\xfe no bundle")
    assert lnstore("receipts", "verify", str(file)).returncode == 7
