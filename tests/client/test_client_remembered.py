"""The manifest as the catalog knows it: the one that is named, or none."""

from __future__ import annotations

import dataclasses
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnstore.client.catalog import MANIFEST_SEGMENT, FileEntry, ShareEntry
from lnstore.client.remembered import MOST_SHARES, remembered_manifest
from lnstore.client.segments import full_share_bytes, segment_sizes
from lnstore_protocol import manifest as manifests
from lnstore_protocol import merkle
from lnstore_protocol.caps import ReadCap
from lnstore_protocol.ids import NodeId, ShareId
from lnstore_protocol.manifest import PLAIN_FILE, TREE, Manifest, SegmentShares

KEY = bytes(range(32))


def _stored(
    file_bytes: int, needed: int, total: int, kind: int = PLAIN_FILE
) -> tuple[Manifest, FileEntry, list[ShareEntry], ReadCap]:
    """A file as it is after a put: its manifest, what the catalog has of it, and its capability."""
    segments = tuple(
        SegmentShares(size.size_bytes, size.share_bytes, tuple(ShareId(os.urandom(32)) for _ in range(total)))
        for size in segment_sizes(file_bytes, needed, total)
    )
    manifest = Manifest(needed, total, file_bytes, segments, kind)
    manifest_id = merkle.share_id(manifests.encode(manifest, KEY))
    file = FileEntry(
        file_id=1,
        name="a",
        file_key=KEY,
        manifest_id=manifest_id,
        file_bytes=file_bytes,
        needed=needed,
        total=total,
        happy=needed,
        created_at=0,
        complete=True,
    )
    ids = {(s, n): share for s, one in enumerate(segments) for n, share in enumerate(one.share_ids)}
    ids |= {(MANIFEST_SEGMENT, n): manifest_id for n in range(total)}
    shares = [
        ShareEntry(
            node_id=NodeId(bytes([number]) * 32),
            share_id=share_id,
            file_id=1,
            segment=segment,
            number=number,
            size_bytes=1,
            token_end=24,
        )
        for (segment, number), share_id in ids.items()
    ]
    return manifest, file, shares, ReadCap(KEY, manifest_id)


@settings(deadline=None)
@given(st.integers(0, 40_000_000), st.integers(1, 5), st.integers(0, 4), st.randoms(use_true_random=False))
def test_it_is_the_manifest_whatever_the_order_and_however_many_hold_a_share(
    file_bytes: int, needed: int, more: int, chance: object
) -> None:
    manifest, file, shares, cap = _stored(file_bytes, needed, needed + more)
    shares += [dataclasses.replace(share, node_id=NodeId(b"\xff" * 32)) for share in shares[::2]]
    chance.shuffle(shares)  # type: ignore[attr-defined]
    assert remembered_manifest(file, shares, cap) == manifest


@pytest.mark.parametrize(
    "lacking",
    [
        "a share that nobody took",
        "another share than the manifest's",
        "the key of another file",
        "a size that is not known",
        "the kind of a tree",
    ],
)
def test_what_does_not_make_up_the_manifest_makes_none(lacking: str) -> None:
    manifest, file, shares, cap = _stored(1000, 3, 5, TREE if lacking == "the kind of a tree" else PLAIN_FILE)
    assert len(manifest.segments) == 1
    match lacking:
        case "a share that nobody took":
            del shares[2]
        case "another share than the manifest's":
            shares[2] = dataclasses.replace(shares[2], share_id=ShareId(bytes(32)))
        case "the key of another file":
            cap = ReadCap(bytes(32), cap.manifest_id)
        case "a size that is not known":
            file = dataclasses.replace(file, file_bytes=None)
        case _:
            pass
    assert remembered_manifest(file, shares, cap) is None


def test_a_great_manifest_is_asked_for_and_not_made_up() -> None:
    plain = full_share_bytes(1, 8)
    manifest, file, shares, cap = _stored(MOST_SHARES // 8 * plain, 1, 8)
    assert len(manifest.segments) * 8 > MOST_SHARES
    assert remembered_manifest(file, shares, cap) is None
