"""Programs that end when the process that started them does, however that ends: not even SIGKILL leaves them behind.

They share a process group with a shell that waits for the end of a pipe which only this process holds, and that then
kills the group. A group of its own also keeps Ctrl-C in a terminal from them: whoever started them stops them in order.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import trio

WATCH = "cat >/dev/null; kill -9 0"
"""Waits for the end of its input, then kills every process of its group, itself included."""


class Tether:
    """Holds programs; when it is closed, or this process is gone, those that still run are killed."""

    def __init__(self) -> None:
        self._watch: trio.Process | None = None

    async def spawn(self, command: Sequence[str], output: Path) -> trio.Process:
        """Starts a program; what it prints is added to the file `output`. OSError when it cannot be started."""
        if self._watch is None:
            self._watch = await trio.lowlevel.open_process(
                ["sh", "-c", WATCH], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=0
            )
        with output.open("ab") as file:
            return await trio.lowlevel.open_process(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                process_group=self._watch.pid,
            )

    async def aclose(self) -> None:
        """Ends what still runs."""
        watch, self._watch = self._watch, None
        if watch is not None and watch.stdin is not None:
            await watch.stdin.aclose()
            await watch.wait()
