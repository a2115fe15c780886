"""Commands that a person names in a settings file, and that lnstore runs for them."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio


@asynccontextmanager
async def user_command(command: Sequence[str], **streams: Any) -> AsyncIterator[trio.Process]:
    """Run a command for the block, with `streams` as for trio.run_process; it ends with it, and all that it started.

    OSError or ValueError when it cannot be run.
    """
    process = await trio.lowlevel.open_process(list(command), start_new_session=True, **streams)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # its children too, if any are left
            os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()
