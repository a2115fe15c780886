"""`lnstore node ledger`: what a node's books say, for people, spreadsheets and accountants."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnstore.cli.dates import Date, span_options
from lnstore.cli.output import human_msat, human_time, json_option, print_json, run, seconds_argument, table

if TYPE_CHECKING:
    from lnstore.node.reconcile import Reconciled
    from lnstore.ports import Books, Income, Posting
    from lnstore_protocol.ids import Msat

DIRECTORY = click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
PAGE = 1_000
"""Postings read at a time."""

MAX_REASON = 200

MEANINGS = {
    "lightning": "received by the Lightning daemon",
    "deposit": "owed to clients: prepaid for traffic",
    "hold": "owed to clients: held for reading under way",
    "rent": "earned: rent",
    "growth": "earned: capacity added within a period",
    "egress": "earned: reading",
    "ingress": "earned: writing",
    "refund": "given back into deposits",
    "written-off": "earned: deposits written off",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def ledger() -> None:
    """What the node in DIRECTORY received, earned and owes. All but write-off also work while it runs, or not.

    Dates are UTC; --from is inclusive, --to exclusive.
    """


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Books]:
    """The node's books."""
    from lnstore.config import NodeConfig
    from lnstore.node.app import open_books

    NodeConfig.load(directory)
    async with open_books(directory) as books:
        yield books


async def pages(books: Books, from_at: int | None, until_at: int | None) -> AsyncIterator[list[Posting]]:
    """All postings of a span of time in order, never more than a page of them in memory."""
    after = 0
    while page := await books.postings(after_posting_id=after, limit=PAGE, from_at=from_at, until_at=until_at):
        yield page
        after = page[-1].posting_id


@ledger.command()
@DIRECTORY
@click.option("--to", "until_at", type=Date(), metavar="DATE", help="As it was when this date began (UTC).")
@click.option("--accounts", "each", is_flag=True, help="Every client's ledger accounts one by one.")
@json_option
def balance(directory: Path, until_at: int | None, each: bool, as_json: bool) -> None:
    """The trial balance: debits less credits of every ledger account, added up anew; they come to 0.

    \b
    Example:
      lnstore node ledger balance ~/lnstore-node --to 2027-01-01
    """

    async def work() -> dict[str, Msat]:
        async with opened(directory) as books:
            return await books.balances(until_at=until_at)

    balances = run(work)
    shown: dict[str, int] = dict(balances) if each else {}
    if not each:
        for name, amount in balances.items():
            kind = name.partition(":")[0]
            shown[kind] = shown.get(kind, 0) + amount
    total = sum(balances.values())
    if as_json:
        print_json({"balances_msat": shown, "sum_msat": total})
        return
    rows = [[name, str(amount), MEANINGS.get(name.partition(":")[0], "")] for name, amount in shown.items()]
    table("", ["ledger account", "msat", ""], [*rows, ["sum", str(total), ""]])


@ledger.command()
@DIRECTORY
@span_options
@json_option
def journal(directory: Path, from_at: int | None, until_at: int | None, as_json: bool) -> None:
    """Every posting in order: date, kind, debit, credit, amount in msat, reference. One line (or JSON object) each.

    \b
    Example:
      lnstore node ledger journal ~/lnstore-node --from 2026-12 --to 2027-01
    """

    async def work() -> None:
        async with opened(directory) as books:
            async for page in pages(books, from_at, until_at):
                for one in page:
                    if as_json:
                        print_json(asdict(one))
                    else:
                        sides = f"{short(one.debit)} <- {short(one.credit)}"
                        kind, amount = f"{one.kind:<16}", f"{one.amount_msat:>14} msat"
                        click.echo(f"{human_time(one.at)}  {kind}  {amount}  {sides}  {one.reference}")

    run(work)


def short(name: str) -> str:
    """A ledger account's name as a person reads it: `rent:1d84deb800fe7b8d`."""
    kind, colon, account = name.partition(":")
    return f"{kind}{colon}{account[:16]}"


@ledger.command()
@DIRECTORY
@span_options
@click.option("--accounts", "each", is_flag=True, help="By client, too.")
@json_option
def income(*, directory: Path, from_at: int | None, until_at: int | None, each: bool, as_json: bool) -> None:
    """What was earned, by calendar month (UTC) and kind; refunds count below 0.

    \b
    Example:
      lnstore node ledger income ~/lnstore-node --from 2026 --accounts
    """

    async def work() -> list[Income]:
        async with opened(directory) as books:
            return await books.income(from_at=from_at, until_at=until_at, by_account=each)

    rows = run(work)
    total = sum(row.amount_msat for row in rows)
    if as_json:
        for row in rows:
            print_json(asdict(row))
        print_json({"total_msat": total})
        return
    table(
        "",
        ["month", "kind", *(["account"] if each else []), "msat", ""],
        [
            [
                row.month,
                row.kind,
                *([row.account_id.hex()] if row.account_id else []),
                str(row.amount_msat),
                human_msat(row.amount_msat),
            ]
            for row in rows
        ],
    )
    click.echo(f"in all: {human_msat(total)}")


@ledger.command()
@DIRECTORY
@span_options
@click.option(
    "--format", "form", type=click.Choice(["csv", "beancount"]), default="csv", show_default=True, help="Which"
)
@json_option
def export(*, directory: Path, from_at: int | None, until_at: int | None, form: str, as_json: bool) -> None:
    """Write the ledger to standard output, as a spreadsheet or for the accounting program beancount.

    CSV has a line for each posting. The beancount file opens each account, begins with the balances that --from finds,
    and has a transaction for each posting, in SAT with three decimals. --json prints the postings as JSON instead.

    \b
    Example:
      lnstore node ledger export ~/lnstore-node --format beancount --from 2026 --to 2027 > 2026.beancount
    """
    from lnstore.cli.ledger_export import beancount_lines, csv_lines, json_lines

    async def work() -> None:
        async with opened(directory) as books:
            write = json_lines if as_json else {"csv": csv_lines, "beancount": beancount_lines}[form]
            async for line in write(books, from_at, until_at):
                click.echo(line)

    run(work)


@ledger.command()
@DIRECTORY
@click.option("--allow-deleted", is_flag=True, help="The daemon deletes old invoices: do not name those it lacks.")
@json_option
def verify(directory: Path, allow_deleted: bool, as_json: bool) -> None:
    """Add every balance up anew and compare the books with lightningd's invoices; name each difference.

    Payments that were received and are yet to be credited, since the node does not run, are no difference. A node's
    daemon makes payments on chain only (`lnstore node sweep`), so that there are none to compare. Exits with 0 when all
    agrees, 7 when something differs, 5 when the daemon does not answer.

    \b
    Example:
      lnstore node ledger verify ~/lnstore-node
    """
    from lnstore.config import NodeConfig
    from lnstore.lightning.core import CoreLightning
    from lnstore.node.reconcile import LedgerDiffers, reconcile

    config = NodeConfig.load(directory)

    async def work() -> Reconciled:
        async with opened(directory) as books:
            return await reconcile(books, CoreLightning(config.lightning_rpc), deleted_are_fine=allow_deleted)

    result = run(work)
    if as_json:
        print_json({"ok": not result.differences, **asdict(result)})
    else:
        click.echo(
            f"{result.invoices:,} invoices, {result.paid:,} paid with {human_msat(result.received_msat)} in all; "
            f"{result.waiting:,} of them ({human_msat(result.waiting_msat)}) are yet to be credited"
        )
        for difference in result.differences:
            click.echo(f"{difference.kind}: {difference.text}")
        if not result.differences:
            click.echo("the books add up and agree with the Lightning daemon")
    if result.differences:
        raise LedgerDiffers(len(result.differences))


@ledger.command("write-off")
@DIRECTORY
@click.argument("account")
@click.option("--reason", required=True, help="Why; it stays in the ledger.")
@click.option("--lapsed-for", default="730d", show_default=True, metavar="TIME", help="Only if so long; at least 180d.")
@json_option
def write_off(*, directory: Path, account: str, reason: str, lapsed_for: str, as_json: bool) -> None:
    """Take the deposit of ACCOUNT (64 hex digits), which lapsed long ago, as income. It can not be undone.

    An account that pays, is in grace, or lapsed more recently keeps its deposit, for when it is opened anew.

    \b
    Example:
      lnstore node ledger write-off ~/lnstore-node ACCOUNT --reason "lapsed in 2024, no answer"
    """
    from lnstore.clock import clock_for
    from lnstore.config import NodeConfig
    from lnstore.node.errors import NodeSetupError
    from lnstore.ports import BooksRefused
    from lnstore_protocol.ids import AccountId

    seconds = seconds_argument(lapsed_for, "--lapsed-for")
    if not 1 <= len(reason) <= MAX_REASON or not reason.isprintable():
        raise click.BadParameter(f"1 to {MAX_REASON} printable characters", param_hint="--reason")
    try:
        account_id = AccountId.from_hex(account)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="ACCOUNT") from exc
    now = clock_for(NodeConfig.load(directory).clock_file).now()

    async def work() -> Msat:
        async with opened(directory) as books:
            return await books.write_off(account_id, now, after_seconds=seconds, reason=reason)

    try:
        amount = run(work)
    except BooksRefused as refused:
        raise NodeSetupError(f"nothing was written off: {refused}") from refused
    if as_json:
        print_json({"ok": True, "account_id": account_id, "written_off_msat": amount})
    else:
        click.echo(f"{human_msat(amount)} written off")
