"""`python -m bench.lightning`: what lnstore does with real Core Lightning, on regtest, through its own adapter.

A channel, rent payments one after the other (asked for, proven, paid, credited), bare payments at 1 and 16 in parallel,
and a node that bills a thousand accounts. Needs bitcoind and lightningd on PATH; everything else ends with the run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio
from sqlalchemy import text

from lnstore.books import SqlBooks
from lnstore.client.buying import buy
from lnstore.client.catalog import Catalog, ShareEntry
from lnstore.client.nodes import add_node
from lnstore.client.pool import NodePool, open_pool
from lnstore.client.purse import Purse
from lnstore.client.rent import pay_rent
from lnstore.clock import SteeredClock
from lnstore.config import ClientConfig
from lnstore.devnet import Devnet, DevnetNode, short_directory
from lnstore.errors import LnstoreError
from lnstore.lightning.core import CoreLightning
from lnstore.lightning.regtest import RegtestNetwork
from lnstore.node import init_node
from lnstore.node.directory import load_identity
from lnstore.ports import Outcome
from lnstore_protocol import merkle, proofs
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import (
    TOKENS_PER_SHARE,
    GetTerms,
    InvoicePurpose,
    InvoiceReply,
    PutShare,
    RequestInvoice,
    TermsReply,
)
from lnstore_protocol.terms import Agreement, SignedTerms

CHANNEL_SAT = 16_000_000
PERIOD = 30 * 86_400
MIB = 1 << 20
SHARES, SHARE_BYTES = 20, 100_000
RENTS_EACH = TOKENS_PER_SHARE - 4
"""Periods that one account pays: its shares have a token for each."""
PARALLEL = 16
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    tenants: int
    payments: int
    accounts: int


def percentiles(name: str, spent: Sequence[float]) -> str:
    """`name: p50 …, p99 … (n)` in milliseconds."""
    ordered = sorted(spent)
    p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return f"{name}: p50 {statistics.median(ordered) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms ({len(ordered)})"


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


class Bench:
    """The network, one node as a process of its own, and the figures as they come."""

    def __init__(self, directory: Path, network: RegtestNetwork) -> None:
        self.directory = directory
        self.network = network
        self.payer, self.payee = (CoreLightning(network.socket(name)) for name in ("payer", "payee"))
        clock_file = directory / "clock"
        self.clock = SteeredClock(clock_file)
        init_node(
            directory / "node",
            lightning_rpc=str(network.socket("payee")),
            listen_port=0,
            clock_file=str(clock_file),
            period=f"{PERIOD}s",
            price_msat_per_gib_month=2000 * 1024,
            minimum_account="1MiB",
            capacity="1000TiB",
            maximum_connections=2000,
            maximum_connections_per_address=2000,
            rate_limit_percent=0,
            unpaid_accounts=1_000_000,
            unpaid_accounts_per_address=1_000_000,
            unpaid_growth_percent=200,
            log_level="warning",
        )
        self.node = DevnetNode("node", directory / "node", network.socket("payee"))
        self.net = Devnet(directory, self.clock, network, network.socket("payer"), [self.node])

    async def channel(self) -> str:
        """From the connection to a usable channel; a block comes within half a second."""
        await self.network.fund("payer", 5 * CHANNEL_SAT)
        info = await self.payee.info()
        started = time.perf_counter()
        await self.payer.connect(info.lightning_id, *info.addresses[0])
        await self.payer.open_channel(info.lightning_id, amount_sat=CHANNEL_SAT, push_msat=Msat(0), announce=False)
        with trio.fail_after(PATIENCE_SECONDS):
            while not any(channel.usable for channel in await self.payer.channels()):  # noqa: ASYNC110 - a daemon
                await trio.sleep(0.02)
        return f"channel open to usable: {time.perf_counter() - started:.2f} s ({info.version})"

    # --- rent -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def tenant(self, number: int) -> AsyncIterator[Purse]:
        """A client with an account, capacity and shares."""
        folder = self.directory / f"tenant{number}"
        folder.mkdir()
        identity = Identity.generate()
        secret = os.urandom(32)
        catalog = Catalog.open(folder / "catalog.db")
        try:
            async with open_pool(identity) as pool:
                purse = Purse(
                    config=ClientConfig(folder, maximum_msat_per_gib_month=10**9),
                    identity=identity,
                    account_secret=secret,
                    catalog=catalog,
                    lightning=self.payer,
                    dial=pool.dial,
                    clock=self.clock,
                )
                node = await add_node(purse, self.node.running_address, "node")
                await buy(purse, node, 8 * MIB)
                await self._put(purse, pool)
                yield purse
        finally:
            catalog.close()

    async def _put(self, purse: Purse, pool: NodePool) -> None:
        address = self.node.running_address
        audit, mask = proofs.audit_key(purse.account_secret), proofs.token_key(purse.account_secret)
        file = purse.catalog.begin_file(
            name="file", file_key=bytes(32), needed=1, total=1, happy=1, source=None, now=self.clock.now()
        )
        entries = []
        for segment in range(SHARES):
            data = os.urandom(SHARE_BYTES)
            share_id = merkle.share_id(data)
            tokens = proofs.make_tokens(data, share_id, audit, mask, address.node_id)
            message = PutShare(share_id=share_id, token_start=0, tokens=tokens, payload=data)
            await pool.request(address, message, timeout_seconds=30)
            entries.append(
                ShareEntry(
                    node_id=address.node_id,
                    share_id=share_id,
                    file_id=file.file_id,
                    segment=segment,
                    number=0,
                    size_bytes=len(data),
                    token_end=TOKENS_PER_SHARE,
                )
            )
        purse.catalog.add_shares(entries)

    async def rents(self, tenants: int) -> str:
        """Rent, period after period, from the question to the node until the node has credited it."""
        spent = []
        async with AsyncExitStack() as stack:
            purses = [await stack.enter_async_context(self.tenant(number)) for number in range(tenants)]
            for _ in range(RENTS_EACH):
                self.clock.advance(PERIOD)
                for purse in purses:
                    started = time.perf_counter()
                    (outcome,) = await pay_rent(purse)
                    spent.append(time.perf_counter() - started)
                    assert outcome.error is None, outcome.error
                    assert [paid.sampled for paid in outcome.paid] == [SHARES]
        return percentiles(f"rent over {SHARES} shares, asked, proven, paid, credited", spent)

    # --- payments -------------------------------------------------------------------------------------------------

    async def payments(self, count: int, parallel: int) -> str:
        """Bare payments of prepared invoices."""
        invoices: list[str] = []
        for _ in range(count):
            preimage = os.urandom(32)
            invoice = await self.payee.create_invoice(
                label=preimage.hex(),
                amount_msat=Msat(40_000),
                description="bench",
                expires_in_seconds=3600,
                preimage=preimage,
            )
            invoices.append(invoice.bolt11)
        spent: list[float] = []

        async def pay(number: int) -> None:
            started = time.perf_counter()
            payment = await self.payer.pay(invoices[number], max_fee_msat=Msat(0), retry_for_seconds=30)
            spent.append(time.perf_counter() - started)
            assert payment.outcome is Outcome.SETTLED, payment

        seconds = await limited(count, parallel, pay)
        return percentiles(f"payments, {parallel} at once: {count / seconds:.1f}/s; each", spent)

    # --- a thousand accounts --------------------------------------------------------------------------------------

    async def billing(self, count: int) -> str:
        """Rent invoices for `count` accounts over the wire, then all payments credited by a node that was away."""
        identities = [Identity.generate() for _ in range(count)]
        await self._seed(identities)
        await self.net.start_node(self.node)
        replies: dict[int, InvoiceReply] = {}

        async def ask(number: int) -> None:
            async with open_pool(identities[number]) as pool:
                request = RequestInvoice(purpose=InvoicePurpose.RENT, period=1, token_index=0, nonce=os.urandom(32))
                replies[number] = await pool.request(self.node.running_address, request, timeout_seconds=60)

        asked = await limited(count, PARALLEL, ask)
        self.node.kill()

        async def pay(number: int) -> None:
            payment = await self.payer.pay(replies[number].bolt11, max_fee_msat=Msat(0), retry_for_seconds=30)
            assert payment.outcome is Outcome.SETTLED, payment

        paid = await limited(count, PARALLEL, pay)
        credited = await self._credit(count)
        return (
            f"{count} accounts: {count / asked:.0f} invoices/s (each with a new connection), "
            f"paid at {count / paid:.0f}/s, credited at {count / credited:.0f}/s"
        )

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


async def measure(directory: Path, sizes: Sizes) -> None:
    """Measure and print."""
    async with RegtestNetwork.start(directory, ["payer", "payee"], block_seconds=0.5) as network:
        bench = Bench(directory, network)
        print(await bench.channel(), flush=True)
        print(await bench.payments(sizes.payments, 1), flush=True)
        print(await bench.payments(sizes.payments, PARALLEL), flush=True)
        await bench.net.start_node(bench.node)
        try:
            print(await bench.rents(sizes.tenants), flush=True)
            print(await bench.billing(sizes.accounts), flush=True)
        finally:
            bench.node.kill()
        print(f"load of this machine: {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", flush=True)


def main() -> int:
    """Run it once; 1 with one line on stderr when a program is missing or does not start."""
    parser = argparse.ArgumentParser(prog="python -m bench.lightning", description=__doc__)
    parser.add_argument("--tenants", type=int, default=6, help=f"clients that each pay {RENTS_EACH} rents")
    parser.add_argument("--payments", type=int, default=300)
    parser.add_argument("--accounts", type=int, default=1000)
    given = parser.parse_args()
    directory = short_directory("lnstore-ln-")
    try:
        trio.run(measure, directory, Sizes(given.tenants, given.payments, given.accounts))
    except LnstoreError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
