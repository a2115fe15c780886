"""`lnstore node accounts`: who stores at a node, and what its operator decides about them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnstore.cli.ledger_commands import opened
from lnstore.cli.output import (
    human_bytes,
    human_msat,
    human_time,
    json_option,
    pairs,
    print_json,
    run,
    size_argument,
    table,
)

if TYPE_CHECKING:
    from lnstore.node.accounting import Overview
    from lnstore.ports import Account, Books

DIRECTORY = click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
ACCOUNT = click.argument("account", metavar="ACCOUNT")


class _ListsByDefault(click.Group):
    """`accounts DIRECTORY` is `accounts list DIRECTORY`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put in the command that goes without saying."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_ListsByDefault, context_settings={"help_option_names": ["-h", "--help"]})
def accounts() -> None:
    """List the accounts of the node in DIRECTORY, and decide about them; also while it runs, or not.

    ACCOUNT is a petname or the beginning of an account's id. A running node goes by a decision from its next request
    on.
    """


@accounts.command("list")
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


@accounts.command()
@DIRECTORY
@ACCOUNT
@json_option
def show(directory: Path, account: str, as_json: bool) -> None:
    """One account in full.

    \b
    Example:
      lnstore node accounts show ~/lnstore-node alice
    """
    from lnstore.node import accounting

    async def work() -> Overview:
        async with opened(directory) as books:
            return await accounting.overview(books, account)

    one = run(work)
    if as_json:
        print_json(one.as_json())
        return
    held, figures = one.account, one.figures
    pairs(
        {
            "account": held.account_id.hex(),
            "petname": held.petname or "none",
            "state": _state(one),
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
            "channel": CHANNEL,
        }
    )


@accounts.command()
@DIRECTORY
@ACCOUNT
@click.argument("petname", required=False)
@json_option
def name(directory: Path, account: str, petname: str | None, as_json: bool) -> None:
    """Call ACCOUNT by a PETNAME of yours, which nobody else is told; without one, take its petname away.

    \b
    Example:
      lnstore node accounts name ~/lnstore-node 5f0c1d2e alice
    """
    from lnstore.node import accounting
    from lnstore.ports import PetnameTaken

    async def work(books: Books, found: Account, _now: int) -> None:
        try:
            await books.name_account(found.account_id, None if petname is None else accounting.check_petname(petname))
        except PetnameTaken:
            raise accounting.AccountUnfit(f"another account is called {petname!r}; choose another name") from None

    _change(directory, account, work, as_json=as_json)


@accounts.command()
@DIRECTORY
@ACCOUNT
@click.argument("size", required=False)
@json_option
def quota(directory: Path, account: str, size: str | None, as_json: bool) -> None:
    """Let ACCOUNT store at most SIZE, whatever it has rented; without SIZE, as much as it has rented.

    What it has stored already stays, and its rent stays what it is. The client is told of the quota.

    \b
    Example:
      lnstore node accounts quota ~/lnstore-node alice 5GiB
    """
    most = None if size is None else size_argument(size, "SIZE")

    async def work(books: Books, found: Account, _now: int) -> None:
        await books.set_quota(found.account_id, most)

    _change(directory, account, work, as_json=as_json)


@accounts.command()
@DIRECTORY
@ACCOUNT
@click.option("--off", is_flag=True, help="Take again what the agreement says, from the next period on.")
@json_option
def free(directory: Path, account: str, off: bool, as_json: bool) -> None:
    """Take no rent, and nothing for reading, from ACCOUNT. It still proves every period that it is served.

    An invoice that it was given before is still good.

    \b
    Example:
      lnstore node accounts free ~/lnstore-node alice
    """

    async def work(books: Books, found: Account, now: int) -> None:
        await books.set_free(found.account_id, now, free=not off)

    _change(directory, account, work, as_json=as_json)


@accounts.command()
@DIRECTORY
@ACCOUNT
@json_option
def block(directory: Path, account: str, as_json: bool) -> None:
    """Take no more writes and no more money from ACCOUNT: it lapses when what it has paid, and the grace, are over.

    Until then it may read, list and drop what it has stored. An invoice that it was given before is still good.

    \b
    Example:
      lnstore node accounts block ~/lnstore-node 5f0c1d2e
    """

    async def work(books: Books, found: Account, now: int) -> None:
        await books.set_blocked(found.account_id, now, blocked=True)

    _change(directory, account, work, as_json=as_json)


@accounts.command()
@DIRECTORY
@ACCOUNT
@json_option
def unblock(directory: Path, account: str, as_json: bool) -> None:
    """Serve ACCOUNT again as any other.

    \b
    Example:
      lnstore node accounts unblock ~/lnstore-node 5f0c1d2e
    """

    async def work(books: Books, found: Account, now: int) -> None:
        await books.set_blocked(found.account_id, now, blocked=False)

    _change(directory, account, work, as_json=as_json)


@accounts.command()
@DIRECTORY
@click.argument("account_id", metavar="ACCOUNT_ID")
@json_option
def allow(directory: Path, account_id: str, as_json: bool) -> None:
    """Let the key ACCOUNT_ID (64 hex digits) open an account where accounts are by invitation (node.toml: accounts).

    \b
    Example:
      lnstore node accounts allow ~/lnstore-node 5f0c…e1
    """
    from lnstore.node import accounting

    key = accounting.account_id(account_id)

    async def work() -> bool:
        async with opened(directory) as books:
            return await books.allow_account(key)

    new = run(work)
    if as_json:
        print_json({"ok": True, "account_id": key.hex(), "new": new})
    else:
        click.echo("allowed" if new else "it was allowed already")


@accounts.command()
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

CHANNEL = "unknown"
"""Lightning tells a payee over which channel a payment came no more than who paid it."""

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
)


async def _overviews(directory: Path) -> list[Overview]:
    from lnstore.node import accounting

    async with opened(directory) as books:
        return await accounting.overviews(books)


def _change(
    directory: Path, text: str, work: Callable[[Books, Account, int], Awaitable[None]], *, as_json: bool
) -> None:
    """Do something to the account that the text names, and say how it stands then."""
    from lnstore.clock import clock_for
    from lnstore.config import NodeConfig
    from lnstore.node import accounting

    now = clock_for(NodeConfig.load(directory).clock_file).now()

    async def change() -> Overview:
        async with opened(directory) as books:
            found = (await accounting.overview(books, text)).account
            await work(books, found, now)
            return await accounting.overview(books, found.account_id.hex())

    one = run(change)
    if as_json:
        print_json({"ok": True, **one.as_json()})
        return
    most = "" if one.account.quota_bytes is None else f", at most {human_bytes(one.account.quota_bytes)}"
    click.echo(
        f"{one.name}: {_state(one)}, {human_bytes(one.account.used_bytes)} of "
        f"{human_bytes(one.account.capacity_bytes)} used{most}, paid until {human_time(one.account.paid_until_at)}"
    )


def _state(one: Overview) -> str:
    words = [one.account.state.name.lower()]
    words += ["blocked"] * one.account.blocked + ["free"] * one.at_no_price
    return ", ".join(words)


def _row(one: Overview) -> list[str]:
    account, figures = one.account, one.figures
    most = "" if account.quota_bytes is None else f" (quota {human_bytes(account.quota_bytes)})"
    return [
        one.name,
        _state(one),
        human_bytes(account.used_bytes),
        human_bytes(account.capacity_bytes) + most,
        f"{account.shares:,}",
        human_bytes(account.ingress_bytes),
        human_bytes(account.egress_bytes),
        human_msat(account.deposit_msat),
        human_time(account.paid_until_at),
        human_msat(figures.income_msat),
        f"{figures.proofs_passed:,} passed, {figures.proofs_failed:,} failed",
        CHANNEL,
    ]
