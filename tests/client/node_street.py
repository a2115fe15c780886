"""Real nodes in this process (sessions, books, share files), a client with purse and files, Lightning in memory.

A node is made to cheat by exchanging what one of its handlers answers: see `Street.cheat`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from money_world import FragileCatalog, MemoryLightning, MemoryNetwork, SetClock
from node_world import MIB, RunningNode, _run

from lnstore.books import SqlBooks
from lnstore.client import accounts
from lnstore.client.buying import buy
from lnstore.client.catalog import NodeEntry
from lnstore.client.files import Client
from lnstore.client.nodes import add_node
from lnstore.client.pool import open_pool
from lnstore.client.profile import Profile, init_profile
from lnstore.client.purse import Purse
from lnstore.config import NodeConfig
from lnstore.node.directory import init_node, load_identity
from lnstore.node.handlers import HANDLERS
from lnstore.node.limits import Deadlines
from lnstore.node.server import Node
from lnstore.ports import Invoice, InvoiceStatus, Lightning
from lnstore.storage.files import FileShares
from lnstore_protocol.ids import LightningId, NodeId, ShareId

PERIOD = 100_000
GRACE = 30_000
DEPOSIT_MSAT = 100_000
Handler = Callable[[Any, Any], Awaitable[Any]]


class NodeLightning(MemoryLightning):
    """A daemon in memory with what a node asks of one besides."""

    def __init__(self, network: MemoryNetwork, lightning_id: LightningId) -> None:
        super().__init__(network, lightning_id)
        network.daemons[lightning_id] = self

    async def find_invoice(self, label: str) -> Invoice | None:
        return self.invoices.get(label)

    async def delete_invoice(self, label: str, status: InvoiceStatus) -> bool:
        found = self.invoices.get(label)
        if found is None or found.status is not status:
            return False
        del self.invoices[label]
        return True

    async def next_paid(self, after_pay_index: int, *, timeout_seconds: int) -> Invoice | None:
        with trio.move_on_after(timeout_seconds):
            while True:
                paid = [i for i in self.invoices.values() if (i.pay_index or 0) > after_pay_index]
                if paid:
                    return min(paid, key=lambda invoice: invoice.pay_index or 0)
                await trio.sleep(0.005)
        return None


@dataclass(eq=False)
class House:
    """One node: its directory and daemon outlive it."""

    directory: Path
    lightning: NodeLightning
    running: RunningNode | None = None
    scope: trio.CancelScope | None = None

    @property
    def node(self) -> RunningNode:
        assert self.running is not None
        return self.running

    @property
    def node_id(self) -> NodeId:
        return NodeId(load_identity(self.directory).public_key)

    def share_path(self, share_id: ShareId) -> Path:
        name = share_id.hex()
        return self.directory / "shares" / name[:2] / name[2] / name


class Street:
    """See the module's text. Made by `open_street`."""

    def __init__(self, directory: Path, clock: SetClock, houses: list[House], tasks: trio.Nursery) -> None:
        self.directory = directory
        self.clock = clock
        self.houses = houses
        self.network = houses[0].lightning.network
        self.lightning = MemoryLightning(self.network, LightningId(b"\x03" + b"c" * 32))
        self.network.daemons[self.lightning.lightning_id] = self.lightning
        self.profile: Profile
        self._tasks = tasks

    # --- nodes

    async def start(self, house: House) -> None:
        """Start a node, again on the port that it had."""
        await self._tasks.start(self._live, house)

    async def stop(self, house: House, *, kill: bool = False) -> None:
        """Stop it in order, or as a crash would."""
        running = house.node
        if kill:
            running.kill()
        else:
            running.node.stop()
        while house.running is not None:  # noqa: ASYNC110 - its tasks end
            await trio.sleep(0.002)

    async def _live(self, house: House, *, task_status: trio.TaskStatus[None]) -> None:
        config = NodeConfig.load(house.directory)
        async with (
            SqlBooks.open(house.directory / "books.db") as books,
            trio.open_nursery() as nursery,
        ):
            node = Node(
                config,
                identity=load_identity(house.directory),
                lightning=cast("Lightning", house.lightning),
                shares=FileShares(house.directory / "shares"),
                books=books,
                clock=self.clock,
                deadlines=Deadlines(linger=0.0, drain=0.2),
            )
            address = await nursery.start(_run, node)
            text = (house.directory / "node.toml").read_text()
            (house.directory / "node.toml").write_text(text.replace("listen_port = 0", f"listen_port = {address.port}"))
            house.running = RunningNode(node, address, books, nursery)
            task_status.started()
        house.running = None

    # --- the client

    @asynccontextmanager
    async def client(self) -> AsyncIterator[tuple[Purse, Client]]:
        """As a new process would have it."""
        with FragileCatalog.open(self.profile.directory / "catalog.db") as catalog:
            async with open_pool(self.profile.identity) as pool:
                purse = Purse.of(self.profile, catalog, cast("Lightning", self.lightning), pool.dial, self.clock)
                yield replace(purse, invoice_clock=self.clock), Client(self.profile, catalog, pool, self.clock)

    async def settle_in(self, *, capacity_bytes: int = 8 * MIB) -> None:
        """The client knows all nodes and rents at each."""
        async with self.client() as (purse, _), trio.open_nursery() as tasks:

            async def move_in(number: int, house: House) -> None:
                await add_node(purse, house.node.address, f"n{number}")
                await buy(purse, purse.catalog.find_node(f"n{number}"), capacity_bytes, deposit_msat=DEPOSIT_MSAT)

            for number, house in enumerate(self.houses):
                tasks.start_soon(move_in, number, house)

    def entry(self, purse: Purse, house: House) -> NodeEntry:
        return purse.catalog.node(house.node_id)

    def received_msat(self) -> int:
        """What all nodes' daemons got."""
        return sum(i.received_msat or 0 for house in self.houses for i in house.lightning.invoices.values())

    # --- cheating

    def cheat(
        self,
        patch: pytest.MonkeyPatch,
        house: House,
        kind: type[Any],
        wrap: Callable[[Handler, Any, Any], Awaitable[Any]],
    ) -> None:
        """Have this node alone answer requests of a kind by `wrap(true handler, request context, message)`."""
        true: Handler = HANDLERS[kind]
        node_id = house.node_id

        async def handler(request: Any, message: Any) -> Any:
            if request.node.node_id == node_id:
                return await wrap(true, request, message)
            return await true(request, message)

        patch.setitem(HANDLERS, kind, handler)


@asynccontextmanager
async def open_street(
    directory: Path, count: int, *, needed: int = 2, happy: int | None = None, total: int | None = None, **terms: Any
) -> AsyncIterator[Street]:
    """A client and `count` nodes at which it rents 8 MiB."""
    clock = SetClock()
    network = MemoryNetwork(clock)
    houses = []
    for number in range(count):
        house = House(directory / f"n{number}", NodeLightning(network, LightningId(b"\x02" + bytes([number + 1]) * 32)))
        init_node(
            house.directory,
            **{
                "listen_port": 0,
                "period": f"{PERIOD}s",
                "grace": f"{GRACE}s",
                "price_msat_per_gib_month": 50_000_000,
                "minimum_account": "1KiB",
            }
            | terms,
        )
        houses.append(house)
    async with AsyncExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(accounts, "CREDIT_POLL_SECONDS", 0.005)
        tasks = await stack.enter_async_context(trio.open_nursery())
        street = Street(directory, clock, houses, tasks)
        total = total or count
        street.profile = init_profile(
            directory / "profile",
            needed=needed,
            happy=happy or needed,
            total=total,
            maximum_msat_per_gib_month=10**9,
            maximum_msat_per_gib_written=10**9,
        )
        for house in houses:
            await street.start(house)
        await street.settle_in()
        yield street
        for house in houses:
            if house.running is not None:
                house.node.node.stop()


def damaged_files(house: House) -> Iterator[Path]:
    """All share files of a node."""
    return (path for path in (house.directory / "shares").rglob("*") if path.is_file() and len(path.name) == 64)
