"""Leases: who may take one, what is counted, and what the sweep may delete."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from books_world import ANCHOR, GIB, GRACE, PERIOD, World, a_world, always, lease, rent, share_id

from lnstore.books.leases import IDS_PER_QUERY, SWEEP_STEP
from lnstore.ports import Account, BooksRefused
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId, ShareId


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as world:
        yield world


class Disk:
    """Shares that are there."""

    def __init__(self, *numbers: int) -> None:
        self.ids = {share_id(number) for number in numbers}

    def present(self, which: ShareId) -> bool:
        return which in self.ids

    def delete(self, which: ShareId) -> None:
        self.ids.discard(which)


async def put(world: World, account: Account, *numbers: int, size_bytes: int = 100) -> None:
    async with trio.open_nursery() as nursery:
        for number in numbers:

            async def add(number: int = number) -> None:
                await world.books.add_lease(lease(account, number, size_bytes), ANCHOR, present=always)

            nursery.start_soon(add)


async def test_a_lease_counts_towards_the_capacity(world: World) -> None:
    account = await world.renting(250)
    assert (await world.books.add_lease(lease(account, 1), ANCHOR, present=always)).used_bytes == 100
    assert (await world.books.add_lease(lease(account, 2), ANCHOR, present=always)).used_bytes == 200
    with pytest.raises(BooksRefused) as refused:
        await world.books.add_lease(lease(account, 3), ANCHOR, present=always)
    assert refused.value.code is ErrorCode.CAPACITY_EXCEEDED
    now = await world.now_is(account)
    assert (now.used_bytes, now.shares, now.ingress_bytes) == (200, 2, 200)


async def test_the_same_share_again_replaces_its_tokens_and_fills_nothing(world: World) -> None:
    account = await world.renting(100)
    await world.books.add_lease(lease(account, 1), ANCHOR, present=always)
    again = lease(account, 1, token_start=7, tokens=b"new" * 8)
    assert (await world.books.add_lease(again, ANCHOR, present=always)).used_bytes == 100
    (kept,) = await world.books.leases(account.account_id, after=None, limit=9)
    assert (kept.share_id, kept.size_bytes, kept.token_start, kept.tokens) == (share_id(1), 100, 7, b"new" * 8)
    now = await world.now_is(account)
    assert (now.used_bytes, now.shares, now.ingress_bytes) == (100, 1, 100)


async def test_a_share_that_is_not_there_any_more_gets_no_lease(world: World) -> None:
    account = await world.renting()
    with pytest.raises(FileNotFoundError):
        await world.books.add_lease(lease(account, 1), ANCHOR, present=Disk().present)
    assert (await world.now_is(account)).shares == 0


@pytest.mark.parametrize(("seconds", "code"), [(0, ErrorCode.IN_GRACE), (GRACE, ErrorCode.LAPSED)])
async def test_an_overdue_account_may_not_write(world: World, seconds: int, code: ErrorCode) -> None:
    account = await world.renting()
    await world.books.advance(ANCHOR + PERIOD + seconds)
    with pytest.raises(BooksRefused) as early:
        await world.books.may_write(account.account_id, 1, ANCHOR)
    with pytest.raises(BooksRefused) as late:
        await world.books.add_lease(lease(account, 1), ANCHOR + PERIOD + seconds, present=always)
    assert early.value.code is late.value.code is code


async def test_may_write_says_early_what_add_lease_would_say(world: World) -> None:
    account = await world.renting(100)
    assert await world.books.may_write(account.account_id, 100, ANCHOR) == account
    with pytest.raises(BooksRefused) as refused:
        await world.books.may_write(account.account_id, 101, ANCHOR)
    assert refused.value.code is ErrorCode.CAPACITY_EXCEEDED


async def test_who_has_no_account_is_told_so(world: World) -> None:
    nobody = AccountId(bytes(32))
    with pytest.raises(BooksRefused) as may:
        await world.books.may_write(nobody, 1, ANCHOR)
    with pytest.raises(BooksRefused) as drop:
        await world.books.drop_leases(nobody, [share_id(1)])
    assert may.value.code is drop.value.code is ErrorCode.NO_ACCOUNT
    assert await world.books.held(nobody, [share_id(1)]) == [False]
    assert await world.books.leased_ids(nobody) == b""


async def test_capacity_is_never_exceeded_by_callers_at_the_same_time(world: World) -> None:
    account = await world.renting(1_000)
    refused = 0

    async def add(number: int) -> None:
        nonlocal refused
        try:
            await world.books.add_lease(lease(account, number), ANCHOR, present=always)
        except BooksRefused:
            refused += 1

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(add, number % 30)
    now = await world.now_is(account)
    assert (now.used_bytes, now.shares) == (1_000, 10)
    assert refused > 0


async def test_dropping_ends_leases_and_frees_capacity(world: World) -> None:
    account = await world.renting()
    await put(world, account, 1, 2, 3)
    assert await world.books.drop_leases(account.account_id, [share_id(1), share_id(3), share_id(99)]) == (2, 100)
    assert await world.books.drop_leases(account.account_id, [share_id(1)]) == (0, 100)
    assert await world.books.held(account.account_id, [share_id(n) for n in (1, 2, 3)]) == [False, True, False]


async def test_long_lists_of_ids_are_answered_whole_and_in_order(world: World) -> None:
    account = await world.renting()
    count = IDS_PER_QUERY + 10
    await put(world, account, *range(0, 2 * count, 2))
    asked = [share_id(number) for number in range(2 * count)]
    assert await world.books.held(account.account_id, asked) == [number % 2 == 0 for number in range(2 * count)]
    found = await world.books.lease_tokens(account.account_id, asked)
    assert set(found) == {share_id(number) for number in range(0, 2 * count, 2)}
    ids = await world.books.leased_ids(account.account_id)
    assert ids == b"".join(sorted(found))
    assert (await world.books.drop_leases(account.account_id, asked))[0] == count


async def test_leases_are_paged_in_ascending_order(world: World) -> None:
    account, other = await world.renting(), await world.renting()
    await put(world, account, *range(10))
    await put(world, other, *range(5, 15))
    expected = sorted(share_id(number) for number in range(10))
    first = await world.books.leases(account.account_id, after=None, limit=4)
    rest = await world.books.leases(account.account_id, after=first[-1].share_id, limit=100)
    assert [found.share_id for found in first + rest] == expected


async def test_the_sweep_deletes_what_nobody_leases_and_nothing_else(world: World) -> None:  # MB-R20
    account, other = await world.renting(), await world.renting()
    disk = Disk(1, 2, 3)
    await put(world, account, 1, 2)
    await put(world, other, 2, 3)
    await world.books.drop_leases(account.account_id, [share_id(1), share_id(2)])
    assert await world.books.sweep(delete=disk.delete, limit=100) == 1
    assert disk.ids == {share_id(2), share_id(3)}
    assert await world.books.sweep(delete=disk.delete, limit=100) == 0


async def test_a_share_leased_by_two_survives_the_lapse_of_one(world: World) -> None:  # MB-R20
    leaving, staying = await world.renting(), await world.renting()
    await world.pay(rent(staying))
    disk = Disk(1, 2)
    await put(world, leaving, 1, 2)
    await put(world, staying, 2)
    await world.books.advance(ANCHOR + PERIOD)
    assert await world.books.sweep(delete=disk.delete, limit=100) == 0, "in grace"
    await world.books.advance(ANCHOR + PERIOD + GRACE)
    assert await world.books.sweep(delete=disk.delete, limit=100) == 1
    assert disk.ids == {share_id(2)}
    now = await world.now_is(leaving)
    assert (now.used_bytes, now.shares) == (0, 0)


async def test_a_put_in_between_takes_the_share_back_from_the_sweep(world: World) -> None:
    account = await world.renting()
    disk = Disk(1)
    await put(world, account, 1)
    await world.books.drop_leases(account.account_id, [share_id(1)])
    await world.books.add_lease(lease(account, 1), ANCHOR, present=disk.present)
    assert await world.books.sweep(delete=disk.delete, limit=100) == 0
    assert disk.ids == {share_id(1)}


async def test_the_sweep_keeps_to_its_limit_and_to_small_transactions(world: World) -> None:
    account = await world.renting()
    count = SWEEP_STEP + 44
    disk = Disk(*range(count))
    await put(world, account, *range(count))
    await world.books.advance(ANCHOR + PERIOD + GRACE)
    assert await world.books.sweep(delete=disk.delete, limit=10) == 10
    commits = world.books.commits
    assert await world.books.sweep(delete=disk.delete, limit=10_000) == count - 10
    assert world.books.commits - commits == 2
    assert not disk.ids
    commits = world.books.commits
    assert await world.books.sweep(delete=disk.delete, limit=10_000) == 0
    assert world.books.commits == commits, "with nothing to do nothing is written"


async def test_a_share_that_could_not_be_deleted_is_tried_again(world: World) -> None:
    account = await world.renting()
    await put(world, account, 1)
    await world.books.drop_leases(account.account_id, [share_id(1)])

    def fail(_which: ShareId) -> None:
        raise OSError("the disk fails")

    with pytest.raises(OSError, match="the disk fails"):
        await world.books.sweep(delete=fail, limit=1)
    disk = Disk(1)
    assert await world.books.sweep(delete=disk.delete, limit=1) == 1
    assert not disk.ids


async def test_an_orphan_is_forgotten_unless_somebody_leases_it(world: World) -> None:
    account = await world.renting(GIB)
    disk = Disk(1, 2)
    await put(world, account, 1)
    assert not await world.books.forget_orphan(share_id(1), delete=disk.delete)
    assert await world.books.forget_orphan(share_id(2), delete=disk.delete)
    assert disk.ids == {share_id(1)}
