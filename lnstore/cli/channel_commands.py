"""`lnstore channel`: Lightning channels to nodes."""

from __future__ import annotations

from pathlib import Path

import click

from lnstore.cli.output import (
    human_msat,
    json_option,
    print_json,
    profile_option,
    progress_lines,
    run,
    size_argument,
    table,
)
from lnstore.cli.session import chosen_nodes, open_purse


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def channel() -> None:
    """Open and list Lightning channels to nodes."""


@channel.command("open")
@click.argument("nodes", metavar="NODE…", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="To every known node.")
@click.option("--capacity", metavar="SIZE", help="Big enough for the rent of this much (default: what is rented).")
@click.option("--sat", "amount_sat", type=click.IntRange(1), help="Exactly this big, but no less than the node takes.")
@profile_option
@json_option
def open_command(
    *,
    nodes: tuple[str, ...],
    everything: bool,
    capacity: str | None,
    amount_sat: int | None,
    profile: Path | None,
    as_json: bool,
) -> None:
    """Have a usable channel to NODE: the one there is, one that is still opening, or a new one.

    \b
    Example:
      lnstore channel open alice --capacity 100GiB
    """
    from lnstore.client.node_channels import open_channel

    capacity_bytes = size_argument(capacity, "--capacity") if capacity else 0

    async def work() -> None:
        async with open_purse(profile) as purse:
            for node in chosen_nodes(purse.catalog, nodes, everything=everything):
                opened = await open_channel(
                    purse,
                    node,
                    capacity_bytes=capacity_bytes,
                    amount_sat=amount_sat,
                    progress=progress_lines(node.petname, as_json=as_json),
                )
                if as_json:
                    print_json(
                        {
                            "ok": True,
                            "node": node.petname,
                            "channel_id": opened.channel_id,
                            "short_channel_id": opened.short_channel_id,
                            "capacity_msat": opened.capacity_msat,
                            "spendable_msat": opened.spendable_msat,
                        }
                    )
                else:
                    click.echo(
                        f"{node.petname}: {human_msat(opened.spendable_msat)} spendable over {opened.short_channel_id}"
                    )

    run(work)


@channel.command()
@profile_option
@json_option
def ls(profile: Path | None, as_json: bool) -> None:
    """List all channels of your Lightning daemon, with the periods of rent each can still pay.

    \b
    Example:
      lnstore channel ls
    """
    from lnstore.client.channel_watch import list_channels

    async def work() -> None:
        async with open_purse(profile) as purse:
            found = await list_channels(purse)
        if as_json:
            for one in found:
                print_json(
                    {
                        "node": one.node.petname if one.node else None,
                        "peer": one.channel.peer,
                        "state": one.channel.state,
                        "connected": one.channel.connected,
                        "channel_id": one.channel.channel_id,
                        "short_channel_id": one.channel.short_channel_id,
                        "capacity_msat": one.channel.capacity_msat,
                        "to_us_msat": one.channel.to_us_msat,
                        "spendable_msat": one.channel.spendable_msat,
                        "receivable_msat": one.channel.receivable_msat,
                        "periods_left": one.periods_left,
                    }
                )
            return
        if not found:
            click.echo("no channel yet; open one with: lnstore channel open NODE")
            return
        table(
            "",
            ["node", "state", "capacity", "spendable sat", "receivable sat", "periods of rent #", "channel"],
            [
                [
                    one.node.petname if one.node else one.channel.peer.hex()[:8] + "…",
                    one.channel.state if one.channel.connected else f"{one.channel.state}, not connected",
                    human_msat(one.channel.capacity_msat),
                    f"{one.channel.spendable_msat // 1000:,}",
                    f"{one.channel.receivable_msat // 1000:,}",
                    "" if one.periods_left is None else f"{one.periods_left:,}",
                    one.channel.short_channel_id or one.channel.channel_id[:12] + "…",
                ]
                for one in found
            ],
        )

    run(work)
