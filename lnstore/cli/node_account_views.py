"""`lnstore node accounts list|show|export`: what an operator sees of the accounts of a node."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnstore.cli.ledger_commands import opened
from lnstore.cli.output import human_bytes, human_msat, human_time, json_option, pairs, print_json, run, table

if TYPE_CHECKING:
    from lnstore.node.accounting import Overview

DIRECTORY = click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
ACCOUNT = click.argument("account", metavar="ACCOUNT")


@click.command("list")
@DIRECTORY
@json_option
def list_command(directory: Path, as_json: bool) -> None:
    """Every account: what it has rented and uses, what it has paid and proven.

    \b
    Example:
      lnstore node accounts list ~/lnstore-node
      lnstore node accounts ~/lnstore-node
    """
    rows = run(lambda: _overviews(directory))
    if as_json:
        for row in rows:
            print_json(row.as_json())
        return
    if not rows:
        click.echo("no account yet")
        return
    columns = ["account", "state", "used", "capacity", "shares", "written", "read", "deposit", "paid until", "income"]
    table("", [*columns, "proofs", "channel"], [_row(row) for row in rows])


@click.command()
@DIRECTORY
@ACCOUNT
@json_option
def show(directory: Path, account: str, as_json: bool) -> None:
    """One account in full.

    \b
    Example:
      lnstore node accounts show ~/lnstore-node alice
    """
    from lnstore.config import NodeConfig
    from lnstore.lightning.core import CoreLightning
    from lnstore.node import accounting

    lightning = CoreLightning(NodeConfig.load(directory).lightning_rpc)

    async def work() -> Overview:
        async with opened(directory) as books:
            return await accounting.overview(books, account, lightning)

    one = run(work)
    if as_json:
        print_json(one.as_json())
        return
    held, figures = one.account, one.figures
    pairs(
        {
            "account": held.account_id.hex(),
            "petname": held.petname or "none",
            "state": state_words(one),
            "capacity": human_bytes(held.capacity_bytes),
            "quota": "none" if held.quota_bytes is None else human_bytes(held.quota_bytes),
            "used": f"{human_bytes(held.used_bytes)} in {held.shares:,} shares",
            "written, ever": human_bytes(held.ingress_bytes),
            "read, ever": human_bytes(held.egress_bytes),
            "deposit": human_msat(held.deposit_msat),
            "paid until": human_time(held.paid_until_at),
            "rent per GiB-month": human_msat(held.price_msat_per_gib_month),
            "income, ever": human_msat(figures.income_msat),
            "proofs": f"{figures.proofs_passed:,} passed, {figures.proofs_failed:,} failed",
            **_channel_lines(one),
        }
    )


@click.command()
@DIRECTORY
@click.option("--format", "form", type=click.Choice(["csv", "json"]), default="csv", show_default=True, help="Of what.")
@click.option("--json", "as_json", is_flag=True, help="As --format json.")
def export(directory: Path, form: str, as_json: bool) -> None:
    """All accounts for a spreadsheet or a program: times in Unix seconds, sizes in bytes, money in msat.

    \b
    Example:
      lnstore node accounts export ~/lnstore-node --format csv > accounts.csv
    """
    rows = [row.as_json() for row in run(lambda: _overviews(directory))]
    if form == "json" or as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    writer = csv.DictWriter(sys.stdout, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


# --- what they share --------------------------------------------------------------------------------------------------

COLUMNS = (
    "account_id",
    "petname",
    "state",
    "blocked",
    "free",
    "capacity_bytes",
    "quota_bytes",
    "used_bytes",
    "shares",
    "ingress_bytes",
    "egress_bytes",
    "deposit_msat",
    "paid_until_at",
    "price_msat_per_gib_month",
    "income_msat",
    "proofs_passed",
    "proofs_failed",
    "lightning_id",
    "channel",
    "channel_capacity_msat",
    "channel_receivable_msat",
)


async def _overviews(directory: Path) -> list[Overview]:
    from lnstore.config import NodeConfig
    from lnstore.lightning.core import CoreLightning
    from lnstore.node import accounting

    lightning = CoreLightning(NodeConfig.load(directory).lightning_rpc)
    async with opened(directory) as books:
        return await accounting.overviews(books, lightning)


def state_words(one: Overview) -> str:
    """State, blocked, free."""
    words = [one.account.state.name.lower()]
    words += ["blocked"] * one.account.blocked + ["free"] * one.at_no_price
    return ", ".join(words)


def _row(one: Overview) -> list[str]:
    account, figures = one.account, one.figures
    most = "" if account.quota_bytes is None else f" (quota {human_bytes(account.quota_bytes)})"
    return [
        one.name,
        state_words(one),
        human_bytes(account.used_bytes),
        human_bytes(account.capacity_bytes) + most,
        f"{account.shares:,}",
        human_bytes(account.ingress_bytes),
        human_bytes(account.egress_bytes),
        human_msat(account.deposit_msat),
        human_time(account.paid_until_at),
        human_msat(figures.income_msat),
        f"{figures.proofs_passed:,} passed, {figures.proofs_failed:,} failed",
        _channel(one),
    ]


def _channel(one: Overview) -> str:
    held = one.channels
    if held is None or not held.channels:
        return "" if held is None else held.standing.value
    return f"{held.standing.value}, {human_msat(held.capacity_msat)}"


def _channel_lines(one: Overview) -> dict[str, str]:
    held = one.channels
    if held is None or held.lightning_id is None:
        return {"channel": _channel(one)}
    lines = {"Lightning id, as it says": held.lightning_id.hex(), "channel": _channel(one)}
    if held.channels:
        lines["can be received over it"] = human_msat(held.receivable_msat)
    return lines
