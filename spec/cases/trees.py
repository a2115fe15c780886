"""04: trees of folders."""

from __future__ import annotations

from typing import Any

from cases.common import Case, key
from lnstore_protocol import cbor, trees
from lnstore_protocol.caps import ReadCap
from lnstore_protocol.ids import ShareId

FILE_KEY, MANIFEST_ID = key("object key"), ShareId(key("object manifest"))
NS = 1_700_000_000_000_000_000


def _item(body: dict[int, Any]) -> bytes:
    encoded = cbor.encode(body)
    return len(encoded).to_bytes(4, "big") + encoded


def _dir(path: bytes = b"", **more: Any) -> bytes:
    return _item({0: 2, 2: 0, 4: path, 6: 0o755, 8: NS} | {int(k[1:]): v for k, v in more.items()})


def _file(path: bytes, place: list[Any] | None = None, **more: Any) -> bytes:
    body: dict[int, Any] = {0: 2, 2: 1, 4: path, 6: 0o644, 8: NS}
    if place is not None:
        body[10] = place
    return _item(body | {int(k[1:]): v for k, v in more.items()})


def _link(path: bytes, target: bytes) -> bytes:
    return _item({0: 2, 2: 2, 4: path, 6: 0o777, 8: NS, 12: target})


HEAD = _item({0: 0, 2: 1, 4: 1_700_000_000})
OBJECT = _item({0: 1, 2: FILE_KEY + MANIFEST_ID, 4: 1000})


def described(items: list[Any]) -> list[Any]:
    """Items as a vector tells them."""
    told: list[Any] = []
    for item in items:
        match item:
            case trees.Head():
                told.append({"taken_at": item.taken_at})
            case trees.Object():
                named = {"file_key": item.cap.file_key.hex(), "manifest_id": item.cap.manifest_id.hex()}
                told.append(named | {"bytes": item.size_bytes})
            case _:
                entry = {"kind": item.kind.name.lower(), "path": item.path.hex(), "mode": item.mode}
                entry["mtime_ns"] = item.mtime_ns
                if item.size_bytes:
                    entry |= {"place": [item.size_bytes, item.object_index, item.offset]}
                told.append(entry | ({"target": item.target.hex()} if item.target else {}))
    return told


def tree_cases() -> list[Case]:
    """Whole trees, and trees that are wrong in one way."""
    obj = trees.Object(ReadCap(FILE_KEY, MANIFEST_ID), 1000)
    head, root = trees.Head(1_700_000_000), trees.Entry(trees.Kind.DIRECTORY, b"", 0o755, NS)
    full: list[Any] = [
        head,
        root,
        obj,
        trees.Entry(trees.Kind.DIRECTORY, b"a", 0o700, NS),
        trees.Entry(trees.Kind.FILE, b"a/one", 0o644, NS, 600, 0, 0),
        trees.Entry(trees.Kind.FILE, b"a/two\nlines", 0o4755, 0, 400, 0, 600),
        trees.Entry(trees.Kind.FILE, b"a.txt", 0o600, NS),
        trees.Entry(trees.Kind.SYMLINK, b"link", 0o777, NS, target=b"../../etc/passwd"),
        trees.Entry(trees.Kind.FILE, "naïve \udcff".encode("utf-8", "surrogateescape"), 0o644, NS, 1000, 0, 0),
    ]
    one = HEAD + _dir()
    invalid: list[tuple[str, bytes, str]] = [
        ("empty", b"", "MALFORMED"),
        ("a head alone", HEAD, "MALFORMED"),
        ("no head", _dir(), "MALFORMED"),
        ("two heads", HEAD + HEAD + _dir(), "MALFORMED"),
        ("version 2", _item({0: 0, 2: 2, 4: 0}) + _dir(), "UNSUPPORTED_VERSION"),
        ("an item that is cut", one[:-1], "MALFORMED"),
        ("two bytes after the end", one + bytes(2), "MALFORMED"),
        ("an item of 65,537 bytes", one + (65_537).to_bytes(4, "big"), "TOO_LARGE"),
        ("an item that is an array", HEAD + (1).to_bytes(4, "big") + b"\x80", "MALFORMED"),
        ("an item of kind 3", one + _item({0: 3}), "MALFORMED"),
        ("an unknown even key", HEAD + _dir(_14=0), "UNKNOWN_FEATURE"),
        ("not the folder first", HEAD + _dir(b"a"), "MALFORMED"),
        ("the folder is a file", HEAD + _file(b""), "MALFORMED"),
        ("the folder twice", one + _dir(), "MALFORMED"),
        ("the same path twice", one + _file(b"a") + _file(b"a"), "MALFORMED"),
        ("descending paths", one + _file(b"b") + _file(b"a"), "MALFORMED"),
        ("a directory after what sorts behind it", one + _dir(b"a") + _file(b"a.b") + _file(b"a/b"), "MALFORMED"),
        ("no directory before its file", one + _file(b"a/b"), "MALFORMED"),
        ("a file as a directory", one + _file(b"a") + _file(b"a/b"), "MALFORMED"),
        ("a link as a directory", one + _link(b"a", b"/etc") + _file(b"a/passwd"), "MALFORMED"),
        ("an absolute path", one + _file(b"/etc"), "MALFORMED"),
        ("a path upwards", one + _file(b".."), "MALFORMED"),
        ("a path upwards within", one + _dir(b"a") + _file(b"a/../b"), "MALFORMED"),
        ("a path through itself", one + _dir(b"a") + _file(b"a/./b"), "MALFORMED"),
        ("two slashes", one + _dir(b"a") + _file(b"a//b"), "MALFORMED"),
        ("a slash at the end", one + _dir(b"a/"), "MALFORMED"),
        ("a zero byte in a path", one + _file(b"a\0b"), "MALFORMED"),
        ("a name of 256 bytes", one + _file(b"n" * 256), "MALFORMED"),
        ("a path of 4,097 bytes", one + _file(b"/".join([b"n" * 240] * 17)), "MALFORMED"),
        ("a mode above 0o7777", one + _item({0: 2, 2: 1, 4: b"a", 6: 0o10000, 8: NS}), "MALFORMED"),
        ("an object that comes later", one + _file(b"a", [1, 0, 0]) + OBJECT, "MALFORMED"),
        ("bytes behind the object's end", one + OBJECT + _file(b"a", [2, 0, 999]), "MALFORMED"),
        ("an empty place", one + OBJECT + _file(b"a", [0, 0, 0]), "MALFORMED"),
        ("a place of two integers", one + OBJECT + _file(b"a", [1, 0]), "MALFORMED"),
        ("a size that is true", one + OBJECT + _file(b"a", [True, 0, 0]), "MALFORMED"),
        ("a directory with bytes", one + OBJECT + _dir(b"a", _10=[1, 0, 0]), "MALFORMED"),
        ("a file with a target", one + _file(b"a", _12=b"b"), "MALFORMED"),
        ("a link without a target", one + _item({0: 2, 2: 2, 4: b"a", 6: 0o777, 8: NS}), "MALFORMED"),
        ("a target with a zero byte", one + _link(b"a", b"b\0"), "MALFORMED"),
        ("an object of 63 bytes' name", one + _item({0: 1, 2: bytes(63), 4: 1}), "MALFORMED"),
        ("an entry of kind 3", one + _item({0: 2, 2: 3, 4: b"a", 6: 0, 8: 0}), "MALFORMED"),
    ]
    return [
        {"name": "an empty folder", "tree": one.hex(), "items": described([head, root])},
        {"name": "every kind of entry", "tree": b"".join(map(trees.encode, full)).hex(), "items": described(full)},
        {"name": "unknown odd keys", "tree": (HEAD + _dir(_9=b"x")).hex(), "items": described([head, root])},
        *({"name": name, "tree": value.hex(), "error": error} for name, value, error in invalid),
    ]
