"""`lnstore rent status`: how the accounts stand, by the nodes and by our own books."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.agree_command import change_json, change_sentence
from lnstore.cli.budget_lines import budgets_json, print_budgets
from lnstore.cli.output import human_msat, human_time, json_option, print_json, profile_option, run
from lnstore.cli.rent_status_table import difference_sentence, print_table, status_json
from lnstore.cli.session import open_purse
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from lnstore.client.audit import LostShare
    from lnstore.client.budgets import BudgetUse
    from lnstore.client.catalog import NodeEntry
    from lnstore.client.rent_status import RentStatus
    from lnstore_protocol.ids import NodeId


@click.command()
@click.option("--audit", is_flag=True, help="Also ask for one random piece of every share; name those that are lost.")
@profile_option
@json_option
def status(audit: bool, profile: Path | None, as_json: bool) -> None:
    """How your accounts stand, in the nodes' numbers, held against your own books: (!) marks where they differ.

    The last line adds them up; its time is the first at which some node is to be paid. Below stand your budgets.

    \b
    Example:
      lnstore rent status
    """
    from lnstore.client.audit import find_lost
    from lnstore.client.budgets import all_budgets
    from lnstore.client.channel_watch import channel_warnings
    from lnstore.client.rent_status import rent_status

    async def work() -> tuple[list[RentStatus], dict[bytes, list[LostShare]], dict[NodeId, str], list[BudgetUse]]:
        async with open_purse(profile) as purse:
            rows = await rent_status(purse)
            lost: dict[bytes, list[LostShare]] = {}
            if audit:
                for row in rows:
                    if row.status is not None:
                        lost[row.node.node_id] = await find_lost(purse, row.node)
            return (
                rows,
                lost,
                await channel_warnings(purse),
                all_budgets(purse.catalog, purse.budgets, purse.clock.now()),
            )

    rows, lost, warnings, budgets = run(work)
    if as_json:
        for row in rows:
            shown = rent_status_json(row, lost.get(row.node.node_id) if audit else None)
            shown["budgets"] = budgets_json(budgets, row.node.node_id)
            print_json({**shown, "channel_warning": warnings.get(row.node.node_id, "")})
        return
    print_table(rows)
    click.echo(f"paid in all: {human_msat(sum(row.paid_msat + row.fees_msat for row in rows))}, fees included")
    print_budgets(budgets, {row.node.node_id: row.node.petname for row in rows})
    for row in rows:
        if row.error:
            click.echo(f"{row.node.petname}: {row.error}", err=True)
        elif row.status is not None and row.status.removed_at is not None:
            click.echo(
                f"{row.node.petname}: nothing was paid for this account, and the node gives it up at "
                f"{human_time(row.status.removed_at)}; rent with: lnstore rent buy {row.node.petname} SIZE",
                err=True,
            )
        elif sentence := difference_sentence(row):
            click.echo(sentence, err=True)
        if (shrinking := _shrinking_sentence(row)) is not None:
            click.echo(shrinking)
        if row.warning:
            click.echo(row.warning, err=True)
        if row.change is not None:
            click.echo(change_sentence(row.change), err=True)
        _report_audit(row.node, lost.get(row.node.node_id))
    for warning in warnings.values():
        click.echo(warning, err=True)


def _shrinking_sentence(row: RentStatus) -> str | None:
    if row.status is None or row.status.shrink_to_bytes is None:
        return None
    period = row.status.shrink_period
    return f"{row.node.petname}: {human_bytes(row.status.shrink_to_bytes)} from period {period} on"


def _report_audit(node: NodeEntry, lost: list[LostShare] | None) -> None:
    if lost is None:
        return
    if not lost:
        click.echo(f"{node.petname}: showed a piece of every share")
    for share in lost:
        click.echo(f"{node.petname}: lost share {share.share_id.hex()} ({share.why.value})")


def rent_status_json(row: RentStatus, lost: list[LostShare] | None) -> dict[str, Any]:
    """What `rent status --json` prints for a node; `lost` only with --audit."""
    shown = {**status_json(row), "change": change_json(row.change)}
    if lost is not None:
        shown["lost"] = [{"share_id": share.share_id, "why": share.why.value} for share in lost]
    return shown
