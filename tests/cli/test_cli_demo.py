"""The demo: exit code, JSON, nothing kept and nothing left running."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from cli_world import COMMAND, last_json

from lnstore.errors import ExitCode

ROOT = Path(__file__).parents[2]

FIELDS = {
    "ok",
    "bytes",
    "sha256_in",
    "sha256_out",
    "nodes",
    "killed",
    "periods_paid",
    "rent_paid_msat",
    "proofs_verified",
    "ledger_sum_msat",
    "upload_mb_per_s",
    "download_mb_per_s",
}


def processes_of(directory: str) -> list[int]:
    """Processes that name something in this directory on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and directory.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("size", "options", "nodes", "killed", "periods"),
    [
        (0, [], 5, 2, 3),
        (3_000_001, ["--nodes", "3", "--needed", "1", "--happy", "2", "--periods", "1"], 3, 2, 1),
    ],
)
def test_demo_of_a_stream(size: int, options: list[str], nodes: int, killed: int, periods: int) -> None:
    """What goes in comes out, with proofs paid, ledgers at 0, no file kept and no process left."""
    content = random.Random(size).randbytes(size)
    with tempfile.TemporaryDirectory(prefix="lnd-", dir="/tmp") as place:
        done = subprocess.run(
            [*COMMAND, "demo", "-", "--json", *options],
            input=content,
            capture_output=True,
            timeout=120,
            env={**os.environ, "TMPDIR": place},
            check=False,
        )
        told = last_json(done)
        assert list(Path(place).iterdir()) == []
        assert processes_of(place) == []
    digest = hashlib.sha256(content).hexdigest()
    assert told.keys() == FIELDS
    assert told["ok"] is True
    assert (told["bytes"], told["sha256_in"], told["sha256_out"]) == (size, digest, digest)
    assert (told["nodes"], told["killed"], told["periods_paid"]) == (nodes, killed, periods)
    assert told["proofs_verified"] == nodes * periods
    assert told["rent_paid_msat"] > 0
    assert told["ledger_sum_msat"] == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_demo_that_is_ended_leaves_nothing_running(how: signal.Signals) -> None:
    """Asked to stop, it takes its directory along; killed, its processes still end by themselves."""
    with tempfile.TemporaryDirectory(prefix="lnd-", dir="/tmp") as place:
        process = subprocess.Popen(
            [*COMMAND, "demo", str(ROOT / "README.md"), "--periods", "24"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "TMPDIR": place},
        )
        assert process.stdout is not None
        while line := process.stdout.readline():
            if line.startswith(b"Opening"):
                break
        assert processes_of(place)
        process.send_signal(how)
        _, errors = process.communicate(timeout=60)
        deadline = time.monotonic() + 20
        while processes_of(place) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert processes_of(place) == []
        if how is not signal.SIGKILL:
            assert (process.returncode, errors) == (ExitCode.INTERRUPTED, b"interrupted\n")
            assert list(Path(place).iterdir()) == []


def test_demo_for_a_person(tmp_path: Path) -> None:
    """The report names nodes, payments, the preimage that was the proof, channels and ledgers."""
    file = tmp_path / "letter.txt"
    file.write_bytes(b"hello" * 1000)
    done = subprocess.run(
        [*COMMAND, "demo", str(file), "--nodes", "2", "--needed", "1", "--happy", "2", "--periods", "1"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for text in ("letter.txt", "simulated", "play money", "Killed node1", "preimage", "before", "ledger", digest):
        assert text in done.stdout
    assert done.stdout.count(digest) == 2
    assert "The bytes are equal" in done.stdout
