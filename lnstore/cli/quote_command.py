"""`lnstore rent quote`: the known nodes side by side, before anything is asked for or paid."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnstore.cli.budget_lines import print_verdicts, verdicts_json
from lnstore.cli.output import (
    human_msat,
    human_time,
    json_option,
    print_json,
    profile_option,
    run,
    size_argument,
    table,
)
from lnstore.cli.session import open_purse
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lnstore.client.budgets import BudgetVerdict
    from lnstore.client.quote import Quote, QuoteRow

COLUMNS = (
    "node",
    "score #",
    "per GiB-month",
    "rent",
    "per period",
    "reading it once",
    "writing it once",
    "channel",
    "rented, free",
    "answers in",
    "terms until",
    "prices hold for",
    "",
)


@click.command()
@click.argument("size")
@click.option("--months", type=click.IntRange(1, 1200), default=1, show_default=True, help="Months of 30 days.")
@click.option("--needed", type=click.IntRange(1, 256), help="SIZE is of files: any so many shares give them back …")
@click.option("--total", type=click.IntRange(1, 256), help="… of so many, one at each of the best nodes.")
@profile_option
@json_option
def quote(
    *, size: str, months: int, needed: int | None, total: int | None, profile: Path | None, as_json: bool
) -> None:
    """Compare the known nodes: what SIZE of capacity costs at each; nothing is asked for or paid.

    With --needed and --total SIZE is what your files have, and the best nodes together store it. The order is that in
    which nodes are chosen: those that are trusted first, cheap ones before dear ones; last, with the reason, those
    where nothing would be stored.

    \b
    Examples:
      lnstore rent quote 20GiB --months 12
      lnstore rent quote 60GiB --months 12 --needed 3 --total 5
    """
    from lnstore.client.budgets import all_budgets
    from lnstore.client.comparing import offers
    from lnstore.client.quote import budget_verdicts
    from lnstore.client.quote import quote as compute

    size_bytes = size_argument(size, "SIZE")
    if (needed is None) != (total is None) or (needed or 0) > (total or 0):
        raise click.UsageError("give both --needed and --total, the first at most the second")
    coding = None if needed is None or total is None else (needed, total)

    async def work() -> tuple[Quote, list[BudgetVerdict]]:
        async with open_purse(profile) as purse:
            periods = purse.config.channel_periods
            result = compute(size_bytes, months, await offers(purse), channel_periods=periods, coding=coding)
            uses = all_budgets(purse.catalog, purse.budgets, purse.clock.now())
            return result, budget_verdicts(result, uses)

    result, verdicts = run(work)
    if as_json:
        chosen = [row.petname for row in result.chosen]
        print_json({**asdict(result), "chosen": chosen, "budgets": verdicts_json(verdicts)})
        return
    print_quote(result, verdicts)


def print_quote(quoted: Quote, verdicts: Sequence[BudgetVerdict]) -> None:
    """The table, the sums, and what the budgets say."""
    months = f"{quoted.months} month{'s' if quoted.months > 1 else ''} of 30 days"
    what = human_bytes(quoted.capacity_bytes)
    if quoted.data_bytes is not None:
        what = f"{human_bytes(quoted.data_bytes)} of files, any {quoted.needed} of {quoted.total} shares: {what} a node"
    table(f"{what}, for {months}", list(COLUMNS), [_cells(row) for row in quoted.rows])
    chosen = quoted.chosen
    who = f"{'all' if quoted.data_bytes is None else 'the best'} {len(chosen)}"
    click.echo(
        f"{who}: {human_msat(quoted.total_msat)}, {human_msat(quoted.month_msat)} a month; writing it once "
        f"{human_msat(quoted.write_once_msat)}, reading it once {human_msat(quoted.read_once_msat)}; channels stay "
        "your own money"
    )
    if len(chosen) < quoted.wanted:
        click.echo(f"only {len(chosen)} of {quoted.wanted} nodes; add more with: lnstore nodes add", err=True)
    if quoted.data_bytes is not None:
        keys = len({row.lightning_id for row in chosen})
        hosts = len({row.host for row in chosen})
        click.echo(f"{len(chosen)} node keys, {keys} Lightning keys, {hosts} hosts")
    for sentence in quoted.same:
        click.echo(f"warning: {sentence}", err=True)
    print_verdicts(verdicts)


def _cells(row: QuoteRow) -> list[str]:
    pinned = f"pinned to {row.fiat_per_tib_month} {row.fiat_currency}/TiB" if row.fiat_currency else ""
    return [
        row.petname,
        str(row.score),
        human_msat(row.price_msat_per_gib_month),
        human_msat(row.rent_msat),
        human_msat(row.rent_msat_per_period),
        human_msat(row.read_once_msat),
        human_msat(row.write_once_msat),
        row.channel or f"{row.channel_sat:,} sat to open",
        "" if row.free_bytes is None else human_bytes(row.free_bytes),
        "" if row.latency_seconds is None else f"{row.latency_seconds * 1000:.0f} ms",
        human_time(row.terms_valid_until_at),
        f"{row.price_periods} periods",
        "; ".join(filter(None, [row.out, pinned])),
    ]
