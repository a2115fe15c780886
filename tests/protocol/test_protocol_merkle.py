"""The share id against a direct transcription of RFC 9162, and range proofs against every lie about them."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from lnstore_protocol import merkle
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.ids import ShareId
from lnstore_protocol.merkle import leaf_count, leaf_hashes, leaf_range, leaf_span, range_proof, root, verify_range
from lnstore_protocol.messages import LEAF_BYTES, MAX_SHARE_BYTES

counts = st.integers(1, 40)


def share_of(leaves: int, short: int = 0) -> bytes:
    """A share of so many leaves, the last one `short` bytes shorter, all of them different."""
    return b"".join(i.to_bytes(4, "big") * (LEAF_BYTES // 4) for i in range(leaves))[: leaves * LEAF_BYTES - short]


def hashes_of(leaves: int) -> list[bytes]:
    return [bytes([i]) * 32 for i in range(leaves)]


def rfc_root(hashes: list[bytes]) -> bytes:
    """MTH of RFC 9162 §2.1.1, with this protocol's node hash."""
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    key = blake3(b"", derive_key_context="lnstore merkle node v1").digest()
    return blake3(rfc_root(hashes[:split]) + rfc_root(hashes[split:]), key=key).digest()


@given(st.integers(1, 300))
def test_the_tree_has_the_shape_of_the_rfc(leaves: int) -> None:
    """Building level by level is the recursive definition."""
    hashes = [i.to_bytes(32, "big") for i in range(leaves)]
    assert root(hashes) == rfc_root(hashes)


def test_the_share_id_is_what_the_head_of_the_file_says() -> None:
    """Leaf, root and length, each under its own key, written out once more."""
    share = share_of(3, short=100)
    leaf_key, root_key = (
        blake3(b"", derive_key_context=f"lnstore merkle {name} v1").digest() for name in ("leaf", "root")
    )
    hashes = [blake3(share[at : at + 16384], key=leaf_key).digest() for at in (0, 16384, 32768)]
    assert leaf_hashes(share) == hashes
    expected = blake3((49052).to_bytes(8, "big") + rfc_root(hashes), key=root_key).digest()
    assert merkle.share_id(share) == expected == merkle.share_id_of(hashes, len(share))
    assert isinstance(merkle.share_id(share), ShareId)
    assert merkle.share_id(bytearray(share)) == merkle.share_id(memoryview(share)) == expected


def test_different_shares_have_different_ids() -> None:
    """Another byte, a zero more, another order of leaves."""
    share = share_of(4)
    others = [share[:-1], share + b"\0", share[LEAF_BYTES:] + share[:LEAF_BYTES], b"\1" + share[1:], b"\0"]
    assert len({merkle.share_id(data) for data in [share, *others]}) == 6


@pytest.mark.parametrize("size", [0, MAX_SHARE_BYTES + 1])
def test_a_share_has_1_byte_to_4_mib(size: int) -> None:  # P-R1
    """An empty share has no root, and a larger one no place on the wire."""
    with pytest.raises(ValueError, match="share has 1 to"):
        merkle.share_id(bytes(size))


def test_mistakes_of_the_caller() -> None:
    """No leaves, not as many as the size needs, no such range."""
    with pytest.raises(ValueError, match="no root"):
        root([])
    with pytest.raises(ValueError, match="do not fit"):
        merkle.share_id_of(hashes_of(2), LEAF_BYTES)
    for first, last in ((-1, 0), (1, 0), (0, 3), (3, 3)):
        with pytest.raises(ValueError, match="no leaves"):
            range_proof(hashes_of(3), first, last)


# --- ranges -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 200_000), st.data())
def test_a_range_is_covered_by_its_leaves(share_bytes: int, data: st.DataObject) -> None:
    """The leaves hold all of the range and no leaf more than needed."""
    offset = data.draw(st.integers(0, share_bytes - 1))
    length = data.draw(st.integers(0, share_bytes - offset))
    first, last = leaf_range(share_bytes, offset, length)
    start, end = leaf_span(share_bytes, first, last)
    wanted_end = offset + length if length else share_bytes
    assert start <= offset < start + LEAF_BYTES
    assert start < wanted_end <= end <= share_bytes
    assert end - wanted_end < LEAF_BYTES
    assert 0 <= first <= last < leaf_count(share_bytes)


@pytest.mark.parametrize(("offset", "length"), [(100, 0), (100, 1), (0, 101), (99, 2), (-1, 5), (5, -1), (1 << 62, 1)])
def test_a_range_outside_the_share_is_refused(offset: int, length: int) -> None:
    """RANGE_INVALID, the code that the node answers with."""
    with pytest.raises(RemoteProtocolError) as info:
        leaf_range(100, offset, length)
    assert info.value.code is ErrorCode.RANGE_INVALID


@given(st.integers(1, 24), st.integers(0, LEAF_BYTES - 1), st.data())
def test_every_range_verifies(leaves: int, short: int, data: st.DataObject) -> None:
    """Payload and proof of any range lead back to the share id."""
    share = share_of(leaves, short)
    first = data.draw(st.integers(0, leaves - 1))
    last = data.draw(st.integers(first, leaves - 1))
    start, end = leaf_span(len(share), first, last)
    proof = range_proof(leaf_hashes(share), first, last)
    verify_range(merkle.share_id(share), len(share), start, memoryview(share)[start:end], proof)


def test_the_whole_share_needs_no_proof() -> None:
    """And 256 leaves never need more than 14 hashes: well below the message's limit."""
    assert range_proof(hashes_of(7), 0, 6) == b""
    hashes = [i.to_bytes(32, "big") for i in range(256)]
    sizes = {len(range_proof(hashes, a, b)) // 32 for a in range(0, 256, 3) for b in range(a, 256, 5)}
    assert max(sizes) <= 14


def test_the_proof_is_the_outer_subtrees_from_left_to_right() -> None:  # P-W2
    """The defined order, once by hand: leaf 2 of 7."""
    h = hashes_of(7)
    assert range_proof(h, 2, 2) == rfc_root(h[0:2]) + h[3] + rfc_root(h[4:7])


def mismatch(share_id: bytes, share_bytes: int, offset: int, payload: bytes, proof: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as info:
        verify_range(share_id, share_bytes, offset, payload, proof)
    assert info.value.code is ErrorCode.ROOT_MISMATCH


@given(st.integers(2, 24), st.data())
def test_no_changed_byte_passes(leaves: int, data: st.DataObject) -> None:
    """In the payload, in the proof, or in the id."""
    share = share_of(leaves, 5)
    first = data.draw(st.integers(0, leaves - 2))
    start, end = leaf_span(len(share), first, first)
    parts = [
        bytearray(merkle.share_id(share)),
        bytearray(share[start:end]),
        bytearray(range_proof(leaf_hashes(share), first, first)),
    ]
    part = data.draw(st.sampled_from(parts))
    part[data.draw(st.integers(0, len(part) - 1))] ^= data.draw(st.integers(1, 255))
    share_id, payload, proof = map(bytes, parts)
    mismatch(share_id, len(share), start, payload, proof)


@pytest.mark.parametrize("claimed", [5, 6, 7, 8])
def test_a_false_length_is_caught_by_every_range(claimed: int) -> None:  # P-R5
    """Also where the proof has the same form: the first of five leaves or of six."""
    share = share_of(5)
    share_id = merkle.share_id(share)
    proof = range_proof(leaf_hashes(share), 0, 0)
    verify_range(share_id, len(share), 0, share[:LEAF_BYTES], proof)
    for share_bytes in (claimed * LEAF_BYTES - 1, claimed * LEAF_BYTES + 1, (claimed + 1) * LEAF_BYTES):
        mismatch(share_id, share_bytes, 0, share[:LEAF_BYTES], proof)


def test_a_proof_has_neither_more_nor_less() -> None:  # P-R4
    """A hash too many, one too few, half of one."""
    share = share_of(5)
    proof = range_proof(leaf_hashes(share), 1, 2)
    for wrong in (proof + bytes(32), proof[:-32], proof[:-1], b"", proof[32:] + proof[:32]):
        mismatch(merkle.share_id(share), len(share), LEAF_BYTES, share[LEAF_BYTES : 3 * LEAF_BYTES], wrong)


def test_leaves_cannot_be_passed_off_elsewhere() -> None:
    """Right bytes at the wrong offset; the node hash of two leaves as a leaf."""
    share = share_of(4)
    hashes = leaf_hashes(share)
    proof = range_proof(hashes, 1, 1)
    mismatch(merkle.share_id(share), len(share), 2 * LEAF_BYTES, share[LEAF_BYTES : 2 * LEAF_BYTES], proof)
    two = hashes[0] + hashes[1]
    mismatch(merkle.share_id(share), 64, 0, two, b"")


@pytest.mark.parametrize(
    ("offset", "size", "share_bytes"),
    [
        (1, LEAF_BYTES, 5 * LEAF_BYTES),
        (0, LEAF_BYTES - 1, 5 * LEAF_BYTES),
        (0, 0, 5 * LEAF_BYTES),
        (4 * LEAF_BYTES, LEAF_BYTES, 4 * LEAF_BYTES + 5),
        (-LEAF_BYTES, LEAF_BYTES, 5 * LEAF_BYTES),
        (0, LEAF_BYTES, MAX_SHARE_BYTES + LEAF_BYTES),
        (1 << 61, LEAF_BYTES, 1 << 62),
    ],
)
def test_a_range_that_is_not_whole_leaves_is_refused(offset: int, size: int, share_bytes: int) -> None:  # P-R2, P-R3
    """Before anything is hashed."""
    with pytest.raises(RemoteProtocolError) as info:
        verify_range(bytes(32), share_bytes, offset, bytes(size), b"")
    assert info.value.code is ErrorCode.RANGE_INVALID
