"""Money over the simulated Lightning network: a real node, daemons that crash, a client that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from money_world import GIB, PERIOD, SECRET, HonestNode, SetClock

from lnstore.books import SqlBooks
from lnstore.client.audit import HowLost, find_lost
from lnstore.client.buying import buy
from lnstore.client.catalog import Catalog, ShareEntry
from lnstore.client.channel_watch import list_channels
from lnstore.client.money_errors import PaymentFailed, PaymentOpen, ProofFailed
from lnstore.client.node_channels import open_channel
from lnstore.client.node_errors import NodeRefused
from lnstore.client.nodes import add_node
from lnstore.client.payments import resolve_open, resume
from lnstore.client.pool import NodePool, open_pool
from lnstore.client.purse import Purse
from lnstore.client.rent import pay_rent
from lnstore.client.rent_status import rent_status
from lnstore.config import ClientConfig, NodeConfig
from lnstore.lightning.core import CoreLightning
from lnstore.lightning.simulated.control import SimulatedNetwork
from lnstore.node.directory import init_node, load_identity
from lnstore.node.server import Node
from lnstore.ports import LightningUnavailable, Outcome
from lnstore.storage.files import FileShares
from lnstore_protocol import merkle, proofs
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import Msat, NodeAddress, ShareId
from lnstore_protocol.messages import TOKENS_PER_SHARE, GetShare, PutShare

CLIENT = Identity(b"c" * 32)


@dataclass
class Town:
    """The network with a funded client, one node, and a purse to pay it."""

    directory: Path
    network: SimulatedNetwork
    purse: Purse
    clock: SetClock
    address: NodeAddress
    pool: NodePool | None = None
    shares: FileShares | None = None


def purse(directory: Path, network: SimulatedNetwork, clock: SetClock, dial: object) -> Purse:
    return Purse(
        config=ClientConfig(directory),
        identity=CLIENT,
        account_secret=SECRET,
        catalog=Catalog.open(directory / "catalog.db"),
        # A test cannot wait as long as one would wait in earnest before taking a payment for lost.
        lightning=CoreLightning(network.socket("client"), lost_after_seconds=0, listed_seconds=0.1),
        dial=dial,  # type: ignore[arg-type]
        clock=clock,
    )


@asynccontextmanager
async def simulated(directory: Path) -> AsyncIterator[SimulatedNetwork]:
    async with SimulatedNetwork.start(directory / "ln", ["client", "node"], block_seconds=0.05) as network:
        await network.fund("client", 10_000_000)
        yield network


@asynccontextmanager
async def town_of_a_real_node(directory: Path) -> AsyncIterator[Town]:
    """The node as it runs everywhere: books, files, sessions, collector; only its clock is set by the test."""
    clock = SetClock(int(time.time()))
    folder = directory / "node"
    async with simulated(directory) as network:
        init_node(folder, lightning_rpc=str(network.socket("node")), listen_port=0)
        async with SqlBooks.open(folder / "books.db") as books, trio.open_nursery() as nursery:
            shares = FileShares(folder / "shares")
            node = Node(
                NodeConfig.load(folder),
                identity=load_identity(folder),
                lightning=CoreLightning(network.socket("node")),
                shares=shares,
                books=books,
                clock=clock,
            )
            address = await nursery.start(node.run)
            async with open_pool(CLIENT) as pool:
                made = purse(directory, network, clock, pool.dial)
                yield Town(directory, network, made, clock, address, pool, shares)
                made.catalog.close()
            node.stop()


@asynccontextmanager
async def town_of_an_honest_node(directory: Path) -> AsyncIterator[Town]:
    """The small node of money_world, paid over the simulated network."""
    clock = SetClock(int(time.time()))
    async with simulated(directory) as network:
        node = await HonestNode(CoreLightning(network.socket("node")), clock).start()
        lightning = await node.lightning.info()
        node.places = [f"{host}:{port}" for host, port in lightning.addresses]

        async def dial(address: NodeAddress) -> HonestNode:
            return node

        made = purse(directory, network, clock, dial)
        await add_node(made, node.address, "alice")
        await open_channel(made, made.catalog.node(node.node_id))
        yield Town(directory, network, made, clock, node.address)
        made.catalog.close()


async def put_share(town: Town, number: int) -> ShareId:
    """What an upload does with one share."""
    assert town.pool is not None
    data = bytes([number]) * 30_000
    share_id = merkle.share_id(data)
    node_id = town.address.node_id
    tokens = proofs.make_tokens(data, share_id, proofs.audit_key(SECRET), proofs.token_key(SECRET), node_id)
    message = PutShare(share_id=share_id, token_start=0, tokens=tokens, payload=data)
    await town.pool.request(town.address, message, timeout_seconds=10)
    catalog = town.purse.catalog
    file = catalog.file("file") or catalog.begin_file(
        name="file", file_key=bytes(32), needed=1, total=1, happy=1, source=None, now=0
    )
    entry = ShareEntry(
        node_id=node_id,
        share_id=share_id,
        file_id=file.file_id,
        segment=number,
        number=0,
        size_bytes=len(data),
        token_end=TOKENS_PER_SHARE,
    )
    catalog.add_shares([entry])
    return share_id


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what real processes do."""
    with trio.fail_after(30):
        while not condition():  # noqa: ASYNC110 -- what is waited for happens in another process
            await trio.sleep(0.01)


async def until_outcome(town: Town, bolt11: str, outcome: Outcome) -> None:
    """Wait until the daemon's list says so."""
    with trio.fail_after(30):
        while (await town.purse.lightning.payment(bolt11)).outcome is not outcome:  # noqa: ASYNC110 -- as above
            await trio.sleep(0.01)


async def until_usable(town: Town) -> None:
    """Wait until the client's daemon and the node's have found each other again."""
    with trio.fail_after(30):
        while not all(channel.usable for channel in await town.purse.lightning.channels()):  # noqa: ASYNC110 -- as above
            await trio.sleep(0.01)


async def test_a_real_node_is_paid_period_after_period_and_not_once_it_lost_a_share(tmp_path: Path) -> None:
    async with town_of_a_real_node(tmp_path) as town:
        node = await add_node(town.purse, town.address, "alice")
        await open_channel(town.purse, node, capacity_bytes=20 * GIB)
        bought = await buy(town.purse, node, 20 * GIB, deposit_msat=5000)
        assert bought.paid_msat == 45_000
        stored = [await put_share(town, number) for number in range(5)]

        for period in (1, 2):
            town.clock.at += PERIOD
            (outcome,) = await pay_rent(town.purse)
            assert outcome.error is None
            (paid,) = outcome.paid
            assert (paid.period, paid.amount_msat, paid.sampled, paid.verified) == (period, 40_000, 5, True)
        (status,) = await rent_status(town.purse)
        assert status.agrees
        (channel,) = await list_channels(town.purse)
        assert channel.node is not None
        assert channel.periods_left == channel.channel.spendable_msat // 40_000
        assert channel.channel.capacity_msat - channel.channel.to_us_msat == 125_000
        assert sum(town.purse.wallet.balances().values()) == 0
        assert town.purse.wallet.balances()["lightning"] == -125_000
        assert await find_lost(town.purse, town.purse.catalog.find_node("alice")) == []

        assert town.shares is not None
        town.shares.delete(stored[3])
        town.clock.at += PERIOD
        (outcome,) = await pay_rent(town.purse)
        assert isinstance(outcome.error, ProofFailed)
        assert outcome.error.lost == (stored[3],)
        (lost,) = await find_lost(town.purse, town.purse.catalog.find_node("alice"))
        assert (lost.share_id, lost.why) == (stored[3], HowLost.UNKNOWN)
        assert town.purse.wallet.balances()["lightning"] == -125_000


async def test_a_node_whose_daemon_was_killed_goes_on_serving_what_is_paid_for(tmp_path: Path) -> None:
    """And once its daemon is back it is paid again, without having been restarted."""
    async with town_of_a_real_node(tmp_path) as town:
        node = await add_node(town.purse, town.address, "alice")
        await open_channel(town.purse, node, capacity_bytes=20 * GIB)
        await buy(town.purse, node, 20 * GIB, deposit_msat=5000)
        share_id = await put_share(town, 1)
        await town.network.crash_node("node")
        assert town.pool is not None
        read = GetShare(share_id=share_id, offset=0, length=0)
        reply = await town.pool.request(town.address, read, timeout_seconds=10)
        assert reply.payload == bytes([1]) * 30_000
        with pytest.raises(NodeRefused) as refused:
            await buy(town.purse, node, 21 * GIB)
        assert refused.value.code is ErrorCode.LIGHTNING_UNAVAILABLE
        await town.network.start_node("node")
        await until_usable(town)
        with trio.fail_after(30):
            while True:
                try:
                    bought = await buy(town.purse, node, 21 * GIB)
                    break
                except NodeRefused:
                    await trio.sleep(0.05)
        assert bought.status.capacity_bytes == 21 * GIB


async def test_our_own_daemon_away_is_named_with_what_to_do(tmp_path: Path) -> None:
    async with town_of_a_real_node(tmp_path) as town:
        node = await add_node(town.purse, town.address, "alice")
        await open_channel(town.purse, node, capacity_bytes=20 * GIB)
        await buy(town.purse, node, 20 * GIB)
        town.clock.at += PERIOD
        await town.network.crash_node("client")
        (outcome,) = await pay_rent(town.purse)
        assert isinstance(outcome.error, LightningUnavailable)
        assert "start it" in str(outcome.error)
        await town.network.start_node("client")
        await until_usable(town)
        (outcome,) = await pay_rent(town.purse)
        assert outcome.error is None


async def test_rent_is_paid_after_the_daemon_died_between_recording_and_sending(tmp_path: Path) -> None:
    """That daemon never pays the hash again, and the proof gives no other: the next challenge does."""
    async with town_of_a_real_node(tmp_path) as town:
        node = await add_node(town.purse, town.address, "alice")
        await open_channel(town.purse, node, capacity_bytes=20 * GIB)
        await buy(town.purse, node, 20 * GIB)
        await put_share(town, 1)
        town.clock.at += PERIOD
        await town.network.fault("crash", "client", command="payment-recorded")
        (outcome,) = await pay_rent(town.purse)
        assert isinstance(outcome.error, PaymentOpen)
        await town.network.start_node("client")
        await until_usable(town)
        (outcome,) = await pay_rent(town.purse)
        assert outcome.error is None
        (paid,) = outcome.paid
        assert (paid.period, paid.amount_msat, paid.sampled, paid.verified) == (1, 40_000, 1, True)
        (status,) = await rent_status(town.purse)
        assert status.agrees
        assert status.status is not None
        assert (status.status.token_index, status.status.deposit_msat) == (2, 0)
        assert [e.state for e in town.purse.wallet.payments()] == [Outcome.SETTLED, Outcome.FAILED, Outcome.SETTLED]
        town.clock.at += PERIOD
        (outcome,) = await pay_rent(town.purse)
        assert [paid.period for paid in outcome.paid] == [2]
        assert town.purse.wallet.balances()["lightning"] == -120_000
        (channel,) = await town.purse.lightning.channels()
        assert channel.capacity_msat - channel.to_us_msat == 120_000


async def test_rent_that_was_asked_for_before_more_was_rented_is_still_paid(tmp_path: Path) -> None:
    """The growth reaches to the end of the period whose rent failed to be paid, and pays only for what it added."""
    async with town_of_a_real_node(tmp_path) as town:
        node = await add_node(town.purse, town.address, "alice")
        await open_channel(town.purse, node, capacity_bytes=20 * GIB)
        await buy(town.purse, node, 20 * GIB)
        await town.network.fault("fail_payment", "client")
        (outcome,) = await pay_rent(town.purse, ahead=1)
        assert isinstance(outcome.error, PaymentFailed)
        bought = await buy(town.purse, node, 21 * GIB)
        assert bought.paid_msat == 4000
        (outcome,) = await pay_rent(town.purse, ahead=1)
        assert outcome.error is None
        assert [(paid.period, paid.amount_msat) for paid in outcome.paid] == [(1, 40_000)]
        (status,) = await rent_status(town.purse)
        assert status.agrees


async def test_payments_that_hang_or_outlive_their_daemon_are_paid_once(tmp_path: Path) -> None:
    """First the payment is held on its way, then the daemon dies with the next one under way."""
    async with town_of_an_honest_node(tmp_path) as town:
        node = town.purse.catalog.find_node("alice")
        await town.network.fault("hold_payment", "client")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(buy, town.purse, node, 20 * GIB)
            await until(lambda: len(town.purse.wallet.open_payments()) == 1)
            (entry,) = town.purse.wallet.open_payments()
            await until_outcome(town, entry.bolt11, Outcome.PENDING)
            nursery.cancel_scope.cancel()
        (entry,) = await resolve_open(town.purse)
        assert entry.state is Outcome.PENDING
        assert await town.network.release("client") == 1
        await until_outcome(town, entry.bolt11, Outcome.SETTLED)
        await buy(town.purse, node, 20 * GIB)

        await town.network.fault("crash", "client", command="payment-sent")
        with pytest.raises(PaymentOpen):
            await buy(town.purse, node, 20 * GIB, deposit_msat=9000)
        await town.network.start_node("client")
        (entry,) = town.purse.wallet.open_payments()
        await until_outcome(town, entry.bolt11, Outcome.SETTLED)
        bought = await buy(town.purse, node, 20 * GIB, deposit_msat=9000)
        assert bought.status.deposit_msat == 9000
        assert town.purse.wallet.balances()["lightning"] == -49_000
        (channel,) = await town.purse.lightning.channels()
        assert channel.capacity_msat - channel.to_us_msat == 49_000


_PAYER = """
import json, sys
from pathlib import Path
import trio
from lnstore.client.catalog import Catalog
from lnstore.client.payments import pay_invoice
from lnstore.client.purse import Purse
from lnstore.client.wallet_entries import Offer
from lnstore.clock import SystemClock
from lnstore.config import ClientConfig
from lnstore.lightning.core import CoreLightning
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import NodeId
from lnstore_protocol.messages import InvoicePurpose

directory, socket, node_id, bolt11 = sys.argv[1:]

async def main():
    catalog = Catalog.open(Path(directory) / "catalog.db")
    purse = Purse(config=ClientConfig(Path(directory)), identity=Identity(b"c" * 32), account_secret=b"s" * 32,
                  catalog=catalog, lightning=CoreLightning(socket), dial=None, clock=SystemClock())
    node = catalog.node(NodeId.from_hex(node_id))
    offer = Offer(node_id=node.node_id, purpose=InvoicePurpose.DEPOSIT, index=0, bolt11=bolt11, amount_msat=7000,
                  from_at=0, until_at=0, capacity_bytes=0)
    await pay_invoice(purse, node, offer, limit_msat=7000)

trio.run(main)
"""


@pytest.mark.parametrize("settles", [True, False])
async def test_a_client_killed_while_its_payment_is_on_its_way_pays_it_once(tmp_path: Path, settles: bool) -> None:
    """Kill -9 of the whole process between sending and hearing; the next one finds out what became of it."""
    async with town_of_an_honest_node(tmp_path) as town:
        lightning = CoreLightning(town.network.socket("node"))
        invoice = await lightning.create_invoice(
            label="deposit",
            amount_msat=Msat(7000),
            description="",
            expires_in_seconds=3600,
            preimage=b"d" * 32,
        )
        await town.network.fault("hold_payment", "client")
        node_id = town.address.node_id.hex()
        words = [str(tmp_path), str(town.network.socket("client")), node_id, invoice.bolt11]
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", _PAYER, *words],
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
        )
        await until_outcome(town, invoice.bolt11, Outcome.PENDING)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        assert process.stderr is not None
        await process.stderr.aclose()

        (entry,) = await resolve_open(town.purse)
        assert entry.state is Outcome.PENDING
        await town.network.release("client", "complete" if settles else "fail")
        await until_outcome(town, invoice.bolt11, Outcome.SETTLED if settles else Outcome.FAILED)
        after = await resolve_open(town.purse)
        if not settles:
            # The daemon may still be trying: the same invoice is carried on, no other.
            (entry,) = after
            await resume(town.purse, town.purse.catalog.find_node("alice"), entry)
        assert await resolve_open(town.purse) == []
        (entry,) = town.purse.wallet.payments()
        assert (entry.state, entry.preimage) == (Outcome.SETTLED, b"d" * 32)
        assert town.purse.wallet.balances()["lightning"] == -7000
        (channel,) = await town.purse.lightning.channels()
        assert channel.capacity_msat - channel.to_us_msat == 7000


def test_money_modules_do_not_import_what_starts_slowly() -> None:
    """`lnstore ls` is measured: none of these may pull in pyln, coincurve or SQLAlchemy."""
    modules = ["accounts", "audit", "buying", "node_channels", "nodes", "payments", "quote", "rent", "wallet"]
    code = (
        f"import json, sys; [__import__('lnstore.client.' + m) for m in {modules}]; print(json.dumps([*sys.modules]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    loaded = json.loads(result.stdout)
    assert not {"pyln", "pyln.client", "coincurve", "sqlalchemy", "zfec", "rich"} & set(loaded)
