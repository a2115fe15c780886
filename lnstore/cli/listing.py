"""How stored files, folders and what is in them are listed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.output import human_time, print_json, run, table
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from lnstore.client.catalog import Catalog, FileEntry
    from lnstore.client.catalog_changes import Removed
    from lnstore.client.folder_catalog import Snapshot
    from lnstore.client.profile import Profile
    from lnstore_protocol.trees import Entry

COLUMNS = ["name", "size", "shares", "nodes #", "stored"]


def show_catalog(catalog: Catalog, wanted: Callable[[str], bool], *, as_json: bool) -> int:
    """List the files and folders whose names are wanted; how many."""
    from lnstore.client.folder_catalog import FolderCatalog

    folders = FolderCatalog(catalog)
    snapshots: dict[str, list[Snapshot]] = {}
    for snapshot in folders.snapshots():
        snapshots.setdefault(snapshot.folder, []).append(snapshot)
    files = [file for file in catalog.files() if file.folder is None and wanted(file.name)]
    listed = [_file_row(file, _nodes(catalog, [file])) for file in files]
    for name, taken in snapshots.items():
        if wanted(name):
            parts = folders.files_of(taken[-1])
            listed.append(_folder_row(taken, parts[0], _nodes(catalog, parts)))
    listed.sort(key=lambda row: row[0])
    if as_json:
        for _, described, _ in listed:
            print_json(described)
    elif listed:
        table("", COLUMNS, [cells for _, _, cells in listed])
    return len(listed)


def show_folder(profile: Profile, text: str, *, at: int | None, as_json: bool) -> None:
    """List what is in a folder, one level deep."""
    from lnstore.client.files import open_client
    from lnstore.client.naming import find_stored
    from lnstore_protocol.trees import order

    async def work() -> list[tuple[str, Entry]]:
        async with open_client(profile) as client, find_stored(client, text, at=at) as stored:
            if stored.tree is None:
                raise click.UsageError(f"{text!r} is a file; lnstore info shows how it is stored")
            first = stored.tree.find(stored.within)
            base = len(order(first.path))
            below = [e for e in stored.tree.entries(stored.within) if len(order(e.path)) == base + 1]
            return [(os.fsdecode(order(entry.path)[-1]), entry) for entry in below or [first]]

    _show_entries(run(work), as_json=as_json)


def find_in_folders(profile: Profile, wanted: Callable[[str], bool], *, as_json: bool) -> int:
    """List the entries of the newest snapshots whose paths are wanted; how many."""
    from lnstore.client.files import open_client
    from lnstore.client.folder_catalog import FolderCatalog
    from lnstore.client.folder_get import tree_of_snapshot

    async def work() -> list[tuple[str, Entry]]:
        found = []
        async with open_client(profile) as client:
            folders = FolderCatalog(client.catalog)
            for name in sorted({snapshot.folder for snapshot in folders.snapshots()}):
                tree = await tree_of_snapshot(client, folders.newest(name))
                for entry in tree.entries():
                    path = f"{name}/{os.fsdecode(entry.path)}"
                    if entry.path and wanted(path):
                        found.append((path, entry))
        return found

    found = run(work)
    _show_entries(found, as_json=as_json)
    return len(found)


def show_removed(done: Removed, what: str, *, as_json: bool, **more: Any) -> None:
    """What a removal did."""
    if as_json:
        not_told = [node.petname for node in done.unreached]
        print_json({"ok": True, **more, "freed_bytes": done.freed_bytes, "not_told": not_told})
        return
    click.echo(f"{what}: {human_bytes(done.freed_bytes)} given up at the nodes")
    for node in done.unreached:
        click.echo(f"warning: {node.petname} could not be told; it is told before its next rent proof", err=True)


def size_text(size: int | None) -> str:
    """A size, or that there is none yet."""
    return "incomplete" if size is None else human_bytes(size)


def _show_entries(entries: list[tuple[str, Entry]], *, as_json: bool) -> None:
    if as_json:
        for name, entry in entries:
            described: dict[str, Any] = {"name": name, "kind": entry.kind.name.lower(), "bytes": entry.size_bytes}
            described |= {"mode": f"{entry.mode:04o}", "mtime_ns": entry.mtime_ns}
            print_json(described | ({"target": os.fsdecode(entry.target)} if entry.target else {}))
        return
    if entries:
        table(
            "",
            ["mode", "size", "changed", "name"],
            [
                [
                    _mode_text(entry),
                    "" if entry.kind.name != "FILE" else human_bytes(entry.size_bytes),
                    human_time(entry.mtime_ns // 1_000_000_000),
                    name + (f" -> {os.fsdecode(entry.target)}" if entry.target else ""),
                ]
                for name, entry in entries
            ],
        )


def _mode_text(entry: Entry) -> str:
    import stat

    kinds = {"DIRECTORY": stat.S_IFDIR, "FILE": stat.S_IFREG, "SYMLINK": stat.S_IFLNK}
    return stat.filemode(kinds[entry.kind.name] | entry.mode)


def _nodes(catalog: Catalog, files: list[FileEntry]) -> int:
    return len({share.node_id for file in files for share in catalog.shares_of(file.file_id)})


def _file_row(file: FileEntry, nodes: int) -> tuple[str, dict[str, Any], list[str]]:
    described = {
        "name": file.name,
        "kind": "care" if file.verify_only else "file",
        "bytes": file.file_bytes,
        "complete": file.complete,
        "needed": file.needed,
        "total": file.total,
        "created_at": file.created_at,
        "nodes": nodes,
    }
    coding = f"{file.needed} of {file.total}"
    cells = [file.name, size_text(file.file_bytes), coding, str(nodes), human_time(file.created_at)]
    return file.name, described, cells


def _folder_row(taken: list[Snapshot], tree: FileEntry, nodes: int) -> tuple[str, dict[str, Any], list[str]]:
    newest = taken[-1]
    described = {
        "name": newest.folder,
        "kind": "folder",
        "bytes": newest.plain_bytes,
        "complete": True,
        "needed": tree.needed,
        "total": tree.total,
        "created_at": newest.taken_at,
        "nodes": nodes,
        "entries": newest.entries,
        "snapshots": len(taken),
    }
    coding = f"{tree.needed} of {tree.total}"
    size = human_bytes(newest.plain_bytes)
    return (
        newest.folder,
        described,
        [f"{newest.folder}/", size, coding, str(nodes), human_time(newest.taken_at)],
    )
