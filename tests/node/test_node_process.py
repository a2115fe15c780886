"""The node as a process, on the simulated Lightning network: the main job once, the lock, signals, a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from node_world import HELLO, MIB, PATIENCE_SECONDS, Client, some_bytes

from lnstore.lightning.channels import ensure_channel
from lnstore.lightning.core import CoreLightning
from lnstore.lightning.simulated.control import SimulatedNetwork
from lnstore.node import init_node
from lnstore.ports import Outcome
from lnstore_protocol import proofs
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import Msat, NodeAddress
from lnstore_protocol.messages import (
    AddCapacity,
    AddCapacityReply,
    ChannelInfo,
    ChannelInfoReply,
    GetShare,
    GetShareReply,
    HelloReply,
    InvoicePurpose,
    InvoiceReply,
    RequestInvoice,
)
from lnstore_protocol.terms import binding_text

IDLE_RSS_KIB = 68 * 1024
"""64 MiB were measured, 20 of them pages of libraries that all processes share."""

NOT_AS_SHIPPED = ("COVERAGE_", "PYTHONDONTWRITEBYTECODE")
"""What coverage keeps in a process, and what compiling leaves there, is not the node's memory."""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory whose path is short enough for unix sockets."""
    with tempfile.TemporaryDirectory(prefix="lnnode", dir="/tmp") as path:
        yield Path(path)


@asynccontextmanager
async def _process(directory: Path) -> AsyncIterator[trio.Process]:
    with (directory.parent / "log").open("ab") as log:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(NOT_AS_SHIPPED)}
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "lnstore", "node", "run", str(directory)],
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=environment,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _address(directory: Path) -> NodeAddress:
    path = directory / "address"
    with trio.fail_after(PATIENCE_SECONDS):
        while not path.exists():  # noqa: ASYNC110 - another process makes it
            await trio.sleep(0.01)
    return NodeAddress.parse(path.read_text())


def _rss_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


async def test_a_client_rents_stores_pays_for_proof_and_reads_from_a_node_process(directory: Path) -> None:
    """Open, rent, put, kill -9, restart, pay proof-locked rent, read; then a second process, a signal, the end."""
    home = directory / "node"
    async with SimulatedNetwork.start(directory / "ln", ["client", "node"], block_seconds=0.02) as network:
        await network.fund("client", 20_000_000)
        mine = CoreLightning(network.socket("client"))
        init_node(home, lightning_rpc=str(network.socket("node")), listen_port=0)
        identity = Identity.generate()
        data = some_bytes(3 * MIB + 5)
        async with _process(home) as process:
            address = await _address(home)
            async with await Client.connect(address, identity) as client:
                greeting = await client.ask(HELLO, HelloReply)
                text = binding_text(address.node_id, greeting.lightning_id)
                assert await mine.check_message(text, greeting.lightning_signature, greeting.lightning_id)
                info = await client.ask(ChannelInfo(), ChannelInfoReply)
                host, _, port = info.addresses[0].rpartition(":")
                await ensure_channel(mine, info.lightning_id, host, int(port), amount_sat=1_000_000, timeout_seconds=30)
                client.clock = _Now(greeting.now_at)  # type: ignore[assignment]
                await client.open_account()
                growth = await client.ask(AddCapacity(growth_index=0, capacity_bytes=8 * MIB), AddCapacityReply)
                await _pay(mine, growth.bolt11)
                await client.until(lambda now: now.capacity_bytes == 8 * MIB)
                share_id = await client.put(data, tokens=client.tokens(address, data))
            process.kill()
            await process.wait()
        (home / "address").unlink()
        async with _process(home) as process:
            address = await _address(home)
            assert _rss_kib(process.pid) < IDLE_RSS_KIB  # at the second start, which has nothing to compile
            async with await Client.connect(address, identity) as client:
                await client.ask(HELLO, HelloReply)
                rent = await client.ask(client.rent_request(address, await client.status()), InvoiceReply)
                preimage = await _pay(mine, rent.bolt11)
                nonce = client.nonce(address, 0)
                assert preimage == proofs.fold(nonce, [(share_id, proofs.answer(nonce, share_id, data))])
                await client.until(lambda now: now.token_index == 1)
                deposit = RequestInvoice(purpose=InvoicePurpose.DEPOSIT, deposit_index=0, amount_msat=Msat(10_000))
                await _pay(mine, (await client.ask(deposit, InvoiceReply)).bolt11)
                await client.until(lambda now: now.deposit_msat == 10_000)
                reply = await client.ask(GetShare(share_id=share_id, offset=0, length=0), GetShareReply)
                assert bytes(reply.payload) == data
            second = await trio.run_process(
                [sys.executable, "-m", "lnstore", "node", "run", str(home)], capture_stderr=True, check=False
            )
            assert second.returncode == 3
            assert b"another process runs the node" in second.stderr
            assert b"Traceback" not in second.stderr
            os.kill(process.pid, signal.SIGTERM)
            with trio.fail_after(PATIENCE_SECONDS):
                assert await process.wait() == 0
        assert not (home / "address").exists()
        log = (directory / "log").read_text()
        assert preimage.hex() not in log
        assert '"event": "stopped"' in log


async def _pay(lightning: CoreLightning, bolt11: str) -> bytes:
    payment = await lightning.pay(bolt11, max_fee_msat=Msat(1000), retry_for_seconds=20)
    assert payment.outcome is Outcome.SETTLED, payment
    assert payment.preimage is not None
    return payment.preimage


class _Now:
    def __init__(self, time: int) -> None:
        self.time = time

    def now(self) -> int:
        return self.time
