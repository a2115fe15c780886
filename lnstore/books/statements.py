"""What the ledger says: balances at a date, postings, income by month; and write-offs."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, func, literal, select, union_all

from lnstore.books.database import Database
from lnstore.books.ledger import make_ledger_accounts, post
from lnstore.books.rows import AnySelect, account_of, needed_row
from lnstore.books.rules import EARNING, WRITE_OFF, write_off_entry
from lnstore.books.schema import holders, ledger_accounts, postings
from lnstore.ports import Income, Posting
from lnstore_protocol.ids import AccountId, Msat

ENDLESS = 1 << 62
"""A time that never comes."""


class SqlLedger:
    """ports.LedgerBooks."""

    _database: Database

    async def balances(self, *, until_at: int | None = None) -> dict[str, Msat]:
        """Debits less credits by ledger account, added up from every posting; they add up to 0."""
        return await self._database.read(lambda connection: _balances(connection, until_at))

    async def postings(
        self, *, after_posting_id: int, limit: int, from_at: int | None = None, until_at: int | None = None
    ) -> list[Posting]:
        """Postings in order."""
        of = {"after": after_posting_id, "limit": limit, **_span(from_at, until_at)}
        rows = await self._database.read(lambda connection: connection.execute(_POSTINGS, of).all())
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

    async def income(
        self, *, from_at: int | None = None, until_at: int | None = None, by_account: bool = False
    ) -> list[Income]:
        """What was earned in each month, by kind and, with `by_account`, by account; refunds count below 0."""
        query = _INCOME_BY_ACCOUNT if by_account else _INCOME
        of = _span(from_at, until_at)
        rows = await self._database.read(lambda connection: connection.execute(query, of).all())
        return [
            Income(
                month=row.month,
                kind=row.kind,
                account_id=AccountId.from_hex(row.account_hex) if by_account else None,
                amount_msat=Msat(row.amount_msat),
            )
            for row in rows
        ]

    async def petnames(self) -> dict[str, str]:
        """What the operator calls accounts, by their id in hex: those that have a petname."""
        rows = await self._database.read(lambda connection: connection.execute(_PETNAMES).all())
        return {row.account_id.hex(): row.petname for row in rows}

    async def write_off(self, account_id: AccountId, now: int, *, after_seconds: int, reason: str) -> Msat:  # RC-W5
        """Take the deposit of an account that lapsed at least `after_seconds` ago as income; how much it was.

        BooksRefused when the account has not lapsed, not so long ago, or has no deposit.
        """

        def work(connection: Connection) -> Msat:
            row = needed_row(connection, account_id)
            entry = write_off_entry(account_of(row), now, after_seconds=after_seconds)
            make_ledger_accounts(connection, [entry.credit])
            earlier = connection.execute(_WRITTEN_OFF, {"like": f"{_write_off_reference(account_id)}%"}).scalar_one()
            reference = f"{_write_off_reference(account_id)}{earlier}: {reason}"
            post(connection, [entry], at=now, reference=reference)
            return Msat(entry.amount_msat)

        return await self._database.writer.write(work)


_PETNAMES = select(holders.c.account_id, holders.c.petname).where(holders.c.petname.is_not(None))


def _write_off_reference(account_id: AccountId) -> str:
    return f"{WRITE_OFF}/{account_id.hex()}/"


def _span(from_at: int | None, until_at: int | None) -> dict[str, int]:
    return {"from_at": -ENDLESS if from_at is None else from_at, "until_at": ENDLESS if until_at is None else until_at}


_IN_SPAN = (postings.c.at >= bindparam("from_at")) & (postings.c.at < bindparam("until_at"))
_debit, _credit = ledger_accounts.alias(), ledger_accounts.alias()
_POSTINGS = (
    select(postings, _debit.c.name.label("debit_name"), _credit.c.name.label("credit_name"))
    .join(_debit, _debit.c.ledger_account == postings.c.debit)
    .join(_credit, _credit.c.ledger_account == postings.c.credit)
    .where(postings.c.posting > bindparam("after"), _IN_SPAN)
    .order_by(postings.c.posting)
    .limit(bindparam("limit"))
)
_WRITTEN_OFF = (
    select(func.count())
    .select_from(postings)
    .where(postings.c.kind == WRITE_OFF, postings.c.reference.like(bindparam("like")))
)


def _income_query(*, by_account: bool) -> AnySelect:
    """Income accounts are credited when something is earned, and debited when it is given back."""
    name, colon = ledger_accounts.c.name, func.instr(ledger_accounts.c.name, ":")
    month = func.strftime("%Y-%m", postings.c.at, "unixepoch").label("month")
    kind = func.substr(name, 1, colon - 1).label("kind")
    account = func.substr(name, colon + 1).label("account_hex")
    sides = union_all(
        *(
            select(month, kind, account, (sign * postings.c.amount_msat).label("amount_msat"))
            .join(ledger_accounts, ledger_accounts.c.ledger_account == side)
            .where(_IN_SPAN, kind.in_([one.value for one in EARNING]))
            for side, sign in ((postings.c.credit, 1), (postings.c.debit, -1))
        )
    ).subquery()
    by = [sides.c.month, sides.c.kind, *([sides.c.account_hex] if by_account else [])]
    return select(*by, func.sum(sides.c.amount_msat).label("amount_msat")).group_by(*by).order_by(*by)


_INCOME, _INCOME_BY_ACCOUNT = _income_query(by_account=False), _income_query(by_account=True)

_BALANCES = union_all(
    select(ledger_accounts.c.name, literal(0).label("balance_msat")),
    *(
        select(ledger_accounts.c.name, sign * func.sum(postings.c.amount_msat))
        .join(ledger_accounts, ledger_accounts.c.ledger_account == side)
        .where(postings.c.at < bindparam("until_at"))
        .group_by(side)
        for side, sign in ((postings.c.debit, 1), (postings.c.credit, -1))
    ),
)
"""One statement, so that all of it is of one moment."""


def _balances(connection: Connection, until_at: int | None) -> dict[str, Msat]:
    totals: dict[str, int] = {}
    for name, part in connection.execute(_BALANCES, {"until_at": ENDLESS if until_at is None else until_at}):
        totals[name] = totals.get(name, 0) + part
    return {name: Msat(total) for name, total in sorted(totals.items())}
