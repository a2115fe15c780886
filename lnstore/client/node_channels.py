"""Lightning channels to nodes: opened for some periods of rent, as the node's terms ask for, topped up, closed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from lnstore.client.accounts import fetch_terms
from lnstore.client.agreements import agreement_at
from lnstore.client.catalog import NodeEntry
from lnstore.client.channel_watch import list_channels, next_rents, rented_bytes, supplies
from lnstore.client.money_errors import NodeUntrusted
from lnstore.client.purse import Purse
from lnstore.errors import LnstoreError
from lnstore.lightning.channel_changes import allow_full_payments, close_channel, top_up, until_spliced
from lnstore.lightning.channels import ensure_channel
from lnstore.lightning.reconnecting import Place, parse_place, reconnect
from lnstore.lightning.supply import Phase, Supply, channel_size_sat, channel_wanted, phase, spendable_msat
from lnstore.ports import Channel, Closing, LightningError
from lnstore_protocol.ids import LightningId, Msat
from lnstore_protocol.messages import ChannelInfo, ChannelInfoReply
from lnstore_protocol.terms import ChannelPolicy, Terms, rent_msat

OPEN_SECONDS = 600.0
"""How long a channel is waited for to become usable; running it again goes on waiting for the same one."""

RECONNECT_SECONDS = 20.0
"""How long a peer that is away is called before something is done without it."""


@dataclass(frozen=True, slots=True)
class _Peer:
    """The node's Lightning daemon: its key, where it is reached, the smallest channel it wants."""

    lightning_id: LightningId
    place: Place
    minimum_sat: int


async def _peer(purse: Purse, node: NodeEntry) -> _Peer:
    # Asked for only where there is a channel or shall be one: the node's daemon sees our Lightning id anyway (V-W7).
    info = await purse.ask(node, ChannelInfo(lightning_id=(await purse.daemon()).lightning_id), ChannelInfoReply)
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
    return _Peer(info.lightning_id, place, info.minimum_sat)


# --- opening --------------------------------------------------------------------------------------------------------


async def open_channel(  # MA-R23, R-R24
    purse: Purse,
    node: NodeEntry,
    *,
    capacity_bytes: int = 0,
    amount_sat: int | None = None,
    push_msat: int = 0,
    progress: Callable[[str], None] | None = None,
    timeout_seconds: float = OPEN_SECONDS,
) -> Channel:
    """A usable channel to the node that can pay at least the next rent: the one there is, or a new one.

    Its size is `amount_sat`, else enough for `channel_periods` periods of rent for the larger of what is rented there
    and `capacity_bytes`, and always at least the node's minimum; `push_msat` more are given to the node. NodeUntrusted
    when the node names another Lightning key than it proved; FeeTooHigh, LightningRefused and LightningUnavailable as
    ensure_channel.
    """
    peer = await _peer(purse, node)
    agreed = agreement_at(node)
    terms = agreed.terms.terms if agreed else (await fetch_terms(purse, node)).terms
    rent = _rent(terms, max(capacity_bytes, rented_bytes(purse, node)))
    minimum_sat = max(peer.minimum_sat, terms.minimum_channel_sat)
    sized = channel_size_sat(rent, purse.config.channel_periods, minimum_sat)
    return await ensure_channel(
        purse.lightning,
        peer.lightning_id,
        *peer.place,
        amount_sat=(sized if amount_sat is None else max(amount_sat, minimum_sat)) + -(-push_msat // 1000),
        push_msat=push_msat,
        progress=progress,
        timeout_seconds=timeout_seconds,
        least_spendable_msat=max(rent, 1),  # a channel in which nothing can be spent is none, even without rent
        maximum_fee_percent=purse.config.maximum_opening_percent,
        zero_conf=purse.config.zero_conf,
    )


async def channel_as_agreed(
    purse: Purse,
    node: NodeEntry,
    terms: Terms,
    capacity_bytes: int,
    *,
    progress: Callable[[str], None] | None = None,
) -> Channel | None:
    """The channel that the node's channel policy asks of a client that rents `capacity_bytes`; None for none.

    Where one is only preferred and cannot be had (no coins, fees too high, daemon away), the rent goes over routes.
    Where it is required, errors are those of `open_channel`.
    """
    rent = _rent(terms, capacity_bytes)
    if not channel_wanted(
        terms.channel_policy,
        rent_msat_per_period=rent,
        periods=purse.config.channel_periods,
        minimum_sat=terms.minimum_channel_sat,
    ):
        return None
    try:
        return await open_channel(purse, node, capacity_bytes=capacity_bytes, progress=progress)
    except LightningError as exc:
        if terms.channel_policy is ChannelPolicy.REQUIRED:
            raise
        if progress is not None:
            progress(f"would like a direct channel, and gets none: {exc}")
        return None


# --- keeping --------------------------------------------------------------------------------------------------------


async def keep_connected(purse: Purse, node: NodeEntry, *, progress: Callable[[str], None] | None = None) -> bool:
    """Whether the node's daemon is connected where there are channels to it; it is called for a while if it is not."""
    channels = await _channels(purse, node)
    if all(channel.connected for channel in channels if phase(channel.state) is Phase.OPEN):
        return True
    peer = await _peer(purse, node)
    return await reconnect(
        purse.lightning, peer.lightning_id, peer.place, timeout_seconds=RECONNECT_SECONDS, progress=progress
    )


async def make_ready(
    purse: Purse,
    nodes: Collection[NodeEntry],
    *,
    progress: Callable[[str], None] | None = None,
    timeout_seconds: float = OPEN_SECONDS,
) -> None:
    """Before rent is paid at these nodes: daemons that went away are called, and channels topped up if so configured.

    A top-up is waited for so long; running it again goes on waiting for the same one.
    What cannot be done is told and not raised: paying says best what is missing.
    """
    tell = progress or (lambda _: None)
    try:
        found = [one for one in supplies(purse, await list_channels(purse)) if one.node in nodes]
    except LightningError:
        return
    for one in found:
        try:
            if one.phase is Phase.OPEN:
                await keep_connected(purse, one.node, progress=progress)
                for channel in await _channels(purse, one.node):
                    if channel.usable and not channel.splicing and channel.largest_payment_msat < one.rent_msat:
                        await allow_full_payments(purse.lightning, channel)
            if one.phase is Phase.OPEN and one.supply is Supply.TOP_UP and purse.config.automatic_top_up:
                await top_up_channel(purse, one.node, progress=progress, timeout_seconds=timeout_seconds)
        except LnstoreError as exc:
            tell(f"{one.node.petname}: {exc}")


async def top_up_channel(
    purse: Purse,
    node: NodeEntry,
    *,
    amount_sat: int | None = None,
    progress: Callable[[str], None] | None = None,
    timeout_seconds: float = OPEN_SECONDS,
) -> Channel | None:
    """More to spend with the node: `amount_sat`, or what lacks for `channel_periods` periods of rent.

    Without an amount it is a target: None when nothing lacks, and a change that an interrupted run began is waited
    for first. What lacks is rounded up to the node's smallest channel, less is not worth its fee. Spliced in where both
    daemons can, else a second channel. ChannelBusy, FeeTooHigh, LightningRefused, LightningUnavailable as `top_up`.
    """
    peer = await _peer(purse, node)
    channels = await _channels(purse, node)
    needed_msat = 0
    if amount_sat is None:
        if (changing := next((channel for channel in channels if channel.splicing), None)) is not None:
            await until_spliced(purse.lightning, changing, progress=progress, timeout_seconds=timeout_seconds)
        if any(phase(channel.state) is Phase.OPENING for channel in channels):
            await open_channel(purse, node, progress=progress, timeout_seconds=timeout_seconds)
        channels = await _channels(purse, node)
        rent = next_rents(purse, node)[0]
        needed_msat = rent * purse.config.channel_periods - spendable_msat(channels)
        if needed_msat <= 0:
            return None
        amount_sat = max(channel_size_sat(needed_msat, 1, peer.minimum_sat), 1)
    return await top_up(
        purse.lightning,
        peer.lightning_id,
        peer.place,
        amount_sat=amount_sat,
        minimum_sat=channel_size_sat(needed_msat, 1, peer.minimum_sat),
        maximum_fee_percent=purse.config.maximum_opening_percent,
        progress=progress,
        timeout_seconds=timeout_seconds,
    )


async def close_channels(
    purse: Purse,
    node: NodeEntry,
    *,
    unilateral_after_seconds: int,
    progress: Callable[[str], None] | None = None,
) -> list[tuple[Channel, Closing]]:
    """Closes all channels to the node that are not closed yet: with it, or alone if it is away for so long."""
    tell = progress or (lambda _: None)
    closed = []
    for channel in await _channels(purse, node):
        if phase(channel.state) in {Phase.OPEN, Phase.OPENING}:
            tell(f"closing {channel.short_channel_id or channel.channel_id}")
            closing = await close_channel(purse.lightning, channel, unilateral_after_seconds=unilateral_after_seconds)
            closed.append((channel, closing))
    return closed


async def _channels(purse: Purse, node: NodeEntry) -> list[Channel]:
    if node.lightning_id is None:
        raise NodeUntrusted(f"the Lightning key of {node.petname} is not known; run: lnstore nodes add {node.address}")
    return await purse.lightning.channels(node.lightning_id)


def _rent(terms: Terms, capacity_bytes: int) -> Msat:
    return rent_msat(capacity_bytes, terms.period_seconds, terms.price_msat_per_gib_month)
