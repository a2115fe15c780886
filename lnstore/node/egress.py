"""Paying for reads from an account's deposit, in steps.

A hold in the books reserves the price of EGRESS_STEP_BYTES (or of what the deposit still allows); reads draw on it
without touching the books, and it is settled when it is used up, when nothing was read for a while, when the account's
connection closes and when the node stops. After a crash the books post orphaned holds in full: they bound what was
read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import trio

from lnstore.node.errors import Refusal
from lnstore.node.limits import DELEGATE_STEP_BYTES, EGRESS_IDLE_SECONDS, EGRESS_STEP_BYTES, SETTLE_SECONDS
from lnstore.ports import Account, AccountBooks, BooksRefused, Clock, DelegationBooks, TrafficBooks
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId, CertificateId, Msat
from lnstore_protocol.terms import GIB, traffic_msat

T = TypeVar("T")


class _EgressBooks(AccountBooks, DelegationBooks, TrafficBooks, Protocol):
    """What reading needs of the books."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Whose deposit is read from, and under which certificate (None: by its holder)."""

    account_id: AccountId
    certificate_id: CertificateId | None = None


@dataclass(slots=True)
class _Hold:
    hold_id: int
    held_bytes: int
    used_bytes: int = 0
    reserved_bytes: int = 0


@dataclass(slots=True)
class _Tab:
    """One reader's current hold. The lock is held while the books are asked, never while bytes are read."""

    lock: trio.Lock = field(default_factory=trio.Lock)
    hold: _Hold | None = None
    used_at: float = 0.0
    users: int = 0
    released: trio.Event = field(default_factory=trio.Event)


class Egress:
    """All readers' holds. Any number of reads may draw on one hold at once."""

    def __init__(self, books: _EgressBooks, clock: Clock) -> None:
        self._books = books
        self._clock = clock
        self._tabs: dict[Reader, _Tab] = {}

    @asynccontextmanager
    async def reading(self, reader: Reader, count: int) -> AsyncIterator[None]:  # R-W22
        """Let the reader read `count` bytes in the block; they are charged when it ends without an exception.

        The books are asked once for each hold, not for each read. Refusal: NO_ACCOUNT, or PAYMENT_REQUIRED with the
        missing amount when the deposit does not allow it; BooksRefused when the certificate does not.
        """
        tab = self._tabs.setdefault(reader, _Tab())
        tab.users += 1
        try:
            hold = await self._reserve(reader, tab, count)
            try:
                yield
                hold.used_bytes += count
            finally:
                hold.reserved_bytes -= count
                tab.used_at = trio.current_time()
                tab.released.set()
        finally:
            tab.users -= 1

    async def settle(self, reader: Reader) -> None:
        """Settle the reader's hold unless something is read from it just now."""
        tab = self._tabs.get(reader)
        if tab is None:
            return
        async with tab.lock:
            if tab.hold is not None and tab.hold.reserved_bytes == 0:
                await self._settle_hold(tab, tab.hold)
        if tab.users == 0 and tab.hold is None and self._tabs.get(reader) is tab:
            del self._tabs[reader]

    async def settle_idle(self, before: float) -> None:
        """Settle every hold that was last used up to the trio time `before` (inf: every one that can be)."""
        for reader, tab in list(self._tabs.items()):
            if tab.used_at <= before:
                await self.settle(reader)

    async def run(self) -> None:
        """Settle idle holds, for ever."""
        while True:
            await trio.sleep(EGRESS_IDLE_SECONDS)
            await self.settle_idle(trio.current_time() - EGRESS_IDLE_SECONDS)

    async def _reserve(self, reader: Reader, tab: _Tab, count: int) -> _Hold:
        async with tab.lock:
            hold = tab.hold
            if hold is None or hold.used_bytes + hold.reserved_bytes + count > hold.held_bytes:
                if hold is not None:
                    # The rest of the old hold must be back in the deposit before the new one is taken.
                    while hold.reserved_bytes:
                        tab.released = trio.Event()
                        await tab.released.wait()
                    await self._settle_hold(tab, hold)
                hold = tab.hold = await self._new_hold(reader, count)
            hold.reserved_bytes += count
            return hold

    async def _settle_hold(self, tab: _Tab, hold: _Hold) -> None:
        await _answered(self._books.settle_egress(hold.hold_id, hold.used_bytes, self._clock.now()))
        tab.hold = None

    async def _new_hold(self, reader: Reader, count: int) -> _Hold:
        account = await self._books.account(reader.account_id)
        if account is None:
            raise Refusal(ErrorCode.NO_ACCOUNT, "reading is paid from an account's deposit; open an account first")
        step = EGRESS_STEP_BYTES
        if reader.certificate_id is not None:
            delegate = await self._books.delegate(reader.certificate_id, self._clock.now())
            step = min(DELEGATE_STEP_BYTES, delegate.free_read_bytes)
        for held_bytes in _hold_sizes(account.deposit_msat, self._price(account), count, step):
            hold = self._books.hold_egress(
                reader.account_id, held_bytes, self._clock.now(), certificate_id=reader.certificate_id
            )
            try:
                hold_id = await _answered(hold)
            except BooksRefused as exc:
                short = exc.code in (ErrorCode.PAYMENT_REQUIRED, ErrorCode.DELEGATION_EXHAUSTED)
                if not short or (exc.code is ErrorCode.DELEGATION_EXHAUSTED and held_bytes == count):
                    raise
            else:
                return _Hold(hold_id, held_bytes)
        price = traffic_msat(count, self._price(account))
        raise Refusal(
            ErrorCode.PAYMENT_REQUIRED,
            f"reading {count} bytes costs {price} msat and the deposit has {account.deposit_msat}; deposit more",
            amount_msat=Msat(max(1, price - account.deposit_msat)),
        )

    def _price(self, account: Account) -> Msat:
        return account.prices.for_traffic(self._clock.now()).egress_msat_per_gib


async def _answered(question: Awaitable[T]) -> T:
    """What the books answer, waited for even when cancelled: a hold that nobody knows of would be charged in full."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + SETTLE_SECONDS):
        return await question
    raise trio.TooSlowError


def _hold_sizes(deposit_msat: Msat, price: Msat, count: int, step: int) -> list[int]:  # R-W24
    """Sizes to try for a new hold: the whole step or what the deposit allows of it, then just this read."""
    allowed = deposit_msat * GIB // price if price else step
    return [max(count, min(allowed, step)), count]
