"""What a person takes back or renames: files and folders given up, snapshots forgotten, other names."""

from __future__ import annotations

from collections.abc import Sequence
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
        return await _given_up(client, names, unneeded, before)


async def forget(client: Client, folder: str, keep: Keep, *, pretend: bool = False) -> tuple[list[Snapshot], Removed]:
    """Forget the snapshots of a folder that `keep` does not keep; they, and what that gave free.

    `pretend` changes nothing. Raises CatalogError, ProfileBusy.
    """
    folders = FolderCatalog(client.catalog)
    with client.profile.writing():
        folders.newest(folder)
        snapshots = folders.snapshots(folder)
        kept = keep.kept(snapshot.taken_at for snapshot in snapshots)
        gone = [snapshot for snapshot in snapshots if snapshot.taken_at not in kept]
        if pretend or not gone:
            return gone, Removed([], 0, [])
        before = client.catalog.held_bytes()
        return gone, await _given_up(client, [folder], await _forget(client, folders, gone), before)


async def _forget(client: Client, folders: FolderCatalog, snapshots: Sequence[Snapshot]) -> Unneeded:
    unneeded, trees = await trio.to_thread.run_sync(folders.forget, snapshots, limiter=client.disk)
    TreeCache(client.profile.directory).forget(trees)
    return unneeded


async def _given_up(client: Client, names: list[str], unneeded: Unneeded, before: int) -> Removed:
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
