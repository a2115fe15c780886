"""`python -m bench.billing`: one pass of a node's billing, alone and beside traffic, with many accounts.

The books are a node's own (SQLite, synced). All accounts rent and are paid until different times; those that are due
are so since a second. Traffic is what requests do to the books: clients that look at their account and add a lease, as
fast as they can. lightningd has no part in a pass: rent invoices are made when clients ask for them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio
from sqlalchemy import Connection, func, select

from lnstore.books import SqlBooks
from lnstore.books.accounts import BILLED_TOGETHER
from lnstore.books.database import Database
from lnstore.books.schema import accounts, holders, ledger_accounts
from lnstore.ports import NewLease
from lnstore_protocol.ids import AccountId, ShareId
from lnstore_protocol.messages import AccountState

NOW = 1_800_000_000
PERIOD, GRACE = 2_592_000, 604_800
CLIENTS = 16
WARM_UP_SECONDS = 2.0


@dataclass
class Traffic:
    """Seconds of each request, and until when they go on."""

    seconds: list[float] = field(default_factory=list)
    going: bool = True

    def p(self, percent: int) -> float:
        """This percentile, in milliseconds."""
        return 1000 * statistics.quantiles(self.seconds, n=100)[percent - 1] if len(self.seconds) > 1 else 0.0


def account_id(number: int) -> AccountId:
    """The id of an account of this benchmark."""
    return AccountId(number.to_bytes(32, "big"))


def furnish(connection: Connection, ids: Sequence[AccountId], due: int = 0, *, now: int = NOW) -> list[int]:
    """Accounts that rent a TiB each; the first `due` were paid until a second ago. Their numbers in the books."""
    count = len(ids)
    deposits, numbers = (
        range(first, first + count)
        for first in (
            connection.execute(select(func.coalesce(func.max(column), 0) + 1)).scalar_one()
            for column in (ledger_accounts.c.ledger_account, accounts.c.account)
        )
    )
    ledger = [{"ledger_account": n, "name": f"deposit:{of.hex()}"} for n, of in zip(deposits, ids, strict=True)]
    connection.execute(ledger_accounts.insert(), ledger)
    holder = {"petname": None, "quota_bytes": None, "free": 0, "blocked": 0}
    known = {column.name for column in holders.c}
    connection.execute(
        holders.insert(),
        [
            {k: v for k, v in (holder | {"account_id": of, "petname": f"account {n}"}).items() if k in known}
            for n, of in enumerate(ids)
        ],
    )
    values = []
    for n, of in enumerate(ids):
        paid_until = now - 1 if n < due else now + 1 + (n + 1) * PERIOD // count
        values.append(
            {
                "account": numbers[n],
                "account_id": of,
                "superseded": 0,
                "deposit": deposits[n],
                "agreement": b"",
                "opened_at": paid_until - PERIOD,
                "state": int(AccountState.ACTIVE),
                "anchor_at": paid_until - PERIOD,
                "period_seconds": PERIOD,
                "grace_seconds": GRACE,
                "price_msat_per_gib_month": 2000,
                "egress_msat_per_gib": 1000,
                "ingress_msat_per_gib": 0,
                "agreed_period": 0,
                "capacity_bytes": 1 << 40,
                "used_bytes": 0,
                "shares": 0,
                "paid_until_at": paid_until,
                "token_index": 0,
                "growth_index": 1,
                "deposit_index": 0,
                "ingress_bytes": 0,
                "egress_bytes": 0,
                # All others were looked at: their next stage is to come.
                "look_at": paid_until if n < due else max(paid_until, now + 3600),
            }
        )
    connection.execute(accounts.insert(), values)
    return list(numbers)


async def ask(books: SqlBooks, number: int, traffic: Traffic) -> None:
    """One client of an account that is not due, for as long as there is traffic."""
    of, share = account_id(number), number << 32
    while traffic.going:
        started = time.perf_counter()
        await books.account(of)
        share += 1
        lease = NewLease(
            account_id=of,
            share_id=ShareId(share.to_bytes(32, "big")),
            size_bytes=1000,
            token_start=0,
            tokens=bytes(384),
        )
        await books.add_lease(lease, NOW, present=lambda _: True)
        traffic.seconds.append(time.perf_counter() - started)


async def measure(directory: Path, count: int, due: int, *, clients: int) -> dict[str, float]:
    """Seconds of one pass, and what the traffic beside it noticed."""
    database = Database(directory / f"{clients}.db")
    books = SqlBooks(database)
    ids = [account_id(number) for number in range(count)]
    await database.writer.write(lambda connection: furnish(connection, ids, due))
    beside, before = Traffic(), Traffic()
    async with trio.open_nursery() as nursery:
        for client in range(clients):
            nursery.start_soon(ask, books, count - 1 - client, before)
        await trio.sleep(WARM_UP_SECONDS if clients else 0)
        before.going = False
    async with trio.open_nursery() as nursery:
        for client in range(clients):
            nursery.start_soon(ask, books, count - 1 - CLIENTS - client, beside)
        started = time.perf_counter()
        looks = await books.advance(NOW)
        seconds = time.perf_counter() - started
        beside.going = False
    passed = [look for look in looks if look.account.state is AccountState.GRACE]
    if len(passed) != due:
        raise AssertionError(f"{len(passed)} of {due} accounts were billed")
    started = time.perf_counter()
    if await books.advance(NOW):
        raise AssertionError("a second pass found something")
    idle = time.perf_counter() - started
    database.close()
    return {
        "seconds": seconds,
        "seconds_of_a_pass_with_nothing_due": idle,
        "requests_beside": len(beside.seconds),
        "p99_ms_before": before.p(99),
        "p99_ms_beside": beside.p(99),
    }


def main(arguments: list[str] | None = None, tell: Callable[[str], None] = print) -> None:
    """Measure, and print a line each, or one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m bench.billing", description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--due", type=int, default=1_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    os.sync()
    with tempfile.TemporaryDirectory(prefix="lnstore-billing-") as directory:
        results = {
            name: trio.run(partial(measure, Path(directory), given.accounts, given.due, clients=clients))
            for name, clients in (("alone", 0), ("beside traffic", CLIENTS))
        }
    if given.json:
        tell(json.dumps({"accounts": given.accounts, "due": given.due, **results}))
        return
    tell(f"{given.due:,} due of {given.accounts:,} accounts, at most {BILLED_TOGETHER} in a transaction")
    for name, found in results.items():
        idle_ms = 1000 * found["seconds_of_a_pass_with_nothing_due"]
        tell(f"{name}: {found['seconds']:.3f} s; a pass that finds nothing {idle_ms:.1f} ms")
    found = results["beside traffic"]
    tell(
        f"{CLIENTS} clients meanwhile: p99 of a request {found['p99_ms_beside']:.1f} ms, "
        f"{found['p99_ms_before']:.1f} ms without the pass; {found['requests_beside']:.0f} requests answered"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
