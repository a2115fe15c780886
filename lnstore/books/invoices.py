"""Invoices in SQL, from the intent to the credit."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, bindparam, func, select

from lnstore.books.accounts import rented_bytes
from lnstore.books.database import Database
from lnstore.books.ledger import post
from lnstore.books.receipts import agreement_key
from lnstore.books.rows import ACCOUNTS, MOVE, account_of, invoice_values, move_values, needed_row, planned_of
from lnstore.books.rules import credit, plan_refusal, planned_for
from lnstore.books.schema import accounts, invoices, pay_cursor
from lnstore.books.strangers import check_reserved, no_stranger
from lnstore.ports import NO_LIMITS, Account, BooksRefused, Invoice, InvoiceStatus, PlannedInvoice, StrangerLimits
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId
from lnstore_protocol.messages import InvoicePurpose
from lnstore_protocol.terms import period_at


class SqlInvoices:
    """ports.InvoiceBooks."""

    _database: Database

    async def plan_invoice(
        self,
        planned: PlannedInvoice,
        *,
        rentable_bytes: int | None = None,
        limits: StrangerLimits = NO_LIMITS,
    ) -> PlannedInvoice:
        """Persist the intent; the one already planned under this label wins. One over nothing is credited at once.

        BooksRefused when it does not fit the account as it is inside the transaction, when growth would rent out more
        than `rentable_bytes` in all, or reserve more than `limits` allow accounts that never paid. ValueError when the
        label stands for another account's invoice.
        """
        return await self._database.writer.write(lambda connection: _plan(connection, planned, rentable_bytes, limits))

    async def planned_invoice(
        self, account_id: AccountId, purpose: InvoicePurpose, index: int
    ) -> PlannedInvoice | None:
        """The latest attempt for this account (since it was last opened), purpose and index."""
        of = {"id": account_id, "purpose": int(purpose), "number": index}
        row = await self._database.read(lambda connection: connection.execute(_LATEST, of).one_or_none())
        return None if row is None else planned_of(row, account_id)

    async def issued(self, label: str, bolt11: str) -> None:
        """The daemon made the invoice. KeyError when none was planned under this label."""

        def note(connection: Connection) -> None:
            noted = connection.execute(_ISSUED, {"of": label, "made": bolt11})
            if noted.rowcount == 0:
                raise KeyError(label)

        await self._database.writer.write(note)

    async def withdrawing(self, label: str) -> None:
        """The invoice is about to be deleted at the daemon: who asks for it again after this has it made again.

        Nothing happens to one that was credited.
        """
        await self._database.writer.write(lambda connection: connection.execute(_WITHDRAWING, {"of": label}))

    async def credit(self, invoice: Invoice, now: int) -> Account | None:
        """Credit a paid invoice exactly once: postings, effect and pay index in one transaction.

        The account as it is then; None when nothing was credited: the label is not ours, the pay index was already
        passed, or the invoice was credited before. ValueError when the invoice is not paid.
        """
        if invoice.status is not InvoiceStatus.PAID or invoice.pay_index is None:
            raise ValueError(f"invoice {invoice.label} is not paid")
        pay_index, received = invoice.pay_index, invoice.received_msat
        received_msat = invoice.amount_msat if received is None else received
        return await self._database.writer.write(
            lambda connection: _credit(connection, invoice, pay_index, received_msat, now)
        )

    async def pay_index(self) -> int:
        """The last pay index that was credited or passed over."""
        return await self._database.read(_pay_index)


_WITH_ACCOUNT = select(invoices, accounts.c.account_id).join(accounts, accounts.c.account == invoices.c.account)
_BY_LABEL = _WITH_ACCOUNT.where(invoices.c.label == bindparam("label"))
_LATEST = (
    _WITH_ACCOUNT.where(
        accounts.c.account_id == bindparam("id"),
        accounts.c.superseded == 0,
        invoices.c.purpose == bindparam("purpose"),
        invoices.c.number == bindparam("number"),
    )
    .order_by(invoices.c.attempt.desc())
    .limit(1)
)
_PLAN = invoices.insert()
_ISSUED = invoices.update().where(invoices.c.label == bindparam("of")).values(bolt11=bindparam("made"))
_WITHDRAWING = (
    invoices.update().where(invoices.c.label == bindparam("of"), invoices.c.pay_index.is_(None)).values(bolt11=None)
)
_CREDITED = invoices.update().where(invoices.c.invoice == bindparam("of")).values(pay_index=bindparam("at"))
_NEXT_RECEIPT = (
    select(func.coalesce(func.max(invoices.c.receipt) + 1, 0))
    .join(accounts, accounts.c.account == invoices.c.account)
    .where(accounts.c.account_id == bindparam("id"))
)
"""Receipts count on when an account is opened anew."""
_RECEIPTED = (
    invoices.update()
    .where(invoices.c.label == bindparam("of"))
    .values(receipt=bindparam("counted"), credited_at=bindparam("now"))
)
_CURSOR = select(pay_cursor.c.pay_index)
_PASS = pay_cursor.update().values(pay_index=bindparam("at"))
_ACCOUNT = ACCOUNTS.where(accounts.c.account == bindparam("of"))
_PROMISED = select(func.coalesce(func.max(invoices.c.until_at), 0)).where(
    invoices.c.account == bindparam("of"), invoices.c.purpose == InvoicePurpose.RENT
)
"""The end of the last period that a rent invoice was planned for."""


def _plan(
    connection: Connection, planned: PlannedInvoice, rentable_bytes: int | None, limits: StrangerLimits
) -> PlannedInvoice:
    row = needed_row(connection, planned.account_id)
    found = connection.execute(_BY_LABEL, {"label": planned.label}).one_or_none()
    if found is not None:
        if (found.account, found.purpose, found.number) != (row.account, planned.purpose, planned.index):
            raise ValueError(f"the label {planned.label} stands for another invoice; labels are never used again")
        return planned_of(found, planned.account_id)
    account = account_of(row)
    refusal = plan_refusal(account, planned)
    if refusal is not None:
        raise refusal
    # A growth that reaches into a later agreement's time is under the one that holds when it begins.
    signed = account.agreement_for(period_at(account.anchor_at, account.period_seconds, planned.from_at))
    connection.execute(_PLAN, invoice_values(planned, row.account, agreement_key(connection, signed)))
    after = planned_for(account, planned)
    if after != account:
        connection.execute(MOVE, move_values(row.account, after))
    if rentable_bytes is not None:
        left_bytes = rentable_bytes - rented_bytes(connection, planned.from_at)
        if left_bytes < 0:
            raise BooksRefused(ErrorCode.CAPACITY_REFUSED, "the node has not that much capacity left to rent out")
        check_reserved(
            connection,
            row.account,
            planned.capacity_bytes,
            planned.from_at,
            left_bytes=left_bytes,
            limits=limits,
        )
    if planned.amount_msat == 0:
        # Nothing will be paid: what it is for is given now. RA-W9
        _apply(connection, row.account, account_of(row), planned, received_msat=0, now=planned.from_at)
        return replace(planned, credited=True)
    return planned


def _pay_index(connection: Connection) -> int:
    return int(connection.execute(_CURSOR).scalar_one())


def _credit(connection: Connection, invoice: Invoice, pay_index: int, received_msat: int, now: int) -> Account | None:
    if pay_index <= _pay_index(connection):
        return None
    connection.execute(_PASS, {"at": pay_index})
    found = connection.execute(_BY_LABEL, {"label": invoice.label}).one_or_none()
    if found is None or found.pay_index is not None:
        return None
    account_id = AccountId(found.account_id)
    planned = planned_of(found, account_id)
    if planned.payment_hash != invoice.payment_hash:
        return None  # somebody else's invoice that happens to have such a label
    account = account_of(connection.execute(_ACCOUNT, {"of": found.account}).one())
    _apply(connection, found.account, account, planned, received_msat=received_msat, now=now)
    connection.execute(_CREDITED, {"of": found.invoice, "at": pay_index})
    return account_of(needed_row(connection, account_id))


def _apply(
    connection: Connection, key: int, account: Account, planned: PlannedInvoice, *, received_msat: int, now: int
) -> None:
    """Post what was received for `planned`, and do to the account (of row `key`) what it buys."""
    promised_until_at = int(connection.execute(_PROMISED, {"of": key}).scalar_one())
    done = credit(account, planned, received_msat, now, promised_until_at=promised_until_at)
    post(connection, done.entries, at=now, reference=planned.label)
    number = connection.execute(_NEXT_RECEIPT, {"id": account.account_id}).scalar_one()
    connection.execute(_RECEIPTED, {"of": planned.label, "counted": number, "now": now})
    connection.execute(MOVE, move_values(key, done.account))
    no_stranger(connection, key)
