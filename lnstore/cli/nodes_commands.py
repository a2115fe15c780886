"""`lnstore nodes`: the storage nodes a client knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnstore.cli.output import SECRET_TEXT, human_msat, json_option, print_json, profile_option, run, table
from lnstore.cli.retire_command import retire
from lnstore.cli.score_commands import readmit, show
from lnstore.cli.session import open_purse
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from lnstore.client.scores import Score


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def nodes() -> None:
    """Add, list and judge storage nodes."""


@nodes.command()
@click.argument("addresses", metavar="ADDRESS…|-", nargs=-1, required=True, type=SECRET_TEXT)
@click.option("--petname", help="What you call the node (default: the beginning of its id). For one address only.")
@profile_option
@json_option
def add(addresses: tuple[str, ...], petname: str | None, profile: Path | None, as_json: bool) -> None:
    """Get to know the nodes at these addresses (lnstore://<node id>@host:port), or that invite you (lnsi1…).

    The node must hold the key in its address, prove that its Lightning key is its own, and be on your Lightning
    daemon's network. Run it again with a new address when a node has moved. An invitation is used up by the account
    that `lnstore rent buy` opens; it is forgotten when the node is added again without it. With - it is the first line
    of standard input, so that it is not among the arguments, which others on this machine can see.

    \b
    Example:
      lnstore nodes add lnstore://5f0c…e1@node.example.org:7460 --petname alice
      lnstore nodes add lnsi1q…
    """
    from lnstore.client.nodes import add_invited, add_node
    from lnstore_protocol.ids import NodeAddress
    from lnstore_protocol.invitations import Invitation, is_invitation, parse_invitation

    if petname is not None and len(addresses) > 1:
        raise click.UsageError("--petname names one node; give one address with it")
    try:
        parsed = [parse_invitation(text) if is_invitation(text) else NodeAddress.parse(text) for text in addresses]
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="ADDRESS") from exc

    async def work() -> None:
        async with open_purse(profile) as purse:
            for one in parsed:
                if isinstance(one, Invitation):
                    node = await add_invited(purse, one, petname)
                else:
                    node = await add_node(purse, one, petname)
                if as_json:
                    told = {"node_id": node.node_id, "petname": node.petname, "address": str(node.address)}
                    print_json({"ok": True, **told, "invited": isinstance(one, Invitation)})
                else:
                    invited = ", with its invitation" if isinstance(one, Invitation) else ""
                    click.echo(f"added {node.petname} at {node.address}{invited}")

    run(work)


for command in (show, readmit, retire):
    nodes.add_command(command)


@nodes.command()
@profile_option
@json_option
def ls(profile: Path | None, as_json: bool) -> None:
    """List the known nodes: prices, whether they answer, and your account there.

    \b
    Example:
      lnstore nodes ls
    """

    async def work() -> None:
        from lnstore.client.nodes import list_nodes
        from lnstore.client.scores import Scores

        async with open_purse(profile) as purse:
            listings = await list_nodes(purse)
            known = Scores(purse.catalog)
            scores = known.all([one.node.node_id for one in listings], purse.clock.now())
        if as_json:
            for one in listings:
                print_json(
                    {
                        "node_id": one.node.node_id,
                        "petname": one.node.petname,
                        "address": str(one.node.address),
                        "reachable": one.reachable,
                        "problem": one.problem,
                        "score": scores[one.node.node_id].value,
                        "suspended": scores[one.node.node_id].suspended,
                        "stand": scores[one.node.node_id].stand,
                        "uptime_percent": scores[one.node.node_id].uptime.percent,
                        "retiring": one.node.retiring,
                        "price_msat_per_gib_month": one.terms.price_msat_per_gib_month if one.terms else None,
                        "egress_msat_per_gib": one.terms.egress_msat_per_gib if one.terms else None,
                        "ingress_msat_per_gib": one.terms.ingress_msat_per_gib if one.terms else None,
                        "state": one.status.state.name.lower() if one.status else None,
                        "capacity_bytes": one.status.capacity_bytes if one.status else None,
                        "used_bytes": one.status.used_bytes if one.status else None,
                    }
                )
            return
        if not listings:
            click.echo("no node is known yet; add one with: lnstore nodes add lnstore://…")
            return
        table(
            "",
            [
                "node",
                "state",
                "score",
                "answers",
                "rent per GiB-month",
                "reading per GiB",
                "writing per GiB",
                "used",
                "capacity",
                "address",
            ],
            [
                [
                    one.node.petname,
                    "no answer" if not one.reachable else one.status.state.name.lower() if one.status else "no account",
                    _score_cell(scores[one.node.node_id], retiring=one.node.retiring),
                    _percent(scores[one.node.node_id].uptime.percent),
                    human_msat(one.terms.price_msat_per_gib_month) if one.terms else "?",
                    human_msat(one.terms.egress_msat_per_gib) if one.terms else "?",
                    human_msat(one.terms.ingress_msat_per_gib) if one.terms else "?",
                    human_bytes(one.status.used_bytes) if one.status else "",
                    human_bytes(one.status.capacity_bytes) if one.status else "",
                    f"lnstore://{one.node.node_id.hex()[:8]}…@{one.node.address.host}:{one.node.address.port}",
                ]
                for one in listings
            ],
        )
        for one in listings:
            if one.problem:
                click.echo(f"{one.node.petname}: {one.problem}", err=True)

    run(work)


def _score_cell(score: Score, *, retiring: bool) -> str:
    stand = "" if score.stand == "trusted" else f", {score.stand}"
    return f"{score.value}{stand}{', retiring' if retiring else ''}"


def _percent(part: int | None) -> str:
    return "" if part is None else f"{part} %"
