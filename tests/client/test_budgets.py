"""Budgets: whatever is paid, fails, stays open, is tried again or killed, in whichever process: no more leaves."""

from __future__ import annotations

import dataclasses
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from money_world import GIB, PERIOD, START, FragileCatalog, Killed, World, make_world
from soak_length import sequences

from lnstore.cli.budget_lines import budgets_json, print_budgets
from lnstore.client.budgets import Budgets, all_budgets, budgets_used, month_around
from lnstore.client.buying import buy
from lnstore.client.catalog import Catalog
from lnstore.client.money_errors import BudgetExceeded, PaymentFailed, PaymentOpen
from lnstore.client.nodes import add_node
from lnstore.client.payments import ATTEMPT_SECONDS, resolve_open
from lnstore.client.rent import pay_rent
from lnstore.client.wallet import Wallet
from lnstore.client.wallet_entries import Intent
from lnstore.config import ClientConfig, ConfigError
from lnstore.errors import ExitCode
from lnstore.ports import Outcome, Payment
from lnstore_protocol.ids import Msat, NodeAddress, NodeId, PaymentHash
from lnstore_protocol.messages import InvoicePurpose, RequestInvoice

NODES = [NodeId(bytes([number]) * 32) for number in (1, 2)]
DAY = 86_400


def known(path: Path) -> Catalog:
    catalog = Catalog.open(path)
    for number, node_id in enumerate(NODES):
        address = NodeAddress(node_id, "127.0.0.1", 1)
        catalog.add_node(address, petname=f"n{number}", lightning_id=None, added_at=0)
    return catalog


def intent(number: int, node: int, amount: int) -> Intent:
    return Intent(
        node_id=NODES[node],
        purpose=InvoicePurpose.DEPOSIT,
        index=number,
        bolt11=f"ln{number}",
        payment_hash=PaymentHash(number.to_bytes(32, "big")),
        amount_msat=Msat(amount),
        from_at=0,
        until_at=0,
        capacity_bytes=0,
    )


# --- the choke point --------------------------------------------------------------------------------------------------


@dataclass
class _Paid:
    """What may have left for one invoice, by our own reckoning: the dearest attempt, in the last one's month."""

    intent: Intent
    at: int
    fee_limit: int
    state: Outcome
    fee: int = 0

    @property
    def most(self) -> int:
        if self.state is Outcome.FAILED:
            return 0
        return self.intent.amount_msat + (self.fee if self.state is Outcome.SETTLED else self.fee_limit)


class BudgetMachine(RuleBasedStateMachine):
    """Two processes pay two nodes, in any order and through kills."""

    @initialize(
        per_node=st.none() | st.integers(0, 30), per_month=st.none() | st.integers(0, 50), total=st.integers(0, 120)
    )
    def start(self, per_node: int | None, per_month: int | None, total: int) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "catalog.db"
        known(self.path).close()
        self.processes = [Catalog.open(self.path), Catalog.open(self.path)]
        self.budgets = Budgets(per_node_month=per_node, per_month=per_month, total=total)
        self.paid: dict[int, _Paid] = {}
        self.now = START

    def over(self) -> bool:
        """Whether more may have left than some budget allows."""
        budgets = self.budgets
        months: dict[tuple[int, bytes | None], int] = {}
        for paid in self.paid.values():
            month = month_around(paid.at)[0]
            for whose in (None, paid.intent.node_id):
                months[month, whose] = months.get((month, whose), 0) + paid.most
        return (
            (budgets.total is not None and sum(paid.most for paid in self.paid.values()) > budgets.total)
            or any(budgets.per_month is not None and not n and m > budgets.per_month for (_, n), m in months.items())
            or any(
                budgets.per_node_month is not None and n is not None and m > budgets.per_node_month
                for (_, n), m in months.items()
            )
        )

    @rule(
        process=st.integers(0, 1),
        number=st.integers(0, 7),
        amount=st.integers(1, 20),
        fee_limit=st.integers(0, 5),
        killed=st.booleans(),
    )
    def attempt(self, process: int, number: int, amount: int, fee_limit: int, *, killed: bool) -> None:
        before = self.paid.get(number)
        if before is not None and before.state is Outcome.SETTLED:
            return
        wanted = before.intent if before else intent(number, number % 2, amount)
        allowed = fee_limit if before is None or before.state is Outcome.FAILED else max(fee_limit, before.fee_limit)
        self.paid[number] = _Paid(wanted, self.now, allowed, Outcome.UNKNOWN)
        fits = not self.over()
        catalog = self.processes[process]
        try:
            with catalog.transaction():
                Wallet(catalog).intend(wanted, self.now, fee_limit_msat=Msat(fee_limit), budgets=self.budgets)
                if killed:
                    raise Killed  # noqa: TRY301 - it undoes the transaction around it
        except BudgetExceeded:
            assert not fits
        except Killed:
            pass
        else:
            assert fits
            return
        if before is None:
            del self.paid[number]
        else:
            self.paid[number] = before

    @precondition(lambda self: self.paid)
    @rule(data=st.data(), process=st.integers(0, 1), outcome=st.sampled_from(Outcome))
    def outcome(self, data: st.DataObject, process: int, outcome: Outcome) -> None:
        paid = self.paid[data.draw(st.sampled_from(sorted(self.paid)))]
        paid_fee = data.draw(st.integers(0, paid.fee_limit))
        wallet = Wallet(self.processes[process])
        (entry,) = [e for e in wallet.payments() if e.bolt11 == paid.intent.bolt11]
        sent = Msat(entry.amount_msat + paid_fee)
        payment = Payment(outcome, entry.amount_msat, sent) if outcome is Outcome.SETTLED else Payment(outcome)
        wallet.record(entry.payment_id, payment, self.now)
        if entry.open:
            paid.state, paid.fee = outcome, paid_fee

    @rule(process=st.integers(0, 1))
    def restart(self, process: int) -> None:
        self.processes[process].close()
        self.processes[process] = Catalog.open(self.path)

    @rule(days=st.integers(1, 40))
    def time_passes(self, days: int) -> None:
        self.now += days * DAY

    @invariant()
    def no_budget_is_exceeded_and_what_is_used_is_said(self) -> None:
        if not hasattr(self, "processes"):
            return
        assert not self.over()
        total = budgets_used(self.processes[0], self.budgets, None, self.now)[-1]
        assert total.used_msat == sum(paid.most for paid in self.paid.values())

    def teardown(self) -> None:
        for catalog in getattr(self, "processes", ()):
            catalog.close()
        if hasattr(self, "directory"):
            self.directory.cleanup()


TestBudgetMachine = BudgetMachine.TestCase
TestBudgetMachine.settings = settings(max_examples=sequences(short=10), stateful_step_count=25, deadline=None)


def test_processes_that_pay_at_once_share_one_budget(tmp_path: Path) -> None:  # R-R15
    """Eight of them begin together; five payments of 10 fit."""
    known(tmp_path / "catalog.db").close()
    together, refused = threading.Barrier(8), []

    def process(number: int) -> None:
        with Catalog.open(tmp_path / "catalog.db") as catalog:
            together.wait()
            try:
                wallet = Wallet(catalog)
                wallet.intend(intent(number, 0, 8), START, fee_limit_msat=Msat(2), budgets=Budgets(per_month=50))
            except BudgetExceeded:
                refused.append(number)

    threads = [threading.Thread(target=process, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Catalog.open(tmp_path / "catalog.db") as catalog:
        assert (len(Wallet(catalog).payments()), len(refused)) == (5, 3)


@given(st.integers(0, 4 * 10**9))
def test_every_second_is_in_one_month(at: int) -> None:
    first, end = month_around(at)
    assert first <= at < end
    assert month_around(first) == month_around(end - 1) == (first, end)
    assert month_around(end)[0] == end
    assert datetime.fromtimestamp(first, UTC).strftime("%d %H:%M:%S") == "01 00:00:00"


# --- paying -----------------------------------------------------------------------------------------------------------


async def renting(directory: Path, **config: Any) -> World:
    made = await make_world(directory, config=config)
    await add_node(made.purse, made.node.address, "alice")
    return made


@contextmanager
def budget(world: World, **settings_: Any) -> Iterator[None]:
    """The same profile with other budgets."""
    before = world.purse
    world.purse = dataclasses.replace(before, config=dataclasses.replace(before.config, **settings_))
    yield
    world.purse = dataclasses.replace(world.purse, config=before.config)


async def test_a_budget_keeps_a_purchase_from_beginning(tmp_path: Path) -> None:
    """No channel is opened and no invoice asked for; the text says what to raise and until when to wait."""
    world = await renting(tmp_path, budget_msat_per_month=30_000)
    with pytest.raises(BudgetExceeded, match=r"30,000 of 30,000 msat.*Raise budget_msat_per_month .*until 2027-02-01"):
        await buy(world.purse, world.entry, 20 * GIB)
    assert world.purse.wallet.payments() == []
    assert await world.lightning.channels() == []
    assert BudgetExceeded.exit_code is ExitCode.PAYMENT


async def test_rent_beyond_a_budget_is_neither_paid_nor_its_proof_asked_for(tmp_path: Path) -> None:
    """Nothing is revealed; with a larger budget, or in the next month, the same command pays."""
    world = await renting(tmp_path)
    await buy(world.purse, world.entry, 20 * GIB)
    world.store(shares=3)
    world.clock.at = START + PERIOD
    spent = -world.purse.wallet.balances()["lightning"]
    with budget(world, budget_msat_total=spent):
        (outcome,) = await pay_rent(world.purse)
        assert isinstance(outcome.error, BudgetExceeded)
        assert world.purse.wallet.unanswered(world.node.node_id, since_at=0) is None
        assert not [m for m in world.node.asked if isinstance(m, RequestInvoice)]
    with budget(world, budget_msat_per_node_month=spent + 1000):
        (outcome,) = await pay_rent(world.purse)
        assert outcome.error is None
        assert outcome.paid


async def test_what_is_used_and_left_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = await renting(tmp_path, budget_msat_per_node_month=12_000, budget_msat_total=50_000)
    await buy(world.purse, world.entry, GIB)
    uses = all_budgets(world.purse.catalog, world.purse.budgets, world.clock.at)
    print_budgets(uses, {world.node.node_id: "alice"})
    assert capsys.readouterr().out == (
        "budget: 2,000 of 50,000 msat used, 48,000 left (budget_msat_total)\n"
        "alice: budget until 2027-02-01 00:00 UTC: 2,000 of 12,000 msat used, 10,000 left "
        "(budget_msat_per_node_month)\n"
    )
    assert [use["setting"] for use in budgets_json(uses)] == ["budget_msat_total"]
    assert [use["left_msat"] for use in budgets_json(uses, world.node.node_id)] == [48_000, 10_000]


@pytest.mark.parametrize("fate", ["hold", "drop"])
async def test_a_payment_of_unknown_outcome_counts_until_it_failed(tmp_path: Path, fate: str) -> None:
    """Tried again it counts once, and beside it nothing else fits; once it failed all is there again."""
    world = await renting(tmp_path, budget_msat_total=12_000)
    world.network.fates = [fate]
    with pytest.raises(PaymentOpen):
        await buy(world.purse, world.entry, GIB, deposit_msat=6_000)
    (entry,) = world.purse.wallet.open_payments()
    (use,) = budgets_used(world.purse.catalog, world.purse.budgets, None, world.clock.at)
    assert use.used_msat == entry.amount_msat + 1_000
    if fate == "drop":
        world.network.fates = ["fail"]
        with pytest.raises(PaymentFailed):
            await buy(world.reborn(), world.entry, GIB)
        (again,) = budgets_used(world.purse.catalog, world.purse.budgets, None, world.clock.at)
        assert again.used_msat == use.used_msat
        world.clock.at += ATTEMPT_SECONDS
        assert await resolve_open(world.purse) == []
        (freed,) = budgets_used(world.purse.catalog, world.purse.budgets, None, world.clock.at)
        assert freed.used_msat == 0


async def test_a_kill_at_any_commit_or_payment_exceeds_no_budget(tmp_path: Path) -> None:
    """Purchases that ask for ever more are killed and run again, until one is refused, and every one after it."""
    world = await renting(tmp_path, budget_msat_total=12_000)
    world.lightning.fee_msat = 10
    refused = 0
    for step, die in product(range(1, 12), ("dies_before", "dies_after", "kill before", "kill after", "")):
        catalog = world.reborn().catalog
        assert isinstance(catalog, FragileCatalog)
        if die.startswith("dies"):
            setattr(catalog, die, step)
        world.network.fates = [die] if die.startswith("kill") else []
        try:
            await buy(world.purse, world.entry, GIB, deposit_msat=1_000 * step)
        except (Killed, PaymentOpen):
            assert die
        except BudgetExceeded:
            refused += 1
        sent = sum(paid.amount_msat + paid.fee_msat for paid in world.lightning.sent)
        (use,) = budgets_used(world.purse.catalog, world.purse.budgets, None, world.clock.at)
        assert sent <= use.used_msat <= 12_000
        world.clock.at += ATTEMPT_SECONDS
    assert refused
    assert world.received_msat() > 8_000


def test_a_budget_is_a_number_or_none(tmp_path: Path) -> None:
    for text, value in (('"none"', None), ("0", 0), ("21", 21)):
        (tmp_path / "client.toml").write_text(f"budget_msat_total = {text}\n")
        assert ClientConfig.load(tmp_path).budget_msat_total == value
    for text in ("-1", '"1"', "1.5", "true"):
        (tmp_path / "client.toml").write_text(f"budget_msat_total = {text}\n")
        with pytest.raises(ConfigError, match="neither a whole number of msat nor"):
            ClientConfig.load(tmp_path)
