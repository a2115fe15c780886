"""Shares as files: one per share, named by its root, in a fan-out of 256 by 16 folders.

Rules that this file keeps, so that a crash or a power cut at any point leaves either the whole share or nothing:
a share is written under a temporary name on the same file system, synced, renamed, and then the folder that got the
name is synced. A folder's own name is synced before the first share goes into it, by every process anew: that the
folder is there does not say that its name is on the disk. A share's name never points at bytes that were not synced.

Behind the bytes of a share lie the hashes of its leaves, 32 bytes each, unless it has one leaf only: a leaf with its
proof costs one short read and not that of the whole share. How long the share is follows from the file's length.

One directory belongs to one process at a time: what lies in the temporary folder at the start is left over.
"""

# Plain strings and file descriptors: a Path costs as much as the system call it is for.
# ruff: noqa: PTH103, PTH104, PTH108, PTH116, PTH118, PTH120

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from lnstore.ports import StorageFull
from lnstore_protocol.ids import ShareId
from lnstore_protocol.merkle import HASH_BYTES, leaf_hashes
from lnstore_protocol.messages import LEAF_BYTES, Buffer

SECTOR_BYTES = 512
TEMPORARY = "tmp"

BLOCK_BYTES = 4096
DIRECT_BYTES = 1024 * 1024
"""From here on shares are written past the system's cache."""

_DIRECT = getattr(os, "O_DIRECT", 0)  # Linux has it, macOS not

_CAN_ASK_AHEAD = hasattr(os, "posix_fadvise")  # Linux has it, macOS not
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_UPPER = re.compile("[0-9a-f]{2}")
_LOWER = re.compile("[0-9a-f]")
_SHARE = re.compile("[0-9a-f]{64}")


class FileShares:
    """ports.Shares in the folder `directory`. Every method blocks; any number of threads may call at once."""

    def __init__(self, directory: Path) -> None:
        self._root = os.fspath(directory.absolute())
        self._temporary = os.path.join(self._root, TEMPORARY)
        self._numbers = itertools.count()
        self._synced: set[str] = set()  # folders whose names are known to be on the disk; 4,096 at most
        _make_folder(self._root)
        _make_folder(self._temporary)
        with os.scandir(self._temporary) as leftovers:
            for leftover in leftovers:
                os.unlink(leftover.path)

    def put(self, share_id: ShareId, data: Buffer, hashes: Sequence[bytes] | None = None) -> None:
        """Store (again). The caller has checked the root. StorageFull when there is no room, OSError otherwise.

        `hashes` are those of its leaves, computed here when they are not given. A share that is there already is
        written anew: its bytes on the disk may have decayed.
        """
        trailer = b"".join(leaf_hashes(data) if hashes is None else hashes) if len(data) > LEAF_BYTES else b""
        folder, path = self._place(share_id)
        temporary = os.path.join(self._temporary, f"{os.getpid()}-{next(self._numbers)}")
        try:
            try:
                _write(temporary, data, trailer)
                self._ensure(folder)
                os.rename(temporary, path)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary)
                raise
            _sync_folder(folder)
        except OSError as exc:
            if exc.errno in _NO_ROOM:
                raise StorageFull(f"there is no room left in {self._root}; free some or lower the capacity") from exc
            raise

    def put_small(self, shares: Sequence[tuple[ShareId, Buffer]]) -> None:
        """Several, one after the other."""
        for share_id, data in shares:
            self.put(share_id, data)

    def read(self, share_id: ShareId, offset: int, length: int) -> bytes:
        """`length` bytes at `offset` (fewer at the end); KeyError when the share is not there."""
        fd = self._open(share_id)
        try:
            return _read(fd, offset, min(length, _share_bytes(os.fstat(fd).st_size) - offset))
        finally:
            os.close(fd)

    def leaf_hashes(self, share_id: ShareId) -> list[bytes]:  # S-W5
        """The hashes of its leaves as they were stored, which the disk may have changed; KeyError as `read`."""
        fd = self._open(share_id)
        try:
            file_bytes = os.fstat(fd).st_size
            share_bytes = _share_bytes(file_bytes)
            if file_bytes <= LEAF_BYTES:
                return leaf_hashes(_read(fd, 0, share_bytes))
            stored = _read(fd, share_bytes, file_bytes - share_bytes)
            return [stored[at : at + HASH_BYTES] for at in range(0, len(stored), HASH_BYTES)]
        finally:
            os.close(fd)

    def sectors(self, share_id: ShareId, indexes: Sequence[int]) -> bytes:
        """The 512-byte sectors of these indexes, concatenated, the last one of the share zero-padded.

        KeyError when the share is not there, ValueError for an index past its end.
        """
        found = bytearray(len(indexes) * SECTOR_BYTES)
        view = memoryview(found)
        fd = self._open(share_id)
        try:
            if _CAN_ASK_AHEAD:
                # All sectors are asked for before the first is waited for: a sixth of the time on a cold disk.
                for index in indexes:
                    os.posix_fadvise(fd, index * SECTOR_BYTES, SECTOR_BYTES, os.POSIX_FADV_WILLNEED)
            share_bytes = _share_bytes(os.fstat(fd).st_size)
            for place, index in enumerate(indexes):
                start, length = place * SECTOR_BYTES, min(SECTOR_BYTES, share_bytes - index * SECTOR_BYTES)
                if length <= 0 or not os.preadv(fd, [view[start : start + length]], index * SECTOR_BYTES):
                    raise ValueError(f"share {share_id} has no sector {index}")
        finally:
            os.close(fd)
        return bytes(found)

    def size(self, share_id: ShareId) -> int | None:
        """Its size in bytes, or None when it is not there."""
        try:
            return _share_bytes(os.stat(self._place(share_id)[1]).st_size)
        except FileNotFoundError:
            return None

    def delete(self, share_id: ShareId) -> None:
        """Remove; no error when it is not there.

        Not synced: a share that a power cut brings back is one that nobody leases, which the sweeper finds.
        """
        with suppress(FileNotFoundError):
            os.unlink(self._place(share_id)[1])

    def share_ids(self) -> Iterator[ShareId]:
        """Every share there is, in no order; for the sweeper."""
        for upper in _names(self._root, _UPPER):
            for lower in _names(os.path.join(self._root, upper), _LOWER):
                for name in _names(os.path.join(self._root, upper, lower), _SHARE):
                    yield ShareId.from_hex(name)

    def free_bytes(self) -> int:
        """How much more can be stored."""
        disk = os.statvfs(self._root)
        return disk.f_bavail * disk.f_frsize

    def _place(self, share_id: ShareId) -> tuple[str, str]:
        name = share_id.hex()
        folder = f"{self._root}/{name[:2]}/{name[2]}"
        return folder, f"{folder}/{name}"

    def _open(self, share_id: ShareId) -> int:
        try:
            return os.open(self._place(share_id)[1], os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise KeyError(share_id) from None

    def _ensure(self, folder: str) -> None:
        """Make sure that `folder` and the one above exist and that their names are on the disk."""
        for path in (os.path.dirname(folder), folder):
            if path not in self._synced:
                _make_folder(path)
                self._synced.add(path)


def _share_bytes(file_bytes: int) -> int:
    """How long a share is whose file, with the hashes of its leaves if they are several, is so long."""
    if file_bytes <= LEAF_BYTES:
        return file_bytes
    return file_bytes - HASH_BYTES * -(-file_bytes // (LEAF_BYTES + HASH_BYTES))


def _read(fd: int, offset: int, length: int) -> bytes:
    data = os.pread(fd, max(0, length), offset)
    while len(data) < length and (more := os.pread(fd, length - len(data), offset + len(data))):
        data += more
    return data


def _write(path: str, *parts: Buffer) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for part in parts:
            rest = memoryview(part).cast("B")
            if len(rest) >= DIRECT_BYTES:
                rest = rest[_write_directly(fd, rest) :]
            while rest:
                rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_directly(fd: int, data: memoryview) -> int:
    """Write the whole blocks of `data` to an empty file past the system's cache; how many bytes that were.

    A share is seldom read soon, it is synced anyway, and pages to cache it cost more than all its hashes. It is 0 bytes
    where the system, the file system or the place of `data` in memory does not allow it; an error that is none of
    these comes again with the usual write.
    """
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    os.ftruncate(fd, len(data))  # into a file that is long enough ext4 writes several times as fast as at its end
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | _DIRECT)
        return os.write(fd, data[: len(data) // BLOCK_BYTES * BLOCK_BYTES])
    except OSError:
        return 0
    finally:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)


def _make_folder(path: str) -> None:
    os.makedirs(path, mode=0o700, exist_ok=True)
    _sync_folder(os.path.dirname(path))


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _names(folder: str, pattern: re.Pattern[str]) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if pattern.fullmatch(entry.name)]
