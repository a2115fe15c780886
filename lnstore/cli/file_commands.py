"""`lnstore put` and `get`: files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from lnstore.cli.output import human_bytes, json_option, print_json, profile_option, run
from lnstore.cli.session import load_profile

if TYPE_CHECKING:
    from lnstore.client.source import Readable


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--name", help="The name in your catalog (default: the file's own).")
@click.option("--needed", type=click.IntRange(1, 256), help="Shares that give the file back (default: client.toml's).")
@click.option("--total", type=click.IntRange(1, 256), help="Shares per segment (default: client.toml's).")
@click.option("--happy", type=click.IntRange(1, 256), help="Different nodes to reach (default: client.toml's).")
@profile_option
@json_option
def put(
    *,
    file: Path,
    name: str | None,
    needed: int | None,
    total: int | None,
    happy: int | None,
    profile: Path | None,
    as_json: bool,
) -> None:
    """Store FILE (or - for standard input) on your nodes, and print the capability that reads it.

    Whoever has the capability can read the file. Interrupted? The same command continues and sends nothing twice.

    \b
    Examples:
      lnstore put holiday.mp4
      tar c photos | lnstore put - --name photos.tar
    """
    from lnstore.cli.progress import transfer_bar
    from lnstore.client.files import open_client
    from lnstore.client.upload import PutResult

    if str(file) == "-" and not name:
        raise click.UsageError("standard input has no name; give it one with --name")

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
                "nodes": [
                    {"node": at.petname, "shares": at.shares, "bytes": at.share_bytes, "fault": at.fault}
                    for at in stored.nodes.values()
                ],
            }
        )
        return
    rate = stored.bytes / stored.seconds / 1e6 if stored.seconds else 0.0
    click.echo(
        f"stored {stored.name}: {human_bytes(stored.bytes)}, any {stored.needed} of {stored.total} shares "
        f"give it back, {rate:.1f} MB/s" + (f", {reused} shares were there already" if reused else "")
    )
    for at in stored.nodes.values():
        if at.fault:
            click.echo(f"warning: {at.petname}: {at.fault}", err=True)
    if stored.missing_shares:
        click.echo(f"warning: {stored.missing_shares} shares found no node; the file has less to spare", err=True)
    click.echo(stored.cap.to_text())


@click.command()
@click.argument("cap", metavar="CAP|NAME")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Where to (- or nothing when piped: standard output).",
)
@click.option("--offset", type=click.IntRange(0), default=0, help="Begin at this byte.")
@click.option("--length", type=click.IntRange(0), help="Read only so many bytes.")
@profile_option
@json_option
def get(*, cap: str, output: Path | None, offset: int, length: int | None, profile: Path | None, as_json: bool) -> None:
    """Read the file of a capability (lnsr1…) or of a name in your catalog.

    A file appears under its name only when it is complete; a failed get leaves what was there before.

    \b
    Examples:
      lnstore get holiday.mp4 -o copy.mp4
      lnstore get lnsr1… | tar x
    """
    from lnstore.cli.progress import transfer_bar
    from lnstore.client.download import GetResult
    from lnstore.client.files import find_read_cap, open_client

    to_stdout = str(output) == "-" or (output is None and not sys.stdout.isatty())
    if to_stdout and as_json:
        raise click.UsageError("--json and the file cannot share standard output; name a file with -o")

    async def work() -> tuple[Path | None, GetResult]:
        async with open_client(load_profile(profile)) as client:
            read_cap, known = find_read_cap(client.catalog, cap)
            target = None if to_stdout else output or Path(Path(known.name).name if known else "download")
            if output is None and target is not None and target.exists():
                raise click.UsageError(f"{target} exists already; say where to with -o")
            with transfer_bar(target.name if target else "reading", quiet=as_json or to_stdout) as progress:
                return target, await client.get(
                    read_cap, target or sys.stdout.buffer, progress=progress, offset=offset, length=length
                )

    target, result = run(work)
    if as_json:
        print_json({"ok": True, "output": target, "bytes": result.bytes, "seconds": round(result.seconds, 3)})
    elif target is not None:
        rate = result.bytes / result.seconds / 1e6 if result.seconds else 0.0
        click.echo(f"read {target}: {human_bytes(result.bytes)}, {rate:.1f} MB/s")
