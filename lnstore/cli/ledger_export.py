"""The ledger as lines of CSV, of a beancount file, or of JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from lnstore.cli.dates import day
from lnstore.cli.ledger_commands import pages
from lnstore.ports import Books, Posting
from lnstore_protocol.ids import Msat

_COLUMNS = ("posting", "time", "kind", "debit", "credit", "amount_msat", "reference", "petname")

_PLACES = {
    "lightning": "Assets:Lightning",
    "deposit": "Liabilities:Deposit",
    "hold": "Liabilities:Hold",
    "rent": "Income:Rent",
    "growth": "Income:Growth",
    "egress": "Income:Egress",
    "ingress": "Income:Ingress",
    "written-off": "Income:Written-Off",
    "refund": "Expenses:Refund",
}
"""Where a kind of ledger account stands in a beancount file."""

EARLIER = "Equity:Earlier-Earnings"


async def json_lines(books: Books, from_at: int | None, until_at: int | None) -> AsyncIterator[str]:
    """A JSON object for each posting."""
    async for page in pages(books, from_at, until_at):
        for one in page:
            yield json.dumps(asdict(one))


async def csv_lines(books: Books, from_at: int | None, until_at: int | None) -> AsyncIterator[str]:
    """A line for each posting, after one with the columns' names; times are UTC."""
    yield _csv(_COLUMNS)
    petnames = await books.petnames()
    async for page in pages(books, from_at, until_at):
        for one in page:
            time = datetime.fromtimestamp(one.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            sides = (side.partition(":")[2] for side in (one.debit, one.credit))
            name = next((petnames[side] for side in sides if side in petnames), "")
            yield _csv((one.posting_id, time, one.kind, one.debit, one.credit, one.amount_msat, one.reference, name))


def _csv(values: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


async def beancount_lines(books: Books, from_at: int | None, until_at: int | None) -> AsyncIterator[str]:
    """A beancount file: accounts, opening balances, a transaction for each posting."""
    yield 'option "title" "lnstore node"'
    yield 'option "operating_currency" "SAT"'
    opened: set[str] = set()
    petnames = await books.petnames()
    start = day(from_at) if from_at is not None else None
    before: dict[str, Msat] = {} if from_at is None else await books.balances(until_at=from_at)
    yield "1970-01-01 commodity SAT"
    legs: dict[str, int] = {}
    for name, amount in before.items():
        place = _place(name)
        kept = place if place.startswith(("Assets:", "Liabilities:")) else EARLIER
        legs[kept] = legs.get(kept, 0) + amount
    legs = {place: owed for place, owed in legs.items() if owed}
    if legs:
        yield ""
        opened.update(legs)
        for place in legs:
            for line in _open(place, petnames):
                yield line
        yield f'{start} * "opening balances"'
        for place, total in legs.items():
            yield f"  {place}  {_sat(total)} SAT"
    async for page in pages(books, from_at, until_at):
        for one in page:
            yield ""
            for place in (_place(one.debit), _place(one.credit)):
                if place not in opened:
                    opened.add(place)
                    for line in _open(place, petnames):
                        yield line
            for line in _transaction(one):
                yield line


def _open(place: str, petnames: Mapping[str, str]) -> list[str]:
    petname = petnames.get(place.rpartition(":")[2].lower())
    lines = [f"1970-01-01 open {place} SAT"]
    return lines if petname is None else [*lines, f'  petname: "{_quoted(petname)}"']


def _transaction(one: Posting) -> list[str]:
    return [
        f'{day(one.at)} * "{_quoted(one.kind)}" "{_quoted(one.reference)}"',
        f"  posting: {one.posting_id}",
        f"  {_place(one.debit)}  {_sat(one.amount_msat)} SAT",
        f"  {_place(one.credit)}  {_sat(-one.amount_msat)} SAT",
    ]


def _place(name: str) -> str:
    """`rent:1d84…` as `Income:Rent:1D84…`: a part of a name begins with a capital letter or a digit."""
    kind, _, account = name.partition(":")
    return ":".join([_PLACES[kind], *([account.upper()] if account else [])])


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _sat(amount_msat: int) -> str:
    sign, amount = "-" if amount_msat < 0 else "", abs(amount_msat)
    return f"{sign}{amount // 1000}.{amount % 1000:03}"
