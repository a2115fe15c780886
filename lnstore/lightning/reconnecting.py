"""Peers that went away are called again, with patience."""

from __future__ import annotations

from collections.abc import Callable

import trio

from lnstore.lightning.supply import Phase, phase
from lnstore.ports import Channels, LightningRefused
from lnstore_protocol.ids import LightningId

POLL_SECONDS = 0.1
DIAL_SECONDS = 1.0
DIAL_CEILING_SECONDS = 60.0
"""A peer that is away is called again after this long, ever more rarely up to the ceiling."""

Place = tuple[str, int]
"""Host and port where a peer listens."""
Tell = Callable[[str], None]

NO_ADDRESS, UNREACHABLE = 400, 401
"""What connecting to a peer that is not there is refused with."""


def parse_place(text: str) -> Place | None:
    """`host:port`, the host of an IPv6 address in brackets; None for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        return None
    return host.strip("[]"), int(port)


class Calls:
    """Calling a peer that is away, ever more rarely."""

    def __init__(self, lightning: Channels, peer: LightningId, place: Place) -> None:
        self._lightning = lightning
        self._peer = peer
        self._place = place
        self._due = trio.current_time()
        self._pause = DIAL_SECONDS

    async def call_when_due(self) -> bool:
        """Call if it is time to; whether the peer answered."""
        if trio.current_time() < self._due:
            return False
        try:
            await self._lightning.connect(self._peer, *self._place)
        except LightningRefused as refused:
            if refused.code not in {NO_ADDRESS, UNREACHABLE}:
                raise
            self._due = trio.current_time() + self._pause
            self._pause = min(2 * self._pause, DIAL_CEILING_SECONDS)
            return False
        return True


async def reconnect(
    lightning: Channels, peer: LightningId, place: Place, *, timeout_seconds: float, progress: Tell | None = None
) -> bool:
    """Whether the open channels with this peer are connected, now or within `timeout_seconds` of calling it.

    lightningd calls peers it has channels with by itself, but after minutes only, and not at addresses it never heard.
    """
    tell = progress or (lambda _: None)
    calls = Calls(lightning, peer, place)
    told = False
    with trio.move_on_after(timeout_seconds):
        while True:
            opened = [one for one in await lightning.channels(peer) if phase(one.state) is Phase.OPEN]
            if all(channel.connected for channel in opened):
                return True
            if not told:
                tell(f"its Lightning daemon is not connected; calling {place[0]}:{place[1]}")
                told = True
            await calls.call_when_due()
            await trio.sleep(POLL_SECONDS)
    return False
