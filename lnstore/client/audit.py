"""Which shares a node has lost: leaves of each, shown with their Merkle paths.

One leaf of each share is drawn at random. After a proof that failed, the leaves that it reads are looked at too: a
damage that made it fail lies in one of them. When all of them hold, the node has them again, or it altered the storage
tokens; either way the next proof is asked for with another nonce, since the answer to the old one stays what it was.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import trio

from lnstore.client.catalog import NodeEntry, ShareEntry
from lnstore.client.node_errors import NodeRefused
from lnstore.client.purse import Purse
from lnstore.client.tasks import open_tasks
from lnstore.client.wallet import Verdict
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.ids import ShareId
from lnstore_protocol.merkle import leaf_count, verify_range
from lnstore_protocol.messages import LEAF_BYTES, AuditShare, AuditShareReply
from lnstore_protocol.proofs import SECTOR_BYTES, audit_key, audit_nonce, challenge_positions

AUDITS_AT_ONCE = 16


class Loss(Enum):
    """Why a share counts as lost."""

    UNKNOWN = "the node does not hold it"
    WRONG_SIZE = "the node holds it with another size"
    DAMAGED = "the leaf it showed is not the share's"


@dataclass(frozen=True, slots=True)
class LostShare:
    """A share that the node could not show."""

    share_id: ShareId
    file_id: int
    why: Loss


# MB-R24, R-R22
async def find_lost(purse: Purse, node: NodeEntry, share_ids: Sequence[ShareId] | None = None) -> list[LostShare]:
    """Ask for leaves of each of these shares (all that the catalog has at the node); those that fail.

    A share that the node holds in part passes with the probability of the part it holds. Errors of the connection are
    raised: a node that does not answer has not been shown to have lost anything.
    """
    wanted = None if share_ids is None else set(share_ids)
    shares = {
        share.share_id: share
        for share in purse.catalog.shares_at(node.node_id)
        if wanted is None or share.share_id in wanted
    }
    failed = purse.wallet.failed_challenge(node.node_id)
    nonce = None if failed is None else audit_nonce(audit_key(purse.account_secret), node.node_id, failed.token_index)
    sampled = set(failed.expected) if failed is not None else set()
    lost: list[LostShare] = []
    limiter = trio.CapacityLimiter(AUDITS_AT_ONCE)

    async def audit(share: ShareEntry) -> None:
        try:
            leaves = {secrets.randbelow(leaf_count(share.size_bytes))}
            if nonce is not None and share.share_id in sampled:
                leaves |= challenged_leaves(nonce, share)
            why = await _audit(purse, node, share, leaves)
        finally:
            limiter.release_on_behalf_of(share)
        if why is not None:
            lost.append(LostShare(share.share_id, share.file_id, why))

    async with open_tasks() as nursery:
        for share in shares.values():
            await limiter.acquire_on_behalf_of(share)
            nursery.start_soon(audit, share)
    if failed is not None and not lost and wanted is None:
        await purse.write(purse.wallet.judge, node.node_id, failed.token_index, Verdict.ABANDONED)
    return sorted(lost, key=lambda found: found.share_id)


def challenged_leaves(nonce: bytes, share: ShareEntry) -> set[int]:
    """The leaves that the proof of this nonce reads of a share."""
    positions = challenge_positions(nonce, share.share_id, share.size_bytes)
    return {position * SECTOR_BYTES // LEAF_BYTES for position in positions}


async def _audit(purse: Purse, node: NodeEntry, share: ShareEntry, leaves: set[int]) -> Loss | None:
    for leaf in sorted(leaves):
        why = await _audit_leaf(purse, node, share, leaf)
        if why is not None:
            return why
    return None


async def _audit_leaf(purse: Purse, node: NodeEntry, share: ShareEntry, leaf: int) -> Loss | None:  # MB-R23
    try:
        reply = await purse.ask(node, AuditShare(share_id=share.share_id, leaf=leaf), AuditShareReply)
    except NodeRefused as refused:
        if refused.code in {ErrorCode.SHARE_UNKNOWN, ErrorCode.RANGE_INVALID}:
            return Loss.UNKNOWN
        raise
    if reply.share_bytes != share.size_bytes:
        return Loss.WRONG_SIZE
    offset = leaf * LEAF_BYTES
    if len(reply.payload) != min(LEAF_BYTES, share.size_bytes - offset):
        return Loss.DAMAGED
    try:
        verify_range(share.share_id, share.size_bytes, offset, reply.payload, reply.proof)
    except RemoteProtocolError:
        return Loss.DAMAGED
    return None
