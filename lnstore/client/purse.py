"""What spending takes, gathered once per command: limits, keys, books, the Lightning daemon, the way to the nodes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, TypeVar

import trio

from lnstore.client.budgets import Budgets
from lnstore.client.catalog import Catalog, NodeEntry
from lnstore.client.money_errors import NodeUntrusted
from lnstore.client.node_errors import ConnectionLost
from lnstore.client.profile import Profile
from lnstore.client.wallet import Wallet
from lnstore.clock import SystemClock
from lnstore.config import ClientConfig
from lnstore.lightning.health import check_daemon
from lnstore.ports import Clock, Lightning, LightningInfo
from lnstore_protocol.frames import BufferPool
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, NodeAddress
from lnstore_protocol.messages import MAX_SHARE_BYTES, HelloReply, Request

REQUEST_SECONDS = 30.0
"""How long a node may take for an answer; an invoice with a proof reads up to 512 shares first."""

DISK_THREADS = 4

T = TypeVar("T")
R = TypeVar("R")


class Conversation(Protocol):
    """A connection to a node, past its hello; transport.py's."""

    @property
    def hello(self) -> HelloReply:
        """Who the node says it is."""
        ...

    async def request(self, message: Request, *, timeout_seconds: float) -> Any:
        """The node's reply; NodeRefused, ConnectionLost."""
        ...


Dial = Callable[[NodeAddress], Awaitable[Conversation]]
"""Connects to a node, or gives the connection that is already there; NodeUnreachable, WrongNodeKey."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """Everything that spending takes. Prints no secret."""

    config: ClientConfig
    identity: Identity
    account_secret: bytes = field(repr=False)
    catalog: Catalog
    lightning: Lightning
    dial: Dial
    clock: Clock
    invoice_clock: Clock = field(default_factory=SystemClock)
    """Lightning daemons live by the system's clock even where a development network steers everybody else's."""
    buffers: BufferPool = field(default_factory=lambda: BufferPool(size=MAX_SHARE_BYTES, keep=0), repr=False)
    """Of the connections: who has used up a reply's payload gives it back here, for the next one."""
    disk: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(DISK_THREADS), repr=False)

    @classmethod
    def of(
        cls,
        profile: Profile,
        catalog: Catalog,
        lightning: Lightning,
        dial: Dial,
        clock: Clock,
        *,
        buffers: BufferPool | None = None,
    ) -> Self:
        """The purse of a profile; `buffers` are those of the connections that `dial` gives."""
        return cls(
            buffers=buffers or BufferPool(size=MAX_SHARE_BYTES, keep=0),
            config=profile.config,
            identity=profile.identity,
            account_secret=profile.account_secret,
            catalog=catalog,
            lightning=lightning,
            dial=dial,
            clock=clock,
        )

    @property
    def wallet(self) -> Wallet:
        """The books of this purse."""
        return Wallet(self.catalog)

    @property
    def budgets(self) -> Budgets:
        """How much may leave."""
        return Budgets.of(self.config)

    @property
    def account_id(self) -> AccountId:
        """Who we are at every node."""
        return AccountId(self.identity.public_key)

    async def write(self, function: Callable[..., T], *args: Any) -> T:
        """Run something that waits for the disk, in a worker thread; it ends even when the caller is cancelled."""
        return await trio.to_thread.run_sync(function, *args, limiter=self.disk)

    async def daemon(self) -> LightningInfo:
        """Who our Lightning daemon is; LightningUnavailable or LightningUnfit when it cannot be used now."""
        return check_daemon(await self.lightning.info())

    async def ask(self, node: NodeEntry, message: Request, reply: type[R]) -> R:
        """The node's answer to a request; NodeUntrusted when it is of another kind, else what the connection raises."""
        conversation = await self.dial(node.address)
        try:
            answer = await conversation.request(message, timeout_seconds=REQUEST_SECONDS)
        except ConnectionLost:
            # Every request of the protocol may be repeated without harm, and this connection may have died long ago.
            conversation = await self.dial(node.address)
            answer = await conversation.request(message, timeout_seconds=REQUEST_SECONDS)
        if not isinstance(answer, reply):
            raise NodeUntrusted(
                f"{node.petname} answered {type(message).__name__} with {type(answer).__name__}; one of the two sides "
                "is faulty: update lnstore or use another node"
            )
        return answer
