"""Collecting: paid invoices from the Lightning daemon into the books, each exactly once and in order."""

from __future__ import annotations

import trio

from lnstore.logs import get_logger
from lnstore.node.binding import LightningBinding, backoff
from lnstore.node.limits import PAID_POLL_SECONDS
from lnstore.ports import Clock, InvoiceBooks, Invoices, LightningError

_log = get_logger("lnstore.node.collector")


class Collector:
    """Follows the daemon's pay index.

    The index is stored in the transaction that credits the payment, so a crash at any point repeats at most a question
    to the daemon.
    """

    def __init__(
        self,
        books: InvoiceBooks,
        lightning: Invoices,
        binding: LightningBinding,
        clock: Clock,
        *,
        absent_since_at: int | None,
    ) -> None:
        self._books = books
        self._lightning = lightning
        self._binding = binding
        self._clock = clock
        self._caught_up = trio.Event()
        self._absent_since_at = absent_since_at

    @property
    def is_caught_up(self) -> bool:
        """Whether everything that was paid so far is in the books, as far as the daemon just said, and it is well."""
        return self._caught_up.is_set() and self._binding.confirmed.is_set()

    def take_absence(self) -> int | None:
        """Since when (wall clock) clients could not pay before this catching up; once, then None."""
        since, self._absent_since_at = self._absent_since_at, None
        return since

    async def wait_caught_up(self) -> None:
        """Wait until it is."""
        await self._caught_up.wait()

    async def run(self) -> None:
        """Collect, for ever."""
        pauses, told = backoff(), ""
        while True:
            if not self._binding.confirmed.is_set():
                self._be_absent()
                await self._binding.confirmed.wait()
            try:
                await self._collect_one()
            except LightningError as exc:
                self._be_absent()
                self._binding.doubt(exc)
                if str(exc) != told:
                    told = str(exc)
                    _log.warning("cannot ask for paid invoices; asking again and again", reason=told)
                await trio.sleep(next(pauses))
            else:
                pauses, told = backoff(), ""

    async def _collect_one(self) -> None:  # R-R16, R-W15
        # The first question after a payment or a failure is answered at once, and says whether we are up to date.
        timeout_seconds = PAID_POLL_SECONDS if self._caught_up.is_set() else 0
        pay_index = await self._books.pay_index()
        invoice = await self._lightning.next_paid(pay_index, timeout_seconds=timeout_seconds)
        if invoice is None:
            self._caught_up.set()
            return
        self._fall_behind()
        account = await self._books.credit(invoice, self._clock.now())
        if account is None:
            _log.info("a paid invoice is not this node's", label=invoice.label, pay_index=invoice.pay_index)
        else:
            _log.info(
                "paid",
                account=account.account_id,
                label=invoice.label.rpartition(account.account_id.hex())[2],
                received_msat=invoice.received_msat,
                state=account.state.name,
                paid_until_at=account.paid_until_at,
            )

    def _fall_behind(self) -> None:
        if self._caught_up.is_set():
            self._caught_up = trio.Event()

    def _be_absent(self) -> None:
        self._fall_behind()
        if self._absent_since_at is None:
            self._absent_since_at = self._clock.now()
