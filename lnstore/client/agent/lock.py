"""One agent for each profile: a lock that the system lets go of with the process, however that ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from lnstore.client.profile import lock_file
from lnstore.errors import ExitCode, LnstoreError

LOCK_FILE = "agent.lock"
PATIENCE_SECONDS = 0.5
"""For `lnstore status`, which holds it for a moment to see whether it is free."""


class AgentRunning(LnstoreError):
    """Another agent works with the profile."""

    exit_code: ClassVar[ExitCode] = ExitCode.AGENT_RUNNING


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Be the profile's only agent; AgentRunning. Blocks for half a second at most."""
    path = directory / LOCK_FILE
    fd = lock_file(path, PATIENCE_SECONDS)
    if fd is None:
        raise AgentRunning(
            f"an agent is at work already with the profile in {directory} (process {_holder(path)}); see what it does "
            "with: lnstore status"
        )
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)


def running(directory: Path) -> str | None:
    """The process number of the profile's agent, None when none is at work."""
    path = directory / LOCK_FILE
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(path)
    finally:
        os.close(fd)
    return None


def _holder(path: Path) -> str:
    text = path.read_text()
    return text if text.isdecimal() else "unknown"
