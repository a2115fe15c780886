"""What `lnstore put --dry-run` says: what would be sent, what room and what money that takes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from lnstore.cli.budget_lines import print_verdicts, verdicts_json
from lnstore.cli.output import human_msat, print_json, run
from lnstore.cli.put_folder import tell_problems
from lnstore.client.dedupe import find_file
from lnstore.client.files import Coding, open_client
from lnstore.client.folder_plan import FolderPlan, plan_folder
from lnstore.client.profile import Profile
from lnstore.client.purse import Purse
from lnstore.client.put_cost import PutCost, cost_of
from lnstore.client.standing import rent_size
from lnstore.lightning.core import CoreLightning
from lnstore.sizes import human_bytes


def dry_run_of(profile: Profile, path: Path, *, name: str | None, coding: Coding, dedupe: bool, as_json: bool) -> None:
    """Say what a put would send and cost. Nothing is stored, paid, or held against other commands."""
    if str(path) == "-":
        raise click.UsageError("nobody knows how much standard input will bring; put it, or name a file")

    async def work() -> tuple[FolderPlan, PutCost]:
        async with open_client(profile) as client:
            if path.is_dir():
                plan = await plan_folder(client, path, name=name, dedupe=coding if dedupe else None)
            else:
                size = path.stat().st_size
                same = await find_file(client, path, coding) if dedupe else None
                objects = () if same is not None else (size,)
                plan = FolderPlan(files=1, plain_bytes=size, sent_bytes=sum(objects), objects=objects, problems=())
            lightning = CoreLightning(profile.config.lightning_rpc)
            purse = Purse.of(profile, client.catalog, lightning, client.pool.dial, client.clock)
            return plan, await cost_of(purse, client, plan.objects, coding)

    try:
        plan, cost = run(work)
    except OSError as exc:
        raise click.UsageError(f"{path} cannot be read: {exc.strerror}") from exc
    if as_json:
        print_json(
            {
                "files": plan.files,
                "bytes": plan.plain_bytes,
                "sent_bytes": plan.sent_bytes,
                "problems": [str(problem) for problem in plan.problems],
                **asdict(cost),
                "unfit": [{"node": one.node.petname, "reason": one.reason} for one in cost.unfit],
                "budgets": verdicts_json(cost.budgets),
            }
        )
        return
    print_plan(plan, cost, coding)


def print_plan(plan: FolderPlan, cost: PutCost, coding: Coding) -> None:
    """The same for a person."""
    click.echo(
        f"would send {human_bytes(plan.sent_bytes)} of {human_bytes(plan.plain_bytes)} in {plan.files} files: any "
        f"{coding.needed} of {coding.total} shares, {human_bytes(cost.stored_bytes)} in {cost.shares:,} shares "
        f"({cost.manifests:,} of them manifests), {human_bytes(cost.bytes_per_node)} a node"
    )
    tell_problems(plan.problems)
    for one in cost.unfit:
        click.echo(f"warning: {one.node.petname}: {one.reason}", err=True)
    if cost.short:
        click.echo(f"warning: {cost.short} nodes are missing; add some with: lnstore nodes add", err=True)
    for node in cost.nodes:
        if node.rent_bytes:
            more = f"{human_bytes(node.free_bytes)} are free, {human_bytes(node.rent_bytes)} more are needed"
            size = rent_size(node.capacity_bytes + node.rent_bytes)
            advice = (
                "ask the account's holder for a larger delegation"
                if node.held_by_another
                else f"{human_msat(node.rent_msat_per_month)} a month: lnstore rent buy {node.petname} {size}"
            )
            click.echo(f"{node.petname}: {more}; {advice}")
        if node.ingress_msat > node.deposit_msat:
            size = rent_size(node.capacity_bytes + node.rent_bytes)
            click.echo(
                f"{node.petname}: writing costs {human_msat(node.ingress_msat)}, your deposit there has "
                f"{human_msat(node.deposit_msat)}: lnstore rent buy {node.petname} {size} --deposit {node.ingress_msat}"
            )
    rent = human_msat(cost.rent_msat_per_month) if cost.rent_msat_per_month else "nothing"
    click.echo(f"more rent a month: {rent}; writing it: {human_msat(cost.ingress_msat)}, from your deposits")
    print_verdicts(cost.budgets)
