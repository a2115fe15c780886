"""The agent and the status page at the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_world import RunningNet, last_json, lnstore

from lnstore.client.agent.lock import LOCK_FILE
from lnstore.errors import ExitCode

HOLD = """
import fcntl, sys, time
with open(sys.argv[1], "r+") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def home(net: RunningNet) -> Path:
    """A profile with accounts at two nodes and a file."""
    made = net.profile("kept", needed="1", happy="2", total="2")
    for number, address in enumerate(net.addresses[:2]):
        assert lnstore("nodes", "add", address, "--petname", f"k{number}", home=made).returncode == 0
    bought = lnstore("rent", "buy", "--all", "20MiB", "--deposit", "20000", "--open-channel", home=made)
    assert bought.returncode == 0, bought.stderr.decode()
    assert lnstore("put", "-", "--name", "notes", home=made, stdin=b"what I know").returncode == 0
    return made


def rows(done: subprocess.CompletedProcess[bytes]) -> list[Any]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_once_does_what_is_due_and_status_shows_it(home: Path) -> None:
    """A second run finds nothing due; the page needs no agent that runs."""
    before = last_json(lnstore("status", "--json", home=home))
    assert (before["last_backup_at"], before["agent"]) == (None, None)
    assert all(job["next_at"] <= before["now_at"] for job in before["jobs"])
    *ran, summary = rows(lnstore("agent", "once", "--json", home=home))
    assert all(row["ok"] for row in ran)
    assert [row["node"] for row in ran if row["job"] == "rent"] == ["k0", "k1"]
    assert (summary["failed"], summary["alerts"]) == (0, [])
    again = lnstore("agent", "once", home=home)
    assert again.returncode == 0
    assert again.stdout.startswith(b"nothing is due; next: ")
    page = last_json(lnstore("status", "--json", home=home))
    assert page["last_backup_at"] >= before["now_at"]
    assert {row["node"]: row["score"] for row in page["nodes"]} == {"k0": 100, "k1": 100}
    assert all(row["rent_due_at"] == row["paid_until_at"] > page["now_at"] for row in page["nodes"])
    assert all(job["next_at"] > page["now_at"] and job["failures"] == 0 for job in page["jobs"])
    said = lnstore("status", home=home).stdout.decode()
    assert "nothing needs you" in said
    assert "agent: not running" in said


def test_a_second_agent_refuses_and_a_killed_one_leaves_no_lock(home: Path) -> None:
    """With an exit code of its own; what the first did meanwhile is its own."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home / LOCK_FILE)],
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        refused = lnstore("agent", "once", home=home)
        assert refused.returncode == ExitCode.AGENT_RUNNING
        assert b"an agent is at work already" in refused.stderr
        assert b"Traceback" not in refused.stderr
        assert last_json(lnstore("status", "--json", home=home))["agent"] is not None
    finally:
        holder.kill()
        holder.communicate()
    assert lnstore("agent", "once", home=home).returncode == 0
