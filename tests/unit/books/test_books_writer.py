"""Group commit: many writers share a transaction, each gets its own outcome."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from books_world import ANCHOR, World, a_world, agreement, always, file_in, lease, share_id
from sqlalchemy import Connection, text

from lnstore.books import BooksUnusable, SqlBooks
from lnstore.ports import BooksRefused, StorageFull
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import ShareId


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as world:
        yield world


class Gate:
    """A write that keeps the writer busy until it is let go, so that others wait together."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._entered = trio.Event()
        self._open = threading.Event()

    async def hold(self) -> None:
        token = trio.lowlevel.current_trio_token()

        def work(_connection: Connection) -> None:
            token.run_sync_soon(self._entered.set)
            assert self._open.wait(10)

        await self._world.books._database.writer.write(work)

    async def __aenter__(self) -> None:
        self._nursery_scope = trio.open_nursery()
        nursery = await self._nursery_scope.__aenter__()
        nursery.start_soon(self.hold)
        await self._entered.wait()

    async def __aexit__(self, *exc: object) -> None:
        self._open.set()
        await self._nursery_scope.__aexit__(None, None, None)


async def test_five_hundred_leases_at_once_take_a_handful_of_commits(world: World) -> None:
    account = await world.renting()
    before = world.books.commits
    used: list[int] = []

    async def add(number: int) -> None:
        used.append((await world.books.add_lease(lease(account, number), ANCHOR, present=always)).used_bytes)

    async with trio.open_nursery() as nursery:
        for number in range(500):
            nursery.start_soon(add, number)
    assert sorted(used) == [100 * (number + 1) for number in range(500)]
    assert all(await world.books.held(account.account_id, [share_id(number) for number in range(500)]))
    assert world.books.commits - before <= 5


async def test_writes_a_few_steps_apart_share_a_commit(world: World) -> None:
    """As those of the requests of one packet are, while nobody else writes."""
    account = await world.renting()
    before = world.books.commits

    async def add(number: int) -> None:
        for _ in range(number):
            await trio.lowlevel.checkpoint()
        await world.books.add_lease(lease(account, number), ANCHOR, present=always)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(add, number)
    assert world.books.commits - before == 1


async def test_one_bad_lease_among_many_fails_alone(world: World) -> None:
    account, poor = await world.renting(), await world.renting(50)
    errors: dict[int, type[Exception]] = {}

    def present(which: ShareId) -> bool:
        if which == share_id(2):
            raise OSError("the disk fails")
        return which != share_id(1)

    async def add(number: int, owner: object) -> None:
        try:
            await world.books.add_lease(lease(owner, number), ANCHOR, present=present)  # type: ignore[arg-type]
        except (OSError, BooksRefused) as exc:
            errors[number] = type(exc)

    gate = Gate(world)
    async with trio.open_nursery() as nursery, gate:
        for number in range(10):
            nursery.start_soon(add, number, poor if number == 3 else account)
        await trio.testing.wait_all_tasks_blocked()
        before = world.books.commits
    assert world.books.commits - before == 2, "the gate's and the ten's"
    assert errors == {1: FileNotFoundError, 2: OSError, 3: BooksRefused}
    assert (await world.now_is(account)).shares == 7


async def test_a_failing_write_undoes_itself_and_leaves_its_neighbours_alone(world: World) -> None:
    clients = [Identity.generate() for _ in range(3)]
    writer = world.books._database.writer
    raised: list[str] = []

    async def fail() -> None:
        def work(connection: Connection) -> None:
            connection.execute(text("UPDATE pay_cursor SET pay_index = 99"))
            raise LookupError("halfway")

        try:
            await writer.write(work)
        except LookupError as exc:
            raised.append(str(exc))

    async def open_(client: Identity) -> None:
        await world.books.open_account(agreement(client), ANCHOR)

    gate = Gate(world)
    async with trio.open_nursery() as nursery, gate:
        nursery.start_soon(open_, clients[0])
        nursery.start_soon(fail)
        nursery.start_soon(open_, clients[1])
        await trio.testing.wait_all_tasks_blocked()
    assert raised == ["halfway"]
    assert await world.books.pay_index() == 0
    assert len(await world.books.accounts()) == 2


async def test_a_write_that_was_not_begun_is_withdrawn_when_its_caller_is_cancelled(world: World) -> None:
    client = Identity.generate()
    gate = Gate(world)
    async with trio.open_nursery() as nursery, gate:

        async def open_() -> None:
            with trio.move_on_after(0) as scope:
                await world.books.open_account(agreement(client), ANCHOR)
            assert scope.cancelled_caught

        nursery.start_soon(open_)
        await trio.testing.wait_all_tasks_blocked()
    assert await world.books.accounts() == []


async def test_a_write_that_was_begun_ends_before_its_cancelled_caller_leaves(world: World) -> None:
    writer = world.books._database.writer
    token = trio.lowlevel.current_trio_token()
    with trio.CancelScope() as scope:

        def work(connection: Connection) -> str:
            token.run_sync_soon(scope.cancel)
            connection.execute(text("UPDATE pay_cursor SET pay_index = 7"))
            return "done"

        assert await writer.write(work) == "done"
    assert await world.books.pay_index() == 7


async def test_the_next_waiting_caller_writes_after_the_first_was_cancelled(world: World) -> None:
    """Withdrawing the first in line must not take the turn of those behind it."""
    gate = Gate(world)
    async with trio.open_nursery() as nursery, gate:
        first = trio.CancelScope()

        async def cancelled() -> None:
            with first:
                await world.books.open_account(agreement(Identity.generate()), ANCHOR)

        nursery.start_soon(cancelled)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(world.opened)
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
        await trio.testing.wait_all_tasks_blocked()
    assert len(await world.books.accounts()) == 1


async def test_reads_do_not_wait_for_the_writer(world: World) -> None:
    account = await world.renting()
    async with Gate(world):
        with trio.fail_after(5):
            assert await world.books.may_write(account.account_id, 1, ANCHOR) == account
            assert await world.books.accounts() == [account]


async def test_when_the_disk_is_full_every_caller_of_the_commit_is_told_and_nothing_is_kept(world: World) -> None:
    account = await world.renting()
    writer = world.books._database.writer
    await writer.write(lambda connection: None)
    writer._connection.exec_driver_sql("PRAGMA max_page_count = 1")
    writer._connection.rollback()
    failed: set[int] = set()

    async def add(number: int) -> None:
        try:
            await world.books.add_lease(lease(account, number, tokens=bytes(384)), ANCHOR, present=always)
        except StorageFull:
            failed.add(number)

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(add, number)
    assert len(failed) >= 99, "a lease alone may still find room"
    held = await world.books.held(account.account_id, [share_id(number) for number in range(100)])
    assert held == [number not in failed for number in range(100)]
    writer._connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    writer._connection.rollback()
    await world.books.add_lease(lease(account, 1000), ANCHOR, present=always)


async def test_two_processes_take_turns(tmp_path: Path) -> None:
    """Two books over one file stand for two processes: SQLite locks between connections just the same."""
    async with SqlBooks.open(file_in(tmp_path)) as one, SqlBooks.open(file_in(tmp_path)) as two:
        account = await World(one).renting(10_000)
        async with trio.open_nursery() as nursery:
            for number in range(40):

                async def add(number: int = number) -> None:
                    books = one if number % 2 else two
                    await books.add_lease(lease(account, number), ANCHOR, present=always)

                nursery.start_soon(add)
        assert (await World(two).now_is(account)).shares == 40


async def test_a_lock_held_for_too_long_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lnstore.books.database.BUSY_SECONDS", 0.05)
    async with SqlBooks.open(file_in(tmp_path)) as one, SqlBooks.open(file_in(tmp_path)) as two:
        async with Gate(World(one)):
            with pytest.raises(BooksUnusable, match="another program"):
                await World(two).opened()
        await World(two).opened()
