"""The running node looks at its channels now and then, so that its operator sees in the log what is coming."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from lnstore.lightning.supply import Phase, phase
from lnstore.logs import get_logger
from lnstore.node.context import NodeContext
from lnstore.node.limits import CHANNEL_WATCH_SECONDS
from lnstore.node.liquidity import liquidity
from lnstore.ports import Channel, LightningError

_log = get_logger("lnstore.node.channels")


class ChannelWatch:
    """Tells once of each change: room for rent runs out (or is there again), a channel closes."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node
        self._told: object = None
        self._open: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Watch, for ever, while the daemon can be used."""
        while True:
            await self._node.binding.confirmed.wait()
            try:
                await self.step()
            except LightningError as exc:
                self._node.binding.doubt(exc)
            await trio.sleep(CHANNEL_WATCH_SECONDS)

    async def step(self) -> None:
        """One look. LightningError when the daemon does not answer."""
        channels = await self._node.lightning.channels()
        self._tell_of_closing(channels)
        accounts = await self._node.books.accounts()
        state = liquidity(channels, accounts, period_seconds=self._node.config.period)
        now = (state.supply, state.periods_left) if state.warning else None
        if now == self._told:
            return
        self._told = now
        figures = {"can_be_received_msat": state.inbound_msat, "rent_msat_per_period": state.rent_msat}
        if state.warning:
            reason = state.warning.replace("DIRECTORY", str(self._node.config.directory))
            _log.warning("room to be paid runs out", reason=reason, **figures)
        else:
            _log.info("room to be paid for three periods or more", **figures)

    def _tell_of_closing(self, channels: Sequence[Channel]) -> None:
        for channel in channels:
            if channel.channel_id in self._open and phase(channel.state) in {Phase.CLOSING, Phase.CLOSED}:
                _log.warning(
                    "a channel is being closed; its peer pays over others, or none",
                    peer=channel.peer,
                    channel=channel.short_channel_id or channel.channel_id,
                    closed_by_us=channel.closed_by_us,
                )
        self._open = frozenset(channel.channel_id for channel in channels if phase(channel.state) is Phase.OPEN)
