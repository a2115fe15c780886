"""Small shares in one SQLite file: a file of its own for each would cost three syncs, here many share one.

Rules that this file keeps: `put` has the bytes on the disk when it returns, or none of them are there; a deletion is
not synced, since a share that a power cut brings back is one that nobody leases, which the sweeper finds. Room that
deletions leave is used again, and given back to the file system in steps.

One process at a time writes; others may read.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from lnstore.ports import StorageFull
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import Buffer

BUSY_SECONDS = 30
CACHE_KIB = 2_048
"""Of each of the two connections."""
PAGE_BYTES = 16 * 1024
"""A share of 350 KB takes a third less CPU than with pages of 4 KiB, small ones the same."""
CHECKPOINT_PAGES = 500
"""In the write-ahead log before they are moved into the file."""
LISTED = 4_096
"""Ids read at a time."""
DELETIONS_PER_SHRINK = 256
SHRINK_PAGES = 1_024
"""After so many deletions at most so many free pages are cut off the file."""

_TABLE = "CREATE TABLE IF NOT EXISTS shares (share_id BLOB PRIMARY KEY, bytes BLOB NOT NULL) STRICT"
_PUT = "INSERT INTO shares VALUES (?, ?) ON CONFLICT (share_id) DO UPDATE SET bytes = excluded.bytes"


class SmallShares:
    """Whole blobs by share id in the file `path`. Every method blocks; any number of threads may call at once.

    Each raises OSError when the file cannot be read or written.
    """

    def __init__(self, path: str) -> None:
        with suppress(FileExistsError):  # shares are nobody else's to read; SQLite's other files copy these rights
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._path = path
        self._deletions = 0
        self._locks = (threading.Lock(), threading.Lock())
        with self._errors():
            self._writing = _connect(path)
            self._writing.execute(_TABLE)
            self._reading = _connect(path)

    def close(self) -> None:
        """Close the file."""
        for lock, connection in zip(self._locks, (self._reading, self._writing), strict=True):
            with lock:
                connection.close()

    def put(self, shares: Sequence[tuple[ShareId, Buffer]]) -> None:
        """Store them (again), all or none. StorageFull when there is no room."""
        with self._locks[1], self._errors():
            self._writing.execute("BEGIN IMMEDIATE")
            try:
                self._writing.executemany(_PUT, shares)
                self._writing.execute("COMMIT")
            except BaseException:
                self._writing.rollback()
                raise

    def read(self, share_id: ShareId) -> bytes | None:
        """All of a share; None when it is not there."""
        row = self._one("SELECT bytes FROM shares WHERE share_id = ?", share_id)
        if row is None:
            return None
        return row[0] if isinstance(row[0], bytes) else b""  # a decayed row may be anything

    def size(self, share_id: ShareId) -> int | None:
        """Its size in bytes, or None when it is not there."""
        row = self._one("SELECT length(bytes) FROM shares WHERE share_id = ?", share_id)
        return None if row is None else int(row[0])

    def delete(self, share_id: ShareId) -> None:
        """Remove; no error when it is not there."""
        with self._locks[1], self._errors():
            self._writing.execute("PRAGMA synchronous = NORMAL")
            try:
                self._deletions += self._writing.execute("DELETE FROM shares WHERE share_id = ?", (share_id,)).rowcount
                if self._deletions >= DELETIONS_PER_SHRINK:
                    self._deletions = 0
                    # `execute` would stop after the first page.
                    self._writing.executescript(f"PRAGMA incremental_vacuum({SHRINK_PAGES})")
            finally:
                self._writing.execute("PRAGMA synchronous = FULL")

    def share_ids(self) -> Iterator[ShareId]:
        """Every share there is; one that is put or deleted meanwhile may be among them or not."""
        after = b""
        while True:
            with self._locks[0], self._errors():
                query = "SELECT share_id FROM shares WHERE share_id > ? ORDER BY share_id LIMIT ?"
                rows = self._reading.execute(query, (after, LISTED)).fetchall()
            # A decayed row may be anything, and out of order.
            ids = [found for (found,) in rows if isinstance(found, bytes) and len(found) == ShareId.SIZE]
            yield from map(ShareId, ids)
            if len(rows) < LISTED or max(ids, default=b"") <= after:
                return
            after = max(ids)

    def _one(self, query: str, share_id: ShareId) -> tuple[Any, ...] | None:
        with self._locks[0], self._errors():
            row: tuple[Any, ...] | None = self._reading.execute(query, (share_id,)).fetchone()
            return row

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors as those of a file."""
        try:
            yield
        except sqlite3.Error as exc:
            if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise StorageFull(f"there is no room left for {self._path}; free some or lower the capacity") from exc
            reason = errno.EBUSY if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY else errno.EIO
            raise OSError(reason, f"{self._path}: {exc}") from exc


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    for pragma in (
        f"page_size = {PAGE_BYTES}",
        "auto_vacuum = INCREMENTAL",
        "journal_mode = WAL",
        "synchronous = FULL",
        f"cache_size = -{CACHE_KIB}",
        f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection
