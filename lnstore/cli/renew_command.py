"""`lnstore rent renew`: new storage tokens."""

from __future__ import annotations

from pathlib import Path

import click

from lnstore.cli.output import (
    json_option,
    print_json,
    profile_option,
    progress_lines,
    run,
)
from lnstore.cli.session import chosen_nodes, open_purse


@click.command()
@click.argument("nodes", metavar="[NODE…]", nargs=-1)
@click.option(
    "--below",
    type=click.IntRange(1, 24),
    default=4,
    show_default=True,
    help="Renew what has fewer proofs left than this.",
)
@click.option("--dry-run", is_flag=True, help="Only say what it takes.")
@profile_option
@json_option
def renew(nodes: tuple[str, ...], *, below: int, dry_run: bool, profile: Path | None, as_json: bool) -> None:
    """Make new storage tokens for shares whose tokens are nearly used up, at NODE or wherever you have an account.

    Each payment of rent uses up one of the 24 tokens that were made when a share was stored. Making new ones takes
    reading the share once, which the node charges to your deposit. What it will cost is said first.

    \b
    Example:
      lnstore rent renew --dry-run
    """
    from lnstore.client.renewal import plan_renewal
    from lnstore.client.renewal import renew as carry_out

    async def work() -> None:
        async with open_purse(profile) as purse:
            known = purse.catalog.nodes()
            chosen = chosen_nodes(purse.catalog, nodes, everything=False) if nodes else known
            for node in (node for node in chosen if nodes or node.agreement is not None):
                plan = await plan_renewal(purse, node, below=below)
                if not as_json:
                    click.echo(plan.sentence if plan.shares else f"{node.petname}: no share needs new tokens")
                tell = progress_lines(node.petname, as_json=as_json)
                renewed = await carry_out(purse, plan, progress=tell) if plan.shares and not dry_run else 0
                if as_json:
                    print_json(
                        {
                            "ok": True,
                            "node": node.petname,
                            "shares": len(plan.shares),
                            "bytes": plan.share_bytes,
                            "cost_msat": plan.cost_msat,
                            "deposit_msat": plan.deposit_msat,
                            "renewed": renewed,
                        }
                    )

    run(work)
