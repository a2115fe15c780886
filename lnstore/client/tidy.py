"""Leases that the catalog does not know: what an interrupted put left, given up before a proof is asked for.

A proof samples the shares that a node says it holds. One that we do not know would take the place of one of ours, and
a node could keep such shares, small ones, to push those it has lost out of the sample.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from lnstore.client.catalog import NodeEntry
from lnstore.client.money_errors import UploadRunning
from lnstore.client.purse import Purse
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import MAX_IDS, DropShares, DropSharesReply, ListShares, ListSharesReply

_ENTRY_BYTES = 32 + 4


async def drop_unknown(purse: Purse, node: NodeEntry, ours: AbstractSet[bytes]) -> int:
    """Give up every lease at the node but `ours`; how many that were.

    UploadRunning while this process stores files: what a node has acknowledged is not yet all in the catalog then.
    Other processes are kept away by the profile's lock.
    """
    if purse.catalog.uploads_running:
        raise UploadRunning(f"a put is running; pay the rent at {node.petname} when it has ended")
    dropped = 0
    after: ShareId | None = None
    while True:
        reply = await purse.ask(node, ListShares(limit=MAX_IDS, after=after), ListSharesReply)
        listed = bytes(reply.payload)
        ids = [listed[at : at + 32] for at in range(0, len(listed), _ENTRY_BYTES)]
        if unknown := [share_id for share_id in ids if share_id not in ours]:
            await purse.ask(node, DropShares(payload=b"".join(unknown)), DropSharesReply)
            dropped += len(unknown)
        # A node that does not move on in ascending order is not asked for ever.
        if len(ids) < MAX_IDS or (after is not None and ids[-1] <= after):
            return dropped
        after = ShareId(ids[-1])
