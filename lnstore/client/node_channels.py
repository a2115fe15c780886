"""Lightning channels to nodes: opened for some periods of rent, and listed with what they can still pay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lnstore.client.accounts import fetch_terms
from lnstore.client.catalog import NodeEntry
from lnstore.client.money_errors import NodeUntrusted
from lnstore.client.purse import Purse
from lnstore.lightning.channels import channel_size_sat, ensure_channel
from lnstore.ports import Channel
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import ChannelInfo, ChannelInfoReply
from lnstore_protocol.terms import Agreement, Terms, rent_msat

OPEN_SECONDS = 600.0
"""How long `open_channel` waits for a channel to become usable; running it again goes on waiting for the same one."""


@dataclass(frozen=True, slots=True)
class NodeChannel:
    """A channel, the node it leads to (None: somebody else), and how many periods of rent can be paid from it.

    `periods_left` is None where nothing is rented.
    """

    channel: Channel
    node: NodeEntry | None
    periods_left: int | None


def parse_place(text: str) -> tuple[str, int] | None:
    """`host:port`, the host of an IPv6 address in brackets; None for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        return None
    return host.strip("[]"), int(port)


async def open_channel(  # MA-R23, R-R24
    purse: Purse,
    node: NodeEntry,
    *,
    capacity_bytes: int = 0,
    amount_sat: int | None = None,
    progress: Callable[[str], None] | None = None,
    timeout_seconds: float = OPEN_SECONDS,
) -> Channel:
    """A usable channel to the node: the one there is, or a new one.

    Its size is `amount_sat`, else enough for `channel_periods` periods of rent for the larger of what is rented there
    and `capacity_bytes`, and always at least the node's minimum. NodeUntrusted when the node names another Lightning
    key than it proved; LightningRefused and LightningUnavailable as ensure_channel.
    """
    info = await purse.ask(node, ChannelInfo(), ChannelInfoReply)
    if info.lightning_id != node.lightning_id:
        raise NodeUntrusted(
            f"{node.petname} names another Lightning key than the one it proved to have; if its operator has moved to "
            f"another Lightning node, run: lnstore nodes add {node.address}"
        )
    place = next((found for text in info.addresses if (found := parse_place(text))), None)
    if place is None:
        raise NodeUntrusted(
            f"{node.petname} does not say where its Lightning daemon is reached; ask its operator, or pay over other "
            "channels if its terms allow that"
        )
    rented = purse.wallet.standing(node.node_id, anchor_at=agreed.anchor_at) if (agreed := _agreed(node)) else None
    terms = agreed.terms.terms if agreed else (await fetch_terms(purse, node)).terms
    wanted = max(capacity_bytes, rented.capacity_bytes if rented else 0)
    sized = channel_size_sat(_rent(terms, wanted), purse.config.channel_periods, info.minimum_sat)
    return await ensure_channel(
        purse.lightning,
        info.lightning_id,
        *place,
        amount_sat=max(amount_sat, info.minimum_sat) if amount_sat is not None else sized,
        progress=progress,
        timeout_seconds=timeout_seconds,
    )


async def list_channels(purse: Purse) -> list[NodeChannel]:
    """All channels of our daemon, those to nodes joined with them and with the rent they can still pay."""
    nodes = {node.lightning_id: node for node in purse.catalog.nodes() if node.lightning_id is not None}
    return [
        NodeChannel(channel, node := nodes.get(channel.peer), _periods_left(purse, channel, node))
        for channel in await purse.lightning.channels()
    ]


def _periods_left(purse: Purse, channel: Channel, node: NodeEntry | None) -> int | None:
    agreement = _agreed(node) if node is not None else None
    if node is None or agreement is None:
        return None
    rented = purse.wallet.standing(node.node_id, anchor_at=agreement.anchor_at).capacity_bytes
    rent = _rent(agreement.terms.terms, rented)
    return channel.spendable_msat // rent if rent else None


def _agreed(node: NodeEntry) -> Agreement | None:
    return None if node.agreement is None else Agreement.decode(node.agreement)


def _rent(terms: Terms, capacity_bytes: int) -> Msat:
    return rent_msat(capacity_bytes, terms.period_seconds, terms.price_msat_per_gib_month)
