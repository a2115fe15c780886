"""have_shares, list_shares, drop_shares and put_tokens: the account's own leases, and nobody else's."""

from __future__ import annotations

from lnstore.node.context import RequestContext
from lnstore.node.errors import Refusal
from lnstore.node.handlers.delegations import chosen_set
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import (
    MAX_IDS,
    Buffer,
    DropShares,
    DropSharesReply,
    HaveShares,
    HaveSharesReply,
    ListShares,
    ListSharesReply,
    PutTokens,
    PutTokensReply,
)
from lnstore_protocol.proofs import split_token_tables
from lnstore_protocol.replies import pack_bits

LISTED_BYTES = ShareId.SIZE + 4
PAGE = 1024
"""Leases read from the books at a time: each comes with its tokens."""


async def have_shares(request: RequestContext, message: HaveShares) -> HaveSharesReply:  # MB-R12, MB-R13
    """One bit per id."""
    await request.account()
    held = await request.node.books.held(
        request.account_id, _share_ids(message.payload), certificate_id=request.certificate_id
    )
    return HaveSharesReply(held=pack_bits(held))


async def list_shares(request: RequestContext, message: ListShares) -> ListSharesReply:  # MB-W3, MB-R15
    """A page of the account's share ids and sizes."""
    if not 1 <= message.limit <= MAX_IDS:
        raise Refusal(ErrorCode.TOO_LARGE, f"list 1 to {MAX_IDS} shares at a time")
    await request.account()
    certificate_id = await chosen_set(request, message.certificate)
    await request.hold_memory(message.limit * LISTED_BYTES)
    listed = bytearray()
    after, left = message.after, message.limit
    while left:
        page = await request.node.books.leases(
            request.account_id, after=after, limit=min(left, PAGE), certificate_id=certificate_id
        )
        for lease in page:
            listed += lease.share_id
            listed += lease.size_bytes.to_bytes(4, "big")
        if len(page) < min(left, PAGE):
            break
        after = page[-1].share_id
        left -= len(page)
    return ListSharesReply(payload=listed)


async def drop_shares(request: RequestContext, message: DropShares) -> DropSharesReply:  # MB-R18, MB-R19
    """End leases; the bytes go with the next sweep."""
    await request.account()
    certificate_id = await chosen_set(request, message.certificate)
    dropped, used_bytes = await request.node.books.drop_leases(
        request.account_id, _share_ids(message.payload), certificate_id=certificate_id
    )
    if dropped:
        request.node.sweep_wanted.set()
    return DropSharesReply(dropped=dropped, used_bytes=used_bytes)


async def put_tokens(request: RequestContext, message: PutTokens) -> PutTokensReply:  # MB-R34, MB-R36, MB-R37
    """Other tokens for shares that are here; no byte of a share is read."""
    await request.account()
    tables = split_token_tables(message.payload, message.token_start, message.count)
    stored = await request.node.books.replace_tokens(request.account_id, message.token_start, tables)
    return PutTokensReply(stored=pack_bits(stored))


def _share_ids(payload: Buffer) -> list[ShareId]:
    if len(payload) % ShareId.SIZE or len(payload) > MAX_IDS * ShareId.SIZE:
        raise Refusal(ErrorCode.MALFORMED, f"share ids have {ShareId.SIZE} bytes each, up to {MAX_IDS} of them")
    joined = bytes(payload)
    return [ShareId(joined[at : at + ShareId.SIZE]) for at in range(0, len(joined), ShareId.SIZE)]
