"""What the demo tells a person at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from lnstore.cli.output import human_msat, table
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from lnstore.cli.demo import DemoPlan, DemoResult


def report(plan: DemoPlan, result: DemoResult) -> None:
    """Who stored what, what was paid to whom and for which proof, channels, ledgers, the comparison."""
    click.echo()
    table(
        "Who stored what, and was paid what",
        ["node", "shares", "size", "first month", "rents paid", "rent paid", "deposit paid", ""],
        [
            [
                node.name,
                str(node.shares),
                human_bytes(node.share_bytes),
                human_msat(node.capacity_msat),
                str(len(node.rents)),
                human_msat(sum(paid.amount_msat for paid in node.rents)),
                human_msat(node.deposit_msat),
                "killed" if node.killed else "",
            ]
            for node in result.nodes
        ],
    )
    if result.rents:
        click.echo()
        table(
            "The last rent payment to each node: its preimage was the proof",
            ["node", "month #", "shares proven #", "preimage"],
            [
                [paid.petname, str(paid.period + 1), f"{paid.sampled} of {paid.shares}", (paid.preimage or b"").hex()]
                for paid in (node.rents[-1] for node in result.nodes if node.rents)
            ],
        )
    click.echo()
    table(
        "Your side of the channels",
        ["node", "before sat", "after sat", "difference sat"],
        [
            [
                node.name,
                f"{node.channel_before_msat / 1000:,.3f}",
                f"{node.channel_after_msat / 1000:,.3f}",
                f"{(node.channel_after_msat - node.channel_before_msat) / 1000:,.3f}",
            ]
            for node in result.nodes
        ],
    )
    click.echo()
    table(
        "The ledgers",
        ["", "Lightning msat", "all accounts msat"],
        [
            ["you", *_ledger_cells(result.client_books)],
            *[[node.name, *_ledger_cells(node.books)] for node in result.nodes],
            ["fees", f"{result.client_books.get('fees', 0):,}", ""],
            ["together", f"{result.ledger_sum_msat:,}", "0" if result.books_add_up else "does not add up"],
        ],
    )
    click.echo()
    click.echo(f"stored  {result.sha256_in}  {human_bytes(result.bytes)} at {result.upload_mb_per_s} MB/s")
    click.echo(
        f"read    {result.sha256_out}  from {plan.needed} of {plan.nodes} nodes at {result.download_mb_per_s} MB/s"
    )
    if result.ok:
        click.echo("The bytes are equal, and every ledger adds up to 0.")


def _ledger_cells(books: Mapping[str, int]) -> list[str]:
    return [f"{books.get('lightning', 0):,}", f"{sum(books.values()):,}"]
