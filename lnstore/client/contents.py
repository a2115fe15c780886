"""What is stored, by its content: a hash of the plaintext, which stays in the catalog, and where those bytes lie.

The hash is BLAKE3, keyed with a secret of the account: who sees the catalog without the account key can not try
contents against it. Nothing of it goes to a node (V-W8). An entry lives as long as the file that it points to.

A second name for a stored file is a file of its own in the catalog, with the same key, manifest and shares. The shares
belong to both: `Catalog.remove_file` gives up only those that no other file needs, and repair and renewal change a
share at a node for all files that need it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from blake3 import blake3

from lnstore.client.catalog import Catalog, FileEntry
from lnstore_protocol.ids import NodeId, ShareId


@dataclass(frozen=True, slots=True)
class Content:
    """So many bytes with this hash, from `offset` on in whatever holds them."""

    digest: bytes = field(repr=False)
    size_bytes: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a content lies: in a complete file of the catalog, from `offset` on."""

    file: FileEntry
    offset: int


def content_key(account_secret: bytes) -> bytes:  # V-W8
    """What contents are hashed with."""
    return blake3(account_secret, derive_key_context="lnstore content key v1").digest()


class ContentHasher:
    """Hashes bytes as they are read."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._hasher = blake3(key=key)
        self._size = 0
        self._offset = 0

    def update(self, data: memoryview) -> None:
        """The next bytes."""
        self._hasher.update(data)
        self._size += len(data)

    def end(self) -> Content:
        """All bytes since the last end."""
        found = Content(self._hasher.digest(), self._size, self._offset)
        self._hasher = blake3(key=self._key)
        self._offset += self._size
        self._size = 0
        return found


class Contents:
    """The catalog's part about contents. Short and blocking; what writes waits for the disk."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def note(self, file_id: int, contents: Iterable[Content]) -> None:
        """What a file holds."""
        with self._catalog.transaction() as db:
            db.executemany(
                "INSERT OR IGNORE INTO contents (digest, size_bytes, file_id, offset) VALUES (?, ?, ?, ?)",
                [(content.digest, content.size_bytes, file_id, content.offset) for content in contents],
            )

    def find(self, content: Content) -> list[Stored]:
        """Where the same content lies, oldest first."""
        rows = self._catalog.rows(
            "SELECT file_id, offset FROM contents WHERE digest = ? AND size_bytes = ? ORDER BY file_id, offset",
            (content.digest, content.size_bytes),
        )
        files = [Stored(self._catalog.by_id(file_id), offset) for file_id, offset in rows]
        return [stored for stored in files if stored.file.complete]

    def name_again(
        self, file: FileEntry, name: str, *, now: int, folder: str | None = None, instead_of: FileEntry | None = None
    ) -> tuple[FileEntry, Mapping[NodeId, list[ShareId]]]:
        """Give a complete file another name, which may be that of an interrupted put: its shares are to be dropped."""
        with self._catalog.transaction() as db:
            unneeded = {} if instead_of is None else self._catalog.remove_file(instead_of.file_id)
            file_id = db.execute(
                "INSERT INTO files (name, file_key, manifest_id, file_bytes, needed, total, happy, created_at, "
                "complete, folder) SELECT ?, file_key, manifest_id, file_bytes, needed, total, happy, ?, complete, ? "
                "FROM files WHERE file_id = ?",
                (name, now, folder, file.file_id),
            ).lastrowid
            db.execute(
                "INSERT INTO shares (node_id, share_id, file_id, segment, number, size_bytes, token_end) "
                "SELECT node_id, share_id, ?, segment, number, size_bytes, token_end FROM shares WHERE file_id = ?",
                (file_id, file.file_id),
            )
            db.execute(
                "INSERT INTO contents (digest, size_bytes, file_id, offset) "
                "SELECT digest, size_bytes, ?, offset FROM contents WHERE file_id = ?",
                (file_id, file.file_id),
            )
        return self._catalog.named(name), unneeded
