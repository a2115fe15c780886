"""What a request may use: the node's parts, and the request it answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import trio

from lnstore.books.states import bill, owes_nothing
from lnstore.config import NodeConfig
from lnstore.logs import Logger
from lnstore.node.admission import Admission
from lnstore.node.binding import LightningBinding
from lnstore.node.budget import MemoryBudget
from lnstore.node.egress import Egress, Reader
from lnstore.node.errors import Refusal
from lnstore.node.fiat import FiatRate
from lnstore.node.limits import (
    MINIMUM_BUDGET_BYTES,
    POOLED_BUFFERS,
    PROOF_THREADS,
    READ_THREADS,
    UPLOAD_THREADS,
    Deadlines,
)
from lnstore.node.pricing import PriceSheet
from lnstore.ports import Account, Books, Clock, Lightning, Shares
from lnstore_protocol.delegation import Authority
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.frames import BufferPool
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, CertificateId, NodeId
from lnstore_protocol.messages import MAX_SHARE_BYTES, AccountState


class AccountLocks:
    """One lock per account in use: requests that plan invoices of one account take turns."""

    def __init__(self) -> None:
        self._locks: dict[AccountId, tuple[trio.Lock, list[None]]] = {}

    @asynccontextmanager
    async def holding(self, account_id: AccountId) -> AsyncIterator[None]:
        """Hold the account's lock for the block."""
        lock, users = self._locks.setdefault(account_id, (trio.Lock(), []))
        users.append(None)
        try:
            async with lock:
                yield
        finally:
            users.pop()
            if not users:
                del self._locks[account_id]


@dataclass(slots=True)
class Workers:
    """Limits on worker threads, by what they do."""

    uploads: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(UPLOAD_THREADS))
    reads: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(READ_THREADS))
    proofs: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(PROOF_THREADS))


class NodeContext:
    """A node's parts, for its sessions, handlers and services."""

    def __init__(
        self,
        config: NodeConfig,
        *,
        identity: Identity,
        lightning: Lightning,
        shares: Shares,
        books: Books,
        clock: Clock,
        deadlines: Deadlines,
    ) -> None:
        self.config = config
        self.identity = identity
        self.node_id = NodeId(identity.public_key)
        self.lightning = lightning
        self.shares = shares
        self.books = books
        self.clock = clock
        self.deadlines = deadlines
        self.binding = LightningBinding(config, self.node_id, lightning)
        self.rate = FiatRate(config, clock)
        self.prices = PriceSheet(config, identity, self.rate)
        self.egress = Egress(books, clock)
        half = max(config.memory_budget // 2, MINIMUM_BUDGET_BYTES)
        self.incoming = MemoryBudget(half)
        self.outgoing = MemoryBudget(half)
        self.buffers = BufferPool(size=MAX_SHARE_BYTES, keep=POOLED_BUFFERS)
        self.workers = Workers()
        self.account_locks = AccountLocks()
        self.admission = Admission(config)
        self.sweep_wanted = trio.Event()
        """Set when leases ended; the sweeper puts a new one in its place."""


@dataclass(slots=True)
class Peer:
    """Who is at the other end of a connection: its key, and by which delegation it acts, if it presented one."""

    key: AccountId
    authority: Authority | None = None


class RequestContext:
    """One request: who asks, and what is held until its reply is on its way.

    `account_id` is the account that is acted for; `authority` by what right, None for its holder.
    """

    def __init__(self, node: NodeContext, peer: Peer, log: Logger, until_sent: AsyncExitStack, network: bytes) -> None:
        self.node = node
        self.peer = peer
        self.authority = peer.authority
        self.account_id = peer.key if self.authority is None else self.authority.account_id
        self.log = log
        self.until_sent = until_sent
        self.network = network
        """Where the request comes from (throttle.network_of)."""

    @property
    def certificate_id(self) -> CertificateId | None:
        """The certificate acted under; None for the holder itself."""
        return None if self.authority is None else self.authority.certificate_id

    @property
    def reader(self) -> Reader:
        """Who pays for reading, and under which certificate."""
        return Reader(self.account_id, self.certificate_id)

    async def account(self, *, even_lapsed: bool = False) -> Account:  # MB-R1
        """The asking account; Refusal when there is none or (unless `even_lapsed`) it has lapsed."""
        account = await self.node.books.account(self.account_id)
        if account is None:
            raise Refusal(ErrorCode.NO_ACCOUNT, "there is no account of this key at this node; open one first")
        if account.state is AccountState.LAPSED and not even_lapsed:
            raise Refusal(ErrorCode.LAPSED, "rent was not paid in time; open the account anew")
        now = self.node.clock.now()
        if owes_nothing(account) and bill(account, now).account.paid_until_at != account.paid_until_at:
            # The next billing would do it: until then such an account would be asked for proofs of periods long past.
            return await self.node.books.carry_on(self.account_id, now)
        return account

    async def hold_memory(self, count: int) -> None:
        """Have `count` bytes of the outgoing budget until the reply is sent. Once per request: see budget.py."""
        await self.until_sent.enter_async_context(self.node.outgoing.holding(count))
