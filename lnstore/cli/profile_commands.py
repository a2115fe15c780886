"""`lnstore init` and `passphrase`: make a client profile, and lock its key."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from lnstore.cli.output import json_option, pairs, print_json, profile_directory, profile_option
from lnstore.cli.session import ask_passphrase


@click.command()
@profile_option
@click.option("--lightning-rpc", metavar="SOCKET", help="Your Core Lightning daemon's lightning-rpc socket.")
@click.option("--needed", type=click.IntRange(1, 256), help="Shares that give a file back (default 3).")
@click.option("--total", type=click.IntRange(1, 256), help="Shares per segment (default 5).")
@click.option("--happy", type=click.IntRange(1, 256), help="Different nodes a put must reach (default 4).")
@click.option(
    "--passphrase", is_flag=True, help="Lock the account key; you are asked, or it is the first line of standard input."
)
@click.option("--clock-file", metavar="FILE", help="Only for development networks: the file that steers their clock.")
@json_option
def init(*, profile: Path | None, passphrase: bool, as_json: bool, **settings: Any) -> None:
    """Make a client profile: a commented client.toml, an account key, an empty catalog.

    Shows twelve words, once (with --json on standard error): write them down. They bring the account key back, and
    whoever has them is you to every node.

    \b
    Example:
      lnstore init --lightning-rpc ~/.lightning/bitcoin/lightning-rpc
    """
    from lnstore.client.keyfile import fresh_words
    from lnstore.client.profile import init_profile

    directory = profile_directory(profile).absolute()
    words = fresh_words()
    made = init_profile(
        directory,
        words=words,
        passphrase=new_passphrase() if passphrase else None,
        **{name: value for name, value in settings.items() if value is not None},
    )
    click.echo("Write these twelve words down; they are shown this once, and bring your account key back:", err=as_json)
    click.echo(f"\n  {words}\n", err=as_json)
    if as_json:
        print_json({"ok": True, "profile": directory, "account_id": made.account_id.hex()})
        return
    pairs({"profile": str(directory), "account": made.account_id.hex()})
    click.echo("Next: lnstore nodes add lnstore://…")


@click.command()
@click.option("--remove", is_flag=True, help="Keep the key without a passphrase from now on.")
@profile_option
@json_option
def passphrase(*, remove: bool, profile: Path | None, as_json: bool) -> None:
    """Lock the account key under a passphrase, change it, or take it away.

    The old one comes from LNSTORE_PASSPHRASE_FILE or is asked for, the new one from the first line of standard input or
    is asked for. It locks the key in this profile; the twelve words stay what they are.

    \b
    Example:
      lnstore passphrase
    """
    from lnstore.client.profile import change_passphrase

    directory = profile_directory(profile)
    change_passphrase(directory, old=ask_passphrase, new=None if remove else new_passphrase())
    if as_json:
        print_json({"ok": True, "locked": not remove})
        return
    click.echo(
        "the account key has no passphrase now" if remove else "the account key is locked under the new passphrase"
    )


def new_passphrase() -> str:
    """A passphrase to come: twice from a person on a terminal, else the first line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt("new passphrase", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().removesuffix("\n")
