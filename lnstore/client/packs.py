"""Packs: many small files of a folder stored as one file, one behind the other; a large one is a pack by itself.

A pack is planned from what the files look like (size, times, inode) before one of them is read. The plan's digest is
its name in the catalog: an interrupted put that plans the same pack goes on with it, under the same key. What is read
for a plan must therefore be just what was planned, or the same key would seal two contents: a small file is read whole
and looked at again before its first byte is handed on, and a difference ends the plan (SourceChanged).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from lnstore.client.catalog import SourceState
from lnstore.client.contents import Content, ContentHasher
from lnstore.client.source import SourceChanged, SourceError
from lnstore.client.walk import Found

PACK_BYTES = 64 * 1024 * 1024
"""What a pack of small files has at most: few enough manifests, little to do again, bounded plans."""

ALONE_BYTES = 4 * 1024 * 1024
"""From here on a file is a pack by itself. What is smaller is read whole."""

_ZEROS = bytes(64 * 1024)


class MemberUnreadable(SourceError):
    """A planned file cannot be opened or read at all; `member` is it."""

    def __init__(self, member: Found, reason: str) -> None:
        super().__init__(f"{os.fsdecode(member.path)} cannot be read: {reason}")
        self.member = member
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Pack:
    """Files that are stored together, none of them empty."""

    members: tuple[Found, ...]

    @property
    def size_bytes(self) -> int:
        """All their bytes."""
        return sum(member.size_bytes for member in self.members)

    def offsets(self) -> list[int]:
        """Where each member begins."""
        at, offsets = 0, []
        for member in self.members:
            offsets.append(at)
            at += member.size_bytes
        return offsets

    def digest(self, root: Path) -> bytes:
        """32 bytes that name this plan: whose files, and what they look like."""
        hasher = blake3(derive_key_context="lnstore pack plan v1")
        hasher.update(os.fsencode(root.resolve()) + b"\0")
        for member in self.members:
            numbers = (member.size_bytes, member.mtime_ns, member.ctime_ns, *member.identity)
            hasher.update(member.path + b"\0" + repr(numbers).encode() + b"\0")
        return hasher.digest()

    def state(self, root: Path) -> SourceState:
        """How the catalog recognises an interrupted put of this plan."""
        return SourceState(path=b"pack " + self.digest(root), size=self.size_bytes, mtime_ns=0, ctime_ns=0)


def plan_packs(files: Iterable[Found]) -> list[Pack]:
    """Files in the order of the tree, put together; empty ones are in no pack."""
    packs: list[Pack] = []
    small: list[Found] = []
    small_bytes = 0
    for file in files:
        if file.size_bytes == 0:
            continue
        if file.size_bytes >= ALONE_BYTES:
            packs.append(Pack((file,)))
            continue
        if small_bytes + file.size_bytes > PACK_BYTES:
            packs.append(Pack(tuple(small)))
            small, small_bytes = [], 0
        small.append(file)
        small_bytes += file.size_bytes
    if small:
        packs.append(Pack(tuple(small)))
    return packs


class PackStream:
    """A pack's bytes, as a source reads them. Blocking.

    `strict`: SourceChanged as soon as a file is not what was planned. Otherwise each file is taken as it is now, cut or
    filled with zeros to its planned size, and noted in `changed`. With a `hasher`, `contents` is what each member was.
    """

    def __init__(self, root: Path, pack: Pack, *, strict: bool, hasher: ContentHasher | None = None) -> None:
        self._top = os.fsencode(root.resolve())
        self._left = list(reversed(pack.members))
        self._strict = strict
        self._member: Found | None = None
        self._fd = -1
        self._whole: memoryview | None = None
        self._todo = 0
        self._hasher = hasher
        self.changed: list[Found] = []
        self.contents: list[Content] = []

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the front of `buffer`; 0 at the end. MemberUnreadable, SourceChanged."""
        while self._todo == 0:
            if not self._left:
                return 0
            self._open(self._left.pop())
        wanted = min(len(buffer), self._todo)
        if self._whole is not None:
            buffer[:wanted] = self._whole[:wanted]
            self._whole = self._whole[wanted:]
            count = wanted
        else:
            count = self._read(buffer[:wanted])
        self._todo -= count
        if self._hasher is not None:
            self._hasher.update(buffer[:count])
        if self._todo == 0:
            self._end()
        return count

    def close(self) -> None:
        """Close what is open."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self, member: Found) -> None:
        self._member, self._todo = member, member.size_bytes
        try:
            # Never through a link that took the file's place, and never waiting for a pipe's other end.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            self._fd = os.open(os.path.join(self._top, member.path), flags)
        except FileNotFoundError as exc:
            raise (self._differs(member) if self._strict else MemberUnreadable(member, "it is gone")) from exc
        except OSError as exc:
            raise MemberUnreadable(member, exc.strerror or str(exc)) from exc
        self._check(member)
        if member.size_bytes < ALONE_BYTES:
            whole = bytearray(member.size_bytes)
            filled = 0
            while filled < len(whole) and (count := self._read(memoryview(whole)[filled:])):
                filled += count
            self._check(member)
            self._whole = memoryview(whole)

    def _read(self, buffer: memoryview) -> int:
        member = self._member
        assert member is not None  # noqa: S101 - for the type checker: a file is open
        try:
            count = os.readv(self._fd, [buffer])
        except OSError as exc:
            raise MemberUnreadable(member, exc.strerror or str(exc)) from exc
        if count:
            return count
        if self._strict:
            raise self._differs(member)
        self._note(member)
        count = min(len(buffer), len(_ZEROS))
        buffer[:count] = _ZEROS[:count]
        return count

    def _end(self) -> None:
        if self._member is not None and self._whole is None:
            self._check(self._member)
        if self._hasher is not None:
            self.contents.append(self._hasher.end())
        self._whole = None
        self.close()

    def _check(self, member: Found) -> None:
        now = os.fstat(self._fd)
        if not stat.S_ISREG(now.st_mode):
            raise self._differs(member)
        is_now = (now.st_size, max(now.st_mtime_ns, 0), now.st_ctime_ns, (now.st_dev, now.st_ino))
        if is_now == (member.size_bytes, member.mtime_ns, member.ctime_ns, member.identity):
            return
        if self._strict:
            raise self._differs(member)
        self._note(member)

    def _differs(self, member: Found) -> SourceChanged:
        self.close()
        return SourceChanged(f"{os.fsdecode(member.path)} changed while the folder was read")

    def _note(self, member: Found) -> None:
        if member not in self.changed[-1:]:
            self.changed.append(member)
