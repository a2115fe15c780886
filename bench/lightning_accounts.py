"""A node that bills a thousand accounts: invoices for all of them, all paid while it is away, all credited."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import trio
from sqlalchemy import text

from bench.lightning_report import row
from lnstore.books import SqlBooks
from lnstore.client.pool import open_pool
from lnstore.clock import SteeredClock
from lnstore.devnet import Devnet, DevnetNode
from lnstore.lightning.core import CoreLightning
from lnstore.node.directory import load_identity
from lnstore.ports import Outcome
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import GetTerms, InvoicePurpose, InvoiceReply, RequestInvoice, TermsReply
from lnstore_protocol.terms import Agreement, SignedTerms

MIB = 1 << 20
PERIOD = 30 * 86_400
PARALLEL = 16


async def limited(count: int, parallel: int, work: Callable[[int], Awaitable[None]]) -> float:
    """Do `work(i)` for all i below `count`, so many at once; seconds."""
    limiter = trio.CapacityLimiter(parallel)

    async def one(number: int) -> None:
        async with limiter:
            await work(number)

    started = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
    return time.perf_counter() - started


@dataclass(frozen=True, slots=True)
class Accounts:
    """A running node, who is paid there, and who pays."""

    net: Devnet
    node: DevnetNode
    payer: CoreLightning
    payee: CoreLightning
    clock: SteeredClock

    async def billing(self, count: int) -> dict[str, dict[str, Any]]:
        """Rent invoices for `count` accounts over the wire, then all payments credited by a node that was away."""
        identities = [Identity.generate() for _ in range(count)]
        await self._seed(identities)
        await self.net.start_node(self.node)
        replies: dict[int, InvoiceReply] = {}

        asking: list[float] = []
        paying: list[float] = []

        async def ask(number: int) -> None:
            started = time.perf_counter()
            async with open_pool(identities[number]) as pool:
                request = RequestInvoice(purpose=InvoicePurpose.RENT, period=1, token_index=0, nonce=os.urandom(32))
                replies[number] = await pool.request(self.node.running_address, request, timeout_seconds=60)
            asking.append(time.perf_counter() - started)

        asked = await limited(count, PARALLEL, ask)
        self.node.kill()

        async def pay(number: int) -> None:
            started = time.perf_counter()
            payment = await self.payer.pay(replies[number].bolt11, max_fee_msat=Msat(0), retry_for_seconds=30)
            paying.append(time.perf_counter() - started)
            assert payment.outcome is Outcome.SETTLED, payment

        paid = await limited(count, PARALLEL, pay)
        return {
            "account_invoices": row(asking, asked),
            "account_payments": row(paying, paid),
            "account_credits": {**row([], await self._credit(count)), "count": count},
        }

    async def _seed(self, identities: Sequence[Identity]) -> None:
        async with open_pool(identities[0]) as pool:
            reply = await pool.request(self.node.running_address, GetTerms(), timeout_seconds=10)
        assert isinstance(reply, TermsReply)
        terms = SignedTerms.decode(reply.terms)
        self.node.kill()
        ours, now = load_identity(self.node.directory), self.clock.now()
        async with SqlBooks.open(self.node.directory / "books.db") as books, trio.open_nursery() as nursery:
            for identity in identities:
                agreement = Agreement.propose(terms, identity, anchor_at=now).countersign(ours)
                nursery.start_soon(books.open_account, agreement, now)
        async with SqlBooks.open(self.node.directory / "books.db") as books:
            rented = text(
                "UPDATE accounts SET capacity_bytes = :size, paid_until_at = anchor_at + period_seconds "
                "WHERE capacity_bytes = 0"
            )
            await books._database.writer.write(  # noqa: SLF001  what a thousand paid growths would have done
                lambda connection: connection.execute(rented, {"size": 8 * MIB})
            )

    async def _credit(self, count: int) -> float:
        """Seconds for everything that was paid while the node was away."""
        async with SqlBooks.open(self.node.directory / "books.db") as books:
            before = (await books.balances())["lightning"]
            index, credited = await books.pay_index(), 0
            started = time.perf_counter()
            while (invoice := await self.payee.next_paid(index, timeout_seconds=0)) is not None:
                credited += await books.credit(invoice, self.clock.now()) is not None
                index = await books.pay_index()
            seconds = time.perf_counter() - started
            assert credited == count, f"{credited} of {count} were credited"
            assert (await books.balances())["lightning"] > before
            return seconds
