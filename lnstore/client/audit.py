"""Which shares a node has lost: one random leaf of each, shown with its Merkle path."""

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
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.ids import ShareId
from lnstore_protocol.merkle import leaf_count, verify_range
from lnstore_protocol.messages import LEAF_BYTES, AuditShare, AuditShareReply

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


async def find_lost(purse: Purse, node: NodeEntry, share_ids: Sequence[ShareId] | None = None) -> list[LostShare]:
    """Ask for one random leaf of each of these shares (all that the catalog has at the node); those that fail.

    A share that the node holds in part passes with the probability of the part it holds. Errors of the connection are
    raised: a node that does not answer has not been shown to have lost anything.
    """
    wanted = None if share_ids is None else set(share_ids)
    shares = {
        share.share_id: share
        for share in purse.catalog.shares_at(node.node_id)
        if wanted is None or share.share_id in wanted
    }
    lost: list[LostShare] = []
    limiter = trio.CapacityLimiter(AUDITS_AT_ONCE)

    async def audit(share: ShareEntry) -> None:
        try:
            why = await _audit(purse, node, share)
        finally:
            limiter.release_on_behalf_of(share)
        if why is not None:
            lost.append(LostShare(share.share_id, share.file_id, why))

    async with open_tasks() as nursery:
        for share in shares.values():
            await limiter.acquire_on_behalf_of(share)
            nursery.start_soon(audit, share)
    return sorted(lost, key=lambda found: found.share_id)


async def _audit(purse: Purse, node: NodeEntry, share: ShareEntry) -> Loss | None:
    leaf = secrets.randbelow(leaf_count(share.size_bytes))
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
