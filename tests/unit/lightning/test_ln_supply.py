"""When a channel is large enough, worth opening, worth its fee, and when to say something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnstore.lightning.supply import Phase, Supply, channel_wanted, fee_allowed, fee_of, phase, supply
from lnstore_protocol.terms import ChannelPolicy

AMOUNTS = st.integers(0, 10**15)


@pytest.mark.parametrize(
    ("spendable_msat", "verdict"),
    [(600, Supply.FINE), (300, Supply.FINE), (299, Supply.WARN), (100, Supply.WARN), (99, Supply.TOP_UP)],
)
def test_three_periods_are_watched(spendable_msat: int, verdict: Supply) -> None:
    """All three covered is fine, the next one covered a warning, not even that one: top up."""
    assert supply(spendable_msat, [100, 100, 100]) is verdict


@given(AMOUNTS, st.lists(AMOUNTS, min_size=1, max_size=5))
def test_supply_only_gets_better_with_more(spendable_msat: int, rents: list[int]) -> None:
    """What covers everything is FINE, what does not cover the next rent is TOP_UP, and nothing due is FINE."""
    verdict = supply(spendable_msat, rents)
    assert (verdict is Supply.FINE) == (spendable_msat >= sum(rents))
    assert (verdict is Supply.TOP_UP) == (spendable_msat < rents[0])
    assert supply(0, [0] * len(rents)) is Supply.FINE


@pytest.mark.parametrize(
    ("policy", "rent_msat", "wanted"),
    [
        (ChannelPolicy.REQUIRED, 0, True),
        (ChannelPolicy.REQUIRED, 40_000, True),
        (ChannelPolicy.PREFERRED, 0, False),
        (ChannelPolicy.PREFERRED, 16_666_000, False),
        (ChannelPolicy.PREFERRED, 16_667_000, True),
        (ChannelPolicy.ANY, 10**12, False),
    ],
)
def test_what_each_policy_asks_for(policy: ChannelPolicy, rent_msat: int, wanted: bool) -> None:
    """Required: always. Preferred: when six periods of rent fill the node's smallest channel. Any: never."""
    assert channel_wanted(policy, rent_msat_per_period=rent_msat, periods=6, minimum_sat=100_000) is wanted


@pytest.mark.parametrize(("fee_sat", "allowed"), [(0, True), (5000, True), (5001, False)])
def test_a_fee_is_a_share_of_what_it_moves(fee_sat: int, allowed: bool) -> None:
    """Five per cent of 100,000 sat, and not a sat more."""
    assert fee_allowed(fee_sat, 100_000, 5) is allowed


def test_fees_are_rounded_up() -> None:
    """A transaction never pays less than its rate."""
    assert [fee_of(1000, 253), fee_of(1001, 253), fee_of(0, 253)] == [253, 254, 0]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("CHANNELD_NORMAL CHANNELD_AWAITING_SPLICE", Phase.OPEN),
        ("OPENINGD CHANNELD_AWAITING_LOCKIN DUALOPEND_AWAITING_LOCKIN DUALOPEND_OPEN_INIT", Phase.OPENING),
        ("CHANNELD_SHUTTING_DOWN CLOSINGD_SIGEXCHANGE CLOSINGD_COMPLETE AWAITING_UNILATERAL", Phase.CLOSING),
        ("FUNDING_SPEND_SEEN ONCHAIN CLOSED", Phase.CLOSED),
        ("SOMETHING_NEW", Phase.CLOSING),
    ],
)
def test_every_state_has_a_phase(states: str, expected: Phase) -> None:
    """The states of lightningd; one that is not known is never taken for an open channel."""
    assert {phase(state) for state in states.split()} == {expected}
