"""Power fails before every single statement of paying for reading: nothing is read unpaid, nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from books_world import ANCHOR, EGRESS, GIB, World, deposit, file_in, sound
from sqlalchemy import event

from lnstore.books import SqlBooks
from lnstore.ports import Account
from lnstore_protocol.terms import traffic_msat

DEPOSIT = 5 * EGRESS
STEPS = ((2 * GIB, GIB // 2),)
"""Bytes held and bytes then read."""


@contextmanager
def watched(books: SqlBooks, before: Callable[[], None]) -> Iterator[None]:
    """`before` is called before every statement that is written through these books."""

    def called(*_args: Any) -> None:
        before()

    event.listen(books._database._writing, "before_cursor_execute", called)
    yield
    event.remove(books._database._writing, "before_cursor_execute", called)


def copied(source: Path, target: Path) -> Path:
    """The database as the disk has it now."""
    for end in ("", "-wal"):
        if (file := source.with_name(source.name + end)).exists():
            shutil.copy(file, target.with_name(target.name + end))
    return target


async def test_power_that_fails_anywhere_loses_nothing_and_gives_nothing_away(tmp_path: Path) -> None:
    """R-W23, R-W25: what was read is charged, at most what was held, once, also if starting again is cut short."""
    left: list[tuple[Path, int, int]] = []
    held_bytes = read_bytes = 0
    async with SqlBooks.open(file_in(tmp_path)) as books:
        account = await World(books).opened()
        await World(books).pay(deposit(account, DEPOSIT, ANCHOR))

        def fail() -> None:
            file = copied(file_in(tmp_path), tmp_path / f"{len(left)}.db")
            left.append((file, held_bytes, read_bytes))

        with watched(books, fail):
            for held, used in STEPS:
                held_bytes += held
                hold = await books.hold_egress(account.account_id, held, ANCHOR)
                read_bytes += used
                await books.settle_egress(hold, used, ANCHOR)
    assert len(left) > 8
    for number, (file, held, read) in enumerate(left):
        again: list[Path] = []
        async with SqlBooks.open(file) as books:

            def fail_again(number: int = number, file: Path = file, again: list[Path] = again) -> None:
                again.append(copied(file, file.with_name(f"again{number}-{len(again)}.db")))

            with watched(books, fail_again):
                await books.settle_orphaned_holds(ANCHOR + 1)
            await _all_is_well(books, account, held, read)
        if again:
            async with SqlBooks.open(again[number % len(again)]) as books:
                await books.settle_orphaned_holds(ANCHOR + 2)
                await _all_is_well(books, account, held, read)


async def _all_is_well(books: SqlBooks, account: Account, held: int, read: int) -> None:
    deposit_msat = (await World(books).now_is(account)).deposit_msat
    balances = await books.balances()
    assert deposit_msat >= 0
    assert balances[f"hold:{account.account_id.hex()}"] == 0
    assert deposit_msat - balances[f"egress:{account.account_id.hex()}"] == DEPOSIT
    assert traffic_msat(read, EGRESS) <= DEPOSIT - deposit_msat <= traffic_msat(held, EGRESS)
    assert await books.differences() == []
    await sound(books)
