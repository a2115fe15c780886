"""The Merkle tree that names a share: RFC 9162's shape over 16 KiB leaves, hashed with keyed BLAKE3 (spec 03).

    leaf      = BLAKE3(leaf key, up to 16384 bytes)           only the last leaf may be shorter
    node      = BLAKE3(node key, left ‖ right)                split at the largest power of two below the leaf count
    share id  = BLAKE3(root key, u64 share bytes, big-endian ‖ root)

The three keys come from context strings, so no leaf can pass for a node or a root. Without the length in the share id a
range proof away from the end would fit several share lengths (five leaves or six give the first leaf a proof of the
same form): with it, a false length is caught by every proof.

A range proof is the hashes of the largest subtrees that lie wholly outside the range, left to right: for 256 leaves at
most 14 of them. Leaf ranges are given as (first, last), both inclusive.
"""

from __future__ import annotations

from blake3 import blake3

from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import LEAF_BYTES, MAX_SHARE_BYTES, Buffer

HASH_BYTES = 32

_LEAF_KEY = blake3(b"", derive_key_context="lnstore merkle leaf v1").digest()
_NODE_KEY = blake3(b"", derive_key_context="lnstore merkle node v1").digest()
_ROOT_KEY = blake3(b"", derive_key_context="lnstore merkle root v1").digest()


def leaf_count(share_bytes: int) -> int:
    """How many leaves a share of that size has."""
    return -(-share_bytes // LEAF_BYTES)


def leaf_hashes(data: Buffer) -> list[bytes]:
    """The 32-byte hash of every 16 KiB leaf; the global lock is released while each is hashed."""
    view = memoryview(data)
    key = _LEAF_KEY
    return [blake3(view[at : at + LEAF_BYTES], key=key).digest() for at in range(0, len(view), LEAF_BYTES)]


def root(hashes: list[bytes]) -> bytes:
    """The root over leaf hashes, not yet bound to the share's length; ValueError when there are none."""
    if not hashes:
        raise ValueError("an empty share has no root")
    # Level by level, the odd one out passed up unchanged: the same tree as the recursive definition.
    level = hashes
    key = _NODE_KEY
    while len(level) > 1:
        pairs = [blake3(level[i] + level[i + 1], key=key).digest() for i in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            pairs.append(level[-1])
        level = pairs
    return level[0]


def share_id_of(hashes: list[bytes], share_bytes: int) -> ShareId:
    """The id of a share whose leaf hashes are known; ValueError when their number does not fit its size."""
    if len(hashes) != leaf_count(share_bytes):
        raise ValueError(f"{len(hashes)} leaf hashes do not fit {share_bytes} bytes")
    return _bind(root(hashes), share_bytes)


def share_id(data: Buffer) -> ShareId:  # P-W1, P-R1
    """The id of a share; ValueError when it is empty or above 4 MiB."""
    if not 0 < len(data) <= MAX_SHARE_BYTES:
        raise ValueError(f"a share has 1 to {MAX_SHARE_BYTES} bytes, not {len(data)}")
    return _bind(root(leaf_hashes(data)), len(data))


def leaf_range(share_bytes: int, offset: int, length: int) -> tuple[int, int]:  # MB-W2
    """First and last leaf (inclusive) that cover `length` bytes at `offset`; length 0 is to the end.

    RemoteProtocolError(RANGE_INVALID) when that does not lie in the share.
    """
    end = offset + length if length else share_bytes
    if not 0 <= offset < end <= share_bytes:
        raise RemoteProtocolError(
            f"{length} bytes at {offset} do not lie in a share of {share_bytes}", ErrorCode.RANGE_INVALID
        )
    return offset // LEAF_BYTES, (end - 1) // LEAF_BYTES


def leaf_span(share_bytes: int, first: int, last: int) -> tuple[int, int]:
    """Start and end (exclusive) in bytes of the leaves `first` to `last` (inclusive)."""
    return first * LEAF_BYTES, min((last + 1) * LEAF_BYTES, share_bytes)


def range_proof(hashes: list[bytes], first: int, last: int) -> bytes:  # P-W2
    """The proof for leaves `first` to `last` (inclusive); ValueError when there are no such leaves."""
    if not 0 <= first <= last < len(hashes):
        raise ValueError(f"no leaves {first} to {last} among {len(hashes)}")
    proof: list[bytes] = []

    def collect(low: int, high: int) -> None:
        if high <= first or low > last:
            proof.append(root(hashes[low:high]))
        elif low < first or high > last + 1:
            middle = low + _split(high - low)
            collect(low, middle)
            collect(middle, high)

    collect(0, len(hashes))
    return b"".join(proof)


# P-R2, P-R3, P-R4, P-R5
def verify_range(share_id: bytes, share_bytes: int, offset: int, payload: Buffer, proof: bytes) -> None:
    """Check that `payload` is what the share holds at `offset`: whole leaves, the last of the share maybe shorter.

    RemoteProtocolError(ROOT_MISMATCH) when leaves, proof and claimed length do not lead to the share id, RANGE_INVALID
    when `offset` and `payload` are not whole leaves of such a share at all.
    """
    end = offset + len(payload)
    aligned = offset % LEAF_BYTES == 0 and (end % LEAF_BYTES == 0 or end == share_bytes)
    if not (aligned and 0 <= offset < end <= share_bytes <= MAX_SHARE_BYTES):
        raise RemoteProtocolError("the range is not one of whole leaves in a share", ErrorCode.RANGE_INVALID)
    first, last = leaf_range(share_bytes, offset, len(payload))
    leaves = leaf_hashes(payload)
    at = 0

    def rebuild(low: int, high: int) -> bytes:
        nonlocal at
        if high <= first or low > last:
            at += HASH_BYTES
            return bytes(proof[at - HASH_BYTES : at])
        if first <= low and high <= last + 1:
            return root(leaves[low - first : high - first])
        middle = low + _split(high - low)
        left = rebuild(low, middle)
        return blake3(left + rebuild(middle, high), key=_NODE_KEY).digest()

    found = rebuild(0, leaf_count(share_bytes))
    if at != len(proof) or _bind(found, share_bytes) != share_id:
        raise RemoteProtocolError("the bytes or their proof do not lead to the share id", ErrorCode.ROOT_MISMATCH)


def _split(count: int) -> int:
    """The largest power of two below `count` (two or more): the size of the left subtree."""
    return 1 << ((count - 1).bit_length() - 1)


def _bind(root_hash: bytes, share_bytes: int) -> ShareId:
    return ShareId(blake3(share_bytes.to_bytes(8, "big") + root_hash, key=_ROOT_KEY).digest())
