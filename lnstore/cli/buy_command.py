"""`lnstore rent buy`: an account, capacity and a deposit."""

from __future__ import annotations

from pathlib import Path

import click

from lnstore.cli.output import (
    human_msat,
    human_time,
    json_option,
    print_json,
    profile_option,
    progress_lines,
    run,
    size_argument,
)
from lnstore.cli.session import chosen_nodes, open_purse
from lnstore.sizes import human_bytes


@click.command()
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
