"""Local copies of trees, so that listing a folder asks no node. Blocking; a copy that is missing is read again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from lnstore_protocol.trees import Entry, Head, Object, TreeReader, encode

FOLDER = "trees"
_READ_BYTES = 1 << 20


class TreeCache:
    """The copies of one profile, by the tree's file in the catalog."""

    def __init__(self, profile: Path) -> None:
        self._folder = profile / FOLDER

    def path(self, file_id: int) -> Path:
        """Where the copy is, or would be."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        return self._folder / f"{file_id}.tree"

    def write(self, items: Iterable[Head | Object | Entry]) -> Path:
        """A new tree, not yet known by a number: `keep` it, or the next one takes its place."""
        part = self.path(0).with_name("new.part")
        part.unlink(missing_ok=True)
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as tree:  # noqa: PTH123 -- the mode must hold from the first moment
            tree.writelines(map(encode, items))
        return part

    def keep(self, file_id: int, part: Path) -> None:
        """What `write` made is stored as this file."""
        part.replace(self.path(file_id))

    def forget(self, file_ids: Iterable[int]) -> None:
        """Remove copies."""
        for file_id in file_ids:
            self.path(file_id).unlink(missing_ok=True)


def read_tree(path: Path) -> Iterator[Head | Object | Entry]:
    """The items of a copy; RemoteProtocolError when it is not a whole tree."""
    reader = TreeReader()
    with path.open("rb") as tree:
        while data := tree.read(_READ_BYTES):
            yield from reader.feed(data)
    reader.end()
