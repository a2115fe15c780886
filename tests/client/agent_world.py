"""A world for the agent: nodes in memory that store, serve and are paid, and that die, forget and come back."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import trio
from money_world import FragileCatalog, HonestNode, MemoryLightning, MemoryNetwork, SetClock

from lnstore.client.agent.rounds import Ran, Round, work_off
from lnstore.client.buying import buy
from lnstore.client.catalog import CATALOG_FILE
from lnstore.client.files import Client
from lnstore.client.node_errors import NodeRefused, NodeUnreachable
from lnstore.client.nodes import add_node
from lnstore.client.pool import NodePool
from lnstore.client.profile import Profile, init_profile
from lnstore.client.purse import Purse
from lnstore.client.tasks import open_tasks
from lnstore.config import AgentConfig
from lnstore.ports import InvoiceStatus, Lightning
from lnstore_protocol import merkle
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import NodeAddress, ShareId
from lnstore_protocol.messages import (
    TOKEN_BYTES,
    ErrorReply,
    GetShare,
    GetShareReply,
    HaveShares,
    HaveSharesReply,
    PutRecord,
    PutRecordReply,
    PutShare,
    PutShareReply,
    PutTokens,
    PutTokensReply,
    Request,
)
from lnstore_protocol.replies import pack_bits

DAY = 86_400


class KeepingNode(HonestNode):
    """An honest node that also stores and serves; `away` takes it off the network, `forget` its shares."""

    away = False
    record: bytes = b""

    async def request(self, message: Request, *, timeout_seconds: float) -> Any:
        match message:
            case PutShare(share_id=share_id, token_start=start, tokens=tokens, payload=payload):
                self.asked.append(message)
                self._keep(share_id, bytes(payload), start, tokens)
                return PutShareReply(used_bytes=0)
            case PutTokens(token_start=start, count=count, payload=payload):
                self.asked.append(message)
                return PutTokensReply(stored=self._put_tokens(start, count, bytes(payload)))
            case GetShare(share_id=share_id, offset=offset, length=length):
                self.asked.append(message)
                return self._get(share_id, offset, length)
            case HaveShares(payload=payload):
                held = [ShareId(bytes(payload[at : at + 32])) in self.shares for at in range(0, len(payload), 32)]
                return HaveSharesReply(held=pack_bits(held))
            case PutRecord(record=record):
                self.record = record
                return PutRecordReply()
            case _:
                return await super().request(message, timeout_seconds=timeout_seconds)

    async def _has_expired(self, pending: Any) -> bool:
        """A new invoice for the same preimage takes the place of one that was not paid in time."""
        invoice = await self.lightning.find_invoice(pending.label)
        if invoice is not None and (invoice.status is InvoiceStatus.PAID or invoice.expires_at > self.clock.now()):
            return False
        await self.lightning.delete_invoice(pending.label, InvoiceStatus.UNPAID)
        return True

    def _keep(self, share_id: ShareId, data: bytes, start: int, tokens: bytes) -> None:
        self.shares[share_id] = data, bytes(start * TOKEN_BYTES) + tokens

    def _put_tokens(self, start: int, count: int, payload: bytes) -> bytes:
        table = 32 + count * TOKEN_BYTES
        rows = [payload[at : at + table] for at in range(0, len(payload), table)]
        for row in rows:
            if (share_id := ShareId(row[:32])) in self.shares:
                self._keep(share_id, self.shares[share_id][0], start, row[32:])
        return pack_bits(ShareId(row[:32]) in self.shares for row in rows)

    def _get(self, share_id: ShareId, offset: int, length: int) -> GetShareReply:
        if share_id not in self.shares or share_id in self.lost:
            raise NodeRefused(self.address, ErrorReply(code=ErrorCode.SHARE_UNKNOWN, message=""))
        share = self.shares[share_id][0]
        first, last = merkle.leaf_range(len(share), offset, length)
        start, end = merkle.leaf_span(len(share), first, last)
        proof = merkle.range_proof(merkle.leaf_hashes(share), first, last)
        return GetShareReply(offset=start, share_bytes=len(share), proof=proof, payload=share[start:end])

    def forget(self) -> None:
        """Lose every share, and say so when asked."""
        self.lost |= set(self.shares)


class MemoryPool(NodePool):
    """The pool over these nodes."""

    def __init__(self, profile: Profile, tasks: trio.Nursery, nodes: dict[NodeAddress, KeepingNode]) -> None:
        super().__init__(profile.identity, tasks)
        self._nodes = nodes

    async def dial(self, address: NodeAddress) -> Any:
        node = self._nodes[address]
        if node.away:
            raise NodeUnreachable(address, "does not answer")
        await trio.lowlevel.checkpoint()
        return node


@dataclass
class AgentWorld:
    """One profile and its nodes."""

    profile: Profile
    clock: SetClock
    network: MemoryNetwork
    lightning: MemoryLightning
    nodes: list[KeepingNode]
    catalog: FragileCatalog
    ran: list[Ran] = field(default_factory=list)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[tuple[Purse, Client]]:
        """What the agent opens for a round; the catalog stays open, so that a year does not take a minute."""
        async with open_tasks() as tasks:
            pool = MemoryPool(self.profile, tasks, {node.address: node for node in self.nodes})
            purse = Purse.of(self.profile, self.catalog, cast("Lightning", self.lightning), pool.dial, self.clock)
            purse = dataclasses.replace(purse, invoice_clock=self.clock)
            yield purse, Client(self.profile, self.catalog, pool, self.clock)
            tasks.cancel_scope.cancel()

    async def round(self) -> Round:
        """What is due now."""
        return await work_off(self.profile, self.session, self.ran.append)

    async def live(self, until_at: int) -> None:
        """Round after round, as the daemon would, with the clock set to when the next job is due."""
        while self.clock.at < until_at:
            done = await self.round()
            assert done.next_at is not None
            self.clock.at = min(max(done.next_at, self.clock.at + 1), until_at)

    def set_agent(self, **settings: Any) -> None:
        """Change settings below [agent]."""
        agent = dataclasses.replace(self.profile.config.agent, **settings)
        self.profile.config = dataclasses.replace(self.profile.config, agent=agent)

    def reborn(self) -> None:
        """The catalog as a new process opens it."""
        self.catalog.close()
        self.catalog = _quick_catalog(self.profile)

    def rents(self, node: KeepingNode) -> list[str]:
        """The rent invoices of a node that were paid, by what they are for: `rent/<period>`."""
        return [
            "/".join(label.split("/")[1:3])
            for label, invoice in cast("MemoryLightning", node.lightning).invoices.items()
            if invoice.status is InvoiceStatus.PAID and "/rent/" in label
        ]


def _quick_catalog(profile: Profile) -> FragileCatalog:
    """One that does not wait for the disk, which no test here takes away."""
    catalog = FragileCatalog.open(profile.directory / CATALOG_FILE)
    catalog.rows("PRAGMA synchronous = OFF")
    return catalog


@asynccontextmanager
async def open_agent_world(
    directory: Path, count: int, *, needed: int = 1, total: int = 2, agent: AgentConfig | None = None, **settings: Any
) -> AsyncIterator[AgentWorld]:
    """A client with 8 MiB at each of `count` nodes and two files."""
    clock = SetClock()
    network = MemoryNetwork(clock)
    lightning = network.daemon(200)
    nodes = [KeepingNode(network.daemon(n), clock, number=n) for n in range(1, count + 1)]
    profile = init_profile(directory / "profile", needed=needed, happy=needed, total=total, **settings)
    with _quick_catalog(profile) as catalog:
        world = AgentWorld(profile, clock, network, lightning, nodes, catalog)
        if agent is not None:
            profile.config = dataclasses.replace(profile.config, agent=agent)
        async with world.session() as (purse, client):
            for number, node in enumerate(nodes):
                await node.start()
                await add_node(purse, node.address, f"n{number}")
                await buy(purse, purse.catalog.find_node(f"n{number}"), 8 << 20, deposit_msat=20_000)
            for number in range(2):
                await client.put(BytesIO(bytes([number]) * 50_000), name=f"file{number}")
        yield world
        world.catalog.close()
