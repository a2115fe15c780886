"""Accounts that never paid: how many there are, what their unpaid growth reserves, and how they go.

Such an account has no ledger entry, no lease and no capacity: deleting it takes back an offer, and nothing that is
owed. It has a row here until its first payment is credited.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, func, select

from lnstore.books.database import Database
from lnstore.books.rows import AnyRow, planned_of
from lnstore.books.rules import Ledger
from lnstore.books.schema import (
    accounts,
    agreements,
    holders,
    holds,
    invoices,
    ledger_accounts,
    postings,
    records,
    strangers,
)
from lnstore.ports import BooksRefused, PlannedInvoice, StrangerLimits
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId
from lnstore_protocol.messages import AccountState, InvoicePurpose

_NEW = strangers.insert()
_PAID = strangers.delete().where(strangers.c.account == bindparam("of"))
_NETWORK = select(strangers.c.network).where(strangers.c.account == bindparam("of"))
_OF_ACCOUNT = strangers.join(accounts, accounts.c.account == strangers.c.account)
_IS_BARE = (accounts.c.capacity_bytes == 0) & (accounts.c.superseded == 0)
_COUNT = select(func.count()).select_from(_OF_ACCOUNT).where(_IS_BARE)
_COUNT_OF = _COUNT.where(strangers.c.network == bindparam("network"))
_PAYABLE = (
    select(invoices.c.invoice)
    .where(invoices.c.account == strangers.c.account, invoices.c.expires_at > bindparam("now"))
    .exists()
)
_GOING = (
    select(accounts.c.account, accounts.c.account_id)
    .select_from(_OF_ACCOUNT)
    .where(
        _IS_BARE,
        (strangers.c.opened_at <= bindparam("idle_since")) & ~_PAYABLE
        | (strangers.c.opened_at <= bindparam("in_any_case")),
    )
    .order_by(strangers.c.opened_at)
)
_NEXT = _GOING.limit(bindparam("limit"))
_THIS = _GOING.where(accounts.c.account_id == bindparam("id"))


class SqlStrangers:
    """ports.StrangerBooks."""

    _database: Database

    async def stranger_count(self) -> int:
        """How many accounts never paid and have nothing."""
        return await self._database.read(lambda connection: int(connection.execute(_COUNT).scalar_one()))

    async def strangers(self, now: int, *, idle_since_at: int, in_any_case_at: int, limit: int) -> list[AccountId]:
        """Those to be removed, oldest first.

        Opened by `idle_since_at` and without an invoice that can still be paid, or opened by `in_any_case_at`.
        """
        of = {"now": now, "idle_since": idle_since_at, "in_any_case": in_any_case_at, "limit": limit}
        rows = await self._database.read(lambda connection: connection.execute(_NEXT, of).all())
        return [AccountId(row.account_id) for row in rows]

    async def unpaid_invoices(self, account_id: AccountId) -> list[PlannedInvoice]:
        """The latest attempt of each of the account's unpaid invoices: what its daemon may still know."""
        rows = await self._database.read(lambda connection: _unpaid(connection, account_id))
        return [planned_of(row, account_id) for row in rows]

    async def remove_stranger(
        self, account_id: AccountId, now: int, *, idle_since_at: int, in_any_case_at: int
    ) -> bool:
        """Delete the account with all that it has, if it is still one to be removed; whether it went.

        Its invoices must have been withdrawn at the daemon: their labels may be used again.
        """
        of = {"id": account_id, "now": now, "idle_since": idle_since_at, "in_any_case": in_any_case_at}
        return await self._database.writer.write(lambda connection: _remove(connection, of))


# --- for the other parts of the books --------------------------------------------------------------------------------


# S-W3
def note_stranger(connection: Connection, account: int, network: bytes, now: int, limits: StrangerLimits) -> None:
    """A new account never paid so far; BooksRefused(RATE_LIMITED) when there are too many of its kind."""
    if connection.execute(_COUNT).scalar_one() >= limits.accounts:
        raise BooksRefused(
            ErrorCode.RATE_LIMITED, "too many accounts are open here that never paid; try again in an hour"
        )
    if connection.execute(_COUNT_OF, {"network": network}).scalar_one() >= limits.accounts_of_network:
        raise BooksRefused(
            ErrorCode.RATE_LIMITED,
            f"{limits.accounts_of_network} accounts that never paid were opened from this address; rent with one of "
            "them, or try again later",
        )
    connection.execute(_NEW, {"account": account, "network": network, "opened_at": now})


def no_stranger(connection: Connection, account: int) -> None:
    """The account has paid something."""
    connection.execute(_PAID, {"of": account})


def is_stranger(connection: Connection, account: int) -> bool:
    """Whether the account never paid anything."""
    return connection.execute(_NETWORK, {"of": account}).first() is not None


def growing(now: int) -> ColumnElement[bool]:
    """Which rows of invoices (joined with their accounts) reserve capacity: payable growth, each's latest attempt."""
    later = invoices.alias()
    return (
        (invoices.c.purpose == InvoicePurpose.CAPACITY)
        & invoices.c.pay_index.is_(None)
        & (invoices.c.expires_at > now)
        & (invoices.c.number == accounts.c.growth_index)
        & (accounts.c.state != AccountState.LAPSED)
        & ~select(later.c.invoice)
        .where(
            later.c.account == invoices.c.account,
            later.c.purpose == invoices.c.purpose,
            later.c.number == invoices.c.number,
            later.c.attempt > invoices.c.attempt,
        )
        .exists()
    )


# S-W1
def check_reserved(
    connection: Connection, account: int, asked_bytes: int, now: int, *, left_bytes: int, limits: StrangerLimits
) -> None:
    """Refuse the growth of `asked_bytes` that was just planned when accounts that never paid reserve too much by it.

    Those of its network alone have a bound too. `left_bytes` is what nobody rents or reserves, this growth included.
    """
    network = connection.execute(_NETWORK, {"of": account}).scalar()
    if network is None:
        return
    reserved = {
        bytes(row.network): int(row.reserved)
        for row in connection.execute(
            select(strangers.c.network, func.sum(invoices.c.capacity_bytes).label("reserved"))
            .select_from(_OF_ACCOUNT.join(invoices, invoices.c.account == strangers.c.account))
            .where(growing(now))
            .group_by(strangers.c.network)
        )
    }
    free_bytes = left_bytes + sum(reserved.values())
    most = free_bytes * limits.growth_percent // 100
    if asked_bytes > most // 2:
        raise BooksRefused(
            ErrorCode.CAPACITY_REFUSED,
            f"an account that never paid may rent {most // 2} bytes at first; rent those, and more once they are paid",
            capacity_bytes=most // 2,  # MA-W9
        )
    if sum(reserved.values()) > most or reserved[bytes(network)] > most // 2:
        raise BooksRefused(
            ErrorCode.RATE_LIMITED,
            "other accounts that never paid have asked for much capacity and not paid yet; rent less now and more once "
            "that is paid, or try again in a quarter of an hour",
        )


# --- removing ---------------------------------------------------------------------------------------------------------


def _unpaid(connection: Connection, account_id: AccountId) -> Sequence[AnyRow]:
    later = invoices.alias()
    query = (
        select(invoices)
        .join(accounts, accounts.c.account == invoices.c.account)
        .where(
            accounts.c.account_id == account_id,
            accounts.c.superseded == 0,
            invoices.c.pay_index.is_(None),
            ~select(later.c.invoice)
            .where(
                later.c.account == invoices.c.account,
                later.c.purpose == invoices.c.purpose,
                later.c.number == invoices.c.number,
                later.c.attempt > invoices.c.attempt,
            )
            .exists(),
        )
    )
    return connection.execute(query).all()


def _remove(connection: Connection, of: dict[str, Any]) -> bool:
    row = connection.execute(_THIS, of).one_or_none()
    if row is None or connection.execute(select(holds).where(holds.c.account == row.account)).first() is not None:
        return False
    account_id = AccountId(row.account_id)
    names = [ledger.of(account_id) for ledger in Ledger]
    signed = connection.execute(select(invoices.c.agreement).where(invoices.c.account == row.account)).scalars().all()
    connection.execute(invoices.delete().where(invoices.c.account == row.account))
    named = select(invoices.c.invoice).where(invoices.c.agreement == agreements.c.agreement)
    connection.execute(agreements.delete().where(agreements.c.agreement.in_(signed), ~named.exists()))
    connection.execute(strangers.delete().where(strangers.c.account == row.account))
    connection.execute(accounts.delete().where(accounts.c.account == row.account))
    connection.execute(holders.delete().where(holders.c.account_id == account_id))
    connection.execute(records.delete().where(records.c.account_id == account_id))
    posted = select(postings.c.posting).where(
        (postings.c.debit == ledger_accounts.c.ledger_account) | (postings.c.credit == ledger_accounts.c.ledger_account)
    )
    connection.execute(ledger_accounts.delete().where(ledger_accounts.c.name.in_(names), ~posted.exists()))
    return True
