"""Which price holds for which period, what is due across a change, and when a change may begin."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_strategies import CLIENT_KEY, NODE_KEY, example_terms

from lnstore_protocol.ids import Msat
from lnstore_protocol.prices import PriceNotAgreed, Prices, PriceStep, change_fault, earliest_change
from lnstore_protocol.terms import Agreement, period_start, rent_msat

ANCHOR = 1_800_000_123
PERIOD = 2_592_000
GIB = 1 << 30


def agreed(from_period: int, *, price: int = 2000, anchor_at: int = ANCHOR, price_periods: int = 12) -> Agreement:
    """An agreement from that period on."""
    sheet = example_terms(price_msat_per_gib_month=Msat(price), price_periods=price_periods).sign(NODE_KEY)
    return Agreement.propose(sheet, CLIENT_KEY, anchor_at, from_period=from_period).countersign(NODE_KEY)


def steps(*pairs: tuple[int, int], unsigned: int | None = None, period_seconds: int = PERIOD) -> Prices:
    """Rent prices from periods on."""
    return Prices(
        anchor_at=ANCHOR,
        period_seconds=period_seconds,
        steps=tuple(
            PriceStep(
                from_period=period,
                price_msat_per_gib_month=Msat(price),
                egress_msat_per_gib=Msat(price + 1),
                ingress_msat_per_gib=Msat(price + 2),
            )
            for period, price in pairs
        ),
        unsigned_period=unsigned,
    )


def test_each_agreement_holds_until_the_next() -> None:  # R-W26
    """From its own first period on, in whatever order they are told."""
    prices = Prices.of([agreed(12, price=3000), agreed(0), agreed(30, price=1000)])
    found = {period: prices.for_period(period).price_msat_per_gib_month for period in (-1, 0, 11, 12, 29, 30, 10**9)}
    assert found == {-1: 2000, 0: 2000, 11: 2000, 12: 3000, 29: 3000, 30: 1000, 10**9: 1000}
    assert prices.rent_msat(GIB, 12) == 3000


def test_an_announced_period_has_no_price() -> None:
    """Nor has any after it; traffic goes on at the price agreed last."""
    prices = steps((0, 2000), (5, 3000), unsigned=7)
    assert prices.rent_msat(GIB, 6) == 3000
    for period in (7, 8, 100):
        with pytest.raises(PriceNotAgreed) as info:
            prices.rent_msat(GIB, period)
        assert info.value.period == 7
    at = period_start(ANCHOR, PERIOD, 9)
    assert prices.for_traffic(at).egress_msat_per_gib == 3001
    assert prices.for_traffic(ANCHOR - 600).egress_msat_per_gib == 2001


def test_a_part_of_the_agreements_tells_nothing_of_the_time_before() -> None:
    """A client that lost its first agreement does not take a later one's price for it."""
    prices = Prices.of([agreed(12, price=3000)])
    with pytest.raises(PriceNotAgreed):
        prices.rent_msat(GIB, 11)
    assert prices.rent_msat(GIB, 12) == 3000
    assert prices.for_traffic(ANCHOR).egress_msat_per_gib == 1000


def test_agreements_of_two_anchors_or_of_one_period_are_no_prices() -> None:
    """Nor is nothing."""
    for several in ([], [agreed(0), agreed(0, price=1)], [agreed(0), agreed(12, anchor_at=ANCHOR + 1)]):
        with pytest.raises(ValueError, match="agreement"):
            Prices.of(several)
    with pytest.raises(ValueError, match="negative"):
        steps((0, 1)).growth_msat(-1, ANCHOR, ANCHOR + 1)


def test_what_is_free_or_empty_owes_nothing_and_what_has_no_price_is_owed() -> None:
    """So that nobody stays for nothing by not signing, and who rents nothing stays."""
    prices = steps((0, 0), (5, 2000), unsigned=9)
    assert [prices.owes(GIB, period) for period in (0, 4, 5, 8, 9, 20)] == [False, False, True, True, True, True]
    assert not any(prices.owes(0, period) for period in (0, 5, 9, 20))
    assert [prices.first_owed(GIB, period) for period in (0, 4, 5, 7, 12)] == [5, 5, 5, 7, 12]
    assert prices.first_owed(0, 0) is None
    assert steps((0, 2000), (5, 0)).first_owed(GIB, 6) is None


_STEPS = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 5000)), max_size=4, unique_by=lambda step: step[0]).map(
    lambda later: [(0, 2000), *sorted(later)]
)


@given(_STEPS, st.integers(0, 1 << 45), st.integers(-50, 1300), st.integers(0, 600), st.integers(1, 200))
def test_growth_is_the_sum_of_its_parts_rounded_once(
    pairs: list[tuple[int, int]], added: int, offset: int, seconds: int, period_seconds: int
) -> None:  # R-W2
    """Second by second at the price of its period; without a change it is plain rent."""
    prices = steps(*pairs, period_seconds=period_seconds)
    from_at = ANCHOR + offset
    exact = Fraction(0)
    for at in range(from_at, from_at + seconds):
        price = prices.for_period((at - ANCHOR) // period_seconds).price_msat_per_gib_month
        exact += Fraction(added * price, GIB * 2_592_000)
    assert 0 <= prices.growth_msat(added, from_at, from_at + seconds) - exact < 1
    assert steps((0, 2000)).growth_msat(added, from_at, from_at + seconds) == rent_msat(added, seconds, 2000)


@given(st.integers(0, 30), st.integers(1, 24), st.integers(-600, 40 * PERIOD))
def test_a_change_is_a_whole_period_ahead_and_after_what_is_fixed(
    from_period: int, price_periods: int, offset: int
) -> None:  # R-W27
    """Both hold whenever it is announced, and one of them just so."""
    agreement = agreed(from_period, price_periods=price_periods)
    announced_at = ANCHOR + offset
    first = earliest_change(agreement, announced_at)
    assert first >= from_period + price_periods
    begins = period_start(ANCHOR, PERIOD, first)
    assert begins - announced_at > PERIOD
    assert first == from_period + price_periods or begins - announced_at <= 2 * PERIOD + 600


def test_what_a_change_must_not_be() -> None:  # R-R27
    """Too early, of other periods or grace, another node's; prices, limits and the Lightning key may change."""
    agreement, now = agreed(0), ANCHOR + 20 * PERIOD
    fine = example_terms(price_msat_per_gib_month=Msat(9), maximum_capacity_bytes=1 << 50)
    assert change_fault(agreement, fine, from_period=22, announced_at=now) == ""
    assert "before period 22" in change_fault(agreement, fine, from_period=21, announced_at=now)
    assert "before period 12" in change_fault(agreement, fine, from_period=11, announced_at=ANCHOR)
    for change in ({"period_seconds": 1}, {"grace_seconds": 1}):
        assert "length" in change_fault(agreement, example_terms(**change), from_period=22, announced_at=now)
    other = example_terms(network="bitcoin")
    assert "another" in change_fault(agreement, other, from_period=22, announced_at=now)


def test_steps_ascend() -> None:
    """However many there are."""
    for pairs in ([(0, 1), (0, 2)], [(3, 1), (1, 2)], []):
        with pytest.raises(ValueError, match="later period"):
            steps(*pairs)
    assert all(earlier.from_period < later.from_period for earlier, later in pairwise(steps((0, 1), (2, 2)).steps))
