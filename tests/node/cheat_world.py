"""A node paid over the simulated Lightning network, and clients that cheat it; time is set for all of them at once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import trio
from money_town import until
from node_world import PERIOD, Client, MemoryDaemon, RunningNode, World

from lnstore.books.rules import LIGHTNING
from lnstore.lightning.core import CoreLightning
from lnstore.lightning.simulated.commands import load
from lnstore.lightning.simulated.commands.control import fund
from lnstore.lightning.simulated.simulation import Simulation
from lnstore.ports import Outcome
from lnstore_protocol.ids import AccountId, Msat
from lnstore_protocol.messages import (
    AccountStatusReply,
    AddCapacity,
    AddCapacityReply,
    InvoicePurpose,
    InvoiceReply,
    RequestInvoice,
)

CHANNEL_SAT = 5_000_000


class CheatWorld(World):
    """As World, its daemon one of the simulated network; `payer` is another, with a channel to it."""

    simulation: Simulation
    payer: CoreLightning
    payee: CoreLightning
    started_at: int

    @asynccontextmanager
    async def lightning(self) -> AsyncIterator[None]:
        """The network, for the block."""
        folder = self.directory.parent / "ln"
        folder.mkdir()
        self.simulation = Simulation(folder, block_seconds=None, payment_seconds=0.001, commands=load())
        async with trio.open_nursery() as nursery:
            await nursery.start(self.simulation.run)
            for name in ("payer", "node"):
                await self.simulation.add(name)
            self.payer, payee = (CoreLightning(self.simulation.path(name)) for name in ("payer", "node"))
            self.daemon = cast("MemoryDaemon", payee)
            self.payee = payee
            await fund(self.simulation, name="payer", amount_sat=2 * CHANNEL_SAT)
            info = await payee.info()
            await self.payer.connect(info.lightning_id, *info.addresses[0])
            await self.payer.open_channel(info.lightning_id, amount_sat=CHANNEL_SAT, push_msat=Msat(0), announce=False)
            self.simulation.mine(6)
            await until(self._usable)
            self.set_time(self.clock.time)
            yield
            nursery.cancel_scope.cancel()

    async def _usable(self) -> bool:
        return any(channel.usable for channel in await self.payer.channels())

    def set_time(self, at: int) -> None:
        """It is `at` for the node and for the daemons."""
        self.clock.time = at
        self.simulation.db.set_meta("clock_offset_seconds", at - int(time.time()))

    async def paid(self, bolt11: str) -> bool:
        """Try to pay; whether it went through."""
        payment = await self.payer.pay(bolt11, max_fee_msat=Msat(0), retry_for_seconds=5)
        assert payment.outcome in {Outcome.SETTLED, Outcome.FAILED}, payment
        return payment.outcome is Outcome.SETTLED

    async def spent_msat(self) -> int:
        """What left the payer's channel, ever."""
        (channel,) = await self.payer.channels()
        return channel.capacity_msat - channel.to_us_msat

    # --- what an honest client does -------------------------------------------------------------------------------

    async def growth(self, client: Client, capacity_bytes: int) -> AddCapacityReply:
        """The invoice of a growth."""
        index = (await client.status()).growth_index
        return await client.ask(AddCapacity(growth_index=index, capacity_bytes=capacity_bytes), AddCapacityReply)

    async def renting(self, client: Client, capacity_bytes: int) -> AccountStatusReply:
        """An account with capacity, paid for."""
        await client.open_account()
        reply = await self.growth(client, capacity_bytes)
        assert await self.paid(reply.bolt11)
        return await client.until(lambda now: now.capacity_bytes == capacity_bytes)

    async def deposit(self, client: Client, amount_msat: int) -> InvoiceReply:
        """The invoice of a deposit."""
        index = (await client.status()).deposit_index
        return await client.ask(
            RequestInvoice(purpose=InvoicePurpose.DEPOSIT, deposit_index=index, amount_msat=Msat(amount_msat)),
            InvoiceReply,
        )

    async def rent(self, client: Client, node: RunningNode) -> InvoiceReply:
        """The invoice of the next period's rent."""
        return await client.ask(client.rent_request(node.address, await client.status()), InvoiceReply)

    async def overdue(self, node: RunningNode, periods: int = 1, seconds: int = 0) -> None:
        """So many periods, and seconds, have passed since the start, and the node has looked at its accounts."""
        self.set_time(self.started_at + periods * PERIOD + seconds)
        await node.bill()

    # --- what the node has ------------------------------------------------------------------------------------------

    async def balances(self, node: RunningNode, account_id: AccountId | None = None) -> dict[str, int]:
        """What the node received and, of this account, owes and earned, by the ledger account's first word."""
        found: dict[str, int] = {}
        for name, balance in (await node.books.balances()).items():
            word, _, of = name.partition(":")
            if word == LIGHTNING or account_id is None or of == account_id.hex():
                found[word] = found.get(word, 0) + (balance if word == LIGHTNING else -balance)
        return {word: amount for word, amount in found.items() if amount}

    async def check(self, node: RunningNode) -> None:
        """The ledger is even, and comes to what left the payer's channel: nothing was lost or credited twice."""
        spent = await self.spent_msat()

        async def credited() -> bool:
            return (await node.books.balances()).get(LIGHTNING, 0) >= spent

        await until(credited)
        everything = await node.books.balances()
        assert sum(everything.values()) == 0
        assert everything.get(LIGHTNING, 0) == spent


@asynccontextmanager
async def a_town(directory: Path, **settings: Any) -> AsyncIterator[tuple[CheatWorld, RunningNode]]:
    """The network and a node that runs on it; at the end its ledger is compared with the channel."""
    world = CheatWorld(directory, **settings)
    world.started_at = world.clock.time
    async with world.lightning(), world.running() as node:
        await node.node.context.binding.confirmed.wait()
        yield world, node
        await world.check(node)
