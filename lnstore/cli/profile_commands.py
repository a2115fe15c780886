"""`lnstore init`: make a client profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lnstore.cli.output import json_option, pairs, print_json, profile_directory, profile_option


@click.command()
@profile_option
@click.option("--lightning-rpc", metavar="SOCKET", help="Your Core Lightning daemon's lightning-rpc socket.")
@click.option("--needed", type=click.IntRange(1, 256), help="Shares that give a file back (default 3).")
@click.option("--total", type=click.IntRange(1, 256), help="Shares per segment (default 5).")
@click.option("--happy", type=click.IntRange(1, 256), help="Different nodes a put must reach (default 4).")
@click.option("--clock-file", metavar="FILE", help="Only for development networks: the file that steers their clock.")
@json_option
def init(profile: Path | None, as_json: bool, **settings: Any) -> None:
    """Make a client profile: a commented client.toml, an account key, an empty catalog.

    \b
    Example:
      lnstore init --lightning-rpc ~/.lightning/bitcoin/lightning-rpc
    """
    from lnstore.client.profile import init_profile

    directory = profile_directory(profile).absolute()
    made = init_profile(directory, **{name: value for name, value in settings.items() if value is not None})
    if as_json:
        print_json({"ok": True, "profile": directory, "account_id": made.account_id.hex()})
        return
    pairs({"profile": str(directory), "account": made.account_id.hex()})
    click.echo(f"Back up {directory / 'account.key'}: it is you to every node.")
    click.echo("Next: lnstore nodes add lnstore://…")
