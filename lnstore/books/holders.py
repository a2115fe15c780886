"""What a node's operator decides about accounts, in SQL, and what is added up for each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, bindparam, case, func, select
from sqlalchemy.exc import IntegrityError

from lnstore.books.database import Database
from lnstore.books.inviting import add_holder
from lnstore.books.ledger import balance
from lnstore.books.rows import MOVE, account_of, current_row, move_values, needed_row
from lnstore.books.rules import EARNING
from lnstore.books.schema import accounts, holders, invoices, ledger_accounts
from lnstore.books.states import bill, first_look, owes_nothing
from lnstore.books.strangers import no_stranger
from lnstore.ports import Account, Figures, PetnameTaken
from lnstore_protocol.ids import AccountId, LightningId, Msat
from lnstore_protocol.messages import AccountState, InvoicePurpose
from lnstore_protocol.terms import period_at, period_start


class SqlHolders:
    """ports.AccountAdmin."""

    _database: Database

    async def allow_account(self, account_id: AccountId) -> bool:
        """Let this key open an account without an invitation; whether that is new."""

        def allow(connection: Connection) -> bool:
            row = current_row(connection, account_id)
            if row is not None:
                no_stranger(connection, row.account)
            return add_holder(connection, account_id)

        return await self._database.writer.write(allow)

    async def name_account(self, account_id: AccountId, petname: str | None) -> Account:
        """Give the account a petname, or take it away; PetnameTaken when another account has it."""
        try:
            return await self._change(account_id, petname=petname)
        except IntegrityError as exc:
            raise PetnameTaken(petname) from exc

    async def set_quota(self, account_id: AccountId, quota_bytes: int | None) -> Account:
        """Bound what the account may store by writing more, whatever it has rented; None: no bound."""
        return await self._change(account_id, quota_bytes=quota_bytes)

    async def set_free(self, account_id: AccountId, now: int, *, free: bool) -> Account:
        """Take nothing from the account, whatever its agreement says; or what it says again, from the next period."""
        return await self._change(account_id, now, free=int(free))

    async def set_blocked(self, account_id: AccountId, now: int, *, blocked: bool) -> Account:
        """Take no writes and no money from the account any more, so that it lapses in time; or take them again."""
        return await self._change(account_id, now, blocked=int(blocked))

    async def note_lightning_id(self, account_id: AccountId, lightning_id: LightningId) -> None:  # MA-R30
        """Write down which Lightning id an account's holder says is theirs; nothing where there is no account."""
        row = await self._database.read(lambda connection: current_row(connection, account_id))
        if row is None or row.lightning_id == lightning_id:
            return
        note = holders.update().where(holders.c.account_id == bindparam("of"))
        values = {"of": account_id, "said": lightning_id}
        await self._database.writer.write(
            lambda connection: connection.execute(note.values(lightning_id=bindparam("said")), values)
        )

    async def carry_on(self, account_id: AccountId, now: int) -> Account:  # R-W4
        """Move an account that owes nothing up to the present period, as `advance` will; others stay as they are."""

        def carry(connection: Connection) -> Account:
            row = needed_row(connection, account_id)
            account = account_of(row)
            after = bill(account, now).account
            # What may end in arrears is billing's: it knows whether the account could have paid.
            carries = owes_nothing(account) and after.state is AccountState.ACTIVE
            return _written(connection, row.account, after) if carries else account

        return await self._database.writer.write(carry)

    async def figures(self, account_id: AccountId | None = None) -> dict[AccountId, Figures]:
        """What is added up for every account, or for one."""
        return await self._database.read(lambda connection: _figures(connection, account_id))

    async def _change(self, account_id: AccountId, now: int | None = None, **values: Any) -> Account:
        def change(connection: Connection) -> Account:
            before = account_of(needed_row(connection, account_id))
            connection.execute(
                holders.update().where(holders.c.account_id == bindparam("of")).values(**values), {"of": account_id}
            )
            row = needed_row(connection, account_id)
            # An account that the operator has dealt with is not removed for never having paid.
            no_stranger(connection, row.account)
            after = account_of(row)
            if now is None:
                return after
            return _written(connection, row.account, _after_change(before, after, now))

        return await self._database.writer.write(change)


def _after_change(before: Account, after: Account, now: int) -> Account:  # RA-W5
    """The account once it begins or ceases to owe nothing: nobody is in arrears for what was never asked for."""
    if after.state is AccountState.LAPSED:
        return after
    moved = _moved(before, after, now)
    return replace(moved, look_at=first_look(moved, now))


def _moved(before: Account, after: Account, now: int) -> Account:
    if owes_nothing(before) and not owes_nothing(after):
        current = max(0, period_at(after.anchor_at, after.period_seconds, now))
        ends_at = period_start(after.anchor_at, after.period_seconds, current + 1)
        return replace(after, paid_until_at=max(after.paid_until_at, ends_at))
    return bill(after, now).account if owes_nothing(after) else after


def _written(connection: Connection, key: int, account: Account) -> Account:
    """The account, its state and time written down."""
    connection.execute(MOVE, move_values(key, account))
    return account


_KEYS = select(ledger_accounts.c.name, (-balance(ledger_accounts.c.ledger_account)).label("earned_msat"))
_NAMED = _KEYS.where(ledger_accounts.c.name.in_(bindparam("names", expanding=True)))
_EVERY_INCOME = _KEYS.where(
    func.substr(ledger_accounts.c.name, 1, func.instr(ledger_accounts.c.name, ":") - 1).in_([x.value for x in EARNING])
)

_later = invoices.alias()
_REPLACED = (
    select(_later.c.invoice)
    .where(
        _later.c.account == invoices.c.account,
        _later.c.purpose == invoices.c.purpose,
        _later.c.number == invoices.c.number,
        _later.c.attempt > invoices.c.attempt,
    )
    .exists()
)
_GIVEN = invoices.c.amount_msat == 0
_PASSED = invoices.c.pay_index.is_not(None) | (_GIVEN & (func.length(invoices.c.lost) == 0))
_FAILED = (_GIVEN & (func.length(invoices.c.lost) > 0)) | (
    ~_GIVEN & invoices.c.pay_index.is_(None) & (_REPLACED | (accounts.c.state == AccountState.LAPSED))
)
_PROOFS = (
    select(
        accounts.c.account_id,
        func.sum(case((_PASSED, 1), else_=0)).label("passed"),
        func.sum(case((_FAILED, 1), else_=0)).label("failed"),
    )
    .join(invoices, invoices.c.account == accounts.c.account)
    .where(invoices.c.purpose == InvoicePurpose.RENT, invoices.c.shares > 0)
    .group_by(accounts.c.account_id)
)
_PROOFS_OF = _PROOFS.where(accounts.c.account_id == bindparam("id"))
_HOLDERS = select(accounts.c.account_id).where(accounts.c.superseded == 0)


def _figures(connection: Connection, account_id: AccountId | None) -> dict[AccountId, Figures]:
    if account_id is None:
        ids = [AccountId(found) for found in connection.execute(_HOLDERS).scalars()]
        income = _income(connection.execute(_EVERY_INCOME))
        proofs = connection.execute(_PROOFS).all()
    else:
        ids = [account_id]
        income = _income(connection.execute(_NAMED, {"names": [ledger.of(account_id) for ledger in EARNING]}))
        proofs = connection.execute(_PROOFS_OF, {"id": account_id}).all()
    counted = {row.account_id: (row.passed, row.failed) for row in proofs}
    return {of: Figures(Msat(income.get(of.hex(), 0)), *counted.get(bytes(of), (0, 0))) for of in ids}


def _income(rows: Iterable[Any]) -> dict[str, int]:
    income: dict[str, int] = {}
    for row in rows:
        account = row.name.partition(":")[2]
        income[account] = income.get(account, 0) + row.earned_msat
    return income
