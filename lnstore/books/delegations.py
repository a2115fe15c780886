"""Delegations in SQL: which certificates were presented, what was done under each, and what was revoked.

A certificate's counters are those of its whole subtree: whatever is stored or read under a certificate is counted there
and at the one above it, in the transaction that does it, after both were found to allow it.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, or_, select
from sqlalchemy.dialects.sqlite import insert

from lnstore.books.database import Database
from lnstore.books.grants import GRANTS, Grant, grant_of, grants_of, needed_grant
from lnstore.books.rows import AnyRow, account_of, needed_row
from lnstore.books.rules import ended_refusal
from lnstore.books.schema import certificates, holds, leases, revocations
from lnstore.ports import BooksRefused, Delegate
from lnstore_protocol.delegation import Authority, SignedCertificate
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId, CertificateId
from lnstore_protocol.messages import AccountState
from lnstore_protocol.usages import Usage

MAXIMUM_CERTIFICATES = 1024
MAXIMUM_BELOW = 64
"""Certificates of one account, and below one of them, that are kept (D-R9); what has expired unused makes room."""

MAXIMUM_REVOCATIONS = 4096
"""Per account: more are the holder's own fault, and its key can be left behind."""


class SqlDelegations:
    """ports.DelegationBooks."""

    _database: Database

    async def present(self, authority: Authority, now: int) -> Delegate:  # D-R6
        """Enter the chain's certificates, and what was done under the last one so far."""
        return await self._database.writer.write(lambda connection: _present(connection, authority, now))

    async def delegate(self, certificate_id: CertificateId, now: int) -> Delegate:  # D-R13
        """A presented certificate as it stands; BooksRefused(DELEGATION_ENDED) when it was revoked or has expired."""

        def look(connection: Connection) -> Delegate:
            grant = needed_grant(connection, certificate_id)
            if (refusal := ended_refusal(grant.expires_at, grant.revoked_at, now)) is not None:
                raise refusal
            return grant.delegate()

        return await self._database.read(look)

    async def revoke(self, account_id: AccountId, target: bytes, now: int) -> int:  # D-R15
        """End the certificate of this id, or all of this subject, with those below; how many presented ones ended."""
        return await self._database.writer.write(lambda connection: _revoke(connection, account_id, target, now))

    async def usages(self, account_id: AccountId, *, after: CertificateId | None, limit: int) -> list[Usage]:  # D-R17
        """What was done under the account's certificates, ascending by id."""
        query = _USAGES.where(certificates.c.certificate_id > (after or b"")).limit(limit)
        rows = await self._database.read(lambda connection: connection.execute(query, {"id": account_id}).all())
        return [_usage(row) for row in rows]

    async def is_below(self, account_id: AccountId, target: CertificateId, above: CertificateId | None) -> bool:
        """Whether `target` is a certificate of the account, and (with `above`) that one or below it."""
        rows = await self._database.read(lambda connection: grants_of(connection, [target]))
        grant = rows.get(target)
        if grant is None or grant.account_id != account_id:
            return False
        return above is None or above in [one.certificate_id for one in grant.chain()]

    async def delegated(self, account_id: AccountId) -> tuple[int, int]:
        """Bytes and shares stored under the account's certificates."""
        row = await self._database.read(lambda connection: connection.execute(_DELEGATED, {"id": account_id}).one())
        return int(row[0]), int(row[1])


_PARENT = certificates.alias("above")
_USAGES = (
    select(certificates, _PARENT.c.certificate_id.label("parent_id"))
    .outerjoin(_PARENT, certificates.c.parent == _PARENT.c.certificate)
    .where(certificates.c.account_id == bindparam("id"))
    .order_by(certificates.c.certificate_id)
)
_DELEGATED = select(
    func.coalesce(func.sum(certificates.c.used_bytes), 0), func.coalesce(func.sum(certificates.c.shares), 0)
).where(certificates.c.account_id == bindparam("id"), certificates.c.parent.is_(None))
_NEW = certificates.insert().returning(certificates.c.certificate)
_SEEN = (
    certificates.update()
    .where(certificates.c.certificate == bindparam("of"))
    .values(last_seen_at=func.max(certificates.c.last_seen_at, bindparam("now")))
)
_REVOKED = select(func.min(revocations.c.at)).where(
    revocations.c.account_id == bindparam("id"), revocations.c.target.in_(bindparam("targets", expanding=True))
)
_REVOCATIONS = select(func.count()).where(revocations.c.account_id == bindparam("id"))
_REVOKE = insert(revocations).on_conflict_do_nothing()
_NAMED = select(certificates.c.certificate).where(
    certificates.c.account_id == bindparam("id"),
    or_(certificates.c.certificate_id == bindparam("target"), certificates.c.subject == bindparam("target")),
)


def _present(connection: Connection, authority: Authority, now: int) -> Delegate:
    account = account_of(needed_row(connection, authority.account_id))
    if account.state is AccountState.LAPSED:
        raise BooksRefused(ErrorCode.LAPSED, "the account's rent was not paid in time; ask its holder")
    if account.unpaid_since_at is not None:  # S-W3: it may be removed, and what its holder revoked with it
        raise BooksRefused(ErrorCode.DELEGATION_REFUSED, "nothing was paid for this account yet; ask its holder")
    known = grants_of(connection, [signed.certificate_id for signed in authority.chain])
    parent: Grant | None = None
    for signed in authority.chain:
        grant = known.get(signed.certificate_id)
        if grant is None:
            _make_room(connection, authority.account_id, parent, now)
            grant = _enter(connection, authority.account_id, signed, parent, now)
        elif (grant.account_id, grant.parent) != (authority.account_id, parent):
            raise BooksRefused(ErrorCode.DELEGATION_REFUSED, "this certificate was presented below another one")
        if (refusal := ended_refusal(grant.expires_at, grant.revoked_at, now)) is not None:
            raise refusal
        parent = grant
    assert parent is not None  # noqa: S101 - a chain has a certificate
    connection.execute(_SEEN, [{"of": grant.key, "now": now} for grant in parent.chain()])
    return parent.delegate()


def _enter(
    connection: Connection, account_id: AccountId, signed: SignedCertificate, parent: Grant | None, now: int
) -> Grant:
    certificate = signed.certificate
    targets = [bytes(signed.certificate_id), bytes(certificate.subject)]
    revoked_at = connection.execute(_REVOKED, {"id": account_id, "targets": targets}).scalar()
    if parent is not None and parent.revoked_at is not None:
        revoked_at = parent.revoked_at
    values = {
        "certificate_id": signed.certificate_id,
        "account_id": account_id,
        "parent": None if parent is None else parent.key,
        "subject": certificate.subject,
        "encoded": signed.encoded,
        "maximum_bytes": certificate.maximum_bytes,
        "maximum_read_bytes": certificate.maximum_read_bytes,
        "expires_at": certificate.expires_at,
        "used_bytes": 0,
        "shares": 0,
        "written_bytes": 0,
        "read_bytes": 0,
        "first_seen_at": now,
        "last_seen_at": now,
        "revoked_at": revoked_at,
    }
    key = connection.execute(_NEW, values).scalar_one()
    row = connection.execute(GRANTS.where(certificates.c.certificate == key)).one()
    return grant_of(row, parent)


def _make_room(connection: Connection, account_id: AccountId, parent: Grant | None, now: int) -> None:
    """Forget certificates that have expired and hold nothing, when there are as many as may be."""
    among: ColumnElement[bool] = certificates.c.parent == (None if parent is None else parent.key)
    most = MAXIMUM_CERTIFICATES if parent is None else MAXIMUM_BELOW
    if parent is None:
        among = and_(certificates.c.account_id == account_id, among)
    count = select(func.count()).select_from(certificates).where(among)
    if connection.execute(count).scalar_one() < most:
        return
    below = certificates.alias()
    over = select(certificates.c.certificate).where(
        among,
        certificates.c.expires_at <= now,
        ~select(leases.c.lease).where(leases.c.certificate == certificates.c.certificate).exists(),
        ~select(holds.c.hold).where(holds.c.certificate == certificates.c.certificate).exists(),
        ~select(below.c.certificate).where(below.c.parent == certificates.c.certificate).exists(),
    )
    connection.execute(certificates.delete().where(certificates.c.certificate.in_(over)))
    if connection.execute(count).scalar_one() >= most:
        raise BooksRefused(ErrorCode.DELEGATION_REFUSED, f"no more than {most} certificates are kept here at a time")


def _revoke(connection: Connection, account_id: AccountId, target: bytes, now: int) -> int:  # D-R14
    """The leases stay: they are the account's, and its holder's to drop."""
    if needed_row(connection, account_id).unpaid_since_at is not None:
        raise BooksRefused(
            ErrorCode.DELEGATION_REFUSED,
            "nothing was paid for this account, so no certificate of it is taken here; revoke once something is paid",
        )
    if connection.execute(_REVOCATIONS, {"id": account_id}).scalar_one() >= MAXIMUM_REVOCATIONS:
        raise BooksRefused(ErrorCode.CAPACITY_EXCEEDED, f"no more than {MAXIMUM_REVOCATIONS} revocations are kept")
    connection.execute(_REVOKE, {"account_id": account_id, "target": target, "at": now})
    named = connection.execute(_NAMED, {"id": account_id, "target": target}).scalars().all()
    ended = connection.execute(
        certificates.update()
        .where(
            or_(certificates.c.certificate.in_(named), certificates.c.parent.in_(named)),
            certificates.c.revoked_at.is_(None),
        )
        .values(revoked_at=now)
    )
    return ended.rowcount


def _usage(row: AnyRow) -> Usage:
    return Usage(
        certificate=row.encoded,
        used_bytes=row.used_bytes,
        shares=row.shares,
        written_bytes=row.written_bytes,
        read_bytes=row.read_bytes,
        first_seen_at=row.first_seen_at,
        last_seen_at=row.last_seen_at,
        parent=None if row.parent_id is None else CertificateId(row.parent_id),
        revoked_at=row.revoked_at,
    )
