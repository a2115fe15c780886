"""What an operator decides about accounts, and what is added up for each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from books_world import (
    ANCHOR,
    GIB,
    GRACE,
    PERIOD,
    World,
    a_world,
    agreement,
    always,
    deposit,
    file_in,
    growth,
    lease,
    rent,
)

from lnstore.books import SqlBooks
from lnstore.ports import BooksRefused, Figures, PetnameTaken
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId, Msat
from lnstore_protocol.messages import AccountState


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as world:
        yield world


async def refused(awaitable: object) -> ErrorCode:
    with pytest.raises(BooksRefused) as raised:
        await awaitable  # type: ignore[misc]  # any of the books' coroutines
    return raised.value.code


async def test_a_petname_is_one_accounts_alone_and_can_be_taken_away(world: World) -> None:
    one, two = await world.opened(), await world.opened()
    assert (await world.books.name_account(one.account_id, "alice")).petname == "alice"
    with pytest.raises(PetnameTaken):
        await world.books.name_account(two.account_id, "alice")
    assert (await world.books.name_account(one.account_id, None)).petname is None
    assert (await world.books.name_account(two.account_id, "alice")).petname == "alice"


async def test_a_quota_bounds_new_writes_and_touches_nothing_that_is_stored(world: World) -> None:  # RA-W2
    account = await world.renting()
    await world.books.add_lease(lease(account, 1, 600), ANCHOR, present=always)
    await world.books.set_quota(account.account_id, 1000)
    assert await refused(world.books.may_write(account.account_id, 401, ANCHOR)) is ErrorCode.CAPACITY_EXCEEDED
    assert await refused(world.books.add_lease(lease(account, 2, 401), ANCHOR, present=always)) is (
        ErrorCode.CAPACITY_EXCEEDED
    )
    await world.books.add_lease(lease(account, 3, 400), ANCHOR, present=always)
    await world.books.set_quota(account.account_id, 1)
    # Tokens of what is there are renewed, and it stays.
    assert (
        await world.books.add_lease(lease(account, 1, 600, token_start=5), ANCHOR, present=always)
    ).used_bytes == 1000
    assert (await world.now_is(account)).used_bytes == 1000
    assert (await world.books.set_quota(account.account_id, None)).quota_bytes is None
    await world.books.may_write(account.account_id, GIB - 1000, ANCHOR)


async def test_a_blocked_account_writes_and_pays_nothing_and_lapses_in_its_time(world: World) -> None:  # RA-W3, RA-W4
    account = await world.renting()
    await world.books.add_lease(lease(account, 1), ANCHOR, present=always)
    before = await world.books.plan_invoice(rent(account))
    await world.books.set_blocked(account.account_id, ANCHOR, blocked=True)
    assert await refused(world.books.may_write(account.account_id, 1, ANCHOR)) is ErrorCode.ACCOUNT_BLOCKED
    assert await refused(world.books.add_lease(lease(account, 2), ANCHOR, present=always)) is ErrorCode.ACCOUNT_BLOCKED
    for planned in (growth(account, 1, ANCHOR, ANCHOR + PERIOD), deposit(account, 1, ANCHOR)):
        assert await refused(world.books.plan_invoice(planned)) is ErrorCode.ACCOUNT_BLOCKED
    # What was asked for before is still taken, and what it bought is kept.
    paid = await world.pay(before)
    assert paid.paid_until_at == ANCHOR + 2 * PERIOD
    await world.books.advance(ANCHOR + 2 * PERIOD + GRACE - 1)
    assert (await world.now_is(account)).state is AccountState.GRACE
    await world.books.drop_leases(account.account_id, [lease(account, 1).share_id])
    (lapsed,) = await world.books.advance(ANCHOR + 2 * PERIOD + GRACE)
    assert lapsed.account.state is AccountState.LAPSED
    again = agreement(world.clients[0], ANCHOR + 9_000)
    assert await refused(world.books.open_account(again, ANCHOR + 9_000)) is ErrorCode.ACCOUNT_BLOCKED
    await world.books.set_blocked(account.account_id, ANCHOR + 9_000, blocked=False)
    assert (await world.books.open_account(again, ANCHOR + 9_000)).state is AccountState.ACTIVE


async def test_a_block_ends_an_account_that_owes_nothing_after_the_present_period(world: World) -> None:  # RA-W5
    account = await world.renting(price_msat_per_gib_month=Msat(0))
    now = ANCHOR + 10 * PERIOD + 7
    await world.books.advance(now)
    blocked = await world.books.set_blocked(account.account_id, now, blocked=True)
    assert (blocked.state, blocked.paid_until_at) == (AccountState.ACTIVE, ANCHOR + 11 * PERIOD)
    (grace,) = await world.books.advance(ANCHOR + 11 * PERIOD)
    assert grace.account.state is AccountState.GRACE
    await world.books.set_blocked(account.account_id, ANCHOR + 11 * PERIOD, blocked=False)
    assert (await world.now_is(account)).state is AccountState.ACTIVE
    await world.books.set_blocked(account.account_id, ANCHOR + 11 * PERIOD, blocked=True)
    await world.books.advance(ANCHOR + 12 * PERIOD + GRACE)
    assert (await world.now_is(account)).state is AccountState.LAPSED


async def test_what_is_free_is_given_at_once_and_proven_all_the_same(world: World) -> None:  # RA-W1, RA-W9
    account = await world.opened()
    account = await world.books.set_free(account.account_id, ANCHOR, free=True)
    assert (account.price_msat_per_gib_month, account.egress_msat_per_gib) == (0, 0)
    grown = await world.pay(growth(account, GIB, ANCHOR, ANCHOR + PERIOD))
    assert (grown.capacity_bytes, grown.growth_index, grown.paid_until_at) == (GIB, 1, ANCHOR + PERIOD)
    now = ANCHOR + 3 * PERIOD
    await world.books.advance(now)
    account = await world.now_is(account)
    assert (account.state, account.next_period) == (AccountState.ACTIVE, 3)
    planned = rent(account, shares=5, token_index=2)
    proven = await world.pay(planned)
    assert (proven.next_period, proven.token_index) == (4, 3)
    assert (await world.books.plan_invoice(planned)).credited
    lossy = rent(proven, shares=5, lost=bytes(32))
    await world.pay(lossy)
    figures = await world.books.figures(account.account_id)
    assert figures == {account.account_id: Figures(Msat(0), 1, 1)}
    assert await world.books.pay_index() == 0


async def test_nothing_is_given_where_there_is_a_price_nor_charged_where_there_is_none(world: World) -> None:
    account = await world.renting()
    gift = growth(account, GIB, ANCHOR, ANCHOR + PERIOD, amount_msat=Msat(0))
    assert await refused(world.books.plan_invoice(gift)) is ErrorCode.PERIOD_REFUSED
    await world.books.set_free(account.account_id, ANCHOR, free=True)
    assert await refused(world.books.plan_invoice(rent(account))) is ErrorCode.PERIOD_REFUSED


async def test_an_account_that_is_free_no_more_pays_from_the_next_period_on(world: World) -> None:  # RA-W5
    account = await world.renting()
    now = ANCHOR + PERIOD
    await world.books.advance(now)
    assert (await world.now_is(account)).state is AccountState.GRACE
    account = await world.books.set_free(account.account_id, now, free=True)
    assert account.state is AccountState.ACTIVE
    now = ANCHOR + 5 * PERIOD + 1
    await world.books.advance(now)
    account = await world.books.set_free(account.account_id, now, free=False)
    assert (account.state, account.paid_until_at) == (AccountState.ACTIVE, ANCHOR + 6 * PERIOD)
    assert await world.books.advance(now) == []


async def test_figures_are_sums_over_the_ledger_and_the_proofs_over_every_lapse(world: World) -> None:
    account = await world.renting()
    account = await world.pay(rent(account, shares=3))
    first = await world.books.plan_invoice(rent(account, shares=3))
    second = rent(account, shares=3, attempt=1, token_index=account.token_index + 1)
    account = await world.pay(second)
    await world.books.plan_invoice(rent(account, shares=3))
    income = account.capacity_bytes // GIB * PERIOD + first.amount_msat * 2
    assert await world.books.figures(account.account_id) == {account.account_id: Figures(Msat(income), 2, 1)}
    await world.books.advance(account.paid_until_at + GRACE)
    anew = await world.books.open_account(agreement(world.clients[0], ANCHOR + 9_000), ANCHOR + 9_000)
    other = await world.opened()
    assert await world.books.figures() == {
        anew.account_id: Figures(Msat(income), 2, 2),
        other.account_id: Figures(Msat(0), 0, 0),
    }


async def test_another_process_decides_and_the_first_goes_by_it(tmp_path: Path) -> None:
    async with a_world(tmp_path) as world, SqlBooks.open(file_in(tmp_path)) as operator:
        account = await world.renting()
        await operator.set_blocked(account.account_id, ANCHOR, blocked=True)
        assert await refused(world.books.may_write(account.account_id, 1, ANCHOR)) is ErrorCode.ACCOUNT_BLOCKED
        await operator.set_blocked(account.account_id, ANCHOR, blocked=False)
        await world.books.may_write(account.account_id, 1, ANCHOR)


async def test_what_is_decided_about_nobody_is_refused(world: World) -> None:
    assert await refused(world.books.set_quota(AccountId(bytes(32)), 5)) is ErrorCode.NO_ACCOUNT
    assert await world.books.figures() == {}
