"""Accounts in SQL."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection, bindparam, func, select

from lnstore.books.database import Database
from lnstore.books.inviting import admit
from lnstore.books.ledger import make_ledger_accounts, post
from lnstore.books.rows import ACCOUNTS, MOVE, AnyRow, account_of, current_row, move_values, needed_row
from lnstore.books.rules import BUYING, FROM_THE_START, LIGHTNING, Ledger
from lnstore.books.schema import accounts, invoices, postings
from lnstore.books.shrinking import leaving, plan_shrink
from lnstore.books.states import bill, news
from lnstore.books.strangers import growing, note_stranger
from lnstore.ports import NO_LIMITS, Account, Look, StrangerLimits
from lnstore_protocol.ids import AccountId
from lnstore_protocol.messages import AccountState, InvoicePurpose
from lnstore_protocol.prices import PaidFor
from lnstore_protocol.terms import Agreement

_CARRIED = ("token_index", "growth_index", "deposit_index", "ingress_bytes", "egress_bytes")
"""What an account that is opened anew goes on counting."""

BILLED_TOGETHER = 256
"""Accounts in one transaction of a pass: other writers get their turn in between."""

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
        # Put together in the thread that reads: of 100,000 that takes a second, in which the node goes on.
        return await self._database.read(lambda connection: [account_of(row) for row in connection.execute(query)])

    async def advance(self, now: int) -> list[Look]:
        """Move every account that is due to the stage its table says for `now`; what is new about them.

        Accounts that owe nothing (no capacity, or price 0) simply move on to the current period. Nothing is written
        when nothing is due. Many are done in several transactions; a crash between two leaves the rest for later.
        """
        looks: list[Look] = []
        while await self._database.read(lambda connection: _is_due(connection, now)):
            looks += await self._database.writer.write(lambda connection: _advance(connection, now))
        return looks

    async def shrink(self, account_id: AccountId, capacity_bytes: int, now: int) -> Account:  # RP-W3
        """Plan a smaller capacity for the next period, or, with the present one, none any more; the account then.

        BooksRefused: LAPSED, CAPACITY_REFUSED when it is larger than the present one, CAPACITY_IN_USE.
        """
        return await self._database.writer.write(
            lambda connection: _shrink(connection, account_id, capacity_bytes, now)
        )

    async def leave(self, account_id: AccountId, now: int, *, refund_permille: int) -> Account:  # RP-W7
        """End the account at its client's wish, give back what is said, post that; again, nothing more happens.

        BooksRefused: LAPSED when it ended otherwise.
        """
        return await self._database.writer.write(
            lambda connection: _leave(connection, account_id, now, refund_permille)
        )

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
            "look_at": agreement.anchor_at + terms.period_seconds,
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


_TO_BILL = ACCOUNTS.where(accounts.c.look_at <= bindparam("now")).order_by(accounts.c.look_at).limit(BILLED_TOGETHER)
_DUE = select(accounts.c.account).where(accounts.c.look_at <= bindparam("now")).limit(1)


def _is_due(connection: Connection, now: int) -> bool:
    return connection.execute(_DUE, {"now": now}).first() is not None


def _advance(connection: Connection, now: int) -> list[Look]:
    """Look at the accounts that are due longest, and at no more than others can wait for."""
    billed = []
    for row in connection.execute(_TO_BILL, {"now": now}).all():
        before = account_of(row)
        after = bill(before, now)
        billed.append((row.account, after.account, news(before, after, now)))
    if billed:
        connection.execute(MOVE, [move_values(key, after) for key, after, _ in billed])
    return [look for _, _, look in billed if look is not None]


_INVOICED = select(invoices.c.invoice).where(
    invoices.c.account == bindparam("of"),
    invoices.c.purpose == InvoicePurpose.RENT,
    invoices.c.number == bindparam("period"),
)


def _shrink(connection: Connection, account_id: AccountId, capacity_bytes: int, now: int) -> Account:
    row = needed_row(connection, account_id)
    account = account_of(row)
    invoiced = connection.execute(_INVOICED.limit(1), {"of": row.account, "period": account.next_period}).first()
    after = plan_shrink(account, capacity_bytes, now, invoiced=invoiced is not None)
    if after != account:
        connection.execute(MOVE, move_values(row.account, after))
    return after


_PAID_AHEAD = select(invoices.c.capacity_bytes, invoices.c.from_at, invoices.c.until_at).where(
    invoices.c.account == bindparam("of"),
    invoices.c.purpose != InvoicePurpose.DEPOSIT,
    invoices.c.amount_msat > 0,
    invoices.c.until_at > bindparam("now"),
    select(postings.c.posting).where(postings.c.reference == invoices.c.label, postings.c.kind.in_(BUYING)).exists(),
)
"""What was paid for times to come, and bought what it was for: neither given at no price, nor come too late."""


def _leave(connection: Connection, account_id: AccountId, now: int, refund_permille: int) -> Account:
    row = needed_row(connection, account_id)
    account = account_of(row)
    if account.left_at is not None:
        return account
    rows = connection.execute(_PAID_AHEAD, {"of": row.account, "now": now})
    done = leaving(account, now, refund_permille, [PaidFor(*paid) for paid in rows])
    if done.entries:  # its ledger account is made when there is something to post
        make_ledger_accounts(connection, [Ledger.REFUND.of(account_id)])
    post(connection, done.entries, at=now, reference=f"leave/{row.account}")
    connection.execute(MOVE, move_values(row.account, done.account))
    return done.account


def rented_bytes(connection: Connection, now: int) -> int:
    """Capacity rented out in all, with what unexpired growth invoices (each account's latest attempt) would add."""
    rented = connection.execute(select(func.coalesce(func.sum(accounts.c.capacity_bytes), 0))).scalar_one()
    reserved = (
        select(func.coalesce(func.sum(invoices.c.capacity_bytes), 0))
        .join(accounts, accounts.c.account == invoices.c.account)
        .where(growing(now))
    )
    return int(rented + connection.execute(reserved).scalar_one())
