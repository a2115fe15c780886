"""Invoices in SQL, from the intent to the credit."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, select

from lnstore.books.accounts import rented_bytes
from lnstore.books.database import Database
from lnstore.books.ledger import post
from lnstore.books.rows import ACCOUNTS, AnyRow, account_of, current_row, invoice_values, needed_row, planned_of
from lnstore.books.rules import credit, plan_refusal
from lnstore.books.schema import accounts, invoices, pay_cursor
from lnstore.ports import Account, BooksRefused, Invoice, InvoiceStatus, PlannedInvoice
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId
from lnstore_protocol.messages import InvoicePurpose


class SqlInvoices:
    """ports.InvoiceBooks."""

    _database: Database

    async def plan_invoice(self, planned: PlannedInvoice, *, rentable_bytes: int | None = None) -> PlannedInvoice:
        """Persist the intent; the one already planned under this label wins.

        BooksRefused when it does not fit the account as it is inside the transaction, or when growth would rent out
        more than `rentable_bytes` in all. ValueError when the label stands for another account's invoice.
        """
        return await self._database.writer.write(lambda connection: _plan(connection, planned, rentable_bytes))

    async def planned_invoice(
        self, account_id: AccountId, purpose: InvoicePurpose, index: int
    ) -> PlannedInvoice | None:
        """The latest attempt for this account (since it was last opened), purpose and index."""
        query = (
            select(invoices)
            .join(accounts, accounts.c.account == invoices.c.account)
            .where(
                accounts.c.account_id == account_id,
                accounts.c.superseded == 0,
                invoices.c.purpose == purpose,
                invoices.c.number == index,
            )
            .order_by(invoices.c.attempt.desc())
            .limit(1)
        )
        row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else planned_of(row, account_id)

    async def issued(self, label: str, bolt11: str) -> None:
        """The daemon made the invoice. KeyError when none was planned under this label."""

        def note(connection: Connection) -> None:
            noted = connection.execute(invoices.update().where(invoices.c.label == label).values(bolt11=bolt11))
            if noted.rowcount == 0:
                raise KeyError(label)

        await self._database.writer.write(note)

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


def _plan(connection: Connection, planned: PlannedInvoice, rentable_bytes: int | None) -> PlannedInvoice:
    found = connection.execute(_with_account(invoices.c.label == planned.label)).one_or_none()
    if found is not None:
        if found.account_id != planned.account_id or found.purpose != planned.purpose:
            raise ValueError(f"the label {planned.label} stands for another invoice")
        return planned_of(found, planned.account_id)
    row = needed_row(connection, planned.account_id)
    refusal = plan_refusal(account_of(row), planned)
    if refusal is not None:
        raise refusal
    connection.execute(invoices.insert(), invoice_values(planned, row.account))
    if rentable_bytes is not None and rented_bytes(connection, planned.from_at) > rentable_bytes:
        raise BooksRefused(ErrorCode.CAPACITY_REFUSED, "the node has not that much capacity left to rent out")
    return planned


def _with_account(condition: Any) -> Any:
    return (
        select(invoices, accounts.c.account_id)
        .join(accounts, accounts.c.account == invoices.c.account)
        .where(condition)
    )


def _pay_index(connection: Connection) -> int:
    return int(connection.execute(select(pay_cursor.c.pay_index)).scalar_one())


def _credit(connection: Connection, invoice: Invoice, pay_index: int, received_msat: int, now: int) -> Account | None:
    if pay_index <= _pay_index(connection):
        return None
    connection.execute(pay_cursor.update().values(pay_index=pay_index))
    found = connection.execute(_with_account(invoices.c.label == invoice.label)).one_or_none()
    if found is None or found.pay_index is not None:
        return None
    account_id = AccountId(found.account_id)
    planned = planned_of(found, account_id)
    if planned.payment_hash != invoice.payment_hash:
        return None  # somebody else's invoice that happens to have such a label
    row = connection.execute(ACCOUNTS.where(accounts.c.account == found.account)).one()
    done = credit(account_of(row), planned, received_msat, now, promised_until_at=_promised(connection, row))
    post(connection, done.entries, at=now, reference=planned.label)
    connection.execute(invoices.update().where(invoices.c.invoice == found.invoice).values(pay_index=pay_index))
    after = done.account
    connection.execute(
        accounts.update()
        .where(accounts.c.account == found.account)
        .values(
            state=int(after.state),
            capacity_bytes=after.capacity_bytes,
            paid_until_at=after.paid_until_at,
            token_index=after.token_index,
            growth_index=after.growth_index,
            deposit_index=after.deposit_index,
        )
    )
    current = current_row(connection, account_id)
    return None if current is None else account_of(current)


def _promised(connection: Connection, row: AnyRow) -> int:
    """The end of the last period that a rent invoice was planned for."""
    query = select(func.coalesce(func.max(invoices.c.until_at), 0)).where(
        invoices.c.account == row.account, invoices.c.purpose == InvoicePurpose.RENT
    )
    return int(connection.execute(query).scalar_one())
