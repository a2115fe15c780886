"""lightningd's commands, as the simulated network answers them."""

from __future__ import annotations

import trio

from lnstore.lightning.simulated import faults
from lnstore.lightning.simulated.server import Commands
from lnstore.lightning.simulated.simulation import Daemon


async def _delayed(daemon: Daemon, command: str) -> None:
    seconds = faults.delay_seconds(daemon.db, daemon.name, command)
    if seconds:
        await trio.sleep(seconds)


LIGHTNINGD = Commands(before=_delayed)
"""Every command of a virtual lightningd; the modules of this package fill it when `load` imports them."""


def load() -> Commands:
    """All of them."""
    from lnstore.lightning.simulated.commands import (  # noqa: F401, PLC0415  each registers its commands
        channel,
        identity,
        invoice,
        payment,
        wallet,
    )

    return LIGHTNINGD
