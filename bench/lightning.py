"""`just bench-lightning`: what lnstore does with real Core Lightning, on regtest, through its own adapter.

Channels, rent payments one after the other (asked for, proven, paid, credited), bare payments at 1 and 16 in parallel,
and a node that bills a thousand accounts. Needs bitcoind and lightningd on PATH; everything else ends with the run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio

from bench import lightning_report as report
from bench.lightning_accounts import MIB, PARALLEL, PERIOD, Accounts, limited
from bench.lightning_report import row
from bench.machine import describe
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
from lnstore.ports import Outcome
from lnstore_protocol import merkle, proofs
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import LightningId, Msat
from lnstore_protocol.messages import (
    TOKENS_PER_SHARE,
    PutShare,
)

CHANNEL_SAT = 16_000_000
OTHER_CHANNEL_SAT = 1_000_000
BLOCK_SECONDS = 0.5
SHARES, SHARE_BYTES = 20, 100_000
RENTS_EACH = TOKENS_PER_SHARE - 4
"""Periods that one account pays: its shares have a token for each."""
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    channels: int
    tenants: int
    payments: int
    accounts: int

    def as_json(self) -> dict[str, Any]:
        """These and the fixed ones."""
        return {
            "channels": self.channels,
            "rents": self.tenants * RENTS_EACH,
            "payments": self.payments,
            "accounts": self.accounts,
            "shares": SHARES,
            "parallel": PARALLEL,
            "block_seconds": BLOCK_SECONDS,
        }


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

    async def channels(self, count: int) -> dict[str, Any]:
        """From `fundchannel` to a usable channel: one to the node, the others to a daemon that is stopped then."""
        await self.network.fund("payer", 5 * CHANNEL_SAT)
        await self.network.add_node("other")
        other = CoreLightning(self.network.socket("other"))
        spent = []
        for peer, amount_sat in [(self.payee, CHANNEL_SAT), *[(other, OTHER_CHANNEL_SAT)] * (count - 1)]:
            info = await peer.info()
            await self.payer.connect(info.lightning_id, *info.addresses[0])
            await self._settled()
            started = time.perf_counter()
            channel_id = await self.payer.open_channel(
                info.lightning_id, amount_sat=amount_sat, push_msat=Msat(0), announce=False
            )
            with trio.fail_after(PATIENCE_SECONDS):
                while not await self._is_usable(info.lightning_id, channel_id):  # noqa: ASYNC110 - a daemon
                    await trio.sleep(0.02)
            spent.append(time.perf_counter() - started)
        await self.network.crash_node("other")
        return row(spent, sum(spent))

    async def _is_usable(self, peer: LightningId, channel_id: str) -> bool:
        channels = await self.payer.channels(peer)
        return any(channel.usable and channel.channel_id == channel_id for channel in channels)

    async def _settled(self) -> None:
        """Until the payer's wallet has no change in the air: what is measured does not wait for that."""
        with trio.fail_after(PATIENCE_SECONDS):
            while not all(coin.spendable for coin in await self.payer.coins()):  # noqa: ASYNC110 - a daemon
                await trio.sleep(0.05)

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

    async def rents(self, tenants: int) -> dict[str, Any]:
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
        return row(spent, sum(spent))

    # --- payments -------------------------------------------------------------------------------------------------

    async def payments(self, count: int, parallel: int) -> dict[str, Any]:
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
        return row(spent, seconds)


def bitcoin_version() -> str:
    """What bitcoind says of itself."""
    said = subprocess.run(["bitcoind", "-version"], capture_output=True, text=True, check=False).stdout
    return (said.splitlines() or ["bitcoind"])[0].replace(" daemon version", "").replace(" RPC", "")


async def measure(directory: Path, sizes: Sizes) -> dict[str, Any]:
    """All figures, as JSON; printed as they come."""
    began_at = datetime.now(UTC).isoformat(timespec="seconds")
    rows: dict[str, dict[str, Any]] = {}
    async with RegtestNetwork.start(directory, ["payer", "payee"], block_seconds=BLOCK_SECONDS) as network:
        bench = Bench(directory, network)
        lightning = (await bench.payee.info()).version
        sys.stderr.write(f"Core Lightning {lightning}\n")
        rows["channel_open"] = await bench.channels(sizes.channels)
        rows["payment_one"] = await bench.payments(sizes.payments, 1)
        rows["payment_many"] = await bench.payments(sizes.payments, PARALLEL)
        sys.stderr.write("channels and payments are done; now rent\n")
        await bench.net.start_node(bench.node)
        try:
            rows["rent"] = await bench.rents(sizes.tenants)
            sys.stderr.write("now accounts\n")
            accounts = Accounts(bench.net, bench.node, bench.payer, bench.payee, bench.clock)
            rows |= await accounts.billing(sizes.accounts)
        finally:
            bench.node.kill()
    cores = sorted(os.sched_getaffinity(0))
    return {
        "format": report.FORMAT,
        "began_at": began_at,
        "machine": describe(directory, cores),
        "lightning": lightning,
        "bitcoin": bitcoin_version(),
        "load_average": round(os.getloadavg()[0], 1),
        "sizes": sizes.as_json(),
        "rows": rows,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it once; 1 with one line on stderr when a program is missing or does not start."""
    parser = argparse.ArgumentParser(prog="just bench-lightning", description=__doc__)
    parser.add_argument("--channels", type=int, default=10, metavar="N", help="how many to open")
    parser.add_argument(
        "--tenants", type=int, default=10, metavar="N", help=f"clients that pay {RENTS_EACH} rents each"
    )
    parser.add_argument("--payments", type=int, default=500, metavar="N", help="one at a time, and as many at once")
    parser.add_argument("--accounts", type=int, default=1000, metavar="N", help="that one node bills")
    parser.add_argument("--output", type=Path, metavar="JSON", help="keep the results there, too")
    parser.add_argument(
        "--record", action="store_true", help="keep the results, and remake docs/benchmarks-lightning.md"
    )
    parser.add_argument("--from", dest="source", type=Path, metavar="JSON", help="use these results, measure nothing")
    given = parser.parse_args(arguments)
    if given.source is not None:
        results = report.read(given.source)
    else:
        directory = short_directory("lnstore-ln-")
        sizes = Sizes(given.channels, given.tenants, given.payments, given.accounts)
        try:
            results = trio.run(measure, directory, sizes)
        except LnstoreError as exc:
            sys.stderr.write(f"{exc}\n")
            return 1
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    sys.stdout.write(report.document(results))
    if given.output is not None:
        report.write(results, given.output)
    if given.record:
        report.write(results, report.RECORDED)
        report.DOCUMENT.write_text(report.document(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
