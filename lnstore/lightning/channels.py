"""Channels to counterparts: how much opening one may cost, opened once, waited for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from lnstore.lightning.reconnecting import NO_ADDRESS, UNREACHABLE, Calls, Place, Tell
from lnstore.lightning.supply import EMERGENCY_SAT, Phase, fee_allowed, phase
from lnstore.ports import (
    Channel,
    Channels,
    LightningError,
    LightningRefused,
    LightningUnavailable,
    OnChain,
)
from lnstore_protocol.ids import LightningId, Msat

POLL_SECONDS = 0.1
POLL_CEILING_SECONDS = 5.0
"""A fresh channel is looked at this often, ever more rarely up to the ceiling."""

_REFUSED = -1
_UNDER_WAY = "Already funding channel"
"""What lightningd v26.06 says while an earlier fundchannel to that peer goes on, perhaps for a caller since dead."""
_INTERRUPTED = re.compile(r"subdaemon \w+ died|disconnect|reconnect", re.IGNORECASE)
"""What it says when the connection to the peer was lost or made anew before anything was funded."""
INTERRUPTIONS = 5
"""So often an interrupted opening is begun again."""
INTERRUPTION_SECONDS = 1.0


class Daemon(Channels, OnChain, Protocol):
    """What opening and topping up take."""


class FeeTooHigh(LightningError):
    """An on-chain fee is a larger share of what it moves than is allowed; nothing was done."""


async def ensure_channel(
    lightning: Daemon,
    peer: LightningId,
    host: str,
    port: int,
    *,
    amount_sat: int,
    push_msat: int = 0,
    progress: Tell | None = None,
    timeout_seconds: float,
    least_spendable_msat: int = 0,
    maximum_fee_percent: int | None = None,
    announce: bool = True,
    zero_conf: bool = False,
) -> Channel:
    """A usable channel to `peer` in which we hold money: an existing one, one that is opening, or a new one.

    Existing channels are used when we hold something in them and together they can spend `least_spendable_msat`; while
    one is opening, its balance decides. `progress` is told in a few words what is waited for. Called again after
    a crash it finds the channel that was being opened; two calls for the same peer must not run at the same time.

    FeeTooHigh when funding a new channel would cost more than `maximum_fee_percent` of it. LightningRefused with Core
    Lightning's code and what to do next: 301 and 313 (cannot afford), -1 (too small), 400 and 401 (peer not reachable).
    LightningUnavailable when it is not usable after `timeout_seconds`; calling again resumes the wait.
    """
    tell = progress or (lambda _: None)
    state = "no channel yet"
    with trio.move_on_after(timeout_seconds):
        before = await lightning.channels(peer)
        found = _existing(before, least_spendable_msat)
        if found is None or not found.connected:
            tell(f"connecting to {host}:{port}")
            await _connect(lightning, peer, host, port)
        if found is None:
            if maximum_fee_percent is not None:
                await _check_fee(lightning, amount_sat, maximum_fee_percent)
            tell(f"opening a channel of {amount_sat:,} sat")
            order = _Order(peer, (host, port), amount_sat, Msat(push_msat), announce, zero_conf)
            channel_id = await _open(lightning, order, least_spendable_msat, tell)
        else:
            # One that an earlier call is still funding is listed without an id.
            channel_id = found.channel_id or None
        known = {one.channel_id for one in before if phase(one.state) is not Phase.OPENING} - {channel_id}
        pause = POLL_SECONDS
        calls = Calls(lightning, peer, (host, port))
        while True:
            listed = [one for one in await lightning.channels(peer) if one.channel_id not in known]
            channel = next((one for one in listed if channel_id in {one.channel_id, None} and one.to_us_msat), None)
            if channel is not None and channel.usable:
                return channel
            if channel is not None and phase(channel.state) in {Phase.CLOSING, Phase.CLOSED}:
                raise LightningRefused(
                    _REFUSED, f"the channel was closed while it was waited for ({channel.state}); open another one"
                )
            seen = "not listed yet" if channel is None else _waits_for(channel)
            if seen != state:
                state = seen
                tell(f"waiting for the channel: {state}")
            if channel is not None and not channel.connected:
                await calls.call_when_due()
            await trio.sleep(pause)
            pause = min(pause * 1.5, POLL_CEILING_SECONDS)
    raise LightningUnavailable(
        f"the channel to {peer.hex()} is not usable after {timeout_seconds:.0f} s ({state}); it becomes usable when "
        "its funding transaction has enough blocks and the peer is connected. Try again: the same channel is waited for"
    )


def _waits_for(channel: Channel) -> str:
    said = f" ({channel.status})" if channel.status else ""
    return f"{channel.state}{said}" if channel.connected else f"{channel.state}, peer not connected"


def _existing(channels: Sequence[Channel], least_spendable_msat: int) -> Channel | None:
    """The best channel we may use or wait for: usable first, then open, then opening; the fullest of each."""
    ours = [channel for channel in channels if channel.to_us_msat > 0]
    opened = [channel for channel in ours if phase(channel.state) is Phase.OPEN]
    if sum(channel.spendable_msat for channel in opened) < least_spendable_msat:
        opened = []
    opening = [
        channel
        for channel in ours
        if phase(channel.state) is Phase.OPENING and channel.to_us_msat >= least_spendable_msat
    ]
    return max(
        opened + opening,
        key=lambda channel: (channel.usable, phase(channel.state) is Phase.OPEN, channel.spendable_msat),
        default=None,
    )


async def _connect(lightning: Channels, peer: LightningId, host: str, port: int) -> None:
    try:
        await lightning.connect(peer, host, port)
    except LightningRefused as refused:
        if refused.code not in {NO_ADDRESS, UNREACHABLE}:
            raise
        raise LightningRefused(
            refused.code,
            f"the Lightning node {peer.hex()} does not answer at {host}:{port}; check that address and key are "
            f"right and that it is up, then try again. It was said: {refused.message}",
        ) from None


async def _check_fee(lightning: OnChain, amount_sat: int, maximum_percent: int) -> None:
    try:
        fee_sat = await lightning.opening_fee_sat(amount_sat)
    except LightningRefused as refused:
        raise _advised(refused, amount_sat) from None
    if not fee_allowed(fee_sat, amount_sat, maximum_percent):
        raise FeeTooHigh(
            f"opening a channel of {amount_sat:,} sat would cost {fee_sat:,} sat in fees now, more than the "
            f"{maximum_percent} % of it that you allow; nothing was done. Wait until fees are lower, open a larger "
            "channel, raise maximum_opening_percent in client.toml, or pay over a channel that you have already, if "
            "the node's terms allow that"
        )


@dataclass(frozen=True, slots=True)
class _Order:
    """A channel to be opened."""

    peer: LightningId
    place: Place
    amount_sat: int
    push_msat: Msat
    announce: bool
    zero_conf: bool


async def _open(lightning: Channels, order: _Order, least_spendable_msat: int, tell: Tell) -> str | None:
    """The new channel's id; None when a channel to this peer is being funded already."""
    for _ in range(INTERRUPTIONS):
        try:
            return await _fund(lightning, order)
        except LightningRefused as refused:
            if refused.code == _REFUSED and _UNDER_WAY in refused.message:
                return None
            if refused.code != _REFUSED or not _INTERRUPTED.search(refused.message):
                raise _advised(refused, order.amount_sat, order.peer) from None
        tell("the connection was lost before anything was funded; beginning again")
        await trio.sleep(INTERRUPTION_SECONDS)
        await _connect(lightning, order.peer, *order.place)
        found = _existing(await lightning.channels(order.peer), least_spendable_msat)
        if found is not None:
            return found.channel_id or None
    raise LightningUnavailable(
        f"the connection to {order.peer.hex()} was lost {INTERRUPTIONS} times before a channel was funded; try again "
        "later: what was opened after all is found then"
    )


async def _fund(lightning: Channels, order: _Order) -> str:
    return await lightning.open_channel(
        order.peer,
        amount_sat=order.amount_sat,
        push_msat=order.push_msat,
        announce=order.announce,
        zero_conf=order.zero_conf,
    )


def _advised(refused: LightningRefused, amount_sat: int, peer: LightningId | None = None) -> LightningRefused:
    """The refusal with what to do about it."""
    match refused.code:
        case 301:
            advice = (
                f"the wallet cannot afford a channel of {amount_sat:,} sat; send coins to a new address of it, "
                "or open a smaller channel"
            )
        case 313:
            advice = (
                f"after a channel of {amount_sat:,} sat the wallet would not have left what lightningd keeps to pay "
                f"for closing a channel alone ({EMERGENCY_SAT:,} sat, unless you set min-emergency-msat); open a "
                "channel smaller by that much, or send more coins to a new address of the wallet"
            )
        case -1:
            advice = f"the peer, or our own daemon, refuses a channel of {amount_sat:,} sat; try another size"
        case 400 | 401 if peer is not None:
            advice = f"the Lightning node {peer.hex()} went away; try again when it is up"
        case _:
            return refused
    return LightningRefused(refused.code, f"{advice}. It was said: {refused.message}")
