"""How closely a node is looked at for our shares: by its own word, by a piece of each, or by reading every byte."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import islice

from lnstore.client.audit import Audit, HowLost, LostShare
from lnstore.client.catalog import NodeEntry, ShareEntry
from lnstore.client.diagnosis import Diagnosis, diagnose, remember
from lnstore.client.holdings import said_to_hold
from lnstore.client.node_errors import NodeRefused
from lnstore.client.purse import Purse
from lnstore.client.tasks import each
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import MAX_IDS, GetShare, GetShareReply
from lnstore_protocol.replies import check_range

SHARES_AT_ONCE = 2
"""Read whole at each node: so many are held of each of the nodes that are looked at at once."""

ACCOUNT_GONE = frozenset({ErrorCode.NO_ACCOUNT, ErrorCode.LAPSED})
"""Where there is no account there are no shares of it."""


class Depth(Enum):
    """What a share that is there has to show. The values are those of --json."""

    ASKED = "asked"
    """Nothing: the node says that it holds it. Says something only where the node is honest and has lost it."""
    AUDITED = "audited"
    """A random piece of 16 KiB with its Merkle path, for nothing."""
    READ = "read"
    """Every byte, paid from the deposit."""


async def look(purse: Purse, node: NodeEntry, share_ids: Sequence[ShareId] | None, depth: Depth) -> Diagnosis:
    """Whether the node has these shares (None: all that the catalog has there); what is lost is written down.

    Errors of the connection are raised, also that the deposit is too small: nothing is shown by them.
    """
    wanted = None if share_ids is None else set(share_ids)
    shares = {
        share.share_id: share
        for share in purse.catalog.shares_at(node.node_id)
        if wanted is None or share.share_id in wanted
    }
    try:
        if depth is Depth.AUDITED:
            return await diagnose(purse, node, share_ids)
        find = _ask if depth is Depth.ASKED else _read
        audit = await find(purse, node, list(shares.values()))
    except NodeRefused as refused:
        if refused.code not in ACCOUNT_GONE:
            raise
        audit = Audit(lost=[LostShare(share.share_id, share.file_id, HowLost.UNKNOWN) for share in shares.values()])
    await purse.write(remember, purse, node, audit)
    return Diagnosis(node, audit.audited if depth is Depth.READ else len(shares), tuple(audit.lost), ())


async def _ask(purse: Purse, node: NodeEntry, shares: Sequence[ShareEntry]) -> Audit:
    """What the node says that it does not hold. What it says to hold may be lost all the same: `whole` stays empty."""
    found, left = Audit(), iter(shares)
    while batch := list(islice(left, MAX_IDS)):
        try:
            held = await said_to_hold(purse, node, [share.share_id for share in batch])
        except RemoteProtocolError:
            held = [False] * len(batch)
        found.lost += [
            LostShare(share.share_id, share.file_id, HowLost.UNKNOWN)
            for share, there in zip(batch, held, strict=True)
            if not there
        ]
    return found


async def _read(purse: Purse, node: NodeEntry, shares: Sequence[ShareEntry]) -> Audit:
    """Every byte of each of them."""
    found = Audit()

    async def read(share: ShareEntry) -> None:
        try:
            reply = await purse.ask(node, GetShare(share_id=share.share_id, offset=0, length=0), GetShareReply)
            try:
                await purse.write(check_range, reply, share.share_id, 0, 0)
            finally:
                purse.buffers.give(reply.payload)
        except NodeRefused as refused:
            if refused.code is not ErrorCode.SHARE_UNKNOWN:
                raise
            found.lost.append(LostShare(share.share_id, share.file_id, HowLost.UNKNOWN))
        except RemoteProtocolError:
            found.lost.append(LostShare(share.share_id, share.file_id, HowLost.DAMAGED))
        else:
            found.whole.append(share.share_id)

    await each(read, shares, at_once=SHARES_AT_ONCE)
    found.lost.sort(key=lambda lost: lost.share_id)
    return found
