"""`lnstore repair`: what nodes have lost, stored elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnstore.cli.output import json_option, print_json, profile_option, progress_lines, run
from lnstore.cli.session import load_profile, open_session

if TYPE_CHECKING:
    from lnstore.client.files import Client
    from lnstore.client.purse import Purse
    from lnstore.client.repair import Repaired


@click.command()
@click.argument("file", metavar="[FILE]", required=False)
@click.option("--all", "everything", is_flag=True, help="Every file with a known loss.")
@profile_option
@json_option
@click.pass_context
def repair(context: click.Context, *, file: str | None, everything: bool, profile: Path | None, as_json: bool) -> None:
    """Store what nodes are known to have lost of FILE at other nodes, put together again from what is left.

    What is lost is known from `lnstore check --verify` and from failed proofs. Needs accounts with room at nodes that
    hold nothing else of the same segments, and deposits for reading. Capabilities stay as they are. Interrupted? The
    same command goes on, and sends no share twice. Exit code 6 when something could not be repaired.

    \b
    Example:
      lnstore repair --all
    """
    from lnstore.errors import ExitCode

    if everything == (file is not None):
        raise click.UsageError("name a file, or --all")

    async def work() -> list[Repaired]:
        async with open_session(load_profile(profile)) as (purse, client):
            file_id = None if file is None else client.catalog.named(file).file_id
            return await carry_out_repair(purse, client, file_id=file_id, as_json=as_json)

    done = run(work)
    report_repairs(done, as_json=as_json)
    if not done and not as_json:
        click.echo("nothing is known to be lost; look with: lnstore check --verify")
    if any(one.to is None for one in done):
        context.exit(ExitCode.DATA)


async def carry_out_repair(
    purse: Purse, client: Client, *, file_id: int | None = None, as_json: bool = False
) -> list[Repaired]:
    """Repair at all nodes that may be written to and that are not suspended."""
    from lnstore.client.repair import repair as carry_out
    from lnstore.client.scores import Scores
    from lnstore.client.standing import standings, trusted

    nodes = client.catalog.nodes()
    scores = Scores(client.catalog).all([node.node_id for node in nodes], client.clock.now())
    fit, _ = trusted(*await standings(client.pool, nodes), scores)
    return await carry_out(purse, fit, file_id=file_id, progress=progress_lines("repair", as_json=as_json))


def report_repairs(done: list[Repaired], *, as_json: bool) -> None:
    """Say what was repaired, and what was not and why."""
    for one in done:
        if as_json:
            print_json(
                {
                    "ok": one.to is not None,
                    "file": one.file.name,
                    "share_id": one.share.share_id,
                    "segment": one.share.segment,
                    "from": one.share.node_id,
                    "to": None if one.to is None else one.to.node_id,
                    "sent": one.sent,
                    "reason": one.reason,
                }
            )
            continue
        what = f"{one.file.name}: share {one.share.share_id.hex()[:16]}"
        if one.to is None:
            click.echo(f"{what} is not repaired: {one.reason}", err=True)
        else:
            click.echo(f"{what} is at {one.to.petname} now")
