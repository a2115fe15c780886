"""`lnstore rent shrink` and `lnstore rent leave`: renting less, or nothing any more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnstore.cli.output import human_msat, human_time, json_option, print_json, profile_option, run, size_argument
from lnstore.cli.session import chosen_nodes, open_purse
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from lnstore.client.ending import Left, Parting, Shrunk


@click.command()
@click.argument("node")
@click.argument("size")
@profile_option
@json_option
def shrink(node: str, size: str, profile: Path | None, as_json: bool) -> None:
    """Rent only SIZE at NODE, from the next period on that is not paid yet.

    Until then what you store there must fit into SIZE already. SIZE as it is now takes that back, and so does renting
    more. The same command again changes nothing.

    \b
    Example:
      lnstore rent shrink alice 10GiB
    """
    from lnstore.client.ending import shrink as carry_out

    capacity_bytes = size_argument(size, "SIZE")

    async def work() -> Shrunk:
        async with open_purse(profile) as purse:
            (entry,) = chosen_nodes(purse.catalog, (node,), everything=False)
            return await carry_out(purse, entry, capacity_bytes)

    done = run(work)
    if as_json:
        print_json(
            {
                "ok": True,
                "node": done.node.petname,
                "capacity_bytes": done.capacity_bytes,
                "next_capacity_bytes": done.next_capacity_bytes,
                "from_period": done.from_period,
                "from_at": done.from_at,
                "rent_msat_per_period": done.rent_msat,
            }
        )
    elif done.next_capacity_bytes == done.capacity_bytes:
        click.echo(f"{done.node.petname}: {human_bytes(done.capacity_bytes)}, {human_msat(done.rent_msat)} per period")
    else:
        click.echo(
            f"{done.node.petname}: {human_bytes(done.next_capacity_bytes)} instead of "
            f"{human_bytes(done.capacity_bytes)} from {human_time(done.from_at)} on, "
            f"{human_msat(done.rent_msat)} per period"
        )


@click.command()
@click.argument("node")
@click.option("--yes", is_flag=True, help="Do not ask.")
@profile_option
@json_option
def leave(node: str, yes: bool, profile: Path | None, as_json: bool) -> None:
    """End the account at NODE: everything stored there is deleted, and nothing more is paid.

    What is paid ahead comes back to the deposit as far as the node's terms say so, which is not at all by default. The
    deposit stays with your key: it is there again when you rent at NODE anew. Asks first, unless --yes is given.

    \b
    Example:
      lnstore rent leave alice --yes
    """
    from lnstore.client import ending

    async def look() -> Parting:
        async with open_purse(profile) as purse:
            (entry,) = chosen_nodes(purse.catalog, (node,), everything=False)
            return await ending.plan_leave(purse, entry)

    async def work() -> Left:
        async with open_purse(profile) as purse:
            (entry,) = chosen_nodes(purse.catalog, (node,), everything=False)
            return await ending.leave(purse, entry)

    if not yes:
        parting = run(look)
        click.echo(
            f"{parting.node.petname}: {human_bytes(parting.capacity_bytes)} paid until "
            f"{human_time(parting.paid_until_at)}; {parting.shares:,} shares of your files are deleted there; "
            f"{human_msat(parting.refund_msat)} come back to the deposit",
            err=True,
        )
        click.confirm(f"leave {parting.node.petname}?", abort=True, err=True)
    left = run(work)
    if as_json:
        print_json(
            {
                "ok": True,
                "node": left.node.petname,
                "left_at": left.left_at,
                "refund_msat": left.refund_msat,
                "deposit_msat": left.deposit_msat,
            }
        )
        return
    click.echo(
        f"{left.node.petname}: left; {human_msat(left.refund_msat)} came back, the deposit there is "
        f"{human_msat(left.deposit_msat)}"
    )
