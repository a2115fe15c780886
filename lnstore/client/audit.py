"""Which shares a node has lost: leaves of each, shown with their Merkle paths.

One leaf of each share is drawn at random. After a proof that failed, the leaves that it reads are looked at too: a
damage that made it fail lies in one of them. When all of them hold, the node has them again, or it altered the storage
tokens; either way the next proof is asked for with another nonce, since the answer to the old one stays what it was.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from lnstore.client.catalog import NodeEntry, ShareEntry
from lnstore.client.faults import Fault
from lnstore.client.node_errors import NodeRefused
from lnstore.client.purse import Purse
from lnstore.client.tasks import each
from lnstore.client.wallet_entries import Verdict
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.ids import ShareId
from lnstore_protocol.merkle import leaf_count, verify_range
from lnstore_protocol.messages import LEAF_BYTES, AuditShare, AuditShareReply
from lnstore_protocol.proofs import SECTOR_BYTES, answer_reading, audit_key, audit_nonce, challenge_positions

AUDITS_AT_ONCE = 16


class HowLost(Enum):
    """Why a share counts as lost."""

    UNKNOWN = "the node does not hold it"
    WRONG_SIZE = "the node holds it with another size"
    DAMAGED = "the leaf it showed is not the share's"
    HASHES = "it showed the hashes of the share's leaves and not the leaf"

    @property
    def fault(self) -> Fault:
        """What that makes of the node."""
        return _FAULTS[self]


_FAULTS = {
    HowLost.UNKNOWN: Fault.SHARE_GONE,
    HowLost.WRONG_SIZE: Fault.SHARE_DAMAGED,
    HowLost.DAMAGED: Fault.SHARE_DAMAGED,
    HowLost.HASHES: Fault.HASHES_ONLY,
}


@dataclass(frozen=True, slots=True)
class LostShare:
    """A share that the node could not show."""

    share_id: ShareId
    file_id: int
    why: HowLost


@dataclass(slots=True)
class Audit:
    """What an audit found. `answers` are those to the last failed challenge, from leaves that were verified."""

    lost: list[LostShare] = field(default_factory=list)
    whole: list[ShareId] = field(default_factory=list)
    answers: dict[ShareId, bytes] = field(default_factory=dict, repr=False)

    @property
    def audited(self) -> int:
        """How many shares were looked at."""
        return len(self.lost) + len(self.whole)


async def find_lost(purse: Purse, node: NodeEntry, share_ids: Sequence[ShareId] | None = None) -> list[LostShare]:
    """As audit_node, for who wants no more than the shares that failed; judges the failed proof if none did."""
    audit = await audit_node(purse, node, share_ids)
    failed = purse.wallet.failed_challenge(node.node_id)
    if failed is not None and not audit.lost and share_ids is None:
        await purse.write(purse.wallet.judge, node.node_id, failed.token_index, Verdict.ABANDONED)
    return audit.lost


# MB-R24, R-R22
async def audit_node(purse: Purse, node: NodeEntry, share_ids: Sequence[ShareId] | None = None) -> Audit:
    """Ask for leaves of each of these shares (all that the catalog has at the node).

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
    found = Audit()

    async def audit(share: ShareEntry) -> None:
        leaves = {secrets.randbelow(leaf_count(share.size_bytes))}
        challenged = nonce if share.share_id in sampled else None
        if challenged is not None:
            leaves |= challenged_leaves(challenged, share)
        shown, why = await _audit(purse, node, share, leaves)
        if why is not None:
            found.lost.append(LostShare(share.share_id, share.file_id, why))
            return
        found.whole.append(share.share_id)
        if challenged is not None:
            found.answers[share.share_id] = _answer(challenged, share, shown)

    await each(audit, list(shares.values()), at_once=AUDITS_AT_ONCE)
    found.lost.sort(key=lambda lost: lost.share_id)
    return found


async def shows(purse: Purse, node: NodeEntry, share_id: ShareId, size_bytes: int) -> bool:
    """Whether the node shows a random leaf of this share of ours."""
    return not isinstance(
        await _audit_leaf(purse, node, share_id, size_bytes, secrets.randbelow(leaf_count(size_bytes))), HowLost
    )


def challenged_leaves(nonce: bytes, share: ShareEntry) -> set[int]:
    """The leaves that the proof of this nonce reads of a share."""
    positions = challenge_positions(nonce, share.share_id, share.size_bytes)
    return {position * SECTOR_BYTES // LEAF_BYTES for position in positions}


def _answer(nonce: bytes, share: ShareEntry, shown: dict[int, bytes]) -> bytes:
    """What the share answers to the nonce, from the leaves of it that hold the sectors."""

    def read(offset: int, count: int) -> bytes:
        leaf, within = divmod(offset, LEAF_BYTES)
        return shown[leaf][within : within + count]

    return answer_reading(nonce, share.share_id, share.size_bytes, read)


async def _audit(
    purse: Purse, node: NodeEntry, share: ShareEntry, leaves: set[int]
) -> tuple[dict[int, bytes], HowLost | None]:
    """The leaves, verified, up to the first one that is not what it should be, and what is wrong with that."""
    shown: dict[int, bytes] = {}
    for leaf in sorted(leaves):
        found = await _audit_leaf(purse, node, share.share_id, share.size_bytes, leaf)
        if isinstance(found, HowLost):
            return shown, found
        shown[leaf] = found
    return shown, None


async def _audit_leaf(
    purse: Purse, node: NodeEntry, share_id: ShareId, size_bytes: int, leaf: int
) -> bytes | HowLost:  # MB-R23
    try:
        reply = await purse.ask(node, AuditShare(share_id=share_id, leaf=leaf), AuditShareReply)
    except NodeRefused as refused:
        if refused.code in {ErrorCode.SHARE_UNKNOWN, ErrorCode.RANGE_INVALID}:
            return HowLost.UNKNOWN
        raise
    if reply.share_bytes != size_bytes:
        return HowLost.WRONG_SIZE
    if reply.proof and not len(reply.payload):
        return HowLost.HASHES
    offset = leaf * LEAF_BYTES
    if len(reply.payload) != min(LEAF_BYTES, size_bytes - offset):
        return HowLost.DAMAGED
    try:
        verify_range(share_id, size_bytes, offset, reply.payload, reply.proof)
    except RemoteProtocolError:
        return HowLost.DAMAGED
    return bytes(reply.payload)
