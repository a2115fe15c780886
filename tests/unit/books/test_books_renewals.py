"""Changes of prices: what is announced when; both sides compute the same rent; nobody pays what they did not sign."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from books_world import ANCHOR, GIB, NODE, PERIOD, World, agreement, file_in, growth, rent
from hypothesis import given, settings
from hypothesis import strategies as st

from lnstore.books import SqlBooks
from lnstore.node.announcing import change_to_announce
from lnstore.ports import Account, Announcement, BooksRefused
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import AccountState
from lnstore_protocol.prices import PriceNotAgreed, Prices, change_fault
from lnstore_protocol.terms import Agreement, SignedTerms, Terms, period_at, period_start, rent_msat

UNIT = 2_592_000
"""A GiB costs 1,000 msat for a period of 1,000 seconds at this price: changes show in the rent."""


class Pair:
    """A client and its node's books: each computes by what it has itself."""

    def __init__(self, world: World, account: Account) -> None:
        self.world, self.account, self.now = world, account, ANCHOR
        self.client = world.clients[-1]
        self.signed = [Agreement.decode(account.agreement)]
        self.told: Announcement | None = None
        self.offered = self.signed[0].terms.terms

    @property
    def period(self) -> int:
        return period_at(ANCHOR, PERIOD, self.now)

    async def ask(self) -> None:
        """The client asks for its status; the node tells of a change if there is one."""
        account = await self.world.now_is(self.account)
        change = change_to_announce(account, self.offered, self.now, tolerance_percent=0)
        told = account.announcement
        if change is None:
            account = await self.world.books.announce(account.account_id, None)
        elif told is None or (change[0], change[1]) != (SignedTerms.decode(told.terms).terms, told.from_period):
            fresh = Announcement(terms=change[0].sign(NODE).encoded, from_period=change[1], announced_at=self.now)
            assert period_start(ANCHOR, PERIOD, change[1]) - self.now > PERIOD
            account = await self.world.books.announce(account.account_id, fresh)
        self.account, self.told = account, account.announcement

    async def sign(self) -> None:
        """The client signs what it was told of, if it may; the node refuses what it has taken back meanwhile."""
        told = self.told
        if told is None:
            return
        terms = SignedTerms.decode(told.terms)
        fault = change_fault(self.signed[-1], terms.terms, from_period=told.from_period, announced_at=told.announced_at)
        assert fault == ""
        proposed = Agreement.propose(terms, self.client, ANCHOR, from_period=told.from_period)
        self.account = await self.world.books.renew(proposed.countersign(NODE), self.now)
        self.signed.append(Agreement.decode(self.account.last_agreement))
        self.told = None

    async def pay(self) -> None:
        """The next period's rent, if it is due: either both have the same price for it, or neither has any."""
        account = self.account = await self.world.now_is(self.account)
        period = account.next_period
        if period > self.period + 1:
            return
        ours = Prices.of(self.signed, unsigned_period=None if self.told is None else self.told.from_period)
        try:
            due = account.prices.rent_msat(account.capacity_bytes, period)
        except PriceNotAgreed:
            with pytest.raises(PriceNotAgreed):
                ours.rent_msat(account.capacity_bytes, period)
            with pytest.raises(BooksRefused) as refused:
                await self.world.books.plan_invoice(rent(account))
            assert refused.value.code is ErrorCode.PRICE_NOT_AGREED
            return
        assert ours.rent_msat(account.capacity_bytes, period) == due
        held = [one for one in self.signed if one.from_period <= period][-1]
        assert due == rent_msat(account.capacity_bytes, PERIOD, held.terms.terms.price_msat_per_gib_month)
        self.account = await self.world.pay(rent(account, amount_msat=due), self.now)

    async def check(self) -> None:
        """The same for whatever period is asked, and for growth across any change."""
        account = self.account = await self.world.now_is(self.account)
        ours = Prices.of(self.signed)
        first = account.next_period
        for period in range(first, first + 8):
            assert account.prices.agreed_last(period) == ours.agreed_last(period)
        if account.announcement is None:
            until_at = self.now + 3 * PERIOD
            assert account.prices.growth_msat(12345, self.now, until_at) == ours.growth_msat(12345, self.now, until_at)


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("price"), st.integers(1, 4)),
        st.tuples(st.just("time"), st.sampled_from([PERIOD // 3, PERIOD - 1, PERIOD])),
        st.tuples(st.sampled_from(["ask", "sign", "pay"]), st.just(0)),
    ),
    min_size=4,
    max_size=25,
)


@settings(max_examples=15, deadline=None)
@given(_STEPS, st.integers(1, 3))
def test_both_sides_compute_the_same_rent_whatever_changes_when(steps: list[tuple[str, int]], periods: int) -> None:
    """R-W26, R-W27, R-W30, R-R29: for any sequence of prices, times, signatures and payments."""

    async def play() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with SqlBooks.open(file_in(Path(folder))) as books:
                world = World(books)
                opened = await world.opened(price_periods=periods, price_msat_per_gib_month=Msat(2 * UNIT))
                account = await world.pay(growth(opened, GIB, ANCHOR, ANCHOR + PERIOD))
                pair = Pair(world, account)
                for what, value in steps:
                    if what == "price":
                        price = Msat(UNIT * value)
                        pair.offered = replace(pair.offered, price_msat_per_gib_month=price)
                        await pair.ask()
                    elif what == "time":
                        pair.now += value
                        await books.advance(pair.now)
                        await pair.ask()
                        if pair.account.state is AccountState.LAPSED:
                            return
                    else:
                        await getattr(pair, what)()
                    await pair.check()

    trio.run(play)


def _run(connection: Any, statement: str) -> None:
    connection.exec_driver_sql(statement)


# --- one by one -------------------------------------------------------------------------------------------------------


def dearer(**changes: Any) -> Terms:
    """What a node offers once its operator has changed its prices."""
    base = agreement(NODE).terms.terms
    return replace(base, price_msat_per_gib_month=Msat(base.price_msat_per_gib_month + 500), **changes)


async def test_a_change_is_announced_as_late_as_its_notice_allows(tmp_path: Path) -> None:  # R-W27
    """Not while the agreed periods are far from their end; a price within the tolerance, a favour or none: never."""
    async with SqlBooks.open(file_in(tmp_path)) as books:
        account = await World(books).renting(price_periods=5)
        for period, told in ((0, None), (2, None), (3, 5), (7, 9)):
            change = change_to_announce(account, dearer(), ANCHOR + period * PERIOD, tolerance_percent=0)
            assert (None if change is None else change[1]) == told
        late = ANCHOR + 7 * PERIOD
        base = agreement(NODE).terms.terms.price_msat_per_gib_month
        tolerated = -(-500 * 100 // base)
        assert change_to_announce(account, dearer(), late, tolerance_percent=tolerated) is None
        assert change_to_announce(replace(account, free=True), dearer(), late, tolerance_percent=0) is None
        lapsed = replace(account, state=AccountState.LAPSED)
        assert change_to_announce(lapsed, dearer(), late, tolerance_percent=0) is None
        change = change_to_announce(account, dearer(period_seconds=1, grace_seconds=1), late, tolerance_percent=0)
        assert change is not None
        assert (change[0].period_seconds, change[0].grace_seconds) == (PERIOD, account.grace_seconds)
        assert change[0].valid_until_at == ANCHOR + 9 * PERIOD + account.grace_seconds


async def test_every_agreement_is_kept_for_good(tmp_path: Path) -> None:  # R-W30
    """Two renewals later the first is still in the books, and nothing of it can be changed or deleted."""
    async with SqlBooks.open(file_in(tmp_path)) as books:
        world = World(books)
        pair = Pair(world, await world.renting(price_periods=1))
        for price in (3000, 4000):
            pair.offered = replace(pair.offered, price_msat_per_gib_month=Msat(price))
            await pair.ask()
            await pair.sign()
            for _ in range(2):
                pair.now += PERIOD
                await pair.pay()

        def kept(connection: Any) -> list[Any]:
            return list(connection.exec_driver_sql("SELECT encoded FROM renewals ORDER BY from_period").scalars())

        assert await books._database.read(kept) == [one.encoded for one in pair.signed]
        assert len(pair.signed) == 3
        for statement in ("DELETE FROM renewals", "UPDATE renewals SET entered_at = 0"):
            with pytest.raises(Exception, match="append-only"):
                await books._database.writer.write(partial(_run, statement=statement))
        with pytest.raises(ValueError, match="both have signed"):
            await books.renew(Agreement.propose(pair.signed[0].terms, pair.client, ANCHOR), pair.now)
        with pytest.raises(BooksRefused) as refused:
            await books.renew(pair.signed[0], pair.now)
        assert refused.value.code is ErrorCode.TERMS_CHANGED
