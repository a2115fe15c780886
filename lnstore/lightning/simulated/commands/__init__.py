"""lightningd's commands, as the simulated network answers them."""

from __future__ import annotations

import trio

from lnstore.lightning.simulated import faults
from lnstore.lightning.simulated.failure import LostDaemonError
from lnstore.lightning.simulated.server import Commands
from lnstore.lightning.simulated.simulation import Daemon

WRITING = frozenset(
    {"invoice", "delinvoice", "xpay", "pay", "newaddr", "withdraw", "connect", "fundchannel", "close"}
    | {"splicein", "spliceout"}
)
"""Commands that lightningd cannot answer without its database."""


async def _troubled(daemon: Daemon, command: str) -> None:
    seconds = faults.delay_seconds(daemon.db, daemon.name, command)
    if seconds:
        await trio.sleep(seconds)
    if command in WRITING and faults.take(daemon.db, "disk_full", node=daemon.name, command=command):
        raise LostDaemonError(daemon.name)


LIGHTNINGD = Commands(before=_troubled)
"""Every command of a virtual lightningd; the modules of this package fill it when `load` imports them."""


def load() -> Commands:
    """All of them."""
    from lnstore.lightning.simulated.commands import (  # noqa: F401, PLC0415  each registers its commands
        channel,
        identity,
        invoice,
        payment,
        splice,
        wallet,
    )

    return LIGHTNINGD
