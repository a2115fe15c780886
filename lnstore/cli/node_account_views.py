"""`lnstore node accounts list|show|export`: what an operator sees of the accounts of a node."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.delegation_words import certificate_json, limits_of, shown, usage_json
from lnstore.cli.ledger_commands import opened
from lnstore.cli.output import human_msat, human_time, json_option, pairs, print_json, run, table
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from lnstore.node.account_delegates import Delegate
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
    """One account in full, with who acts for it and within which limits.

    \b
    Example:
      lnstore node accounts show ~/lnstore-node alice
    """
    from lnstore.clock import clock_for
    from lnstore.config import NodeConfig
    from lnstore.lightning.core import CoreLightning
    from lnstore.node import accounting
    from lnstore.node.account_delegates import delegates_of

    config = NodeConfig.load(directory)
    lightning = CoreLightning(config.lightning_rpc)

    async def work() -> tuple[Overview, list[Delegate]]:
        async with opened(directory) as books:
            one = await accounting.overview(books, account, lightning)
            return one, await delegates_of(books, one.account.account_id)

    one, delegates = run(work)
    now = clock_for(config.clock_file).now()
    if as_json:
        print_json({**one.as_json(), "delegates": [_delegate_json(delegate, now) for delegate in delegates]})
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
            "delegates": f"{len(delegates):,}" if delegates else "none",
        }
    )
    if delegates:
        columns = ["delegate", "to", "limits", "used", "shares", "written", "read", "last seen", "state"]
        table("", columns, [_delegate_row(delegate, now) for delegate in delegates])


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


def _delegate_row(one: Delegate, now: int) -> list[str]:
    from lnstore_protocol.delegation import UNLIMITED

    usage = one.usage
    read = human_bytes(usage.read_bytes)
    if one.certificate.maximum_read_bytes < UNLIMITED:
        read += f" of {human_bytes(one.certificate.maximum_read_bytes)}"
    return [
        "└ " * one.depth + shown(one.certificate_id),
        shown(one.certificate.subject),
        limits_of(one.certificate),
        human_bytes(usage.used_bytes),
        f"{usage.shares:,}",
        human_bytes(usage.written_bytes),
        read,
        human_time(usage.last_seen_at),
        one.ended(now) or "good",
    ]


def _delegate_json(one: Delegate, now: int) -> dict[str, Any]:
    return {
        **certificate_json(one.certificate),
        "id": one.certificate_id,
        "under": one.usage.parent,
        "expired": one.certificate.expires_at <= now,
        **usage_json(one.usage),
    }
