"""Leases in SQL: who keeps which share alive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice

from sqlalchemy import Connection, bindparam, func, or_, select

from lnstore.books.adding import Arrival, Present, add_leases
from lnstore.books.database import Database
from lnstore.books.ending import Delete, end_leases, forget, sweep, sweepable
from lnstore.books.grants import grants_of, needed_grant
from lnstore.books.ingress import Tab
from lnstore.books.rows import OF_ID, AnyRow, AnySelect, account_of, needed_row
from lnstore.books.rules import exhausted_refusal, write_refusal
from lnstore.books.schema import accounts, leased_under, leases
from lnstore.ports import Account, Lease, Leased, NewLease, StoreSmall
from lnstore_protocol.ids import AccountId, CertificateId, ShareId
from lnstore_protocol.messages import TOKEN_BYTES, Buffer

IDS_PER_QUERY = 1_000
SWEEP_STEP = 256
"""Leases ended and shares deleted in one transaction: other writers get their turn in between."""

_LEASES: AnySelect = (
    select(leases.c.lease, leases.c.share_id, leases.c.size_bytes, leases.c.token_start, leases.c.tokens)
    .join(accounts, accounts.c.account == leases.c.account)
    .where(OF_ID, leased_under == bindparam("under"))
)
_ORDERED = _LEASES.order_by(leases.c.share_id).limit(bindparam("limit"))
_AFTER = _ORDERED.where(leases.c.share_id > bindparam("after"))
_IDS: AnySelect = _LEASES.with_only_columns(leases.c.share_id)
_ALL_IDS = _IDS.order_by(leases.c.share_id)
_THESE = leases.c.share_id.in_(bindparam("ids", expanding=True))
_LEASES_AMONG = _LEASES.where(_THESE)
_IDS_AMONG = _IDS.where(_THESE)
_ENDING = select(leases.c.lease, leases.c.certificate, leases.c.share_id, leases.c.size_bytes).where(
    leases.c.account == bindparam("of"), leased_under == bindparam("under"), _THESE
)
_REPLACE_TOKENS = (  # MB-R35
    leases.update()
    .where(
        leases.c.account == bindparam("of"),
        leased_under == bindparam("under"),
        leases.c.share_id == bindparam("share"),
        or_(
            leases.c.token_start > bindparam("start"),
            leases.c.token_start + func.length(leases.c.tokens) // TOKEN_BYTES <= bindparam("end"),
        ),
    )
    .values(token_start=bindparam("start"), tokens=bindparam("stored"))
)
_OF_SHARE = (
    select(
        accounts.c.account_id,
        leased_under.label("under"),
        leases.c.share_id,
        leases.c.size_bytes,
        leases.c.token_start,
        leases.c.tokens,
    )
    .join(accounts, accounts.c.account == leases.c.account)
    .where(leases.c.share_id == bindparam("share"), accounts.c.superseded == 0)
)
_OWN = 0
_NONE = -1
"""The certificate's key that stands for the holder's own leases, and the one that has none."""


class SqlLeases:
    """ports.LeaseBooks."""

    _database: Database

    async def may_write(
        self, account_id: AccountId, size_bytes: int, now: int, *, certificate_id: CertificateId | None = None
    ) -> Account:
        """Check early that a share of this size would be taken now; BooksRefused says why not."""

        def look(connection: Connection) -> Account:
            account = account_of(needed_row(connection, account_id))
            refusal = write_refusal(
                account.state,
                account.writable_bytes,
                account.used_bytes,
                size_bytes,
                quota_bytes=account.quota_bytes,
                blocked=account.blocked,
            )
            if refusal is None and certificate_id is not None:
                free = needed_grant(connection, certificate_id).delegate().free_bytes
                refusal = exhausted_refusal(free, size_bytes, "stored")
            refusal = refusal or Tab(account).refusal(size_bytes, now)
            if refusal is not None:
                raise refusal
            return account

        return await self._database.read(look)

    async def add_lease(self, lease: NewLease, now: int, *, present: Present) -> Leased:
        """Add the lease (again: replace its tokens), and charge for what was written.

        Checked inside the transaction: the account may write, used ≤ capacity, the certificate has not ended and it
        and the one above allow the bytes, the deposit pays for them, and `present(share_id)`; FileNotFoundError when
        the share was swept meanwhile (put it again). Leases of many callers share one commit, and one posting for each
        account. What is leased already is not charged again.
        """
        return await self._database.writer.write_together(add_leases, Arrival(lease, now, present))

    async def add_small(self, lease: NewLease, now: int, *, data: Buffer, store: StoreSmall) -> Leased:
        """As add_lease of a share that is stored by it: `store` gets those of all callers that are not refused.

        It is called inside the transaction. What it raises fails the commit, and so all the callers.
        """
        arrival = Arrival(lease, now, data=data, store=store)
        return await self._database.writer.write_together(add_leases, arrival)

    async def drop_leases(
        self, account_id: AccountId, share_ids: Sequence[ShareId], *, certificate_id: CertificateId | None = None
    ) -> tuple[int, int]:
        """End leases; how many ended and the used bytes now, the account's or the certificate's."""

        def drop(connection: Connection) -> tuple[int, int]:
            row = needed_row(connection, account_id)
            under = _set_of(connection, account_id, certificate_id)
            dropped = 0
            freed = 0
            for ids in _some(share_ids):
                ended = connection.execute(_ENDING, {"of": row.account, "under": under, "ids": ids}).all()
                count, size = end_leases(connection, row.account, ended)
                dropped, freed = dropped + count, freed + size
            if certificate_id is not None:
                return dropped, needed_grant(connection, certificate_id).used_bytes
            return dropped, row.used_bytes - freed

        return await self._database.writer.write(drop)

    async def held(
        self, account_id: AccountId, share_ids: Sequence[ShareId], *, certificate_id: CertificateId | None = None
    ) -> list[bool]:
        """For each id whether the set holds a lease on it."""
        found = await self._database.read(
            lambda connection: _found(
                connection, account_id, share_ids, _IDS_AMONG, _set_of(connection, account_id, certificate_id)
            )
        )
        ids = {row.share_id for row in found}
        return [bytes(share_id) in ids for share_id in share_ids]

    async def leases(
        self,
        account_id: AccountId,
        *,
        after: ShareId | None,
        limit: int,
        certificate_id: CertificateId | None = None,
    ) -> list[Lease]:
        """Leases in ascending order of share id."""
        query = _ORDERED if after is None else _AFTER

        def look(connection: Connection) -> list[AnyRow]:
            under = _set_of(connection, account_id, certificate_id)
            of = {"id": account_id, "under": under, "limit": limit, "after": after}
            return list(connection.execute(query, of).all())

        return [_lease_of(row) for row in await self._database.read(look)]

    async def leased_ids(self, account_id: AccountId) -> bytes:
        """All the holder's own share ids, ascending, 32 bytes each: what the sample is drawn from."""
        return await self._database.read(
            lambda connection: b"".join(connection.execute(_ALL_IDS, {"id": account_id, "under": _OWN}).scalars())
        )

    async def lease_tokens(self, account_id: AccountId, share_ids: Sequence[ShareId]) -> dict[ShareId, Lease]:  # P-R6
        """These leases of the holder's own, by share id."""
        found = await self._database.read(
            lambda connection: _found(connection, account_id, share_ids, _LEASES_AMONG, _OWN)
        )
        return {lease.share_id: lease for lease in map(_lease_of, found)}

    async def replace_tokens(
        self, account_id: AccountId, token_start: int, tables: Sequence[tuple[ShareId, bytes]]
    ) -> list[bool]:
        """Other tokens for these own leases, unless those they have are for more indices; which there are."""

        def replace(connection: Connection) -> list[bool]:
            row = needed_row(connection, account_id)
            there = {
                found.share_id for found in _found(connection, account_id, [one for one, _ in tables], _IDS_AMONG, _OWN)
            }
            changes = [
                {
                    "of": row.account,
                    "under": _OWN,
                    "share": share_id,
                    "start": token_start,
                    "stored": tokens,
                    "end": token_start + len(tokens) // TOKEN_BYTES,
                }
                for share_id, tokens in tables
                if share_id in there
            ]
            if changes:
                connection.execute(_REPLACE_TOKENS, changes)
            return [share_id in there for share_id, _ in tables]

        return await self._database.writer.write(replace)

    async def visible_lease(
        self, account_id: AccountId, share_id: ShareId, *, certificate_id: CertificateId | None = None
    ) -> Lease | None:
        """A lease on this share: for the holder whosever in the account, else the certificate's own."""

        def look(connection: Connection) -> AnyRow | None:
            under = None if certificate_id is None else _set_of(connection, account_id, certificate_id)
            rows = connection.execute(_OF_SHARE, {"share": share_id}).all()
            ours = (row for row in rows if row.account_id == account_id)
            return next((row for row in ours if under is None or row.under == under), None)

        row = await self._database.read(look)
        return None if row is None else _lease_of(row)

    async def sweep(self, *, delete: Delete, limit: int) -> int:
        """End leases of lapsed accounts and delete shares nobody leases, at most `limit`; how many shares went.

        `delete` runs inside the transaction that saw no lease, so that a put that commits a lease meanwhile is safe.
        Fewer than `limit` means that nothing is left to sweep.
        """
        gone = 0
        while gone < limit:
            if not await self._database.read(sweepable):
                break
            step = min(SWEEP_STEP, limit - gone)
            gone += await self._database.writer.write(partial(sweep, delete=delete, step=step))
        return gone

    async def forget_orphan(self, share_id: ShareId, *, delete: Delete) -> bool:  # MB-R20
        """Delete this share if nobody leases it (same rule); whether it went."""
        return await self._database.writer.write(lambda connection: forget(connection, share_id, delete))


def _lease_of(row: AnyRow) -> Lease:
    return Lease(
        share_id=ShareId(row.share_id), size_bytes=row.size_bytes, token_start=row.token_start, tokens=row.tokens
    )


def _some(share_ids: Iterable[ShareId]) -> Iterable[list[ShareId]]:
    rest = iter(share_ids)
    while ids := list(islice(rest, IDS_PER_QUERY)):
        yield ids


def _set_of(connection: Connection, account_id: AccountId, certificate_id: CertificateId | None) -> int:
    """Which leases are meant: the key of the account's certificate, or what stands for its holder or for nobody."""
    if certificate_id is None:
        return _OWN
    grant = grants_of(connection, [certificate_id]).get(certificate_id)
    return _NONE if grant is None or grant.account_id != account_id else grant.key


def _found(
    connection: Connection, account_id: AccountId, share_ids: Sequence[ShareId], among: AnySelect, under: int
) -> list[AnyRow]:
    of = {"id": account_id, "under": under}
    return [row for ids in _some(share_ids) for row in connection.execute(among, {**of, "ids": ids})]
