"""`lnstore delegate`: let others act for an account, within limits; act for another's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.delegation_words import certificate_json, limits_of, shown, usage_json
from lnstore.cli.output import (
    human_time,
    json_option,
    pairs,
    print_json,
    profile_option,
    run,
    seconds_argument,
    size_argument,
    table,
)
from lnstore.cli.session import load_profile, open_session
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from lnstore.client.audit import LostShare
    from lnstore.client.delegates import AtNode, Held
    from lnstore.client.delegation_store import DelegationEntry


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def delegate() -> None:
    """Let others store and read on your account, within limits; or act by what you were given."""


@delegate.command()
@profile_option
@json_option
def key(profile: Path | None, as_json: bool) -> None:
    """Show your key, for who wants to delegate something to you.

    \b
    Example:
      lnstore delegate key
    """
    mine = load_profile(profile).account_id.hex()
    if as_json:
        print_json({"ok": True, "key": mine})
    else:
        click.echo(mine)


@delegate.command()
@click.option("--to", "subject", metavar="KEY", required=True, help="Whose it is to be: their `lnstore delegate key`.")
@click.option("--bytes", "size", metavar="SIZE", help="How much may be stored, at each node.")
@click.option("--read-bytes", metavar="SIZE", help="How much may ever be read, at each node (default: no limit).")
@click.option("--expires", default="30d", show_default=True, metavar="TIME", help="How long it is valid.")
@click.option("--read-only", is_flag=True, help="Nothing may be stored.")
@click.option("--write-only", is_flag=True, help="Nothing may be read.")
@click.option("--allow-further", is_flag=True, help="A part of it may be handed on, once.")
@click.option("--node", "names", metavar="NODE", multiple=True, help="Only at this node (again for more).")
@click.option("--under", metavar="ID", help="A part of this delegation, which you were given yourself.")
@profile_option
@json_option
def create(
    *,
    subject: str,
    size: str | None,
    read_bytes: str | None,
    expires: str,
    read_only: bool,
    write_only: bool,
    allow_further: bool,
    names: tuple[str, ...],
    under: str | None,
    profile: Path | None,
    as_json: bool,
) -> None:
    """Sign a delegation for the holder of KEY and print it. It is of use to that key alone; you pay for what it does.

    \b
    Example:
      lnstore delegate create --to KEY --bytes 5GiB --expires 30d
    """
    from lnstore.client.delegates import Limits, issue, parse_key
    from lnstore.client.files import open_client
    from lnstore_protocol.delegation import UNLIMITED, Rights

    if read_only and write_only:
        raise click.UsageError("--read-only and --write-only leave nothing")
    if read_only == (size is not None):
        raise click.UsageError("say how much may be stored with --bytes SIZE, or give --read-only")
    rights = Rights.READ if read_only else Rights.WRITE if write_only else Rights.READ_WRITE
    maximum_bytes = 0 if size is None else size_argument(size, "--bytes")
    maximum_read_bytes = UNLIMITED if read_bytes is None else size_argument(read_bytes, "--read-bytes")
    lasts = seconds_argument(expires, "--expires")

    async def work() -> DelegationEntry:
        loaded = load_profile(profile)
        with loaded.writing():
            async with open_client(loaded) as client:
                limits = Limits(
                    maximum_bytes=maximum_bytes,
                    maximum_read_bytes=0 if write_only else maximum_read_bytes,
                    expires_at=client.clock.now() + lasts,
                    rights=rights,
                    levels=int(allow_further),
                )
                nodes = [client.catalog.find_node(name) for name in names]
                return issue(client, parse_key(subject), limits, nodes=nodes, under=under)

    entry = run(work)
    text = entry.delegation.to_text()
    if as_json:
        print_json({"ok": True, **certificate_json(entry.certificate), "id": entry.certificate_id, "delegation": text})
        return
    click.echo(f"{shown(entry.certificate_id)}: {limits_of(entry.certificate)}", err=True)
    click.echo("Give this to the other side, which takes it with: lnstore delegate accept TEXT", err=True)
    click.echo(text)


@delegate.command()
@click.argument("text", metavar="TEXT")
@profile_option
@json_option
def accept(text: str, profile: Path | None, as_json: bool) -> None:
    """Take the delegation TEXT (lnsd1…): put, get and ls then work on its nodes, without an account of your own.

    \b
    Example:
      lnstore delegate accept lnsd1…
    """
    from lnstore.client.delegates import accept as take
    from lnstore.client.files import open_client

    async def work() -> tuple[DelegationEntry, list[AtNode]]:
        loaded = load_profile(profile)
        with loaded.writing():
            async with open_client(loaded) as client:
                return await take(client, text)

    entry, nodes = run(work)
    if as_json:
        print_json(
            {
                "ok": True,
                **certificate_json(entry.certificate),
                "id": entry.certificate_id,
                "nodes": [{"node": at.node.petname, "problem": at.problem} for at in nodes],
            }
        )
        return
    click.echo(f"{shown(entry.certificate_id)}: {limits_of(entry.certificate)}")
    for at in nodes:
        click.echo(f"{at.node.petname}: {at.problem or 'ready'}", err=bool(at.problem))


@delegate.command()
@click.option("--audit", is_flag=True, help="Ask for a random piece of each share that you stored by a delegation.")
@profile_option
@json_option
def ls(audit: bool, profile: Path | None, as_json: bool) -> None:
    """List what you gave, with what was done under it at each node, and what you were given.

    Rent proves your own shares only. What delegates stored is looked at with --audit, by whoever stored it.

    \b
    Example:
      lnstore delegate ls
    """
    from lnstore.client.audit import find_lost
    from lnstore.client.delegates import overview
    from lnstore.client.delegation_store import Role, delegation_for, delegations

    async def work() -> tuple[list[Held], list[AtNode], list[DelegationEntry], dict[str, list[LostShare]]]:
        async with open_session(load_profile(profile)) as (purse, client):
            held, silent = await overview(client)
            lost: dict[str, list[LostShare]] = {}
            for node in client.catalog.nodes() if audit else ():
                if delegation_for(client.catalog, node.node_id) is not None:
                    lost[node.petname] = await find_lost(purse, node)  # D-W3
            return held, silent, delegations(client.catalog, Role.ACCEPTED), lost

    held, silent, given, lost = run(work)
    if as_json:
        for one in held:
            print_json(_held_json(one))
        for entry in given:
            print_json(
                {
                    **certificate_json(entry.certificate),
                    "id": entry.certificate_id,
                    "given_to_you": True,
                    "nodes": sorted({address.node_id.hex() for address in entry.delegation.addresses}),
                }
            )
        for petname, shares in lost.items():
            print_json({"node": petname, "lost": [{"share_id": s.share_id, "why": s.why.value} for s in shares]})
    else:
        _tables(held, given)
        for petname, shares in lost.items():
            click.echo(
                f"{petname}: " + ("showed a piece of every share" if not shares else f"lost {len(shares)} shares")
            )
    for at in silent:
        click.echo(f"{at.node.petname}: {at.problem}", err=True)


@delegate.command()
@click.argument("target", metavar="ID|KEY")
@profile_option
@json_option
def revoke(target: str, profile: Path | None, as_json: bool) -> None:
    """End the delegation ID, or all of the holder of KEY, with what they handed on, at every node. It is for good.

    What was stored stays on your account until you drop it: lnstore delegate drop ID.

    \b
    Example:
      lnstore delegate revoke 3f2a9c41
    """
    from lnstore.client.delegates import revoke as end
    from lnstore.client.files import open_client

    async def work() -> int:
        loaded = load_profile(profile)
        with loaded.writing():
            async with open_client(loaded) as client:
                return await end(client, target)

    told = run(work)
    if as_json:
        print_json({"ok": True, "nodes": told})
    else:
        click.echo(f"revoked; {told} node{'s were' if told > 1 else ' was'} told")


@delegate.command()
@click.argument("target", metavar="ID")
@profile_option
@json_option
def drop(target: str, profile: Path | None, as_json: bool) -> None:
    """Delete everything that was stored by the delegation ID, at every node, so that its room is free again.

    \b
    Example:
      lnstore delegate drop 3f2a9c41
    """
    from lnstore.client.delegates import drop as give_up
    from lnstore.client.files import open_client

    async def work() -> int:
        loaded = load_profile(profile)
        with loaded.writing():
            async with open_client(loaded) as client:
                return await give_up(client, target)

    dropped = run(work)
    if as_json:
        print_json({"ok": True, "shares": dropped})
    else:
        click.echo(f"dropped {dropped} shares")


# --- as people and programs read it -----------------------------------------------------------------------------------


def _held_json(held: Held) -> dict[str, Any]:
    return {
        **certificate_json(held.certificate),
        "id": held.certificate_id,
        "under": held.parent,
        "given_to_you": False,
        "revoked": held.revoked,
        "usage": [{"node": petname, **usage_json(usage)} for petname, usage in held.usages.items()],
    }


def _tables(held: list[Held], given: list[DelegationEntry]) -> None:
    if not held and not given:
        pairs({"delegations": "none; see lnstore delegate create --help"})
    if held:
        rows = [
            [
                shown(one.certificate_id),
                shown(one.certificate.subject),
                "revoked" if one.revoked else limits_of(one.certificate),
                petname,
                human_bytes(usage.used_bytes) if usage else "",
                human_bytes(usage.read_bytes) if usage else "",
                human_time(usage.last_seen_at) if usage else "never",
            ]
            for one in held
            for petname, usage in (one.usages.items() or [("", None)])
        ]
        table("given", ["id", "to", "limits", "node", "used", "read", "last seen"], rows)
    if given:
        rows = [
            [shown(entry.certificate_id), shown(entry.certificate.issuer), limits_of(entry.certificate)]
            for entry in given
        ]
        table("given to you", ["id", "by", "limits"], rows)
