"""Credited invoices in SQL, numbered as receipts number them, and what clients signed for them."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, ScalarSelect, bindparam, func, literal_column, select
from sqlalchemy.dialects.sqlite import insert

from lnstore.books.database import Database
from lnstore.books.rows import AnyRow, planned_of
from lnstore.books.rules import BUYING, DEPOSITING
from lnstore.books.schema import accounts, acknowledgements, agreements, invoices, postings, renewals
from lnstore.ports import Credited
from lnstore_protocol.ids import AccountId, Digest, Msat
from lnstore_protocol.receipts import agreement_hash


class SqlReceipts:
    """ports.ReceiptBooks."""

    _database: Database

    async def credited(self, account_id: AccountId, *, first_number: int, limit: int) -> tuple[int, list[Credited]]:
        """How many invoices of the account were credited in all, ever, and those from `first_number` on, in order."""
        return await self._database.read(lambda connection: _credited(connection, account_id, first_number, limit))

    async def agreements(self, account_id: AccountId) -> list[bytes]:
        """Every agreement of the account that an invoice was made under or that holds, oldest first, encoded."""

        def look(connection: Connection) -> list[bytes]:
            of = {"id": account_id}
            found = [row.encoded for row in connection.execute(_MADE_UNDER, of)]
            found += [row.agreement for row in connection.execute(_HELD, of)]
            found += [row.encoded for row in connection.execute(_RENEWED, of)]
            return list(dict.fromkeys(found))

        return await self._database.read(look)

    async def acknowledge(self, account_id: AccountId, words: Mapping[str, bytes]) -> int:  # RC-R6
        """Keep acknowledgements by label of credited invoices, the first of each; how many the account has then."""

        def keep(connection: Connection) -> int:
            for label, encoded in words.items():
                key = connection.execute(_KEY, {"id": account_id, "label": label}).scalar_one()
                connection.execute(_KEEP, {"invoice": key, "encoded": encoded})
            return int(connection.execute(_KEPT, {"id": account_id}).scalar_one())

        return await self._database.writer.write(keep)


def agreement_key(connection: Connection, encoded: bytes) -> int:
    """The key of the agreement in the table of those that invoices were made under; entered when it is new."""
    of = {"hash": bytes(agreement_hash(encoded)), "encoded": encoded}
    connection.execute(_ENTER, of)
    return int(connection.execute(_AGREEMENT, {"of": of["hash"]}).scalar_one())


_ENTER = insert(agreements).on_conflict_do_nothing()
_AGREEMENT = select(agreements.c.agreement).where(agreements.c.hash == bindparam("of"))

_OF = (accounts.c.account_id == bindparam("id")) & invoices.c.receipt.is_not(None)
_JOINED = invoices.join(accounts, accounts.c.account == invoices.c.account)


def _sum(kinds: tuple[str, ...]) -> ScalarSelect[int]:
    return (
        select(func.coalesce(func.sum(postings.c.amount_msat), 0))
        .where(postings.c.reference == invoices.c.label, postings.c.kind.in_(kinds))
        .scalar_subquery()
    )


_COUNT = select(func.count()).select_from(_JOINED).where(_OF)
_PAGE = (
    select(
        invoices,
        agreements.c.hash.label("agreement_hash"),
        acknowledgements.c.encoded.label("acknowledgement"),
        _sum(BUYING).label("bought_msat"),
        _sum(DEPOSITING).label("deposited_msat"),
    )
    .select_from(
        _JOINED.join(agreements, agreements.c.agreement == invoices.c.agreement).outerjoin(
            acknowledgements, acknowledgements.c.invoice == invoices.c.invoice
        )
    )
    .where(_OF, invoices.c.receipt >= bindparam("first"))
    .order_by(invoices.c.receipt)
    .limit(bindparam("limit"))
)
_MADE_UNDER = (
    select(agreements.c.encoded)
    .join(invoices, invoices.c.agreement == agreements.c.agreement)
    .join(accounts, accounts.c.account == invoices.c.account)
    .where(accounts.c.account_id == bindparam("id"))
    .group_by(agreements.c.agreement)
    .order_by(agreements.c.agreement)
)
_HELD = select(accounts.c.agreement).where(accounts.c.account_id == bindparam("id")).order_by(accounts.c.account)
_RENEWED = select(renewals.c.encoded).where(renewals.c.account_id == bindparam("id")).order_by(renewals.c.entered_at)
_KEY = select(invoices.c.invoice).select_from(_JOINED).where(_OF, invoices.c.label == bindparam("label"))
_KEEP = insert(acknowledgements).on_conflict_do_nothing()
_KEPT = (
    select(func.count(literal_column("1")))
    .select_from(_JOINED.join(acknowledgements, acknowledgements.c.invoice == invoices.c.invoice))
    .where(_OF)
)


def _credited(
    connection: Connection, account_id: AccountId, first_number: int, limit: int
) -> tuple[int, list[Credited]]:
    total = int(connection.execute(_COUNT, {"id": account_id}).scalar_one())
    rows = connection.execute(_PAGE, {"id": account_id, "limit": limit, "first": first_number}).all()
    return total, [_one(row, account_id) for row in rows]


def _one(row: AnyRow, account_id: AccountId) -> Credited:
    return Credited(
        number=row.receipt,
        planned=planned_of(row, account_id),
        agreement_hash=Digest(row.agreement_hash),
        received_msat=Msat(row.bought_msat + row.deposited_msat),
        deposited_msat=Msat(row.deposited_msat),
        credited_at=row.credited_at,
        acknowledgement=row.acknowledgement,
    )
