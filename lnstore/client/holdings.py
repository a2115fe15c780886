"""What a node says that it holds, set right and compared with the catalog before a proof is asked for.

A share of ours that it does not list is lost, and no nonce is revealed for the rest. And what was given up is dropped
again: a proof samples the shares that a node says it holds, so one that keeps dropped shares, small ones, with their
genuine tokens, could push those it has lost out of the sample. The catalog remembers what was given up; an honest node
that could not be reached then is told once more, and a proof over such a share is none (proof.py). Leases that the
catalog never knew are left alone: they may belong to files stored after the copy that a catalog was restored from.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from lnstore.client.catalog import Catalog, NodeEntry
from lnstore.client.faults import Fault
from lnstore.client.money_errors import NodeUntrusted, ProofFailed
from lnstore.client.proof import ADVICE, named
from lnstore.client.purse import Purse
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import (
    MAX_IDS,
    DropShares,
    DropSharesReply,
    HaveShares,
    HaveSharesReply,
    ListShares,
    ListSharesReply,
)
from lnstore_protocol.replies import read_held, read_share_list


def is_kept(catalog: Catalog, node: NodeEntry) -> bool:
    """Whether there is an account to pay for: not one that everything was moved away from (retiring.py)."""
    emptied = node.retiring and catalog.least_token_end(node.node_id) is None
    return node.agreement is not None and not emptied


async def said_to_hold(purse: Purse, node: NodeEntry, share_ids: Sequence[ShareId]) -> list[bool]:  # MB-R14
    """Which of these, MAX_IDS at most, the node says to hold for us; RemoteProtocolError when that is no answer."""
    reply = await purse.ask(node, HaveShares(payload=b"".join(share_ids)), HaveSharesReply)
    return list(read_held(reply.held, len(share_ids)))


async def drop_given_up(purse: Purse, node: NodeEntry) -> frozenset[ShareId]:  # P-R12
    """Tell the node again which shares were given up there; all of them."""
    given_up = sorted(purse.catalog.given_up_at(node.node_id))
    for at in range(0, len(given_up), MAX_IDS):
        await purse.ask(node, DropShares(payload=b"".join(given_up[at : at + MAX_IDS])), DropSharesReply)
    return frozenset(given_up)


async def check_listed(purse: Purse, node: NodeEntry, ours: AbstractSet[bytes]) -> None:  # MB-R17
    """Ask for the whole list of our shares at the node; ProofFailed names those of `ours` that are not in it.

    NodeUntrusted when the list is none.
    """
    missing = set(ours)
    after: ShareId | None = None
    while missing:
        reply = await purse.ask(node, ListShares(limit=MAX_IDS, after=after), ListSharesReply)
        try:
            listed = read_share_list(reply.payload, limit=MAX_IDS, after=after)
        except RemoteProtocolError as exc:
            raise NodeUntrusted(f"{node.petname} does not list your shares in order: {exc}; nothing was paid") from exc
        missing.difference_update(share_id for share_id, _ in listed)
        if len(listed) < MAX_IDS:
            break
        after = listed[-1][0]
    if missing:
        gone = sorted(ShareId(share_id) for share_id in missing)
        raise ProofFailed(
            Fault.NOT_LISTED,
            f"{node.petname} does not list {named(gone)}; nothing was paid{ADVICE}",
            missing=gone,
        )
