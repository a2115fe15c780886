"""Leases in SQL, and the sweep of shares that nobody leases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.dialects.sqlite import insert

from lnstore.books.database import Database
from lnstore.books.rows import AnyRow, account_key, account_of, needed_row, no_account
from lnstore.books.rules import write_refusal
from lnstore.books.schema import accounts, leases, unleased
from lnstore.ports import Account, Lease, NewLease
from lnstore_protocol.ids import AccountId, ShareId
from lnstore_protocol.messages import AccountState

IDS_PER_QUERY = 1_000
SWEEP_STEP = 256
"""Leases ended and shares deleted in one transaction: other writers get their turn in between."""

Present = Callable[[ShareId], bool]
Delete = Callable[[ShareId], None]


@dataclass(slots=True)
class _Tally:
    """What an account comes to while a transaction's leases are added."""

    account: int
    state: AccountState
    capacity_bytes: int
    used_bytes: int
    shares: int = 0
    added_bytes: int = 0
    ingress_bytes: int = 0


class SqlLeases:
    """ports.LeaseBooks."""

    _database: Database

    async def may_write(self, account_id: AccountId, size_bytes: int) -> Account:
        """Check early that a share of this size would be taken now; BooksRefused says why not."""
        account = account_of(await self._database.read(lambda connection: needed_row(connection, account_id)))
        refusal = write_refusal(account.state, account.capacity_bytes, account.used_bytes, size_bytes)
        if refusal is not None:
            raise refusal
        return account

    async def add_lease(self, lease: NewLease, now: int, *, present: Present) -> int:  # noqa: ARG002  (the port's)
        """Add the lease (again: replace its tokens); the account's used bytes.

        Checked inside the transaction: the account may write, used ≤ capacity, and `present(share_id)`;
        FileNotFoundError when the share was swept meanwhile (put it again). Leases of many callers share one commit.
        """
        return await self._database.writer.write_together(_add, (lease, present))

    async def drop_leases(self, account_id: AccountId, share_ids: Sequence[ShareId]) -> tuple[int, int]:
        """End leases; how many ended and the used bytes now."""

        def drop(connection: Connection) -> tuple[int, int]:
            row = needed_row(connection, account_id)
            dropped = 0
            freed = 0
            for ids in _some(share_ids):
                of_account = (leases.c.account == row.account) & leases.c.share_id.in_(ids)
                ended = connection.execute(
                    select(leases.c.lease, leases.c.share_id, leases.c.size_bytes).where(of_account)
                )
                count, size = _end(connection, row.account, ended.all())
                dropped, freed = dropped + count, freed + size
            return dropped, row.used_bytes - freed

        return await self._database.writer.write(drop)

    async def held(self, account_id: AccountId, share_ids: Sequence[ShareId]) -> list[bool]:
        """For each id whether the account holds a lease on it."""
        found = await self._database.read(
            lambda connection: _found(connection, account_id, share_ids, leases.c.share_id)
        )
        ids = {row.share_id for row in found}
        return [bytes(share_id) in ids for share_id in share_ids]

    async def leases(self, account_id: AccountId, *, after: ShareId | None, limit: int) -> list[Lease]:
        """Leases in ascending order of share id."""

        def page(connection: Connection) -> Sequence[AnyRow]:
            query = (
                select(leases)
                .where(leases.c.account == account_key(connection, account_id))
                .order_by(leases.c.share_id)
                .limit(limit)
            )
            if after is not None:
                query = query.where(leases.c.share_id > after)
            return connection.execute(query).all()

        return [_lease_of(row) for row in await self._database.read(page)]

    async def leased_ids(self, account_id: AccountId) -> bytes:
        """All the account's share ids, ascending, 32 bytes each: what the sample is drawn from."""

        def ids(connection: Connection) -> bytes:
            query = (
                select(leases.c.share_id)
                .where(leases.c.account == account_key(connection, account_id))
                .order_by(leases.c.share_id)
            )
            return b"".join(connection.execute(query).scalars())

        return await self._database.read(ids)

    async def lease_tokens(self, account_id: AccountId, share_ids: Sequence[ShareId]) -> dict[ShareId, Lease]:
        """These leases, by share id."""
        found = await self._database.read(lambda connection: _found(connection, account_id, share_ids, leases))
        return {lease.share_id: lease for lease in map(_lease_of, found)}

    async def sweep(self, *, delete: Delete, limit: int) -> int:
        """End leases of lapsed accounts and delete shares nobody leases, at most `limit`; how many shares went.

        `delete` runs inside the transaction that saw no lease, so that a put that commits a lease meanwhile is safe.
        Fewer than `limit` means that nothing is left to sweep.
        """
        gone = 0
        while gone < limit:
            if not await self._database.read(_sweepable):
                break
            step = min(SWEEP_STEP, limit - gone)
            gone += await self._database.writer.write(partial(_sweep, delete=delete, step=step))
        return gone

    async def forget_orphan(self, share_id: ShareId, *, delete: Delete) -> bool:
        """Delete this share if nobody leases it (same rule); whether it went."""
        return await self._database.writer.write(lambda connection: _forget(connection, share_id, delete))


def _lease_of(row: AnyRow) -> Lease:
    return Lease(
        share_id=ShareId(row.share_id), size_bytes=row.size_bytes, token_start=row.token_start, tokens=row.tokens
    )


def _some(share_ids: Iterable[ShareId]) -> Iterable[list[ShareId]]:
    rest = iter(share_ids)
    while ids := list(islice(rest, IDS_PER_QUERY)):
        yield ids


def _found(connection: Connection, account_id: AccountId, share_ids: Sequence[ShareId], what: Any) -> list[AnyRow]:
    key = account_key(connection, account_id)
    return [
        row
        for ids in _some(share_ids)
        for row in connection.execute(select(what).where(leases.c.account == key, leases.c.share_id.in_(ids)))
    ]


# --- adding ---------------------------------------------------------------------------------------------------------

_INSERT = leases.insert()
_REPLACE = (
    leases.update()
    .where(leases.c.account == bindparam("of"), leases.c.share_id == bindparam("share"))
    .values(token_start=bindparam("start"), tokens=bindparam("stored"))
)
_COUNT = (
    accounts.update()
    .where(accounts.c.account == bindparam("of"))
    .values(
        used_bytes=accounts.c.used_bytes + bindparam("bytes"),
        shares=accounts.c.shares + bindparam("count"),
        ingress_bytes=accounts.c.ingress_bytes + bindparam("ingress"),
    )
)


def _add(connection: Connection, items: Sequence[tuple[NewLease, Present]]) -> list[int | Exception]:
    """Add the leases of many callers. What can be refused is refused before anything is written."""
    tallies = _tallies(connection, {lease.account_id for lease, _ in items})
    there = _there(connection, [lease.share_id for lease, _ in items])
    results: list[int | Exception] = []
    new: dict[tuple[int, ShareId], dict[str, Any]] = {}
    again: list[dict[str, Any]] = []
    for lease, present in items:
        tally = tallies.get(lease.account_id)
        if tally is None:
            results.append(no_account())
            continue
        key = (tally.account, lease.share_id)
        known = key in there or key in new
        size = 0 if known else lease.size_bytes
        refusal = write_refusal(tally.state, tally.capacity_bytes, tally.used_bytes, size)
        if refusal is not None:
            results.append(refusal)
            continue
        try:
            if not present(lease.share_id):
                results.append(FileNotFoundError(f"share {lease.share_id} was swept; put it again"))
                continue
        except OSError as exc:
            results.append(exc)
            continue
        if known:
            again.append(
                {"of": tally.account, "share": lease.share_id, "start": lease.token_start, "stored": lease.tokens}
            )
        else:
            new[key] = {
                "account": tally.account,
                "share_id": lease.share_id,
                "size_bytes": lease.size_bytes,
                "token_start": lease.token_start,
                "tokens": lease.tokens,
            }
            tally.shares += 1
        tally.used_bytes += size
        tally.added_bytes += size
        tally.ingress_bytes += lease.size_bytes
        results.append(tally.used_bytes)
    _store(connection, list(new.values()), again, list(tallies.values()))
    return results


def _store(
    connection: Connection, new: list[dict[str, Any]], again: list[dict[str, Any]], tallies: list[_Tally]
) -> None:
    if new:
        connection.execute(_INSERT, new)
        connection.execute(unleased.delete().where(unleased.c.share_id.in_([row["share_id"] for row in new])))
    if again:
        connection.execute(_REPLACE, again)
    counts = [
        {"of": tally.account, "bytes": tally.added_bytes, "count": tally.shares, "ingress": tally.ingress_bytes}
        for tally in tallies
        if tally.ingress_bytes
    ]
    if counts:
        connection.execute(_COUNT, counts)


def _tallies(connection: Connection, account_ids: Iterable[AccountId]) -> dict[AccountId, _Tally]:
    query = select(
        accounts.c.account_id, accounts.c.account, accounts.c.state, accounts.c.capacity_bytes, accounts.c.used_bytes
    ).where(accounts.c.superseded == 0, accounts.c.account_id.in_(list(account_ids)))
    return {
        AccountId(row.account_id): _Tally(row.account, AccountState(row.state), row.capacity_bytes, row.used_bytes)
        for row in connection.execute(query)
    }


def _there(connection: Connection, share_ids: Sequence[ShareId]) -> set[tuple[int, ShareId]]:
    query = select(leases.c.account, leases.c.share_id).where(leases.c.share_id.in_(share_ids))
    return {(row.account, ShareId(row.share_id)) for row in connection.execute(query)}


# --- ending ---------------------------------------------------------------------------------------------------------


def _end(connection: Connection, account: int, ended: Sequence[AnyRow]) -> tuple[int, int]:
    """End these leases of one account row: how many, and of how many bytes. Shares without a lease are noted."""
    if not ended:
        return 0, 0
    ids = [row.share_id for row in ended]
    size = sum(row.size_bytes for row in ended)
    connection.execute(leases.delete().where(leases.c.lease.in_([row.lease for row in ended])))
    still = set(connection.execute(select(leases.c.share_id).where(leases.c.share_id.in_(ids))).scalars())
    if loose := [{"share_id": share_id} for share_id in ids if share_id not in still]:
        connection.execute(insert(unleased).on_conflict_do_nothing(), loose)
    connection.execute(_COUNT, [{"of": account, "bytes": -size, "count": -len(ids), "ingress": 0}])
    return len(ids), size


_LAPSED_LEASES = (
    select(leases.c.lease, leases.c.account, leases.c.share_id, leases.c.size_bytes)
    .join(accounts, accounts.c.account == leases.c.account)
    .where(accounts.c.state == AccountState.LAPSED, accounts.c.shares > 0)
)


def _sweepable(connection: Connection) -> bool:
    return any(
        connection.execute(query.limit(1)).first() is not None
        for query in (select(unleased.c.share_id), _LAPSED_LEASES)
    )


def _sweep(connection: Connection, *, delete: Delete, step: int) -> int:
    by_account: dict[int, list[AnyRow]] = {}
    for row in connection.execute(_LAPSED_LEASES.limit(step)):
        by_account.setdefault(row.account, []).append(row)
    for account, ended in by_account.items():
        _end(connection, account, ended)
    ids = connection.execute(select(unleased.c.share_id).limit(step)).scalars().all()
    for share_id in ids:
        delete(ShareId(share_id))
    connection.execute(unleased.delete().where(unleased.c.share_id.in_(ids)))
    return len(ids)


def _forget(connection: Connection, share_id: ShareId, delete: Delete) -> bool:
    leased = connection.execute(select(func.count()).select_from(leases).where(leases.c.share_id == share_id))
    if leased.scalar_one():
        return False
    delete(share_id)
    connection.execute(unleased.delete().where(unleased.c.share_id == share_id))
    return True
