"""`lnstore channel`: Lightning channels to nodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.output import (
    human_msat,
    json_option,
    print_json,
    profile_option,
    progress_lines,
    run,
    seconds_argument,
    size_argument,
    table,
)
from lnstore.cli.session import chosen_nodes, open_purse

if TYPE_CHECKING:
    from lnstore.ports import Channel

_NODE = click.argument("node")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def channel() -> None:
    """Open, list, top up and close Lightning channels to nodes."""


@channel.command("open")
@click.argument("nodes", metavar="NODE…", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="To every known node.")
@click.option("--capacity", metavar="SIZE", help="Big enough for the rent of this much (default: what is rented).")
@click.option("--sat", "amount_sat", type=click.IntRange(1), help="Exactly this big, but no less than the node takes.")
@click.option(
    "--push-msat",
    type=click.IntRange(0),
    default=0,
    help="So much more, given to the node: for one that rents from you and pays over the same channel.",
)
@profile_option
@json_option
def open_command(
    *,
    nodes: tuple[str, ...],
    everything: bool,
    capacity: str | None,
    amount_sat: int | None,
    push_msat: int,
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
                    push_msat=push_msat,
                    progress=progress_lines(node.petname, as_json=as_json),
                )
                if as_json:
                    print_json({"ok": True, "node": node.petname, **channel_json(opened)})
                else:
                    click.echo(opened_sentence(node.petname, opened))

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
    from lnstore.client.channel_watch import list_channels, supplies

    async def work() -> None:
        async with open_purse(profile) as purse:
            found = await list_channels(purse)
            supply = {one.node.node_id: one for one in supplies(purse, found)}
        warnings = {node_id: one.warning for node_id, one in supply.items() if one.warning}
        if as_json:
            for one in found:
                watched = supply.get(one.node.node_id) if one.node else None
                print_json(
                    {
                        "node": one.node.petname if one.node else None,
                        **channel_json(one.channel),
                        "periods_left": one.periods_left,
                        "supply": watched.supply.value if watched else None,
                        "warning": watched.warning if watched else "",
                    }
                )
            return
        if not found:
            click.echo("no channel yet; open one with: lnstore channel open NODE")
        else:
            table(
                "",
                ["node", "state", "capacity", "spendable sat", "receivable sat", "channel", "periods of rent #"],
                [
                    [
                        one.node.petname if one.node else one.channel.peer.hex()[:8] + "…",
                        *channel_row(one.channel),
                        "" if one.periods_left is None else f"{one.periods_left:,}",
                    ]
                    for one in found
                ],
            )
        for warning in warnings.values():
            click.echo(warning, err=True)

    run(work)


@channel.command("top-up")
@_NODE
@click.option(
    "--sat", "amount_sat", type=click.IntRange(1), help="How much (default: what lacks for the rent to come)."
)
@profile_option
@json_option
def top_up_command(*, node: str, amount_sat: int | None, profile: Path | None, as_json: bool) -> None:
    """Have enough to spend at NODE for the periods in `channel_periods`, or --sat more.

    Coins of your Lightning daemon's wallet go into the channel there is, where both daemons can splice, else into a
    second one. Without --sat the same command again adds nothing more.

    \b
    Example:
      lnstore channel top-up alice --sat 200000
    """
    from lnstore.client.node_channels import top_up_channel

    async def work() -> None:
        async with open_purse(profile) as purse:
            entry = purse.catalog.find_node(node)
            tell = progress_lines(entry.petname, as_json=as_json)
            grown = await top_up_channel(purse, entry, amount_sat=amount_sat, progress=tell)
        if as_json:
            shown = {} if grown is None else channel_json(grown)
            print_json({"ok": True, "node": entry.petname, "added": grown is not None, **shown})
        elif grown is None:
            click.echo(f"{entry.petname}: there is enough to spend already; nothing was added")
        else:
            click.echo(opened_sentence(entry.petname, grown))

    run(work)


@channel.command("close")
@_NODE
@click.option(
    "--unilateral-after",
    metavar="TIME",
    default="60s",
    show_default=True,
    help="Close alone when the node's Lightning daemon has not agreed after so long.",
)
@profile_option
@json_option
def close_command(*, node: str, unilateral_after: str, profile: Path | None, as_json: bool) -> None:
    """Close all channels to NODE; what is yours in them goes to your Lightning daemon's wallet.

    Together with the node that takes a block and a small fee. Alone it costs more, and your part is locked for as long
    as both daemons agreed at opening (days).

    \b
    Example:
      lnstore channel close alice --unilateral-after 10m
    """
    from lnstore.client.node_channels import close_channels

    seconds = seconds_argument(unilateral_after, "--unilateral-after")

    async def work() -> None:
        async with open_purse(profile) as purse:
            entry = purse.catalog.find_node(node)
            tell = progress_lines(entry.petname, as_json=as_json)
            closed = await close_channels(purse, entry, unilateral_after_seconds=seconds, progress=tell)
        for one, closing in closed:
            if as_json:
                print_json(
                    {
                        "ok": True,
                        "node": entry.petname,
                        "channel_id": one.channel_id,
                        "mutual": closing.mutual,
                        "txid": closing.txid or None,
                        "to_us_msat": one.to_us_msat,
                    }
                )
                continue
            how = "closed together" if closing.mutual else "closed alone, your part is locked for some days"
            where = f" by {closing.txid}" if closing.txid else ""
            click.echo(f"{entry.petname}: {how}{where}; {human_msat(one.to_us_msat)} less fees are yours")
        if not closed:
            if as_json:
                print_json({"ok": True, "node": entry.petname, "channel_id": None})
            else:
                click.echo(f"{entry.petname}: there is no open channel")

    run(work)


# --- one channel, as all commands show it ---------------------------------------------------------------------------


def channel_json(one: Channel) -> dict[str, Any]:
    """A channel, for programs."""
    from lnstore.lightning.supply import phase

    return {
        "peer": one.peer,
        "phase": phase(one.state).value,
        "state": one.state,
        "connected": one.connected,
        "splicing": one.splicing,
        "closed_by_us": one.closed_by_us,
        "channel_id": one.channel_id,
        "short_channel_id": one.short_channel_id,
        "capacity_msat": one.capacity_msat,
        "to_us_msat": one.to_us_msat,
        "spendable_msat": one.spendable_msat,
        "receivable_msat": one.receivable_msat,
    }


def channel_row(one: Channel) -> list[str]:
    """State, capacity, spendable, receivable and id of a channel, for a table."""
    from lnstore.lightning.supply import Phase, phase

    stage = phase(one.state)
    state = stage.value if stage is Phase.OPEN else f"{stage.value} ({one.state})"
    if one.splicing:
        state += ", being changed"
    if stage is Phase.OPEN and not one.connected:
        state += ", not connected"
    return [
        state,
        human_msat(one.capacity_msat),
        # lightningd goes on listing what could be spent when the channel was open.
        *(f"{msat // 1000:,}" if stage is Phase.OPEN else "" for msat in (one.spendable_msat, one.receivable_msat)),
        one.short_channel_id or one.channel_id[:12] + "…",
    ]


def opened_sentence(name: str, one: Channel) -> str:
    """A channel that can be used, in a sentence."""
    return f"{name}: {human_msat(one.spendable_msat)} spendable over {one.short_channel_id or one.channel_id}"
