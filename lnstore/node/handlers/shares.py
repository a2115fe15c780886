"""put_share, get_share and audit_share: the bytes."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from functools import partial

import trio

from lnstore.node.context import RequestContext
from lnstore.node.errors import Refusal
from lnstore.ports import SMALL_SHARE_BYTES, BooksRefused, Leased, NewLease, Shares
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.ids import ShareId
from lnstore_protocol.merkle import (
    HASH_BYTES,
    leaf_count,
    leaf_hashes,
    leaf_range,
    leaf_span,
    range_proof,
    share_id_of,
    verify_range,
)
from lnstore_protocol.messages import (
    LEAF_BYTES,
    MAX_SHARE_BYTES,
    TOKEN_BYTES,
    AuditShare,
    AuditShareReply,
    Buffer,
    GetShare,
    GetShareReply,
    PutShare,
    PutShareReply,
)

_PUT_ATTEMPTS = 3
"""A put is repeated when the sweeper took the file between its writing and its lease; it cannot go on for ever."""


_LACKING = (ErrorCode.CAPACITY_EXCEEDED, ErrorCode.DELEGATION_EXHAUSTED, ErrorCode.PAYMENT_REQUIRED)


async def put_share(request: RequestContext, message: PutShare) -> PutShareReply:  # MB-R2, MB-R3, MB-R4, MB-R6, RI-W4
    """Store a share and lease it: root, file, lease, in this order, so that a lease always has its bytes."""
    node = request.node
    size_bytes = len(message.payload)
    if not 1 <= size_bytes <= MAX_SHARE_BYTES or len(message.tokens) % TOKEN_BYTES:
        raise Refusal(ErrorCode.MALFORMED, f"a share has 1 to {MAX_SHARE_BYTES} bytes, a token {TOKEN_BYTES}")
    if request.authority is not None and message.tokens:  # D-R10
        raise Refusal(ErrorCode.MALFORMED, "shares that are stored under a delegation have no tokens")
    lease = NewLease(
        account_id=request.account_id,
        share_id=message.share_id,
        size_bytes=size_bytes,
        token_start=message.token_start,
        tokens=message.tokens,
        certificate_id=request.certificate_id,
    )
    if size_bytes <= SMALL_SHARE_BYTES:
        # Root, bytes and lease in one step of one thread, together with those of other requests.
        try:
            _check_root(message.share_id, message.payload)
        except Refusal:
            await request.account()  # MB-R1
            raise
        return _answer(
            await node.books.add_small(lease, node.clock.now(), data=message.payload, store=node.shares.put_small)
        )
    try:
        await node.books.may_write(
            request.account_id, size_bytes, node.clock.now(), certificate_id=request.certificate_id
        )
    except BooksRefused as refused:
        # A share that is leased already takes no more room and no money: its tokens can be renewed (MB-R5).
        leased = refused.code in _LACKING and (
            await node.books.held(request.account_id, [message.share_id], certificate_id=request.certificate_id)
        )
        if not leased or not leased[0]:
            raise
    for attempt in range(_PUT_ATTEMPTS):
        await trio.to_thread.run_sync(
            _check_and_put, node.shares, message.share_id, message.payload, limiter=node.workers.uploads
        )
        try:
            leased_now = await node.books.add_lease(
                lease, node.clock.now(), present=partial(_is_present, node.shares, size_bytes)
            )
        except FileNotFoundError:
            if attempt == _PUT_ATTEMPTS - 1:
                raise
        except BooksRefused:
            await node.books.forget_orphan(message.share_id, delete=node.shares.delete)
            raise
        else:
            return _answer(leased_now)
    raise AssertionError  # pragma: no cover - the last attempt returns or raises


def _answer(leased: Leased) -> PutShareReply:  # RI-W5
    return PutShareReply(
        used_bytes=leased.used_bytes, charged_msat=leased.charged_msat, ingress_bytes=leased.ingress_bytes
    )


async def get_share(request: RequestContext, message: GetShare) -> GetShareReply:  # MB-R8, MB-R9, MB-W2, V-R1
    """The leaves that cover a range of any share, paid from the reader's deposit."""
    node = request.node
    share_bytes = await trio.to_thread.run_sync(node.shares.size, message.share_id, limiter=node.workers.reads)
    try:
        if not share_bytes:
            raise _unknown(message.share_id)
        first, last = leaf_range(share_bytes, message.offset, message.length)
    except (Refusal, RemoteProtocolError):
        await request.account(even_lapsed=True)  # MB-R1: who has no account is told nothing else
        raise
    start, end = leaf_span(share_bytes, first, last)
    await request.hold_memory(end - start + leaf_count(share_bytes) * HASH_BYTES)
    async with node.egress.reading(request.reader, end - start):
        cut = await trio.to_thread.run_sync(
            _read_cut, node.shares, message.share_id, share_bytes, first, last, limiter=node.workers.reads
        )
    return GetShareReply(offset=start, share_bytes=share_bytes, proof=cut.proof, payload=cut.payload)


async def audit_share(request: RequestContext, message: AuditShare) -> AuditShareReply:  # MB-R21, MB-R22
    """One leaf of a share that the account leases, with its path."""
    node = request.node
    await request.account()
    lease = await node.books.visible_lease(request.account_id, message.share_id, certificate_id=request.certificate_id)
    if lease is None:
        raise _unknown(message.share_id)
    if not 0 <= message.leaf <= leaf_range(lease.size_bytes, 0, 0)[1]:
        raise Refusal(ErrorCode.RANGE_INVALID, f"the share has no leaf {message.leaf}")
    await request.hold_memory(LEAF_BYTES + leaf_count(lease.size_bytes) * HASH_BYTES)
    try:
        cut = await trio.to_thread.run_sync(
            _read_cut,
            node.shares,
            message.share_id,
            lease.size_bytes,
            message.leaf,
            message.leaf,
            limiter=node.workers.reads,
        )
    except OSError as exc:
        if exc.errno != errno.EIO:
            raise
        # The disk gives it back no more: that is a loss, as in the proof of rent, and not a disk that is full.
        request.log.error("cannot read a share", share=message.share_id.hex(), reason=str(exc))  # noqa: TRY400 - the reason says it
        raise _unknown(message.share_id) from exc
    return AuditShareReply(share_bytes=lease.size_bytes, proof=cut.proof, payload=cut.payload)


# --- in worker threads ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cut:
    payload: Buffer
    proof: bytes


def _check_and_put(shares: Shares, share_id: ShareId, data: Buffer) -> None:
    shares.put(share_id, data, _check_root(share_id, data))


def _check_root(share_id: ShareId, data: Buffer) -> list[bytes]:
    """The hashes of its leaves; Refusal when they do not lead to the id."""
    hashes = leaf_hashes(data)
    if share_id_of(hashes, len(data)) != share_id:
        raise Refusal(ErrorCode.ROOT_MISMATCH, "the bytes do not have the Merkle root they were sent under")
    return hashes


def _is_present(shares: Shares, size_bytes: int, share_id: ShareId) -> bool:
    return shares.size(share_id) == size_bytes


def _read_cut(shares: Shares, share_id: ShareId, share_bytes: int, first: int, last: int) -> _Cut:
    """Leaves `first` to `last` and their proof; the reader checks them against the share's id.

    The proof comes from the stored hashes of the leaves. When that does not lead to the share's id, the hashes may have
    decayed and the bytes not: then the whole share is read and hashed.
    """
    start, end = leaf_span(share_bytes, first, last)
    payload = _read(shares, share_id, start, end - start)
    if end - start == share_bytes:
        return _Cut(payload, b"")
    try:
        hashes = shares.leaf_hashes(share_id)
        proof = range_proof(hashes, first, last)
        verify_range(share_id, share_bytes, start, payload, proof)
    except (ValueError, RemoteProtocolError):
        data = _read(shares, share_id, 0, share_bytes)
        return _Cut(memoryview(data)[start:end], range_proof(leaf_hashes(data), first, last))
    except KeyError:
        raise _unknown(share_id) from None
    return _Cut(payload, proof)


def _read(shares: Shares, share_id: ShareId, offset: int, length: int) -> bytes:
    try:
        data = shares.read(share_id, offset, length)
    except KeyError:
        raise _unknown(share_id) from None
    if len(data) != length:
        raise _unknown(share_id)
    return data


def _unknown(share_id: ShareId) -> Refusal:
    return Refusal(ErrorCode.SHARE_UNKNOWN, f"this node does not hold share {share_id}")
