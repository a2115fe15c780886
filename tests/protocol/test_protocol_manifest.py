"""Manifests: what each key opens, what no longer fits, and what a damaged or contradictory one says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnstore_protocol import caps, cbor, manifest
from lnstore_protocol.content import ciphertext_bytes
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.ids import ShareId
from lnstore_protocol.manifest import Manifest, SegmentShares, VerifyPart, decode, decode_verify, encode

FILE_KEY = b"\x3c" * 32
VERIFY_KEY = caps.verify_key(FILE_KEY)


def manifest_of(file_bytes: int, needed: int = 3, total: int = 5, segment_bytes: int = 12 << 20) -> Manifest:
    """As a client would make it, with invented ids."""
    left = ciphertext_bytes(file_bytes)
    segments: list[SegmentShares] = []
    while left:
        size = min(left, segment_bytes)
        ids = tuple(ShareId((len(segments) * total + i).to_bytes(32, "big")) for i in range(total))
        segments.append(SegmentShares(size, -(-size // needed), ids))
        left -= size
    return Manifest(needed, total, file_bytes, tuple(segments))


SMALL = manifest_of(100_000)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    needed = draw(st.integers(1, 6))
    total = draw(st.integers(needed, 10))
    return manifest_of(draw(st.integers(0, 3_000_000)), needed, total, draw(st.integers(100_000, 2_000_000)))


@given(manifests(), st.binary(min_size=32, max_size=32))
def test_the_round_trip(value: Manifest, file_key: bytes) -> None:
    """The file key opens all, the verify key all but the plaintext's size; equal input gives equal bytes."""
    blob = encode(value, file_key)
    assert decode(blob, file_key) == value
    assert decode_verify(blob, caps.verify_key(file_key)) == value.verify_part()
    assert encode(value, file_key) == blob


def test_a_large_file_has_a_small_manifest() -> None:
    """5 GiB at 3-of-5 take 75 KB: 173 bytes per segment."""
    value = manifest_of(5 << 30)
    blob = encode(value, FILE_KEY)
    assert len(value.segments) == 427
    assert len(blob) < 75_000
    assert decode(blob, FILE_KEY) == value


def test_a_manifest_must_fit_into_a_share() -> None:  # F-W6, F-R8
    """The error says what to do about it."""
    with pytest.raises(ValueError, match="several parts"):
        encode(manifest_of(2 << 30, needed=1, total=100, segment_bytes=1 << 20), FILE_KEY)
    with pytest.raises(RemoteProtocolError) as info:
        decode(bytes(manifest.MAX_MANIFEST_BYTES + 1), FILE_KEY)
    assert info.value.code is ErrorCode.TOO_LARGE


def test_other_keys_open_nothing() -> None:
    """Another file's key, the verify key in place of the file key, and the other way round."""
    blob = encode(SMALL, FILE_KEY)
    for key in (bytes(32), VERIFY_KEY):
        with pytest.raises(RemoteProtocolError, match="does not open"):
            decode(blob, key)
    for key in (bytes(32), FILE_KEY):
        with pytest.raises(RemoteProtocolError, match="does not open"):
            decode_verify(blob, key)


def test_a_node_reads_nothing_in_it() -> None:
    """Neither ids nor the keys are in the blob."""
    segment = SegmentShares(100_032, 50_016, (ShareId(b"A" * 32), ShareId(b"B" * 32)))
    blob = encode(Manifest(2, 2, 100_000, (segment,)), FILE_KEY)
    for secret in (b"AAAA", b"BBBB", FILE_KEY[:4], VERIFY_KEY[:4]):
        assert secret not in blob


def test_different_manifests_never_share_a_cipher_key() -> None:
    """The same file key with another code: the SIVs differ, so do the ciphertexts from their first byte on."""
    one = cbor.decode(encode(manifest_of(100_000, 3, 5), FILE_KEY), what="")
    two = cbor.decode(encode(manifest_of(100_000, 3, 6), FILE_KEY), what="")
    assert one[2][:16] != two[2][:16]
    assert one[4] == two[4]  # the same plaintext size: the same bytes, which tells nothing new


@given(st.data())
def test_no_changed_byte_passes(data: st.DataObject) -> None:
    """Anywhere in the blob."""
    blob = bytearray(encode(SMALL, FILE_KEY))
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RemoteProtocolError):
        decode(bytes(blob), FILE_KEY)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(blob: bytes) -> None:
    """With RemoteProtocolError and nothing else."""
    with pytest.raises(RemoteProtocolError):
        decode(blob, FILE_KEY)


# --- contradictions ---------------------------------------------------------------------------------------------------

SEGMENT = SMALL.segments[0]
MIB4 = 4 << 20


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"needed": 0}, "no erasure code"),
        ({"needed": 6}, "no erasure code"),
        ({"total": 257}, "no erasure code"),
        ({"total": 6}, "5 shares instead of 6"),
        ({"segments": ()}, "at least one segment"),
        ({"file_bytes": 99_999}, "not the ciphertext"),
        ({"file_bytes": -1}, "not the ciphertext"),
        ({"segments": (replace(SEGMENT, share_bytes=0),)}, "not those of its size"),
        ({"segments": (replace(SEGMENT, share_bytes=SEGMENT.share_bytes + 1),)}, "not those of its size"),
        ({"needed": 1, "segments": (replace(SEGMENT, size_bytes=1 + MIB4, share_bytes=1 + MIB4),)}, "share of 4194305"),
        ({"needed": 4, "segments": (replace(SEGMENT, size_bytes=1 + 4 * MIB4, share_bytes=MIB4),)}, "are the most"),
        ({"segments": (replace(SEGMENT, size_bytes=0),)}, "segment 0: 0 bytes"),
        ({"segments": (replace(SEGMENT, share_bytes=10),)}, "not those of its size"),
    ],
)
def test_numbers_that_contradict_each_other(changes: dict[str, Any], words: str) -> None:  # F-W3, F-R10, F-R11
    """Caught where the manifest is made."""
    with pytest.raises(ValueError, match=words):
        replace(SMALL, **changes)


def blob_of(verify: Any = None, read: Any = None, **outer: Any) -> bytes:
    """A manifest sealed with the right keys around any content."""
    ids = b"".join(SEGMENT.share_ids)
    good = {0: 3, 2: 5, 4: [[SEGMENT.size_bytes, SEGMENT.share_bytes, ids]]}
    boxes = {
        0: 1,
        2: manifest._seal(VERIFY_KEY, good if verify is None else verify(good, ids)),
        4: manifest._seal(manifest._read_key(FILE_KEY), {0: 100_000} if read is None else read),
    }
    return cbor.encode(boxes | {int(key[1:]): value for key, value in outer.items()})


def test_the_forgery_without_a_fault_is_the_real_thing() -> None:
    """What the next test breaks one by one is whole before."""
    assert blob_of() == encode(SMALL, FILE_KEY)


@pytest.mark.parametrize(
    ("blob", "code"),
    [
        (blob_of(k0=2), ErrorCode.UNSUPPORTED_VERSION),
        (blob_of(k6=b""), ErrorCode.UNKNOWN_FEATURE),
        (blob_of(k2=1), ErrorCode.MALFORMED),
        (blob_of(k2=b"short"), ErrorCode.MALFORMED),
        (cbor.encode([1, 2, 3]), ErrorCode.MALFORMED),
        (cbor.encode({0: 1, 2: b""}), ErrorCode.MALFORMED),
        (blob_of(lambda good, ids: good | {6: 1}), ErrorCode.UNKNOWN_FEATURE),
        (blob_of(lambda good, ids: good | {0: True}), ErrorCode.MALFORMED),
        (blob_of(lambda good, ids: good | {0: 0}), ErrorCode.MALFORMED),
        (blob_of(lambda good, ids: good | {0: 9}), ErrorCode.MALFORMED),
        (blob_of(lambda good, ids: {0: 3, 2: 5}), ErrorCode.MALFORMED),
        (blob_of(lambda good, ids: [good]), ErrorCode.MALFORMED),
        (blob_of(lambda good, ids: good | {4: []}), ErrorCode.MALFORMED),
        (blob_of(lambda good, ids: good | {4: [5]}), ErrorCode.MALFORMED),
        (blob_of(lambda good, ids: good | {4: [[1, 2]]}), ErrorCode.MALFORMED),
        (blob_of(lambda good, ids: good | {4: [[True, 40_000, ids]]}), ErrorCode.MALFORMED),
        (blob_of(lambda good, ids: good | {4: [[100_032, True, ids]]}), ErrorCode.MALFORMED),
        (blob_of(lambda good, ids: good | {4: [[100_032, 40_000, ids[:-1]]]}), ErrorCode.MALFORMED),
        (blob_of(lambda good, ids: good | {4: [[100_032, 40_000, ids[:-32]]]}), ErrorCode.MALFORMED),
        (blob_of(lambda good, ids: good | {4: [[100_032, 40_000, "ids"]]}), ErrorCode.MALFORMED),
        (blob_of(read={0: 99_999}), ErrorCode.MALFORMED),
        (blob_of(read={2: 5}), ErrorCode.UNKNOWN_FEATURE),
        (blob_of(read={1: 5}), ErrorCode.MALFORMED),
    ],
)
def test_a_well_sealed_manifest_with_a_fault_is_refused(blob: bytes, code: ErrorCode) -> None:
    """Another client may be faulty: its manifest is judged like any other bytes."""
    with pytest.raises(RemoteProtocolError) as info:
        decode(blob, FILE_KEY)
    assert info.value.code is code


def test_unknown_odd_keys_are_passed_over() -> None:
    """In all three maps."""
    blob = blob_of(lambda good, ids: good | {7: "new"}, {0: 100_000, 9: b"new"}, k5="new")
    assert decode(blob, FILE_KEY) == SMALL


def test_a_nonce_not_of_the_content_is_refused() -> None:  # F-R9
    """Else one manifest would have many blobs, and so many ids."""
    body = cbor.encode({0: 100_000})
    key = manifest._read_key(FILE_KEY)
    box = b"\1" * 16 + manifest._cipher(key, b"\1" * 16).encrypt(bytes(12), body, None)
    with pytest.raises(RemoteProtocolError, match="nonce"):
        decode(blob_of(k4=box), FILE_KEY)


def test_the_verify_part_alone_has_the_size_of_the_ciphertext() -> None:
    """What a repairer may know."""
    part = SMALL.verify_part()
    assert isinstance(part, VerifyPart)
    assert part.size_bytes == ciphertext_bytes(100_000)
    assert not hasattr(part, "file_bytes")
