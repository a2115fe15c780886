"""Two peers who store for each other pay over one channel: what nets out is only the difference.

Each runs a node, and rents at the other's, with one Lightning daemon for both; simulated always, real where it is.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from money_world import GIB, PERIOD, SetClock

from lnstore.books import SqlBooks
from lnstore.client.buying import buy
from lnstore.client.catalog import Catalog
from lnstore.client.node_channels import open_channel
from lnstore.client.nodes import add_node
from lnstore.client.pool import open_pool
from lnstore.client.purse import Purse
from lnstore.client.rent import pay_rent
from lnstore.config import ClientConfig, NodeConfig
from lnstore.lightning.core import CoreLightning
from lnstore.lightning.regtest import RegtestNetwork, missing_programs
from lnstore.lightning.simulated.control import SimulatedNetwork
from lnstore.node.app import node_accounts
from lnstore.node.directory import init_node, load_identity
from lnstore.node.liquidity import liquidity
from lnstore.node.server import Node
from lnstore.storage.files import FileShares
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import NodeAddress

PERIODS = 4
RENTED = {"xavier": 20 * GIB, "yvonne": 30 * GIB}
"""What each rents at the other: 40 and 60 sat a period."""
KINDS = ["simulated", *([] if missing_programs() else [pytest.param("core", marks=pytest.mark.live)])]


@dataclass(frozen=True)
class Peer:
    """One of the two: a node, a client, one Lightning daemon."""

    folder: Path
    address: NodeAddress
    lightning: CoreLightning
    purse: Purse


@asynccontextmanager
async def network_of(kind: str, directory: Path) -> AsyncIterator[SimulatedNetwork | RegtestNetwork]:
    directory.mkdir()
    if kind == "simulated":
        async with SimulatedNetwork.start(directory, list(RENTED), block_seconds=0.02) as simulated:
            yield simulated
    else:
        async with RegtestNetwork.start(directory, list(RENTED), block_seconds=0.3) as regtest:
            yield regtest


@asynccontextmanager
async def running(name: str, directory: Path, socket: Path, clock: SetClock) -> AsyncIterator[Peer]:
    folder = directory / f"{name}-node"
    init_node(folder, lightning_rpc=str(socket), listen_port=0)
    lightning, identity = CoreLightning(socket), Identity(name.encode()[:1] * 32)
    catalog = Catalog.open(directory / f"{name}.db")
    async with SqlBooks.open(folder / "books.db") as books, trio.open_nursery() as nursery:
        node = Node(
            NodeConfig.load(folder),
            identity=load_identity(folder),
            lightning=lightning,
            shares=FileShares(folder / "shares"),
            books=books,
            clock=clock,
        )
        address = await nursery.start(node.run)
        async with open_pool(identity) as pool:
            purse = Purse(
                config=ClientConfig(directory),
                identity=identity,
                account_secret=identity.seed,
                catalog=catalog,
                lightning=lightning,
                dial=pool.dial,
                clock=clock,
            )
            yield Peer(folder, address, lightning, purse)
        node.stop()
    catalog.close()


async def until_ours(peer: Peer, amount_msat: int) -> None:
    """Waits until the peer's side of the channel has exactly this: a settled HTLC leaves it a moment later."""
    seen = -1
    with trio.move_on_after(20):
        while seen != amount_msat:
            (channel,) = await peer.lightning.channels()
            seen = channel.to_us_msat
            await trio.sleep(0.02)
    assert seen == amount_msat


@pytest.mark.parametrize("kind", KINDS)
async def test_two_who_store_for_each_other_settle_over_one_channel(
    kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Rent flows both ways period after period; the channel moves by the difference alone, and never runs dry."""
    directory, clock = tmp_path_factory.mktemp("two"), SetClock(int(time.time()))
    async with network_of(kind, directory / "ln") as network, AsyncExitStack() as stack:
        await network.fund("xavier", 5_000_000)
        xavier, yvonne = [
            await stack.enter_async_context(running(name, directory, network.socket(name), clock)) for name in RENTED
        ]
        at_yvonne = await add_node(xavier.purse, yvonne.address, "yvonne")
        at_xavier = await add_node(yvonne.purse, xavier.address, "xavier")
        # Yvonne has no coins at all: what is pushed covers her reserve and her first rent.
        channel = await open_channel(xavier.purse, at_yvonne, push_msat=2_000_000)
        assert channel.capacity_msat == 102_000_000
        with trio.fail_after(60):
            while not all(one.usable for one in await yvonne.lightning.channels()):  # noqa: ASYNC110 - another process
                await trio.sleep(0.05)
        await buy(xavier.purse, at_yvonne, RENTED["xavier"])
        await buy(yvonne.purse, at_xavier, RENTED["yvonne"])
        start = 100_000_000 - 40_000 + 60_000
        await until_ours(xavier, start)
        for period in range(1, PERIODS + 1):
            clock.at += PERIOD
            for peer in (xavier, yvonne):
                (outcome,) = await pay_rent(peer.purse)
                assert outcome.error is None
                assert [paid.period for paid in outcome.paid] == [period]
            # 40 sat there, 60 sat back.
            await until_ours(xavier, start + period * 20_000)
        await until_ours(yvonne, channel.capacity_msat - start - PERIODS * 20_000)
        for peer, rent in ((xavier, 60_000), (yvonne, 40_000)):
            assert sum(peer.purse.wallet.balances().values()) == 0
            accounts = await node_accounts(peer.folder)
            state = liquidity(await peer.lightning.channels(), accounts, period_seconds=PERIOD)
            assert state.rent_msat == rent
            assert not state.warning
