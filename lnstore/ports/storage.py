"""The share storage port."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import Buffer

SMALL_SHARE_BYTES = 512 * 1024
"""Shares up to this size are kept together, and stored many at a time: what they cost is syncs and not bytes."""


class StorageFull(Exception):
    """The disk (or bucket) refused the write for want of space."""


class Shares(Protocol):
    """Immutable blobs named by their Merkle root. All methods are blocking and meant for worker threads.

    Whole-share writes are atomic and idempotent: after `put` returns the share survives a power cut; before, nothing
    of it is visible.
    """

    def put(self, share_id: ShareId, data: Buffer, hashes: Sequence[bytes] | None = None) -> None:
        """Store (again), with the hashes of the share's leaves if the caller has them.

        The caller has checked the root. StorageFull when there is no room, OSError otherwise.
        """
        ...

    def put_small(self, shares: Sequence[tuple[ShareId, Buffer]]) -> None:
        """As `put`, several of at most SMALL_SHARE_BYTES. After an error some may be there."""
        ...

    def read(self, share_id: ShareId, offset: int, length: int) -> bytes:
        """`length` bytes at `offset` (fewer at the end); KeyError when the share is not there."""
        ...

    def leaf_hashes(self, share_id: ShareId) -> list[bytes]:
        """The hashes of its leaves as they were stored, which the disk may have changed; KeyError as `read`."""
        ...

    def sectors(self, share_id: ShareId, indexes: Sequence[int]) -> bytes:
        """The 512-byte sectors of these indexes, concatenated, the last one of the share zero-padded; KeyError."""
        ...

    def size(self, share_id: ShareId) -> int | None:
        """Its size in bytes, or None when it is not there."""
        ...

    def delete(self, share_id: ShareId) -> None:
        """Remove; no error when it is not there."""
        ...

    def share_ids(self) -> Iterator[ShareId]:
        """Every share there is, in no order; for the sweeper."""
        ...

    def free_bytes(self) -> int:
        """How much more can be stored."""
        ...
