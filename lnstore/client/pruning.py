"""Packs of which little is needed any more: what is needed moves into new packs, so that the others can be given up.

What is needed is what a snapshot of any folder points to. It is read from the nodes and stored anew; then each snapshot
that needs it gets a new tree, and with that a new capability; then one transaction puts the new trees and packs in the
place of the old. Killed before it, all is as it was, and what was stored anew is given up by the next run; killed after
it, the catalog has noted what the nodes are to be told.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO, FileIO

import trio

from lnstore.client.catalog import FileEntry
from lnstore.client.catalog_changes import Removed, given_up
from lnstore.client.contents import ContentHasher, content_key
from lnstore.client.files import Client, Coding, cap_of
from lnstore.client.folder_catalog import FolderCatalog, Place, Snapshot, Unneeded
from lnstore.client.folder_get import Tree, read_together, tree_of_snapshot
from lnstore.client.packs import PACK_BYTES
from lnstore.client.progress import NoProgress, Progress, ProgressSum
from lnstore.client.removal import drop_shares
from lnstore.client.sink import StreamSink
from lnstore.client.source import Source
from lnstore.client.tree_cache import TreeCache
from lnstore.client.tree_writing import tree_items
from lnstore_protocol.manifest import PLAIN_FILE, TREE
from lnstore_protocol.trees import Entry, Head, Object

MOST_UNUSED_PERCENT = 50
PRUNE_NAME = ":prune:"
"""Begins the names of what a run stores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """So many packs of `pack_bytes` in all, of which `moved_bytes` were needed, by these snapshots; what that freed."""

    packs: int
    pack_bytes: int
    moved_bytes: int
    snapshots: Sequence[Snapshot]
    removed: Removed


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes of a pack that a snapshot needs."""

    offset: int
    size_bytes: int


async def prune(
    client: Client,
    *,
    most_unused_percent: int = MOST_UNUSED_PERCENT,
    pretend: bool = False,
    progress: Progress | None = None,
) -> Pruned:
    """Rewrite the packs of which more than so much is not needed. `pretend` changes nothing, and frees what it would.

    Raises FileUnreadable, TooFewNodes, PutFailed, CatalogError, ProfileBusy; all can be read as before then.
    """
    with client.profile.writing():
        folders = FolderCatalog(client.catalog)
        if not pretend:
            left = await trio.to_thread.run_sync(folders.remove_leftovers, PRUNE_NAME, limiter=client.disk)
            await drop_shares(client.pool, client.catalog, left)
        run = _Run(client, folders)
        for snapshot in folders.snapshots():
            await run.look_at(snapshot)
        packs = {
            file_id: sorted(pieces, key=lambda piece: piece.offset)
            for file_id, pieces in run.needed.items()
            if _unused_percent(client.catalog.by_id(file_id), pieces) > most_unused_percent
        }
        before = client.catalog.held_bytes()
        moved_bytes = sum(piece.size_bytes for pieces in packs.values() for piece in pieces)
        affected = [snapshot for snapshot, used in run.used.items() if used & packs.keys()]
        done = Pruned(
            packs=len(packs),
            pack_bytes=sum(client.catalog.by_id(file_id).file_bytes or 0 for file_id in packs),
            moved_bytes=moved_bytes,
            snapshots=affected,
            removed=Removed([], 0, []),
        )
        if pretend or not packs:
            return done
        moved = await run.move(packs, ProgressSum(progress or NoProgress(), moved_bytes))
        unneeded = await run.rewrite(affected, moved)
        names = list(dict.fromkeys(snapshot.folder for snapshot in affected))
        return replace(done, removed=await given_up(client, names, unneeded, before))


def _unused_percent(file: FileEntry, needed: Iterable[_Piece]) -> float:
    used = sum(piece.size_bytes for piece in needed)
    return 100 - 100 * used / file.file_bytes if file.file_bytes else 0


class _Run:
    """What is needed of which pack, by which snapshot."""

    def __init__(self, client: Client, folders: FolderCatalog) -> None:
        self._client = client
        self._folders = folders
        self._cache = TreeCache(client.profile.directory)
        self.needed: dict[int, set[_Piece]] = {}
        self.used: dict[Snapshot, set[int]] = {}

    async def look_at(self, snapshot: Snapshot) -> None:
        """Note what a snapshot needs. FileUnreadable when its tree is not at hand and cannot be read."""
        tree = await tree_of_snapshot(self._client, snapshot)
        await trio.to_thread.run_sync(self._note, snapshot, tree, limiter=self._client.disk)

    def _note(self, snapshot: Snapshot, tree: Tree) -> None:
        used = self.used.setdefault(snapshot, set())
        for entry, place in self._placed(snapshot, tree):
            if place is not None:
                used.add(place.file_id)
                self.needed.setdefault(place.file_id, set()).add(_Piece(place.offset, entry.size_bytes))

    def _placed(self, snapshot: Snapshot, tree: Tree) -> Iterator[tuple[Entry, Place | None]]:
        """The entries of a tree, and where in the catalog's files their bytes are."""
        by_manifest = {file.manifest_id: file.file_id for file in self._folders.files_of(snapshot)}
        objects: list[int] = []
        for item in tree.items():
            if isinstance(item, Object):
                objects.append(by_manifest[item.cap.manifest_id])
            else:
                yield item, Place(objects[item.object_index], item.offset) if item.size_bytes else None

    # --- new packs ----------------------------------------------------------------------------------------------------

    async def move(self, packs: Mapping[int, Sequence[_Piece]], told: ProgressSum) -> dict[Place, Place]:
        """Store the needed pieces of these packs in new ones, each folder's and coding's by themselves."""
        groups: dict[tuple[str | None, Coding], list[tuple[FileEntry, _Piece]]] = {}
        for file_id, pieces in packs.items():
            file = self._client.catalog.by_id(file_id)
            group = groups.setdefault((file.folder, Coding(file.needed, file.total, file.happy)), [])
            group += [(file, piece) for piece in pieces]
        moved: dict[Place, Place] = {}
        for (folder, coding), wanted in groups.items():
            while wanted:
                count = size = 0
                while count < len(wanted) and (not count or size + wanted[count][1].size_bytes <= PACK_BYTES):
                    size += wanted[count][1].size_bytes
                    count += 1
                moved |= await self._move(folder, coding, wanted[:count])
                told.add(size)
                del wanted[:count]
        return moved

    async def _move(
        self, folder: str | None, coding: Coding, wanted: Sequence[tuple[FileEntry, _Piece]]
    ) -> dict[Place, Place]:
        data = bytearray()
        hasher = ContentHasher(content_key(self._client.profile.account_secret))
        contents = []
        starts: dict[Place, int] = {}
        for file in {file.file_id: file for file, _ in wanted}.values():
            download = self._client.download(cap_of(file))
            pieces = [piece for of, piece in wanted if of.file_id == file.file_id]
            for together in read_together(pieces):
                start, end = together[0].offset, max(piece.offset + piece.size_bytes for piece in together)
                read = BytesIO()
                await download.run(StreamSink(read), offset=start, length=end - start)
                for piece in together:
                    view = read.getbuffer()[piece.offset - start :][: piece.size_bytes]
                    starts[Place(file.file_id, piece.offset)] = len(data)
                    hasher.update(view)
                    contents.append(hasher.end())
                    data += view
        source = Source(BytesIO(data), label="a pack", size=len(data), contents=contents.copy)
        stored = await self._store(source, folder, coding, PLAIN_FILE)
        return {place: Place(stored.file_id, start) for place, start in starts.items()}

    # --- new trees ----------------------------------------------------------------------------------------------------

    async def rewrite(self, snapshots: Iterable[Snapshot], moved: Mapping[Place, Place]) -> Unneeded:
        """Store new trees, and put them in the place of the old ones; the shares to be dropped, by node."""
        trees: dict[Snapshot, tuple[int, set[int]]] = {}
        for snapshot in snapshots:
            tree = await tree_of_snapshot(self._client, snapshot)
            packs: set[int] = set()
            part = await trio.to_thread.run_sync(
                self._cache.write, self._items(snapshot, tree, moved, packs), limiter=self._client.disk
            )
            old = self._client.catalog.by_id(snapshot.tree_file_id)
            with FileIO(part, "rb") as stream:
                source = Source(stream, label="the folder's tree", size=part.stat().st_size)
                stored = await self._store(source, snapshot.folder, Coding(old.needed, old.total, old.happy), TREE)
            self._cache.keep(stored.file_id, part)
            trees[snapshot] = (stored.file_id, packs)
        unneeded = await trio.to_thread.run_sync(self._folders.exchange_trees, trees, moved, limiter=self._client.disk)
        self._cache.forget(snapshot.tree_file_id for snapshot in trees)
        return unneeded

    def _items(
        self, snapshot: Snapshot, tree: Tree, moved: Mapping[Place, Place], packs: set[int]
    ) -> Iterator[Head | Object | Entry]:
        """The tree over the new packs; `packs` gets all that it needs."""

        def placed() -> Iterator[tuple[Entry, Place | None]]:
            for entry, place in self._placed(snapshot, tree):
                there = None if place is None else moved.get(place, place)
                if there is not None:
                    packs.add(there.file_id)
                yield entry, there

        return tree_items(self._client.catalog, snapshot.taken_at, placed())

    async def _store(self, source: Source, folder: str | None, coding: Coding, kind: int) -> FileEntry:
        name = f"{PRUNE_NAME}{secrets.token_hex(16)}"
        await self._client.store(source, name, coding, None, folder=folder, kind=kind)
        return self._client.catalog.named(name)
