"""`lnstore snapshots` and `forget`: the dated snapshots of folders."""

from __future__ import annotations

from pathlib import Path

import click

from lnstore.cli.listing import printable, show_removed
from lnstore.cli.output import human_bytes, human_time, json_option, print_json, profile_option, run, table
from lnstore.cli.session import load_profile


@click.command()
@click.argument("folder", metavar="[FOLDER]", required=False)
@profile_option
@json_option
def snapshots(folder: str | None, profile: Path | None, as_json: bool) -> None:
    """List the snapshots of all folders, or of one. `lnstore get FOLDER --at TIME` reads an old one.

    \b
    Example:
      lnstore snapshots photos
    """
    from lnstore.client.folder_catalog import FolderCatalog

    with load_profile(profile).open_catalog() as catalog:
        folders = FolderCatalog(catalog)
        if folder is not None:
            folders.newest(folder)
        taken = folders.snapshots(folder)
    if as_json:
        for snapshot in taken:
            described = {"folder": snapshot.folder, "taken_at": snapshot.taken_at, "entries": snapshot.entries}
            print_json(described | {"bytes": snapshot.plain_bytes})
        return
    if not taken:
        click.echo("there is no folder yet; store one with: lnstore put FOLDER")
        return
    table(
        "",
        ["folder", "taken", "entries #", "size"],
        [[printable(s.folder), human_time(s.taken_at), str(s.entries), human_bytes(s.plain_bytes)] for s in taken],
    )


@click.command()
@click.argument("folder", metavar="FOLDER")
@click.option("--keep-last", metavar="N", type=click.IntRange(0), default=0, help="The newest N snapshots.")
@click.option("--keep-daily", metavar="N", type=click.IntRange(0), default=0, help="The newest of each of N days.")
@click.option("--keep-weekly", metavar="N", type=click.IntRange(0), default=0, help="The newest of each of N weeks.")
@click.option("--keep-monthly", metavar="N", type=click.IntRange(0), default=0, help="The newest of each of N months.")
@click.option("--keep-yearly", metavar="N", type=click.IntRange(0), default=0, help="The newest of each of N years.")
@click.option("--dry-run", is_flag=True, help="Say which would be forgotten, and forget nothing.")
@profile_option
@json_option
def forget(
    *,
    folder: str,
    keep_last: int,
    keep_daily: int,
    keep_weekly: int,
    keep_monthly: int,
    keep_yearly: int,
    dry_run: bool,
    profile: Path | None,
    as_json: bool,
) -> None:
    """Forget the snapshots of FOLDER that no --keep option keeps; what only they needed is given up at the nodes.

    Days, weeks (from Monday), months and years are those of UTC, counted from the newest that has a snapshot.

    \b
    Example:
      lnstore forget photos --keep-daily 7 --keep-weekly 5 --keep-monthly 12
    """
    from lnstore.client.catalog_changes import Removed, forget
    from lnstore.client.files import open_client
    from lnstore.client.folder_catalog import Snapshot
    from lnstore.client.keeping import Keep

    try:
        keep = Keep(last=keep_last, daily=keep_daily, weekly=keep_weekly, monthly=keep_monthly, yearly=keep_yearly)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc

    async def work() -> tuple[list[Snapshot], Removed]:
        async with open_client(load_profile(profile)) as client:
            return await forget(client, folder, keep, pretend=dry_run)

    gone, removed = run(work)
    times = [snapshot.taken_at for snapshot in gone]
    if not as_json:
        for at in times:
            click.echo(f"{'would forget' if dry_run else 'forgot'} {printable(folder)} of {human_time(at)}")
    if dry_run and not as_json:
        return
    count = f"{len(gone)} snapshot{'' if len(gone) == 1 else 's'}"
    show_removed(removed, f"forgot {count}", as_json=as_json, forgotten=times, dry_run=dry_run)
