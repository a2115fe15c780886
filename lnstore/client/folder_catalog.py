"""The catalog's part about folders: snapshots, the packs they need, and what each file looked like when stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lnstore.client.catalog import Catalog, CatalogError, FileEntry
from lnstore.client.walk import Found
from lnstore_protocol.ids import NodeId, ShareId
from lnstore_protocol.trees import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A folder as it was at one time. `entries` counts the folder itself; `plain_bytes` is what its files have."""

    snapshot_id: int
    folder: str
    tree_file_id: int
    taken_at: int
    entries: int
    plain_bytes: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file's bytes begin: in which file of the catalog, at which offset."""

    file_id: int
    offset: int


Unneeded = Mapping[NodeId, list[ShareId]]


class FolderCatalog:
    """See the module's text. Made over a catalog, whose transactions it uses."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def snapshots(self, folder: str | None = None) -> list[Snapshot]:
        """All snapshots, or those of one folder, by folder and time."""
        where, parameters = ("", ()) if folder is None else ("WHERE folder = ?", (folder,))
        rows = self._catalog.rows(f"{_SNAPSHOTS} {where} ORDER BY folder, taken_at, snapshot_id", parameters)
        return [_snapshot(row) for row in rows]

    def newest(self, folder: str, *, at: int | None = None) -> Snapshot:
        """The folder's newest snapshot, or the newest that is not after `at`; CatalogError."""
        found = self.snapshots(folder)
        if not found:
            raise CatalogError(f"there is no folder {folder!r} in your catalog; see: lnstore ls")
        eligible = [snapshot for snapshot in found if at is None or snapshot.taken_at <= at]
        if not eligible:
            raise CatalogError(f"the oldest snapshot of {folder!r} is newer than that; see: lnstore snapshots")
        return eligible[-1]

    def files_of(self, snapshot: Snapshot) -> list[FileEntry]:
        """The tree of a snapshot, then its packs."""
        rows = self._catalog.rows("SELECT file_id FROM snapshot_packs WHERE snapshot_id = ?", (snapshot.snapshot_id,))
        return [self._catalog.by_id(i) for i in (snapshot.tree_file_id, *(file_id for (file_id,) in rows))]

    def folder_of(self, text: str) -> tuple[str, str] | None:
        """The folder that `text` names, alone or with a path in it, and that path; None when it names none."""
        folders = {folder for (folder,) in self._catalog.rows("SELECT DISTINCT folder FROM snapshots")}
        parts = text.rstrip("/").split("/")
        for count in range(len(parts), 0, -1):
            if (name := "/".join(parts[:count])) in folders:
                return name, "/".join(parts[count:])
        return None

    def seen(self, folder: str) -> dict[bytes, tuple[Found, Place]]:
        """By path, what the files of the last snapshot looked like, and where their bytes are."""
        from_row = "SELECT path, size_bytes, mtime_ns, ctime_ns, device, inode, file_id, offset FROM seen"
        return {
            path: (Found(Kind.FILE, path, 0, mtime, ctime, (device, inode), size), Place(file_id, offset))
            for path, size, mtime, ctime, device, inode, file_id, offset in self._catalog.rows(
                f"{from_row} WHERE folder = ?", (folder,)
            )
        }

    def add_snapshot(
        self,
        *,
        folder: str,
        tree_file_id: int,
        taken_at: int,
        entries: int,
        plain_bytes: int,
        packs: Iterable[int],
        seen: Iterable[tuple[Found, Place]],
    ) -> Unneeded:
        """A snapshot whose tree and packs are stored; by node, the shares that nothing needs any more.

        Those are what interrupted puts of the folder left.
        """
        with self._catalog.transaction() as db:
            snapshot_id = db.execute(
                "INSERT INTO snapshots (folder, tree_file_id, taken_at, entries, plain_bytes) VALUES (?, ?, ?, ?, ?)",
                (folder, tree_file_id, taken_at, entries, plain_bytes),
            ).lastrowid
            db.executemany(
                "INSERT INTO snapshot_packs (snapshot_id, file_id) VALUES (?, ?)",
                [(snapshot_id, file_id) for file_id in set(packs)],
            )
            db.execute("DELETE FROM seen WHERE folder = ?", (folder,))
            db.executemany(
                "INSERT INTO seen (folder, path, size_bytes, mtime_ns, ctime_ns, device, inode, file_id, offset) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (folder, f.path, f.size_bytes, f.mtime_ns, f.ctime_ns, *f.identity, place.file_id, place.offset)
                    for f, place in seen
                ),
            )
            return self._remove_unneeded("folder = ?", (folder,))

    def forget(self, snapshots: Sequence[Snapshot]) -> tuple[Unneeded, list[int]]:
        """Forget snapshots, and the trees and packs that only they needed: shares to drop by node; ids of the trees."""
        with self._catalog.transaction() as db:
            ids = [snapshot.snapshot_id for snapshot in snapshots]
            used = {snapshot.tree_file_id for snapshot in snapshots}
            for snapshot_id in ids:
                rows = db.execute("SELECT file_id FROM snapshot_packs WHERE snapshot_id = ?", (snapshot_id,))
                used |= {file_id for (file_id,) in rows}
            db.executemany("DELETE FROM snapshots WHERE snapshot_id = ?", [(i,) for i in ids])
            unneeded: dict[NodeId, list[ShareId]] = {}
            for file_id in sorted(used):
                for node_id, share_ids in self._remove_unneeded("file_id = ?", (file_id,)).items():
                    unneeded.setdefault(node_id, []).extend(share_ids)
        return unneeded, [snapshot.tree_file_id for snapshot in snapshots]

    def exchange_trees(
        self, trees: Mapping[Snapshot, tuple[int, Iterable[int]]], moved: Mapping[Place, Place]
    ) -> Unneeded:
        """Snapshots have these trees and packs from now on, files other places; by node, the shares to be dropped."""
        old = {place.file_id for place in moved} | {snapshot.tree_file_id for snapshot in trees}
        unneeded: dict[NodeId, list[ShareId]] = {}
        with self._catalog.transaction() as db:
            for snapshot, (tree, packs) in trees.items():
                which = snapshot.snapshot_id
                db.execute("UPDATE snapshots SET tree_file_id = ? WHERE snapshot_id = ?", (tree, which))
                db.execute("DELETE FROM snapshot_packs WHERE snapshot_id = ?", (which,))
                db.executemany(
                    "INSERT INTO snapshot_packs (snapshot_id, file_id) VALUES (?, ?)", [(which, pack) for pack in packs]
                )
            db.executemany(
                "UPDATE seen SET file_id = ?, offset = ? WHERE file_id = ? AND offset = ?",
                [(new.file_id, new.offset, place.file_id, place.offset) for place, new in moved.items()],
            )
            for file_id in sorted(old):
                for node_id, share_ids in self._remove_unneeded("file_id = ?", (file_id,)).items():
                    unneeded.setdefault(node_id, []).extend(share_ids)
        return unneeded

    def remove_leftovers(self, prefix: str) -> Unneeded:
        """Remove trees and packs whose names begin so and that no snapshot needs; by node, the shares to be dropped."""
        with self._catalog.transaction():
            return self._remove_unneeded("name LIKE ? || '%'", (prefix,))

    def rename(self, folder: str, new: str) -> None:
        """Give a folder another name; CatalogError when a file or folder has it."""
        with self._catalog.transaction() as db:
            if self._catalog.file(new) is not None or self.snapshots(new):
                raise CatalogError(f"there is already something called {new!r}; remove it first")
            for table in ("snapshots", "seen", "files"):
                db.execute(f"UPDATE {table} SET folder = ? WHERE folder = ?", (new, folder))  # noqa: S608 - our own names

    def _remove_unneeded(self, where: str, parameters: Sequence[Any]) -> dict[NodeId, list[ShareId]]:
        """Remove the trees and packs, among these files, that no snapshot needs."""
        rows = self._catalog.rows(
            f"SELECT file_id FROM files WHERE {where} AND folder IS NOT NULL "  # noqa: S608 - our own conditions
            "AND NOT EXISTS (SELECT 1 FROM snapshots WHERE tree_file_id = files.file_id) "
            "AND NOT EXISTS (SELECT 1 FROM snapshot_packs WHERE file_id = files.file_id)",
            parameters,
        )
        unneeded: dict[NodeId, list[ShareId]] = {}
        for (file_id,) in rows:
            for node_id, share_ids in self._catalog.remove_file(file_id).items():
                unneeded.setdefault(node_id, []).extend(share_ids)
        return unneeded


_SNAPSHOTS = "SELECT snapshot_id, folder, tree_file_id, taken_at, entries, plain_bytes FROM snapshots"


def _snapshot(row: tuple[Any, ...]) -> Snapshot:
    snapshot_id, folder, tree_file_id, taken_at, entries, plain_bytes = row
    return Snapshot(
        snapshot_id=snapshot_id,
        folder=folder,
        tree_file_id=tree_file_id,
        taken_at=taken_at,
        entries=entries,
        plain_bytes=plain_bytes,
    )
