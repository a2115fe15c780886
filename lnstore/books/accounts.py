"""Accounts in SQL."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection, bindparam, func, select

from lnstore.books.database import Database
from lnstore.books.inviting import admit
from lnstore.books.ledger import make_ledger_accounts
from lnstore.books.rows import ACCOUNTS, AnyRow, account_of, current_row, needed_row
from lnstore.books.rules import FROM_THE_START, LIGHTNING, Ledger
from lnstore.books.schema import accounts, holders, invoices
from lnstore.books.states import Standing, standing
from lnstore.books.strangers import growing, note_stranger
from lnstore.ports import NO_LIMITS, Account, StrangerLimits
from lnstore_protocol.ids import AccountId
from lnstore_protocol.messages import AccountState, InvoicePurpose
from lnstore_protocol.terms import Agreement

_CARRIED = ("token_index", "growth_index", "deposit_index", "ingress_bytes", "egress_bytes")
"""What an account that is opened anew goes on counting."""

_NEW = accounts.insert()


class SqlAccounts:
    """ports.AccountBooks."""

    _database: Database

    async def open_account(
        self,
        agreement: Agreement,
        now: int,
        *,
        network: bytes = b"",
        limits: StrangerLimits = NO_LIMITS,
        invited_only: bool = False,
    ) -> Account:
        """The account of this agreement, new or as it is. A lapsed account starts anew under the new agreement.

        The invitation that the terms name is used up in the same transaction. BooksRefused when it can not be, when
        there is none and only invited (or allowed, or earlier) accounts are taken, when the account is blocked, or when
        it would be one too many of those that never paid, in all or of `network`. ValueError when the node has not
        signed the agreement.
        """
        if not agreement.countersigned:
            raise ValueError("an agreement is entered in the books once both have signed it")
        stranger = partial(note_stranger, network=network, now=now, limits=limits)
        return await self._database.writer.write(
            lambda connection: _open(connection, agreement, now, stranger, invited_only=invited_only)
        )

    async def account(self, account_id: AccountId) -> Account | None:
        """The account, its state as of the last `advance`."""
        row = await self._database.read(lambda connection: current_row(connection, account_id))
        return None if row is None else account_of(row)

    async def accounts(self) -> list[Account]:
        """All of them, oldest first."""
        query = ACCOUNTS.where(accounts.c.superseded == 0).order_by(accounts.c.account)
        return [
            account_of(row) for row in await self._database.read(lambda connection: connection.execute(query).all())
        ]

    async def advance(self, now: int) -> list[Account]:
        """Move every account that is due to the state its table says for `now`; those whose state changed.

        Accounts that owe nothing (no capacity, or price 0) simply move on to the current period. Nothing is written
        when nothing is due.
        """
        if not await self._database.read(lambda connection: _due(connection, now)):
            return []
        return await self._database.writer.write(lambda connection: _advance(connection, now))

    async def rented_bytes(self, now: int) -> int:  # R-W11
        """Capacity rented out in all, with what unexpired growth invoices would add."""
        return await self._database.read(lambda connection: rented_bytes(connection, now))


def _open(
    connection: Connection,
    agreement: Agreement,
    now: int,
    stranger: Callable[[Connection, int], None],
    *,
    invited_only: bool,
) -> Account:
    terms, account_id = agreement.terms.terms, agreement.account_id
    old = current_row(connection, account_id)
    if old is not None and old.state != AccountState.LAPSED:
        return account_of(old)
    known = admit(connection, account_id, terms.invitation, now, invited_only=invited_only)
    carried = dict.fromkeys(_CARRIED, 0)
    if old is not None:
        carried = {name: getattr(old, name) for name in _CARRIED} | _used_up(connection, old)
        connection.execute(accounts.update().where(accounts.c.account == old.account).values(superseded=1))
    keys = make_ledger_accounts(connection, [LIGHTNING, *(x.of(account_id) for x in FROM_THE_START)])
    made = connection.execute(
        _NEW,
        {
            "account_id": account_id,
            "superseded": 0,
            "deposit": keys[Ledger.DEPOSIT.of(account_id)],
            "agreement": agreement.encoded,
            "opened_at": now,
            "state": int(AccountState.ACTIVE),
            "anchor_at": agreement.anchor_at,
            "period_seconds": terms.period_seconds,
            "grace_seconds": terms.grace_seconds,
            "price_msat_per_gib_month": terms.price_msat_per_gib_month,
            "egress_msat_per_gib": terms.egress_msat_per_gib,
            "ingress_msat_per_gib": terms.ingress_msat_per_gib,
            "agreed_period": agreement.from_period,
            "capacity_bytes": 0,
            "used_bytes": 0,
            "shares": 0,
            "paid_until_at": agreement.anchor_at,
            **carried,
        },
    )
    if not known:
        stranger(connection, int(made.lastrowid))
    return account_of(needed_row(connection, account_id))


def _used_up(connection: Connection, old: AnyRow) -> dict[str, int]:
    """Indexes to begin with after a lapse: past those of invoices that still lie about.

    Growth and deposit indexes stand in labels; with a token index a nonce was revealed, and what it asks for is known
    since.
    """
    used = select(invoices.c.purpose, func.max(invoices.c.number), func.max(invoices.c.token_index))
    rows = connection.execute(used.where(invoices.c.account == old.account).group_by(invoices.c.purpose))
    last = {InvoicePurpose(purpose): (number, token) for purpose, number, token in rows}
    nothing = (-1, -1)
    return {
        "growth_index": max(old.growth_index, last.get(InvoicePurpose.CAPACITY, nothing)[0] + 1),
        "deposit_index": max(old.deposit_index, last.get(InvoicePurpose.DEPOSIT, nothing)[0] + 1),
        "token_index": max(old.token_index, last.get(InvoicePurpose.RENT, nothing)[1] + 1),
    }


_CHANGING = (func.coalesce(accounts.c.renewed_price_msat_per_gib_month, 0) > 0) | accounts.c.announced_period.is_not(
    None
)
_OWES = (accounts.c.capacity_bytes > 0) & (
    ((holders.c.free == 0) & ((accounts.c.price_msat_per_gib_month > 0) | _CHANGING)) | (holders.c.blocked == 1)
)
"""Those that may owe something for some period; which, their prices say."""
_MAY_MOVE = ACCOUNTS.where(
    accounts.c.state != AccountState.LAPSED,
    accounts.c.paid_until_at <= bindparam("now"),
    # Those that the table leaves where they are: most of them, every time.
    (_OWES & (accounts.c.state == AccountState.ACTIVE))
    | (_OWES & (accounts.c.paid_until_at + accounts.c.grace_seconds <= bindparam("now")))
    | (~_OWES & (accounts.c.paid_until_at + accounts.c.period_seconds <= bindparam("now"))),
)
_MOVE = (
    accounts.update()
    .where(accounts.c.account == bindparam("of"))
    .values(
        state=bindparam("to_state"), paid_until_at=bindparam("to_paid_until"), capacity_bytes=bindparam("to_capacity")
    )
)
_THESE = ACCOUNTS.where(accounts.c.account.in_(bindparam("these", expanding=True))).order_by(accounts.c.account)


def _due(connection: Connection, now: int) -> list[tuple[AnyRow, Standing]]:
    rows = connection.execute(_MAY_MOVE, {"now": now})
    moves = [(row, standing(account_of(row), now)) for row in rows]
    return [(row, to) for row, to in moves if (to.state, to.paid_until_at) != (row.state, row.paid_until_at)]


def _advance(connection: Connection, now: int) -> list[Account]:
    moves = _due(connection, now)
    values = [
        {
            "of": row.account,
            "to_state": int(to.state),
            "to_paid_until": to.paid_until_at,
            "to_capacity": 0 if to.state is AccountState.LAPSED else row.capacity_bytes,
        }
        for row, to in moves
    ]
    if values:
        connection.execute(_MOVE, values)
    changed = [row.account for row, to in moves if to.state != row.state]
    return [account_of(row) for row in connection.execute(_THESE, {"these": changed})]


def rented_bytes(connection: Connection, now: int) -> int:
    """Capacity rented out in all, with what unexpired growth invoices (each account's latest attempt) would add."""
    rented = connection.execute(select(func.coalesce(func.sum(accounts.c.capacity_bytes), 0))).scalar_one()
    reserved = (
        select(func.coalesce(func.sum(invoices.c.capacity_bytes), 0))
        .join(accounts, accounts.c.account == invoices.c.account)
        .where(growing(now))
    )
    return int(rented + connection.execute(reserved).scalar_one())
