"""The account state table."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from books_world import ANCHOR, GIB, GRACE, PERIOD, an_account
from hypothesis import given
from hypothesis import strategies as st

from lnstore.books.states import NEXT_STATE, Due, due, standing
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import AccountState

PAID_UNTIL = ANCHOR + PERIOD


def test_the_table_has_a_row_for_everything() -> None:  # R-W3
    assert set(NEXT_STATE) == set(product(AccountState, Due))


@pytest.mark.parametrize(
    ("now", "rent", "state"),
    [
        (ANCHOR, Due.PAID, AccountState.ACTIVE),
        (PAID_UNTIL - 1, Due.PAID, AccountState.ACTIVE),
        (PAID_UNTIL, Due.OVERDUE, AccountState.GRACE),
        (PAID_UNTIL + GRACE - 1, Due.OVERDUE, AccountState.GRACE),
        (PAID_UNTIL + GRACE, Due.TOO_LATE, AccountState.LAPSED),
        (PAID_UNTIL + 100 * PERIOD, Due.TOO_LATE, AccountState.LAPSED),
    ],
)
def test_time_moves_a_renting_account_at_the_exact_second(now: int, rent: Due, state: AccountState) -> None:
    account = an_account()
    assert due(account, now) is rent
    assert standing(account, now).state is state


@pytest.mark.parametrize("free", [{"capacity_bytes": 0}, {"price_msat_per_gib_month": Msat(0)}])
def test_who_owes_nothing_moves_on_to_the_current_period(free: dict[str, int]) -> None:  # R-W4
    account = an_account(**free, paid_until_at=ANCHOR)
    for now, start in ((ANCHOR, ANCHOR), (ANCHOR + 7 * PERIOD - 1, ANCHOR + 6 * PERIOD), (ANCHOR + 7 * PERIOD,) * 2):
        then = standing(account, now)
        assert (then.state, then.paid_until_at) == (AccountState.ACTIVE, start)


def test_a_clock_before_the_anchor_takes_nothing_away() -> None:
    assert standing(an_account(capacity_bytes=0, paid_until_at=ANCHOR), ANCHOR - 600).paid_until_at == ANCHOR


@given(
    state=st.sampled_from(AccountState),
    capacity_bytes=st.sampled_from([0, 1, GIB]),
    price=st.sampled_from([0, 1, 10**9]),
    first=st.integers(0, 20 * PERIOD),
    later=st.integers(0, 20 * PERIOD),
)
def test_advancing_twice_is_advancing_once(
    state: AccountState, capacity_bytes: int, price: int, first: int, later: int
) -> None:
    """Nobody is better or worse off for having been looked at in between; and time alone restores nobody."""
    account = an_account(state=state, capacity_bytes=capacity_bytes, price_msat_per_gib_month=Msat(price))
    now = ANCHOR + first
    between = standing(account, now)
    seen = replace(account, state=between.state, paid_until_at=between.paid_until_at)
    assert standing(seen, now + later) == standing(account, now + later)
    if due(account, now) is not Due.NOTHING:
        assert standing(seen, now + later).state >= min(state, between.state)
