"""The ledger in SQL: postings, sums, and the closings that keep sums short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from lnstore.books.database import Database
from lnstore.books.rules import Entry
from lnstore.books.schema import closings, ledger_accounts, postings
from lnstore.ports import Posting
from lnstore_protocol.ids import Msat

POSTINGS_PER_CLOSING = 1_000
"""How many postings of a ledger account are added up at most before a closing is due."""


def ledger_account(connection: Connection, name: str) -> int:
    """The key of the ledger account called `name`, made when it is new."""
    found = connection.execute(select(ledger_accounts.c.ledger_account).where(ledger_accounts.c.name == name)).scalar()
    if found is not None:
        return int(found)
    made = ledger_accounts.insert().values(name=name).returning(ledger_accounts.c.ledger_account)
    return int(connection.execute(made).scalar_one())


def post(connection: Connection, entries: Sequence[Entry], *, at: int, reference: str) -> None:
    """Add the postings. The same kind twice for one reference is an IntegrityError: it was posted before."""
    if not entries:
        return
    names = {name for entry in entries for name in (entry.debit, entry.credit)}
    keys = {name: ledger_account(connection, name) for name in sorted(names)}
    connection.execute(
        postings.insert(),
        [
            {
                "at": at,
                "kind": entry.kind,
                "debit": keys[entry.debit],
                "credit": keys[entry.credit],
                "amount_msat": entry.amount_msat,
                "reference": reference,
            }
            for entry in entries
        ],
    )


def balance(key: Any) -> ColumnElement[int]:
    """Debits less credits of the ledger account `key` (a column or a number): the last closing and what came after."""
    last = closings.alias()
    closed = select(last.c.balance_msat).where(last.c.ledger_account == key).order_by(last.c.posting.desc()).limit(1)
    return func.coalesce(closed.scalar_subquery(), 0) + _since(postings.c.debit, key) - _since(postings.c.credit, key)


def _since(side: ColumnElement[int], key: Any) -> ColumnElement[int]:
    last = closings.alias()
    closed = select(func.max(last.c.posting)).where(last.c.ledger_account == key)
    return (
        select(func.coalesce(func.sum(postings.c.amount_msat), 0))
        .where(side == key, postings.c.posting > func.coalesce(closed.scalar_subquery(), 0))
        .scalar_subquery()
    )


def close(connection: Connection, key: int) -> None:
    """Write a closing for the ledger account when enough postings came after its last one."""
    last = select(func.coalesce(func.max(closings.c.posting), 0)).where(closings.c.ledger_account == key)
    since = connection.execute(last).scalar_one()
    count = sum(
        connection.execute(
            select(func.count()).select_from(postings).where(side == key, postings.c.posting > since)
        ).scalar_one()
        for side in (postings.c.debit, postings.c.credit)
    )
    if count >= POSTINGS_PER_CLOSING:
        newest = connection.execute(select(func.max(postings.c.posting))).scalar_one()
        value = connection.execute(select(balance(key))).scalar_one()
        connection.execute(closings.insert(), {"ledger_account": key, "posting": newest, "balance_msat": value})


class SqlLedger:
    """ports.LedgerBooks."""

    _database: Database

    async def balances(self) -> dict[str, Msat]:
        """Debits less credits by ledger account, added up from every posting; they add up to 0."""
        return await self._database.read(_balances)

    async def postings(self, *, after_posting_id: int, limit: int) -> list[Posting]:
        """Postings in order."""
        debit, credit = ledger_accounts.alias(), ledger_accounts.alias()
        query = (
            select(postings, debit.c.name.label("debit_name"), credit.c.name.label("credit_name"))
            .join(debit, debit.c.ledger_account == postings.c.debit)
            .join(credit, credit.c.ledger_account == postings.c.credit)
            .where(postings.c.posting > after_posting_id)
            .order_by(postings.c.posting)
            .limit(limit)
        )
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [
            Posting(
                posting_id=row.posting,
                at=row.at,
                kind=row.kind,
                debit=row.debit_name,
                credit=row.credit_name,
                amount_msat=Msat(row.amount_msat),
                reference=row.reference,
            )
            for row in rows
        ]


def _balances(connection: Connection) -> dict[str, Msat]:
    totals = {
        name: Msat(0) for (name,) in connection.execute(select(ledger_accounts.c.name).order_by(ledger_accounts.c.name))
    }
    for side, sign in ((postings.c.debit, 1), (postings.c.credit, -1)):
        query = (
            select(ledger_accounts.c.name, func.sum(postings.c.amount_msat))
            .join(ledger_accounts, ledger_accounts.c.ledger_account == side)
            .group_by(side)
        )
        for name, total in connection.execute(query):
            totals[name] = Msat(totals[name] + sign * total)
    return totals
