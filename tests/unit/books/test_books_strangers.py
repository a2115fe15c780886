"""Accounts that never paid: counted, bounded, removed without a trace; whoever paid once is none of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from books_world import ANCHOR, GIB, PERIOD, World, a_world, agreement, deposit, growth
from sqlalchemy import Connection, func, select

from lnstore.books.schema import metadata
from lnstore.ports import Account, BooksRefused, PlannedInvoice, StrangerLimits
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId
from lnstore_protocol.messages import InvoicePurpose
from lnstore_protocol.terms import Record

LIMITS = StrangerLimits(accounts=4, accounts_of_network=2, growth_percent=50)
DAY = 86_400
UNTIL = ANCHOR + PERIOD


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as world:
        yield world


async def opened(world: World, network: bytes, now: int = ANCHOR, client: Identity | None = None) -> Account:
    signed = agreement(client or Identity.generate(), now)
    return await world.books.open_account(signed, now, network=network, limits=LIMITS)


async def refused(world: World, network: bytes) -> bool:
    with pytest.raises(BooksRefused, match=r"never paid") as too_many:
        await opened(world, network)
    return too_many.value.code is ErrorCode.RATE_LIMITED


async def rows(world: World) -> dict[str, int]:
    """How many rows each table has."""

    def count(connection: Connection) -> dict[str, int]:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
        }

    return await world.books._database.read(count)


async def going(world: World, now: int, *, age: int = DAY) -> list[AccountId]:
    """Who is removed at `now`."""
    times = {"idle_since_at": now - age, "in_any_case_at": now - 2 * age}
    gone = []
    for account_id in await world.books.strangers(now, limit=9, **times):
        assert await world.books.remove_stranger(account_id, now, **times)
        gone.append(account_id)
    return gone


async def test_there_are_so_many_in_all_and_of_one_network(world: World) -> None:  # S-W3
    first = await opened(world, b"a")
    await opened(world, b"a")
    assert await refused(world, b"a")
    await opened(world, b"b")
    await opened(world, b"c")
    assert await refused(world, b"d")
    assert await world.books.stranger_count() == 4
    assert len(await world.books.accounts()) == 4  # a refused one left nothing
    await world.pay(deposit(first, 1, ANCHOR))
    assert (await world.books.account(first.account_id) or first).unpaid_since_at is None
    await opened(world, b"a")
    assert await refused(world, b"b")


async def test_one_that_is_open_already_is_no_newcomer(world: World) -> None:
    client = Identity.generate()
    account = await opened(world, b"a", client=client)
    for network in (b"b", b"c"):
        await opened(world, network)
    await opened(world, b"b")
    assert await opened(world, b"a", client=client) == account
    assert account.unpaid_since_at == ANCHOR


async def test_a_removed_account_leaves_no_row_and_may_come_again(world: World) -> None:  # S-W3, R-W7
    before = await rows(world)
    client = Identity.generate()
    account = await opened(world, b"a", client=client)
    planned = growth(account, GIB, ANCHOR, UNTIL, label="lnstore/first")
    await world.books.plan_invoice(planned)
    record = Record(account_id=account.account_id, name=b"n", sequence=1, value=b"")
    await world.books.put_record(record, b"x")
    assert await going(world, ANCHOR + DAY - 1) == []
    assert await going(world, ANCHOR + DAY) == [account.account_id]
    after = await rows(world)
    assert after == before | {"ledger_accounts": after["ledger_accounts"]}
    assert after["ledger_accounts"] <= 1  # "lightning"
    assert await world.books.get_record(account.account_id, b"n") is None
    again = await opened(world, b"a", ANCHOR + DAY, client)
    assert again.growth_index == 0
    # The daemon has forgotten the label, so it may stand for another preimage.
    assert (await world.books.plan_invoice(replace(planned, preimage=bytes(32)))).preimage == bytes(32)


async def test_whoever_has_something_to_pay_gets_twice_the_time(world: World) -> None:
    account = await opened(world, b"a")
    now = ANCHOR + DAY
    for attempt in range(2):
        planned = growth(account, GIB, now, now + PERIOD, attempt=attempt, expires_at=now + 900)
        await world.books.plan_invoice(planned)
    assert [invoice.attempt for invoice in await world.books.unpaid_invoices(account.account_id)] == [1]
    assert await going(world, now + 899) == []
    assert await going(world, now + 900) == [account.account_id]
    other = await opened(world, b"a")
    await world.books.plan_invoice(growth(other, GIB, now, now + PERIOD, expires_at=ANCHOR + 9 * DAY))
    assert await going(world, ANCHOR + 2 * DAY) == [other.account_id]


@pytest.mark.parametrize("purpose", [InvoicePurpose.CAPACITY, InvoicePurpose.DEPOSIT])
async def test_who_ever_paid_stays(world: World, purpose: InvoicePurpose) -> None:  # S-W4
    account = await opened(world, b"a")
    times = {"idle_since_at": ANCHOR, "in_any_case_at": ANCHOR}
    paying = {
        InvoicePurpose.CAPACITY: growth(account, GIB, ANCHOR, UNTIL),
        InvoicePurpose.DEPOSIT: deposit(account, 1, ANCHOR),
    }
    assert await world.books.strangers(ANCHOR, limit=9, **times) == [account.account_id]
    await world.pay(paying[purpose])  # between the look and the removal
    assert not await world.books.remove_stranger(account.account_id, ANCHOR, **times)
    assert await going(world, ANCHOR + 9 * DAY) == []
    assert await world.books.account(account.account_id) is not None


async def test_unpaid_growth_of_strangers_reserves_a_share_of_what_is_free(world: World) -> None:  # S-W1, R-W11
    """16 GiB, 4 of them rented: strangers may hold 6 between asking and paying, 3 of one network."""
    holder = await world.renting(4 * GIB)
    one, two = await opened(world, b"a"), await opened(world, b"a")
    three, four = await opened(world, b"b"), await opened(world, b"c")

    async def reserve(account: Account, gib: int, now: int = ANCHOR, attempt: int = 0) -> PlannedInvoice:
        planned = growth(account, gib * GIB, now, UNTIL, attempt=attempt, expires_at=now + 900)
        return await world.books.plan_invoice(planned, rentable_bytes=16 * GIB, limits=LIMITS)

    async def too_much(account: Account, gib: int, now: int = ANCHOR, attempt: int = 0) -> bool:
        with pytest.raises(BooksRefused, match="rent less now") as much:
            await reserve(account, gib, now, attempt)
        return much.value.code is ErrorCode.RATE_LIMITED

    with pytest.raises(BooksRefused, match=f"may rent {3 * GIB} bytes") as alone:
        await reserve(one, 4)
    assert alone.value.code is ErrorCode.CAPACITY_REFUSED
    await reserve(one, 2)
    await reserve(one, 1, attempt=1)  # the later attempt counts alone
    await reserve(two, 2)
    assert await too_much(one, 2, attempt=2)
    await reserve(three, 3)
    assert await too_much(four, 1)
    await reserve(holder, 5)  # who pays is not kept out
    with pytest.raises(BooksRefused, match="not that much") as full:
        await reserve(holder, 7, attempt=1)
    assert full.value.code is ErrorCode.CAPACITY_REFUSED
    # What was not paid in time is free at once.
    assert await world.books.rented_bytes(ANCHOR + 899) == 15 * GIB
    assert await world.books.rented_bytes(ANCHOR + 900) == 4 * GIB
    await reserve(four, 3, ANCHOR + 900)
