"""Channels to counterparts: how large, opened once, waited for."""

from __future__ import annotations

from collections.abc import Callable

import trio

from lnstore.ports import Channel, Channels, LightningRefused, LightningUnavailable
from lnstore_protocol.ids import LightningId, Msat

POLL_SECONDS = 0.1
POLL_CEILING_SECONDS = 5.0
"""A fresh channel is looked at this often, ever more rarely up to the ceiling."""

RESERVE_PARTS_PER_HUNDRED = 1
"""What each side of a channel must keep, in per cent of it."""
COMMITMENT_SAT = 16_000
"""What the side that opens a channel must keep for the fee of its commitment transaction: room for two more
payments at twice 20 sat/vB, and two anchors. At today's rates it is some 4,300."""

NORMAL = "CHANNELD_NORMAL"
OPENING = frozenset(
    {
        "OPENINGD",
        "CHANNELD_AWAITING_LOCKIN",
        "DUALOPEND_OPEN_INIT",
        "DUALOPEND_OPEN_COMMIT_READY",
        "DUALOPEND_OPEN_COMMITTED",
        "DUALOPEND_AWAITING_LOCKIN",
    }
)
_NO_ADDRESS, _UNREACHABLE, _TOO_SMALL = 400, 401, -1


def channel_size_sat(rent_msat_per_period: int, periods: int, minimum_sat: int) -> int:
    """The capacity, in sat, that lasts for `periods` payments of `rent_msat_per_period`; at least `minimum_sat`.

    On top of the rent it has what cannot be spent: the reserve and the fee of the commitment transaction.
    ValueError for negative arguments.
    """
    if min(rent_msat_per_period, periods, minimum_sat) < 0:
        raise ValueError("rent, periods and minimum cannot be negative")
    rent_sat = -(-rent_msat_per_period * periods // 1000)
    spendable_parts = 100 - RESERVE_PARTS_PER_HUNDRED
    return max(minimum_sat, -(-(rent_sat + COMMITMENT_SAT) * 100 // spendable_parts))


async def ensure_channel(
    lightning: Channels,
    peer: LightningId,
    host: str,
    port: int,
    *,
    amount_sat: int,
    progress: Callable[[str], None] | None = None,
    timeout_seconds: float,
    least_spendable_msat: int = 0,
    announce: bool = True,
) -> Channel:
    """A usable channel to `peer` in which we hold money: an existing one, one that is opening, or a new one.

    A channel counts as ours to use when we hold something in it and at least `least_spendable_msat` can be spent;
    while it is opening, its balance decides. `progress` is told in a few words what is waited for. Called again after
    a crash it finds the channel that was being opened; two calls for the same peer must not run at the same time.

    LightningRefused with Core Lightning's code and what to do next: 301 (cannot afford), -1 (too small),
    400 and 401 (peer not reachable). LightningUnavailable when it is not usable after `timeout_seconds`; calling
    again resumes the wait.
    """
    tell = progress or (lambda _: None)
    state = "no channel yet"
    with trio.move_on_after(timeout_seconds):
        found = await _existing(lightning, peer, least_spendable_msat)
        if found is None or not found.connected:
            tell(f"connecting to {host}:{port}")
            await _connect(lightning, peer, host, port)
        if found is None:
            tell(f"opening a channel of {amount_sat:,} sat")
            channel_id = await _open(lightning, peer, amount_sat, announce=announce)
        else:
            channel_id = found.channel_id
        pause = POLL_SECONDS
        while True:
            channel = next((one for one in await lightning.channels(peer) if one.channel_id == channel_id), None)
            if channel is not None and channel.usable:
                return channel
            if channel is not None and channel.state not in OPENING | {NORMAL}:
                raise LightningRefused(
                    _TOO_SMALL, f"the channel was closed while it was waited for ({channel.state}); open another one"
                )
            seen = "not listed yet" if channel is None else channel.state if channel.connected else "peer not connected"
            if seen != state:
                state = seen
                tell(f"waiting for the channel: {state}")
            await trio.sleep(pause)
            pause = min(pause * 1.5, POLL_CEILING_SECONDS)
    raise LightningUnavailable(
        f"the channel to {peer.hex()} is not usable after {timeout_seconds:.0f} s ({state}); it becomes usable when "
        "its funding transaction has enough blocks and the peer is connected. Try again: the same channel is waited for"
    )


async def _existing(lightning: Channels, peer: LightningId, least_spendable_msat: int) -> Channel | None:
    """The best channel we may use or wait for: usable first, then normal, then opening; the fullest of each."""
    ours = [
        channel
        for channel in await lightning.channels(peer)
        if channel.to_us_msat > 0
        and (
            (channel.state == NORMAL and channel.spendable_msat >= least_spendable_msat)
            or (channel.state in OPENING and channel.to_us_msat >= least_spendable_msat)
        )
    ]
    return max(
        ours, key=lambda channel: (channel.usable, channel.state == NORMAL, channel.spendable_msat), default=None
    )


async def _connect(lightning: Channels, peer: LightningId, host: str, port: int) -> None:
    try:
        await lightning.connect(peer, host, port)
    except LightningRefused as refused:
        if refused.code not in {_NO_ADDRESS, _UNREACHABLE}:
            raise
        raise LightningRefused(
            refused.code,
            f"the Lightning node {peer.hex()} does not answer at {host}:{port}; check that address and key are "
            f"right and that it is up, then try again. It was said: {refused.message}",
        ) from None


async def _open(lightning: Channels, peer: LightningId, amount_sat: int, *, announce: bool) -> str:
    try:
        return await lightning.open_channel(peer, amount_sat=amount_sat, push_msat=Msat(0), announce=announce)
    except LightningRefused as refused:
        match refused.code:
            case 301:
                advice = (
                    f"the wallet cannot afford a channel of {amount_sat:,} sat; send coins to a new address of it, "
                    "or open a smaller channel"
                )
            case -1:
                advice = f"the peer, or our own daemon, refuses a channel of {amount_sat:,} sat; try another size"
            case 400 | 401:
                advice = f"the Lightning node {peer.hex()} went away; try again when it is up"
            case _:
                raise
        raise LightningRefused(refused.code, f"{advice}. It was said: {refused.message}") from None
