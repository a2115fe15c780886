"""Ending leases, and deleting the shares that nobody leases then."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects.sqlite import insert

from lnstore.books.grants import count_keys
from lnstore.books.rows import COUNT, AnyRow
from lnstore.books.schema import TO_SWEEP, accounts, leases, unleased
from lnstore_protocol.ids import ShareId

Delete = Callable[[ShareId], None]

_END = leases.delete().where(leases.c.lease.in_(bindparam("ended", expanding=True)))
_STILL = select(leases.c.share_id).where(leases.c.share_id.in_(bindparam("ids", expanding=True)))
_NOTE = insert(unleased).on_conflict_do_nothing()
_LAPSED = (
    select(leases.c.lease, leases.c.account, leases.c.certificate, leases.c.share_id, leases.c.size_bytes)
    .join(accounts, accounts.c.account == leases.c.account)
    .where(TO_SWEEP)
    .limit(bindparam("limit"))
)
_UNLEASED = select(unleased.c.share_id).limit(bindparam("limit"))
_GONE = unleased.delete().where(unleased.c.share_id.in_(bindparam("ids", expanding=True)))


def end_leases(connection: Connection, account: int, ended: Sequence[AnyRow]) -> tuple[int, int]:
    """End these leases of one account row: how many, and of how many bytes. Shares without a lease are noted."""
    if not ended:
        return 0, 0
    ids = [row.share_id for row in ended]
    size = sum(row.size_bytes for row in ended)
    connection.execute(_END, {"ended": [row.lease for row in ended]})
    still = set(connection.execute(_STILL, {"ids": ids}).scalars())
    if loose := [{"share_id": share_id} for share_id in ids if share_id not in still]:
        connection.execute(_NOTE, loose)
    connection.execute(COUNT, [{"of": account, "bytes": -size, "count": -len(ids), "ingress": 0}])
    under: dict[int, list[int]] = {}
    for row in ended:
        if row.certificate is not None:
            under.setdefault(row.certificate, []).append(row.size_bytes)
    count_keys(connection, [(key, -sum(sizes), -len(sizes)) for key, sizes in under.items()])
    return len(ids), size


def sweepable(connection: Connection) -> bool:
    """Whether a lapsed account has leases left, or a share lies there that nobody leases."""
    return any(connection.execute(query, {"limit": 1}).first() is not None for query in (_UNLEASED, _LAPSED))


def sweep(connection: Connection, *, delete: Delete, step: int) -> int:
    """End at most `step` leases of lapsed accounts, delete at most `step` shares that nobody leases: how many went."""
    by_account: dict[int, list[AnyRow]] = {}
    for row in connection.execute(_LAPSED, {"limit": step}):
        by_account.setdefault(row.account, []).append(row)
    for account, ended in by_account.items():
        end_leases(connection, account, ended)
    ids = connection.execute(_UNLEASED, {"limit": step}).scalars().all()
    for share_id in ids:
        delete(ShareId(share_id))
    connection.execute(_GONE, {"ids": ids})
    return len(ids)


def forget(connection: Connection, share_id: ShareId, delete: Delete) -> bool:
    """Delete the share unless somebody leases it; whether it went."""
    if connection.execute(_STILL, {"ids": [share_id]}).first() is not None:
        return False
    delete(share_id)
    connection.execute(_GONE, {"ids": [share_id]})
    return True
