"""Egress in SQL: holds on the deposit, settled into the ledger."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, func, or_, select

from lnstore.books.database import Database
from lnstore.books.grants import COUNT_GRANT, Grant, grants_of, needed_grant
from lnstore.books.ledger import close, post
from lnstore.books.rows import AnyRow, account_of, needed_row
from lnstore.books.rules import ended_refusal, exhausted_refusal, hold_entries, settle_entries
from lnstore.books.schema import accounts, certificates, holds
from lnstore_protocol.ids import AccountId, CertificateId
from lnstore_protocol.terms import traffic_msat

ORPHANS_PER_COMMIT = 256


class SqlTraffic:
    """ports.TrafficBooks."""

    _database: Database

    async def hold_egress(
        self, account_id: AccountId, traffic_bytes: int, now: int, *, certificate_id: CertificateId | None = None
    ) -> int:
        """Reserve the price of `traffic_bytes`; the hold's id. BooksRefused when the deposit or a certificate lacks."""
        return await self._database.writer.write(
            lambda connection: _hold(connection, account_id, traffic_bytes, now, certificate_id)
        )

    async def settle_egress(self, hold_id: int, used_bytes: int, now: int) -> None:
        """Post what was used of the hold and give back the rest. Settling it again does nothing."""

        def settle(connection: Connection) -> None:
            row = connection.execute(_HOLD, {"of": hold_id}).one_or_none()
            if row is not None:
                _settle(connection, row, min(used_bytes, row.traffic_bytes), now)

        await self._database.writer.write(settle)

    async def settle_orphaned_holds(self, now: int) -> int:
        """At start-up: post in full the holds a crash left behind (they bound what was read); how many."""

        def settle(connection: Connection) -> int:
            rows = connection.execute(_HELD.order_by(holds.c.hold).limit(ORPHANS_PER_COMMIT)).all()
            for row in rows:
                _settle(connection, row, row.traffic_bytes, now)
            return len(rows)

        settled = 0
        while count := await self._database.writer.write(settle):
            settled += count
        return settled


_HELD = (
    select(
        holds,
        accounts.c.account_id,
        accounts.c.deposit,
        certificates.c.certificate_id,
    )
    .join(accounts, accounts.c.account == holds.c.account)
    .outerjoin(certificates, certificates.c.certificate == holds.c.certificate)
)
_HELD_UNDER = select(func.coalesce(func.sum(holds.c.traffic_bytes), 0)).where(
    holds.c.certificate.in_(
        select(certificates.c.certificate).where(
            or_(certificates.c.certificate == bindparam("of"), certificates.c.parent == bindparam("of"))
        )
    )
)
_HOLD = _HELD.where(holds.c.hold == bindparam("of"))
_NEW = holds.insert().returning(holds.c.hold)
_END = holds.delete().where(holds.c.hold == bindparam("of"))
_COUNT = (
    accounts.update()
    .where(accounts.c.account == bindparam("of"))
    .values(egress_bytes=accounts.c.egress_bytes + bindparam("used"))
)


def _reference(hold: int) -> str:
    return f"hold/{hold}"


def _hold(
    connection: Connection, account_id: AccountId, traffic_bytes: int, now: int, certificate_id: CertificateId | None
) -> int:
    row = needed_row(connection, account_id)
    grant = None if certificate_id is None else needed_grant(connection, certificate_id)
    if grant is not None:
        _check_reading(connection, grant, traffic_bytes, now)
    account = account_of(row)
    price = account.prices.for_traffic(now).egress_msat_per_gib  # R-W26
    entries = hold_entries(account, traffic_bytes, price)
    held = {
        "account": row.account,
        "certificate": None if grant is None else grant.key,
        "at": now,
        "traffic_bytes": traffic_bytes,
        "amount_msat": sum(entry.amount_msat for entry in entries),
        "price_msat_per_gib": price,
    }
    hold = int(connection.execute(_NEW, held).scalar_one())
    post(connection, entries, at=now, reference=_reference(hold))
    return hold


def _check_reading(connection: Connection, grant: Grant, traffic_bytes: int, now: int) -> None:  # D-R12
    """BooksRefused when the delegation has ended or a link does not allow the bytes beside what is held already."""
    if (refusal := ended_refusal(grant.expires_at, grant.revoked_at, now)) is not None:
        raise refusal
    for one in grant.chain():
        held = connection.execute(_HELD_UNDER, {"of": one.key}).scalar_one()
        free = one.maximum_read_bytes - one.read_bytes - held
        if (refusal := exhausted_refusal(free, traffic_bytes, "read")) is not None:
            raise refusal


def _settle(connection: Connection, row: AnyRow, used_bytes: int, now: int) -> None:
    used_msat = traffic_msat(used_bytes, row.price_msat_per_gib)
    entries = settle_entries(AccountId(row.account_id), row.amount_msat, used_msat)
    post(connection, entries, at=now, reference=_reference(row.hold))
    connection.execute(_END, {"of": row.hold})
    connection.execute(_COUNT, {"of": row.account, "used": used_bytes})
    if row.certificate_id is not None:
        certificate_id = CertificateId(row.certificate_id)
        grant = grants_of(connection, [certificate_id])[certificate_id]
        connection.execute(
            COUNT_GRANT,
            [
                {"of": one.key, "bytes": 0, "count": 0, "written": 0, "read": used_bytes, "now": now}
                for one in grant.chain()
            ],
        )
    close(connection, row.deposit)
