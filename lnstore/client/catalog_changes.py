"""What a person takes back or renames: files and folders given up, snapshots forgotten, other names."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import trio

from lnstore.client.catalog import CatalogError, NodeEntry
from lnstore.client.files import Client, checked_name
from lnstore.client.folder_catalog import FolderCatalog, Snapshot, Unneeded
from lnstore.client.keeping import Keep
from lnstore.client.removal import drop_shares
from lnstore.client.tree_cache import TreeCache
from lnstore_protocol.ids import NodeId, ShareId


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal did: of what names, the share bytes that are held no more, and the nodes still to be told."""

    names: list[str]
    freed_bytes: int
    unreached: list[NodeEntry]


async def remove(client: Client, names: Sequence[str]) -> Removed:
    """Forget files, and folders with all their snapshots; with a name that is neither, CatalogError and nothing.

    Raises ProfileBusy. A share that another file needs stays.
    """
    folders = FolderCatalog(client.catalog)
    with client.profile.writing():
        names = list(dict.fromkeys(names))
        snapshots = {name: folders.snapshots(name) for name in names}
        for name in names:
            if not snapshots[name]:
                client.catalog.named(name)
        before = client.catalog.held_bytes()
        unneeded: dict[NodeId, list[ShareId]] = {}
        for name in names:
            if snapshots[name]:
                removed = await _forget(client, folders, snapshots[name])
            else:
                file_id = client.catalog.named(name).file_id
                removed = await trio.to_thread.run_sync(client.catalog.remove_file, file_id, limiter=client.disk)
            for node_id, share_ids in removed.items():
                unneeded.setdefault(node_id, []).extend(share_ids)
        return await given_up(client, names, unneeded, before)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Of one folder: the snapshots that are left and what each is kept for, those that are gone, what that freed."""

    folder: str
    kept: list[tuple[Snapshot, tuple[str, ...]]]
    gone: list[Snapshot]
    removed: Removed


async def forget(client: Client, folder: str, keep: Keep | int, *, pretend: bool = False) -> Forgotten:
    """Forget the snapshots of a folder that `keep` does not keep, or just the newest that is not after that time.

    `pretend` changes nothing, and says what would be freed. Raises CatalogError, ProfileBusy.
    """
    folders = FolderCatalog(client.catalog)
    with client.profile.writing():
        chosen = folders.newest(folder, at=keep if isinstance(keep, int) else None)
        snapshots = folders.snapshots(folder)
        if isinstance(keep, Keep):
            why = keep.kept(snapshot.taken_at for snapshot in snapshots)
            gone = [snapshot for snapshot in snapshots if snapshot.taken_at not in why]
        else:
            why = {}
            gone = [chosen]
        kept = [(snapshot, why.get(snapshot.taken_at, ())) for snapshot in snapshots if snapshot not in gone]
        if not gone:
            return Forgotten(folder, kept, [], Removed([], 0, []))
        before = client.catalog.held_bytes()
        if pretend:
            after = await trio.to_thread.run_sync(_without, client, folders, gone, limiter=client.disk)
            return Forgotten(folder, kept, gone, Removed([folder], before - after, []))
        removed = await given_up(client, [folder], await _forget(client, folders, gone), before)
        return Forgotten(folder, kept, gone, removed)


class _Undo(Exception):
    """For the code around: the transaction was only to see what it would do."""


def _without(client: Client, folders: FolderCatalog, snapshots: Sequence[Snapshot]) -> int:
    """What the nodes would hold without these snapshots. Blocking."""
    after = 0
    with suppress(_Undo), client.catalog.transaction():
        folders.forget(snapshots)
        after = client.catalog.held_bytes()
        raise _Undo
    return after


async def _forget(client: Client, folders: FolderCatalog, snapshots: Sequence[Snapshot]) -> Unneeded:
    unneeded, trees = await trio.to_thread.run_sync(folders.forget, snapshots, limiter=client.disk)
    TreeCache(client.profile.directory).forget(trees)
    return unneeded


async def given_up(client: Client, names: list[str], unneeded: Unneeded, before: int) -> Removed:
    """Tell the nodes what is needed no more; what they hold less than `before`, once they know."""
    unreached = await drop_shares(client.pool, client.catalog, unneeded)
    nodes = [node for node in client.catalog.nodes() if node.node_id in unreached]
    return Removed(names, before - client.catalog.held_bytes(), nodes)


def rename(client: Client, old: str, new: str) -> None:
    """Give a file or folder another name. CatalogError when there is none or the new name is taken; ProfileBusy.

    An incomplete file keeps its name, by which its put is continued.
    """
    folders = FolderCatalog(client.catalog)
    with client.profile.writing():
        if folders.snapshots(old):
            folders.rename(old, checked_name(new))
            return
        file = client.catalog.named(old)
        if not file.complete:
            raise CatalogError(f"{old!r} is not stored completely; put it again, then rename it")
        if folders.snapshots(new):
            raise CatalogError(f"there is already something called {new!r}; remove it first")
        client.catalog.rename_file(file.file_id, checked_name(new))
