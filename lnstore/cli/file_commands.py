"""`lnstore put` and `get`: files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from lnstore.cli.output import SECRET_TEXT, at_option, counted, json_option, print_json, printable, profile_option, run
from lnstore.cli.session import load_profile
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from lnstore.client.source import Readable


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--name", help="The name in your catalog (default: the file's own).")
@click.option("--needed", type=click.IntRange(1, 256), help="Shares that give the file back (default: client.toml's).")
@click.option("--total", type=click.IntRange(1, 256), help="Shares per segment (default: client.toml's).")
@click.option("--happy", type=click.IntRange(1, 256), help="Different nodes to reach (default: client.toml's).")
@click.option("--dedupe", is_flag=True, help="Read it first; do not send what is stored already.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent and what that costs; store nothing.")
@profile_option
@json_option
def put(
    *,
    file: Path,
    name: str | None,
    needed: int | None,
    total: int | None,
    happy: int | None,
    dedupe: bool,
    dry_run: bool,
    profile: Path | None,
    as_json: bool,
) -> None:
    """Store FILE (a file, a folder, or - for standard input) on your nodes; print the capability that reads it.

    Whoever has the capability can read it all. Interrupted? The same command continues and sends nothing twice. A
    folder put again under its name becomes a new snapshot, for which only what changed is sent.

    With --dedupe the content decides, not name and times: what is stored already, under whatever name, is only named
    again. All that is new is read twice then.

    \b
    Examples:
      lnstore put holiday.mp4
      lnstore put ~/photos --name photos
      lnstore put ~/photos --dry-run
      lnstore put ~/renamed-photos --dedupe
      tar c photos | lnstore put - --name photos.tar
    """
    from lnstore.cli.progress import pace, transfer_bar
    from lnstore.cli.put_folder import store_folder
    from lnstore.client.files import Coding, open_client
    from lnstore.client.upload import PutResult

    if str(file) == "-" and not name:
        raise click.UsageError("standard input has no name; give it one with --name")
    if dry_run:
        from lnstore.cli.dry_run import dry_run_of

        loaded = load_profile(profile)
        config = loaded.config
        coding = Coding(needed or config.needed, total or config.total, happy or config.happy)
        dry_run_of(loaded, file, name=name, coding=coding, dedupe=dedupe, as_json=as_json)
        return
    if file.is_dir():
        store_folder(
            load_profile(profile),
            file,
            name=name,
            needed=needed,
            total=total,
            happy=happy,
            dedupe=dedupe,
            as_json=as_json,
        )
        return

    async def work() -> PutResult:
        async with open_client(load_profile(profile)) as client:
            with transfer_bar(name or file.name, quiet=as_json) as progress:
                return await client.put(
                    cast("Readable", sys.stdin.buffer) if str(file) == "-" else file,
                    name=name,
                    needed=needed,
                    total=total,
                    happy=happy,
                    progress=progress,
                    dedupe=dedupe,
                )

    try:
        stored = run(work)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    reused = sum(at.found_shares for at in stored.nodes.values())
    if as_json:
        print_json(
            {
                "ok": True,
                "name": stored.name,
                "cap": stored.cap.to_text(),
                "bytes": stored.bytes,
                "seconds": round(stored.seconds, 3),
                "needed": stored.needed,
                "total": stored.total,
                "segments": stored.segments,
                "missing_shares": stored.missing_shares,
                "reused_shares": reused,
                "same_as": stored.same_as,
                "nodes": [
                    {
                        "node": at.petname,
                        "shares": at.shares,
                        "bytes": at.share_bytes,
                        "charged_msat": at.charged_msat,
                        "fault": at.fault,
                    }
                    for at in stored.nodes.values()
                ],
            }
        )
        return
    if stored.same_as is not None:
        size = human_bytes(stored.bytes)
        click.echo(
            f"stored {printable(stored.name)}: {size}; nothing was sent, the same content is in "
            f"{printable(stored.same_as)}"
        )
        click.echo(stored.cap.to_text())
        return
    click.echo(
        f"stored {printable(stored.name)}: {human_bytes(stored.bytes)}, any {stored.needed} of {stored.total} shares "
        f"give it back, {pace(stored.bytes, stored.seconds)}"
        + (f", {reused} shares were there already" if reused else "")
    )
    for at in stored.nodes.values():
        if at.fault:
            click.echo(f"warning: {at.petname}: {at.fault}", err=True)
    if stored.missing_shares:
        click.echo(f"warning: {stored.missing_shares} shares found no node; the file has less to spare", err=True)
    click.echo(stored.cap.to_text())


@click.command()
@click.argument("cap", metavar="CAP|NAME|-", type=SECRET_TEXT)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Where to (- or nothing when piped: standard output).",
)
@click.option("--offset", type=click.IntRange(0), default=0, help="Begin at this byte.")
@click.option("--length", type=click.IntRange(0), help="Read only so many bytes.")
@at_option
@profile_option
@json_option
def get(
    *,
    cap: str,
    output: Path | None,
    offset: int,
    length: int | None,
    at: int | None,
    profile: Path | None,
    as_json: bool,
) -> None:
    """Read the file or folder of a capability (lnsr1…) or of a name in your catalog; NAME/PATH is a part of a folder.

    With - the capability is the first line of standard input, so that it is not among the arguments, which others on
    this machine can see.

    A file or folder appears under its name only when it is complete; a failed get leaves what was there before.

    \b
    Examples:
      lnstore get holiday.mp4 -o copy.mp4
      lnstore get lnsr1… | tar x
      lnstore get photos/2026/beach.jpg
      lnstore get photos --at 2026-11-01 -o photos-then
    """
    from lnstore.cli.progress import pace, transfer_bar
    from lnstore.client.download import GetResult
    from lnstore.client.files import open_client
    from lnstore.client.folder_get import FolderRead, get_entry, get_folder
    from lnstore.client.naming import find_stored
    from lnstore.client.sink import StreamSink
    from lnstore_protocol.trees import Kind

    to_stdout = str(output) == "-" or (output is None and not sys.stdout.isatty())
    if to_stdout and as_json:
        raise click.UsageError("--json and the file cannot share standard output; name a file with -o")

    def target_of(known: str) -> Path:
        target = output or Path(Path(known).name or "download")
        if output is None and target.exists():
            raise click.UsageError(f"{target} exists already; say where to with -o")
        return target

    async def work() -> tuple[Path | None, GetResult | FolderRead]:
        async with open_client(load_profile(profile)) as client, find_stored(client, cap, at=at) as stored:
            quiet = as_json or (to_stdout and sys.stdout.isatty())
            if stored.tree is not None and stored.tree.find(stored.within).kind is Kind.DIRECTORY:
                if to_stdout:
                    raise click.UsageError("a folder cannot go to standard output; say where to with -o")
                if offset or length is not None:
                    raise click.UsageError("a folder has no bytes to begin at; name a file in it")
                folder = target_of(stored.name)
                with transfer_bar(folder.name, quiet=quiet) as progress:
                    read = await get_folder(client, stored.tree, folder, within=stored.within, progress=progress)
                return folder, read
            target = None if to_stdout else target_of(stored.name)
            with transfer_bar(stored.name or "reading", quiet=quiet) as progress:
                if stored.tree is not None:
                    result = await get_entry(
                        client,
                        stored.tree,
                        stored.within,
                        target or StreamSink(sys.stdout.buffer),
                        progress=progress,
                        offset=offset,
                        length=length,
                    )
                else:
                    result = await client.get(
                        stored.cap, target or sys.stdout.buffer, progress=progress, offset=offset, length=length
                    )
            return target, result

    target, result = run(work)
    files = result.files if isinstance(result, FolderRead) else None
    if as_json:
        told = {"ok": True, "output": target, "bytes": result.bytes, "seconds": round(result.seconds, 3)}
        print_json(told if files is None else told | {"files": files})
        return
    what = "" if files is None else f"{counted(files, 'file')}, "
    line = f"{what}{human_bytes(result.bytes)}, {pace(result.bytes, result.seconds)}"
    if target is not None:
        click.echo(f"read {printable(str(target))}: {line}")
    elif sys.stderr.isatty() and not sys.stdout.isatty():
        click.echo(f"read {line}", err=True)
