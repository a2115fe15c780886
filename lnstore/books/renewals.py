"""Changes of prices in SQL: what an account was told of, and the agreements that it signed one after another."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam
from sqlalchemy.dialects.sqlite import insert

from lnstore.books.database import Database
from lnstore.books.rows import MOVE, account_of, move_values, needed_row
from lnstore.books.rules import renewal_refusal
from lnstore.books.schema import accounts, renewals
from lnstore.books.states import bill
from lnstore.ports import Account, Announcement
from lnstore_protocol.ids import AccountId
from lnstore_protocol.messages import AccountState
from lnstore_protocol.terms import Agreement


class SqlRenewals:
    """The part of ports.AccountBooks that is about changes of prices."""

    _database: Database

    async def announce(self, account_id: AccountId, announcement: Announcement | None) -> Account:  # R-W28
        """Put in place of the announced change this one, or none; the account then."""
        return await self._database.writer.write(lambda connection: _announce(connection, account_id, announcement))

    async def renew(self, agreement: Agreement, now: int) -> Account:  # R-W30
        """Enter an agreement, signed by both, over what was announced; the account then.

        BooksRefused when that is not announced (any more). ValueError when the node has not signed it.
        """
        if not agreement.countersigned:
            raise ValueError("an agreement is entered in the books once both have signed it")
        return await self._database.writer.write(lambda connection: _renew(connection, agreement, now))


_ANNOUNCED = ("announced_terms", "announced_period", "announced_at")
_ANNOUNCE = (
    accounts.update()
    .where(accounts.c.account == bindparam("of"))
    .values({name: bindparam(f"new_{name}") for name in _ANNOUNCED})
)
_KEEP = insert(renewals).on_conflict_do_nothing()


def _announce(connection: Connection, account_id: AccountId, announcement: Announcement | None) -> Account:
    row = needed_row(connection, account_id)
    told = (
        (None, None, None)
        if announcement is None
        else (announcement.terms, announcement.from_period, announcement.announced_at)
    )
    values = {f"new_{name}": value for name, value in zip(_ANNOUNCED, told, strict=True)}
    connection.execute(_ANNOUNCE, {"of": row.account, **values})
    return account_of(needed_row(connection, account_id))


def _renew(connection: Connection, agreement: Agreement, now: int) -> Account:
    row = needed_row(connection, agreement.account_id)
    before = account_of(row)
    refusal = renewal_refusal(before, agreement)
    if refusal is not None:
        raise refusal
    kept = [(before.agreed_period, before.agreement), (agreement.from_period, agreement.encoded)]
    connection.execute(
        _KEEP,
        [
            {
                "account_id": agreement.account_id,
                "anchor_at": agreement.anchor_at,
                "from_period": from_period,
                "encoded": encoded,
                "entered_at": now,
            }
            for from_period, encoded in kept
        ],
    )
    terms = agreement.terms.terms
    values = dict.fromkeys(_ANNOUNCED) | {
        "renewed_agreement": agreement.encoded,
        "renewed_period": agreement.from_period,
        "renewed_price_msat_per_gib_month": terms.price_msat_per_gib_month,
        "renewed_egress_msat_per_gib": terms.egress_msat_per_gib,
        "renewed_ingress_msat_per_gib": terms.ingress_msat_per_gib,
    }
    if before.renewal is not None:
        former = before.renewal.prices
        values |= {
            "agreement": before.renewal.agreement,
            "agreed_period": former.from_period,
            "price_msat_per_gib_month": former.price_msat_per_gib_month,
            "egress_msat_per_gib": former.egress_msat_per_gib,
            "ingress_msat_per_gib": former.ingress_msat_per_gib,
        }
    this = accounts.update().where(accounts.c.account == row.account)
    connection.execute(this.values(values))
    # What was in grace for want of a price may owe nothing now.
    after = account_of(needed_row(connection, agreement.account_id))
    to = bill(after, now).account
    if after.state is AccountState.GRACE and to.state is AccountState.ACTIVE:
        connection.execute(MOVE, move_values(row.account, to))
    return account_of(needed_row(connection, agreement.account_id))
