"""Over which channel an account pays, as far as its client says who it is on Lightning and the daemon knows that peer.

A client that says another's Lightning id misleads the reader of a list, and nothing else: no decision is made by it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from lnstore.lightning.supply import Phase, phase, receivable_msat
from lnstore.ports import Account, Channel, Channels, LightningError
from lnstore_protocol.ids import LightningId, Msat

_MOST_TELLING = (Phase.OPEN, Phase.OPENING, Phase.CLOSING)
"""Of several channels, the phase that is shown is the first of these that one of them is in."""


class Standing(Enum):
    """What there is to say of an account's channel."""

    NONE_KNOWN = "none known"
    """Its client has not said its Lightning id: it has no channel here, or was told not to say."""
    NO_CHANNEL = "no channel"
    """It has said one, and the daemon has no channel with that peer (any more)."""
    NOT_ASKED = "daemon away"
    """It has said one, and the daemon does not answer now."""
    OPENING = "opening"
    OPEN = "open"
    NOT_CONNECTED = "open, not connected"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class AccountChannels:
    """The channels with an account's peer that are not closed, all together."""

    standing: Standing
    lightning_id: LightningId | None
    channels: tuple[Channel, ...] = ()

    @property
    def capacity_msat(self) -> Msat:
        """How large they are."""
        return Msat(sum(channel.capacity_msat for channel in self.channels))

    @property
    def receivable_msat(self) -> Msat:
        """What can still be received over those that are open."""
        return receivable_msat(self.channels)

    def as_json(self) -> dict[str, Any]:
        """For programs and exports."""
        return {
            "lightning_id": None if self.lightning_id is None else self.lightning_id.hex(),
            "channel": self.standing.value,
            "channel_capacity_msat": self.capacity_msat,
            "channel_receivable_msat": self.receivable_msat,
        }


async def account_channels(accounts: Collection[Account], lightning: Channels) -> list[AccountChannels]:
    """The channels of each account, in this order. The daemon is asked once, if any client has said who it is."""
    return beside(accounts, await _by_peer(lightning) if any(account.lightning_id for account in accounts) else {})


def beside(
    accounts: Collection[Account], known: Mapping[LightningId, Sequence[Channel]] | None
) -> list[AccountChannels]:
    """The channels of each account, by what the daemon has with each peer; None where it did not answer. Pure."""
    return [_of_peer(account.lightning_id, known) for account in accounts]


def _of_peer(said: LightningId | None, known: Mapping[LightningId, Sequence[Channel]] | None) -> AccountChannels:
    if said is None:
        return AccountChannels(Standing.NONE_KNOWN, None)
    if known is None:
        return AccountChannels(Standing.NOT_ASKED, said)
    channels = tuple(channel for channel in known.get(said, ()) if phase(channel.state) is not Phase.CLOSED)
    return AccountChannels(_standing(channels), said, channels)


def _standing(channels: Sequence[Channel]) -> Standing:
    phases = {phase(channel.state) for channel in channels}
    match next((one for one in _MOST_TELLING if one in phases), None):
        case Phase.OPEN:
            return Standing.OPEN if any(channel.usable for channel in channels) else Standing.NOT_CONNECTED
        case Phase.OPENING:
            return Standing.OPENING
        case Phase.CLOSING:
            return Standing.CLOSING
        case _:
            return Standing.NO_CHANNEL


async def _by_peer(lightning: Channels) -> dict[LightningId, list[Channel]] | None:
    try:
        channels = await lightning.channels()
    except LightningError:
        return None
    found: dict[LightningId, list[Channel]] = {}
    for channel in channels:
        found.setdefault(channel.peer, []).append(channel)
    return found
