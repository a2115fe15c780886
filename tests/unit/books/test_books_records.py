"""Records: the newest of each name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from books_world import ANCHOR, World, a_world, deposit

from lnstore.books.records import RECORDS_OF_STRANGER, RECORDS_PER_ACCOUNT
from lnstore.ports import Account, BooksRefused
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId
from lnstore_protocol.terms import Record


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as world:
        yield world


async def keep(world: World, account: Account, sequence: int, encoded: bytes, name: bytes = b"catalog") -> None:
    record = Record(account_id=account.account_id, name=name, sequence=sequence, value=b"")
    await world.books.put_record(record, encoded)


async def test_a_newer_record_replaces_an_older_one_and_never_the_other_way(world: World) -> None:  # MB-R26
    account = await world.opened()
    assert await world.books.get_record(account.account_id, b"catalog") is None
    await keep(world, account, 5, b"five")
    await keep(world, account, 5, b"five")
    for sequence in (4, 5):
        with pytest.raises(BooksRefused) as refused:
            await keep(world, account, sequence, b"other")
        assert refused.value.code is ErrorCode.RECORD_STALE
    await keep(world, account, 7, b"seven")
    assert await world.books.get_record(account.account_id, b"catalog") == b"seven"


async def test_names_and_accounts_are_kept_apart(world: World) -> None:
    one, two = await world.opened(), await world.opened()
    await keep(world, one, 1, b"1a", b"a")
    await keep(world, one, 1, b"1b", b"b")
    await keep(world, two, 1, b"2a", b"a")
    found = [await world.books.get_record(account.account_id, name) for account in (one, two) for name in (b"a", b"b")]
    assert found == [b"1a", b"1b", b"2a", None]


async def test_records_need_an_account_and_are_limited(world: World) -> None:  # MB-R27
    account = await world.pay(deposit(await world.opened(), 1, ANCHOR))
    async with trio.open_nursery() as nursery:
        for number in range(RECORDS_PER_ACCOUNT):
            nursery.start_soon(keep, world, account, 1, b"x", b"%d" % number)
    with pytest.raises(BooksRefused) as full:
        await keep(world, account, 1, b"x", b"one more")
    assert full.value.code is ErrorCode.CAPACITY_EXCEEDED
    await keep(world, account, 2, b"y", b"0")
    with pytest.raises(BooksRefused) as nobody:
        await world.books.put_record(Record(account_id=AccountId(bytes(32)), name=b"", sequence=0, value=b""), b"")
    assert nobody.value.code is ErrorCode.NO_ACCOUNT


async def test_who_never_paid_keeps_few_records(world: World) -> None:  # S-W3
    account = await world.opened()
    for number in range(RECORDS_OF_STRANGER):
        await keep(world, account, 1, b"x", b"%d" % number)
    with pytest.raises(BooksRefused, match="before it paid") as full:
        await keep(world, account, 1, b"x", b"one more")
    assert full.value.code is ErrorCode.CAPACITY_EXCEEDED
    await keep(world, account, 2, b"y", b"0")
    await world.pay(deposit(account, 1, ANCHOR))
    await keep(world, account, 1, b"x", b"one more")
