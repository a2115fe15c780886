"""The books under a holder and three delegates, one of them below another: limits, ends and power cuts, in any order.

A power cut is a copy of the database's files taken in the middle of a transaction: the machine goes on with the copy,
in which the transaction never was.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio
from books_world import GIB, World, always, deposit, share_id, sound
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from soak_length import sequences
from sqlalchemy import event

from lnstore.books import SqlBooks
from lnstore.books.database import Database
from lnstore.ports import Account, BooksRefused, NewLease
from lnstore_protocol.delegation import Authority, Certificate, Chain, Rights, Serial
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, CertificateId, Msat
from lnstore_protocol.terms import traffic_msat
from lnstore_protocol.usages import Usage

Result = TypeVar("Result")

START = 1_000_000
CAPACITY = 2_000
READING = 1_000
LIMITS = {"alice": 900, "bob": 500, "carol": 700}
LASTS = {"alice": 80, "bob": 60, "carol": 200}
PARENT = {"alice": None, "bob": "alice", "carol": None}
WHO = [*LIMITS]
SHARES = range(4)
who = st.sampled_from(WHO)
shares = st.sampled_from(SHARES)
cuts = st.sampled_from([None] * 6 + list(range(1, 7)))
INGRESS = Msat(8 * GIB // 7)
"""Who writes under a certificate writes at the account's cost: 8 msat for 7 bytes."""


def _size(number: int) -> int:
    return 100 * (number + 1)


def _with_parent(name: str) -> list[str]:
    parent = PARENT[name]
    return [name] if parent is None else [name, parent]


class DelegationMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="delegation-machine-"))
        self.generation = 0
        self.now = START
        self.leases: set[tuple[str, int]] = set()
        self.read: dict[str, int] = dict.fromkeys(WHO, 0)
        self.holds: dict[int, tuple[str, int]] = {}
        self.revoked: set[str] = set()
        self.keys = {name: Identity(bytes(31) + bytes([seed])) for seed, name in enumerate(WHO, 20)}

    @initialize()
    def start(self) -> None:
        self.database = Database(self.folder / "books-0.db")
        self.books = SqlBooks(self.database)

        async def furnish() -> World:
            world = World(self.books)
            account = await world.renting(CAPACITY, START, ingress_msat_per_gib=INGRESS)
            await world.pay(deposit(account, 10_000_000, START), START)
            return world

        world = self.run(furnish)
        self.holder = world.clients[-1]
        self.account_id = AccountId(self.holder.public_key)
        self.chains = {name: self._chain(name) for name in WHO}
        for name in WHO:
            self.present(name)

    def teardown(self) -> None:
        self.run(lambda: sound(self.books))
        self.database.close()
        shutil.rmtree(self.folder)

    def _chain(self, name: str) -> Chain:
        parent = PARENT[name]
        issuer = self.holder if parent is None else self.keys[parent]
        certificate = Certificate(
            account_id=self.account_id,
            issuer=AccountId(issuer.public_key),
            subject=AccountId(self.keys[name].public_key),
            serial=Serial(bytes(16)),
            nodes=b"",
            maximum_bytes=LIMITS[name],
            maximum_read_bytes=READING if parent is None else READING // 2,
            expires_at=START + LASTS[name],
            rights=Rights.READ_WRITE,
            levels=int(parent is None),
        ).sign(issuer)
        return (certificate,) if parent is None else (*self._chain(parent), certificate)

    # --- doing things, with or without a power cut ---

    def run(self, work: Callable[[], Awaitable[Result]]) -> Result:
        return trio.run(work)

    def attempt(self, work: Callable[[], Awaitable[Any]], cut: int | None) -> ErrorCode | str:
        """Do the work: how it was refused, "done", or "cut" when the power failed before it was."""
        target = self.folder / f"books-{self.generation + 1}.db"
        count = 0

        def before(*_args: Any) -> None:
            nonlocal count
            count += 1
            if count == cut:
                source = self.folder / f"books-{self.generation}.db"
                for end in ("", "-wal"):
                    if (file := source.with_name(source.name + end)).exists():
                        shutil.copy(file, target.with_name(target.name + end))

        event.listen(self.database._writing, "before_cursor_execute", before)
        try:
            self.run(work)
            outcome: ErrorCode | str = "done"
        except BooksRefused as refused:
            outcome = refused.code
        finally:
            event.remove(self.database._writing, "before_cursor_execute", before)
        if not target.exists():
            return outcome
        self.database.close()
        self.generation += 1
        self.database = Database(target)
        self.books = SqlBooks(self.database)
        self.settle_orphans()
        return "cut"

    def settle_orphans(self) -> None:
        """What a crash left held counts as read, in full."""
        assert self.run(lambda: self.books.settle_orphaned_holds(self.now)) == len(self.holds)
        for name, held in self.holds.values():
            self.note_read(name, held)
        self.holds.clear()

    # --- what should be ---

    def id_of(self, name: str) -> CertificateId | None:
        return None if name == "holder" else self.chains[name][-1].certificate_id

    def ended(self, name: str) -> bool:
        return name in self.revoked or self.now >= START + LASTS[name]

    def used(self, name: str) -> int:
        """With what is below."""
        return sum(_size(number) for one, number in self.leases if one != "holder" and name in _with_parent(one))

    def free(self, name: str) -> int:
        return min(LIMITS[one] - self.used(one) for one in _with_parent(name))

    def total(self) -> int:
        return sum(_size(number) for _, number in self.leases)

    def note_read(self, name: str, count: int) -> None:
        for one in _with_parent(name):
            self.read[one] += count

    def free_reading(self, name: str) -> int:
        def left(one: str) -> int:
            held = sum(count for reader, count in self.holds.values() if one in _with_parent(reader))
            return (READING if PARENT[one] is None else READING // 2) - self.read[one] - held

        return min(left(one) for one in _with_parent(name))

    # --- what happens ---

    @rule(name=who)
    def present(self, name: str) -> None:
        """At the first time, and again on another connection."""
        outcome = self.attempt(lambda: self.books.present(Authority(self.chains[name]), self.now), None)
        gone = any(self.ended(one) for one in _with_parent(name))
        assert outcome == (ErrorCode.DELEGATION_ENDED if gone else "done")

    @rule(name=st.sampled_from(["holder", *WHO]), number=shares, cut=cuts)
    def put(self, name: str, number: int, cut: int | None) -> None:
        lease = NewLease(
            account_id=self.account_id,
            share_id=share_id(number),
            size_bytes=_size(number),
            token_start=0,
            tokens=b"",
            certificate_id=self.id_of(name),
        )
        outcome = self.attempt(lambda: self.books.add_lease(lease, self.now, present=always), cut)
        size = 0 if (name, number) in self.leases else _size(number)
        expected: ErrorCode | str = "done"
        if self.total() + size > CAPACITY:
            expected = ErrorCode.CAPACITY_EXCEEDED
        elif name != "holder" and self.ended(name):
            expected = ErrorCode.DELEGATION_ENDED
        elif name != "holder" and size > self.free(name):
            expected = ErrorCode.DELEGATION_EXHAUSTED
        assert outcome in (expected, "cut")
        if outcome == "done":
            self.leases.add((name, number))

    @rule(names=st.lists(who, min_size=2, max_size=6), number=shares)
    def put_at_once(self, names: list[str], number: int) -> None:
        """Many connections in one commit: as many as fit are taken, whoever they are."""
        taken: list[tuple[str, int]] = []

        async def one(name: str, which: int) -> None:
            lease = NewLease(
                account_id=self.account_id,
                share_id=share_id(which),
                size_bytes=_size(number),
                token_start=0,
                tokens=b"",
                certificate_id=self.id_of(name),
            )
            try:
                await self.books.add_lease(lease, self.now, present=always)
            except BooksRefused:
                return
            taken.append((name, which))

        async def everyone() -> None:
            async with trio.open_nursery() as nursery:
                for at, name in enumerate(names):
                    nursery.start_soon(one, name, 100 + at)

        self.run(everyone)
        for name, which in taken:
            assert not self.ended(name)
            self.run(
                partial(self.books.drop_leases, self.account_id, [share_id(which)], certificate_id=self.id_of(name))
            )
        room = sum(_size(number) for _ in taken)
        assert self.total() + room <= CAPACITY
        for one_name in WHO:
            under = sum(_size(number) for name, _ in taken if one_name in _with_parent(name))
            assert self.used(one_name) + under <= LIMITS[one_name]

    @rule(name=st.sampled_from(["holder", *WHO]), number=shares, cut=cuts)
    def drop(self, name: str, number: int, cut: int | None) -> None:
        """By the delegate, or by the holder when it has ended."""
        work = partial(self.books.drop_leases, self.account_id, [share_id(number)], certificate_id=self.id_of(name))
        if self.attempt(work, cut) == "done":
            self.leases.discard((name, number))

    @rule(name=who, count=st.integers(1, 400), cut=cuts)
    def hold(self, name: str, count: int, cut: int | None) -> None:
        numbers: list[int] = []

        async def work() -> None:
            numbers.append(
                await self.books.hold_egress(self.account_id, count, self.now, certificate_id=self.id_of(name))
            )

        free = self.free_reading(name)
        outcome = self.attempt(work, cut)
        expected: ErrorCode | str = "done" if count <= free else ErrorCode.DELEGATION_EXHAUSTED
        assert outcome in (ErrorCode.DELEGATION_ENDED if self.ended(name) else expected, "cut")
        if outcome == "done":
            self.holds[numbers[0]] = (name, count)

    @rule(used=st.integers(0, 400), cut=cuts)
    def settle(self, used: int, cut: int | None) -> None:
        if not self.holds:
            return
        number, (name, held) = next(iter(self.holds.items()))
        if self.attempt(lambda: self.books.settle_egress(number, used, self.now), cut) == "done":
            del self.holds[number]
            self.note_read(name, min(used, held))

    @rule(name=who, by_key=st.booleans(), cut=cuts)
    def revoke(self, name: str, by_key: bool, cut: int | None) -> None:
        target = self.keys[name].public_key if by_key else bytes(self.chains[name][-1].certificate_id)
        if self.attempt(lambda: self.books.revoke(self.account_id, target, self.now), cut) == "done":
            self.revoked |= {one for one in WHO if name in _with_parent(one)}

    @rule(seconds=st.integers(1, 30))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def restart(self) -> None:
        self.database.close()
        self.database = Database(self.folder / f"books-{self.generation}.db")
        self.books = SqlBooks(self.database)
        self.settle_orphans()

    # --- what always holds ---

    @invariant()
    def counts_are_those_of_the_model(self) -> None:
        listed, account, own = self.run(self._told)
        assert len(listed) == len(WHO)
        for name in WHO:
            usage = listed[self.chains[name][-1].encoded]
            mine = [number for one, number in self.leases if one != "holder" and name in _with_parent(one)]
            assert (usage.used_bytes, usage.shares, usage.read_bytes) == (self.used(name), len(mine), self.read[name])
            assert (usage.revoked_at is not None) == (name in self.revoked)
            assert usage.used_bytes <= LIMITS[name]
        assert (account.used_bytes, account.shares) == (self.total(), len(self.leases))
        earned = -self.run(self.books.balances).get(f"ingress:{self.account_id.hex()}", 0)
        assert earned == traffic_msat(account.ingress_bytes, INGRESS)
        ids = sorted(share_id(number) for name, number in self.leases if name == "holder")
        assert own == b"".join(ids)

    async def _told(self) -> tuple[dict[bytes, Usage], Account, bytes]:
        usages = await self.books.usages(self.account_id, after=None, limit=10)
        account = await self.books.account(self.account_id)
        assert account is not None
        return {usage.certificate: usage for usage in usages}, account, await self.books.leased_ids(self.account_id)


DelegationMachine.TestCase.settings = settings(
    max_examples=sequences(short=6),
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestDelegation = DelegationMachine.TestCase
