"""`lnstore status`: what is due, what was done and what needs a person, from what the profile remembers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.agent_commands import alert_line
from lnstore.cli.budget_lines import budgets_json, print_budgets
from lnstore.cli.output import human_msat, human_time, json_option, print_json, profile_option, run, table
from lnstore.cli.session import load_profile, open_unheld

if TYPE_CHECKING:
    from lnstore.client.agent.report import NodeReport, Report
    from lnstore.client.agent.schedule import Planned, Run

NEXT_SHOWN = 5
"""So many of the jobs to come are named; --json has all."""


@click.command()
@profile_option
@json_option
@click.pass_context
def status(context: click.Context, profile: Path | None, as_json: bool) -> None:
    """Show when rent is due, how nodes are scored, what the agent did and will do, and what needs you.

    Reads what the profile remembers: asks no node, and needs no agent that runs. Exit code 8 when something needs you.

    \b
    Example:
      lnstore status
    """
    from lnstore.client.agent.report import report
    from lnstore.errors import ExitCode

    loaded = load_profile(profile)

    async def work() -> Report:
        async with open_unheld(loaded) as (purse, _):
            return report(purse, loaded.directory)

    found = run(work)
    if as_json:
        print_json(_json(found))
    else:
        _print(found)
    if found.alerts:
        context.exit(ExitCode.ALERTS)


def _print(found: Report) -> None:
    if found.nodes:
        columns = ["node", "rent is due", "rent per period", "score", "lost", "rent looked after", "audited"]
        table("", columns, [_row(row) for row in found.nodes])
    else:
        click.echo("you have no account yet; open one with: lnstore rent buy NODE SIZE")
    click.echo(f"agent: {'not running' if found.agent is None else f'at work (process {found.agent})'}")
    for health in found.below:
        name = health.file.folder or health.file.name
        what = "cannot be read" if health.spare < 0 else f"can spare {health.spare} more shares of a segment"
        click.echo(f"below what is to be spared: {name} {what}")
    backup = "never" if found.last_backup_at is None else human_time(found.last_backup_at)
    click.echo(f"last backup: {backup}")
    print_budgets(found.budgets, _petnames(found))
    for one in found.planned[:NEXT_SHOWN]:
        click.echo(f"next: {_job_words(found, one)}")
    for alert in found.alerts:
        click.echo(alert_line(alert))
    if not found.alerts:
        click.echo("nothing needs you")


def _row(row: NodeReport) -> list[str]:
    rent = row.rent
    return [
        rent.node.petname,
        "never" if rent.next_due_at is None else human_time(rent.next_due_at),
        human_msat(rent.rent_msat_per_period),
        f"{row.score.value}{' (suspended)' if row.score.suspended else ''}",
        f"{row.lost:,}",
        _last(row.rent_run),
        _last(row.audit_run),
    ]


def _last(run: Run | None) -> str:
    return "never" if run is None or run.last_ok_at is None else human_time(run.last_ok_at)


def _petnames(found: Report) -> dict[bytes, str]:
    return {bytes(row.rent.node.node_id): row.rent.node.petname for row in found.nodes}


def _job_words(found: Report, planned: Planned) -> str:
    kind, petname = _job(found, planned.job.name)
    what = kind if petname is None else f"{kind} {petname}"
    return f"{what}, {'now' if planned.at <= found.now else human_time(planned.at)}"


def _job(found: Report, name: str) -> tuple[str, str | None]:
    from lnstore.client.agent.jobs import job_parts

    kind, node_id = job_parts(name)
    return kind, None if node_id is None else _petnames(found).get(node_id)


def _json(found: Report) -> dict[str, Any]:
    from lnstore.client.agent.hook import alert_json

    return {
        "ok": not found.alerts,
        "now_at": found.now,
        "agent": found.agent,
        "nodes": [
            {
                "node": row.rent.node.petname,
                "node_id": row.rent.node.node_id,
                "rent_due_at": row.rent.next_due_at,
                "paid_until_at": row.rent.ours.paid_until_at if row.rent.ours else None,
                "rent_msat_per_period": row.rent.rent_msat_per_period,
                "score": row.score.value,
                "suspended": row.score.suspended,
                "shares": row.rent.shares_in_catalog,
                "lost": row.lost,
                "last_audit_at": row.audit_run.last_ok_at if row.audit_run else None,
            }
            for row in found.nodes
        ],
        "files_below": [{"name": health.file.name, "spare": health.spare} for health in found.below],
        "last_backup_at": found.last_backup_at,
        "budgets": budgets_json(found.budgets)
        + [
            {**one, "node": row.rent.node.petname}
            for row in found.nodes
            for one in budgets_json((use for use in found.budgets if use.node_id is not None), row.rent.node.node_id)
        ],
        "jobs": [_job_json(found, one, found.runs.get(one.job.name)) for one in found.planned],
        "alerts": [alert_json(alert, _job(found, alert.job)[1]) for alert in found.alerts],
    }


def _job_json(found: Report, planned: Planned, last: Run | None) -> dict[str, Any]:
    kind, petname = _job(found, planned.job.name)
    return {
        "job": kind,
        "node": petname,
        "next_at": planned.at,
        "last_at": last.last_at if last else None,
        "last_ok_at": last.last_ok_at if last else None,
        "failures": last.failures if last else 0,
        "failing_since": last.failing_since if last else None,
        "result": last.result if last else "",
    }
