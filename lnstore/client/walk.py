"""What is in a folder on disk: one pass over its names, before anything is read. Blocking."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lnstore.client.source import SourceError
from lnstore_protocol.trees import MAX_PATH_BYTES, MODE_BITS, Kind


@dataclass(frozen=True, slots=True)
class Found:
    """An entry of the folder. `path` is relative to it, empty for the folder itself; `identity` is (device, inode)."""

    kind: Kind
    path: bytes
    mode: int
    mtime_ns: int
    ctime_ns: int
    identity: tuple[int, int]
    size_bytes: int = 0
    target: bytes = b""


@dataclass(frozen=True, slots=True)
class Problem:
    """An entry that is not stored as it is, and why."""

    path: bytes
    reason: str

    def __str__(self) -> str:
        return f"{os.fsdecode(self.path) or '.'}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Walk:
    """A folder's entries in the order of a tree, and what could not be looked at."""

    found: list[Found] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def walk(root: Path) -> Walk:
    """All entries below `root`, which may itself be a link to a folder. SourceError when `root` cannot be read."""
    walked = Walk()
    top = os.fsencode(root.resolve())
    try:
        walked.found.append(_found(b"", os.stat(top)))
        names = _names(top)
    except OSError as exc:
        raise SourceError(f"{root} cannot be read: {exc.strerror}") from exc
    # A stack of its own: a hostile folder may be nested deeper than Python's.
    pending: list[Iterator[bytes]] = [iter(names)]
    within: list[bytes] = []
    while pending:
        name = next(pending[-1], None)
        if name is None:
            pending.pop()
            if within:
                within.pop()
            continue
        path = b"/".join([*within, name])
        entry = _look(top, path, walked.problems)
        if entry is None:
            continue
        if entry.kind is Kind.DIRECTORY:
            try:
                below = _names(os.path.join(top, path))
            except OSError as exc:
                walked.problems.append(Problem(path, f"cannot be read: {exc.strerror}"))
                below = []
            pending.append(iter(below))
            within.append(name)
        walked.found.append(entry)
    return walked


def look_again(root: Path, path: bytes) -> Found | None:
    """The entry at `path` as it is now; None when it is gone or something else than a file."""
    entry = _look(os.fsencode(root.resolve()), path, [])
    return entry if entry is not None and entry.kind is Kind.FILE else None


def _names(folder: bytes) -> list[bytes]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries)


def _look(top: bytes, path: bytes, problems: list[Problem]) -> Found | None:
    full = os.path.join(top, path)
    if len(path) > MAX_PATH_BYTES:
        problems.append(Problem(path[:80] + b"...", "the path is too long to be stored"))
        return None
    try:
        status = os.lstat(full)
        target = os.readlink(full) if stat.S_ISLNK(status.st_mode) else b""
    except OSError as exc:
        problems.append(Problem(path, f"cannot be looked at: {exc.strerror}"))
        return None
    if not (stat.S_ISLNK(status.st_mode) or stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
        problems.append(Problem(path, "is no file, folder or link, and is left out"))
        return None
    return _found(path, status, target)


def _found(path: bytes, status: os.stat_result, target: bytes = b"") -> Found:
    kind = Kind.DIRECTORY if stat.S_ISDIR(status.st_mode) else Kind.SYMLINK if target else Kind.FILE
    return Found(
        kind,
        path,
        mode=stat.S_IMODE(status.st_mode) & MODE_BITS,
        mtime_ns=max(status.st_mtime_ns, 0),
        ctime_ns=status.st_ctime_ns,
        identity=(status.st_dev, status.st_ino),
        size_bytes=status.st_size if kind is Kind.FILE else 0,
        target=target,
    )
