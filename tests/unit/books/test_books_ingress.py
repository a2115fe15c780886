"""Writing is charged in the transaction that commits the leases: to the msat, never beyond the deposit, never twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trio
from books_world import (
    ANCHOR,
    GIB,
    NODE,
    PERIOD,
    World,
    a_world,
    agreement,
    always,
    deposit,
    file_in,
    lease,
    share_id,
    sound,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from test_books_traffic_crash import copied, watched

from lnstore.books import SqlBooks
from lnstore.ports import Account, Announcement, BooksRefused, Leased, StoreSmall
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import Msat, ShareId
from lnstore_protocol.messages import Buffer
from lnstore_protocol.terms import Agreement, ingress_msat, traffic_msat

PRICE = Msat(GIB // 300)
"""300 bytes cost a little less than 1 msat."""
SIZES = st.lists(st.integers(1, 1_000), min_size=1, max_size=12)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as world:
        yield world


async def paying(world: World, deposit_msat: int, price: int = PRICE) -> Account:
    """An account that pays for writing, with a deposit."""
    account = await world.renting(ingress_msat_per_gib=Msat(price))
    return await world.pay(deposit(account, deposit_msat, ANCHOR)) if deposit_msat else account


async def earned(world: World, account: Account) -> int:
    """What the node has for the account's writing by its ledger, which must go up with the deposit's fall."""
    return -(await world.books.balances()).get(f"ingress:{account.account_id.hex()}", 0)


def stored_in(disk: dict[ShareId, Buffer]) -> StoreSmall:
    """Where small shares go."""

    def store(shares: Sequence[tuple[ShareId, Buffer]]) -> None:
        disk.update(shares)

    return store


async def test_each_share_costs_what_all_bytes_cost_with_it_less_what_they_cost_before(world: World) -> None:
    """RI-W1: rounded up once for all that was ever written, so that many small shares cost what one large one does."""
    account = await paying(world, 1_000)
    said = [await world.books.add_lease(lease(account, number, 100), ANCHOR, present=always) for number in range(7)]
    assert [one.charged_msat for one in said] == [1, None, None, 1, None, None, 1]
    assert [one.ingress_bytes for one in said] == [100, None, None, 400, None, None, 700]
    now = await world.now_is(account)
    assert (now.deposit_msat, now.ingress_bytes) == (1_000 - traffic_msat(700, PRICE), 700)
    assert await earned(world, account) == traffic_msat(700, PRICE) == 3
    await sound(world.books)


async def test_the_same_share_again_costs_nothing(world: World) -> None:
    """RI-W2: a client whose answer was lost sends it again."""
    account = await paying(world, 1_000)
    await world.books.add_lease(lease(account, 1, 5_000), ANCHOR, present=always)
    again = await world.books.add_lease(lease(account, 1, 5_000), ANCHOR, present=always)
    assert (again.used_bytes, again.charged_msat, again.ingress_bytes) == (5_000, None, None)
    assert await earned(world, account) == traffic_msat(5_000, PRICE)


async def test_what_was_dropped_and_comes_again_is_paid_again(world: World) -> None:
    account = await paying(world, 1_000)
    for _ in range(2):
        await world.books.add_lease(lease(account, 1, 30_000), ANCHOR, present=always)
        await world.books.drop_leases(account.account_id, [share_id(1)])
    assert await earned(world, account) == traffic_msat(60_000, PRICE)


async def test_without_a_deposit_nothing_is_written_and_the_lacking_sum_is_told(world: World) -> None:
    """R-W23: neither bytes nor leases, early and in the transaction."""
    account = await paying(world, 0)
    disk: dict[ShareId, Buffer] = {}
    for asked in (
        world.books.may_write(account.account_id, 3_000, ANCHOR),
        world.books.add_lease(lease(account, 1, 3_000), ANCHOR, present=always),
        world.books.add_small(lease(account, 1, 3_000), ANCHOR, data=b"x" * 3_000, store=stored_in(disk)),
    ):
        with pytest.raises(BooksRefused) as refused:
            await asked
        assert (refused.value.code, refused.value.amount_msat) == (ErrorCode.PAYMENT_REQUIRED, 10)
    assert (disk, await world.now_is(account)) == ({}, account)


async def test_many_at_once_are_charged_by_one_posting_and_never_beyond_the_deposit(world: World) -> None:
    """R-W23: forty callers for a deposit that pays for ten of them."""
    account = await paying(world, 10, price=GIB // 100)
    before = len(await world.books.postings(after_posting_id=0, limit=1_000))
    commits = world.books.commits
    taken: list[Leased] = []

    async def add(number: int) -> None:
        try:
            taken.append(await world.books.add_lease(lease(account, number), ANCHOR, present=always))
        except BooksRefused as refused:
            assert refused.code is ErrorCode.PAYMENT_REQUIRED  # noqa: PT017

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(add, number)
    now = await world.now_is(account)
    assert (now.shares, now.deposit_msat, now.ingress_bytes) == (10, 0, 1_000)
    assert (len(taken), sum(one.charged_msat or 0 for one in taken), await earned(world, account)) == (10, 10, 10)
    posted = (await world.books.postings(after_posting_id=0, limit=1_000))[before:]
    assert 0 < len(posted) <= world.books.commits - commits <= 3
    assert {one.kind for one in posted} == {"ingress"}
    await sound(world.books)


async def test_at_no_price_a_put_takes_the_statements_it_took_before(world: World) -> None:
    """Nothing is asked of the ledger: the tables that are touched are those of accounts and leases."""
    dear = await paying(world, 1_000)
    free = await world.books.set_free((await paying(world, 1_000)).account_id, ANCHOR, free=True)
    said: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        said.append(" ".join(statement.split()[:3]))

    counts = []
    for number, account in enumerate((await world.renting(), free, dear)):
        event.listen(world.books._database._writing, "before_cursor_execute", note)
        leased = await world.books.add_lease(lease(account, number, 100_000), ANCHOR, present=always)
        event.remove(world.books._database._writing, "before_cursor_execute", note)
        counts.append(list(said))
        assert leased.charged_msat == (334 if account is dear else None)
        said.clear()
    assert counts[0] == counts[1]
    assert len(counts[0]) == 6
    assert not any("postings" in one or "ledger" in one for one in counts[0])
    assert len(counts[2]) > 6


async def test_the_price_is_that_of_the_agreement_which_holds(world: World) -> None:
    """RI-W1: from the period on that a signed change begins with, and nothing before."""
    account = await world.renting(price_periods=1)
    dearer = agreement(world.clients[-1], ingress_msat_per_gib=PRICE).terms
    told = Announcement(terms=dearer.encoded, from_period=2, announced_at=ANCHOR)
    await world.books.announce(account.account_id, told)
    renewed = Agreement.propose(dearer, world.clients[-1], ANCHOR, from_period=2).countersign(NODE)
    account = await world.books.renew(renewed, ANCHOR)
    await world.pay(deposit(account, 10, ANCHOR))
    cheap = await world.books.add_lease(lease(account, 1, 3_000), ANCHOR + 2 * PERIOD - 1, present=always)
    dear = await world.books.add_lease(lease(account, 2, 3_000), ANCHOR + 2 * PERIOD, present=always)
    assert (cheap.charged_msat, dear.charged_msat, dear.ingress_bytes) == (None, 10, 6_000)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=SIZES, price=st.integers(0, 1 << 34), funds=st.integers(0, 20_000))
def test_no_order_of_sizes_takes_more_than_the_bytes_cost(sizes: list[int], price: int, funds: int) -> None:
    """RI-W1: each charge is the floor or the ceiling of its own price, and their sum that of all bytes."""
    total = charged = 0
    for size in sizes:
        due = ingress_msat(total, size, price)
        assert size * price // GIB <= due <= traffic_msat(size, price)
        if charged + due <= funds:
            total, charged = total + size, charged + due
    assert charged == traffic_msat(total, price) <= funds


async def test_power_that_fails_anywhere_takes_money_for_leases_and_leases_for_money(tmp_path: Path) -> None:
    """R-W23, RI-W1: before every statement; either both are there or neither, and putting again takes it once."""
    left: list[Path] = []
    async with SqlBooks.open(file_in(tmp_path)) as books:
        account = await paying(World(books), 100)
        disk: dict[ShareId, Buffer] = {}
        wanted = [lease(account, number, 2_000 + number) for number in range(2)]

        async def write(into: SqlBooks) -> None:
            for one in wanted:
                data = b"x" * one.size_bytes
                await into.add_small(one, ANCHOR, data=data, store=stored_in(disk))

        with watched(books, lambda: left.append(copied(file_in(tmp_path), tmp_path / f"{len(left)}.db"))):
            await write(books)
    assert len(left) > 12
    whole = sum(one.size_bytes for one in wanted)
    for file in left:
        async with SqlBooks.open(file) as books:
            await books.settle_orphaned_holds(ANCHOR)
            world = World(books)
            now = await world.now_is(account)
            assert now.used_bytes == now.ingress_bytes
            assert await earned(world, account) == traffic_msat(now.used_bytes, PRICE) == 100 - now.deposit_msat
            await write(books)
            now = await world.now_is(account)
            assert (now.used_bytes, now.ingress_bytes) == (whole, whole)
            assert await earned(world, account) == traffic_msat(whole, PRICE) == 100 - now.deposit_msat
            assert await books.differences() == []
            await sound(books)
