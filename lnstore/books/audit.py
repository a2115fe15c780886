"""Adding everything up again: what the books say twice must agree, and what was recorded of each invoice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256

from sqlalchemy import Connection, bindparam, exists, func, literal, select, text

from lnstore.books.database import Database
from lnstore.books.ledger import balance
from lnstore.books.rows import AnyRow
from lnstore.books.rules import LIGHTNING, Ledger
from lnstore.books.schema import accounts, closings, holds, invoices, ledger_accounts, pay_cursor, postings
from lnstore.ports import Difference, Recorded
from lnstore_protocol.ids import Msat, PaymentHash

CREDITED_PAGE = 1_000


class SqlAudit:
    """ports.AuditBooks."""

    _database: Database

    async def differences(self) -> list[Difference]:
        """What the books say of themselves that does not agree; all of it of one moment."""

        def look(connection: Connection) -> list[Difference]:
            connection.execute(text("BEGIN"))  # ended by the reader's rollback
            return [
                *_closings(connection),
                *_overdrawn(connection),
                *_holds(connection),
                *_lightning(connection),
                *_cursor(connection),
            ]

        return await self._database.read(look)

    async def recorded(self, labels: Sequence[str]) -> dict[str, Recorded]:
        """What the books have of the invoices with these labels, by label."""
        of = {"labels": list(labels)}
        rows = await self._database.read(lambda connection: connection.execute(_OF_LABELS, of).all())
        return {row.label: _recorded(row) for row in rows}

    async def credited_since(self, pay_index: int, *, until: int) -> list[Recorded]:
        """The next credited invoices with a greater pay index, `until` included, in order; none at the end."""
        of = {"after": pay_index, "until": until}
        rows = await self._database.read(lambda connection: connection.execute(_CREDITED, of).all())
        return [_recorded(row) for row in rows]


_RECEIVED = (
    select(func.coalesce(func.sum(postings.c.amount_msat), 0))
    .join(ledger_accounts, ledger_accounts.c.ledger_account == postings.c.debit)
    .where(postings.c.reference == invoices.c.label, ledger_accounts.c.name == LIGHTNING)
    .scalar_subquery()
)
_RECORDED = select(invoices.c.label, invoices.c.preimage, invoices.c.pay_index, _RECEIVED.label("received_msat"))
_OF_LABELS = _RECORDED.where(invoices.c.label.in_(bindparam("labels", expanding=True)))
_CREDITED = (
    _RECORDED.where(invoices.c.pay_index > bindparam("after"), invoices.c.pay_index <= bindparam("until"))
    .order_by(invoices.c.pay_index)
    .limit(CREDITED_PAGE)
)


def _recorded(row: AnyRow) -> Recorded:
    return Recorded(
        label=row.label,
        payment_hash=PaymentHash(sha256(row.preimage).digest()),
        pay_index=row.pay_index,
        received_msat=Msat(row.received_msat),
    )


_OF = closings.c.ledger_account
_spans = select(
    closings.c.ledger_account.label("of"),
    func.lag(closings.c.posting, 1, 0).over(partition_by=_OF, order_by=closings.c.posting).label("after"),
    closings.c.posting.label("last"),
    (
        closings.c.balance_msat
        - func.lag(closings.c.balance_msat, 1, 0).over(partition_by=_OF, order_by=closings.c.posting)
    ).label("said"),
).subquery()
_debits, _credits = (
    select(func.coalesce(func.sum(postings.c.amount_msat), 0))
    .where(side == _spans.c.of, postings.c.posting > _spans.c.after, postings.c.posting <= _spans.c.last)
    .correlate(_spans)
    .scalar_subquery()
    for side in (postings.c.debit, postings.c.credit)
)
_CLOSINGS = select(ledger_accounts.c.name, _spans.c.last, _spans.c.said, (_debits - _credits).label("found")).join(
    _spans, _spans.c.of == ledger_accounts.c.ledger_account
)
"""What each closing adds to the one before it, as it says and as the postings between them say: each is read once."""

_HOLD = f"{Ledger.HOLD.value}:"
_OWED = ledger_accounts.c.name.like(f"{Ledger.DEPOSIT.value}:%") | ledger_accounts.c.name.like(f"{_HOLD}%")
_NEGATIVE = (
    select(ledger_accounts.c.name, balance(ledger_accounts.c.ledger_account).label("balance_msat"))
    .where(_OWED)
    .subquery()
)
_OVERDRAWN = select(_NEGATIVE).where(_NEGATIVE.c.balance_msat > 0)
_held = select(func.coalesce(func.sum(holds.c.amount_msat), 0)).join(accounts, accounts.c.account == holds.c.account)
_HOLDS = select(
    ledger_accounts.c.name,
    (-balance(ledger_accounts.c.ledger_account)).label("balance_msat"),
    _held.where(literal(_HOLD) + func.lower(func.hex(accounts.c.account_id)) == ledger_accounts.c.name)
    .correlate(ledger_accounts)
    .scalar_subquery()
    .label("held_msat"),
).where(ledger_accounts.c.name.like(f"{_HOLD}%"))
_FROM_LIGHTNING = (
    select(postings.c.posting, postings.c.reference, postings.c.amount_msat)
    .join(ledger_accounts, ledger_accounts.c.ledger_account == postings.c.debit)
    .where(
        ledger_accounts.c.name == LIGHTNING,
        ~exists().where(invoices.c.label == postings.c.reference, invoices.c.pay_index.is_not(None)),
    )
)
_PAST_CURSOR = select(invoices.c.label, invoices.c.pay_index, pay_cursor.c.pay_index.label("cursor")).where(
    invoices.c.pay_index > pay_cursor.c.pay_index
)


def _closings(connection: Connection) -> Iterator[Difference]:
    for row in connection.execute(_CLOSINGS):
        if row.said != row.found:
            yield Difference(
                "closing",
                row.name,
                f"the closing of {row.name} at posting {row.last} adds {row.said} msat to the one before, its "
                f"postings {row.found} msat",
            )


def _overdrawn(connection: Connection) -> Iterator[Difference]:
    for row in connection.execute(_OVERDRAWN):
        yield Difference("overdrawn", row.name, f"{row.name} has {-row.balance_msat} msat, which is below 0")


def _holds(connection: Connection) -> Iterator[Difference]:
    for row in connection.execute(_HOLDS):
        if row.balance_msat != row.held_msat:
            yield Difference(
                "hold",
                row.name,
                f"{row.name} has {row.balance_msat} msat, the traffic under way holds {row.held_msat} msat",
            )


def _lightning(connection: Connection) -> Iterator[Difference]:
    for row in connection.execute(_FROM_LIGHTNING):
        yield Difference(
            "posting without invoice",
            row.reference,
            f"posting {row.posting} of {row.amount_msat} msat received is for {row.reference}, which was not credited",
        )


def _cursor(connection: Connection) -> Iterator[Difference]:
    for row in connection.execute(_PAST_CURSOR):
        yield Difference(
            "pay index",
            row.label,
            f"{row.label} was credited as payment {row.pay_index}, and payments are counted up to {row.cursor} only",
        )
