"""`lnstore node`: set up and run a storage node."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from lnstore.cli import (
    ledger_commands,
    node_account_commands,
    node_channel_commands,
    node_invitation_commands,
    node_receipt_commands,
)
from lnstore.cli.output import json_option, pairs, print_json, run

_DIRECTORY = click.argument("directory", type=click.Path(path_type=Path, file_okay=False))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def node() -> None:
    """Set up and run a storage node."""


for _command in (
    node_channel_commands.channels,
    node_channel_commands.channel,
    node_channel_commands.sweep,
    ledger_commands.ledger,
    node_receipt_commands.receipts,
    node_account_commands.accounts,
    node_invitation_commands.invite,
    node_invitation_commands.invitations,
):
    node.add_command(_command)


@node.command()
@_DIRECTORY
@click.option("--lightning-rpc", metavar="SOCKET", help="Your Core Lightning daemon's lightning-rpc socket.")
@click.option("--listen-host", metavar="HOST", help="Where clients connect (default 127.0.0.1).")
@click.option("--listen-port", metavar="PORT", type=click.IntRange(0, 65535), help="Default 7460; 0: any free one.")
@click.option("--capacity", metavar="SIZE", help="How much may be rented out in all, for example 500GiB.")
@json_option
def init(directory: Path, as_json: bool, **settings: Any) -> None:
    """Write a commented node.toml and a fresh key into DIRECTORY.

    \b
    Example:
      lnstore node init ~/lnstore-node --lightning-rpc ~/.lightning/bitcoin/lightning-rpc --capacity 500GiB
    """
    from lnstore.node import init_node

    node_id = init_node(directory, **{name: value for name, value in settings.items() if value is not None})
    if as_json:
        print_json({"ok": True, "directory": directory.absolute(), "node_id": node_id.hex()})
        return
    pairs({"node id": node_id.hex(), "settings": str(directory / "node.toml")})
    click.echo(f"Read the settings, then start the node: lnstore node run {directory}")


@node.command("run")
@_DIRECTORY
@click.option("--until-eof", is_flag=True, help="Also stop when standard input ends (for a supervising program).")
def run_command(directory: Path, until_eof: bool) -> None:
    """Run the node in DIRECTORY until SIGTERM or Ctrl-C; requests in flight are finished first.

    \b
    Example:
      lnstore node run ~/lnstore-node
    """
    import trio

    from lnstore.config import NodeConfig
    from lnstore.node import run_node

    config = NodeConfig.load(directory)

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            stop = trio.Event()
            if until_eof:
                nursery.start_soon(_set_at_eof, stop)
            await run_node(config, stop=stop)
            nursery.cancel_scope.cancel()

    run(serve)


async def _set_at_eof(stop: Any) -> None:
    import os

    import trio

    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
        while await stdin.receive_some(4096):
            pass
    stop.set()
