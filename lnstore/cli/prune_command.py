"""`lnstore prune`: room that forgotten snapshots left in packs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnstore.cli.listing import show_removed
from lnstore.cli.output import counted, json_option, print_json, printable, profile_option, run
from lnstore.cli.session import load_profile
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from lnstore.client.pruning import Pruned

DEFAULT_PERCENT = 50


@click.command()
@click.option(
    "--max-unused",
    "percent",
    type=click.IntRange(0, 99),
    default=DEFAULT_PERCENT,
    show_default=True,
    metavar="PERCENT",
    help="Leave packs alone of which at most so much is not needed.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be read and stored anew; change nothing.")
@profile_option
@json_option
def prune(percent: int, *, dry_run: bool, profile: Path | None, as_json: bool) -> None:
    """Free what forgotten snapshots left behind in packs of small files that others still need in part.

    What is needed of such packs is read from the nodes, for their price of reading, and stored anew. The snapshots that
    need it get new capabilities; old ones of them read nothing any more. Interrupted? Run it again.

    \b
    Example:
      lnstore prune --max-unused 30 --dry-run
    """
    from lnstore.cli.progress import transfer_bar
    from lnstore.client.files import open_client
    from lnstore.client.pruning import prune

    async def work() -> Pruned:
        async with open_client(load_profile(profile)) as client:
            with transfer_bar("pruning", quiet=as_json or dry_run) as progress:
                return await prune(client, most_unused_percent=percent, pretend=dry_run, progress=progress)

    done = run(work)
    snapshots = [{"folder": one.folder, "taken_at": one.taken_at} for one in done.snapshots]
    figures = {"packs": done.packs, "pack_bytes": done.pack_bytes, "moved_bytes": done.moved_bytes}
    if dry_run and as_json:
        print_json({"ok": True, **figures, "snapshots": snapshots, "dry_run": True})
        return
    what = describe(done)
    if dry_run:
        click.echo(f"would prune {what}")
        return
    show_removed(done.removed, f"pruned {what}", as_json=as_json, **figures, snapshots=snapshots, dry_run=False)


def describe(done: Pruned) -> str:
    """Which packs, for a person."""
    if not done.packs:
        return "no packs"
    packs = f"{counted(done.packs, 'pack')} of {human_bytes(done.pack_bytes)}"
    folders = ", ".join(dict.fromkeys(printable(one.folder) for one in done.snapshots))
    needed = f"{human_bytes(done.moved_bytes)} are needed by {counted(len(done.snapshots), 'snapshot')} of {folders}"
    return f"{packs}, of which {needed}"
