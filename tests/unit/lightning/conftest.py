"""A simulated Lightning network of one's own for each test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from lnstore.lightning.channels import ensure_channel
from lnstore.lightning.core import CoreLightning
from lnstore.lightning.simulated.control import SimulatedNetwork
from lnstore.ports import Invoice, Payment
from lnstore_protocol.ids import LightningId, Msat

EVENTUALLY_SECONDS = 20.0


@dataclass(frozen=True)
class Alice:
    """Alice has a channel to Bob, in a network that is hers alone."""

    network: SimulatedNetwork
    a: CoreLightning
    b: CoreLightning
    b_id: LightningId
    a_name: str
    b_name: str

    async def invoice(self, amount_msat: int = 1000, *, preimage: bytes | None = None, expiry: int = 3600) -> Invoice:
        preimage = preimage or os.urandom(32)
        return await self.b.create_invoice(
            label=preimage.hex(),
            amount_msat=Msat(amount_msat),
            description="rent",
            expires_in_seconds=expiry,
            preimage=preimage,
        )

    async def pay(self, invoice: Invoice, *, max_fee_msat: int = 0) -> Payment:
        return await self.a.pay(invoice.bolt11, max_fee_msat=Msat(max_fee_msat), retry_for_seconds=1)

    async def balance(self) -> int:
        return sum(channel.to_us_msat for channel in await self.a.channels(self.b_id))


async def eventually(true: Callable[[], Awaitable[object]]) -> None:
    """Waits until `true` is: the other process tells nobody when it is done."""
    with trio.fail_after(EVENTUALLY_SECONDS):
        while True:
            if await true():
                return
            await trio.sleep(0.01)


async def open_channel(
    network: SimulatedNetwork, payer: CoreLightning, payee: CoreLightning, amount_sat: int
) -> LightningId:
    """A channel from payer to payee; the payee's id."""
    info = await payee.info()
    await ensure_channel(
        payer, info.lightning_id, *info.addresses[0], amount_sat=amount_sat, timeout_seconds=EVENTUALLY_SECONDS
    )
    return info.lightning_id


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a path short enough for unix sockets, whatever the test is called."""
    return tmp_path_factory.mktemp("ln")


async def _alice(network: SimulatedNetwork, a_name: str, b_name: str) -> Alice:
    for name in (a_name, b_name):
        await network.add_node(name)
    a = CoreLightning(network.socket(a_name), lost_after_seconds=0, listed_seconds=0.1)
    b = CoreLightning(network.socket(b_name))
    await network.fund(a_name, 20_000_000)
    return Alice(network, a, b, await open_channel(network, a, b, 1_000_000), a_name, b_name)


@pytest.fixture
async def network(home: Path) -> AsyncIterator[SimulatedNetwork]:
    """A process of the test's own, which it may kill, whose clock it may set."""
    async with SimulatedNetwork.start(home, ["alice", "bob"], block_seconds=0.01, payment_seconds=0.002) as running:
        yield running


@pytest.fixture
async def lone_alice(network: SimulatedNetwork) -> Alice:
    """Alice and Bob in a process of the test's own."""
    return await _alice(network, "alice", "bob")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedNetwork]:
    """One process for all tests that only need nodes of their own."""
    directory = tmp_path_factory.mktemp("shared")
    options = ["--until-stdin-ends", "--block-seconds", "0.01", "--payment-seconds", "0.002"]
    command = [sys.executable, "-m", "lnstore.lightning.simulated", "--dir", str(directory), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["ready"] is True
        yield SimulatedNetwork(directory)
        process.terminate()


@pytest.fixture
async def alice(shared: SimulatedNetwork) -> Alice:
    """Alice and Bob of this test, in a process shared with others."""
    number = len((await shared.status())["nodes"])
    return await _alice(shared, f"alice{number}", f"bob{number}")
