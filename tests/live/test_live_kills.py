"""Kill -9 of client, node and both real lightningds at random moments.

Nothing is paid or credited twice, nothing is lost, and both ledgers agree with both daemons.

Ten kills by default; `just live-kills 120` for more (LNSTORE_KILLS). The figures are printed.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import trio
from ledger_check import check_ledgers

from lnstore.books import SqlBooks
from lnstore.client.payments import resolve_open
from lnstore.client.pool import open_pool
from lnstore.client.profile import Profile, init_profile
from lnstore.client.purse import Purse
from lnstore.client.wallet import Wallet
from lnstore.clock import SteeredClock, SystemClock
from lnstore.devnet import Devnet, DevnetNode
from lnstore.lightning.core import CoreLightning
from lnstore.lightning.regtest import RegtestNetwork, missing_programs
from lnstore.node import init_node
from lnstore_protocol.ids import Msat

KILLS = int(os.environ.get("LNSTORE_KILLS", "10"))
SEED = int(os.environ.get("LNSTORE_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
MIB = 1 << 20
PERIOD_SECONDS = 20
GRACE_SECONDS = 3600
"""Rent falls due every few seconds, and nobody is evicted however long the daemons are away."""
COMMAND_SECONDS = 90.0
SETTLE_SECONDS = 600.0
SECONDS_PER_KILL = 30.0
"""What a kill and its consequences may take; the usual is a few seconds."""
VICTIMS = ("client", "node", "payer", "payee")
TOGETHER = (1, 1, 1, 2, 3)
"""How many are killed in one round."""


class Town:
    """A client's profile, a node, a lightningd for each of them, and what happened to them."""

    def __init__(self, directory: Path, network: RegtestNetwork, chance: random.Random) -> None:
        self.directory = directory
        self.network = network
        self.chance = chance
        self.profile = directory / "client"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        init_node(
            directory / "node",
            lightning_rpc=str(network.socket("payee")),
            listen_port=port,
            period=f"{PERIOD_SECONDS}s",
            grace=f"{GRACE_SECONDS}s",
            price_msat_per_gib_month=10**12,
            minimum_account="1MiB",
            log_level="info",
        )
        self.node = DevnetNode("node", directory / "node", network.socket("payee"))
        clock = SteeredClock(directory / "clock")
        self.net = Devnet(directory, clock, network, network.socket("payer"), [self.node])
        self.capacity_bytes, self.deposit_msat = 4 * MIB, 0
        self.killed: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()

    async def open(self) -> None:
        """The channel, the account, and a file whose shares every rent proves."""
        await self.network.fund("payer", 50_000_000)
        payer, payee = (CoreLightning(self.network.socket(name)) for name in ("payer", "payee"))
        info = await payee.info()
        await payer.connect(info.lightning_id, *info.addresses[0])
        await payer.open_channel(info.lightning_id, amount_sat=16_000_000, push_msat=Msat(0), announce=False)
        await self.until_usable()
        await self.net.start_node(self.node)
        init_profile(
            self.profile,
            lightning_rpc=str(self.network.socket("payer")),
            needed=1,
            total=1,
            happy=1,
            maximum_msat_per_gib_month=10**13,
        )
        (self.directory / "file").write_bytes(random.Random(1).randbytes(100_000))
        for words in (
            ["nodes", "add", str(self.node.running_address), "--petname", "node"],
            ["rent", "buy", "node", str(self.capacity_bytes)],
            ["put", str(self.directory / "file")],
        ):
            command = self.command(words)
            assert command.wait(COMMAND_SECONDS) == 0, self.said()

    def command(self, words: list[str]) -> subprocess.Popen[bytes]:
        """A command of the client's, in a process of its own."""
        with (self.directory / "client.log").open("ab") as log:
            environment = os.environ | {"LNSTORE_HOME": str(self.profile)}
            return subprocess.Popen([sys.executable, "-m", "lnstore", *words], stdout=log, stderr=log, env=environment)

    def said(self) -> str:
        """The end of what the client's commands said."""
        return (self.directory / "client.log").read_text()[-2000:]

    def some_command(self) -> list[str]:
        """More capacity, more deposit, or the rent that is due."""
        what = self.chance.choice(("capacity", "deposit", "rent", "rent"))
        if what == "rent":
            return ["rent", "pay", *self.chance.choice(([], ["--ahead"]))]
        if what == "capacity":
            self.capacity_bytes += MIB
        else:
            self.deposit_msat += 1000
        return ["rent", "buy", "node", str(self.capacity_bytes), "--deposit", str(self.deposit_msat)]

    # --- killing --------------------------------------------------------------------------------------------------

    async def round(self) -> None:
        """One command, during which some are killed; those start again in some order, one of them maybe late."""
        process = self.command(self.some_command())
        victims = self.chance.sample(VICTIMS, self.chance.choice(TOGETHER))
        for victim in victims:
            await trio.sleep(self.chance.choice((0.05, 0.3, 0.6, 0.8, 1.0, 1.3)) * self.chance.random())
            await self.kill(victim, process)
        await trio.sleep(self.chance.choice((0, 0, 0.5, 2)))
        self.chance.shuffle(victims)
        for victim in victims:
            await self.start(victim)
        with trio.move_on_after(self.chance.choice((1, 5, 10))):
            while process.poll() is None:  # noqa: ASYNC110 - a process sets no event
                await trio.sleep(0.02)
        if process.poll() is None:
            await self.kill("client", process)
        self.ended["killed" if process.returncode < 0 else str(process.returncode)] += 1

    async def kill(self, victim: str, process: subprocess.Popen[bytes]) -> None:
        if victim == "client":
            if process.poll() is not None:
                return  # it was faster
            process.kill()
            process.wait()
        elif victim == "node":
            self.node.kill()
        else:
            await self.network.crash_node(victim)
        self.killed[victim] += 1

    async def start(self, victim: str) -> None:
        if victim == "node":
            await self.net.start_node(self.node)
        elif victim != "client":
            await self.network.start_node(victim)

    async def until_usable(self) -> None:
        payer = CoreLightning(self.network.socket("payer"))
        with trio.fail_after(COMMAND_SECONDS):
            while not any(channel.usable for channel in await payer.channels()):  # noqa: ASYNC110 - a daemon
                await trio.sleep(0.05)

    # --- in the end -----------------------------------------------------------------------------------------------

    async def settle(self) -> float:
        """Run the client's commands until everything they ask for is done and no payment is open; for how long."""
        await self.until_usable()
        started = time.monotonic()
        while True:
            assert time.monotonic() - started < SETTLE_SECONDS, self.said()
            buy = ["rent", "buy", "node", str(self.capacity_bytes), "--deposit", str(self.deposit_msat)]
            codes = []
            for words in (buy, ["rent", "pay"]):
                process = self.command(words)
                codes.append(await trio.to_thread.run_sync(process.wait, COMMAND_SECONDS))
            if codes == [0, 0] and not await self.open_payments():
                return time.monotonic() - started
            await trio.sleep(2)

    async def open_payments(self) -> int:
        profile = Profile.load(self.profile)
        catalog = profile.open_catalog()
        try:
            async with open_pool(profile.identity) as pool:
                lightning = CoreLightning(self.network.socket("payer"))
                purse = Purse.of(profile, catalog, lightning, pool.dial, SystemClock())
                return len(await resolve_open(purse))
        finally:
            catalog.close()

    async def check(self) -> dict[str, int]:
        node_id = self.node.running_address.node_id
        self.node.kill()
        catalog = Profile.load(self.profile).open_catalog()
        try:
            async with SqlBooks.open(self.directory / "node" / "books.db") as books:
                return await check_ledgers(
                    payer=CoreLightning(self.network.socket("payer")),
                    payee=CoreLightning(self.network.socket("payee")),
                    wallet=Wallet(catalog),
                    books=books,
                    node_id=node_id,
                )
        finally:
            catalog.close()


@pytest.mark.live(seconds=SETTLE_SECONDS + SECONDS_PER_KILL * KILLS)
@pytest.mark.skipif(bool(missing_programs()), reason=f"not on PATH: {', '.join(missing_programs())}")
async def test_whatever_is_killed_nothing_is_paid_twice_or_lost(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Kill -9 at random moments; at the end every payment is settled or failed, and four books say the same."""
    print(f"\nseed {SEED}: LNSTORE_SEED={SEED} repeats the order, not the timing")  # noqa: T201
    directory = tmp_path_factory.mktemp("kills")
    async with RegtestNetwork.start(directory, ["payer", "payee"], block_seconds=0.5) as network:
        town = Town(directory, network, random.Random(SEED))
        version = (await CoreLightning(network.socket("payer")).info()).version
        try:
            await town.open()
            started = time.monotonic()
            while town.killed.total() < KILLS:
                await town.round()
            took = time.monotonic() - started
            settled = await town.settle()
            figures = await town.check()
        finally:
            town.node.kill()
    print(  # noqa: T201
        f"{version}: {town.killed.total()} kills in {took:.0f} s {dict(town.killed)}; commands ended "
        f"{dict(town.ended)}; all well again after {settled:.0f} s; {figures}"
    )
    assert figures["paid"] > 0
