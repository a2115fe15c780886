"""Two funded Lightning daemons with a channel between them: simulated always, real Core Lightning where it is.

The network lives for the whole session in a thread of its own (a real one takes seconds to start); each test talks
to it through the daemons' sockets, and steers it through `Network`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from lnstore.lightning.channels import ensure_channel
from lnstore.lightning.core import CoreLightning
from lnstore.lightning.regtest import RegtestNetwork, missing_programs
from lnstore.lightning.simulated.control import SimulatedNetwork
from lnstore.ports import Invoice
from lnstore_protocol.ids import LightningId, Msat

CHANNEL_SAT = 1_000_000
WALLET_SAT = 20_000_000
START_SECONDS = 120.0
EVENTUALLY_SECONDS = 60.0

ZERO_CONF_PLUGIN = """
from pyln.client import Plugin

plugin = Plugin()


@plugin.hook("openchannel")
def on_openchannel(openchannel, plugin, **kwargs):
    return {"result": "continue", "mindepth": 0}


plugin.run()
"""

HOLDING_PLUGIN = """
import os
import threading
import time
from pyln.client import Plugin

plugin = Plugin()


@plugin.async_hook("htlc_accepted")
def on_htlc_accepted(htlc, onion, plugin, request, **kwargs):
    def wait():
        while os.path.exists({file!r}):
            time.sleep(0.02)
        request.set_result({{"result": "continue"}})

    threading.Thread(target=wait, daemon=True).start()


plugin.run()
"""


class Network:
    """A running network in another thread; every method may be awaited from any trio run."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self._directory = directory
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._end: trio.Event | None = None
        self._network: RegtestNetwork | SimulatedNetwork | None = None
        self._thread = threading.Thread(target=self._run, name=f"lightning-{kind}")

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(START_SECONDS), "the Lightning network did not start"
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        if self._token is not None and self._end is not None and self._failure is None:
            self._token.run_sync_soon(self._end.set)
        self._thread.join(START_SECONDS)

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as exc:  # noqa: BLE001  handed to the thread that waits
            self._failure = exc
            self._ready.set()

    async def _main(self) -> None:
        self._token, self._end = trio.lowlevel.current_trio_token(), trio.Event()
        names = ["alice", "bob"]
        starting = (
            SimulatedNetwork.start(self._directory, names, block_seconds=0.02)
            if self.kind == "simulated"
            else RegtestNetwork.start(self._directory, names, block_seconds=0.3)
        )
        async with starting as network:
            self._network = network
            await network.fund("alice", WALLET_SAT)
            alice, bob = (CoreLightning(network.socket(name)) for name in names)
            info = await bob.info()
            await ensure_channel(
                alice, info.lightning_id, *info.addresses[0], amount_sat=CHANNEL_SAT, timeout_seconds=60
            )
            self._ready.set()
            await self._end.wait()

    async def _do(self, method: str, *args: Any) -> Any:
        async def call() -> Any:
            return await getattr(self._network, method)(*args)

        def hop() -> Any:
            return trio.from_thread.run(call, trio_token=self._token)

        return await trio.to_thread.run_sync(hop)

    def lightning(self, name: str) -> CoreLightning:
        assert self._network is not None
        # A test cannot wait as long as one would wait in earnest before taking a payment for lost.
        return CoreLightning(self._network.socket(name), lost_after_seconds=2)

    async def mine(self, blocks: int = 1) -> int:
        return int(await self._do("mine", blocks))

    async def add_node(self, name: str) -> CoreLightning:
        await self._do("add_node", name)
        return self.lightning(name)

    async def fund(self, name: str, amount_sat: int) -> None:
        await self._do("fund", name, amount_sat)

    async def crash(self, name: str) -> None:
        await self._do("crash_node", name)

    async def restart(self, name: str) -> None:
        await self._do("start_node", name)

    async def allow_zero_conf(self, name: str) -> None:
        """From now on the daemon takes channels whose funding has no block yet; a real one asks a plugin."""
        if self.kind == "simulated":
            await self._do("allow_zero_conf", name)
            return
        await self._plug(name, "zero_conf.py", ZERO_CONF_PLUGIN)

    async def _plug(self, name: str, file: str, text: str) -> None:
        plugin = self._directory / file
        plugin.write_text(f"#!{sys.executable}\n{text}")
        plugin.chmod(0o700)
        lightning = self.lightning(name)
        running = (await lightning.call("plugin", subcommand="list"))["plugins"]
        if not any(one["name"] == str(plugin) for one in running):
            await lightning.call("plugin", subcommand="start", plugin=str(plugin))

    @asynccontextmanager
    async def holding(self) -> AsyncIterator[None]:
        """Within the block the next payment of Alice to Bob is sent and not answered; at its end Bob decides.

        A real daemon is held by a plugin, which a restart of that daemon ends.
        """
        file = self._directory / "hold"
        if self.kind == "simulated":
            await self._do("fault", "hold_payment", "alice")
        else:
            file.touch()
            await self._plug("bob", "hold.py", HOLDING_PLUGIN.format(file=str(file)))
        try:
            yield
        finally:
            if self.kind == "simulated":
                await self._do("release", "alice")
            else:
                file.unlink()


@dataclass(frozen=True)
class Pair:
    """A pays B over a channel that A opened."""

    network: Network
    a: CoreLightning
    b: CoreLightning
    a_id: LightningId
    b_id: LightningId
    b_place: tuple[str, int]

    @property
    def simulated(self) -> bool:
        return self.network.kind == "simulated"

    async def invoice(self, amount_msat: int = 1000, *, preimage: bytes | None = None, expiry: int = 3600) -> Invoice:
        """A fresh invoice of B."""
        preimage = preimage or os.urandom(32)
        return await self.b.create_invoice(
            label=f"test-{os.urandom(8).hex()}",
            amount_msat=Msat(amount_msat),
            description="rent",
            expires_in_seconds=expiry,
            preimage=preimage,
        )

    async def last_pay_index(self) -> int:
        """The pay index of the newest payment that B has got."""
        paid = await self.b.call("listinvoices")
        return max((entry.get("pay_index", 0) for entry in paid["invoices"]), default=0)

    async def reconnected(self) -> None:
        """Waits until the channel between A and B is usable again on both sides."""

        async def usable() -> bool:
            ours, theirs = await self.a.channels(self.b_id), await self.b.channels(self.a_id)
            return any(channel.usable for channel in ours) and any(channel.usable for channel in theirs)

        await eventually(usable)


async def eventually(true: Callable[[], Awaitable[object]], seconds: float = EVENTUALLY_SECONDS) -> None:
    """Waits until `true` is, looking again and again: other processes tell nobody when they are done."""
    with trio.fail_after(seconds):
        while True:
            if await true():
                return
            await trio.sleep(0.02)


# Where the programs are missing, test_contract_live.py says so in one line; here nothing is even collected.
KINDS = ["simulated", *([] if missing_programs() else [pytest.param("core", marks=pytest.mark.live)])]


@pytest.fixture(scope="session", params=KINDS)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    kind: str = request.param
    hosted = Network(kind, tmp_path_factory.mktemp(kind))
    hosted.start()
    yield hosted
    hosted.stop()


@pytest.fixture
async def pair(network: Network) -> Pair:
    a, b = network.lightning("alice"), network.lightning("bob")
    a_info, b_info = await a.info(), await b.info()
    return Pair(network, a, b, a_info.lightning_id, b_info.lightning_id, b_info.addresses[0])
