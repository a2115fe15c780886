"""Invitations in SQL, and who may open an account."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects.sqlite import insert

from lnstore.books.database import Database
from lnstore.books.rows import AnyRow
from lnstore.books.rules import blocked_refusal
from lnstore.books.schema import holders, invitations
from lnstore.ports import BooksRefused, Invitation
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId, InvitationId, Msat


class SqlInvitations:
    """ports.InvitationBooks."""

    _database: Database

    async def add_invitation(self, invitation: Invitation) -> None:
        """Remember a new one."""
        values = {name: getattr(invitation, name) for name in invitations.c.keys()}  # noqa: SIM118 - not a dict
        await self._database.writer.write(lambda connection: connection.execute(invitations.insert(), values))

    async def invitation(self, invitation_id: InvitationId) -> Invitation | None:
        """That invitation."""
        return await self._database.read(lambda connection: _invitation(connection, invitation_id))

    async def invitations(self) -> list[Invitation]:
        """All of them, oldest first."""
        rows = await self._database.read(lambda connection: connection.execute(_ALL).all())
        return [_invitation_of(row) for row in rows]

    async def revoke_invitation(self, invitation_id: InvitationId, now: int) -> Invitation:
        """Nobody may use it any more; as it is then (a used one stays used). KeyError when there is none."""

        def revoke(connection: Connection) -> Invitation:
            connection.execute(_REVOKE, {"of": invitation_id, "at": now})
            found = _invitation(connection, invitation_id)
            if found is None:
                raise KeyError(invitation_id)
            return found

        return await self._database.writer.write(revoke)


_ONE = select(invitations).where(invitations.c.invitation_id == bindparam("id"))
_ALL = select(invitations).order_by(invitations.c.created_at, invitations.c.invitation_id)
_REVOKE = (
    invitations.update()
    .where(
        invitations.c.invitation_id == bindparam("of"),
        invitations.c.used_at.is_(None),
        invitations.c.revoked_at.is_(None),
    )
    .values(revoked_at=bindparam("at"))
)
_USE = (
    invitations.update()
    .where(invitations.c.invitation_id == bindparam("of"))
    .values(used_at=bindparam("at"), used_by=bindparam("by"))
)
_HOLDER = select(holders).where(holders.c.account_id == bindparam("id"))
_NAMED = select(holders.c.account_id).where(holders.c.petname == bindparam("name"))
_NEW_HOLDER = insert(holders).on_conflict_do_nothing()


def add_holder(connection: Connection, account_id: AccountId, petname: str | None = None) -> bool:
    """Let this key have an account; whether that is new. A petname that another holder has is passed over."""
    if petname is not None and connection.execute(_NAMED, {"name": petname}).first() is not None:
        petname = None
    values = {"account_id": account_id, "petname": petname, "quota_bytes": None, "free": 0, "blocked": 0}
    return bool(connection.execute(_NEW_HOLDER, values).rowcount)


def admit(  # RA-W7, RA-W8
    connection: Connection, account_id: AccountId, invited_by: InvitationId | None, now: int, *, invited_only: bool
) -> bool:
    """Whether this key was known: invited, allowed, or it had an account. Its invitation is used up.

    BooksRefused says why it may not open an account.
    """
    holder = connection.execute(_HOLDER, {"id": account_id}).one_or_none()
    if holder is not None and holder.blocked:
        raise blocked_refusal()
    if invited_by is None:
        if holder is None and invited_only:
            raise BooksRefused(
                ErrorCode.INVITATION_REQUIRED,
                "accounts are by invitation here; ask the operator for one, and add it with: lnstore nodes add lnsi1…",
            )
        add_holder(connection, account_id)
        return holder is not None
    invitation = _invitation(connection, invited_by)
    why = "this invitation is not known here" if invitation is None else invitation.refusal(now)
    if invitation is None or why:
        raise BooksRefused(ErrorCode.INVITATION_REQUIRED, why)
    add_holder(connection, account_id, invitation.petname)
    connection.execute(_USE, {"of": invited_by, "at": now, "by": account_id})
    return True


def _invitation(connection: Connection, invitation_id: InvitationId) -> Invitation | None:
    row = connection.execute(_ONE, {"id": invitation_id}).one_or_none()
    return None if row is None else _invitation_of(row)


def _invitation_of(row: AnyRow) -> Invitation:
    return Invitation(
        invitation_id=InvitationId(row.invitation_id),
        created_at=row.created_at,
        expires_at=row.expires_at,
        petname=row.petname,
        maximum_capacity_bytes=row.maximum_capacity_bytes,
        price_msat_per_gib_month=_msat(row.price_msat_per_gib_month),
        egress_msat_per_gib=_msat(row.egress_msat_per_gib),
        ingress_msat_per_gib=_msat(row.ingress_msat_per_gib),
        price_periods=row.price_periods,
        revoked_at=row.revoked_at,
        used_at=row.used_at,
        used_by=None if row.used_by is None else AccountId(row.used_by),
    )


def _msat(value: int | None) -> Msat | None:
    return None if value is None else Msat(value)
