"""`lnstore backup` and `recover`: the catalog on the nodes, and everything back from twelve words."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.output import human_time, json_option, print_json, profile_directory, profile_option, run
from lnstore.cli.profile_commands import new_passphrase
from lnstore.cli.session import load_profile, open_session
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from lnstore.client.adopt import Adopted
    from lnstore.client.recover import Recovered


@click.command()
@profile_option
@json_option
def backup(profile: Path | None, as_json: bool) -> None:
    """Store the catalog on your nodes, encrypted, so that your twelve words bring everything back (lnstore recover).

    Do so after storing files and paying rent. Each backup takes the place of the one before.

    \b
    Example:
      lnstore backup
    """
    from lnstore.client.backup import BackedUp, back_up
    from lnstore.client.files import open_client

    async def work() -> BackedUp:
        async with open_client(load_profile(profile)) as client:
            return await back_up(client)

    made = run(work)
    if as_json:
        print_json(
            {
                "ok": True,
                "made_at": made.made_at,
                "bytes": made.bytes,
                "told": [node.petname for node in made.told],
                "not_told": [{"node": node.petname, "error": why} for node, why in made.not_told],
            }
        )
        return
    click.echo(f"backed the catalog up: {human_bytes(made.bytes)}, {len(made.told)} nodes point to it")
    for node, why in made.not_told:
        click.echo(f"warning: {node.petname} does not point to it: {why}", err=True)


@click.command()
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
@click.option("--lightning-rpc", metavar="SOCKET", help="Your Core Lightning daemon's lightning-rpc socket.")
@click.option("--passphrase", is_flag=True, help="Lock the account key; you are asked, or it is the second line.")
@click.option("--clock-file", metavar="FILE", help="Only for development networks: the file that steers their clock.")
@profile_option
@json_option
def recover(
    *, addresses: tuple[str, ...], passphrase: bool, profile: Path | None, as_json: bool, **settings: Any
) -> None:
    """Bring accounts, catalog and files back from twelve words and the address of one of your nodes.

    The words are asked for, or are the first line of standard input. The newest backup that any of the nodes knows of
    is taken; name more nodes if one alone may be behind. What happened since the backup is taken from what the nodes
    say, and told.

    \b
    Example:
      lnstore recover lnstore://…@node.example.org:7460
    """
    from lnstore.client.adopt import adopt
    from lnstore.client.node_errors import NodeError
    from lnstore.client.recover import recover as recover_profile
    from lnstore.errors import LnstoreError
    from lnstore_protocol.ids import NodeAddress

    try:
        parsed = [NodeAddress.parse(text) for text in addresses]
    except ValueError as exc:
        raise click.UsageError(f"{exc}; an address looks like lnstore://<64 hex digits>@host:port") from exc
    directory = profile_directory(profile).absolute()
    words = str(click.prompt("the twelve words", err=True)) if sys.stdin.isatty() else sys.stdin.readline()
    locked = new_passphrase() if passphrase else None
    given = {name: value for name, value in settings.items() if value is not None}

    async def work() -> tuple[Recovered, list[Adopted], list[tuple[str, str]]]:
        recovered = await recover_profile(directory, words, parsed, passphrase=locked, **given)
        adopted, unreached = [], []
        async with open_session(recovered.profile) as (purse, client):
            for node in client.catalog.nodes():
                if node.agreement is None:
                    continue
                try:
                    adopted.append(await adopt(purse, node, backed_up_at=recovered.made_at))
                except (NodeError, LnstoreError) as exc:
                    unreached.append((node.petname, str(exc)))
        return recovered, adopted, unreached

    recovered, adopted, unreached = run(work)
    if as_json:
        print_json(
            {
                "ok": not unreached,
                "profile": directory,
                "account_id": recovered.profile.account_id.hex(),
                "made_at": recovered.made_at,
                "files": recovered.files,
                "folders": recovered.folders,
                "older": [str(answer.address) for answer in recovered.older],
                "silent": [{"node": str(answer.address), "error": answer.fault} for answer in recovered.silent],
                "nodes": [
                    {
                        "node": at.node.petname,
                        "differences": at.differences,
                        "missing_shares": len(at.missing),
                        "unknown_shares": at.unknown_shares,
                    }
                    for at in adopted
                ],
                "not_compared": [{"node": name, "error": why} for name, why in unreached],
            }
        )
        return
    click.echo(
        f"recovered {recovered.files} files and {recovered.folders} folders of {human_time(recovered.made_at)} "
        f"into {directory}"
    )
    _warn(recovered, adopted, unreached)
    click.echo("Next: lnstore rent status, then: lnstore backup")


def _warn(recovered: Recovered, adopted: list[Adopted], unreached: list[tuple[str, str]]) -> None:
    for answer in recovered.older:
        click.echo(
            f"warning: {answer.address} serves an older backup than another node: it was away, or rolled back", err=True
        )
    for answer in recovered.silent:
        click.echo(f"warning: {answer.address} {answer.fault}", err=True)
    for at in adopted:
        for difference in at.differences:
            click.echo(f"warning: {at.node.petname} says: {difference}", err=True)
        if at.missing:
            click.echo(
                f"warning: {at.node.petname} does not have {len(at.missing)} shares that the backup knows of: removed "
                "since, or lost; see lnstore check --verify",
                err=True,
            )
        if at.unknown_shares:
            click.echo(
                f"warning: {at.node.petname} holds {at.unknown_shares} shares that the backup does not know of, stored "
                "since: put those files again",
                err=True,
            )
    for name, why in unreached:
        click.echo(f"warning: {name} could not be compared: {why}", err=True)
