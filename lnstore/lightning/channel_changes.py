"""Channels that are there: topped up, waited for while they change, closed."""

from __future__ import annotations

import trio

from lnstore.lightning.channels import POLL_CEILING_SECONDS, POLL_SECONDS, Daemon, FeeTooHigh, ensure_channel
from lnstore.lightning.reconnecting import Place, Tell, reconnect
from lnstore.lightning.supply import (
    EMERGENCY_SAT,
    RESERVE_PARTS_PER_HUNDRED,
    SPLICE_IN_WEIGHT,
    Phase,
    fee_allowed,
    fee_of,
    phase,
    spendable_msat,
)
from lnstore.ports import Channel, Channels, Closing, LightningError, LightningRefused, LightningUnavailable, OnChain
from lnstore_protocol.ids import LightningId, Msat

_REFUSED, _CANNOT_AFFORD = -1, 301


class ChannelBusy(LightningError):
    """The channel cannot be changed while an earlier change waits for its block; nothing was done."""


async def top_up(
    lightning: Daemon,
    peer: LightningId,
    place: Place,
    *,
    amount_sat: int,
    minimum_sat: int,
    maximum_fee_percent: int,
    progress: Tell | None = None,
    timeout_seconds: float,
) -> Channel:
    """`amount_sat` more to spend with the peer: spliced into the largest channel, else in a second one of that size.

    The second one has at least `minimum_sat`. Returns when it can be spent. ChannelBusy while an earlier splice waits
    for its block; FeeTooHigh, LightningRefused and LightningUnavailable as `ensure_channel`. An interrupted call is not
    found again by another one: look at the channels first.
    """
    tell = progress or (lambda _: None)
    await reconnect(lightning, peer, place, timeout_seconds=timeout_seconds, progress=progress)
    before = await lightning.channels(peer)
    if any(channel.splicing or phase(channel.state) is Phase.OPENING for channel in before):
        raise ChannelBusy(
            "a channel to this peer is being opened or changed already; wait until its transaction has a block "
            "(lnstore channel ls shows it), then look again whether more is needed"
        )
    largest = max((one for one in before if one.usable), key=lambda one: one.capacity_msat, default=None)
    if largest is None or not await lightning.can_splice(peer):
        tell("no splicing here: opening another channel")
        return await ensure_channel(
            lightning,
            peer,
            *place,
            amount_sat=max(amount_sat, minimum_sat),
            progress=progress,
            timeout_seconds=timeout_seconds,
            least_spendable_msat=spendable_msat(before) + 1,
            maximum_fee_percent=maximum_fee_percent,
        )
    await _check_splice(lightning, amount_sat, maximum_fee_percent)
    tell(f"splicing {amount_sat:,} sat into {largest.short_channel_id}")
    await lightning.splice_in(largest.channel_id, amount_sat=amount_sat)
    return await until_spliced(lightning, largest, progress=progress, timeout_seconds=timeout_seconds)


async def _check_splice(lightning: OnChain, amount_sat: int, maximum_percent: int) -> None:
    # lightningd looks at none of this itself: it would spend the last coin, or give up in the middle.
    fee_sat = fee_of(SPLICE_IN_WEIGHT, (await lightning.feerates()).splice)
    needed_sat = amount_sat + fee_sat + EMERGENCY_SAT
    wallet_sat = await lightning.wallet_msat() // 1000
    if wallet_sat < needed_sat:
        raise LightningRefused(
            _CANNOT_AFFORD,
            f"the wallet has {wallet_sat:,} sat, and {needed_sat:,} are needed: {amount_sat:,} for the channel, about "
            f"{fee_sat:,} in fees, and {EMERGENCY_SAT:,} to keep for closing a channel alone; send coins to a new "
            "address of it, or add less",
        )
    if not fee_allowed(fee_sat, amount_sat, maximum_percent):
        raise FeeTooHigh(
            f"adding {amount_sat:,} sat to the channel would cost about {fee_sat:,} sat in fees now, more than the "
            f"{maximum_percent} % of it that you allow; nothing was done. Wait until fees are lower, add more at once, "
            "or raise maximum_opening_percent in client.toml"
        )


async def until_spliced(
    lightning: Channels, before: Channel, *, progress: Tell | None = None, timeout_seconds: float
) -> Channel:
    """The channel once its splice is in force; LightningUnavailable when that takes longer."""
    tell = progress or (lambda _: None)
    tell("waiting for a block: payments pass meanwhile")
    pause = POLL_SECONDS
    with trio.move_on_after(timeout_seconds):
        while True:
            listed = await lightning.channels(before.peer)
            channel = next((one for one in listed if one.channel_id == before.channel_id), None)
            if channel is None or phase(channel.state) is not Phase.OPEN:
                said = "forgotten" if channel is None else channel.state
                raise LightningRefused(_REFUSED, f"the channel was closed while it was changed ({said})")
            if not channel.splicing and channel.funding_txid != before.funding_txid:
                await allow_full_payments(lightning, channel)
                return channel
            await trio.sleep(pause)
            pause = min(pause * 1.5, POLL_CEILING_SECONDS)
    raise LightningUnavailable(
        f"the change of the channel is not in force after {timeout_seconds:.0f} s; it will be when its transaction has "
        "enough blocks. Nothing needs to be done again: look with lnstore channel ls"
    )


async def allow_full_payments(lightning: Channels, channel: Channel) -> None:
    """Lets a payment of all that is spendable pass, where the limit is still that of the channel before a splice."""
    if channel.largest_payment_msat < channel.spendable_msat:
        most = channel.capacity_msat * (100 - RESERVE_PARTS_PER_HUNDRED) // 100
        await lightning.set_largest_payment(channel.channel_id, Msat(most))


async def close_channel(
    lightning: Channels,
    channel: Channel,
    *,
    unilateral_after_seconds: int,
    destination: str | None = None,
) -> Closing:
    """Closes the channel with its peer, or alone when the peer is away for so long.

    ChannelBusy while a splice waits for its block: lightningd v26.06 would close it by a transaction that the splice
    then makes void. LightningRefused when it is closed already, or for an address that is none.
    """
    if channel.splicing:
        raise ChannelBusy(
            "the channel is being changed, and closing it now would end badly; wait until the splice has its block "
            "(lnstore channel ls shows it), then close it"
        )
    if phase(channel.state) in {Phase.CLOSING, Phase.CLOSED}:
        raise LightningRefused(_REFUSED, f"the channel is closed or being closed already ({channel.state})")
    return await lightning.close_channel(
        channel.channel_id,
        # lightningd takes 0 for "never alone".
        unilateral_timeout_seconds=max(unilateral_after_seconds, 1),
        destination=destination,
    )
