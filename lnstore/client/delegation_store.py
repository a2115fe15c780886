"""The delegations that a profile keeps: those it issued, and those it was given and acts by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lnstore.client.catalog import Catalog
from lnstore_protocol.delegation import Certificate, Chain, Delegation, parse_delegation
from lnstore_protocol.ids import AccountId, CertificateId, NodeId


class Role(Enum):
    """Which side of a delegation this profile is on."""

    ISSUED = "issued"
    ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegationEntry:
    """A delegation in the catalog. `revoked`: a revocation was begun here; it may not have reached every node."""

    delegation: Delegation
    role: Role
    at: int
    revoked: bool

    @property
    def chain(self) -> Chain:
        """Its certificates."""
        return self.delegation.chain

    @property
    def certificate(self) -> Certificate:
        """The last certificate: what it is about."""
        return self.chain[-1].certificate

    @property
    def certificate_id(self) -> CertificateId:
        """The last certificate's id, by which it is called."""
        return self.chain[-1].certificate_id

    @property
    def account_id(self) -> AccountId:
        """Whose account it is about."""
        return self.certificate.account_id


def keep_delegation(catalog: Catalog, delegation: Delegation, role: Role, now: int) -> DelegationEntry:
    """Remember a delegation; again is no error."""
    certificate_id = delegation.chain[-1].certificate_id
    with catalog.transaction() as db:
        db.execute(
            "INSERT INTO delegations (certificate_id, role, text, at) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (certificate_id) DO UPDATE SET text = excluded.text, at = excluded.at",
            (bytes(certificate_id), role.value, delegation.to_text(), now),
        )
    return next(entry for entry in delegations(catalog, role) if entry.certificate_id == certificate_id)


def begin_revocation(catalog: Catalog, target: bytes) -> None:
    """Note that the certificate of this id, or those of this subject, are not to be used any more."""
    ids = [
        bytes(entry.certificate_id)
        for entry in delegations(catalog, Role.ISSUED)
        if target in (entry.certificate_id, entry.certificate.subject)
    ]
    with catalog.transaction() as db:
        db.executemany("UPDATE delegations SET revoked = 1 WHERE certificate_id = ?", [(one,) for one in ids])


def delegations(catalog: Catalog, role: Role) -> list[DelegationEntry]:
    """All delegations of this role, newest first."""
    rows = catalog.rows(
        "SELECT text, at, revoked FROM delegations WHERE role = ? ORDER BY at DESC, rowid DESC", (role.value,)
    )
    return [
        DelegationEntry(delegation=parse_delegation(text), role=role, at=at, revoked=bool(revoked))
        for text, at, revoked in rows
    ]


def delegation_for(catalog: Catalog, node_id: NodeId) -> DelegationEntry | None:
    """The delegation to act by at a node: the newest that is for it; None where the profile has its own account."""
    if any(node.node_id == node_id and node.agreement is not None for node in catalog.nodes()):
        return None
    for entry in delegations(catalog, Role.ACCEPTED):
        reaches = node_id in {address.node_id for address in entry.delegation.addresses}
        if reaches and all(signed.certificate.is_for(node_id) for signed in entry.chain):
            return entry
    return None
