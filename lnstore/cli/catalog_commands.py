"""`lnstore ls`, `find`, `info`, `rm` and `mv`: what the catalog knows of files, and changes to it."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.listing import show_removed, size_text
from lnstore.cli.output import (
    at_option,
    human_time,
    json_option,
    pairs,
    print_json,
    printable,
    profile_option,
    run,
    table,
)
from lnstore.cli.session import load_profile
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from lnstore.client.catalog import FileEntry, ShareEntry
    from lnstore.client.folder_catalog import Snapshot


@click.command()
@click.argument("folder", metavar="[FOLDER[/PATH]]", required=False)
@at_option
@profile_option
@json_option
def ls(folder: str | None, at: int | None, profile: Path | None, as_json: bool) -> None:
    """List the files and folders in your catalog, or what is in a folder.

    \b
    Examples:
      lnstore ls
      lnstore ls photos/2026
    """
    from lnstore.cli.listing import show_catalog, show_folder

    if folder is not None:
        show_folder(load_profile(profile), folder, at=at, as_json=as_json)
        return
    if at is not None:
        raise click.UsageError("--at goes with a folder: lnstore ls FOLDER --at TIME")
    with load_profile(profile).open_catalog() as catalog:
        if not show_catalog(catalog, lambda _: True, as_json=as_json) and not as_json:
            click.echo("nothing is stored yet; store a file or folder with: lnstore put FILE")


@click.command()
@click.argument("pattern", metavar="PATTERN")
@profile_option
@json_option
def find(pattern: str, profile: Path | None, as_json: bool) -> None:
    """List files, folders and what is in them by name, with * and ? as in a shell; exit code 1 when none fits.

    A pattern without a slash is held against names, one with a slash against whole paths.

    \b
    Example:
      lnstore find '*.jpg'
    """
    from lnstore.cli.listing import find_in_folders, show_catalog

    def fits(path: str) -> bool:
        return fnmatchcase(path if "/" in pattern else path.rsplit("/", 1)[-1], pattern)

    loaded = load_profile(profile)
    with loaded.open_catalog() as catalog:
        found = show_catalog(catalog, fits, as_json=as_json)
    found += find_in_folders(loaded, fits, as_json=as_json)
    if not found:
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("name", metavar="NAME")
@profile_option
@json_option
def info(name: str, profile: Path | None, as_json: bool) -> None:
    """Show how a file is stored: its coding, its segments, and which node holds how much of it.

    \b
    Example:
      lnstore info holiday.mp4
    """
    from lnstore.client.folder_catalog import FolderCatalog

    with load_profile(profile).open_catalog() as catalog:
        folders = FolderCatalog(catalog)
        if snapshots := folders.snapshots(name):
            files = folders.files_of(snapshots[-1])
            described = _described_folder(snapshots)
        else:
            files = [catalog.named(name)]
            described = _described_file(files[0])
        shares = [share for file in files for share in catalog.shares_of(file.file_id)]
        petnames = {node.node_id: node.petname for node in catalog.nodes()}
    at: dict[str, list[ShareEntry]] = {}
    for share in shares:
        at.setdefault(petnames.get(share.node_id, share.node_id.hex()), []).append(share)
    nodes = [(petname, len(held), sum(share.size_bytes for share in held)) for petname, held in sorted(at.items())]
    segments = len({(share.file_id, share.segment) for share in shares if share.segment >= 0})
    stored_bytes = sum(share.size_bytes for share in shares)
    if as_json:
        held = [{"node": petname, "shares": count, "bytes": size} for petname, count, size in nodes]
        print_json(described | {"segments": segments, "stored_bytes": stored_bytes, "held": held})
        return
    first = files[0]
    lines = {
        "name": printable(name),
        "size": size_text(described["bytes"]),
        "stored": human_time(described["created_at"]),
    }
    if snapshots:
        lines |= {"entries": str(described["entries"]), "snapshots": str(described["snapshots"])}
    pairs(
        lines
        | {
            "coding": f"any {first.needed} of {first.total} shares, at least {first.happy} nodes",
            "segments": str(segments),
            "at the nodes": human_bytes(stored_bytes),
        }
    )
    table(
        "",
        ["node", "shares #", "bytes #"],
        [[petname, str(count), human_bytes(size)] for petname, count, size in nodes],
    )


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@profile_option
@json_option
def rm(names: tuple[str, ...], profile: Path | None, as_json: bool) -> None:
    """Give files and folders up: the catalog forgets them, the nodes drop their shares, and their room is free again.

    There is no way back: without its shares, a file's capability reads nothing.

    \b
    Example:
      lnstore rm holiday.mp4 old.tar
    """
    from lnstore.client.catalog_changes import Removed, remove
    from lnstore.client.files import open_client

    async def work() -> Removed:
        async with open_client(load_profile(profile)) as client:
            return await remove(client, names)

    removed = run(work)
    told = removed.names[0] if len(removed.names) == 1 else f"{len(removed.names)} files and folders"
    show_removed(removed, f"removed {printable(told)}", as_json=as_json, removed=removed.names)


@click.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@profile_option
@json_option
def mv(old: str, new: str, profile: Path | None, as_json: bool) -> None:
    """Give a file or folder another name in your catalog; its capability stays the same.

    \b
    Example:
      lnstore mv holiday.mp4 holiday-2026.mp4
    """
    from lnstore.client.catalog_changes import rename
    from lnstore.client.files import open_client

    async def work() -> None:
        async with open_client(load_profile(profile)) as client:
            rename(client, old, new)

    run(work)
    if as_json:
        print_json({"ok": True, "name": new})
        return
    click.echo(f"{printable(old)} is now called {printable(new)}")


def _described_file(file: FileEntry) -> dict[str, Any]:
    return {
        "name": file.name,
        "bytes": file.file_bytes,
        "complete": file.complete,
        "needed": file.needed,
        "total": file.total,
        "created_at": file.created_at,
    }


def _described_folder(snapshots: Sequence[Snapshot]) -> dict[str, Any]:
    newest = snapshots[-1]
    return {
        "name": newest.folder,
        "bytes": newest.plain_bytes,
        "entries": newest.entries,
        "snapshots": len(snapshots),
        "created_at": newest.taken_at,
    }
