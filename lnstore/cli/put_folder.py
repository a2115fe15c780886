"""`lnstore put FOLDER`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from lnstore.cli.output import counted, print_json, printable, run
from lnstore.client.files import Coding, open_client
from lnstore.client.folder_put import FolderStored, put_folder
from lnstore.client.profile import Profile
from lnstore.client.walk import Problem
from lnstore.errors import ExitCode
from lnstore.sizes import human_bytes

SHOWN_PROBLEMS = 20


def store_folder(
    profile: Profile,
    folder: Path,
    *,
    name: str | None,
    needed: int | None,
    total: int | None,
    happy: int | None,
    dedupe: bool,
    as_json: bool,
) -> None:
    """Store a folder; exit code 6 when something in it could not be read."""
    from lnstore.cli.progress import pace, transfer_bar

    config = profile.config
    coding = Coding(needed or config.needed, total or config.total, happy or config.happy)

    async def work() -> FolderStored:
        async with open_client(profile) as client:
            with transfer_bar(name or folder.name or str(folder), quiet=as_json) as progress:
                return await put_folder(client, folder, name=name, coding=coding, progress=progress, dedupe=dedupe)

    stored = run(work)
    if as_json:
        print_json(
            {
                "ok": not stored.problems,
                "name": stored.snapshot.folder,
                "cap": stored.cap.to_text(),
                "taken_at": stored.snapshot.taken_at,
                "files": stored.files,
                "entries": stored.snapshot.entries,
                "bytes": stored.snapshot.plain_bytes,
                "sent_bytes": stored.sent_bytes,
                "same_files": stored.same_files,
                "seconds": round(stored.seconds, 3),
                "missing_shares": stored.missing_shares,
                "problems": [str(problem) for problem in stored.problems],
            }
        )
    else:
        size = human_bytes(stored.snapshot.plain_bytes)
        click.echo(
            f"stored {printable(stored.snapshot.folder)}: {counted(stored.files, 'file')}, {size}; "
            f"{human_bytes(stored.sent_bytes)} were new, {pace(stored.sent_bytes, stored.seconds)}"
            + (f"; stored already: {counted(stored.same_files, 'file')}" if stored.same_files else "")
        )
        tell_problems(stored.problems)
        if stored.missing_shares:
            click.echo(f"warning: {stored.missing_shares} shares found no node; the folder has less to spare", err=True)
        click.echo(stored.cap.to_text())
    if stored.problems:
        raise click.exceptions.Exit(ExitCode.DATA)


def tell_problems(problems: Sequence[Problem]) -> None:
    """Warn of the first of them."""
    for problem in problems[:SHOWN_PROBLEMS]:
        click.echo(f"warning: {printable(str(problem))}", err=True)
    if len(problems) > SHOWN_PROBLEMS:
        click.echo(f"warning: and {len(problems) - SHOWN_PROBLEMS} more; --json lists them all", err=True)
