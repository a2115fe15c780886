"""Handing out a part of one's account, acting by a part of another's, and looking after who has what (spec 05a)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lnstore.client.catalog import NodeEntry
from lnstore.client.delegation_store import DelegationEntry, Role, begin_revocation, delegations, keep_delegation
from lnstore.client.files import Client
from lnstore.client.node_errors import NodeError
from lnstore.client.tasks import open_tasks
from lnstore.errors import ExitCode, LnstoreError
from lnstore_protocol.delegation import (
    MAX_ADDRESSES,
    MAX_NODES,
    Certificate,
    Delegation,
    Rights,
    Serial,
    encode_chain,
    join_nodes,
    parse_delegation,
    widening,
)
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import AccountId, CertificateId
from lnstore_protocol.messages import (
    MAX_DELEGATIONS,
    MAX_IDS,
    DropShares,
    DropSharesReply,
    ListDelegations,
    ListDelegationsReply,
    ListShares,
    ListSharesReply,
    PresentDelegation,
    RevokeDelegation,
)
from lnstore_protocol.replies import read_share_list
from lnstore_protocol.usages import Usage, VerifiedUsage, check_usages, decode_usages

ASK_SECONDS = 20.0
PETNAME_DIGITS = 8


class DelegationInvalid(LnstoreError):
    """A delegation cannot be made or used; the text says why."""

    exit_code = ExitCode.DATA


class RevocationIncomplete(LnstoreError):
    """Some node was not told; until it is, it goes on serving the delegate."""

    exit_code = ExitCode.NODE


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is handed out, at each node."""

    maximum_bytes: int
    maximum_read_bytes: int
    expires_at: int
    rights: Rights
    levels: int


@dataclass(frozen=True, slots=True)
class AtNode:
    """A node, and why it could not be asked; empty when it could."""

    node: NodeEntry
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A certificate of this account and what was done under it, by node; none where it was never presented."""

    certificate: Certificate
    certificate_id: CertificateId
    parent: CertificateId | None
    usages: dict[str, Usage]
    revoked: bool


def parse_key(text: str) -> AccountId:
    """A client's key as `lnstore delegate key` shows it; DelegationInvalid."""
    try:
        return AccountId.from_hex(text.strip())
    except ValueError as exc:
        raise DelegationInvalid(f"{exc}; the other side shows its key with: lnstore delegate key") from None


# --- giving -----------------------------------------------------------------------------------------------------------


def issue(  # D-W1, D-W5
    client: Client,
    subject: AccountId,
    limits: Limits,
    *,
    nodes: Sequence[NodeEntry] = (),
    under: str | None = None,
) -> DelegationEntry:
    """Sign and remember a delegation: of the own account, or a part of an accepted one (`under`).

    `nodes` are those it is for; without them every node where the account is. DelegationInvalid.
    """
    mine = client.profile.account_id
    above = None if under is None else accepted(client, under)
    if above is None:
        known = [node for node in client.catalog.nodes() if node.agreement is not None]
        addresses = [node.address for node in known]
    else:
        addresses = list(above.delegation.addresses)
    wanted = {node.node_id for node in nodes}
    addresses = [address for address in addresses if not wanted or address.node_id in wanted]
    if not addresses or len(wanted) > len(addresses):
        raise DelegationInvalid(
            "you have no account to hand on at " + (", ".join(n.petname for n in nodes) or "any node") + "; open one "
            "with: lnstore rent buy NODE SIZE"
        )
    if len(wanted) > MAX_NODES or len(addresses) > MAX_ADDRESSES:
        raise DelegationInvalid(f"a delegation names at most {MAX_NODES} nodes, and {MAX_ADDRESSES} addresses")
    certificate = Certificate(
        account_id=mine if above is None else above.account_id,
        issuer=mine,
        subject=subject,
        serial=Serial(secrets.token_bytes(Serial.SIZE)),
        nodes=join_nodes([address.node_id for address in addresses]) if wanted else b"",
        maximum_bytes=limits.maximum_bytes,
        maximum_read_bytes=limits.maximum_read_bytes,
        expires_at=limits.expires_at,
        rights=limits.rights,
        levels=limits.levels,
    )
    if above is not None:
        # What was not asked for more narrowly is as narrow as what there is to hand on.
        certificate = replace(certificate, nodes=certificate.nodes or above.certificate.nodes)
        if fault := widening(above.certificate, certificate):
            raise DelegationInvalid(f"that is more than you were given yourself: {fault}")
    try:
        signed = certificate.sign(client.profile.identity)
    except ValueError as exc:
        raise DelegationInvalid(f"this makes no delegation: {exc}") from exc
    chain = (signed,) if above is None else (*above.chain, signed)
    return keep_delegation(client.catalog, Delegation(chain, tuple(addresses)), Role.ISSUED, client.clock.now())


def accepted(client: Client, text: str) -> DelegationEntry:
    """The accepted delegation whose id begins so; DelegationInvalid."""
    found = [
        entry
        for entry in delegations(client.catalog, Role.ACCEPTED)
        if len(text) >= 4 and entry.certificate_id.hex().startswith(text.lower())
    ]
    if len(found) != 1:
        raise DelegationInvalid(
            f"{text!r} begins the id of {len(found) or 'no'} delegations you were given; see: lnstore delegate ls"
        )
    return found[0]


# --- taking -----------------------------------------------------------------------------------------------------------


async def accept(client: Client, text: str) -> tuple[DelegationEntry, list[AtNode]]:  # D-R19
    """Remember a delegation and its nodes, and present it to each; DelegationInvalid.

    A node with an account of one's own goes on being used through that.
    """
    try:
        delegation = parse_delegation(text)
    except ValueError as exc:
        raise DelegationInvalid(f"this delegation cannot be used: {exc}; copy it again") from None
    last, now = delegation.chain[-1].certificate, client.clock.now()
    if last.subject != client.profile.account_id:
        raise DelegationInvalid(
            f"this delegation is for the key {last.subject.hex()}, yours is {client.profile.account_id.hex()}; give "
            "its issuer yours"
        )
    if now >= last.expires_at:
        raise DelegationInvalid("this delegation has expired; ask its issuer for another one")
    entry = keep_delegation(client.catalog, delegation, Role.ACCEPTED, now)
    known = {node.node_id for node in client.catalog.nodes()}
    for address in delegation.addresses:
        if address.node_id not in known:
            petname = address.node_id.hex()[:PETNAME_DIGITS]
            client.catalog.add_node(address, petname=petname, lightning_id=None, added_at=now)
    chain = encode_chain(delegation.chain)
    nodes = [client.catalog.node(address.node_id) for address in delegation.addresses]

    async def present(node: NodeEntry) -> AtNode:
        if node.agreement is not None:
            return AtNode(node, "you have an account of your own there, which goes on being used")
        # A connection on which another one was presented before is of no use for this one (D-R6).
        client.pool.drop(node.address, "was made for another delegation")
        try:
            await client.pool.request(node.address, PresentDelegation(chain=chain), timeout_seconds=ASK_SECONDS)
        except NodeError as exc:
            return AtNode(node, exc.reason)
        return AtNode(node)

    found: dict[bytes, AtNode] = {}

    async def note(node: NodeEntry) -> None:
        found[node.node_id] = await present(node)

    async with open_tasks() as tasks:
        for node in nodes:
            tasks.start_soon(note, node)
    return entry, [found[node.node_id] for node in nodes]


# --- looking after ----------------------------------------------------------------------------------------------------


async def overview(client: Client) -> tuple[list[Held], list[AtNode]]:  # D-R18
    """All certificates of this account, those below them too, and what nodes say was done; nodes that said nothing."""
    listed: dict[str, list[VerifiedUsage]] = {}
    silent: list[AtNode] = []

    async def ask(node: NodeEntry) -> None:
        try:
            listed[node.petname] = await _usages_at(client, node)
        except NodeError as exc:
            silent.append(AtNode(node, exc.reason))
        except RemoteProtocolError as exc:
            silent.append(AtNode(node, f"lists what no delegation of yours says: {exc}; ask its operator"))

    async with open_tasks() as tasks:
        for node in client.catalog.nodes():
            if node.agreement is not None:
                tasks.start_soon(ask, node)
    held = {
        entry.certificate_id: Held(
            certificate=entry.certificate,
            certificate_id=entry.certificate_id,
            parent=entry.chain[-2].certificate_id if len(entry.chain) > 1 else None,
            usages={},
            revoked=entry.revoked,
        )
        for entry in delegations(client.catalog, Role.ISSUED)
    }
    for petname, usages in sorted(listed.items()):
        for one in usages:
            there = held.get(one.signed.certificate_id) or Held(
                certificate=one.signed.certificate,
                certificate_id=one.signed.certificate_id,
                parent=one.usage.parent,
                usages={},
                revoked=False,
            )
            there.usages[petname] = one.usage
            revoked = there.revoked or one.usage.revoked_at is not None
            held[there.certificate_id] = replace(there, revoked=revoked)
    return list(held.values()), silent


async def _usages_at(client: Client, node: NodeEntry) -> list[VerifiedUsage]:
    listed: list[VerifiedUsage] = []
    after: CertificateId | None = None
    while True:
        reply: ListDelegationsReply = await client.pool.request(
            node.address, ListDelegations(limit=MAX_DELEGATIONS, after=after), timeout_seconds=ASK_SECONDS
        )
        page = decode_usages(reply.payload, limit=MAX_DELEGATIONS, after=after or b"")
        listed += page
        if len(page) < MAX_DELEGATIONS:
            check_usages(listed, client.profile.account_id)
            return listed
        after = page[-1].signed.certificate_id


async def revoke(client: Client, text: str) -> int:  # D-W4
    """End a certificate (its id, or the beginning of one that is known) or all of a key, at every node with an account.

    How many nodes were told; RevocationIncomplete names those that were not, and the same command goes on.
    """
    target = await _target_of(client, text)
    begin_revocation(client.catalog, target)
    missed: list[AtNode] = []
    nodes = [node for node in client.catalog.nodes() if node.agreement is not None]

    async def tell(node: NodeEntry) -> None:
        try:
            await client.pool.request(node.address, RevokeDelegation(target=target), timeout_seconds=ASK_SECONDS)
        except NodeError as exc:
            missed.append(AtNode(node, exc.reason))

    async with open_tasks() as tasks:
        for node in nodes:
            tasks.start_soon(tell, node)
    if missed:
        lines = [f"  {at.node.petname}: {at.problem}" for at in sorted(missed, key=lambda at: at.node.petname)]
        raise RevocationIncomplete(
            "\n".join(["these nodes have not been told, and serve the delegate until they are; run it again:", *lines])
        )
    return len(nodes)


async def drop(client: Client, text: str) -> int:
    """End the leases made under a certificate of this account, at every node; how many there were. NodeError."""
    target = CertificateId(await _target_of(client, text))
    dropped = 0
    for node in client.catalog.nodes():
        if node.agreement is not None and target in {
            one.signed.certificate_id for one in await _usages_at(client, node)
        }:
            dropped += await _drop_at(client, node, target)
    return dropped


async def _drop_at(client: Client, node: NodeEntry, target: CertificateId) -> int:
    dropped = 0
    while True:
        listed: ListSharesReply = await client.pool.request(
            node.address, ListShares(limit=MAX_IDS, certificate=target), timeout_seconds=ASK_SECONDS
        )
        shares = read_share_list(listed.payload, limit=MAX_IDS)
        if not shares:
            return dropped
        message = DropShares(certificate=target, payload=b"".join(share_id for share_id, _ in shares))
        reply: DropSharesReply = await client.pool.request(node.address, message, timeout_seconds=ASK_SECONDS)
        if not reply.dropped:
            raise NodeError(node.address, "lists shares of a delegation and does not drop them; ask its operator")
        dropped += reply.dropped


async def _target_of(client: Client, text: str) -> bytes:
    wanted = text.strip().lower()
    if len(wanted) == 2 * CertificateId.SIZE:
        return parse_key(wanted)
    held, _ = await overview(client)
    found = [one.certificate_id for one in held if len(wanted) >= 4 and one.certificate_id.hex().startswith(wanted)]
    if len(found) != 1:
        raise DelegationInvalid(
            f"{text!r} begins the id of {len(found) or 'no'} delegations of yours; see: lnstore delegate ls"
        )
    return found[0]
