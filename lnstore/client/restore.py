"""Writing a folder to disk: beside its final name, and under it once all is there. Blocking.

The tree may be a stranger's. Its reader refuses paths that leave the folder or lead through anything but directories;
everything is made in a fresh directory that nobody else may enter, links last, so that nothing is written through one
(F-R22); set-user-id, set-group-id and sticky bits are not set (F-R23).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lnstore.client.sink import SinkError
from lnstore_protocol.trees import MAX_ENTRIES, Entry, Kind

PERMISSION_BITS = 0o777
_HOLE_BYTES = 4096
_ZEROS = bytes(1 << 20)


class FolderSink:
    """A folder being written. `target` must be new, or an empty directory; SinkError."""

    def __init__(self, target: Path) -> None:
        self._target = target
        try:
            if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
                raise SinkError(f"{target} exists already; say where to with -o, or move it away")
            self._part = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
            self._part.mkdir(mode=0o700, parents=False)
        except OSError as exc:
            raise self._failed(exc) from exc
        self._top = os.fsencode(self._part)

    def make(self, entry: Entry) -> None:
        """A directory, or an empty file to be filled; links wait until `finish`."""
        full = self._full(entry.path)
        try:
            match entry.kind:
                case Kind.DIRECTORY if entry.path:
                    os.mkdir(full, 0o700)
                case Kind.FILE:
                    os.close(os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
                case _:
                    pass
        except OSError as exc:
            raise self._failed(exc) from exc

    def filling(self, files: Sequence[Entry], start: int) -> RangeSink:
        """A sink for bytes from `start` of an object on, out of which these files, in the order of offsets, are cut."""
        return RangeSink(self, files, start)

    def open(self, entry: Entry) -> int:
        """A file that was made, for writing, and for reading what was written."""
        return os.open(self._full(entry.path), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)

    def finish(self, entries: Sequence[Entry]) -> None:  # F-R22, F-R23
        """Links, modes and times, then the final name; `entries` are all of them in the order of the tree."""
        try:
            for entry in entries:
                if entry.kind is Kind.SYMLINK:
                    os.symlink(entry.target, self._full(entry.path))
            for entry in reversed(entries):  # what is in a directory before it, whose time it would change
                full = self._full(entry.path)
                if entry.kind is not Kind.SYMLINK:
                    os.chmod(full, entry.mode & PERMISSION_BITS)
                os.utime(full, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)
            os.sync()
            os.rename(self._part, self._target)
        except OSError as exc:
            raise self._failed(exc) from exc

    def discard(self) -> None:
        """Remove what was written."""
        remove_tree(self._top)

    def _full(self, path: bytes) -> bytes:
        return os.path.join(self._top, path) if path else self._top

    def _failed(self, exc: OSError) -> SinkError:
        return SinkError(f"{self._target} cannot be written: {exc.strerror or exc}")


def entries_possible(target: Path) -> int:
    """How many more files and folders the file system around `target` takes; the most of a tree if it does not say."""
    try:
        disk = os.statvfs(target.parent)
    except OSError:  # which `FolderSink` tells of
        return MAX_ENTRIES
    return min(disk.f_favail, MAX_ENTRIES) if disk.f_files else MAX_ENTRIES


def remove_tree(top: bytes) -> None:
    """Remove a folder and all in it, also one that is nested deeper than Python's stack, as far as that can be done."""
    pending, folders = [top], []
    while pending:
        folders.append(folder := pending.pop())
        with suppress(OSError):
            os.chmod(folder, 0o700)  # a tree may want it closed to its owner
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    else:
                        os.unlink(entry.path)
    for folder in reversed(folders):
        with suppress(OSError):
            os.rmdir(folder)


class RangeSink:
    """client.sink.Sink for a range of an object. Runs of zeros become holes.

    Files with the very same bytes (names of one inode, copies found by content) are written once, then copied: there
    may be more of them than a process may have open.
    """

    def __init__(self, folder: FolderSink, files: Sequence[Entry], start: int) -> None:
        self._folder = folder
        self._at = start
        self._waiting = list(reversed(files))
        self._open: list[_Filling] = []
        """Files that the next byte belongs to: in a stranger's tree they may overlap as they like."""

    def write(self, data: memoryview) -> None:
        """The next bytes of the object; SinkError."""
        while data:
            self._turn()
            stop = self._at + len(data)
            if self._waiting:
                stop = min(stop, self._waiting[-1].offset)
            stop = min([stop, *(filling.end for filling in self._open)])
            piece, data = data[: stop - self._at], data[stop - self._at :]
            for filling in self._open:
                _put(filling.fd, piece)
            self._at = stop
        self._turn()

    def commit(self) -> None:
        """Everything is there."""
        self._turn()

    def discard(self) -> None:
        """Close what is open; the folder is removed as a whole."""
        for filling in self._open:
            os.close(filling.fd)
        self._open.clear()

    def _turn(self) -> None:
        """Open the files that begin here, close those that end here."""
        try:
            began: dict[int, _Filling] = {}
            while self._waiting and self._waiting[-1].offset == self._at:
                entry = self._waiting.pop()
                if entry.size_bytes in began:
                    began[entry.size_bytes].copies.append(entry)
                    continue
                filling = _Filling(entry.offset + entry.size_bytes, self._folder.open(entry), [])
                began[entry.size_bytes] = filling
                self._open.append(filling)
            for filling in [filling for filling in self._open if filling.end == self._at]:
                self._end(filling)
        except OSError as exc:
            raise SinkError(f"the folder cannot be written: {exc.strerror}") from exc

    def _end(self, filling: _Filling) -> None:
        size = os.lseek(filling.fd, 0, os.SEEK_CUR)
        os.ftruncate(filling.fd, size)
        for entry in filling.copies:
            os.lseek(filling.fd, 0, os.SEEK_SET)
            copy = self._folder.open(entry)
            try:
                while data := os.read(filling.fd, len(_ZEROS)):
                    _put(copy, memoryview(data))
                os.ftruncate(copy, size)
            finally:
                os.close(copy)
        self._open.remove(filling)
        os.close(filling.fd)


@dataclass(slots=True)
class _Filling:
    """A file that is being written, to `end`, and those that are to be copies of it."""

    end: int
    fd: int
    copies: list[Entry]


def _put(fd: int, data: memoryview) -> None:
    try:
        if len(data) >= _HOLE_BYTES and len(data) <= len(_ZEROS) and data == _ZEROS[: len(data)]:
            os.lseek(fd, len(data), os.SEEK_CUR)
            return
        while data:
            data = data[os.write(fd, data) :]
    except OSError as exc:
        raise SinkError(f"the folder cannot be written: {exc.strerror}") from exc
