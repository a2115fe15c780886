"""`lnstore rent`: what storage costs, and paying for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.agree_command import agree, change_json, change_sentence
from lnstore.cli.budget_lines import budgets_json, print_budgets
from lnstore.cli.check_command import diagnosis_json
from lnstore.cli.ending_commands import leave, shrink
from lnstore.cli.output import (
    human_bytes,
    human_msat,
    human_time,
    json_option,
    print_json,
    profile_option,
    progress_lines,
    run,
    size_argument,
)
from lnstore.cli.quote_command import quote
from lnstore.cli.rent_status_table import difference_sentence, print_table, status_json
from lnstore.cli.repair_commands import carry_out_repair, report_repairs
from lnstore.cli.session import chosen_nodes, load_profile, open_purse, open_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from lnstore.client.audit import LostShare
    from lnstore.client.budgets import BudgetUse
    from lnstore.client.catalog import NodeEntry
    from lnstore.client.diagnosis import Diagnosis
    from lnstore.client.mending import Repaired
    from lnstore.client.purse import Purse
    from lnstore.client.rent import RentOutcome, RentPaid
    from lnstore.client.rent_status import RentStatus
    from lnstore_protocol.ids import NodeId


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def rent() -> None:
    """Quote, buy, pay and show rent."""


rent.add_command(shrink)
rent.add_command(leave)
rent.add_command(agree)
rent.add_command(quote)


@rent.command()
@click.argument("words", metavar="NODE… SIZE", nargs=-1, required=True)
@click.option("--all", "everything", is_flag=True, help="At every known node: then only SIZE.")
@click.option(
    "--deposit",
    "deposit_msat",
    type=click.IntRange(0),
    default=0,
    metavar="MSAT",
    help="Have this much for reading and writing.",
)
@click.option("--open-channel", is_flag=True, help="First have a channel to the node, sized for this rent.")
@profile_option
@json_option
def buy(
    *,
    words: tuple[str, ...],
    everything: bool,
    deposit_msat: int,
    open_channel: bool,
    profile: Path | None,
    as_json: bool,
) -> None:
    """Have SIZE of capacity at NODE, and a deposit for traffic: opens the account and pays what is still lacking.

    The same command again pays nothing more.

    \b
    Example:
      lnstore rent buy alice bob 20GiB --deposit 20000
    """
    from lnstore.client import node_channels
    from lnstore.client.buying import buy as carry_out

    *names, size = words
    capacity_bytes = size_argument(size, "SIZE")

    async def work() -> None:
        async with open_purse(profile) as purse:
            for node in chosen_nodes(purse.catalog, names, everything=everything):
                tell = progress_lines(node.petname, as_json=as_json)
                if open_channel:
                    await node_channels.open_channel(purse, node, capacity_bytes=capacity_bytes, progress=tell)
                bought = await carry_out(purse, node, capacity_bytes, deposit_msat=deposit_msat, progress=tell)
                if as_json:
                    print_json(
                        {
                            "ok": True,
                            "node": node.petname,
                            "opened": bought.opened,
                            "capacity_bytes": bought.status.capacity_bytes,
                            "deposit_msat": bought.status.deposit_msat,
                            "paid_until_at": bought.status.paid_until_at,
                            "paid_msat": bought.paid_msat,
                            "receipt_warnings": bought.receipt_warnings,
                        }
                    )
                else:
                    click.echo(
                        f"{node.petname}: {human_bytes(bought.status.capacity_bytes)} until "
                        f"{human_time(bought.status.paid_until_at)}, deposit {human_msat(bought.status.deposit_msat)}; "
                        f"paid {human_msat(bought.paid_msat)}"
                    )
                    for warning in bought.receipt_warnings:
                        click.echo(warning, err=True)

    run(work)


@rent.command()
@click.argument("nodes", metavar="[NODE…]", nargs=-1)
@click.option("--ahead", is_flag=True, help="Also the period after the current one.")
@click.option("--no-renew", is_flag=True, help="Do not renew storage tokens that are nearly used up.")
@click.option("--repair", "mend", is_flag=True, help="After a proof that failed: store what is lost at other nodes.")
@profile_option
@json_option
def pay(
    nodes: tuple[str, ...], *, ahead: bool, no_renew: bool, mend: bool, profile: Path | None, as_json: bool
) -> None:
    """Pay the rent that is due, at NODE or wherever you have an account, each payment locked to a proof.

    Shares whose storage tokens are nearly used up get new ones first, as by `lnstore rent renew`. A node whose proof
    fails is paid nothing: each of its shares is audited, and what is lost is named, and with --repair stored elsewhere.

    \b
    Example:
      lnstore rent pay --ahead
    """
    from lnstore.client.channel_watch import channel_warnings
    from lnstore.client.node_channels import make_ready
    from lnstore.client.renewal import renew_due
    from lnstore.client.rent import pay_rent

    async def work() -> tuple[list[RentOutcome], dict[NodeId, str], dict[NodeId, Diagnosis], list[Repaired]]:
        async with open_session(load_profile(profile)) as (purse, client):
            chosen = chosen_nodes(purse.catalog, nodes, everything=False) if nodes else None
            tell = progress_lines("rent", as_json=as_json)
            await make_ready(purse, purse.catalog.nodes() if chosen is None else chosen, progress=tell)
            if not no_renew:
                await renew_due(purse, chosen, progress=tell)
            paid = await pay_rent(purse, chosen, ahead=int(ahead), progress=tell)
            found = await _diagnose_failed(purse, paid, tell)
            mended = await carry_out_repair(purse, client, as_json=as_json) if mend and found else []
            return paid, await channel_warnings(purse, {outcome.node.node_id for outcome in paid}), found, mended

    outcomes, warnings, found, mended = run(work)
    if as_json:
        for outcome in outcomes:
            diagnosis = found.get(outcome.node.node_id)
            print_json(
                {
                    **rent_outcome_json(outcome),
                    "diagnosis": None if diagnosis is None else diagnosis_json(diagnosis),
                    "channel_warning": warnings.get(outcome.node.node_id, ""),
                }
            )
    else:
        for outcome in outcomes:
            for paid in outcome.paid:
                click.echo(rent_paid_sentence(paid))
            if outcome.warning:
                click.echo(outcome.warning, err=True)
            for warning in outcome.receipt_warnings:
                click.echo(warning, err=True)
        for warning in warnings.values():
            click.echo(warning, err=True)
        if not outcomes:
            click.echo("you have no account yet; open one with: lnstore rent buy NODE SIZE")
        elif not any(outcome.paid or outcome.error for outcome in outcomes):
            click.echo("nothing is due")
    for diagnosis in found.values():
        if not as_json:
            click.echo(diagnosis.sentence, err=True)
    report_repairs(mended, as_json=as_json)
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in failed[1:]:
        click.echo(f"error: {outcome.node.petname}: {outcome.error}", err=True)
    if failed and failed[0].error is not None:
        raise failed[0].error


async def _diagnose_failed(
    purse: Purse, outcomes: list[RentOutcome], tell: Callable[[str], None]
) -> dict[NodeId, Diagnosis]:
    """Where a proof failed: what is wrong there. A node that does not answer meanwhile is told of."""
    from lnstore.client.diagnosis import diagnose
    from lnstore.client.money_errors import ProofFailed
    from lnstore.errors import LnstoreError

    found = {}
    for outcome in outcomes:
        if isinstance(outcome.error, ProofFailed):
            tell(f"the proof of {outcome.node.petname} failed; asking it for a piece of every share")
            try:
                found[outcome.node.node_id] = await diagnose(purse, outcome.node)
            except LnstoreError as exc:
                tell(f"{outcome.node.petname} could not be audited: {exc}")
    return found


def rent_paid_sentence(paid: RentPaid) -> str:
    """One rent payment, as a person wants to read it."""
    proof = f"proof of {paid.sampled} of {paid.shares} shares" if paid.verified else "nothing stored, nothing to prove"
    preimage = f", preimage {paid.preimage.hex()[:16]}…" if paid.preimage else ""
    if not paid.amount_msat:
        free = "proved, free" if paid.verified else "free"
        return f"{paid.petname}: {free}, {human_time(paid.from_at)} to {human_time(paid.until_at)}; {proof}{preimage}"
    return (
        f"{paid.petname}: {human_msat(paid.amount_msat)} for {human_time(paid.from_at)} "
        f"to {human_time(paid.until_at)}; {proof}{preimage}"
    )


def rent_outcome_json(outcome: RentOutcome) -> dict[str, Any]:
    """What `rent pay --json` prints for a node."""
    return {
        "ok": outcome.error is None,
        "node": outcome.node.petname,
        "paid": [
            {
                "period": paid.period,
                "from_at": paid.from_at,
                "until_at": paid.until_at,
                "amount_msat": paid.amount_msat,
                "fee_msat": paid.fee_msat,
                "shares": paid.shares,
                "sampled": paid.sampled,
                "verified": paid.verified,
                "free": not paid.amount_msat,
            }
            for paid in outcome.paid
        ],
        "paid_until_at": outcome.paid_until_at,
        "proofs_left": outcome.proofs_left,
        "receipt_warnings": outcome.receipt_warnings,
        "error": None if outcome.error is None else str(outcome.error),
        "fault": _fault(outcome),
    }


def _fault(outcome: RentOutcome) -> str | None:
    from lnstore.client.scores import fault_of

    fault = None if outcome.error is None else fault_of(outcome.error)
    return None if fault is None else fault.value


@rent.command()
@click.argument("nodes", metavar="[NODE…]", nargs=-1)
@click.option(
    "--below",
    type=click.IntRange(1, 24),
    default=4,
    show_default=True,
    help="Renew what has fewer proofs left than this.",
)
@click.option("--dry-run", is_flag=True, help="Only say what it takes.")
@profile_option
@json_option
def renew(nodes: tuple[str, ...], *, below: int, dry_run: bool, profile: Path | None, as_json: bool) -> None:
    """Make new storage tokens for shares whose tokens are nearly used up, at NODE or wherever you have an account.

    Each payment of rent uses up one of the 24 tokens that were made when a share was stored. Making new ones takes
    reading the share once, which the node charges to your deposit. What it will cost is said first.

    \b
    Example:
      lnstore rent renew --dry-run
    """
    from lnstore.client.renewal import plan_renewal
    from lnstore.client.renewal import renew as carry_out

    async def work() -> None:
        async with open_purse(profile) as purse:
            known = purse.catalog.nodes()
            chosen = chosen_nodes(purse.catalog, nodes, everything=False) if nodes else known
            for node in (node for node in chosen if nodes or node.agreement is not None):
                plan = await plan_renewal(purse, node, below=below)
                if not as_json:
                    click.echo(plan.sentence if plan.shares else f"{node.petname}: no share needs new tokens")
                tell = progress_lines(node.petname, as_json=as_json)
                renewed = await carry_out(purse, plan, progress=tell) if plan.shares and not dry_run else 0
                if as_json:
                    print_json(
                        {
                            "ok": True,
                            "node": node.petname,
                            "shares": len(plan.shares),
                            "bytes": plan.share_bytes,
                            "cost_msat": plan.cost_msat,
                            "deposit_msat": plan.deposit_msat,
                            "renewed": renewed,
                        }
                    )

    run(work)


@rent.command()
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
