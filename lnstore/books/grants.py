"""Certificates as rows, each with the one above it: what the transactions that store and read under them look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select

from lnstore.books.rows import AnyRow, AnySelect
from lnstore.books.schema import certificates
from lnstore.ports import BooksRefused, Delegate
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId, CertificateId


@dataclass(slots=True, eq=False)
class Grant:
    """A certificate's row, its counters carried on while a transaction adds to them; `parent` is the one above it."""

    key: int
    certificate_id: CertificateId
    account_id: AccountId
    parent: Grant | None
    maximum_bytes: int
    maximum_read_bytes: int
    expires_at: int
    revoked_at: int | None
    used_bytes: int
    shares: int
    read_bytes: int

    def chain(self) -> Iterator[Grant]:
        """This one and those above it."""
        grant: Grant | None = self
        while grant is not None:
            yield grant
            grant = grant.parent

    def delegate(self) -> Delegate:
        """What is told of it: the limits are those of whichever link leaves the least."""
        return Delegate(
            certificate_id=self.certificate_id,
            account_id=self.account_id,
            used_bytes=self.used_bytes,
            shares=self.shares,
            read_bytes=self.read_bytes,
            free_bytes=min(grant.maximum_bytes - grant.used_bytes for grant in self.chain()),
            free_read_bytes=min(grant.maximum_read_bytes - grant.read_bytes for grant in self.chain()),
        )


GRANTS: AnySelect = select(certificates)
_WITH_PARENTS = GRANTS.where(
    certificates.c.certificate.in_(
        select(certificates.c.certificate)
        .where(certificates.c.certificate_id.in_(bindparam("ids", expanding=True)))
        .union(
            select(certificates.c.parent).where(
                certificates.c.certificate_id.in_(bindparam("ids", expanding=True)), certificates.c.parent.isnot(None)
            )
        )
    )
)
COUNT_GRANT = (
    certificates.update()
    .where(certificates.c.certificate == bindparam("of"))
    .values(
        used_bytes=certificates.c.used_bytes + bindparam("bytes"),
        shares=certificates.c.shares + bindparam("count"),
        written_bytes=certificates.c.written_bytes + bindparam("written"),
        read_bytes=certificates.c.read_bytes + bindparam("read"),
        last_seen_at=func.max(certificates.c.last_seen_at, bindparam("now")),
    )
)
"""Keeps a certificate's counters in step with leases and reading; always in the transaction that changes them."""

_LINKS = select(certificates.c.certificate, certificates.c.parent).where(
    certificates.c.certificate.in_(bindparam("keys", expanding=True))
)


def grant_of(row: AnyRow, parent: Grant | None) -> Grant:
    """The grant of a row of GRANTS."""
    return Grant(
        key=row.certificate,
        certificate_id=CertificateId(row.certificate_id),
        account_id=AccountId(row.account_id),
        parent=parent,
        maximum_bytes=row.maximum_bytes,
        maximum_read_bytes=row.maximum_read_bytes,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        used_bytes=row.used_bytes,
        shares=row.shares,
        read_bytes=row.read_bytes,
    )


def grants_of(connection: Connection, ids: Iterable[CertificateId]) -> dict[CertificateId, Grant]:
    """The grants of these certificates, as far as they were presented; one object for each row."""
    rows = connection.execute(_WITH_PARENTS, {"ids": list(ids)}).all()
    top = {row.certificate: grant_of(row, None) for row in rows if row.parent is None}
    below = [grant_of(row, top[row.parent]) for row in rows if row.parent is not None]
    return {grant.certificate_id: grant for grant in (*top.values(), *below)}


def needed_grant(connection: Connection, certificate_id: CertificateId) -> Grant:
    """The grant of a certificate; BooksRefused when it is not known (any more)."""
    grant = grants_of(connection, [certificate_id]).get(certificate_id)
    if grant is None:
        raise BooksRefused(ErrorCode.DELEGATION_ENDED, "the delegation is not known here; present it again")
    return grant


def count_keys(connection: Connection, changes: Sequence[tuple[int, int, int]]) -> None:
    """Add (bytes, shares) to certificates and to those above them, by (key, bytes, shares)."""
    if not changes:
        return
    rows = connection.execute(_LINKS, {"keys": [key for key, _, _ in changes]})
    above = {row.certificate: row.parent for row in rows}
    values = [
        {"of": of, "bytes": size, "count": count, "written": 0, "read": 0, "now": 0}
        for key, size, count in changes
        for of in (key, above[key])
        if of is not None
    ]
    connection.execute(COUNT_GRANT, values)
