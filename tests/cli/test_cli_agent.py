"""The agent and the status page at the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cli_world import COMMAND, PATIENCE_SECONDS, RunningNet, last_json, lnstore

from lnstore.client.agent.lock import running
from lnstore.client.agent.unit import NAME
from lnstore.errors import ExitCode


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
    assert {row["node"] for row in ran if row["job"] == "rent"} == {"k0", "k1"}
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
    """`agent run` is at work until it is told to stop, in order by SIGTERM, or is killed."""
    with agent_at_work(home) as first:
        refused = lnstore("agent", "once", home=home)
        assert refused.returncode == ExitCode.AGENT_RUNNING
        assert f"already with the profile in {home} (process {first.pid})" in refused.stderr.decode()
        assert last_json(lnstore("status", "--json", home=home))["agent"] == str(first.pid)
        first.kill()
    with agent_at_work(home) as second:
        second.terminate()
        assert second.communicate(timeout=PATIENCE_SECONDS)[1] == b""
    assert second.returncode == 0


@contextmanager
def agent_at_work(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One that holds the profile."""
    process = subprocess.Popen(
        [*COMMAND, "agent", "run", "--profile", str(home)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while running(home) != str(process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_SECONDS)


def test_a_profile_without_an_account_and_its_unit(tmp_path: Path, net: RunningNet) -> None:
    """There is nothing to do; systemd takes the unit also for a directory with blanks and percent signs."""
    home = net.profile("odd 100%n $HOME")
    assert b"nothing is due; there is no account yet" in lnstore("agent", "once", home=home).stdout
    assert b"you have no account yet" in lnstore("status", home=home).stdout
    printed = lnstore("agent", "unit", home=home, LNSTORE_PASSPHRASE_FILE="/run/secrets/it")
    assert printed.returncode == 0, printed.stderr.decode()
    text = printed.stdout.decode()
    assert f'Environment="LNSTORE_HOME={str(home).replace("%", "%%")}"' in text
    assert 'Environment="LNSTORE_PASSPHRASE_FILE=/run/secrets/it"' in text
    assert last_json(lnstore("agent", "unit", "--json", home=home))["name"] == NAME
    assert lnstore("agent", "unit", home=tmp_path / "none").returncode == ExitCode.CONFIGURATION
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / NAME
    unit.write_text(text)
    checked = subprocess.run(
        [analyze, "verify", "--user", str(unit)],
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env={"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    said = checked.stderr.decode()
    if "Failed to" in said and NAME not in said:
        pytest.skip(f"systemd-analyze does not work here: {said}")
    assert (checked.returncode, said) == (0, "")
