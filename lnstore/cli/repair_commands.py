"""`lnstore check` and `repair`: whether nodes still hold what they are paid for, and what is lost stored elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.output import json_option, print_json, profile_option, progress_lines, run
from lnstore.cli.session import load_profile, open_session

if TYPE_CHECKING:
    from lnstore.client.checking import Checked, FileHealth
    from lnstore.client.diagnosis import Diagnosis
    from lnstore.client.files import Client
    from lnstore.client.purse import Purse
    from lnstore.client.repair import Repaired


@click.command()
@click.argument("file", metavar="[FILE]", required=False)
@profile_option
@json_option
@click.pass_context
def check(context: click.Context, file: str | None, profile: Path | None, as_json: bool) -> None:
    """Ask the nodes for a piece of every share of FILE (of all files) and say what is lost.

    Costs nothing. The pieces are random ones, and after a proof that failed those that it was about. Exit code 6 when
    anything is lost.

    \b
    Example:
      lnstore check holiday.mp4
    """
    from lnstore.client.checking import check as carry_out
    from lnstore.errors import ExitCode

    async def work() -> Checked:
        async with open_session(load_profile(profile)) as (purse, client):
            file_id = None if file is None else client.catalog.named(file).file_id
            return await carry_out(purse, file_id=file_id, progress=progress_lines("check", as_json=as_json))

    checked = run(work)
    if as_json:
        print_json(
            {
                "ok": all(health.sound for health in checked.files),
                "files": [_health_json(health) for health in checked.files],
                "nodes": [diagnosis_json(found) for found in checked.nodes],
                "silent": [{"node": node.petname, "error": str(error)} for node, error in checked.silent],
            }
        )
    else:
        for health in checked.files:
            click.echo(_health_sentence(health))
        for found in checked.nodes:
            if not found.sound:
                click.echo(diagnosis_sentence(found), err=True)
        for node, error in checked.silent:
            click.echo(f"{node.petname}: {error}", err=True)
        if not checked.files:
            click.echo("nothing is stored yet; store a file with: lnstore put FILE")
        elif not all(health.sound for health in checked.files):
            click.echo(f"store what is lost elsewhere with: lnstore repair {file or '--all'}", err=True)
    if not all(health.sound for health in checked.files):
        context.exit(ExitCode.DATA)


@click.command()
@click.argument("file", metavar="[FILE]", required=False)
@click.option("--all", "everything", is_flag=True, help="Every file with a known loss.")
@profile_option
@json_option
@click.pass_context
def repair(context: click.Context, *, file: str | None, everything: bool, profile: Path | None, as_json: bool) -> None:
    """Store what nodes are known to have lost of FILE at other nodes, put together again from what is left.

    What is lost is known from `lnstore check` and from failed proofs. Needs accounts with room at nodes that hold
    nothing else of the same segments, and deposits for reading. Capabilities stay as they are. Interrupted? The same
    command goes on, and sends no share twice. Exit code 6 when something could not be repaired.

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
        click.echo("nothing is known to be lost; look with: lnstore check")
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


def diagnosis_sentence(found: Diagnosis) -> str:
    """What the audit of a node found, in words."""
    if found.sound:
        return f"{found.node.petname}: showed a piece of each of {found.audited} shares"
    if found.altered:
        return (
            f"{found.node.petname}: shows all {found.audited} shares, but returned other storage tokens than you made "
            f"for {len(found.altered)} of them; rent is asked for with another challenge the next time"
        )
    why = "; ".join(f"{share.share_id.hex()[:16]} ({share.why.value})" for share in found.lost[:3])
    more = f" and {len(found.lost) - 3} more" if len(found.lost) > 3 else ""
    return f"{found.node.petname}: lost {len(found.lost)} of {found.audited} shares: {why}{more}"


def diagnosis_json(found: Diagnosis) -> dict[str, Any]:
    """The same for programs."""
    return {
        "node": found.node.petname,
        "audited": found.audited,
        "lost": [
            {"share_id": share.share_id, "fault": share.why.fault.value, "why": share.why.value} for share in found.lost
        ],
        "altered": list(found.altered),
    }


def _health_sentence(health: FileHealth) -> str:
    name = health.file.name
    silent = f", {health.unanswered} shares at nodes that do not answer" if health.unanswered else ""
    if health.spare < 0:
        return f"{name}: cannot be read now{silent}"
    if health.sound:
        return f"{name}: all {health.shares} shares are there{silent}; {health.spare} more of a segment may be lost"
    return f"{name}: {len(health.lost)} of {health.shares} shares are lost{silent}; {health.spare} more may be"


def _health_json(health: FileHealth) -> dict[str, Any]:
    return {
        "name": health.file.name,
        "shares": health.shares,
        "lost": [
            {
                "share_id": loss.share.share_id,
                "segment": loss.share.segment,
                "node_id": loss.share.node_id,
                "fault": loss.fault.value,
                "found_at": loss.found_at,
            }
            for loss in health.lost
        ],
        "unanswered": health.unanswered,
        "spare": health.spare,
    }
