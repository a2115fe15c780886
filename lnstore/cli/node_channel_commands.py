"""`lnstore node channels`, `node channel open`, `node sweep`: the Lightning side of a storage node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.channel_commands import channel_json, channel_row, opened_sentence
from lnstore.cli.output import human_msat, json_option, pairs, print_json, progress_lines, run, table

if TYPE_CHECKING:
    from lnstore.node.earnings import Plan, Step

DIRECTORY = click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
OPEN_SECONDS = 600.0


@click.command()
@DIRECTORY
@json_option
def channels(directory: Path, as_json: bool) -> None:
    """List the channels of the node in DIRECTORY, and for how many periods of its accounts' rent they have room.

    \b
    Example:
      lnstore node channels ~/lnstore-node
    """
    from lnstore.config import NodeConfig
    from lnstore.lightning.core import CoreLightning
    from lnstore.node import node_accounts
    from lnstore.node.liquidity import Liquidity, liquidity

    config = NodeConfig.load(directory)

    async def work() -> Liquidity:
        found = await CoreLightning(config.lightning_rpc).channels()
        return liquidity(found, await node_accounts(directory), period_seconds=config.period)

    state = run(work)
    if as_json:
        print_json(
            {
                "channels": [channel_json(channel) for channel in state.channels],
                "spendable_msat": state.spendable_msat,
                "inbound_msat": state.inbound_msat,
                "rent_msat_per_period": state.rent_msat,
                "period_seconds": state.period_seconds,
                "periods_left": state.periods_left,
                "supply": state.supply.value,
                "warning": state.warning,
            }
        )
        return
    if state.channels:
        table(
            "",
            ["peer", "state", "capacity", "spendable sat", "receivable sat", "channel"],
            [[channel.peer.hex()[:8] + "…", *channel_row(channel)] for channel in state.channels],
        )
    pairs(
        {
            "can be received": human_msat(state.inbound_msat),
            "rent per period": human_msat(state.rent_msat),
            "periods of rent left": "nothing is rented" if state.periods_left is None else f"{state.periods_left:,}",
            "earned, in channels": human_msat(state.spendable_msat),
        }
    )
    if state.warning:
        click.echo(state.warning.replace("DIRECTORY", str(directory)), err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def channel() -> None:
    """Open a Lightning channel from the node's side."""


@channel.command("open")
@DIRECTORY
@click.argument("peer", metavar="LIGHTNING_ID@HOST:PORT")
@click.option("--sat", "amount_sat", type=click.IntRange(1), required=True, help="How big.")
@click.option("--push-msat", type=click.IntRange(0), default=0, help="How much of it is the peer's from the start.")
@click.option("--zero-conf", is_flag=True, help="Usable at once, if the peer's daemon allows that to yours.")
@json_option
def open_command(
    *, directory: Path, peer: str, amount_sat: int, push_msat: int, zero_conf: bool, as_json: bool
) -> None:
    """Have a usable channel from the node in DIRECTORY to a client's (or any) Lightning node.

    One that is there, or still opening, is not opened again.

    \b
    Example:
      lnstore node channel open ~/lnstore-node 02ab…cd@203.0.113.7:9735 --sat 500000 --push-msat 100000000
    """
    from lnstore.config import NodeConfig
    from lnstore.lightning.channels import ensure_channel
    from lnstore.lightning.core import CoreLightning
    from lnstore.lightning.reconnecting import parse_place
    from lnstore.ports import Channel
    from lnstore_protocol.ids import LightningId

    config = NodeConfig.load(directory)
    key, _, text = peer.partition("@")
    place = parse_place(text)
    try:
        lightning_id = LightningId.from_hex(key)
    except ValueError:
        place = None
    if place is None:
        raise click.BadParameter("write <66 hex digits>@host:port", param_hint="LIGHTNING_ID@HOST:PORT")

    async def work() -> Channel:
        return await ensure_channel(
            CoreLightning(config.lightning_rpc),
            lightning_id,
            *place,
            amount_sat=amount_sat,
            push_msat=push_msat,
            progress=progress_lines(key[:8], as_json=as_json),
            timeout_seconds=OPEN_SECONDS,
            zero_conf=zero_conf,
        )

    opened = run(work)
    if as_json:
        print_json({"ok": True, **channel_json(opened)})
    else:
        click.echo(opened_sentence(key[:8] + "…", opened))


@click.command()
@DIRECTORY
@click.option("--to", "address", required=True, metavar="ADDRESS", help="The on-chain address that gets it.")
@click.option("--all", "everything", is_flag=True, help="Also send the other coins of the daemon's on-chain wallet.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done, and what it would cost.")
@json_option
def sweep(*, directory: Path, address: str, everything: bool, dry_run: bool, as_json: bool) -> None:
    """Move what the node in DIRECTORY earned out of its channels to ADDRESS.

    Channels whose peers can splice stay open and get room to receive again; others are closed. An interrupted sweep is
    finished by the next one.

    \b
    Example:
      lnstore node sweep ~/lnstore-node --to bc1q… --dry-run
    """
    from lnstore.config import NodeConfig
    from lnstore.lightning.core import CoreLightning
    from lnstore.node import earnings

    config = NodeConfig.load(directory)

    async def work() -> tuple[Plan, dict[str, str], str]:
        lightning = CoreLightning(config.lightning_rpc)
        if dry_run:
            await lightning.check_address(address)
            return await earnings.plan_sweep(lightning, directory, everything=everything), {}, ""
        tell = progress_lines("sweep", as_json=as_json)
        swept = await earnings.sweep(lightning, directory, address, everything=everything, progress=tell)
        txids = {step.channel.channel_id: txid for step, txid in swept.channels}
        return swept.plan, txids, swept.withdrawal_txid

    plan, txids, withdrawal = run(work)
    if as_json:
        print_json(
            {
                "ok": True,
                "dry_run": dry_run,
                "channels": [_step_json(step, txids) for step in plan.steps],
                "coins_sat": sum(coin.amount_sat for coin in plan.coins),
                "kept_sat": plan.kept_sat,
                "fees_sat": plan.fees_sat,
                "arriving_sat": plan.arriving_sat,
                "withdrawal_txid": withdrawal or None,
            }
        )
        return
    table(
        "",
        ["channel", "what", "amount sat", "fee sat", "transaction"],
        [
            [
                step.channel.short_channel_id or step.channel.channel_id[:12] + "…",
                step.way.value + (f": {step.reason}" if step.reason else ""),
                f"{step.amount_sat:,}",
                f"{step.fee_sat:,}",
                txids.get(step.channel.channel_id, ""),
            ]
            for step in plan.steps
        ],
    )
    if plan.coins:
        click.echo(f"from the wallet: {sum(coin.amount_sat for coin in plan.coins):,} sat")
    if plan.kept_sat:
        click.echo(f"kept in the wallet, for closing a channel alone: {plan.kept_sat:,} sat")
    verb = "would arrive" if dry_run else "arrive"
    sent = f" with {withdrawal}" if withdrawal else ""
    click.echo(f"about {plan.arriving_sat:,} sat {verb} at {address}{sent}; fees about {plan.fees_sat:,} sat")


def _step_json(step: Step, txids: dict[str, str]) -> dict[str, Any]:
    return {
        "channel_id": step.channel.channel_id,
        "short_channel_id": step.channel.short_channel_id,
        "way": step.way.value,
        "amount_sat": step.amount_sat,
        "fee_sat": step.fee_sat,
        "reason": step.reason,
        "txid": txids.get(step.channel.channel_id),
    }
