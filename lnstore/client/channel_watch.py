"""What the channels to nodes can still pay, and when to say something. Reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lnstore.client.agreements import agreement_at, prices_of
from lnstore.client.catalog import NodeEntry
from lnstore.client.purse import Purse
from lnstore.lightning.supply import PERIODS_WATCHED, Phase, Supply, phase, spendable_msat, supply
from lnstore.ports import Channel, LightningError
from lnstore_protocol.ids import Msat, NodeId
from lnstore_protocol.terms import ChannelPolicy, period_at


@dataclass(frozen=True, slots=True)
class NodeChannel:
    """A channel, the node it leads to (None: somebody else), and how many periods of rent can be paid from it.

    `periods_left` is None where nothing is rented.
    """

    channel: Channel
    node: NodeEntry | None
    periods_left: int | None


@dataclass(frozen=True, slots=True)
class NodeSupply:
    """What all channels to a node can pay, against the rent of the periods to come.

    `phase` is that of the best channel, None without any. `warning` is a sentence with what to do, or empty.
    """

    node: NodeEntry
    phase: Phase | None
    supply: Supply
    rent_msat: Msat
    spendable_msat: Msat
    periods_left: int | None
    warning: str


async def list_channels(purse: Purse) -> list[NodeChannel]:
    """All channels of our daemon, those to nodes joined with them and with the rent they can still pay."""
    nodes = {node.lightning_id: node for node in purse.catalog.nodes() if node.lightning_id is not None}
    listed = []
    for channel in await purse.lightning.channels():
        node = nodes.get(channel.peer)
        rent = next_rents(purse, node)[0] if node is not None else 0
        usable_msat = channel.spendable_msat if phase(channel.state) is Phase.OPEN else 0
        listed.append(NodeChannel(channel, node, usable_msat // rent if rent else None))
    return listed


def supplies(purse: Purse, channels: Sequence[NodeChannel]) -> list[NodeSupply]:
    """How each node is supplied to which there is a channel, or whose terms demand one where something is rented."""
    found = []
    for node in purse.catalog.nodes():
        own = [listed.channel for listed in channels if listed.node == node]
        rents = next_rents(purse, node)
        agreed = agreement_at(node)
        demanded = agreed is not None and agreed.terms.terms.channel_policy is ChannelPolicy.REQUIRED and rents[0] > 0
        if own or demanded:
            found.append(_supply(node, own, rents, demanded=demanded))
    return found


async def channel_warnings(purse: Purse, node_ids: Collection[NodeId] | None = None) -> dict[NodeId, str]:
    """The warnings about the channels to these nodes (all), for commands about rent; none when the daemon is away."""
    try:
        listed = await list_channels(purse)
    except LightningError:
        return {}
    return {
        one.node.node_id: one.warning
        for one in supplies(purse, listed)
        if one.warning and (node_ids is None or one.node.node_id in node_ids)
    }


_BEST_FIRST = (Phase.OPEN, Phase.OPENING, Phase.CLOSING, Phase.CLOSED)


def _supply(node: NodeEntry, channels: Sequence[Channel], rents: Sequence[Msat], *, demanded: bool) -> NodeSupply:
    phases = {phase(channel.state) for channel in channels}
    best = next((one for one in _BEST_FIRST if one in phases), None)
    spendable, rent = spendable_msat(channels), rents[0]
    verdict = supply(spendable, rents)
    return NodeSupply(
        node=node,
        phase=best,
        supply=verdict,
        rent_msat=rent,
        spendable_msat=spendable,
        periods_left=spendable // rent if rent else None,
        warning=_warning(node.petname, channels, best, verdict, rents, demanded=demanded),
    )


def _warning(
    petname: str,
    channels: Sequence[Channel],
    best: Phase | None,
    verdict: Supply,
    rents: Sequence[Msat],
    *,
    demanded: bool,
) -> str:
    again = f"open another one with: lnstore channel open {petname}"
    if not demanded:
        again += ", or pay over other channels"
    add = f"add to it with: lnstore channel top-up {petname}"
    match best:
        case None:
            return f"{petname} takes rent only over a direct channel, and there is none; {again}"
        case Phase.CLOSED | Phase.CLOSING:
            by_us = channels[-1].closed_by_us
            who = " by you" if by_us else "" if by_us is None else f" by {petname}"
            verb = "was closed" if best is Phase.CLOSED else "is being closed"
            return f"the channel to {petname} {verb}{who}; {again}"
        case Phase.OPENING:
            return ""
        case Phase.OPEN if not any(channel.connected for channel in channels):
            return (
                f"the Lightning daemon of {petname} is not connected; it is called again whenever something is paid. "
                "If that does not help ask its operator"
            )
        case Phase.OPEN if any(channel.splicing for channel in channels) or verdict is Supply.FINE:
            return ""
        case Phase.OPEN if verdict is Supply.WARN:
            lasts = spendable_msat(channels) // rents[0]
            return f"the channel to {petname} pays the rent of only {lasts} more period{'s'[: lasts > 1]}; {add}"
        case _:
            return f"the channel to {petname} cannot pay the next rent of {rents[0]:,} msat; {add}"


def rented_bytes(purse: Purse, node: NodeEntry) -> int:
    """What is rented at the node by our own books."""
    agreed = agreement_at(node)
    return 0 if agreed is None else purse.wallet.standing(node.node_id, anchor_at=agreed.anchor_at).rented.in_the_end


def next_rents(purse: Purse, node: NodeEntry) -> list[Msat]:
    """The rent of the periods to come that are watched; all 0 where nothing is rented."""
    agreed = agreement_at(node)
    if agreed is None:
        return [Msat(0)] * PERIODS_WATCHED
    prices = prices_of(purse, node, agreed)
    ours = purse.wallet.standing(node.node_id, anchor_at=agreed.anchor_at)
    first = period_at(agreed.anchor_at, prices.period_seconds, ours.paid_until_at)
    return [prices.rent_msat(ours.rented.in_period(first + ahead), first + ahead) for ahead in range(PERIODS_WATCHED)]
