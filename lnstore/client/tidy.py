"""Shares that were given up and that a node may still hold: dropped again before a proof is asked for.

A proof samples the shares that a node says it holds. A node that keeps dropped shares, small ones, with their genuine
tokens, could push those it has lost out of the sample. So the catalog remembers what was given up; an honest node that
could not be reached then is told once more, and a proof over such a share is none (proof.py). Leases that the catalog
never knew are left alone: they may belong to files stored after the copy that a catalog was restored from.
"""

from __future__ import annotations

from lnstore.client.catalog import NodeEntry
from lnstore.client.purse import Purse
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import MAX_IDS, DropShares, DropSharesReply


async def drop_given_up(purse: Purse, node: NodeEntry) -> frozenset[ShareId]:  # P-R12
    """Tell the node again which shares were given up there; all of them."""
    given_up = sorted(purse.catalog.given_up_at(node.node_id))
    for at in range(0, len(given_up), MAX_IDS):
        await purse.ask(node, DropShares(payload=b"".join(given_up[at : at + MAX_IDS])), DropSharesReply)
    return frozenset(given_up)
