"""What channels are for: how large one must be, whether it is worth its fee, how long it lasts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

from lnstore.ports import OPERATING, Channel
from lnstore_protocol.ids import Msat
from lnstore_protocol.terms import ChannelPolicy

PERIODS_WATCHED = 3
"""What can be spent is held against the rent of so many periods to come."""

RESERVE_PARTS_PER_HUNDRED = 1
"""What each side of a channel must keep, in per cent of it."""
COMMITMENT_SAT = 16_000
"""What the side that opens a channel must keep for the fee of its commitment transaction: room for two more
payments at twice 20 sat/vB, and two anchors. At today's rates it is some 4,300."""

EMERGENCY_SAT = 25_000
"""What lightningd keeps in a wallet with channels, to pay for closing one alone (its default min-emergency-msat).

fundchannel and withdraw refuse to go below it (error 313); splicein does not, so that we do it here.
"""

SPLICE_IN_WEIGHT, SPLICE_OUT_WEIGHT, WITHDRAWAL_WEIGHT = 1_250, 780, 680
"""Of transactions with one coin of the wallet (two for a splice in), measured with v26.06 and rounded up."""


class Phase(Enum):
    """Where a channel is in its life."""

    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


_OPENING = frozenset(
    {
        "OPENINGD",
        "CHANNELD_AWAITING_LOCKIN",
        "DUALOPEND_OPEN_INIT",
        "DUALOPEND_OPEN_COMMIT_READY",
        "DUALOPEND_OPEN_COMMITTED",
        "DUALOPEND_AWAITING_LOCKIN",
    }
)
_CLOSED = frozenset({"CLOSED", "ONCHAIN", "FUNDING_SPEND_SEEN"})


def phase(state: str) -> Phase:
    """The phase that one of lightningd's states belongs to; what is in none of the others is being closed."""
    if state in OPERATING:
        return Phase.OPEN
    if state in _OPENING:
        return Phase.OPENING
    return Phase.CLOSED if state in _CLOSED else Phase.CLOSING


class Supply(Enum):
    """How what can be spent (or received) compares with the rent to come."""

    FINE = "fine"
    WARN = "warn"
    TOP_UP = "top up"


def supply(spendable_msat: int, rents_msat: Sequence[int]) -> Supply:
    """FINE when `spendable_msat` covers all the rents to come, the next one first; TOP_UP when not even that one.

    Where nothing is due everything is FINE.
    """
    if spendable_msat >= sum(rents_msat):
        return Supply.FINE
    return Supply.WARN if spendable_msat >= rents_msat[0] else Supply.TOP_UP


def spendable_msat(channels: Iterable[Channel]) -> Msat:
    """What all open channels together can pay, whether or not their peers are connected just now."""
    return Msat(sum(channel.spendable_msat for channel in channels if phase(channel.state) is Phase.OPEN))


def receivable_msat(channels: Iterable[Channel]) -> Msat:
    """What all open channels together can receive."""
    return Msat(sum(channel.receivable_msat for channel in channels if phase(channel.state) is Phase.OPEN))


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


def channel_wanted(policy: ChannelPolicy, *, rent_msat_per_period: int, periods: int, minimum_sat: int) -> bool:
    """Whether a client that rents under this policy opens a channel of its own accord.

    REQUIRED: always. PREFERRED: when the rent of `periods` periods alone would fill a channel of the node's minimum,
    so that the channel is as large as the rent asks for, and no larger. ANY: never.
    """
    match policy:
        case ChannelPolicy.REQUIRED:
            return True
        case ChannelPolicy.PREFERRED:
            return rent_msat_per_period > 0 and rent_msat_per_period * periods >= minimum_sat * 1000
        case ChannelPolicy.ANY:
            return False


def fee_allowed(fee_sat: int, amount_sat: int, maximum_percent: int) -> bool:
    """Whether an on-chain fee is at most so many per cent of what it moves."""
    return fee_sat * 100 <= amount_sat * maximum_percent


def fee_of(weight: int, feerate_per_kw: int) -> int:
    """The fee, in sat, of a transaction of this weight."""
    return -(-weight * feerate_per_kw // 1000)
