"""`lnstore node invite` and `node invitations`: accounts for people the operator chose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.ledger_commands import opened
from lnstore.cli.output import (
    human_msat,
    human_time,
    json_option,
    print_json,
    run,
    seconds_argument,
    size_argument,
    table,
)
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from lnstore.ports import Invitation

DIRECTORY = click.argument("directory", type=click.Path(path_type=Path, file_okay=False))


@click.command()
@DIRECTORY
@click.option("--capacity", metavar="SIZE", help="The most that may be rented with it.")
@click.option("--price", metavar="MSAT", type=click.IntRange(0), help="Rent per GiB and 30 days.")
@click.option("--egress", metavar="MSAT", type=click.IntRange(0), help="Reading, per GiB.")
@click.option("--ingress", metavar="MSAT", type=click.IntRange(0), help="Writing, per GiB.")
@click.option("--free", "at_no_price", is_flag=True, help="As --price 0 --egress 0 --ingress 0.")
@click.option("--periods", metavar="N", type=click.IntRange(1), help="For how many periods these prices hold.")
@click.option("--expires", metavar="TIME", default="7d", show_default=True, help="How long it may be used.")
@click.option("--name", "petname", metavar="PETNAME", help="What you will call the account.")
@json_option
def invite(
    *,
    directory: Path,
    capacity: str | None,
    price: int | None,
    egress: int | None,
    ingress: int | None,
    at_no_price: bool,
    periods: int | None,
    expires: str,
    petname: str | None,
    as_json: bool,
) -> None:
    """Print an invitation to the node in DIRECTORY: whoever has it can open one account with it, on these terms.

    It is a secret until it is used, and it is shown only now. Your friend runs: lnstore nodes add lnsi1…

    \b
    Example:
      lnstore node invite ~/lnstore-node --free --capacity 50GiB --name alice
    """
    from lnstore.config import NodeConfig
    from lnstore.node import accounting

    if at_no_price and any(one is not None for one in (price, egress, ingress)):
        raise click.UsageError("--free names all prices; leave --price, --egress and --ingress out")
    config = NodeConfig.load(directory)
    valid = seconds_argument(expires, "--expires")
    conditions: dict[str, Any] = {
        "maximum_capacity_bytes": None if capacity is None else max(1, size_argument(capacity, "--capacity")),
        "price_msat_per_gib_month": 0 if at_no_price else price,
        "egress_msat_per_gib": 0 if at_no_price else egress,
        "ingress_msat_per_gib": 0 if at_no_price else ingress,
        "price_periods": periods,
        "petname": None if petname is None else accounting.check_petname(petname),
    }

    async def work() -> tuple[Invitation, str]:
        async with opened(directory) as books:
            return await accounting.invite(config, books, valid_seconds=valid, **conditions)

    made, text = run(work)
    if as_json:
        print_json({"ok": True, "invitation": text, **_invitation_json(made)})
        return
    click.echo(text)
    click.echo(
        f"good for one account until {human_time(made.expires_at)}; id {made.invitation_id.hex()[:16]}", err=True
    )


@click.command()
@DIRECTORY
@click.option("--revoke", metavar="ID", help="Take back the invitation whose id begins so.")
@json_option
def invitations(directory: Path, revoke: str | None, as_json: bool) -> None:
    """List the invitations to the node in DIRECTORY and what became of them, or take one back.

    \b
    Example:
      lnstore node invitations ~/lnstore-node --revoke 81d4fae7
    """
    from lnstore.clock import clock_for
    from lnstore.config import NodeConfig
    from lnstore.node import accounting

    now = clock_for(NodeConfig.load(directory).clock_file).now()

    async def work() -> list[Invitation]:
        async with opened(directory) as books:
            return await books.invitations() if revoke is None else [await accounting.revoke(books, revoke, now)]

    found = run(work)
    if as_json:
        for one in found:
            print_json(_invitation_json(one))
        return
    if not found:
        click.echo("nobody was invited yet; invite somebody with: lnstore node invite DIRECTORY")
        return
    table(
        "",
        ["id", "for", "is", "expires", "rent per GiB-month", "most capacity"],
        [
            [
                one.invitation_id.hex()[:16],
                one.petname or "",
                _became(one, now),
                human_time(one.expires_at),
                "as usual" if one.price_msat_per_gib_month is None else human_msat(one.price_msat_per_gib_month),
                "as usual" if one.maximum_capacity_bytes is None else human_bytes(one.maximum_capacity_bytes),
            ]
            for one in found
        ],
    )


def _became(one: Invitation, now: int) -> str:
    if one.used_by is not None:
        return f"used by {one.used_by.hex()[:8]}"
    if one.revoked_at is not None:
        return "withdrawn"
    return "expired" if now > one.expires_at else "open"


def _invitation_json(one: Invitation) -> dict[str, Any]:
    return {
        "invitation_id": one.invitation_id.hex(),
        "petname": one.petname,
        "created_at": one.created_at,
        "expires_at": one.expires_at,
        "maximum_capacity_bytes": one.maximum_capacity_bytes,
        "price_msat_per_gib_month": one.price_msat_per_gib_month,
        "egress_msat_per_gib": one.egress_msat_per_gib,
        "ingress_msat_per_gib": one.ingress_msat_per_gib,
        "price_periods": one.price_periods,
        "revoked_at": one.revoked_at,
        "used_at": one.used_at,
        "used_by": None if one.used_by is None else one.used_by.hex(),
    }
