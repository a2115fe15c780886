"""`lnstore nodes retire`: everything off a node, and away from it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.budget_lines import print_verdicts, verdicts_json
from lnstore.cli.output import human_msat, human_time, json_option, print_json, profile_option, progress_lines, run
from lnstore.cli.repair_commands import report_repairs
from lnstore.cli.session import chosen_nodes, load_profile, open_purse, open_session
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from lnstore.client.retire_plan import RetirePlan
    from lnstore.client.retiring import Retired
    from lnstore.errors import ExitCode


@click.command()
@click.argument("node", metavar="NODE")
@click.option("--dry-run", is_flag=True, help="Say what would be moved where and what it costs; change nothing.")
@click.option("--cancel", is_flag=True, help="Use the node again; what was moved stays where it is.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@profile_option
@json_option
@click.pass_context
def retire(
    context: click.Context,
    *,
    node: str,
    dry_run: bool,
    cancel: bool,
    yes: bool,
    profile: Path | None,
    as_json: bool,
) -> None:
    """Move everything off NODE to your other nodes, then end the account there. Nothing new is stored there meanwhile.

    Each share is stored elsewhere first and given up at NODE then, so that no file has fewer shares than before; what
    finds no other node stays, and so does the account. Reading and writing is paid from your deposits; nothing is
    rented for it: --dry-run says what is lacking where, what that costs, and what your budgets say. A node that is gone
    for good can be retired too: its shares are put together from the others. Interrupted? The same command goes on.

    Exit code 6 when something had to stay, else 4 when NODE could not be told.

    \b
    Example:
      lnstore nodes retire alice --dry-run
      lnstore nodes retire alice --yes
    """
    if cancel:
        _cancel(node, profile, as_json=as_json)
        return
    if dry_run or not yes:
        plan = _plan(node, profile)
        if dry_run and as_json:
            print_json(_plan_json(plan))
            return
        _tell_plan(plan, err=not dry_run)
        if dry_run:
            return
        click.confirm(f"move everything off {plan.node.petname} and leave it?", abort=True, err=True)
    retired = _carry_out(node, profile, as_json=as_json)
    report_repairs(list(retired.moves), as_json=as_json)
    if as_json:
        print_json(_json(retired))
    else:
        _tell(retired)
    context.exit(_exit_code(retired))


def _exit_code(retired: Retired) -> ExitCode:
    from lnstore.errors import ExitCode

    if retired.stuck:
        return ExitCode.DATA
    return ExitCode.OK if retired.is_over else ExitCode.NODE


def _plan(node: str, profile: Path | None) -> RetirePlan:
    from lnstore.client.retire_plan import plan_retire
    from lnstore.client.targets import find_targets

    async def work() -> RetirePlan:
        async with open_session(load_profile(profile)) as (purse, client):
            (entry,) = chosen_nodes(purse.catalog, (node,), everything=False)
            return await plan_retire(purse, entry, await find_targets(client))

    return run(work)


def _carry_out(node: str, profile: Path | None, *, as_json: bool) -> Retired:
    from lnstore.client.retiring import mark
    from lnstore.client.retiring import retire as carry_out
    from lnstore.client.targets import find_targets

    async def work() -> Retired:
        async with open_session(load_profile(profile)) as (purse, client):
            (entry,) = chosen_nodes(purse.catalog, (node,), everything=False)
            await purse.write(lambda: mark(purse.catalog, entry.node_id, retiring=True))
            progress = progress_lines("retire", as_json=as_json)
            return await carry_out(purse, entry, await find_targets(client), progress=progress)

    return run(work)


def _cancel(node: str, profile: Path | None, *, as_json: bool) -> None:
    from lnstore.client.retiring import mark

    async def work() -> str:
        async with open_purse(profile) as purse:
            (entry,) = chosen_nodes(purse.catalog, (node,), everything=False)
            await purse.write(lambda: mark(purse.catalog, entry.node_id, retiring=False))
            return entry.petname

    petname = run(work)
    if as_json:
        print_json({"ok": True, "node": petname, "retiring": False})
    else:
        click.echo(f"{petname} is used again")


# --- the plan ---------------------------------------------------------------------------------------------------------


def _tell_plan(plan: RetirePlan, *, err: bool) -> None:
    name = plan.node.petname

    def say(line: str) -> None:
        click.echo(line, err=err)

    say(f"{name}: {plan.shares} shares, {human_bytes(plan.share_bytes)}, would be moved")
    if plan.problem:
        say(f"{name}: {plan.problem}")
    if plan.rebuilt:
        say(f"{plan.rebuilt} of them would be put together from other shares")
    for load in plan.loads:
        lacking = (
            f"; {human_bytes(load.rent_bytes)} more have to be rented there first, "
            f"{human_msat(load.rent_msat_per_month)} a month: "
            f"lnstore rent buy {load.petname} {load.capacity_bytes + load.rent_bytes}"
            if load.rent_bytes
            else ""
        )
        say(f"  to {load.petname}: {load.shares} shares, {human_bytes(load.share_bytes)}{lacking}")
    if plan.superfluous:
        say(f"{plan.superfluous} copies of manifests are not needed elsewhere")
    if plan.stuck:
        say(f"{plan.stuck} shares would stay: every other node that may be written to holds something of their segment")
        for unfit in plan.unfit:
            say(f"  {unfit.node.petname}: {unfit.reason}")
    say(
        f"reading takes up to {human_msat(plan.read_msat)} of deposits ({human_msat(plan.deposit_msat)} are at "
        f"{name}), writing {human_msat(plan.ingress_msat)}"
    )
    if not err:
        print_verdicts(plan.budgets)
    if plan.parting is not None:
        until = human_time(plan.parting.paid_until_at)
        say(f"the account, paid until {until}, ends then; {human_msat(plan.parting.refund_msat)} come back")


def _plan_json(plan: RetirePlan) -> dict[str, Any]:
    parting = plan.parting
    return {
        "node": plan.node.petname,
        "shares": plan.shares,
        "share_bytes": plan.share_bytes,
        "superfluous": plan.superfluous,
        "stuck": plan.stuck,
        "rebuilt": plan.rebuilt,
        "problem": plan.problem,
        "to": [asdict(load) for load in plan.loads],
        "unfit": [{"node": one.node.petname, "reason": one.reason} for one in plan.unfit],
        "read_msat": plan.read_msat,
        "deposit_msat": plan.deposit_msat,
        "ingress_msat": plan.ingress_msat,
        "rent_msat_per_month": plan.rent_msat_per_month,
        "budgets": verdicts_json(plan.budgets),
        "refund_msat": None if parting is None else parting.refund_msat,
        "paid_until_at": None if parting is None else parting.paid_until_at,
    }


# --- the result -------------------------------------------------------------------------------------------------------


def _tell(retired: Retired) -> None:
    name = retired.node.petname
    moved = len(retired.moves) - len(retired.stuck)
    click.echo(f"{name}: {moved} shares moved, {len(retired.stuck)} had to stay")
    if retired.left is not None:
        back, deposit = human_msat(retired.left.refund_msat), human_msat(retired.left.deposit_msat)
        click.echo(f"{name}: left; {back} came back, the deposit there is {deposit}")
    else:
        click.echo(f"{name}: not left: {retired.why_not_left}", err=True)


def _json(retired: Retired) -> dict[str, Any]:
    return {
        "ok": retired.is_over,
        "node": retired.node.petname,
        "moved": len(retired.moves) - len(retired.stuck),
        "stuck": len(retired.stuck),
        "superfluous": retired.superfluous,
        "left_at": None if retired.left is None else retired.left.left_at,
        "refund_msat": None if retired.left is None else retired.left.refund_msat,
        "deposit_msat": None if retired.left is None else retired.left.deposit_msat,
        "reason": retired.why_not_left,
    }
