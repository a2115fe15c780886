"""The ledger in SQL: postings, and the closings that keep sums short."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Connection, bindparam, func, select
from sqlalchemy.dialects.sqlite import insert

from lnstore.books.rules import Entry
from lnstore.books.schema import closings, ledger_accounts, postings

POSTINGS_PER_CLOSING = 1_000
"""How many postings of a ledger account are added up at most before a closing is due."""


_KEYS = select(ledger_accounts.c.name, ledger_accounts.c.ledger_account).where(
    ledger_accounts.c.name.in_(bindparam("names", expanding=True))
)
_NEW_KEY = insert(ledger_accounts).on_conflict_do_nothing()
_POST = postings.insert()


def make_ledger_accounts(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    """The keys of the ledger accounts with these names, made when they are new."""
    connection.execute(_NEW_KEY, [{"name": name} for name in names])
    return _keys(connection, names)


def _keys(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    return {row.name: row.ledger_account for row in connection.execute(_KEYS, {"names": list(names)})}


def post(connection: Connection, entries: Sequence[Entry], *, at: int, reference: str) -> None:
    """Add the postings. The same kind twice for one reference is an IntegrityError: it was posted before."""
    if not entries:
        return
    keys = _keys(connection, {name for entry in entries for name in (entry.debit, entry.credit)})
    connection.execute(
        _POST,
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


def _count_since(side: ColumnElement[int], key: Any) -> ColumnElement[int]:
    closed = select(func.max(closings.c.posting)).where(closings.c.ledger_account == key)
    return (
        select(func.count())
        .where(side == key, postings.c.posting > func.coalesce(closed.scalar_subquery(), 0))
        .scalar_subquery()
    )


_KEY: BindParameter[int] = bindparam("key", type_=postings.c.debit.type)
_UNCLOSED = select(_count_since(postings.c.debit, _KEY) + _count_since(postings.c.credit, _KEY))
_STATE = select(
    balance(_KEY).label("balance_msat"), select(func.max(postings.c.posting)).scalar_subquery().label("last")
)


def close(connection: Connection, key: int) -> None:
    """Write a closing for the ledger account when enough postings came after its last one."""
    if connection.execute(_UNCLOSED, {"key": key}).scalar_one() < POSTINGS_PER_CLOSING:
        return
    state = connection.execute(_STATE, {"key": key}).one()
    connection.execute(
        closings.insert(), {"ledger_account": key, "posting": state.last, "balance_msat": state.balance_msat}
    )
