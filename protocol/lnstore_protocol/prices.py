"""Which prices hold for which period of an account, and what rent and growth cost across a change (spec 05).

An account's first agreement holds from period 0 on, each later one from the period it names. A node announces a change
a whole period ahead and not before the prices that were agreed are free to change; until the client signs anew, the
periods from the announced one on have no price, and no rent is taken for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from lnstore_protocol.ids import Msat
from lnstore_protocol.terms import (
    GIB,
    MONTH_SECONDS,
    WHOLE_PERMILLE,
    Agreement,
    Terms,
    period_at,
    period_start,
    rent_msat,
)

NOTICE_PERIODS = 2
"""How many periods after the present one a change may begin: a whole one lies between."""


class PriceNotAgreed(ValueError):
    """A period has no price: a change is announced for it that the client has not signed. `period` is the first."""

    def __init__(self, period: int) -> None:
        super().__init__(f"the prices from period {period} on are announced to change and not agreed yet")
        self.period = period


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceStep:
    """The prices that hold from period `from_period` on: msat per GiB, rent per GiB and 30 days."""

    from_period: int
    price_msat_per_gib_month: Msat
    egress_msat_per_gib: Msat
    ingress_msat_per_gib: Msat

    @classmethod
    def of(cls, terms: Terms, from_period: int) -> Self:
        """The prices of these terms."""
        return cls(
            from_period=from_period,
            price_msat_per_gib_month=terms.price_msat_per_gib_month,
            egress_msat_per_gib=terms.egress_msat_per_gib,
            ingress_msat_per_gib=terms.ingress_msat_per_gib,
        )


@dataclass(frozen=True, slots=True)
class PaidFor:
    """What a payment of rent or growth bought: so many bytes for that time, which ends with a period."""

    capacity_bytes: int
    from_at: int
    until_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """An account's prices, period by period.

    `steps` ascend by period; `unsigned_period` is the first one of a change that is announced and not signed, None for
    none. ValueError when no step is given or they do not ascend.
    """

    anchor_at: int
    period_seconds: int
    steps: tuple[PriceStep, ...]
    unsigned_period: int | None = None

    def __post_init__(self) -> None:
        starts = [step.from_period for step in self.steps]
        if not starts or any(later <= earlier for earlier, later in pairwise(starts)):
            raise ValueError("prices are a list of agreements, each from a later period on than the one before it")

    @classmethod
    def of(cls, agreements: Iterable[Agreement], *, unsigned_period: int | None = None) -> Self:
        """The prices of an account's agreements, in any order; ValueError when there is none."""
        ordered = sorted(agreements, key=lambda agreement: agreement.from_period)
        if not ordered:
            raise ValueError("an account without an agreement has no prices")
        if any(one.anchor_at != ordered[0].anchor_at for one in ordered):
            raise ValueError("all agreements of an account have one anchor")
        return cls(
            anchor_at=ordered[0].anchor_at,
            period_seconds=ordered[0].terms.terms.period_seconds,
            steps=tuple(PriceStep.of(one.terms.terms, one.from_period) for one in ordered),
            unsigned_period=unsigned_period,
        )

    def for_period(self, period: int) -> PriceStep:  # R-W26
        """The prices of a period (of period 0 for times before the anchor); PriceNotAgreed when it has none."""
        period = max(period, 0)
        if self.unsigned_period is not None and period >= self.unsigned_period:
            raise PriceNotAgreed(self.unsigned_period)
        held = [step for step in self.steps if step.from_period <= period]
        if not held:
            raise PriceNotAgreed(period)
        return held[-1]

    def for_traffic(self, at: int) -> PriceStep:
        """The prices of traffic at some time: those agreed last, where its period has none."""
        return self.agreed_last(period_at(self.anchor_at, self.period_seconds, at))

    def agreed_last(self, period: int) -> PriceStep:
        """The prices of a period, announced to change or not; the earliest that are known, for one before them."""
        held = [step for step in self.steps if step.from_period <= period]
        return held[-1] if held else self.steps[0]

    def rent_msat(self, capacity_bytes: int, period: int) -> Msat:  # R-W17
        """The rent of a whole period; PriceNotAgreed when it has no price."""
        return rent_msat(capacity_bytes, self.period_seconds, self.for_period(period).price_msat_per_gib_month)

    def owes(self, capacity_bytes: int, period: int) -> bool:
        """Whether a period is to be paid for, or cannot be yet; not when its rent is agreed to be nothing."""
        try:
            return self.rent_msat(capacity_bytes, period) > 0
        except PriceNotAgreed:
            return capacity_bytes > 0

    def first_owed(self, capacity_bytes: int, period: int) -> int | None:
        """The first period from `period` on that is to be paid for (see owes); None when there is none."""
        starts = {period, *(step.from_period for step in self.steps), self.unsigned_period or 0}
        return next((start for start in sorted(starts) if start >= period and self.owes(capacity_bytes, start)), None)

    def owed_at(self, capacity_bytes: int, paid_until_at: int) -> int | None:  # RP-W1
        """When what is paid, and the periods after it that cost nothing, are over; None when that is never."""
        unpaid = period_at(self.anchor_at, self.period_seconds, paid_until_at)
        owed = self.first_owed(capacity_bytes, unpaid)
        if owed is None:
            return None
        return paid_until_at if owed == unpaid else period_start(self.anchor_at, self.period_seconds, owed)

    def growth_msat(self, added_bytes: int, from_at: int, until_at: int) -> Msat:  # R-W2, R-W8
        """Rent for added bytes over times that may lie in several periods, rounded up once.

        PriceNotAgreed when a period among them has no price; ValueError for negative bytes.
        """
        if added_bytes < 0:
            raise ValueError("bytes must not be negative")
        exact, at = 0, from_at
        while at < until_at:
            period = period_at(self.anchor_at, self.period_seconds, at)
            end = min(until_at, period_start(self.anchor_at, self.period_seconds, period + 1))
            exact += added_bytes * (end - at) * self.for_period(period).price_msat_per_gib_month
            at = end
        return Msat(-(-exact // (GIB * MONTH_SECONDS)))

    def refund_msat(  # R-W2, RP-W8
        self, capacity_bytes: int, from_at: int, until_at: int, permille: int, paid: Sequence[PaidFor]
    ) -> Msat:
        """What is given back of rent that was paid for times that may lie in several periods, rounded down once.

        In each period for no more bytes than payments were for. ValueError for negative bytes, or for more than the
        whole.
        """
        if capacity_bytes < 0 or not 0 <= permille <= WHOLE_PERMILLE:
            raise ValueError("bytes must not be negative, nor the permille above 1000")
        exact, at = 0, from_at
        while at < until_at:
            period = period_at(self.anchor_at, self.period_seconds, at)
            end = min(until_at, period_start(self.anchor_at, self.period_seconds, period + 1))
            covered = sum(one.capacity_bytes for one in paid if one.from_at < end <= one.until_at)
            price = self.agreed_last(period).price_msat_per_gib_month
            exact += min(capacity_bytes, covered) * (end - at) * price * permille
            at = end
        return Msat(exact // (GIB * MONTH_SECONDS * WHOLE_PERMILLE))


def earliest_change(agreement: Agreement, announced_at: int) -> int:  # R-W27
    """The first period that other prices than this agreement's may begin with, when they are announced at that time."""
    terms = agreement.terms.terms
    present = max(period_at(agreement.anchor_at, terms.period_seconds, announced_at), 0)
    return max(agreement.from_period + terms.price_periods, present + NOTICE_PERIODS)


def change_fault(agreement: Agreement, terms: Terms, *, from_period: int, announced_at: int) -> str:  # R-R27
    """What is wrong with a change to `terms` from that period on, in a few words; empty when nothing is."""
    present = agreement.terms.terms
    if (terms.period_seconds, terms.grace_seconds) != (present.period_seconds, present.grace_seconds):
        return "it would change the length of the periods or of the grace"
    if (terms.node_id, terms.network) != (present.node_id, present.network):
        return "its terms are another node's"
    earliest = earliest_change(agreement, announced_at)
    if from_period < earliest:
        return f"it would begin with period {from_period}, and may not before period {earliest}"
    return ""
