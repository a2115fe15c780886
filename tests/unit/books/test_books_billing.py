"""A pass of the billing: it looks at those that are due and at nobody else, in small transactions, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from books_world import ANCHOR, GIB, GRACE, PERIOD, World, a_world, always, growth, lease, rent
from sqlalchemy import Connection
from sqlalchemy.dialects import sqlite

from lnstore.books import accounts as accounts_sql
from lnstore.books import ending
from lnstore.books.rows import AnySelect
from lnstore.ports import BooksRefused
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.messages import AccountStage, AccountState

END = ANCHOR + PERIOD


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as made:
        yield made


async def _plan(world: World, query: AnySelect) -> str:
    """How SQLite goes about a query; the values in it do not matter, there are no statistics."""
    sql = str(query.compile(dialect=sqlite.dialect()))

    def explain(connection: Connection) -> str:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", (1,) * sql.count("?"))
        return "; ".join(str(row[-1]) for row in rows)

    return await world.books._database.read(explain)


async def test_a_pass_finds_those_that_are_due_by_an_index(world: World) -> None:
    for query in (accounts_sql._DUE, accounts_sql._TO_BILL):
        plan = await _plan(world, query)
        assert "SEARCH accounts USING" in plan
        assert "INDEX accounts_to_bill (look_at<?)" in plan
        assert "SCAN accounts" not in plan


async def test_the_sweep_finds_lapsed_accounts_with_leases_by_an_index(world: World) -> None:
    plan = await _plan(world, ending._LAPSED)
    assert "accounts_to_sweep" in plan
    assert "SCAN leases" not in plan


async def test_a_pass_writes_those_that_are_due_and_nobody_else(world: World) -> None:
    """In one transaction for each few, and a second pass does nothing more."""
    early = [await world.renting() for _ in range(accounts_sql.BILLED_TOGETHER + 10)]
    late = [await world.renting(now=ANCHOR + 5) for _ in range(3)]
    commits = world.books.commits
    looks = await world.books.advance(END + GRACE)
    assert {look.account.account_id for look in looks if look.stage is AccountStage.SWEPT} == {
        account.account_id for account in early
    }
    assert {look.account.account_id for look in looks if look.stage is AccountStage.GRACE} == {
        account.account_id for account in late
    }
    assert world.books.commits == commits + 2
    assert await world.books.advance(END + GRACE) == []
    assert world.books.commits == commits + 2


async def test_whoever_pays_is_looked_at_again_at_the_new_time(world: World) -> None:
    account = await world.renting()
    await world.books.advance(END + 1)
    paid = await world.pay(rent(await world.now_is(account)), END + 1)
    assert (paid.state, paid.paid_until_at) == (AccountState.ACTIVE, END + PERIOD)
    assert await world.books.advance(END + 2) == []
    (look,) = await world.books.advance(END + PERIOD)
    assert (look.stage, look.entered) == (AccountStage.GRACE, True)


async def test_growth_within_a_period_does_not_warn_anew(world: World) -> None:
    account = await world.renting()
    now = END - 100  # its end is warned of
    assert [look.warned_of for look in await world.books.advance(now)] == [AccountStage.GRACE]
    await world.pay(growth(await world.now_is(account), GIB, now, END), now)
    assert await world.books.advance(now + 1) == []


async def test_late_by_periods_a_pass_ends_where_many_in_time_would_have(world: World) -> None:
    """With a shrink planned that begins meanwhile, and shares that are swept then."""
    accounts = [await world.renting() for _ in range(2)]
    for account in accounts:
        await world.books.shrink(account.account_id, GIB // 2, ANCHOR)
        await world.books.add_lease(lease(account, 1), ANCHOR, present=always)
    first, second = accounts
    for now in (END, END + 1, END + GRACE - 1):
        await world.books.advance(now)
    assert (await world.now_is(first)).capacity_bytes == GIB // 2
    await world.books.advance(END + 5 * PERIOD)
    assert (await world.now_is(first)).state is (await world.now_is(second)).state is AccountState.LAPSED
    assert await world.books.sweep(delete=lambda _: None, limit=10) == 1
    assert (await world.now_is(first)).shares == 0


async def test_a_shrink_bounds_what_is_written_and_never_lies_below_what_is_stored(world: World) -> None:  # RP-W5
    account = await world.renting()
    await world.books.add_lease(lease(account, 1, 600), ANCHOR, present=always)
    for wrong, code in ((599, ErrorCode.CAPACITY_IN_USE), (GIB + 1, ErrorCode.CAPACITY_REFUSED)):
        with pytest.raises(BooksRefused) as refused:
            await world.books.shrink(account.account_id, wrong, ANCHOR)
        assert refused.value.code is code
    await world.books.shrink(account.account_id, 700, ANCHOR)
    with pytest.raises(BooksRefused) as refused:
        await world.books.add_lease(lease(account, 2, 101), ANCHOR, present=always)
    assert refused.value.code is ErrorCode.CAPACITY_EXCEEDED
    await world.books.add_lease(lease(account, 2, 100), ANCHOR, present=always)
