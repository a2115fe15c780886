"""A development network that the tests of the command line share."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_world import COMMAND, PATIENCE_SECONDS, RunningNet


@contextmanager
def running(nodes: int) -> Iterator[RunningNet]:
    """So many nodes on a simulated Lightning network, through `lnstore devnet up`."""
    # Unix sockets need a short path, which pytest's own temporary directories are not.
    directory = Path(tempfile.mkdtemp(prefix="lnt-", dir="/tmp"))
    process = subprocess.Popen(
        [*COMMAND, "devnet", "up", "--dir", str(directory / "net"), "--nodes", str(nodes), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        assert line, process.communicate(timeout=PATIENCE_SECONDS)[1].decode()
        up = json.loads(line)
        yield RunningNet(Path(up["directory"]), Path(up["lightning_rpc"]), Path(up["clock_file"]), up["nodes"])
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_SECONDS)
        shutil.rmtree(directory, ignore_errors=True)
    assert process.returncode == 0


@pytest.fixture(scope="session")
def net() -> Iterator[RunningNet]:
    """Five nodes that many tests share."""
    with running(5) as shared:
        yield shared


@pytest.fixture
def own_net() -> Iterator[RunningNet]:
    """One node that nobody else has an account at or a channel to."""
    with running(1) as alone:
        yield alone


@pytest.fixture(scope="module")
def town() -> Iterator[RunningNet]:
    """Three nodes for one module, which may move their clock."""
    with running(3) as three:
        yield three
