"""How a file's ciphertext is cut into segments and shares."""

from __future__ import annotations

from dataclasses import dataclass

from lnstore_protocol import content
from lnstore_protocol.messages import LEAF_BYTES, MAX_SHARE_BYTES

MAX_SEGMENT_BYTES = 16 * 1024 * 1024
"""Of ciphertext: what a reader must fetch and hold at least."""

MAX_CODED_BYTES = 32 * 1024 * 1024
"""Of all n shares of a segment together: what a writer must hold per segment."""


@dataclass(frozen=True, slots=True)
class SegmentSize:
    """A segment's ciphertext bytes and the bytes of each of its shares."""

    size_bytes: int
    share_bytes: int


def full_share_bytes(needed: int, total: int) -> int:  # F-W3
    """The share size of every segment but the last: whole leaves, within the three limits."""
    coded = 1 if needed == 1 else total  # with k = 1 all shares are the same bytes
    most = min(MAX_SHARE_BYTES, MAX_SEGMENT_BYTES // needed, MAX_CODED_BYTES // coded)
    return most // LEAF_BYTES * LEAF_BYTES


def segment_size(size_bytes: int, needed: int) -> SegmentSize:
    """The size of a segment of so much ciphertext; its shares are padded with zeros to the same size."""
    return SegmentSize(size_bytes, -(-size_bytes // needed))


def segment_sizes(file_bytes: int, needed: int, total: int) -> list[SegmentSize]:  # F-W4
    """The segments that a file of that size will have."""
    full = full_share_bytes(needed, total) * needed
    left = content.ciphertext_bytes(file_bytes)
    sizes = []
    while left:
        sizes.append(segment_size(min(left, full), needed))
        left -= sizes[-1].size_bytes
    return sizes


def stored_bytes(file_bytes: int, needed: int, total: int) -> int:
    """The bytes of all shares of a file of that size, without its manifests."""
    return sum(size.share_bytes for size in segment_sizes(file_bytes, needed, total)) * total


def manifest_bytes(segments: int, total: int) -> int:
    """An upper bound of the manifest's size."""
    return 256 + segments * (total * 32 + 16)


def demand_bytes(file_bytes: int, needed: int, total: int, nodes: int) -> int:
    """What each of so many nodes must have room for; they share evenly when there are more than shares."""
    return -(-stored_bytes(file_bytes, needed, total) // max(total, nodes)) + manifest_bytes(
        len(segment_sizes(file_bytes, needed, total)), total
    )
