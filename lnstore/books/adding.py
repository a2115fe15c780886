"""Adding leases: many callers' at once, in a handful of statements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from lnstore.books.grants import COUNT_GRANT, Grant, grants_of
from lnstore.books.ingress import Tab, post_tabs, tabs_of
from lnstore.books.rows import COUNT, no_account
from lnstore.books.rules import ended_refusal, exhausted_refusal, write_refusal
from lnstore.books.schema import accounts, holders, leased_under, leases, unleased
from lnstore.ports import BooksRefused, Leased, NewLease, StoreSmall
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId, ShareId
from lnstore_protocol.messages import AccountState, Buffer

Present = Callable[[ShareId], bool]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A lease to be added at a time: of a share that should be there, or of a small one that comes with it."""

    lease: NewLease
    now: int
    present: Present | None = None
    data: Buffer = b""
    store: StoreSmall | None = None


@dataclass(slots=True)
class _Tally:
    """What an account comes to while a transaction's leases are added."""

    account: int
    state: AccountState
    writable_bytes: int
    used_bytes: int
    quota_bytes: int | None
    blocked: bool
    tab: Tab | None
    shares: int = 0
    added_bytes: int = 0


_INSERT = leases.insert()
_REPLACE = (
    leases.update()
    .where(
        leases.c.account == bindparam("of"), leased_under == bindparam("under"), leases.c.share_id == bindparam("share")
    )
    .values(token_start=bindparam("start"), tokens=bindparam("stored"))
)
_TAKE_OUT = unleased.delete().where(unleased.c.share_id.in_(bindparam("ids", expanding=True)))
_TALLIES = (
    select(
        accounts.c.account_id,
        accounts.c.account,
        accounts.c.state,
        func.coalesce(accounts.c.shrink_to_bytes, accounts.c.capacity_bytes).label("writable_bytes"),
        accounts.c.used_bytes,
        holders.c.quota_bytes,
        holders.c.blocked,
        (
            (holders.c.free == 0)
            & (accounts.c.ingress_msat_per_gib + func.coalesce(accounts.c.renewed_ingress_msat_per_gib, 0) > 0)
        ).label("charged"),
    )
    .join(holders, holders.c.account_id == accounts.c.account_id)
    .where(accounts.c.superseded == 0, accounts.c.account_id.in_(bindparam("ids", expanding=True)))
)
_THERE = select(leases.c.account, leased_under.label("under"), leases.c.share_id).where(
    leases.c.share_id.in_(bindparam("ids", expanding=True))
)


def add_leases(connection: Connection, arrivals: Sequence[Arrival]) -> list[Leased | Exception]:  # RP-W5
    """Add the leases of many callers. What can be refused is refused before anything is written."""
    tallies = _tallies(connection, {arrival.lease.account_id for arrival in arrivals})
    certificate_ids = {a.lease.certificate_id for a in arrivals if a.lease.certificate_id is not None}
    grants = grants_of(connection, certificate_ids) if certificate_ids else {}
    there = _there(connection, [arrival.lease.share_id for arrival in arrivals])
    results: list[Leased | Exception] = []
    new: dict[_Key, dict[str, Any]] = {}
    again: list[dict[str, Any]] = []
    counts: list[dict[str, Any]] = []
    coming: dict[StoreSmall, dict[ShareId, Buffer]] = {}
    for arrival in arrivals:
        lease, now = arrival.lease, arrival.now
        tally = tallies.get(lease.account_id)
        if tally is None:
            results.append(no_account())
            continue
        grant = None if lease.certificate_id is None else grants.get(lease.certificate_id)
        key = (tally.account, 0 if grant is None else grant.key, lease.share_id)
        known = key in there or key in new
        size = 0 if known else lease.size_bytes  # RI-W2
        refusal = write_refusal(
            tally.state,
            tally.writable_bytes,
            tally.used_bytes,
            size,
            quota_bytes=tally.quota_bytes,
            blocked=tally.blocked,
        )
        refusal = refusal or _grant_refusal(lease, grant, size, now)
        if refusal is None and tally.tab is not None:
            refusal = tally.tab.refusal(size, now)
        if refusal is not None:
            results.append(refusal)
            continue
        try:
            if arrival.present is not None and not arrival.present(lease.share_id):
                results.append(FileNotFoundError(f"share {lease.share_id} was swept; put it again"))
                continue
        except OSError as exc:
            results.append(exc)
            continue
        if arrival.store is not None:
            coming.setdefault(arrival.store, {})[lease.share_id] = arrival.data
        if known:
            again.append(
                {
                    "of": tally.account,
                    "under": key[1],
                    "share": lease.share_id,
                    "start": lease.token_start,
                    "stored": lease.tokens,
                }
            )
        else:
            new[key] = {
                "account": tally.account,
                "certificate": None if grant is None else grant.key,
                "share_id": lease.share_id,
                "size_bytes": lease.size_bytes,
                "token_start": lease.token_start,
                "tokens": lease.tokens,
            }
            tally.shares += 1
        tally.used_bytes += size
        tally.added_bytes += size
        charged = None if tally.tab is None else tally.tab.charge(size, now)
        if grant is not None:
            counts += _counted(grant, size, known=known, now=now)
            results.append(Leased(grant.used_bytes))
        elif tally.tab is None or not charged:
            results.append(Leased(tally.used_bytes))
        else:
            results.append(Leased(tally.used_bytes, charged, tally.tab.ingress_bytes))
    for store, shares in coming.items():
        store(list(shares.items()))
    _store(connection, list(new.values()), again, list(tallies.values()))
    if counts:
        connection.execute(COUNT_GRANT, counts)
    post_tabs(connection, [tally.tab for tally in tallies.values() if tally.tab is not None], arrivals[0].now)
    return results


_Key = tuple[int, int, ShareId]
"""Account, certificate (0 for the holder's own) and share: what there is one lease of."""


def _grant_refusal(lease: NewLease, grant: Grant | None, size: int, now: int) -> BooksRefused | None:
    """Why the certificate does not allow this lease; None when it does, and for the holder's own."""
    if lease.certificate_id is None:
        return None
    if grant is None or grant.account_id != lease.account_id:
        return BooksRefused(ErrorCode.DELEGATION_ENDED, "the delegation is not known here; present it again")
    return ended_refusal(grant.expires_at, grant.revoked_at, now) or exhausted_refusal(
        grant.delegate().free_bytes, size, "stored"
    )


def _counted(grant: Grant, size: int, *, known: bool, now: int) -> list[dict[str, Any]]:
    """Count a lease at its certificate and those above; what to write of it."""
    for one in grant.chain():
        one.used_bytes += size
    return [
        {"of": one.key, "bytes": size, "count": 0 if known else 1, "written": size, "read": 0, "now": now}
        for one in grant.chain()
    ]


def _store(
    connection: Connection, new: list[dict[str, Any]], again: list[dict[str, Any]], tallies: list[_Tally]
) -> None:
    if new:
        connection.execute(_INSERT, new)
        connection.execute(_TAKE_OUT, {"ids": [row["share_id"] for row in new]})
    if again:
        connection.execute(_REPLACE, again)
    counts = [
        {"of": tally.account, "bytes": tally.added_bytes, "count": tally.shares, "ingress": tally.added_bytes}
        for tally in tallies
        if tally.shares
    ]
    if counts:
        connection.execute(COUNT, counts)


def _tallies(connection: Connection, account_ids: Iterable[AccountId]) -> dict[AccountId, _Tally]:
    rows = connection.execute(_TALLIES, {"ids": list(account_ids)}).all()
    tabs = tabs_of(connection, [row.account for row in rows if row.charged])
    return {
        AccountId(row.account_id): _Tally(
            row.account,
            AccountState(row.state),
            row.writable_bytes,
            row.used_bytes,
            row.quota_bytes,
            bool(row.blocked),
            tabs.get(row.account),
        )
        for row in rows
    }


def _there(connection: Connection, share_ids: Sequence[ShareId]) -> set[_Key]:
    return {(row.account, row.under, ShareId(row.share_id)) for row in connection.execute(_THERE, {"ids": share_ids})}
