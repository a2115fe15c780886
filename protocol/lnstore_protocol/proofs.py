"""Proof-locked rent: storage tokens, the sample, and the fold whose result is the rent payment's preimage (spec 03).

    H(key, data)  keyed BLAKE3-256; integers big-endian
    r_t      = H(audit key, node id ‖ u32 t)                    the nonce, secret until rent number t is asked for
    c        = H(r_t, share id)                                 the challenge for one share
    p_j      = u64 j of H(c, "positions") extended to 256 bytes, mod the number of sectors, j = 0..31
    answer   = H(c, sector p_0 ‖ … ‖ sector p_31)[:16]          512-byte sectors, the share's last padded with zeros
    token    = answer xor H(token key, node id ‖ share id ‖ u32 t)[:16]
    sample   = the 512 (or all) shares with the smallest H(r_t, "sample" ‖ share id), in ascending order of that hash
    preimage = BLAKE3 in derive-key mode, context "lnstore rent preimage v1", of r_t ‖ id_1 ‖ answer_1 ‖ id_2 ‖ …

Source: precomputed tokens after Ateniese, Di Pietro, Mancini, Tsudik, "Scalable and Efficient Provable Data
Possession" (2008); the fold binds them to an HTLC. A node that lacks a sampled sector cannot compute the preimage and
so cannot claim the rent. Answers and challenges have inputs of different lengths under the same key c, so neither can
be taken for the other. The node id in the mask keeps nodes that hold the same share from
cancelling each other's masks (docs/adr/0006-the-mask-of-a-token-names-its-node.md).
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import struct
from collections.abc import Callable, Iterable, Sequence

from blake3 import blake3

from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import NodeId, PaymentHash, ShareId
from lnstore_protocol.messages import (
    MAX_TOKEN_TABLES,
    SAMPLE_SHARES,
    TOKEN_BYTES,
    TOKEN_INDICES,
    TOKENS_PER_SHARE,
    Buffer,
)

SECTOR_BYTES = 512
POSITIONS = 32
ANSWER_BYTES = TOKEN_BYTES
NONCE_BYTES = 32

_unpack_positions = struct.Struct(f">{POSITIONS}Q").unpack
_PREIMAGE_CONTEXT = "lnstore rent preimage v1"


# --- keys -------------------------------------------------------------------------------------------------------------


def audit_key(account_secret: bytes) -> bytes:
    """The 32-byte key that all of an account's nonces come from."""
    return blake3(account_secret, derive_key_context="lnstore audit key v1").digest()


def token_key(account_secret: bytes) -> bytes:
    """The 32-byte key that masks an account's tokens."""
    return blake3(account_secret, derive_key_context="lnstore token key v1").digest()


def audit_nonce(audit_key: bytes, node_id: NodeId, t: int) -> bytes:
    """r_t for one node: 32 bytes to be revealed when rent number t is asked for, and never before."""
    return blake3(node_id + _u32(t), key=audit_key).digest()


# --- one share --------------------------------------------------------------------------------------------------------


def sector_count(share_bytes: int) -> int:
    """How many 512-byte sectors a share has, the last one maybe in part."""
    return -(-share_bytes // SECTOR_BYTES)


def challenge_positions(nonce: bytes, share_id: ShareId, share_bytes: int) -> list[int]:
    """The 32 sector indices to read, in the order their contents are hashed; an index may come twice."""
    return _positions(_challenge(nonce, share_id), sector_count(share_bytes))


def answer_from_sectors(nonce: bytes, share_id: ShareId, sectors: Buffer) -> bytes:
    """The 16-byte answer from the 32 sectors, joined in the order of challenge_positions, each padded to 512 bytes.

    ValueError for any other number of bytes.
    """
    if len(sectors) != POSITIONS * SECTOR_BYTES:
        raise ValueError(f"{POSITIONS} sectors of {SECTOR_BYTES} bytes are needed")
    return blake3(sectors, key=_challenge(nonce, share_id)).digest(ANSWER_BYTES)


def answer(nonce: bytes, share_id: ShareId, share: Buffer) -> bytes:
    """The 16-byte answer of someone who has the whole share at hand."""
    view = memoryview(share)
    return _answer(_challenge(nonce, share_id), view, sector_count(len(view)))


def answer_reading(nonce: bytes, share_id: ShareId, share_bytes: int, read: Callable[[int, int], bytes]) -> bytes:
    """The 16-byte answer through `read(offset, count)`, which gives fewer bytes only at the share's end."""
    parts = [
        read(position * SECTOR_BYTES, SECTOR_BYTES).ljust(SECTOR_BYTES, b"\0")
        for position in challenge_positions(nonce, share_id, share_bytes)
    ]
    return answer_from_sectors(nonce, share_id, b"".join(parts))


def make_tokens(  # noqa: PLR0917 - the order is the one they are derived in, MB-W1, P-W3
    share: Buffer,
    share_id: ShareId,
    audit_key: bytes,
    token_key: bytes,
    node_id: NodeId,
    start: int = 0,
    count: int = TOKENS_PER_SHARE,
) -> bytes:
    """`count` tokens of 16 bytes for the indices from `start` on, joined; ValueError for an empty share."""
    view = memoryview(share)
    sectors = sector_count(len(view))
    if not sectors:
        raise ValueError("an empty share has no tokens")
    parts = _split(view) if sectors <= count * POSITIONS else None
    tokens: list[bytes] = []
    for t in range(start, start + count):
        challenge = _challenge(audit_nonce(audit_key, node_id, t), share_id)
        tokens.append(_xor(_answer(challenge, view, sectors, parts), _mask(token_key, node_id, share_id, t)))
    return b"".join(tokens)


def unmask(token: bytes, token_key: bytes, node_id: NodeId, share_id: ShareId, t: int) -> bytes:
    """The 16-byte answer that a token stored at this node hides; ValueError for a token of another length."""
    if len(token) != TOKEN_BYTES:
        raise ValueError(f"a token has {TOKEN_BYTES} bytes")
    return _xor(token, _mask(token_key, node_id, share_id, t))


def join_token_tables(tables: Iterable[tuple[ShareId, bytes]]) -> bytes:
    """The payload of a put_tokens, from (share id, tokens) pairs with the same number of tokens each."""
    return b"".join(share_id + tokens for share_id, tokens in tables)


def split_token_tables(payload: Buffer, start: int, count: int) -> list[tuple[ShareId, bytes]]:  # MB-R34
    """The (share id, `count` tokens from `start` on) pairs of a put_tokens, in order; else RemoteProtocolError."""
    if not 1 <= count <= TOKENS_PER_SHARE:
        raise RemoteProtocolError(f"1 to {TOKENS_PER_SHARE} tokens for each share, not {count}")
    if not 0 <= start <= TOKEN_INDICES - count:
        raise RemoteProtocolError(f"there are token indices up to {TOKEN_INDICES - 1}, none {count} from {start} on")
    data, entry = bytes(payload), ShareId.SIZE + count * TOKEN_BYTES
    if not data or len(data) % entry or len(data) > MAX_TOKEN_TABLES * entry:
        raise RemoteProtocolError(f"1 to {MAX_TOKEN_TABLES} shares of {entry} bytes each, not {len(data)} bytes")
    parts = [data[at : at + entry] for at in range(0, len(data), entry)]
    return [(ShareId(part[: ShareId.SIZE]), part[ShareId.SIZE :]) for part in parts]


# --- the sample and the preimage --------------------------------------------------------------------------------------


def sample_key(nonce: bytes, share_id: bytes) -> bytes:
    """What the shares are ordered by for the sample of this nonce, 32 bytes."""
    return blake3(b"sample" + share_id, key=nonce).digest()


def select_sample(nonce: bytes, share_ids: Iterable[bytes]) -> list[ShareId]:  # P-W7
    """The sample out of all distinct `share_ids`: the 512 smallest sample keys (or all), ascending by that key."""
    keyed = ((sample_key(nonce, share_id), share_id) for share_id in share_ids)
    return [ShareId(share_id) for _, share_id in heapq.nsmallest(SAMPLE_SHARES, keyed)]


def fold(nonce: bytes, answers: Iterable[tuple[ShareId, bytes]]) -> bytes:  # P-W11, P-R13
    """The 32-byte preimage from the sample's (share id, answer) pairs, in the sample's order.

    ValueError when an answer has not its 16 bytes.
    """
    hasher = blake3(nonce, derive_key_context=_PREIMAGE_CONTEXT)
    for share_id, share_answer in answers:
        if len(share_answer) != ANSWER_BYTES:
            raise ValueError(f"an answer has {ANSWER_BYTES} bytes")
        hasher.update(share_id + share_answer)
    return hasher.digest()


def payment_hash(preimage: bytes) -> PaymentHash:
    """What the invoice for that preimage must ask for."""
    return PaymentHash(hashlib.sha256(preimage).digest())


def read_sample(sample: bytes, lost: bytes) -> tuple[list[tuple[ShareId, bytes]], list[ShareId]]:
    """What a node answers to a nonce: the sample's (share id, 16-byte token) pairs in order, and the ids it lost.

    `sample` and `lost` are those of messages.InvoiceReply. RemoteProtocolError when one is not a whole number of
    entries or holds an id twice (MA-W6); whether it is the right sample is check_sample's question.
    """
    entry = ShareId.SIZE + TOKEN_BYTES
    if len(sample) % entry or len(lost) % ShareId.SIZE:
        raise RemoteProtocolError("a sample or a list of lost shares that is not whole")
    parts = [sample[at : at + entry] for at in range(0, len(sample), entry)]
    pairs = [(ShareId(part[: ShareId.SIZE]), part[ShareId.SIZE :]) for part in parts]
    ids = [ShareId(lost[at : at + ShareId.SIZE]) for at in range(0, len(lost), ShareId.SIZE)]
    if len({share_id for share_id, _ in pairs}) < len(pairs) or len(set(ids)) < len(ids):
        raise RemoteProtocolError("a share is twice in the sample or among the lost ones")
    return pairs, ids


def check_sample(  # P-R9, P-R10
    nonce: bytes, expected: Iterable[ShareId], sample_ids: Sequence[ShareId], lost: Iterable[ShareId]
) -> list[ShareId]:
    """The shares that the node left out: empty when its sample is the right one. Ascending by sample key.

    `expected` is what the client's catalog says the node holds. The node may hold more (an interrupted upload), so the
    sample is compared with the smallest of both together; whoever sees ids here that it does not know (see
    unexpected_ids) should drop those shares at the node, since each of them displaces a known one.
    RemoteProtocolError when the sample is not in order, repeats an id, names a lost one or is too long.
    """
    keys = [sample_key(nonce, share_id) for share_id in sample_ids]
    if len(keys) > SAMPLE_SHARES:
        raise RemoteProtocolError(f"a sample of {len(keys)} shares, {SAMPLE_SHARES} are the most")
    if any(left >= right for left, right in itertools.pairwise(keys)):
        raise RemoteProtocolError("the sample is not in ascending order")
    given = set(sample_ids)
    admitted = set(lost)
    if given & admitted:
        raise RemoteProtocolError("the sample holds a share that the node says it lost")
    due = select_sample(nonce, given.union(expected))
    return [share_id for share_id in due if share_id not in given and share_id not in admitted]


def unexpected_ids(expected: Iterable[ShareId], sample_ids: Iterable[ShareId]) -> list[ShareId]:
    """The sample's ids that the client does not know, in the sample's order."""
    known = set(expected)
    return [share_id for share_id in sample_ids if share_id not in known]


# --- parts ------------------------------------------------------------------------------------------------------------


def _challenge(nonce: bytes, share_id: bytes) -> bytes:
    return blake3(share_id, key=nonce).digest()


def _positions(challenge: bytes, sectors: int) -> list[int]:
    return [number % sectors for number in _unpack_positions(blake3(b"positions", key=challenge).digest(POSITIONS * 8))]


def _answer(challenge: bytes, view: memoryview, sectors: int, parts: Sequence[Buffer] | None = None) -> bytes:
    """`parts` are the share's sectors, where they were split before: what many answers from few sectors take."""
    positions = _positions(challenge, sectors)
    found = [_sector(view, position) for position in positions] if parts is None else [parts[p] for p in positions]
    return blake3(b"".join(found), key=challenge).digest(ANSWER_BYTES)


def _split(view: memoryview) -> list[Buffer]:
    """Copies: many pieces of bytes are joined in a third of the time that many views take."""
    padded = bytes(view).ljust(sector_count(len(view)) * SECTOR_BYTES, b"\0")
    return [padded[at : at + SECTOR_BYTES] for at in range(0, len(padded), SECTOR_BYTES)]


def _sector(view: memoryview, position: int) -> Buffer:
    part = view[position * SECTOR_BYTES : (position + 1) * SECTOR_BYTES]
    return part if len(part) == SECTOR_BYTES else bytes(part).ljust(SECTOR_BYTES, b"\0")


def _mask(token_key: bytes, node_id: bytes, share_id: bytes, t: int) -> bytes:
    return blake3(node_id + share_id + _u32(t), key=token_key).digest(TOKEN_BYTES)


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(TOKEN_BYTES, "big")


def _u32(t: int) -> bytes:
    if not 0 <= t < 1 << 32:
        raise ValueError(f"token index {t} is not in 0 … 2^32-1")
    return t.to_bytes(4, "big")
