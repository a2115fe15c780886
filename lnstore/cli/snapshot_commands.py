"""`lnstore snapshots` and `forget`: the dated snapshots of folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lnstore.cli.listing import show_removed
from lnstore.cli.output import (
    MOMENT,
    counted,
    human_time,
    json_option,
    print_json,
    printable,
    profile_option,
    run,
    seconds_argument,
    table,
)
from lnstore.cli.session import load_profile
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from lnstore.client.catalog_changes import Forgotten

F = TypeVar("F", bound=Callable[..., Any])


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
        [[s.folder, human_time(s.taken_at), str(s.entries), human_bytes(s.plain_bytes)] for s in taken],
    )


class _Count(click.ParamType[int]):
    """How many to keep, or all."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from lnstore.client.keeping import UNLIMITED

        if value == "unlimited":
            return UNLIMITED
        return click.IntRange(0).convert(value, param, ctx)


def _keep_option(each: str) -> Callable[[F], F]:
    text = "The newest N snapshots." if each == "last" else f"The newest of each of N {each}."
    name = {"hours": "hourly", "days": "daily", "weeks": "weekly", "months": "monthly", "years": "yearly"}
    return click.option(f"--keep-{name.get(each, each)}", metavar="N", type=_Count(), default=0, help=text)


@click.command()
@click.argument("folders", metavar="[FOLDER]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All folders, each for itself.")
@_keep_option("last")
@_keep_option("hours")
@_keep_option("days")
@_keep_option("weeks")
@_keep_option("months")
@_keep_option("years")
@click.option("--keep-within", metavar="TIME", help="All from the newest back to so long before it (30d, 12h).")
@click.option("--at", type=MOMENT, metavar="TIME", help="Forget only the snapshot that `get --at TIME` reads.")
@click.option("--dry-run", is_flag=True, help="Say which would be forgotten and what that frees; forget nothing.")
@profile_option
@json_option
def forget(
    *,
    folders: tuple[str, ...],
    every: bool,
    keep_within: str | None,
    at: int | None,
    dry_run: bool,
    profile: Path | None,
    as_json: bool,
    **counts: int,
) -> None:
    """Forget the snapshots of each FOLDER that no --keep option keeps; what only they needed is given up at the nodes.

    Hours, days, weeks (from Monday), months and years are those of UTC, counted from the newest that has a snapshot.
    With fewer of them than N the oldest snapshot is kept too. N may be "unlimited".

    \b
    Examples:
      lnstore forget photos --keep-daily 7 --keep-weekly 5 --keep-monthly 12
      lnstore forget --all --keep-within 30d --keep-monthly unlimited --dry-run
      lnstore forget photos --at 2026-11-01T18:00
    """
    from lnstore.client.catalog_changes import forget
    from lnstore.client.files import open_client
    from lnstore.client.folder_catalog import FolderCatalog
    from lnstore.client.keeping import Keep

    if bool(folders) == every:
        raise click.UsageError("name folders, or say --all")
    given = {option.removeprefix("keep_"): count for option, count in counts.items() if count}
    within = 0 if keep_within is None else seconds_argument(keep_within, "--keep-within")
    if at is not None and (given or within or every):
        raise click.UsageError("--at names one snapshot; say that, or what to keep")
    try:
        keep = at if at is not None else Keep(**given, within_seconds=within)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc

    async def work() -> list[Forgotten]:
        async with open_client(load_profile(profile)) as client:
            known = FolderCatalog(client.catalog)
            names = dict.fromkeys(snapshot.folder for snapshot in known.snapshots()) if every else folders
            for name in names:
                known.newest(name)
            return [await forget(client, name, keep, pretend=dry_run) for name in names]

    for done in run(work):
        _show(done, dry_run=dry_run, as_json=as_json)


def _show(done: Forgotten, *, dry_run: bool, as_json: bool) -> None:
    kept = {snapshot.taken_at: reasons for snapshot, reasons in done.kept}
    times = [snapshot.taken_at for snapshot in done.gone]
    if not as_json:
        for at in sorted((*kept, *times), reverse=True):
            what = ("would be forgotten" if dry_run else "forgotten") if at in times else "kept"
            why = f" ({', '.join(kept[at])})" if kept.get(at) else ""
            click.echo(f"{printable(done.folder)} of {human_time(at)}: {what}{why}")
    count = f"{counted(len(times), 'snapshot')} of {printable(done.folder)}, {len(kept)} kept"
    show_removed(
        done.removed,
        f"would forget {count}" if dry_run else f"forgot {count}",
        as_json=as_json,
        folder=done.folder,
        forgotten=times,
        kept=[{"taken_at": at, "for": reasons} for at, reasons in kept.items()],
        dry_run=dry_run,
    )
