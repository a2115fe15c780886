"""Holds on the deposit, the ledger, and its closings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from books_world import ANCHOR, EGRESS, GIB, World, a_world, deposit, file_in, sound
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from lnstore.books import SqlBooks
from lnstore.books.ledger import POSTINGS_PER_CLOSING, post
from lnstore.books.rules import Entry
from lnstore.ports import Account, BooksRefused
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId, Msat


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as world:
        yield world


async def reader(world: World, amount_msat: int, **terms: Any) -> Account:
    account = await world.opened(**terms)
    return await world.pay(deposit(account, amount_msat, ANCHOR))


async def test_a_hold_takes_from_the_deposit_and_gives_back_what_was_not_read(world: World) -> None:  # R-W23
    account = await reader(world, 5 * EGRESS)
    hold = await world.books.hold_egress(account.account_id, 4 * GIB, ANCHOR)
    assert (await world.now_is(account)).deposit_msat == EGRESS
    await world.books.settle_egress(hold, GIB, ANCHOR)
    now = await world.now_is(account)
    assert (now.deposit_msat, now.egress_bytes) == (4 * EGRESS, GIB)
    name = account.account_id.hex()
    balances = await world.books.balances()
    assert (balances[f"egress:{name}"], balances[f"hold:{name}"]) == (-EGRESS, 0)


async def test_two_holds_cannot_spend_the_same_deposit(world: World) -> None:  # R-W23
    account = await reader(world, 5 * EGRESS)
    await world.books.hold_egress(account.account_id, 3 * GIB, ANCHOR)
    with pytest.raises(BooksRefused) as refused:
        await world.books.hold_egress(account.account_id, 3 * GIB, ANCHOR)
    assert refused.value.code is ErrorCode.PAYMENT_REQUIRED
    await world.books.hold_egress(account.account_id, 2 * GIB, ANCHOR)
    assert (await world.now_is(account)).deposit_msat == 0


async def test_settling_twice_is_settling_once(world: World) -> None:
    account = await reader(world, 5 * EGRESS)
    hold = await world.books.hold_egress(account.account_id, 4 * GIB, ANCHOR)
    await world.books.settle_egress(hold, GIB, ANCHOR)
    await world.books.settle_egress(hold, 4 * GIB, ANCHOR)
    assert (await world.now_is(account)).deposit_msat == 4 * EGRESS


async def test_more_than_was_held_is_never_charged(world: World) -> None:
    account = await reader(world, 5 * EGRESS)
    hold = await world.books.hold_egress(account.account_id, GIB, ANCHOR)
    await world.books.settle_egress(hold, 99 * GIB, ANCHOR)
    now = await world.now_is(account)
    assert (now.deposit_msat, now.egress_bytes) == (4 * EGRESS, GIB)


async def test_reading_that_costs_nothing_needs_no_deposit_and_is_counted(world: World) -> None:
    account = await world.opened(egress_msat_per_gib=Msat(0))
    hold = await world.books.hold_egress(account.account_id, GIB, ANCHOR)
    await world.books.settle_egress(hold, 100, ANCHOR)
    assert (await world.now_is(account)).egress_bytes == 100
    assert await world.books.postings(after_posting_id=0, limit=10) == []


async def test_who_has_no_account_reads_nothing(world: World) -> None:
    with pytest.raises(BooksRefused) as refused:
        await world.books.hold_egress(AccountId(bytes(32)), 1, ANCHOR)
    assert refused.value.code is ErrorCode.NO_ACCOUNT


async def test_holds_that_a_crash_left_are_posted_in_full_at_the_next_start(tmp_path: Path) -> None:
    async with SqlBooks.open(file_in(tmp_path)) as books:
        world = World(books)
        account = await reader(world, 5 * EGRESS)
        settled = await books.hold_egress(account.account_id, GIB, ANCHOR)
        await books.settle_egress(settled, 0, ANCHOR)
        left = [await books.hold_egress(account.account_id, GIB, ANCHOR) for _ in range(2)]
        assert settled not in left
    async with SqlBooks.open(file_in(tmp_path)) as books:
        assert await books.settle_orphaned_holds(ANCHOR + 9) == 2
        assert await books.settle_orphaned_holds(ANCHOR + 9) == 0
        now = await World(books).now_is(account)
        assert (now.deposit_msat, now.egress_bytes) == (3 * EGRESS, 2 * GIB)
        await sound(books)


async def test_postings_are_listed_in_order_with_what_they_are_for(world: World) -> None:
    account = await reader(world, 5 * EGRESS)
    hold = await world.books.hold_egress(account.account_id, 2 * GIB, ANCHOR + 1)
    await world.books.settle_egress(hold, GIB, ANCHOR + 2)
    listed = await world.books.postings(after_posting_id=0, limit=100)
    name = account.account_id.hex()
    assert [(p.at - ANCHOR, p.kind, p.debit, p.credit, p.amount_msat) for p in listed] == [
        (0, "deposit", "lightning", f"deposit:{name}", 5 * EGRESS),
        (1, "hold", f"deposit:{name}", f"hold:{name}", 2 * EGRESS),
        (2, "egress", f"hold:{name}", f"egress:{name}", EGRESS),
        (2, "hold returned", f"hold:{name}", f"deposit:{name}", EGRESS),
    ]
    assert {p.reference for p in listed[1:]} == {f"hold/{hold}"}
    assert await world.books.postings(after_posting_id=listed[0].posting_id, limit=2) == listed[1:3]


@pytest.mark.parametrize("change", ["UPDATE postings SET amount_msat = 1", "DELETE FROM postings"])
async def test_the_ledger_can_only_be_added_to(world: World, change: str) -> None:
    await reader(world, 5)
    with pytest.raises(IntegrityError, match="append-only"):
        await world.books._database.writer.write(lambda connection: connection.execute(text(change)))


@pytest.mark.parametrize("amount_msat", [0, -1])
async def test_a_posting_moves_something_from_one_account_to_another(world: World, amount_msat: int) -> None:
    account = await world.opened()
    entry = Entry("x", "lightning", f"rent:{account.account_id.hex()}", amount_msat)
    with pytest.raises(IntegrityError):
        await world.books._database.writer.write(lambda c: post(c, [entry], at=0, reference="r"))
    itself = Entry("x", "lightning", "lightning", 1)
    with pytest.raises(IntegrityError):
        await world.books._database.writer.write(lambda c: post(c, [itself], at=0, reference="r"))


async def test_the_same_event_cannot_be_posted_twice(world: World) -> None:
    account = await world.opened()
    entry = Entry("rent", "lightning", f"rent:{account.account_id.hex()}", 1)
    await world.books._database.writer.write(lambda c: post(c, [entry], at=0, reference="r"))
    with pytest.raises(IntegrityError):
        await world.books._database.writer.write(lambda c: post(c, [entry], at=0, reference="r"))


async def test_a_long_history_is_closed_now_and_then_and_the_balance_stays_the_sum(world: World) -> None:
    """`sound`, at the end, compares every closing and every deposit with the sum of all postings."""
    account = await reader(world, 10**9)
    name = account.account_id.hex()
    entries = [Entry(f"k{n}", f"deposit:{name}", f"egress:{name}", n + 1) for n in range(POSTINGS_PER_CLOSING)]
    await world.books._database.writer.write(lambda c: post(c, entries, at=0, reference="many"))
    spent = sum(entry.amount_msat for entry in entries)
    for _ in range(3):
        hold = await world.books.hold_egress(account.account_id, GIB, ANCHOR)
        await world.books.settle_egress(hold, GIB, ANCHOR)
        spent += EGRESS
        assert (await world.now_is(account)).deposit_msat == 10**9 - spent
    closings = await world.books._database.read(lambda c: c.execute(text("SELECT count(*) FROM closings")).scalar_one())
    assert closings == 1
