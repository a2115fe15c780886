"""Moving what a node earned out of its channels, to an address of its operator.

Where both daemons can splice, the money leaves the channel and the channel stays: lightningd v26.06 splices out only
into its own wallet, so that a second transaction then sends it on. Elsewhere the channel is closed to the address. What
was spliced out is noted in `sweep.json` until it is sent on, so that an interrupted sweep is finished by the next one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import trio

from lnstore.lightning.channel_changes import close_channel, until_spliced
from lnstore.lightning.supply import (
    EMERGENCY_SAT,
    SPLICE_OUT_WEIGHT,
    WITHDRAWAL_WEIGHT,
    Phase,
    fee_of,
    phase,
)
from lnstore.node.directory import replace
from lnstore.ports import Channel, Coin, Lightning, LightningError, LightningUnavailable

SWEEP_FILE = "sweep.json"
SWEEP_SECONDS = 600.0
"""How long a sweep waits for a block before it leaves the rest to the next one."""
POLL_SECONDS = 0.5
CLOSE_SECONDS = 60
"""How long a connected peer may take to agree on closing before the channel is closed alone."""

SMALLEST_SAT = 1_000
WORTH_FEES = 10
"""Less than this, or than so many times its fees, is not taken out of a channel: the rest waits for more."""
MUTUAL_CLOSE_WEIGHT, INPUT_WEIGHT = 700, 272

Tell = Callable[[str], None]


class NothingToSweep(LightningError):
    """There is nothing to move, or its fees would eat it; nothing was done."""


class Way(Enum):
    """How a channel's balance is moved."""

    SPLICE = "splice out"
    CLOSE = "close"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Step:
    """What is done with one channel: `amount_sat` leave it, `fee_sat` are paid for that. `reason` is why it is left."""

    channel: Channel
    way: Way
    amount_sat: int
    fee_sat: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A sweep to be. `coins` are those of the wallet that are sent along, `kept_sat` what the wallet has to keep."""

    steps: tuple[Step, ...]
    coins: tuple[Coin, ...]
    withdrawal_fee_sat: int
    kept_sat: int

    @property
    def arriving_sat(self) -> int:
        """About what arrives at the address in the end."""
        closed = sum(step.amount_sat for step in self.steps if step.way is Way.CLOSE)
        sent = sum(step.amount_sat for step in self.steps if step.way is Way.SPLICE)
        sent += sum(coin.amount_sat for coin in self.coins)
        return closed + (max(sent - self.withdrawal_fee_sat - self.kept_sat, 0) if sent else 0)

    @property
    def fees_sat(self) -> int:
        """About what all transactions cost."""
        sends = any(step.way is Way.SPLICE for step in self.steps) or bool(self.coins)
        return sum(step.fee_sat for step in self.steps) + self.withdrawal_fee_sat * sends


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did: a transaction id for each channel, and that of the withdrawal, if there was one."""

    plan: Plan
    channels: tuple[tuple[Step, str], ...]
    withdrawal_txid: str


async def plan_sweep(lightning: Lightning, directory: Path, *, everything: bool) -> Plan:
    """What `sweep` would do now; with `everything` the wallet's other coins are sent along. Changes nothing."""
    rates = await lightning.feerates()
    withdrawal_fee = fee_of(WITHDRAWAL_WEIGHT, rates.opening)
    fees = _Fees(
        splice_sat=fee_of(SPLICE_OUT_WEIGHT, rates.splice),
        close_sat=fee_of(MUTUAL_CLOSE_WEIGHT, rates.mutual_close),
        withdrawal_sat=withdrawal_fee,
    )
    steps = []
    for channel in await lightning.channels():
        if phase(channel.state) is Phase.OPEN and channel.to_us_msat:
            splices = await lightning.can_splice(channel.peer)
            steps.append(_step(channel, fees, splices=splices))
    coins = await lightning.coins()
    noted = _noted(directory)
    sent = [coin for coin in coins if _txid(coin) in noted or (everything and coin.spendable)]
    stays = any(step.way is not Way.CLOSE for step in steps)
    elsewhere = sum(coin.amount_sat for coin in coins if coin.spendable and coin not in sent)
    # Each further coin is another input.
    inputs = len(sent) + sum(step.way is Way.SPLICE for step in steps)
    return Plan(
        steps=tuple(steps),
        coins=tuple(sent),
        withdrawal_fee_sat=withdrawal_fee + fee_of(INPUT_WEIGHT * max(inputs - 1, 0), rates.opening),
        kept_sat=max(EMERGENCY_SAT - elsewhere, 0) if stays else 0,
    )


@dataclass(frozen=True, slots=True)
class _Fees:
    """What each kind of transaction costs now."""

    splice_sat: int
    close_sat: int
    withdrawal_sat: int


def _step(channel: Channel, fees: _Fees, *, splices: bool) -> Step:
    if not channel.usable:
        return Step(channel, Way.LEAVE, 0, 0, "its peer is not connected")
    if channel.splicing:
        return Step(channel, Way.LEAVE, 0, 0, "it is being changed; sweep again once that has a block")
    if splices:
        way, fee, costs = Way.SPLICE, fees.splice_sat, fees.splice_sat + fees.withdrawal_sat
        amount = channel.spendable_msat // 1000 - fee
    else:
        way, fee = Way.CLOSE, fees.close_sat if channel.opened_by_us else 0
        costs = fee
        amount = channel.to_us_msat // 1000 - fee
    if amount < max(SMALLEST_SAT, WORTH_FEES * costs):
        return Step(channel, Way.LEAVE, 0, 0, "there is too little in it for the fees")
    return Step(channel, way, amount, fee)


async def sweep(
    lightning: Lightning,
    directory: Path,
    address: str,
    *,
    everything: bool,
    progress: Tell | None = None,
    timeout_seconds: float = SWEEP_SECONDS,
) -> Swept:
    """Move what can be moved to `address`.

    NothingToSweep when nothing would arrive. LightningRefused (-1) for an address that is none. LightningUnavailable
    when a block does not come in time: the next sweep goes on from there, to whatever address it is given.
    """
    tell = progress or (lambda _: None)
    await lightning.check_address(address)
    plan = await plan_sweep(lightning, directory, everything=everything)
    check(plan)
    noted, done = set(_noted(directory)), []
    waiting: list[Channel] = []
    for step in sorted(plan.steps, key=lambda step: step.way is Way.SPLICE):
        match step.way:
            case Way.LEAVE:
                continue
            case Way.CLOSE:
                tell(f"closing {_name(step.channel)} to {address}")
                closing = await close_channel(
                    lightning, step.channel, unilateral_after_seconds=CLOSE_SECONDS, destination=address
                )
                done.append((step, closing.txid))
            case Way.SPLICE:
                tell(f"splicing {step.amount_sat:,} sat out of {_name(step.channel)}")
                txid = await lightning.splice_out(step.channel.channel_id, amount_sat=step.amount_sat)
                noted.add(txid)
                _note(directory, noted)
                done.append((step, txid))
                waiting.append(step.channel)
    for channel in waiting:
        await until_spliced(lightning, channel, progress=tell, timeout_seconds=timeout_seconds)
    coins = {coin.outpoint for coin in plan.coins if coin.spendable}
    # Those of an interrupted sweep are waited for like our own.
    awaited = {txid for step, txid in done if step.way is Way.SPLICE}
    awaited |= {_txid(coin) for coin in plan.coins if not coin.spendable}
    with trio.move_on_after(timeout_seconds) as patience:
        coins |= await _outputs_of(lightning, awaited)
    if patience.cancelled_caught:
        raise LightningUnavailable(
            f"what was spliced out is not in the wallet after {timeout_seconds:.0f} s; sweep again to send it on"
        )
    withdrawal = ""
    if coins:
        tell(f"sending it on to {address}")
        withdrawal = await lightning.withdraw(address, coins=sorted(coins))
    (directory / SWEEP_FILE).unlink(missing_ok=True)
    return Swept(plan, tuple(done), withdrawal)


def check(plan: Plan) -> None:
    """NothingToSweep, with why, when the plan would bring nothing to the address."""
    if plan.arriving_sat > 0:
        return
    moved = sum(step.amount_sat for step in plan.steps) + sum(coin.amount_sat for coin in plan.coins)
    if not moved:
        left = {step.reason for step in plan.steps if step.reason}
        raise NothingToSweep(f"there is nothing to sweep{': ' + '; '.join(sorted(left)) if left else ''}")
    raise NothingToSweep(
        f"{moved:,} sat could be moved, and nothing of it would arrive: the transactions cost about "
        f"{plan.fees_sat:,} sat, and lightningd keeps {plan.kept_sat:,} sat in the wallet for closing a channel alone; "
        "sweep when more has been earned"
    )


async def _outputs_of(lightning: Lightning, txids: set[str]) -> set[str]:
    """The outpoints that these transactions made in our wallet, once all are confirmed."""
    while True:
        found = [coin for coin in await lightning.coins() if _txid(coin) in txids]
        if {_txid(coin) for coin in found if coin.spendable} == txids:
            return {coin.outpoint for coin in found if coin.spendable}
        await trio.sleep(POLL_SECONDS)


def _txid(coin: Coin) -> str:
    return coin.outpoint.partition(":")[0]


def _name(channel: Channel) -> str:
    return channel.short_channel_id or channel.channel_id


def _noted(directory: Path) -> Sequence[str]:
    try:
        noted = json.loads((directory / SWEEP_FILE).read_text())
    except (FileNotFoundError, ValueError):
        return []
    return [text for text in noted if isinstance(text, str)] if isinstance(noted, list) else []


def _note(directory: Path, txids: set[str]) -> None:
    replace(directory / SWEEP_FILE, json.dumps(sorted(txids)) + "\n")
