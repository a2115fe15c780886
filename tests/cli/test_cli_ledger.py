"""`lnstore node ledger`: what an operator and an accountant are shown."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from lnstore.books import SqlBooks
from lnstore.cli import cli
from lnstore.node import init_node
from lnstore.node.app import BOOKS_FILE
from lnstore.ports import Invoice, InvoiceStatus, PlannedInvoice
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, LightningId, Msat, NodeId
from lnstore_protocol.messages import InvoicePurpose
from lnstore_protocol.terms import Agreement, ChannelPolicy, Terms

DECEMBER = int(datetime(2026, 12, 10, tzinfo=UTC).timestamp())
JANUARY = int(datetime(2027, 1, 2, tzinfo=UTC).timestamp())
GIB = 1 << 30
NODE, CLIENT = Identity(b"\x01" * 32), Identity(b"\x02" * 32)
ACCOUNT = AccountId(CLIENT.public_key)


def _agreement() -> Agreement:
    terms = Terms(
        node_id=NodeId(NODE.public_key),
        lightning_id=LightningId(b"\x02" * 33),
        network="regtest",
        price_msat_per_gib_month=Msat(2000),
        egress_msat_per_gib=Msat(1000),
        ingress_msat_per_gib=Msat(0),
        period_seconds=2_592_000,
        grace_seconds=604_800,
        price_periods=1,
        minimum_capacity_bytes=0,
        maximum_capacity_bytes=1 << 50,
        channel_policy=ChannelPolicy.ANY,
        minimum_channel_sat=0,
        valid_from_at=0,
        valid_until_at=1 << 40,
    ).sign(NODE)
    return Agreement.propose(terms, CLIENT, DECEMBER).countersign(NODE)


async def _fill(books: SqlBooks) -> None:
    """A growth and a deposit in December; reading, rent and a deposit in January: 2027-01 begins between them."""
    await books.open_account(_agreement(), DECEMBER)
    payments = (
        (InvoicePurpose.CAPACITY, 0, 40_000, 20 * GIB, DECEMBER),
        (InvoicePurpose.DEPOSIT, 0, 5_000, 0, DECEMBER),
        (InvoicePurpose.RENT, 1, 40_000, 20 * GIB, JANUARY),
        (InvoicePurpose.DEPOSIT, 1, 3, 0, JANUARY + 60),
    )
    for pay_index, (purpose, index, amount, capacity, at) in enumerate(payments, 1):
        rent = purpose is InvoicePurpose.RENT
        start = DECEMBER + index * 2_592_000 if rent else at
        planned = await books.plan_invoice(
            PlannedInvoice(
                label=f"lnstore/{ACCOUNT.hex()}/{purpose.name.lower()}/{index}/0",
                account_id=ACCOUNT,
                purpose=purpose,
                index=index,
                attempt=0,
                amount_msat=Msat(amount),
                from_at=start,
                until_at=start + (0 if purpose is InvoicePurpose.DEPOSIT else 2_592_000),
                capacity_bytes=capacity,
                expires_at=at + 3600,
                preimage=pay_index.to_bytes(32, "big"),
                token_index=0 if rent else None,
            )
        )
        invoice = Invoice(
            label=planned.label,
            bolt11="",
            payment_hash=planned.payment_hash,
            amount_msat=planned.amount_msat,
            expires_at=planned.expires_at,
            status=InvoiceStatus.PAID,
            pay_index=pay_index,
            paid_at=at,
            received_msat=planned.amount_msat,
        )
        assert await books.credit(invoice, at) is not None
    await books.name_account(ACCOUNT, 'al"ice')
    hold = await books.hold_egress(ACCOUNT, GIB, JANUARY)
    await books.settle_egress(hold, GIB // 2, JANUARY)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node's directory with books that were kept for two months."""
    directory = tmp_path_factory.mktemp("node")
    init_node(directory)

    async def fill() -> None:
        async with SqlBooks.open(directory / BOOKS_FILE) as books:
            await _fill(books)

    trio.run(fill)
    return directory


def ledger(*words: object) -> Result:
    return CliRunner().invoke(cli, ["node", "ledger", *map(str, words)])


def lines_of(*words: object) -> list[str]:
    result = ledger(*words)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def test_balance_adds_up_to_nothing_and_is_as_of_a_date(node: Path) -> None:
    (line,) = lines_of("balance", node, "--json")
    assert json.loads(line) == {
        "balances_msat": {
            "deposit": -4503,
            "egress": -500,
            "growth": -40000,
            "hold": 0,
            "lightning": 85003,
            "rent": -40000,
        },
        "sum_msat": 0,
    }
    (line,) = lines_of("balance", node, "--to", "2027-01", "--json", "--accounts")
    balances = json.loads(line)["balances_msat"]
    assert balances["lightning"] == 45000
    assert balances[f"deposit:{ACCOUNT.hex()}"] == -5000
    assert "sum" in ledger("balance", node).stdout


def test_journal_shows_every_posting_of_a_span_of_time(node: Path) -> None:
    """--from is inclusive, --to exclusive."""
    every = [json.loads(line) for line in lines_of("journal", node, "--json")]
    assert [one["kind"] for one in every] == ["growth", "deposit", "rent", "deposit", "hold", "egress", "hold returned"]
    at = datetime.fromtimestamp(JANUARY, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    kinds = [json.loads(line)["kind"] for line in lines_of("journal", node, "--json", "--from", at)]
    assert kinds == ["rent", "deposit", "hold", "egress", "hold returned"]
    assert [json.loads(line)["kind"] for line in lines_of("journal", node, "--json", "--to", at)] == [
        "growth",
        "deposit",
    ]
    shown = lines_of("journal", node, "--from", "2026-12-10", "--to", "2026-12-11")
    assert len(shown) == 2
    assert "40000 msat" in shown[0]
    assert f"growth:{ACCOUNT.hex()[:16]}" in shown[0]


def test_income_is_by_month_kind_and_account(node: Path) -> None:
    *rows, total = [json.loads(line) for line in lines_of("income", node, "--json")]
    assert [(row["month"], row["kind"], row["amount_msat"]) for row in rows] == [
        ("2026-12", "growth", 40000),
        ("2027-01", "egress", 500),
        ("2027-01", "rent", 40000),
    ]
    assert total == {"total_msat": 80500}
    (row, _) = [json.loads(line) for line in lines_of("income", node, "--json", "--accounts", "--to", "2027")]
    assert row["account_id"] == ACCOUNT.hex()
    assert "in all: 80.500 sat" in ledger("income", node).stdout


def test_csv_has_a_line_for_each_posting(node: Path) -> None:
    head, *rows = csv.reader(io.StringIO(ledger("export", node).stdout))
    assert head == ["posting", "time", "kind", "debit", "credit", "amount_msat", "reference", "petname"]
    assert rows[0][1:] == [
        "2026-12-10T00:00:00Z",
        "growth",
        "lightning",
        f"growth:{ACCOUNT.hex()}",
        "40000",
        f"lnstore/{ACCOUNT.hex()}/capacity/0/0",
        'al"ice',
    ]
    assert len(rows) == 7
    assert len(lines_of("export", node, "--json", "--from", "2027")) == 5


# --- beancount --------------------------------------------------------------------------------------------------------

_PLACE = r"(?:Assets|Liabilities|Income|Expenses|Equity)(?::[A-Z0-9][A-Za-z0-9-]*)+"
_LEG = re.compile(rf"  ({_PLACE})  (-?\d+\.\d{{3}}) SAT")


@dataclass
class Beancount:
    """What a strict reader makes of a file: everything opened once before its use, every transaction balanced."""

    balances: dict[str, Decimal]
    transactions: int

    @classmethod
    def read(cls, text: str) -> Beancount:
        balances: dict[str, Decimal] = defaultdict(Decimal)
        opened: set[str] = set()
        transactions, legs = 0, Decimal(0)
        for line in [*text.splitlines(), ""]:
            if found := _LEG.fullmatch(line):
                assert found[1] in opened, line
                balances[found[1]] += Decimal(found[2])
                legs += Decimal(found[2])
            elif found := re.fullmatch(rf"\d{{4}}-\d\d-\d\d open ({_PLACE}) SAT", line):
                assert found[1] not in opened, line
                opened.add(found[1])
            elif re.fullmatch(r'\d{4}-\d\d-\d\d \* "[^"\n]+"( "[^"\n]+")?', line):
                transactions += 1
                assert legs == 0
            else:
                assert re.fullmatch(
                    r'|option "\w+" "[\w ]+"|1970-01-01 commodity SAT|  petname: "al\\"ice"|  posting: \d+', line
                ), line
        assert legs == 0
        return cls(balances, transactions)


def test_beancount_opens_every_account_and_balances(node: Path) -> None:
    text = ledger("export", node, "--format", "beancount").stdout
    read = Beancount.read(text)
    client = ACCOUNT.hex().upper()
    assert read.transactions == 7
    assert read.balances == {
        "Assets:Lightning": Decimal("85.003"),
        f"Income:Growth:{client}": Decimal("-40.000"),
        f"Income:Rent:{client}": Decimal("-40.000"),
        f"Income:Egress:{client}": Decimal("-0.500"),
        f"Liabilities:Deposit:{client}": Decimal("-4.503"),
        f"Liabilities:Hold:{client}": Decimal(0),
    }


def test_beancount_begins_with_the_balances_of_its_first_day(node: Path) -> None:
    """What was earned before is equity."""
    text = ledger("export", node, "--format", "beancount", "--from", "2027").stdout
    read = Beancount.read(text)
    assert '2027-01-01 * "opening balances"' in text
    assert read.transactions == 6
    assert read.balances["Equity:Earlier-Earnings"] == Decimal("-40.000")
    assert read.balances["Assets:Lightning"] == Decimal("85.003")


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_write_off_is_for_accounts_that_lapsed_long_ago(node: Path, tmp_path: Path) -> None:
    """Never for one that is active; once; the reason stays in the ledger."""
    words = [ACCOUNT.hex(), "--reason", "no answer since 2027"]
    refused = ledger("write-off", node, *words)
    assert "has not lapsed" in str(refused.exception)
    directory = tmp_path / "later"
    init_node(directory)
    (directory / BOOKS_FILE).write_bytes((node / BOOKS_FILE).read_bytes())
    config = directory / "node.toml"
    config.write_text(config.read_text().replace('clock_file = ""', f'clock_file = "{tmp_path / "clock"}"'))
    for years, said in ((2, "not lapsed for long enough"), (4, "3"), (4, "nothing to write off")):
        at = JANUARY + years * 31_536_000
        (tmp_path / "clock").write_text(str(at - int(datetime.now(UTC).timestamp())))

        async def lapse(at: int = at) -> None:
            async with SqlBooks.open(directory / BOOKS_FILE) as books:
                await books.advance(at)

        trio.run(lapse)
        result = ledger("write-off", directory, *words, "--json")
        assert said in (result.stdout or str(result.exception))
    last = json.loads(lines_of("journal", directory, "--json")[-1])
    assert (last["kind"], last["amount_msat"]) == ("write-off", 4503)
    assert last["reference"] == f"write-off/{ACCOUNT.hex()}/0: no answer since 2027"
    assert json.loads(lines_of("income", directory, "--json")[-2])["kind"] == "written-off"
    with (
        sqlite3.connect(directory / BOOKS_FILE) as database,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        database.execute("UPDATE postings SET amount_msat = 1")


@pytest.mark.parametrize(
    "words",
    [
        ("journal", "{node}", "--from", "yesterday"),
        ("write-off", "{node}", "abc", "--reason", "x"),
        ("write-off", "{node}", "00" * 32, "--reason", ""),
        ("write-off", "{node}", "00" * 32, "--reason", "a\nb"),
        ("export", "{node}", "--format", "ods"),
    ],
)
def test_what_cannot_be_understood_is_a_usage_error(node: Path, words: tuple[str, ...]) -> None:
    assert ledger(*(word.format(node=node) for word in words)).exit_code == 2


def test_a_node_that_never_ran_has_no_books(tmp_path: Path) -> None:
    init_node(tmp_path)
    for command in ("balance", "journal", "income", "export", "verify"):
        assert "has no books yet" in str(ledger(command, tmp_path).exception)
    assert not (tmp_path / BOOKS_FILE).exists()
