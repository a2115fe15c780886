"""present_delegation, revoke_delegation and list_delegations; and what a delegate may ask for."""

from __future__ import annotations

from lnstore.node.context import RequestContext
from lnstore.node.errors import Refusal
from lnstore.ports import Account
from lnstore_protocol.delegation import Authority, Rights, verify_chain
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import CertificateId, Msat
from lnstore_protocol.messages import (
    MAX_DELEGATIONS,
    AccountStatus,
    AccountStatusReply,
    AuditShare,
    ChannelInfo,
    DropShares,
    GetRecord,
    GetShare,
    GetTerms,
    HaveShares,
    Hello,
    ListDelegations,
    ListDelegationsReply,
    ListPeers,
    ListShares,
    PresentDelegation,
    PresentDelegationReply,
    PutShare,
    Request,
    RevokeDelegation,
    RevokeDelegationReply,
)
from lnstore_protocol.usages import encode_usages

USAGE_BYTES = 2048
"""What a usage takes in memory while a list of them is made and sent."""

_NEEDS: dict[type[Request], Rights | None] = {
    AccountStatus: None,
    AuditShare: None,
    DropShares: Rights.WRITE,
    GetShare: Rights.READ,
    HaveShares: None,
    ListShares: None,
    PutShare: Rights.WRITE,
}
"""What a delegate may ask for in the account's place, and by which right: nothing else, and no money."""

_OF_NO_ACCOUNT = frozenset({Hello, GetTerms, GetRecord, ChannelInfo, ListPeers, PresentDelegation})
"""What anybody may ask for."""


async def check_delegated(request: RequestContext, authority: Authority, message: Request) -> None:  # D-R7, D-R13
    """Refusal unless the delegation covers this request; BooksRefused when it has ended."""
    kind = type(message)
    if kind in _OF_NO_ACCOUNT:
        return
    if kind not in _NEEDS:
        raise Refusal(ErrorCode.DELEGATION_REFUSED, "that is the account holder's own to ask for")
    right = _NEEDS[kind]
    if right is not None and not authority.allows(right):
        raise Refusal(ErrorCode.DELEGATION_REFUSED, f"the delegation does not allow to {right.name.lower()}")
    await request.node.books.delegate(authority.certificate_id, request.node.clock.now())


async def present_delegation(request: RequestContext, message: PresentDelegation) -> PresentDelegationReply:
    """Act for another account on this connection from now on."""  # D-R4, D-R6
    node, peer = request.node, request.peer
    now = node.clock.now()
    authority = verify_chain(message.chain, presenter=peer.key, node_id=node.node_id, now=now)
    delegate = await node.books.present(authority, now)
    if peer.authority is not None and peer.authority.certificate_id != authority.certificate_id:
        raise Refusal(ErrorCode.DELEGATION_REFUSED, "another delegation is in use on this connection; open a new one")
    peer.authority = authority
    request.log.info("delegation presented", certificate=authority.certificate_id.hex()[:16])
    return PresentDelegationReply(used_bytes=delegate.used_bytes, read_bytes=delegate.read_bytes)


async def revoke_delegation(request: RequestContext, message: RevokeDelegation) -> RevokeDelegationReply:  # D-R15
    """End certificates for good, on open connections too: each request looks at the books."""
    await request.account(even_lapsed=True)
    if len(message.target) != CertificateId.SIZE:
        raise Refusal(ErrorCode.MALFORMED, f"a certificate's id and a key have {CertificateId.SIZE} bytes")
    ended = await request.node.books.revoke(request.account_id, message.target, request.node.clock.now())
    request.log.info("delegation revoked", certificates=ended)
    return RevokeDelegationReply(certificates=ended)


async def list_delegations(request: RequestContext, message: ListDelegations) -> ListDelegationsReply:  # D-R17
    """A page of what was done under the account's certificates."""
    if not 1 <= message.limit <= MAX_DELEGATIONS:
        raise Refusal(ErrorCode.TOO_LARGE, f"list 1 to {MAX_DELEGATIONS} delegations at a time")
    await request.account(even_lapsed=True)
    await request.hold_memory(message.limit * USAGE_BYTES)
    usages = await request.node.books.usages(request.account_id, after=message.after, limit=message.limit)
    return ListDelegationsReply(payload=encode_usages(usages))


async def chosen_set(request: RequestContext, named: CertificateId | None) -> CertificateId | None:  # D-R10, D-R16
    """Whose leases a request means: those of the asker, or of the certificate it names and is above of."""
    if named is None:
        return request.certificate_id
    if not await request.node.books.is_below(request.account_id, named, request.certificate_id):
        raise Refusal(ErrorCode.DELEGATION_REFUSED, "there is no such certificate of yours here")
    return named


async def delegate_status(  # D-R8
    request: RequestContext, account: Account, authority: Authority
) -> AccountStatusReply:
    """The account as its delegate may see it: what it may use itself, and nothing of the holder's affairs."""
    now = request.node.clock.now()
    delegate = await request.node.books.delegate(authority.certificate_id, now)
    most = account.capacity_bytes if account.quota_bytes is None else min(account.capacity_bytes, account.quota_bytes)
    free = min(delegate.free_bytes, most - account.used_bytes)
    return AccountStatusReply(
        state=account.state,
        capacity_bytes=delegate.used_bytes + max(0, free),
        used_bytes=delegate.used_bytes,
        shares=delegate.shares,
        deposit_msat=account.deposit_msat if authority.allows(Rights.READ) else Msat(0),
        anchor_at=account.anchor_at,
        paid_until_at=account.paid_until_at,
        next_period=account.next_period,
        token_index=0,
        growth_index=0,
        deposit_index=0,
        ingress_bytes=0,
        egress_bytes=delegate.read_bytes,
        now_at=now,
        agreement=account.agreement,
        blocked=int(account.blocked),
    )
