"""A folder's tree object: which entries it has and where their bytes lie (spec 04, *Folders*).

    tree  = item ‖ item ‖ …          in the plaintext of a file whose manifest says kind 1
    item  = u32 length (big-endian) ‖ deterministic CBOR map of so many bytes

The first item is the head; an object item names a file (by file key and manifest id) whose plaintext holds the bytes of
entries, and is numbered from 0 in the order of objects; entries name objects that stand before them. Entries ascend
by the components of their paths, so each directory stands before what is in it and a reader needs to remember only the
directories it is in. What breaks a rule is refused: a tree may come from a stranger, and is about to be written to a
disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from lnstore_protocol import cbor
from lnstore_protocol.caps import KEY_BYTES, ReadCap
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.ids import ShareId

VERSION = 1
MAX_ITEM_BYTES = 64 * 1024
MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
MAX_ENTRIES = 1 << 24
MODE_BITS = 0o7777
_LENGTH_BYTES = 4


class Kind(IntEnum):
    """What an entry is."""

    DIRECTORY = 0
    FILE = 1
    SYMLINK = 2


class _Item(IntEnum):
    """Key 0 of every item."""

    HEAD = 0
    OBJECT = 1
    ENTRY = 2


@dataclass(frozen=True, slots=True)
class Head:
    """The first item: when the tree was made (Unix seconds)."""

    taken_at: int


@dataclass(frozen=True, slots=True)
class Object:
    """A stored file of `size_bytes` that holds the bytes of entries."""

    cap: ReadCap = field(repr=False)
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Entry:  # F-W10, F-R20
    """A directory, a file or a symbolic link. ValueError when it breaks a rule of the format.

    `path` is relative, its components joined by "/", empty for the folder itself. A file's bytes are `size_bytes` from
    `offset` on of object number `object_index`; an empty file names none (index 0, offset 0).
    """

    kind: Kind
    path: bytes
    mode: int
    mtime_ns: int
    size_bytes: int = 0
    object_index: int = 0
    offset: int = 0
    target: bytes = b""

    def __post_init__(self) -> None:
        check_path(self.path)
        if not 0 <= self.mode <= MODE_BITS or self.mtime_ns < 0:
            raise ValueError("a mode or time out of range")
        if self.path == b"" and self.kind is not Kind.DIRECTORY:
            raise ValueError("the folder itself is not a directory")
        if (self.kind is Kind.SYMLINK) != bool(self.target) or len(self.target) > MAX_PATH_BYTES or 0 in self.target:
            raise ValueError("a link without a target, or a target out of place")
        if min(self.size_bytes, self.object_index, self.offset) < 0:
            raise ValueError("a negative size or place")
        if not (self.kind is Kind.FILE and self.size_bytes) and (self.size_bytes, self.object_index, self.offset) != (
            0,
            0,
            0,
        ):
            raise ValueError("what has no bytes names a place of them")


def check_path(path: bytes) -> None:  # F-R20
    """ValueError unless `path` stays inside the folder, in its one spelling."""
    if path == b"":
        return
    if len(path) > MAX_PATH_BYTES or 0 in path:
        raise ValueError("a path that is too long, or holds a zero byte")
    for name in path.split(b"/"):
        if name in {b"", b".", b".."} or len(name) > MAX_NAME_BYTES:
            raise ValueError("a path that leaves its folder, or is not in its one spelling")


def order(path: bytes) -> tuple[bytes, ...]:
    """What entries ascend by."""
    return tuple(path.split(b"/")) if path else ()


# --- writing ----------------------------------------------------------------------------------------------------------


def encode(item: Head | Object | Entry) -> bytes:  # F-W9
    """One item with its length; ValueError for one that is too large."""
    match item:
        case Head():
            body: dict[int, Any] = {0: _Item.HEAD.value, 2: VERSION, 4: item.taken_at}
        case Object():
            body = {0: _Item.OBJECT.value, 2: item.cap.file_key + bytes(item.cap.manifest_id), 4: item.size_bytes}
        case Entry():
            body = {0: _Item.ENTRY.value, 2: item.kind.value, 4: item.path, 6: item.mode, 8: item.mtime_ns}
            if item.size_bytes:
                body |= {10: [item.size_bytes, item.object_index, item.offset]}
            if item.target:
                body |= {12: item.target}
    encoded = cbor.encode(body)
    if len(encoded) > MAX_ITEM_BYTES:
        raise ValueError(f"an item of {len(encoded)} bytes, {MAX_ITEM_BYTES} are the most")
    return len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded


# --- reading ----------------------------------------------------------------------------------------------------------


class TreeReader:
    """Reads a tree in pieces of any size: `feed` gives the items that are complete. RemoteProtocolError.

    Holds at most one incomplete item, the path being read and the sizes of objects.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._started = False
        self._sizes: list[int] = []
        self._last: tuple[bytes, ...] | None = None
        self._open: list[bytes] = []
        self._entries = 0

    def feed(self, data: bytes | memoryview) -> Iterator[Head | Object | Entry]:
        """The items that `data` completes."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH_BYTES:
            length = int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
            if length > MAX_ITEM_BYTES:
                raise RemoteProtocolError("tree: an item that is too large", ErrorCode.TOO_LARGE)
            end = _LENGTH_BYTES + length
            if len(self._buffer) < end:
                return
            encoded = bytes(self._buffer[_LENGTH_BYTES:end])
            del self._buffer[:end]
            yield self._item(encoded)

    def end(self) -> None:
        """The tree's bytes are at their end; RemoteProtocolError when it is not whole."""
        if self._buffer or self._last is None:
            raise RemoteProtocolError("tree: it ends within an item, or without its folder")

    def _item(self, encoded: bytes) -> Head | Object | Entry:
        body = cbor.as_map(cbor.decode(encoded, what="tree item"))
        if body is None:
            raise RemoteProtocolError("tree: an item is not a map")
        which = _take(body, 0, int)
        if self._started != (which != _Item.HEAD):
            raise RemoteProtocolError("tree: the head is missing or not the first item")
        try:
            match which:
                case _Item.HEAD:
                    return self._head(body)
                case _Item.OBJECT:
                    return self._object(body)
                case _Item.ENTRY:
                    return self._entry(body)
                case _:
                    pass
        except ValueError as exc:
            raise RemoteProtocolError(f"tree: {exc}") from exc
        raise RemoteProtocolError(f"tree: an item of kind {which}")

    def _head(self, body: dict[int, Any]) -> Head:
        _check_known(body, {0, 2, 4})
        if (version := _take(body, 2, int)) != VERSION:  # F-R18
            raise RemoteProtocolError(f"a tree of version {version}", ErrorCode.UNSUPPORTED_VERSION)
        self._started = True
        return Head(_take(body, 4, int))

    def _object(self, body: dict[int, Any]) -> Object:
        _check_known(body, {0, 2, 4})
        named, size_bytes = _take(body, 2, bytes), _take(body, 4, int)
        if len(named) != KEY_BYTES + ShareId.SIZE:
            raise ValueError("an object is not named by 64 bytes")
        if len(self._sizes) >= MAX_ENTRIES:
            raise ValueError("too many objects")
        self._sizes.append(size_bytes)
        return Object(ReadCap(named[:KEY_BYTES], ShareId(named[KEY_BYTES:])), size_bytes)

    def _entry(self, body: dict[int, Any]) -> Entry:
        _check_known(body, {0, 2, 4, 6, 8, 10, 12})
        size_bytes = object_index = offset = 0
        if 10 in body:
            match _take(body, 10, list):
                case [bool(), *_] | [_, bool(), *_] | [_, _, bool()]:
                    raise ValueError("an entry's place is not three integers")
                case [int(size_bytes), int(object_index), int(offset)] if size_bytes:
                    self._check_place(size_bytes, object_index, offset)
                case _:
                    raise ValueError("an entry's place is not three integers")
        entry = Entry(
            Kind(_take(body, 2, int)),
            _take(body, 4, bytes),
            _take(body, 6, int),
            _take(body, 8, int),
            size_bytes,
            object_index,
            offset,
            _take(body, 12, bytes) if 12 in body else b"",
        )
        self._check_order(entry)
        return entry

    def _check_place(self, size_bytes: int, object_index: int, offset: int) -> None:  # F-R19
        if object_index >= len(self._sizes) or offset + size_bytes > self._sizes[object_index]:
            raise ValueError("an entry names bytes that no object before it has")

    def _check_order(self, entry: Entry) -> None:  # F-R21
        """Ascending, the folder first, and everything within a directory that stands before it."""
        path = order(entry.path)
        if (self._last is None) != (path == ()) or (self._last is not None and path <= self._last):
            raise ValueError("entries do not ascend, or the folder itself is not the first")
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise ValueError("too many entries")
        if path:
            parent = list(path[:-1])
            if self._open[: len(parent)] != parent:
                raise ValueError("an entry whose directory is missing")
            self._open = parent
            if entry.kind is Kind.DIRECTORY:
                self._open = list(path)
        self._last = path


def _take(body: dict[int, Any], key: int, kind: type) -> Any:
    value = body.get(key)
    if type(value) is not kind:
        raise RemoteProtocolError(f"tree: key {key} is missing or not {kind.__name__}")
    return value


def _check_known(body: dict[int, Any], known: set[int]) -> None:
    unknown = next((key for key in body if key not in known and key % 2 == 0), None)
    if unknown is not None:
        raise RemoteProtocolError(f"tree: key {unknown} is not known and must be", ErrorCode.UNKNOWN_FEATURE)
