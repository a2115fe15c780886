"""Books under everything that happens to a node: clients, payments, time, power cuts and restarts, in any order.

A power cut is a copy of the database's files taken in the middle of a transaction: the machine goes on with the copy.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio
from books_world import GIB, GRACE, PERIOD, add_up, agreement, deposit, growth, paid, rent, share_id, sound
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from soak_length import sequences
from sqlalchemy import Connection, event, select

from lnstore.books import SqlBooks
from lnstore.books.database import Database
from lnstore.books.rows import ACCOUNTS
from lnstore.books.rules import growth_window
from lnstore.books.schema import leases, unleased
from lnstore.books.states import shrunk_for
from lnstore.client.capacity import Shrink, rented
from lnstore.ports import Account, BooksRefused, Invoice, NewLease, PlannedInvoice
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, Msat, ShareId
from lnstore_protocol.messages import AccountState, InvoicePurpose
from lnstore_protocol.terms import ingress_msat, refund_msat, traffic_msat

Result = TypeVar("Result")

START = 1_000_000
PRICE = Msat(2_592_000 * GIB // 100)
"""A byte and 100 seconds cost 1 msat."""
INGRESS = Msat(8 * GIB // 7)
"""7 bytes written cost 8 msat."""
CLIENTS = [Identity(bytes(31) + bytes([seed])) for seed in (10, 11)]
SHARES = range(5)
clients = st.sampled_from(range(len(CLIENTS)))
shares = st.sampled_from(SHARES)
cuts = st.sampled_from([None] * 7 + list(range(1, 9)))
"""Before which statement of a transaction the power fails; mostly it does not."""


def size_of(number: int) -> int:
    return 100 * (number + 1)


class BooksMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="books-machine-"))
        self.generation = 0
        self.now = START
        self.disk: set[ShareId] = set()
        self.orphans: set[ShareId] = set()  # put, but the lease was never added
        self.leases: dict[AccountId, set[ShareId]] = {}  # of accounts that have not lapsed
        self.plans: list[PlannedInvoice] = []
        self.daemon: list[Invoice] = []  # paid, in order of their pay index
        self.collected = 0
        self.holds: dict[int, int] = {}
        self.bought: dict[AccountId, int] = {}  # byte seconds, since the account was last opened
        self.consumed: dict[AccountId, int] = {}
        self.lapsed: set[AccountId] = set()
        self.growths: dict[AccountId, list[tuple[int, int]]] = {}  # what the client paid for, as its own books have it
        self.shrinks: dict[AccountId, list[Shrink]] = {}
        self.openings: dict[AccountId, int] = {}
        self.opening_of: dict[str, int] = {}

    @initialize(furnished=st.sampled_from([2, 2, 1, 0]))
    def start(self, furnished: int) -> None:
        self.database = Database(self.folder / "books-0.db")
        self.books = SqlBooks(self.database)
        for client in range(furnished):
            self.open_account(client)
            self.buy_capacity(client, 1_200)
            self.ask_for_a_deposit(client, 5_000)
            self.settle_up(0)
            for number in (client, client + 1):
                self.put(client, number, None)

    def teardown(self) -> None:
        self.run(lambda: sound(self.books))
        self.database.close()
        shutil.rmtree(self.folder)

    # --- doing things, with or without a power cut ---

    def run(self, work: Callable[[], Awaitable[Result]]) -> Result:
        return trio.run(work)

    def account(self, client: int) -> Account | None:
        return self.run(lambda: self.books.account(AccountId(CLIENTS[client].public_key)))

    def cut_during(self, work: Callable[[], Awaitable[Any]], statement: int) -> bool:
        """Do `work`; the power fails before statement number `statement` of its transaction. Whether it did."""
        target = self.folder / f"books-{self.generation + 1}.db"
        count = 0

        def before(*_args: Any) -> None:
            nonlocal count
            count += 1
            if count == statement:
                source = self.folder / f"books-{self.generation}.db"
                for end in ("", "-wal"):
                    if (file := source.with_name(source.name + end)).exists():
                        shutil.copy(file, target.with_name(target.name + end))

        event.listen(self.database._writing, "before_cursor_execute", before)
        try:
            self.run(work)
        except (BooksRefused, FileNotFoundError):
            pass
        finally:
            event.remove(self.database._writing, "before_cursor_execute", before)
        if not target.exists():
            return False
        self.database.close()
        self.generation += 1
        self.database = Database(target)
        self.books = SqlBooks(self.database)
        self.after_start()
        return True

    def after_start(self) -> None:
        assert self.run(lambda: self.books.settle_orphaned_holds(self.now)) == len(self.holds)
        self.holds.clear()

    # --- clients ---

    @precondition(lambda self: len(self.bought) < len(CLIENTS) or self.lapsed)
    @rule(client=clients)
    def open_account(self, client: int) -> None:
        before = self.account(client)
        account = self.run(
            lambda: self.books.open_account(
                agreement(CLIENTS[client], self.now, price_msat_per_gib_month=PRICE, ingress_msat_per_gib=INGRESS),
                self.now,
            )
        )
        if before is None or before.state is AccountState.LAPSED:
            assert (account.state, account.capacity_bytes, account.anchor_at) == (AccountState.ACTIVE, 0, self.now)
            assert before is None or account.deposit_msat == before.deposit_msat
            self.leases[account.account_id] = set()
            self.bought[account.account_id] = self.consumed[account.account_id] = 0
            self.lapsed.discard(account.account_id)
            self.growths[account.account_id], self.shrinks[account.account_id] = [], []
            self.openings[account.account_id] = self.openings.get(account.account_id, 0) + 1
        else:
            assert account == before

    def plan(self, planned: PlannedInvoice) -> None:
        try:
            self.plans.append(self.run(lambda: self.books.plan_invoice(planned)))
            self.opening_of[planned.label] = self.openings[planned.account_id]
        except BooksRefused as exc:
            assert exc.code in {  # noqa: PT017
                ErrorCode.LAPSED,
                ErrorCode.IN_GRACE,
                ErrorCode.PERIOD_REFUSED,
                ErrorCode.SHRINK_PLANNED,
            }

    @precondition(lambda self: self.bought)
    @rule(client=clients, purpose=st.sampled_from(InvoicePurpose), amount=st.integers(1, 3_000))
    def ask(self, client: int, purpose: InvoicePurpose, amount: int) -> None:
        match purpose:
            case InvoicePurpose.RENT:
                self.ask_for_rent(client)
            case InvoicePurpose.CAPACITY:
                self.ask_for_capacity(client, amount)
            case InvoicePurpose.DEPOSIT:
                self.ask_for_a_deposit(client, amount)

    def ask_for_capacity(self, client: int, added: int) -> None:
        if (account := self.account(client)) is None:
            return
        of = account.account_id
        unpaid = self.run(lambda: self.books.planned_invoice(of, InvoicePurpose.RENT, account.next_period))
        latest = self.run(lambda: self.books.planned_invoice(of, InvoicePurpose.CAPACITY, account.growth_index))
        if not self.withdrawn(latest):
            return
        attempt = 0 if latest is None else latest.attempt + 1
        from_at, until_at = growth_window(account, unpaid, self.now)
        self.plan(growth(account, added, from_at, max(from_at, until_at), attempt=attempt))

    def ask_for_rent(self, client: int) -> None:
        account = self.account(client)
        if account is not None and account.capacity_bytes:
            label = f"rent/{client}/{account.anchor_at}/{account.next_period}"
            if all(plan.label != label for plan in self.plans):
                planned = rent(shrunk_for(account, account.next_period), label=label)
                ours = rented(self.growths[account.account_id], self.shrinks[account.account_id])
                assert planned.capacity_bytes <= ours.in_period(planned.index), "no client pays more than it computes"
                self.plan(planned)

    def ask_for_a_deposit(self, client: int, amount: int) -> None:
        if (account := self.account(client)) is None:
            return
        latest = self.run(
            lambda: self.books.planned_invoice(account.account_id, InvoicePurpose.DEPOSIT, account.deposit_index)
        )
        if self.withdrawn(latest):
            self.plan(deposit(account, amount, self.now, attempt=0 if latest is None else latest.attempt + 1))

    def withdrawn(self, latest: PlannedInvoice | None) -> bool:
        """Take a former attempt back at the daemon, which does so only while it is unpaid."""
        if latest is None:
            return True
        if any(invoice.label == latest.label for invoice in self.daemon):
            return False
        self.plans = [planned for planned in self.plans if planned.label != latest.label]
        return True

    @precondition(lambda self: self.payable())
    @rule(data=st.data(), over=st.sampled_from([0, 0, 0, 7]), gap=st.sampled_from([1, 1, 3]))
    def pay(self, data: st.DataObject, over: int, gap: int) -> None:
        planned = data.draw(st.sampled_from(self.payable()))
        index = (self.daemon[-1].pay_index or 0) + gap if self.daemon else gap
        self.pays(planned, index, over)

    def pays(self, planned: PlannedInvoice, index: int, over: int) -> None:
        self.daemon.append(paid(planned, index, received_msat=planned.amount_msat + over, now=self.now))
        of = planned.account_id
        if planned.purpose is InvoicePurpose.CAPACITY and self.opening_of[planned.label] == self.openings[of]:
            self.growths[of].append((planned.index, planned.capacity_bytes))

    def payable(self) -> list[PlannedInvoice]:
        """What the daemon takes money for: it takes no second payment of an invoice."""
        done = {invoice.label for invoice in self.daemon}
        return [planned for planned in self.plans if planned.label not in done]

    @precondition(lambda self: self.payable() or self.collected < len(self.daemon))
    @rule(over=st.sampled_from([0, 0, 7]))
    def settle_up(self, over: int) -> None:
        """Everything that is owed is paid and collected."""
        for planned in self.payable():
            index = (self.daemon[-1].pay_index or 0) + 1 if self.daemon else 1
            self.pays(planned, index, over)
        while self.collected < len(self.daemon):
            self.collect(None)

    def buy_capacity(self, client: int, added: int) -> None:
        self.ask_for_capacity(client, added)
        self.settle_up(0)

    # --- the node ---

    @precondition(lambda self: self.collected < len(self.daemon))
    @rule(statement=cuts)
    def collect(self, statement: int | None) -> None:
        """Read the daemon's next payment; when the power fails, it is read again."""
        invoice = self.daemon[self.collected]
        planned = next(planned for planned in self.plans if planned.label == invoice.label)
        before = self.run(partial(self.books.account, planned.account_id))
        if statement is not None and self.cut_during(lambda: self.books.credit(invoice, self.now), statement):
            return
        self.run(lambda: self.books.credit(invoice, self.now))
        self.collected += 1
        after = self.run(partial(self.books.account, planned.account_id))
        assert before is not None
        assert after is not None
        if (after.capacity_bytes, after.paid_until_at) != (before.capacity_bytes, before.paid_until_at):
            assert planned.purpose is not InvoicePurpose.DEPOSIT
            self.bought[planned.account_id] += planned.capacity_bytes * (planned.until_at - planned.from_at)

    @precondition(lambda self: self.collected)
    @rule(data=st.data())
    def collect_again(self, data: st.DataObject) -> None:
        invoice = data.draw(st.sampled_from(self.daemon[: self.collected]))
        assert self.run(lambda: self.books.credit(invoice, self.now)) is None

    @rule(
        seconds=st.sampled_from([1, 50, 50, 50, GRACE - 1, GRACE - 1, GRACE, PERIOD - 1, PERIOD, PERIOD + GRACE]),
        advancing=st.sampled_from([True, True, False]),
        statement=cuts,
    )
    def time_passes(self, seconds: int, *, advancing: bool, statement: int | None) -> None:
        for account in self.run(self.books.accounts):
            until = min(self.now + seconds, account.paid_until_at)
            self.consumed[account.account_id] += account.capacity_bytes * max(0, until - self.now)
        self.now += seconds
        if advancing:
            self.advance(statement)

    def advance(self, statement: int | None) -> None:
        """Bill; a power cut in the middle of it leaves everything to the next pass."""
        before = {account.account_id: account for account in self.run(self.books.accounts)}
        if statement is None or not self.cut_during(lambda: self.books.advance(self.now), statement):
            self.run(lambda: self.books.advance(self.now))
        for account in self.run(self.books.accounts):
            old = before[account.account_id]
            if account.state is old.state:
                continue
            assert (old.state, account.state) in {
                (AccountState.ACTIVE, AccountState.GRACE),
                (AccountState.ACTIVE, AccountState.LAPSED),
                (AccountState.GRACE, AccountState.LAPSED),
            }
            assert self.now >= old.paid_until_at, "nobody who has paid is touched"
            if account.state is AccountState.LAPSED:
                assert self.now >= old.paid_until_at + GRACE, "nobody lapses within grace"
                self.ended(account.account_id)

    def ended(self, of: AccountId) -> None:
        self.leases[of] = set()
        self.lapsed.add(of)

    @precondition(lambda self: self.bought)
    @rule(client=clients, kept=st.integers(0, 8), statement=cuts)
    def shrink(self, client: int, kept: int, statement: int | None) -> None:
        """As node and client do it: unpaid growth is withdrawn first, none that is paid is uncollected."""
        before = self.account(client)
        if before is None:
            return
        of, wanted = before.account_id, before.capacity_bytes * kept // 8
        growing = self.run(lambda: self.books.planned_invoice(of, InvoicePurpose.CAPACITY, before.growth_index))
        if not self.withdrawn(growing):
            return
        if statement is not None and self.cut_during(lambda: self.books.shrink(of, wanted, self.now), statement):
            return
        try:
            after = self.run(lambda: self.books.shrink(of, wanted, self.now))
        except BooksRefused as exc:
            lapsed = before.state is AccountState.LAPSED
            assert exc.code is (ErrorCode.LAPSED if lapsed else ErrorCode.CAPACITY_IN_USE)  # noqa: PT017
            assert lapsed or wanted < before.used_bytes
            return
        assert (after.writable_bytes, after.capacity_bytes) == (wanted, before.capacity_bytes)
        if (period := after.shrink_period) is not None:
            begins = after.anchor_at + period * PERIOD
            assert begins > self.now, "only for a period to come"
            assert begins >= after.paid_until_at, "and one that is not paid"
        seen = after.next_period if after.shrink_period is None else after.shrink_period
        self.shrinks[of].append(Shrink(len(self.shrinks[of]), wanted, before.growth_index, seen))

    @precondition(lambda self: self.bought)
    @rule(client=clients, permille=st.sampled_from([0, 500, 1000]), statement=cuts)
    def leave(self, client: int, permille: int, statement: int | None) -> None:
        before = self.account(client)
        if before is None:
            return
        of = before.account_id

        async def go() -> Account:
            return await self.books.leave(of, self.now, refund_permille=permille)

        if statement is not None and self.cut_during(go, statement):
            return
        try:
            after = self.run(go)
        except BooksRefused as exc:
            assert exc.code is ErrorCode.LAPSED  # noqa: PT017
            assert before.state is AccountState.LAPSED
            return
        assert (after.state, after.capacity_bytes) == (AccountState.LAPSED, 0)
        assert self.run(go) == after, "again, nothing more happens"
        if before.left_at is None:
            unused = max(0, before.paid_until_at - self.now)
            due = refund_msat(before.capacity_bytes, unused, PRICE, permille)
            assert (after.refund_msat, after.deposit_msat) == (due, before.deposit_msat + due)
            self.ended(of)

    @precondition(lambda self: self.bought)
    @rule(client=clients, number=shares, statement=cuts)
    def put(self, client: int, number: int, statement: int | None) -> None:
        account_id = AccountId(CLIENTS[client].public_key)
        new = NewLease(
            account_id=account_id, share_id=share_id(number), size_bytes=size_of(number), token_start=0, tokens=b""
        )

        async def add() -> None:
            await self.books.add_lease(new, self.now, present=self.disk.__contains__)

        self.disk.add(new.share_id)
        self.orphans.add(new.share_id)
        if statement is not None and self.cut_during(add, statement):
            return  # not acknowledged: the share lies there as an orphan
        before = self.account(client)
        held = self.leases.get(account_id, set())
        try:
            self.run(add)
        except BooksRefused as exc:
            full = before is not None and before.used_bytes + size_of(number) > before.writable_bytes
            expected = {
                None: ErrorCode.NO_ACCOUNT,
                AccountState.ACTIVE: ErrorCode.CAPACITY_EXCEEDED,
                AccountState.GRACE: ErrorCode.IN_GRACE,
                AccountState.LAPSED: ErrorCode.LAPSED,
            }[None if before is None else before.state]
            if before is not None and before.state is AccountState.ACTIVE and not full:
                expected = ErrorCode.PAYMENT_REQUIRED
                due = ingress_msat(before.ingress_bytes, new.size_bytes, INGRESS)
                assert exc.amount_msat == due - before.deposit_msat > 0  # noqa: PT017
            assert exc.code is expected  # noqa: PT017
            assert expected is not ErrorCode.CAPACITY_EXCEEDED or (full and new.share_id not in held)
        else:
            held.add(new.share_id)
            self.orphans.discard(new.share_id)

    @precondition(lambda self: any(self.leases.values()))
    @rule(data=st.data(), statement=cuts)
    def drop(self, data: st.DataObject, statement: int | None) -> None:
        held = sorted((of, which) for of, ids in self.leases.items() for which in ids)
        account_id, which = data.draw(st.sampled_from(held))

        async def end() -> None:
            await self.books.drop_leases(account_id, [which, ShareId(bytes(32))])

        if statement is None or not self.cut_during(end, statement):
            self.run(end)
            self.leases[account_id].discard(which)

    @precondition(
        lambda self: self.lapsed or not self.disk <= {which for held in self.leases.values() for which in held}
    )
    @rule(statement=cuts)
    def sweep(self, statement: int | None) -> None:
        async def clear() -> None:
            await self.books.sweep(delete=self.disk.discard, limit=100)

        if statement is None or not self.cut_during(clear, statement):
            self.run(clear)

    @precondition(lambda self: self.orphans)
    @rule(number=shares)
    def forget_orphan(self, number: int) -> None:
        leased = {which for held in self.leases.values() for which in held}
        gone = self.run(lambda: self.books.forget_orphan(share_id(number), delete=self.disk.discard))
        assert not (gone and share_id(number) in leased)

    @precondition(lambda self: self.bought)
    @rule(client=clients, amount=st.integers(0, 5 * GIB))
    def hold(self, client: int, amount: int) -> None:
        account_id = AccountId(CLIENTS[client].public_key)
        try:
            self.holds[self.run(lambda: self.books.hold_egress(account_id, amount, self.now))] = amount
        except BooksRefused as exc:
            assert exc.code in {ErrorCode.NO_ACCOUNT, ErrorCode.PAYMENT_REQUIRED}  # noqa: PT017

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), share=st.floats(0, 1), statement=cuts)
    def settle(self, data: st.DataObject, share: float, statement: int | None) -> None:
        hold = data.draw(st.sampled_from(sorted(self.holds)))
        used = int(self.holds[hold] * share)

        async def end() -> None:
            await self.books.settle_egress(hold, used, self.now)

        if statement is None or not self.cut_during(end, statement):
            self.run(end)
            self.holds.pop(hold, None)

    @precondition(lambda self: self.holds)
    @rule()
    def restart(self) -> None:
        self.database.close()
        self.database = Database(self.folder / f"books-{self.generation}.db")
        self.books = SqlBooks(self.database)
        self.after_start()

    # --- what must hold, always ---

    @invariant()
    def all_is_well(self) -> None:
        self.run(lambda: self.database.read(self.check))

    def check(self, connection: Connection) -> None:
        balances = add_up(connection)
        received = sum(invoice.received_msat or 0 for invoice in self.daemon[: self.collected])
        assert balances.get("lightning", 0) == received, "every payment is booked once"
        leased: set[bytes] = set()
        for row in connection.execute(ACCOUNTS).all():
            ids = set(connection.execute(select(leases.c.share_id).where(leases.c.account == row.account)).scalars())
            leased |= ids
            if row.superseded:
                continue
            of = AccountId(row.account_id)
            assert -balances.get(f"ingress:{of.hex()}", 0) == traffic_msat(row.ingress_bytes, INGRESS)
            if row.state != AccountState.LAPSED:
                assert ids == self.leases[of]
                assert ids <= self.disk, "nothing that is leased is swept"
            earned = -sum(balances[f"{kind}:{of.hex()}"] for kind in ("rent", "growth"))
            assert balances.get(f"refund:{of.hex()}", 0) <= earned, "no more comes back than was paid"
            ahead = row.capacity_bytes * max(0, row.paid_until_at - self.now)
            assert self.consumed[of] + ahead <= self.bought[of], "nobody has capacity that was not paid for"
        noted = set(connection.execute(select(unleased.c.share_id)).scalars())
        assert not noted & leased
        assert self.disk <= noted | leased | self.orphans, "the sweep knows of everything that nobody leases"


BooksMachine.TestCase.settings = settings(
    max_examples=sequences(short=10),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestBooks = BooksMachine.TestCase
