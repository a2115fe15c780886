"""Plaintext becomes segments of shares and comes back, in one pass and by any range."""

from __future__ import annotations

import random
from io import BytesIO
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnstore.client.decode import FIRST_BYTES, PlaintextWriter, plan_read
from lnstore.client.encode import SegmentBuffer, SegmentFiller, code_segment
from lnstore.client.erasure import ErasureCode
from lnstore.client.segments import (
    MAX_CODED_BYTES,
    MAX_SEGMENT_BYTES,
    full_share_bytes,
    manifest_bytes,
    segment_sizes,
)
from lnstore.client.source import Source
from lnstore_protocol import manifest as manifests
from lnstore_protocol import merkle
from lnstore_protocol.content import RECORD_BYTES, SEALED_RECORD_BYTES, TAG_BYTES, ciphertext_bytes
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import ShareId
from lnstore_protocol.manifest import Manifest, SegmentShares
from lnstore_protocol.messages import LEAF_BYTES, MAX_SHARE_BYTES

KEY = b"f" * 32
LAST_RECORD = (MAX_SHARE_BYTES - 1) % SEALED_RECORD_BYTES + 1
ONE_SHARE = MAX_SHARE_BYTES // SEALED_RECORD_BYTES * RECORD_BYTES + LAST_RECORD - TAG_BYTES
"""The plaintext whose ciphertext fills exactly one share of 4 MiB."""


class DribblingStream:
    """Gives a few bytes at a time, as a pipe may."""

    def __init__(self, data: bytes, seed: int) -> None:
        self._data = BytesIO(data)
        self._rng = random.Random(seed)

    def readinto(self, buffer: memoryview) -> int:
        return self._data.readinto(buffer[: self._rng.randint(1, 200_000)])


def encoded(stream: DribblingStream | BytesIO, needed: int, total: int) -> tuple[Manifest, list[list[bytes]]]:
    """The manifest and, by segment, the shares."""
    filler = SegmentFiller(Source(stream, label="test"), KEY)
    buffer = SegmentBuffer(needed, total, full_share_bytes(needed, total))
    segments, shares = [], []
    while not filler.is_done:
        coded = code_segment(filler.fill(buffer), ErasureCode(needed, total))
        segments.append(SegmentShares(coded.size.size_bytes, coded.size.share_bytes, coded.share_ids))
        shares.append([bytes(share) for share in coded.shares])
    return Manifest(needed, total, filler.plain_bytes, tuple(segments)), shares


def decoded(manifest: Manifest, shares: list[list[bytes]], offset: int, length: int) -> bytes:
    out = bytearray()
    writer = PlaintextWriter(KEY, manifest.file_bytes, offset, length, out.extend)
    for plan in plan_read(manifest, offset, length):
        for piece in plan.pieces:
            writer.feed(memoryview(shares[plan.number][piece.number])[piece.start : piece.end])
    if length or not manifest.file_bytes:
        assert writer.is_done
    return bytes(out)


def test_the_share_size_respects_every_limit() -> None:
    for needed, total in ((1, 1), (1, 256), (3, 5), (3, 10), (10, 16), (10, 30), (128, 256), (256, 256)):
        size = full_share_bytes(needed, total)
        assert 0 < size <= MAX_SHARE_BYTES
        assert size % LEAF_BYTES == 0
        assert size * needed <= MAX_SEGMENT_BYTES
        assert size * (total if needed > 1 else 1) <= MAX_CODED_BYTES
    assert full_share_bytes(3, 5) == MAX_SHARE_BYTES


@pytest.mark.parametrize("needed", [1, 3, 10])
@pytest.mark.parametrize(
    "size", [0, 1, 17, LEAF_BYTES - TAG_BYTES, RECORD_BYTES - 1, RECORD_BYTES, RECORD_BYTES + 1, 1 << 20, (1 << 20) + 1]
)
def test_small_files_come_back_whole(size: int, needed: int) -> None:
    data = random.Random(size).randbytes(size)
    manifest, shares = encoded(BytesIO(data), needed, needed + 2)
    assert manifest.file_bytes == size
    assert decoded(manifest, shares, 0, size) == data


@pytest.mark.parametrize("around", [-1, 0, 1])
@pytest.mark.parametrize("segments", [1, 2])
def test_at_the_seam_of_segments_no_byte_is_lost_and_no_empty_segment_made(segments: int, around: int) -> None:
    plain = segments * MAX_SHARE_BYTES
    plain -= -(-plain // SEALED_RECORD_BYTES) * TAG_BYTES
    data = random.Random(around).randbytes(plain + around)
    manifest, shares = encoded(DribblingStream(data, around + 5), 1, 1)
    assert len(manifest.segments) == segments + (around > 0)
    assert [s.size_bytes for s in manifest.segments] == [s.size_bytes for s in segment_sizes(len(data), 1, 1)]
    assert decoded(manifest, shares, 0, len(data)) == data


@settings(max_examples=60)
@given(data=st.data())
def test_any_range_comes_back_from_its_own_leaves_alone(data: st.DataObject) -> None:
    """The plan touches nothing outside the leaves that cover the range's records."""
    needed = data.draw(st.sampled_from([1, 2, 3, 7]))
    size = data.draw(st.integers(0, 400_000))
    plain = random.Random(size).randbytes(size)
    manifest, shares = encoded(BytesIO(plain), needed, needed)
    offset = data.draw(st.integers(0, size))
    length = data.draw(st.integers(0, size - offset))
    assert decoded(manifest, shares, offset, length) == plain[offset : offset + length]
    stripes = [s for plan in plan_read(manifest, offset, length) for s in plan.stripes]
    fetched = sum((s.end - s.start) * len(s.wanted) for s in stripes)
    pieces = sum(len(plan.pieces) for plan in plan_read(manifest, offset, length))
    assert fetched <= length + 2 * RECORD_BYTES + (length // RECORD_BYTES + 2) * TAG_BYTES + 2 * LEAF_BYTES * pieces


def test_full_reads_fetch_each_segment_as_one_stripe_however_it_is_padded() -> None:
    """So that one lost share costs one parity share, not a second stripe."""
    manifest, _ = encoded(BytesIO(bytes(1_000_003)), 3, 5)
    [plan] = plan_read(manifest, 0, manifest.file_bytes)
    assert [s.wanted for s in plan.stripes] == [(0, 1, 2)]
    assert plan.stripes[0].end == manifest.segments[0].share_bytes


@pytest.mark.parametrize("offset", [0, 1, MAX_SHARE_BYTES - 100_000, 5_000_000])
def test_the_first_bytes_of_a_long_read_wait_for_a_small_part_of_one_share(offset: int) -> None:
    """And every later segment is fetched as a whole."""
    segment = SegmentShares(3 * MAX_SHARE_BYTES, MAX_SHARE_BYTES, (ShareId(bytes(32)),) * 5)
    held = 3 * segment.size_bytes
    size = held - -(-held // SEALED_RECORD_BYTES) * TAG_BYTES
    manifest = Manifest(3, 5, size, (segment,) * 3)
    first, *others = plan_read(manifest, offset, size - offset)
    assert sum((s.end - s.start) * len(s.wanted) for s in first.stripes) <= FIRST_BYTES[0] + LEAF_BYTES
    assert [plan.number for plan in others if plan.number] == [1, 2]
    covered = [
        (p.number * MAX_SHARE_BYTES + p.start, p.number * MAX_SHARE_BYTES + p.end)
        for plan in (first, *others)
        if plan.number == 0
        for p in plan.pieces
    ]
    assert all(end == start for (_, end), (start, _) in pairwise(covered))


def test_a_range_outside_the_file_is_refused() -> None:
    manifest, _ = encoded(BytesIO(bytes(10)), 1, 1)
    for offset, length in ((-1, 1), (0, 11), (11, 0)):
        with pytest.raises(ValueError, match="do not lie"):
            plan_read(manifest, offset, length)


def test_the_same_content_and_key_give_the_same_shares_however_the_input_comes() -> None:
    """Resuming rests on this."""
    data = random.Random(3).randbytes(3_000_000)
    assert encoded(BytesIO(data), 3, 5) == encoded(DribblingStream(data, 9), 3, 5)


def test_share_ids_are_the_shares_merkle_roots_and_the_manifest_bound_holds() -> None:
    manifest, shares = encoded(BytesIO(bytes(100_000)), 2, 4)
    assert [merkle.share_id(s) for s in shares[0]] == list(manifest.segments[0].share_ids)
    assert len(manifests.encode(manifest, KEY)) <= manifest_bytes(1, 4)


def test_ciphertext_of_another_place_does_not_open() -> None:
    manifest, shares = encoded(BytesIO(bytes(3 * RECORD_BYTES)), 1, 1)
    writer = PlaintextWriter(KEY, manifest.file_bytes, 0, manifest.file_bytes, lambda _: None)
    with pytest.raises(RemoteProtocolError, match="record 0"):
        writer.feed(memoryview(shares[0][0])[SEALED_RECORD_BYTES:])


def test_one_full_share_is_what_its_name_says() -> None:
    assert ciphertext_bytes(ONE_SHARE) == MAX_SHARE_BYTES
