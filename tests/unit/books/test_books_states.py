"""The account state table."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import pytest
from books_world import ANCHOR, GIB, GRACE, PERIOD, an_account
from hypothesis import given
from hypothesis import strategies as st

from lnstore.books.states import bill, coming, due, first_look, news, stage
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import AccountStage, AccountState
from lnstore_protocol.stages import NEXT_STAGE, STATES, Due, transitions

PAID_UNTIL = ANCHOR + PERIOD


def test_the_table_has_a_row_for_everything() -> None:  # R-W3
    assert set(NEXT_STAGE) == set(product(AccountStage, Due))
    assert set(STATES) == set(AccountStage)


@pytest.mark.parametrize(
    ("now", "rent", "expected"),
    [
        (ANCHOR, Due.PAID, AccountStage.ACTIVE),
        (PAID_UNTIL - 251, Due.PAID, AccountStage.ACTIVE),
        (PAID_UNTIL - 250, Due.SOON, AccountStage.DUE),
        (PAID_UNTIL - 1, Due.SOON, AccountStage.DUE),
        (PAID_UNTIL, Due.OVERDUE, AccountStage.GRACE),
        (PAID_UNTIL + GRACE - 1, Due.OVERDUE, AccountStage.GRACE),
        (PAID_UNTIL + GRACE, Due.TOO_LATE, AccountStage.LAPSED),
        (PAID_UNTIL + 100 * PERIOD, Due.TOO_LATE, AccountStage.LAPSED),
    ],
)
def test_time_moves_a_renting_account_at_the_exact_second(now: int, rent: Due, expected: AccountStage) -> None:
    account = an_account(shares=1, used_bytes=1)
    assert due(account, now) is rent
    assert bill(account, now).stage is expected
    assert bill(account, now).account.state is STATES[expected]


def test_a_lapsed_account_is_swept_once_nothing_of_it_is_left() -> None:
    account = an_account(state=AccountState.LAPSED, capacity_bytes=0, shares=1, used_bytes=1)
    assert stage(account, PAID_UNTIL) is AccountStage.LAPSED
    sweep = coming(account, PAID_UNTIL)
    assert sweep is not None
    assert sweep.stage is AccountStage.SWEPT
    swept = replace(account, shares=0, used_bytes=0)
    assert (stage(swept, PAID_UNTIL), coming(swept, PAID_UNTIL)) == (AccountStage.SWEPT, None)


def test_who_was_not_looked_at_for_long_is_told_the_stage_that_he_is_still_in() -> None:
    """The node was away, say: nothing has been taken from the account yet."""
    assert stage(an_account(), PAID_UNTIL + 100 * PERIOD) is AccountStage.DUE


@pytest.mark.parametrize("free", [{"capacity_bytes": 0}, {"price_msat_per_gib_month": Msat(0)}])
def test_who_owes_nothing_moves_on_to_the_current_period(free: dict[str, int]) -> None:  # R-W4
    account = an_account(**free, paid_until_at=ANCHOR)
    for now, start in ((ANCHOR, ANCHOR), (ANCHOR + 7 * PERIOD - 1, ANCHOR + 6 * PERIOD), (ANCHOR + 7 * PERIOD,) * 2):
        then = bill(account, now).account
        assert (then.state, then.paid_until_at) == (AccountState.ACTIVE, start)


def test_a_clock_before_the_anchor_takes_nothing_away() -> None:
    assert bill(an_account(capacity_bytes=0, paid_until_at=ANCHOR), ANCHOR - 600).account.paid_until_at == ANCHOR


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
    between = bill(account, now)
    assert bill(between.account, now + later) == bill(account, now + later)
    if due(account, now) is not Due.NOTHING:
        assert bill(between.account, now + later).account.state >= min(state, between.account.state)


@given(
    capacity_bytes=st.sampled_from([0, 1, GIB]),
    shrinks=st.sampled_from([None, 1, 2, 5]),
    jumps=st.lists(st.integers(1, 3 * PERIOD), max_size=12),
)
def test_looking_only_when_it_says_so_finds_what_looking_every_time_finds(
    capacity_bytes: int, shrinks: int | None, jumps: list[int]
) -> None:
    """The index on `look_at` hides nothing, and every look moves it on: a pass ends."""
    planned = {} if shrinks is None or not capacity_bytes else {"shrink_to_bytes": 1, "shrink_period": shrinks}
    account = an_account(capacity_bytes=capacity_bytes, **planned)
    lazy = eager = replace(account, look_at=first_look(account, ANCHOR))
    now, told, warned = ANCHOR, [], []
    for jump in jumps:
        now += jump
        eager = bill(eager, now).account
        if lazy.look_at is not None and lazy.look_at <= now:
            after = bill(lazy, now)
            assert after.account.look_at is None or after.account.look_at > now
            look = news(lazy, after, now)
            told += [look.stage] if look is not None and look.entered else []
            warned += [look.warned_of] if look is not None and look.warned_of is not None else []
            lazy = after.account
        assert (lazy, lazy.look_at) == (eager, eager.look_at)
    assert len(told) == len(set(told)), "a stage is entered once while nothing is paid"
    assert len(warned) == len(set(warned)), "and warned of once"


def test_stages_follow_one_another_whatever_the_terms_are() -> None:  # RP-W1
    for period, grace in product([1, 2, 3, 4, 5, 1000, 10**8], [0, 1, 2, 10**8]):
        to = transitions(PAID_UNTIL, period, grace)
        assert [one.stage for one in to] == list(AccountStage)[1:]
        assert all(one.warning_at <= one.at for one in to)
        assert all(earlier.at <= later.at for earlier, later in pairwise(to))
        assert all(earlier.at <= later.warning_at for earlier, later in pairwise(to))
