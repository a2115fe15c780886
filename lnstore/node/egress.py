"""Paying for reads from an account's deposit, in steps.

A hold in the books reserves the price of EGRESS_STEP_BYTES (or of what the deposit still allows); reads draw on it
without touching the books, and it is settled when it is used up, when nothing was read for a while, when the account's
connection closes and when the node stops. After a crash the books post orphaned holds in full: they bound what was
read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import trio

from lnstore.node.errors import Refusal
from lnstore.node.limits import EGRESS_IDLE_SECONDS, EGRESS_STEP_BYTES
from lnstore.ports import Account, AccountBooks, BooksRefused, Clock, TrafficBooks
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId, Msat
from lnstore_protocol.terms import GIB, traffic_msat


class _EgressBooks(AccountBooks, TrafficBooks, Protocol):
    """What reading needs of the books."""


@dataclass(slots=True)
class _Hold:
    hold_id: int
    held_bytes: int
    used_bytes: int = 0
    reserved_bytes: int = 0


@dataclass(slots=True)
class _Tab:
    """One account's current hold. The lock is held while the books are asked, never while bytes are read."""

    lock: trio.Lock = field(default_factory=trio.Lock)
    hold: _Hold | None = None
    used_at: float = 0.0
    users: int = 0
    released: trio.Event = field(default_factory=trio.Event)


class Egress:
    """All accounts' holds. Any number of readers may draw on one account's hold at once."""

    def __init__(self, books: _EgressBooks, clock: Clock) -> None:
        self._books = books
        self._clock = clock
        self._tabs: dict[AccountId, _Tab] = {}

    @asynccontextmanager
    async def reading(self, account: Account, count: int) -> AsyncIterator[None]:
        """Let the account read `count` bytes in the block; they are charged when it ends without an exception.

        Refusal(PAYMENT_REQUIRED) with the missing amount when the deposit does not allow it.
        """
        tab = self._tabs.setdefault(account.account_id, _Tab())
        tab.users += 1
        try:
            hold = await self._reserve(account, tab, count)
            try:
                yield
                hold.used_bytes += count
            finally:
                hold.reserved_bytes -= count
                tab.used_at = trio.current_time()
                tab.released.set()
        finally:
            tab.users -= 1

    async def settle(self, account_id: AccountId) -> None:
        """Settle the account's hold unless somebody reads from it just now."""
        tab = self._tabs.get(account_id)
        if tab is None:
            return
        async with tab.lock:
            if tab.hold is not None and tab.hold.reserved_bytes == 0:
                await self._settle_hold(tab, tab.hold)
        if tab.users == 0 and tab.hold is None and self._tabs.get(account_id) is tab:
            del self._tabs[account_id]

    async def settle_where(self, due: Callable[[float], bool]) -> None:
        """Settle every account's hold for which `due` says so of the (trio) time it was last used."""
        for account_id, tab in list(self._tabs.items()):
            if due(tab.used_at):
                await self.settle(account_id)

    async def run(self) -> None:
        """Settle idle holds, for ever."""
        while True:
            await trio.sleep(EGRESS_IDLE_SECONDS)
            before = trio.current_time() - EGRESS_IDLE_SECONDS
            await self.settle_where(lambda used_at, before=before: used_at <= before)  # type: ignore[misc]

    async def _reserve(self, account: Account, tab: _Tab, count: int) -> _Hold:
        async with tab.lock:
            hold = tab.hold
            if hold is None or hold.used_bytes + hold.reserved_bytes + count > hold.held_bytes:
                if hold is not None:
                    # The rest of the old hold must be back in the deposit before the new one is taken.
                    while hold.reserved_bytes:
                        tab.released = trio.Event()
                        await tab.released.wait()
                    await self._settle_hold(tab, hold)
                hold = tab.hold = await self._new_hold(account, count)
            hold.reserved_bytes += count
            return hold

    async def _settle_hold(self, tab: _Tab, hold: _Hold) -> None:
        await self._books.settle_egress(hold.hold_id, hold.used_bytes, self._clock.now())
        tab.hold = None

    async def _new_hold(self, account: Account, count: int) -> _Hold:
        now = self._clock.now()
        for held_bytes in await self._steps(account, count):
            try:
                return _Hold(await self._books.hold_egress(account.account_id, held_bytes, now), held_bytes)
            except BooksRefused as exc:
                if exc.code is not ErrorCode.PAYMENT_REQUIRED:
                    raise
        price = traffic_msat(count, account.egress_msat_per_gib)
        current = await self._books.account(account.account_id) or account
        missing = Msat(max(1, price - current.deposit_msat))
        raise Refusal(
            ErrorCode.PAYMENT_REQUIRED,
            f"reading {count} bytes costs {price} msat and the deposit has {current.deposit_msat}; deposit more",
            amount_msat=missing,
        )

    async def _steps(self, account: Account, count: int) -> list[int]:
        """Sizes to try for a new hold: the whole step, what the deposit allows, just this read."""
        current = await self._books.account(account.account_id) or account
        price = account.egress_msat_per_gib
        allowed = EGRESS_STEP_BYTES if not price else current.deposit_msat * GIB // price
        steps = {max(count, EGRESS_STEP_BYTES), count}
        if count < allowed < EGRESS_STEP_BYTES:
            steps = {allowed, count}
        return sorted(steps, reverse=True)
