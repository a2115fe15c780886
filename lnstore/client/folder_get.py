"""Reading folders: their trees, single files in them by range, and whole folders onto a disk."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import trio

from lnstore.client.download import FileUnreadable, GetResult
from lnstore.client.files import Client, cap_of
from lnstore.client.folder_catalog import Snapshot
from lnstore.client.progress import NoProgress, Progress, ProgressSum
from lnstore.client.restore import FolderSink, entries_possible
from lnstore.client.sink import FileSink, Sink, SinkError
from lnstore.client.tree_cache import TreeCache, read_tree
from lnstore_protocol.caps import ReadCap
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.manifest import TREE
from lnstore_protocol.trees import Entry, Kind, Object

GAP_BYTES = 256 * 1024
"""Bytes between two wanted files of a pack that are rather read than skipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderRead:
    """A folder that was written to disk."""

    files: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree at hand: a local copy of it."""

    path: Path

    def items(self) -> Iterator[Entry | Object]:
        """Objects and entries; FileUnreadable when it is no whole tree. Blocking."""
        try:
            for item in read_tree(self.path):
                if isinstance(item, Entry | Object):
                    yield item
        except RemoteProtocolError as exc:
            raise FileUnreadable(f"the folder's tree cannot be read: {exc}") from exc

    def entries(self, within: str = "") -> Iterator[Entry]:
        """The entry at `within`, then everything below it."""
        wanted = _as_path(within)
        for item in self.items():
            if isinstance(item, Entry) and _is_within(item.path, wanted):
                yield item

    def find(self, within: str) -> Entry:
        """The entry at a path; FileUnreadable when there is none."""
        for entry in self.entries(within):
            return entry
        raise FileUnreadable(f"there is no {within!r} in this folder")


async def tree_of_snapshot(client: Client, snapshot: Snapshot) -> Tree:
    """The tree of one of our own snapshots, read from the nodes if there is no local copy. FileUnreadable."""
    path = TreeCache(client.profile.directory).path(snapshot.tree_file_id)
    if not path.exists():
        await client.download(cap_of(client.catalog.by_id(snapshot.tree_file_id))).run(FileSink(path))
    return Tree(path)


@asynccontextmanager
async def tree_of_cap(client: Client, cap: ReadCap) -> AsyncIterator[Tree | None]:
    """The tree that a capability reads, for the length of the block; None when it reads a plain file."""
    download = client.download(cap)
    if (await download.manifest()).kind != TREE:
        yield None
        return
    path = TreeCache(client.profile.directory).path(0).with_name(f"read-{secrets.token_hex(8)}.tree")
    try:
        await download.run(FileSink(path))
        yield Tree(path)
    finally:
        path.unlink(missing_ok=True)


async def get_entry(
    client: Client,
    tree: Tree,
    within: str,
    sink: Path | Sink,
    *,
    progress: Progress | None = None,
    offset: int = 0,
    length: int | None = None,
) -> GetResult:
    """One file of a folder, or a range of it, as Client.get; FileUnreadable also when it is none."""
    found: Entry | None = None
    objects: list[Object] = []
    wanted = _as_path(within)
    for item in tree.items():
        if isinstance(item, Object):
            objects.append(item)
        elif item.path == wanted:
            found = item
            break
    if found is None or found.kind is not Kind.FILE:
        raise FileUnreadable(f"{within!r} is no file in this folder")
    if offset > found.size_bytes:
        raise FileUnreadable(f"the file has {found.size_bytes} bytes; there is nothing at {offset}")
    left = found.size_bytes - offset
    wanted_bytes = left if length is None else min(length, left)
    output: Sink = FileSink(sink) if isinstance(sink, Path) else sink
    if not found.size_bytes:
        await trio.to_thread.run_sync(output.commit, limiter=client.disk)
        return GetResult(bytes=0, seconds=0.0, decoded_segments=0, nodes={})
    download = client.download(objects[found.object_index].cap, progress)
    return await download.run(output, offset=found.offset + offset, length=wanted_bytes)


async def get_folder(
    client: Client, tree: Tree, target: Path, *, within: str = "", progress: Progress | None = None
) -> FolderRead:
    """Write a folder, or the directory `within` it, to `target`, which appears once it is whole.

    Raises FileUnreadable and SinkError.
    """
    began = trio.current_time()
    most = await trio.to_thread.run_sync(entries_possible, target, limiter=client.disk)
    objects, entries = await trio.to_thread.run_sync(_wanted, tree, within, most, limiter=client.disk)
    sink = await trio.to_thread.run_sync(FolderSink, target, limiter=client.disk)
    plain_bytes = sum(entry.size_bytes for entry in entries)
    told = ProgressSum(progress or NoProgress(), plain_bytes)
    try:
        await trio.to_thread.run_sync(_make_all, sink, entries, limiter=client.disk)
        for number, files in _by_object(entries).items():
            download = client.download(objects[number].cap, told)
            for ranged in read_together(files):
                start, end = ranged[0].offset, max(file.offset + file.size_bytes for file in ranged)
                await download.run(sink.filling(ranged, start), offset=start, length=end - start)
                told.add(sum(file.size_bytes for file in ranged))
        await trio.to_thread.run_sync(sink.finish, entries, limiter=client.disk)
    except BaseException:
        sink.discard()
        raise
    return FolderRead(
        files=sum(entry.kind is Kind.FILE for entry in entries),
        bytes=plain_bytes,
        seconds=trio.current_time() - began,
    )


def _wanted(tree: Tree, within: str, most: int) -> tuple[list[Object], list[Entry]]:
    """The tree's objects, and the entries from `within` on with paths relative to it; SinkError when over `most`."""
    wanted = _as_path(within)
    objects: list[Object] = []
    entries: list[Entry] = []
    for item in tree.items():
        if isinstance(item, Object):
            objects.append(item)
        elif _is_within(item.path, wanted):
            entries.append(replace(item, path=item.path[len(wanted) :].lstrip(b"/")) if wanted else item)
            if len(entries) > most:  # before they fill the memory
                raise SinkError(f"the folder has more than the {most:,} files and folders that there is room for")
    if not entries or entries[0].kind is not Kind.DIRECTORY:
        raise FileUnreadable(f"there is no directory {within!r} in this folder")
    return objects, entries


def _make_all(sink: FolderSink, entries: Sequence[Entry]) -> None:
    for entry in entries:
        sink.make(entry)


def _by_object(entries: Iterable[Entry]) -> dict[int, list[Entry]]:
    """Files that have bytes, by object, in the order of offsets."""
    files: dict[int, list[Entry]] = {}
    for entry in entries:
        if entry.size_bytes:
            files.setdefault(entry.object_index, []).append(entry)
    for group in files.values():
        group.sort(key=lambda entry: entry.offset)
    return files


class _Range(Protocol):
    @property
    def offset(self) -> int: ...

    @property
    def size_bytes(self) -> int: ...


Ranged = TypeVar("Ranged", bound=_Range)


def read_together(files: Sequence[Ranged]) -> Iterator[list[Ranged]]:
    """Files, by offset, that are read in one go: each begins at most GAP_BYTES after the end of those before it."""
    together: list[Ranged] = []
    end = 0
    for file in files:
        if together and file.offset > end + GAP_BYTES:
            yield together
            together = []
        together.append(file)
        end = max(end, file.offset + file.size_bytes)
    if together:
        yield together


def _as_path(text: str) -> bytes:
    return text.strip("/").encode("utf-8", "surrogateescape")


def _is_within(path: bytes, wanted: bytes) -> bool:
    return not wanted or path == wanted or path.startswith(wanted + b"/")
