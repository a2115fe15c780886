"""A node's shares as they lie on its disk: what is whole, and how it is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

from lnstore.storage.shares import SMALL_FILE
from lnstore_protocol import merkle
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import LEAF_BYTES


@dataclass(frozen=True, slots=True)
class GridDisk:
    """The directory of a node, which may be running."""

    directory: Path

    def sizes(self) -> dict[ShareId, int]:
        """The shares that the node has a lease of, and how long they are."""
        with closing(sqlite3.connect(self.directory / "books.db")) as books:
            return {ShareId(one): size for one, size in books.execute("SELECT share_id, size_bytes FROM leases")}

    def honest(self) -> set[ShareId]:
        """Those of them that are there, whole."""
        return {share_id for share_id, data in self._shares() if merkle.share_id(data) == share_id}

    def wipe(self) -> None:
        """Every share is gone."""
        for path in self._files():
            path.unlink(missing_ok=True)
        with closing(self._small()) as small, small:
            small.execute("DELETE FROM shares")

    def flip_bits(self, random: Random) -> None:
        """A bit of every 16 KiB of every share is another one, so that any of them shows it."""
        sizes = self.sizes()
        for path in self._files():
            share_id = ShareId.from_hex(path.name)
            if share_id in sizes:
                data = bytearray(path.read_bytes())
                path.write_bytes(_flipped(data, sizes[share_id], random))
        with closing(self._small()) as small, small:
            for share_id, data in small.execute("SELECT share_id, bytes FROM shares").fetchall():
                flipped = _flipped(bytearray(data), len(data), random)
                small.execute("UPDATE shares SET bytes = ? WHERE share_id = ?", (bytes(flipped), share_id))

    def _shares(self) -> Iterator[tuple[ShareId, bytes]]:
        sizes = self.sizes()
        for path in self._files():
            share_id = ShareId.from_hex(path.name)
            if share_id in sizes:  # behind it are the hashes of its leaves
                yield share_id, path.read_bytes()[: sizes[share_id]]
        with closing(self._small()) as small:
            for share_id, data in small.execute("SELECT share_id, bytes FROM shares"):
                yield ShareId(share_id), data

    def _files(self) -> list[Path]:
        return sorted((self.directory / "shares").glob("??/?/*"))

    def _small(self) -> sqlite3.Connection:
        return sqlite3.connect(self.directory / "shares" / SMALL_FILE, timeout=30)


def _flipped(data: bytearray, share_bytes: int, random: Random) -> bytearray:
    for start in range(0, share_bytes, LEAF_BYTES):
        data[random.randrange(start, min(start + LEAF_BYTES, share_bytes))] ^= 1 << random.randrange(8)
    return data
