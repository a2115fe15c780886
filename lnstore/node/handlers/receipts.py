"""get_receipts and put_receipts: what was paid, signed both ways."""

from __future__ import annotations

import trio

from lnstore.node.context import RequestContext
from lnstore.node.errors import Refusal
from lnstore.node.receipts import signed_receipts
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.messages import (
    MAX_RECEIPT_BYTES,
    RECEIPTS_AT_ONCE,
    Buffer,
    GetReceipts,
    GetReceiptsReply,
    PutReceipts,
    PutReceiptsReply,
)
from lnstore_protocol.receipts import Acknowledgement, join, receipt_hash, split


async def get_receipts(request: RequestContext, message: GetReceipts) -> GetReceiptsReply:  # RC-R3, RC-R4
    """The account's receipts, made from the books."""
    if not 1 <= message.limit <= RECEIPTS_AT_ONCE:
        raise Refusal(ErrorCode.TOO_LARGE, f"ask for 1 to {RECEIPTS_AT_ONCE} receipts at a time")
    await request.account(even_lapsed=True)
    node = request.node
    await request.hold_memory(message.limit * (2 + MAX_RECEIPT_BYTES))
    total, credited = await node.books.credited(
        request.account_id, first_number=message.first_number, limit=message.limit
    )
    signed = await trio.to_thread.run_sync(signed_receipts, credited, node.identity, limiter=node.workers.reads)
    return GetReceiptsReply(total=total, payload=join(signed))


async def put_receipts(request: RequestContext, message: PutReceipts) -> PutReceiptsReply:  # RC-R5, RC-R6
    """Keep what the client signed for receipts of its own; all of the request or nothing."""
    await request.account(even_lapsed=True)
    node = request.node
    words = await trio.to_thread.run_sync(_words, message.payload, limiter=node.workers.reads)
    if any((word.account_id, word.node_id) != (request.account_id, node.node_id) for word, _ in words.values()):
        raise Refusal(ErrorCode.BAD_SIGNATURE, "an acknowledgement is another account's or of another node")
    kept: dict[str, bytes] = {}
    left = dict(sorted(words.items()))
    while left:
        first_number = next(iter(left))
        _, page = await node.books.credited(request.account_id, first_number=first_number, limit=RECEIPTS_AT_ONCE)
        asked = [one for one in page if one.number in left]
        signed = await trio.to_thread.run_sync(signed_receipts, asked, node.identity, limiter=node.workers.reads)
        if not asked or any(
            receipt_hash(receipt) != left[one.number][0].receipt_hash
            for one, receipt in zip(asked, signed, strict=True)
        ):
            raise Refusal(ErrorCode.RECORD_UNKNOWN, "an acknowledgement is of a receipt that this node did not give")
        kept |= {one.planned.label: left.pop(one.number)[1] for one in asked}
    return PutReceiptsReply(acknowledged=await node.books.acknowledge(request.account_id, kept))


def _words(payload: Buffer) -> dict[int, tuple[Acknowledgement, bytes]]:
    """The acknowledgements by the number of their receipt, each with its bytes."""
    words = [(Acknowledgement.decode(encoded), encoded) for encoded in split(payload)]
    return {word.number: (word, encoded) for word, encoded in words}
