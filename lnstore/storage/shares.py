"""A node's shares: small ones together in one file (small.py), each of the others as a file (files.py).

A share's id binds its length, so a share is always in the same of the two places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from lnstore.ports import SMALL_SHARE_BYTES
from lnstore.storage.files import SECTOR_BYTES, FileShares
from lnstore.storage.small import SmallShares
from lnstore_protocol.ids import ShareId
from lnstore_protocol.merkle import leaf_hashes
from lnstore_protocol.messages import Buffer

SMALL_FILE = "small.db"


class NodeShares:
    """ports.Shares in the folder `directory`. Every method blocks; any number of threads may call at once."""

    def __init__(self, directory: Path) -> None:
        self._files = FileShares(directory)
        self._small = SmallShares(str(directory / SMALL_FILE))

    def close(self) -> None:
        """Close what is open."""
        self._small.close()

    def put(self, share_id: ShareId, data: Buffer, hashes: Sequence[bytes] | None = None) -> None:
        """As ports.Shares."""
        if len(data) <= SMALL_SHARE_BYTES:
            self._small.put([(share_id, data)])
        else:
            self._files.put(share_id, data, hashes)

    def put_small(self, shares: Sequence[tuple[ShareId, Buffer]]) -> None:
        """As ports.Shares."""
        self._small.put(shares)

    def read(self, share_id: ShareId, offset: int, length: int) -> bytes:
        """As ports.Shares."""
        small = self._small.read(share_id)
        return self._files.read(share_id, offset, length) if small is None else small[offset : offset + length]

    def leaf_hashes(self, share_id: ShareId) -> list[bytes]:
        """As ports.Shares; a small share's are not stored but computed."""
        small = self._small.read(share_id)
        return self._files.leaf_hashes(share_id) if small is None else leaf_hashes(small)

    def sectors(self, share_id: ShareId, indexes: Sequence[int]) -> bytes:
        """As ports.Shares."""
        small = self._small.read(share_id)
        if small is None:
            return self._files.sectors(share_id, indexes)
        parts = [small[index * SECTOR_BYTES : (index + 1) * SECTOR_BYTES] for index in indexes]
        if not all(parts):
            raise ValueError(f"share {share_id} has no sector {max(indexes)}")
        return b"".join([part.ljust(SECTOR_BYTES, b"\0") for part in parts])

    def size(self, share_id: ShareId) -> int | None:
        """As ports.Shares."""
        small = self._small.size(share_id)
        return self._files.size(share_id) if small is None else small

    def delete(self, share_id: ShareId) -> None:
        """As ports.Shares."""
        self._small.delete(share_id)
        self._files.delete(share_id)

    def share_ids(self) -> Iterator[ShareId]:
        """As ports.Shares."""
        return chain(self._small.share_ids(), self._files.share_ids())

    def free_bytes(self) -> int:
        """As ports.Shares."""
        return self._files.free_bytes()
