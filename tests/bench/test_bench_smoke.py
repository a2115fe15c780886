"""The benchmark suite runs, and its results have what docs and comparisons are made from. Nothing here is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.measure import UPKEEP
from bench.tables import missed, node_table

ROOT = Path(__file__).parents[2]
MIB = 1 << 20


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def results_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one small run: 1 MiB once, few files, no peer."""
    output = tmp_path_factory.mktemp("bench") / "results.json"
    done = bench(
        *("--sizes", "1MiB", "--codings", "1-of-2", "--repetitions", "1", "--small-files", "2"),
        *("--parts", "transfers,small,folder,upkeep,dead", "--folder-files", "3", "--output", str(output)),
    )
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture
def results(results_file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(results_file.read_text())
    return found


def test_every_transfer_has_its_figures_and_came_back_equal(results: dict[str, Any]) -> None:
    rows = results["rows"]
    works = {(row["name"], row["file_bytes"], row["files"], row["at_once"], row["dead"]) for row in rows}
    small = 10 * 1024
    assert works == {
        ("put", MIB, 1, 1, 0),
        ("get", MIB, 1, 1, 0),
        *((name, small, 2, at_once, 0) for name in ("put", "get") for at_once in (1, 8)),
        *((f"{name} folder", small, 3, 1, 0) for name in ("put", "get")),
        *((name, MIB, 1, 1, 0) for name in ("verify by download", "verify by audit", "repair")),
        ("get", MIB, 1, 1, 1),
    }
    for row in rows:
        assert row["system"] == "lnstore"
        assert row["coding"] == "1-of-2"
        assert row["compared_equal"] is (True if row["name"].startswith("get") else None)
        assert len(row["seconds"]) == len(row["load_average"]) == len(row["others_share"]) == 1
        assert row["seconds_median"] > 0
        assert row["mb_per_s"] is None if row["name"] in {"verify by audit", *UPKEEP} else row["mb_per_s"] > 0
        assert {"client", "nodes", "lightning", "driver"} <= set(row["cpu_seconds"])
        assert row["cpu_seconds"]["client"] > 0
        assert row["peak_bytes"]["client"] > MIB


def test_the_limit_is_there_with_every_step(results: dict[str, Any]) -> None:
    limit = results["limits"]["1-of-2"]
    assert set(limit) == {"unit_seconds_per_gb", "put", "get", "get, worst shares"}
    assert all(cost > 0 for cost in limit["unit_seconds_per_gb"].values())
    for work in ("put", "get", "get, worst shares"):
        assert limit[work]["mb_per_s"] == pytest.approx(
            min(limit[work]["cpu_mb_per_s"], limit[work]["disk_mb_per_s"]), abs=0.1
        )


def test_the_machine_is_described_without_saying_whose_it_is(results: dict[str, Any], results_file: Path) -> None:
    assert {"processor", "cores_used", "python", "lnstore", "trio", "zfec", "openssl"} <= set(results["machine"])
    text = results_file.read_text()
    assert "/" not in json.dumps(results["machine"]["system"])
    assert str(ROOT) not in text
    assert str(results_file.parent) not in text


def test_recorded_results_can_be_shown_again_without_measuring(results_file: Path) -> None:
    done = bench("--from", str(results_file))
    assert done.returncode == 0, done.stderr
    assert "| 1-of-2 | put 1 MiB" in done.stdout


def test_a_nodes_accounts_leases_and_connections_are_measured(results: dict[str, Any]) -> None:
    """With a few of each; the table and the targets are made from what a run of them gives."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.crowd", "--tiny"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    node = json.loads(done.stdout)
    assert [(scale["accounts"], scale["leases"]) for scale in node["scales"]] == [(2, 10), (20, 100)]
    assert node["connections"]["shares_slowest"] > 0
    told = node_table(results | {"node": node})
    assert "| 20       | 100    |" in told
    assert "4 connections" in told
    assert node_table(results) == ""
    node["connections"] |= {"node_peak_bytes": 301 * MIB, "shares_slowest": 4, "shares_median": 9}
    node["scales"][1] |= {"start_seconds": 2.1, "times_the_first": 1.21}
    assert missed(results | {"node": node})[-4:] == [
        "a node with 20 accounts and 100 leases starts within 2.10 s, 2 are asked for",
        "a node with 20 accounts and 100 leases: a put takes 1.21 times the first's",
        "a crowded node takes 301 MiB, 300 are asked for",
        "a connection got 4 shares through, the median 9",
    ]


def test_a_folder_is_held_against_the_peers_best_rate_for_single_files(results: dict[str, Any]) -> None:
    ours = next(row for row in results["rows"] if row["name"] == "put folder")
    small = [row for row in results["rows"] if row["name"] == "put" and row["files"] == 2]
    peers = [
        row | {"system": "peer", "files_per_s": rate, "seconds_median": 2 / rate}
        for row, rate in zip(small, (10, 20), strict=True)
    ]
    folder = ours | {"coding": "3-of-5", "seconds_median": 3 / 480, "files_per_s": 480}
    lines = missed(
        {"rows": [folder, *(peer | {"coding": "3-of-5"} for peer in peers)], "machine": {}, "idle_bytes": {}}
    )
    assert lines == ["3-of-5 put folder of 3 files of 10 KiB: 24.00 times peer, 25 are asked for"]


def test_an_audit_is_held_against_the_peers_verifying(results: dict[str, Any]) -> None:
    ours = next(row for row in results["rows"] if row["name"] == "verify by audit")
    audit = ours | {"coding": "3-of-5", "file_bytes": 100 * MIB, "seconds_median": 0.1}
    peer = audit | {"system": "peer", "name": "verify by download", "seconds_median": 2.9}
    lines = missed({"rows": [audit, peer], "machine": {}, "idle_bytes": {}})
    assert lines == ["3-of-5 verify by audit 100 MiB: 29.00 times peer, 30 are asked for"]


def test_attacks_are_measured_beside_honest_accounts() -> None:
    """A short window alone and one beside a flood of new accounts: rows, and a node that refuses most of the flood."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.attacks", "--seconds", "0.5", "--rounds", "1", "--honest", "1", "accounts"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    header, _, row = done.stdout.splitlines()[:3]
    assert header.count("|") == row.count("|")
    assert "| accounts |" in row
    assert " times)" in row
    assert "granted" in row
    assert "never paid" in done.stderr
