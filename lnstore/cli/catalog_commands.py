"""`lnstore ls`, `find`, `info`, `rm` and `mv`: what the catalog knows of files, and changes to it."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.output import human_bytes, human_time, json_option, pairs, print_json, profile_option, run, table
from lnstore.cli.session import load_profile

if TYPE_CHECKING:
    from lnstore.client.catalog import Catalog, FileEntry, ShareEntry


@click.command()
@profile_option
@json_option
def ls(profile: Path | None, as_json: bool) -> None:
    """List the files in your catalog.

    \b
    Example:
      lnstore ls
    """
    with load_profile(profile).open_catalog() as catalog:
        _show(catalog, catalog.files(), as_json=as_json)
        if not as_json and not catalog.files():
            click.echo("nothing is stored yet; store a file with: lnstore put FILE")


@click.command()
@click.argument("pattern", metavar="PATTERN")
@profile_option
@json_option
def find(pattern: str, profile: Path | None, as_json: bool) -> None:
    """List the files whose names fit PATTERN, with * and ? as in a shell; exit code 1 when none does.

    \b
    Example:
      lnstore find 'holiday*'
    """
    with load_profile(profile).open_catalog() as catalog:
        found = [file for file in catalog.files() if fnmatchcase(file.name, pattern)]
        _show(catalog, found, as_json=as_json)
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
    with load_profile(profile).open_catalog() as catalog:
        file = catalog.named(name)
        shares = catalog.shares_of(file.file_id)
        petnames = {node.node_id: node.petname for node in catalog.nodes()}
    at: dict[str, list[ShareEntry]] = {}
    for share in shares:
        at.setdefault(petnames.get(share.node_id, share.node_id.hex()), []).append(share)
    nodes = [(petname, len(held), sum(share.size_bytes for share in held)) for petname, held in sorted(at.items())]
    segments = len({share.segment for share in shares if share.segment >= 0})
    stored_bytes = sum(share.size_bytes for share in shares)
    if as_json:
        held = [{"node": petname, "shares": count, "bytes": size} for petname, count, size in nodes]
        print_json(_described(file, len(at)) | {"segments": segments, "stored_bytes": stored_bytes, "held": held})
        return
    pairs(
        {
            "name": file.name,
            "size": _size(file),
            "stored": human_time(file.created_at),
            "coding": f"any {file.needed} of {file.total} shares, at least {file.happy} nodes",
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
    """Give files up: the catalog forgets them, the nodes drop their shares, and their room is free again.

    There is no way back: without its shares, a file's capability reads nothing.

    \b
    Example:
      lnstore rm holiday.mp4 old.tar
    """
    from lnstore.client.files import Removed, open_client

    async def work() -> Removed:
        async with open_client(load_profile(profile)) as client:
            return await client.remove(names)

    removed = run(work)
    if as_json:
        print_json(
            {
                "ok": True,
                "removed": [file.name for file in removed.files],
                "freed_bytes": removed.freed_bytes,
                "not_told": [node.petname for node in removed.unreached],
            }
        )
        return
    files = removed.files[0].name if len(removed.files) == 1 else f"{len(removed.files)} files"
    click.echo(f"removed {files}: {human_bytes(removed.freed_bytes)} given up at the nodes")
    for node in removed.unreached:
        click.echo(f"warning: {node.petname} could not be told; it is told before its next rent proof", err=True)


@click.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@profile_option
@json_option
def mv(old: str, new: str, profile: Path | None, as_json: bool) -> None:
    """Give a file another name in your catalog; its capability stays the same.

    \b
    Example:
      lnstore mv holiday.mp4 holiday-2026.mp4
    """
    from lnstore.client.files import open_client

    async def work() -> FileEntry:
        async with open_client(load_profile(profile)) as client:
            return client.rename(old, new)

    file = run(work)
    if as_json:
        print_json({"ok": True, "name": file.name})
        return
    click.echo(f"{old} is now called {file.name}")


def _show(catalog: Catalog, files: Sequence[FileEntry], *, as_json: bool) -> None:
    nodes = {file.file_id: len({share.node_id for share in catalog.shares_of(file.file_id)}) for file in files}
    if as_json:
        for file in files:
            print_json(_described(file, nodes[file.file_id]))
        return
    if not files:
        return
    table(
        "",
        ["name", "size", "shares", "nodes #", "stored"],
        [
            [
                file.name,
                _size(file),
                f"{file.needed} of {file.total}",
                str(nodes[file.file_id]),
                human_time(file.created_at),
            ]
            for file in files
        ],
    )


def _described(file: FileEntry, nodes: int) -> dict[str, Any]:
    return {
        "name": file.name,
        "bytes": file.file_bytes,
        "complete": file.complete,
        "needed": file.needed,
        "total": file.total,
        "created_at": file.created_at,
        "nodes": nodes,
    }


def _size(file: FileEntry) -> str:
    return human_bytes(file.file_bytes) if file.file_bytes is not None else "incomplete"
