"""`lnstore rent pay`: each payment locked to a proof, and what follows a proof that failed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.check_command import diagnosis_json
from lnstore.cli.output import (
    human_msat,
    human_time,
    json_option,
    print_json,
    profile_option,
    progress_lines,
    run,
)
from lnstore.cli.repair_commands import carry_out_repair, report_repairs
from lnstore.cli.session import chosen_nodes, load_profile, open_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from lnstore.client.diagnosis import Diagnosis
    from lnstore.client.mending import Repaired
    from lnstore.client.purse import Purse
    from lnstore.client.rent import RentOutcome, RentPaid
    from lnstore_protocol.ids import NodeId


@click.command()
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
