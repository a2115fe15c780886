"""A node that lost a share, at the command line: not paid, found, judged, and its share stored elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cli_world import RunningNet, last_json, lnstore

from lnstore.errors import ExitCode


def test_a_lost_share_is_found_and_repaired(net: RunningNet, tmp_path: Path) -> None:
    home = net.profile("repairing", needed="1", happy="2", total="2")
    for number, address in enumerate(net.addresses[:3]):
        lnstore("nodes", "add", address, "--petname", f"r{number}", home=home)
    last_json(lnstore("channel", "open", "--all", "--json", home=home))
    last_json(lnstore("rent", "buy", "--all", "64MiB", "--deposit", "20000", "--json", home=home))
    (tmp_path / "file").write_bytes(os.urandom(700_001))
    last_json(lnstore("put", str(tmp_path / "file"), "--json", home=home))

    def run(*words: str) -> tuple[int, list[Any], str]:
        done = lnstore(*words, "--json", home=home)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()

    nodes = {row["node_id"]: row["petname"] for row in run("nodes", "ls")[1]}
    share = next(
        path
        for path in (net.directory / "nodes").rglob("*")
        if len(path.name) == 64 and 700_001 < path.stat().st_size < 710_000
    )
    share.write_bytes(bytes(share.stat().st_size))
    code, outcomes, _ = run("rent", "pay", "--ahead")
    assert code == ExitCode.DATA
    (failed,) = [row for row in outcomes if not row.get("ok", True) and "fault" in row]
    assert failed["fault"] == "wrong_answers"
    (lost,) = failed["diagnosis"]["lost"]
    assert (lost["share_id"], lost["fault"]) == (share.name, "share_damaged")
    said = lnstore("check", home=home)
    assert said.returncode == ExitCode.DATA
    assert (
        b"file: 4 of 5 shares on 3 nodes, 1 damaged, 1 lost, 1 missing to all 2 of every segment; 0 more" in said.stdout
    )
    assert b"lnstore repair --all" in said.stderr
    code, (checked,), _ = run("check", "--verify")
    (health,) = checked["files"]
    assert (code, checked["ok"], checked["depth"]) == (ExitCode.DATA, False, "audited")
    assert (health["shares"], health["found"], health["healthy"], health["spare"]) == (5, 5, 4, 0)
    (hangs_on,) = health["lost_without"]["sets"]
    (impact,) = [one for one in checked["if_vanishes"] if one["lost"]]
    assert impact["node_ids"] == hangs_on
    code, (done,), _ = run("repair", "file")
    assert (code, done["ok"], done["sent"], nodes[done["from"]]) == (0, True, True, failed["node"])
    assert nodes[done["to"]] != failed["node"]
    assert b"nothing is known to be lost" in lnstore("repair", "--all", home=home).stdout
    shown = last_json(lnstore("nodes", "show", failed["node"], "--json", home=home))
    assert (shown["score"], shown["suspended"], shown["lost"]) == (10, True, 0)
    assert (shown["stand"], shown["excluded_at"], shown["retiring"]) == ("suspended", None, False)
    assert sum(part["points"] for part in shown["parts"]) == 90
    assert (shown["uptime"]["hours"] >= 1, shown["uptime"]["percent"]) == (True, 100)
    assert [price["rent_msat_per_gib_month"] for price in shown["prices"]] == [2000]
    assert shown["last"]["repaired"] is not None
    faults = [event["fault"] for event in shown["events"] if event["fault"]]
    assert faults == ["wrong_answers", "share_damaged"]
    code, outcomes, error = run("rent", "pay", "--ahead")
    assert code == 0, error
    assert [len(row["paid"]) for row in outcomes if row["node"] == failed["node"]] == [1]
    said = lnstore("check", "file", "--download", home=home)
    assert said.returncode == 0, said.stderr.decode()
    lines = said.stdout.decode().splitlines()
    assert lines[0] == "file: 5 of 5 shares on 3 nodes; 1 more of a segment may be lost"
    assert lines[1].startswith("  lost if 2 nodes vanish: ")
    assert sum(line.endswith(": nothing is lost, 1 file below N") for line in lines) == 2
    assert sum(line.endswith("vanishes: nothing is lost") for line in lines) == 1

    # Away from it altogether: it holds nothing but a copy of the manifest, which lies at both others, too.
    code, (plan,), _ = run("nodes", "retire", failed["node"], "--dry-run")
    assert (code, plan["shares"], plan["superfluous"], plan["stuck"], plan["to"]) == (0, 1, 1, 0, [])
    asked = lnstore("nodes", "retire", failed["node"], home=home, stdin=b"n\n")
    assert asked.returncode != 0
    assert f"{failed['node']}: 1 shares, " in asked.stderr.decode()
    assert b"1 copies of manifests are not needed elsewhere" in asked.stderr
    code, (retired,), _ = run("nodes", "retire", failed["node"], "--yes")
    assert (code, retired["ok"], retired["superfluous"]) == (0, True, 1)
    assert retired["left_at"] is not None

    told = last_json(lnstore("nodes", "readmit", failed["node"], "--json", home=home))
    assert (told["score"], told["stand"]) == (100, "trusted")

    # By a capability on standard input, of one's own file: as by its name.
    cap = lnstore("cap", "verify", "file", home=home).stdout
    by_cap = last_json(lnstore("check", "-", "--verify", "--json", home=home, stdin=cap))
    assert [health["name"] for health in by_cap["files"]] == ["file"]
    assert b"nothing is known to be lost" in lnstore("repair", "-", home=home, stdin=cap).stdout

    # A folder is called by its name, and so are the tree and the packs that it is made of.
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_bytes(os.urandom(10_000))
    code, _, error = run("put", str(tmp_path / "folder"))
    assert code == 0, error
    said = lnstore("check", "folder/", home=home)
    assert said.returncode == 0, said.stderr.decode()
    first, *_ = said.stdout.decode().splitlines()
    assert first == "folder/: 8 of 8 shares on 2 nodes; 1 more of a segment may be lost"
    assert b"folder/ are lost" not in said.stdout
    code, (checked,), _ = run("check", "folder")
    assert {health["folder"] for health in checked["files"]} == {"folder"}
    assert len(checked["files"]) == 2
    assert b"nothing is known to be lost" in lnstore("repair", "folder", home=home).stdout
    assert lnstore("repair", "nothing", home=home).returncode == ExitCode.CONFIGURATION
