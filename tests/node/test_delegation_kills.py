"""Delegation under SIGKILL, see delegation_kills."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
"""SIGKILL ends a process, not a machine: what it had written is there, and need not wait for a disk."""


def test_a_delegation_goes_on_wherever_node_and_clients_are_killed() -> None:  # D-R6, D-R15, D-W4
    """What anybody was told of holds: stored is read back, revoked is refused; all counters are what the leases say."""
    program = Path(__file__).with_name("delegation_kills.py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with tempfile.TemporaryDirectory(prefix="kills", dir=MEMORY if MEMORY.is_dir() else None) as directory:
        ended = subprocess.run(
            [sys.executable, str(program), directory], capture_output=True, text=True, env=environment, check=False
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = {tuple(line.split()[1:]) for line in ended.stdout.splitlines() if line.partition(" ")[0].isdecimal()}
    assert len(told) >= 3, "killed in no more than two of: issued, accepted, stored, revoked"
