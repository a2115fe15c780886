"""`python -m bench.attacks`: what honest accounts notice of attacks on their node (spec 07).

One node process on the simulated Lightning network; honest accounts put, get and ask in turn, and their p50 and p99 are
taken alone and beside each attack (attackers.py), in the same run. All share two cores with the attacker: the control
"computing" shows what a process that only computes costs them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from bench.attackers import ATTACKS
from bench.processes import cpu_seconds, two_cores
from lnstore.client.transport import NodeConnection, connect
from lnstore.devnet import Devnet, devnet, short_directory
from lnstore.lightning.core import CoreLightning
from lnstore.ports import Outcome
from lnstore_protocol import merkle
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import Msat, ShareId
from lnstore_protocol.messages import (
    AccountStatus,
    AccountStatusReply,
    AddCapacity,
    AddCapacityReply,
    GetShare,
    GetTerms,
    InvoicePurpose,
    InvoiceReply,
    OpenAccount,
    PutShare,
    RequestInvoice,
    TermsReply,
)
from lnstore_protocol.terms import Agreement, SignedTerms

MIB = 1 << 20
CHANNEL_SAT = 10_000_000
SHARE_BYTES = 64 * 1024
AUDITED = 8
"""Shares of 1 MiB that the account of the paying attacker has."""
TIMEOUT_SECONDS = 60.0
OPERATIONS = ("put", "get", "status")


@dataclass(slots=True)
class Tenant:
    """An account with capacity and a deposit, and its connection."""

    identity: Identity
    connection: NodeConnection
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    async def ask(self, message: Any) -> Any:
        """The node's answer."""
        return await self.connection.request(message, timeout_seconds=TIMEOUT_SECONDS)

    async def put(self, data: bytes) -> ShareId:
        """Store a share."""
        share_id = merkle.share_id(data)
        await self.ask(PutShare(share_id=share_id, token_start=0, tokens=b"", payload=data))
        return share_id

    async def work(self, until: float) -> None:
        """Put, get and ask, each timed, until the time is up: a put that is cancelled would end the connection."""
        data = os.urandom(SHARE_BYTES)
        share_id = merkle.share_id(data)
        requests = {
            "put": PutShare(share_id=share_id, token_start=0, tokens=b"", payload=data),
            "get": GetShare(share_id=share_id, offset=0, length=0),
            "status": AccountStatus(),
        }
        while trio.current_time() < until:
            for name in OPERATIONS:
                started = time.perf_counter()
                await self.ask(requests[name])
                self.seconds[name].append(time.perf_counter() - started)
                await trio.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Row:
    """One window: what the honest accounts met, what the attacker was answered, what the node's CPU did."""

    attack: str
    alone: dict[str, list[float]]
    beside: dict[str, list[float]]
    answered: dict[str, int]
    node_cpu_share: float


class Town:
    """The network, the node, and who rents there."""

    def __init__(self, net: Devnet) -> None:
        self.net = net
        self.node = net.nodes[0]
        self.payer = CoreLightning(net.client_rpc)

    async def channel(self) -> None:
        """A channel from the client's daemon to the node's."""
        info = await CoreLightning(self.node.lightning_rpc).info()
        await self.payer.connect(info.lightning_id, *info.addresses[0])
        await self.payer.open_channel(info.lightning_id, amount_sat=CHANNEL_SAT, push_msat=Msat(0), announce=False)
        await self.net.lightning.mine(6)
        with trio.fail_after(TIMEOUT_SECONDS):
            while not any(channel.usable for channel in await self.payer.channels()):  # noqa: ASYNC110 - a daemon
                await trio.sleep(0.02)

    @asynccontextmanager
    async def tenant(self, capacity_bytes: int = 16 * MIB) -> AsyncIterator[Tenant]:
        """One more account, paid for."""
        identity = Identity.generate()
        async with connect(self.node.running_address, identity) as connection:
            tenant = Tenant(identity, connection)
            terms: TermsReply = await tenant.ask(GetTerms())
            proposed = Agreement.propose(SignedTerms.decode(terms.terms), identity, self.net.clock.now())
            await tenant.ask(OpenAccount(agreement=proposed.encoded))
            growth: AddCapacityReply = await tenant.ask(AddCapacity(growth_index=0, capacity_bytes=capacity_bytes))
            deposit: InvoiceReply = await tenant.ask(
                RequestInvoice(purpose=InvoicePurpose.DEPOSIT, deposit_index=0, amount_msat=Msat(10**8))
            )
            for reply in (growth, deposit):
                paid = await self.payer.pay(reply.bolt11, max_fee_msat=Msat(0), retry_for_seconds=10)
                assert paid.outcome is Outcome.SETTLED, paid
            await self._credited(tenant)
            yield tenant

    async def _credited(self, tenant: Tenant) -> AccountStatusReply:
        with trio.fail_after(TIMEOUT_SECONDS):
            while True:
                status: AccountStatusReply = await tenant.ask(AccountStatus())
                if status.capacity_bytes and status.deposit_msat:
                    return status
                await trio.sleep(0.02)

    async def window(self, tenants: Sequence[Tenant], seconds: float) -> dict[str, list[float]]:
        """What the tenants' operations took, for so long."""
        for tenant in tenants:
            tenant.seconds.clear()
        until = trio.current_time() + seconds
        async with trio.open_nursery() as nursery:
            for tenant in tenants:
                nursery.start_soon(tenant.work, until)
        return {name: [one for tenant in tenants for one in tenant.seconds[name]] for name in OPERATIONS}

    async def beside(self, attack: str, tenants: Sequence[Tenant], seconds: float) -> Row:
        """A window alone, and one beside the attack."""
        alone = await self.window(tenants, seconds)
        async with self.tenant() as paying:
            shares = [await paying.put(os.urandom(MIB)) for _ in range(AUDITED)]
            status: AccountStatusReply = await paying.ask(AccountStatus())
            orders = {
                "attack": attack,
                "node": str(self.node.running_address),
                "seed": paying.identity.seed.hex(),
                "shares": [bytes(share).hex() for share in shares],
                "period": status.next_period,
                "now": self.net.clock.now(),
                "seconds": seconds + 1,
            }
            with subprocess.Popen(  # noqa: ASYNC220 - starting takes a millisecond
                [sys.executable, "-m", "bench.attackers"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(json.dumps(orders).encode() + b"\n")
                process.stdin.close()
                await trio.sleep(1)  # for its start
                pid = 0 if self.node.process is None else self.node.process.pid
                used = cpu_seconds(pid)
                met = await self.window(tenants, seconds)
                used = cpu_seconds(pid) - used
                told = await trio.to_thread.run_sync(process.stdout.readline)
        return Row(attack, alone, met, json.loads(told), used / seconds)

    def books(self) -> str:
        """What is left in the books when all is over."""
        with sqlite3.connect(f"file:{self.node.directory / 'books.db'}?mode=ro", uri=True) as db:
            accounts, strangers, pages, size = (
                db.execute(query).fetchone()[0]
                for query in (
                    "SELECT count(*) FROM accounts",
                    "SELECT count(*) FROM strangers",
                    "PRAGMA page_count",
                    "PRAGMA page_size",
                )
            )
        return f"{accounts} accounts in the books, {strangers} of them never paid; {pages * size / 1024:,.0f} KiB"


def _quantile(values: list[float], of_100: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[of_100 - 1] if len(values) > 1 else float("nan")


def table(rows: Sequence[Row]) -> str:
    """As Markdown, for each attack the medians of its rounds: p50 and p99 in ms alone → beside, and the ratio."""
    lines = [
        f"| attack | {' | '.join(f'{name} p50 | {name} p99' for name in OPERATIONS)} | node's CPU | answers |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for attack in dict.fromkeys(row.attack for row in rows):
        rounds = [row for row in rows if row.attack == attack]
        cells = [attack]
        for name in OPERATIONS:
            for of_100 in (50, 99):
                alone, beside = (
                    statistics.median(_quantile(windows[name], of_100) * 1000 for windows in found)
                    for found in ([row.alone for row in rounds], [row.beside for row in rounds])
                )
                cells.append(f"{alone:.1f} → {beside:.1f} ms ({beside / alone:.1f} times)")
        answered: Counter[str] = Counter()
        for row in rounds:
            answered.update(row.answered)
        answers = ", ".join(f"{kind} {number:,}" for kind, number in sorted(answered.items())) or "nothing"
        cells += [f"{statistics.median(row.node_cpu_share for row in rounds):.0%}", answers]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


async def run(
    attacks: Sequence[str], *, honest: int, seconds: float, rounds: int, rate_limit_percent: int
) -> list[Row]:
    """All the attacks, one after the other and so some times, on one node."""
    directory = short_directory("lnstore-attacks-")
    settings = {"log_level": "error", "rate_limit_percent": rate_limit_percent, "capacity": "1GiB"}
    try:
        async with devnet(directory, nodes=1, settings=settings) as net, AsyncExitStack() as stack:
            town = Town(net)
            await town.channel()
            tenants = [await stack.enter_async_context(town.tenant()) for _ in range(honest)]
            await town.window(tenants, min(seconds, 2.0))  # warm
            rows = [await town.beside(attack, tenants, seconds) for _ in range(rounds) for attack in attacks]
            sys.stderr.write(town.books() + "\n")
            return rows
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=f"of {', '.join(ATTACKS)}; all when none is named")
    parser.add_argument("--seconds", type=float, default=6.0, help="each window, alone and beside")
    parser.add_argument("--rounds", type=int, default=3, help="windows of each attack; the table has their medians")
    parser.add_argument("--honest", type=int, default=4, help="accounts that work")
    parser.add_argument("--rate-limit-percent", type=int, default=100, help="0: what it would be without limits")
    parser.add_argument("--output", type=Path, help="where the table goes too")
    given = parser.parse_args(arguments)
    if unknown := set(given.attacks) - set(ATTACKS):
        parser.error(f"there is no attack {', '.join(sorted(unknown))}")
    two_cores()
    rows = trio.run(
        lambda: run(
            given.attacks or list(ATTACKS),
            honest=given.honest,
            seconds=given.seconds,
            rounds=given.rounds,
            rate_limit_percent=given.rate_limit_percent,
        )
    )
    text = f"{table(rows)}\n\nload average {', '.join(f'{load:.1f}' for load in os.getloadavg())} on two cores\n"
    sys.stdout.write(text)
    if given.output is not None:
        given.output.write_text(text)


if __name__ == "__main__":
    main()
