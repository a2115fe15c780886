"""A node in this process with real books and files, a Lightning daemon in memory, and a client of the bare protocol.

The daemon keeps what Core Lightning promises of invoices (labels and preimages are unique, the pay index counts
payments, deleting asks for the status) and outlives the node; a test may take it down, or have it hang around a call.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import trio

from lnstore.books import SqlBooks
from lnstore.config import NodeConfig
from lnstore.node.directory import init_node, load_identity
from lnstore.node.limits import Deadlines
from lnstore.node.server import Node
from lnstore.ports import (
    Books,
    Channel,
    Invoice,
    InvoiceStatus,
    Lightning,
    LightningInfo,
    LightningRefused,
    LightningUnavailable,
    Shares,
)
from lnstore.storage.files import FileShares
from lnstore_protocol import merkle, proofs
from lnstore_protocol.connection import Connection, Role
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.events import HandshakeDone, NeedData, PeerClosed, ReplyReceived
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, LightningId, Msat, NodeAddress, PaymentHash, ShareId
from lnstore_protocol.messages import (
    AccountStatus,
    AccountStatusReply,
    AddCapacity,
    AddCapacityReply,
    ErrorReply,
    GetTerms,
    Hello,
    HelloReply,
    InvoicePurpose,
    InvoiceReply,
    OpenAccount,
    OpenAccountReply,
    PutShare,
    PutShareReply,
    Reply,
    Request,
    RequestInvoice,
    TermsReply,
)
from lnstore_protocol.terms import Agreement, SignedTerms

T = TypeVar("T", bound=Reply)

MIB = 1 << 20
START_AT = 1_800_000_000
PERIOD = 1000
GRACE = 300
HELLO = Hello(version_major=1, version_minor=0, features=b"")
PATIENCE_SECONDS = 20.0
"""For what a correct node does in milliseconds."""


class TestClock:
    """A clock that stands still until it is set."""

    __test__ = False

    def __init__(self) -> None:
        self.time = START_AT

    def now(self) -> int:
        return self.time


class MemoryDaemon:
    """The part of a Lightning daemon that a node uses, and what its clients do to it (`pay`)."""

    def __init__(self, clock: TestClock, lightning_id: bytes = b"\x02" * 33) -> None:
        self.lightning_id = LightningId(lightning_id)
        self.up = True
        self.version, self.network, self.synced = "v26.06.6", "regtest", True
        self.refused = 0
        self.listed: list[Channel] = []
        self.invoices: dict[str, Invoice] = {}
        self.created = 0
        self._clock = clock
        self._pay_index = 0
        self._paid = trio.Event()
        self._hang: str | None = None
        self.hanging = trio.Event()

    def hang(self, where: str) -> None:
        """Never return from "before create", "after create" or "after paid" again."""
        self._hang = where
        self.hanging = trio.Event()

    def recover(self) -> None:
        self._hang = None

    def pay(self, bolt11: str, received_msat: int | None = None) -> bool:
        """What a payer's daemon does; False when the invoice is unknown or can no longer be paid."""
        for label, invoice in self.invoices.items():
            if invoice.bolt11 == bolt11 and self._now(invoice).status is InvoiceStatus.UNPAID:
                self._pay_index += 1
                self.invoices[label] = replace(
                    invoice,
                    status=InvoiceStatus.PAID,
                    pay_index=self._pay_index,
                    paid_at=self._clock.now(),
                    received_msat=Msat(received_msat or invoice.amount_msat),
                )
                self._paid.set()
                self._paid = trio.Event()
                return True
        return False

    # --- ports.Lightning, as far as a node goes

    async def info(self) -> LightningInfo:
        await self._answering()
        return LightningInfo(
            self.lightning_id,
            alias="memory",
            network=self.network,
            block_height=100,
            version=self.version,
            synced=self.synced,
            simulated=True,
            addresses=(("127.0.0.1", 9735), ("::1", 9736)),
        )

    async def channels(self) -> list[Channel]:
        await self._answering()
        return list(self.listed)

    async def sign_message(self, message: str) -> str:
        await self._answering()
        return "signed" + hashlib.sha256(self.lightning_id + message.encode()).hexdigest()

    async def create_invoice(
        self, *, label: str, amount_msat: Msat, description: str, expires_in_seconds: int, preimage: bytes
    ) -> Invoice:
        await self._answering("before create")
        payment_hash = PaymentHash(hashlib.sha256(preimage).digest())
        existing = self.invoices.get(label)
        if existing is None:
            if any(invoice.payment_hash == payment_hash for invoice in self.invoices.values()):
                raise LightningRefused(901, "preimage exists")
            self.created += 1
            existing = self.invoices[label] = Invoice(
                label,
                f"lnmem{self.created}x{payment_hash.hex()}",
                payment_hash,
                amount_msat,
                self._clock.now() + expires_in_seconds,
                InvoiceStatus.UNPAID,
            )
        elif (existing.payment_hash, existing.amount_msat) != (payment_hash, amount_msat):
            raise LightningRefused(900, "label exists")
        await self._answering("after create")
        return existing

    async def find_invoice(self, label: str) -> Invoice | None:
        await self._answering()
        found = self.invoices.get(label)
        return None if found is None else self._now(found)

    async def delete_invoice(self, label: str, status: InvoiceStatus) -> bool:
        await self._answering()
        found = self.invoices.get(label)
        if found is None or self._now(found).status is not status:
            return False
        del self.invoices[label]
        return True

    async def next_paid(self, after_pay_index: int, *, timeout_seconds: int) -> Invoice | None:
        deadline = trio.current_time() + timeout_seconds
        while True:
            await self._answering()
            later = [i for i in self.invoices.values() if i.pay_index is not None and i.pay_index > after_pay_index]
            if later:
                await self._answering("after paid")
                return min(later, key=lambda invoice: invoice.pay_index or 0)
            with trio.CancelScope(deadline=deadline) as patience:
                await self._paid.wait()
            if patience.cancelled_caught:
                return None

    def take_down(self) -> None:
        self.up = False
        self._paid.set()
        self._paid = trio.Event()

    async def _answering(self, where: str = "") -> None:
        await trio.lowlevel.checkpoint()
        if not self.up:
            self.refused += 1
            raise LightningUnavailable("the daemon is down; start it")
        if where and where == self._hang:
            self.hanging.set()
            await trio.sleep_forever()

    def _now(self, invoice: Invoice) -> Invoice:
        if invoice.status is InvoiceStatus.UNPAID and self._clock.now() >= invoice.expires_at:
            return replace(invoice, status=InvoiceStatus.EXPIRED)
        return invoice


class World:
    """A node's directory, its daemon, its time; the node itself may be started again and again."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory / "node"
        self.settings = {
            "listen_port": 0,
            "period": f"{PERIOD}s",
            "grace": f"{GRACE}s",
            "price_msat_per_gib_month": 50_000_000,
            "minimum_account": "1KiB",
        } | settings
        init_node(self.directory, **self.settings)
        self.clock = TestClock()
        self.daemon = MemoryDaemon(self.clock)
        self.shares: Shares = FileShares(self.directory / "shares")
        self.deadlines = Deadlines()

    @property
    def config(self) -> NodeConfig:
        return NodeConfig.load(self.directory)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[RunningNode]:
        """A node that runs in the block; at its end it is stopped in order, unless it was killed."""
        async with SqlBooks.open(self.directory / "books.db") as books, trio.open_nursery() as nursery:
            node = Node(
                self.config,
                identity=load_identity(self.directory),
                lightning=cast("Lightning", self.daemon),
                shares=self.shares,
                books=books,
                clock=self.clock,
                deadlines=self.deadlines,
            )
            address = await nursery.start(_run, node)
            yield RunningNode(node, address, books, nursery)
            node.stop()

    @asynccontextmanager
    async def client(self, node: RunningNode, identity: Identity | None = None) -> AsyncIterator[Client]:
        """A client past hello."""
        async with await Client.connect(node.address, identity or Identity.generate()) as client:
            client.clock = self.clock
            client.daemon = self.daemon
            await client.ask(HELLO, HelloReply)
            yield client


async def _run(node: Node, *, task_status: trio.TaskStatus[NodeAddress]) -> None:
    await node.run(task_status=task_status)


class RunningNode:
    """A node of this process."""

    def __init__(self, node: Node, address: NodeAddress, books: Books, nursery: trio.Nursery) -> None:
        self.node = node
        self.address = address
        self.books = books
        self._nursery = nursery

    async def bill(self) -> None:
        """Look at the accounts now instead of within a second."""
        await self.node.collector.wait_caught_up()
        await self.node.billing.step()

    def kill(self) -> None:
        """Cancel all its tasks where they are."""
        self._nursery.cancel_scope.cancel()


class Client:
    """One connection that speaks the protocol; requests may be pipelined."""

    clock: TestClock
    daemon: MemoryDaemon

    def __init__(self, stream: trio.SocketStream, connection: Connection, identity: Identity) -> None:
        self.stream = stream
        self.connection = connection
        self.identity = identity
        self.account_id = AccountId(identity.public_key)
        self.step: int | None = None
        self._replies: dict[int, Reply] = {}

    @classmethod
    async def connect(cls, address: NodeAddress, identity: Identity) -> Client:
        """Past the handshake, before hello."""
        stream = await trio.open_tcp_stream(address.host, address.port)
        connection = Connection(Role.CLIENT, identity, remote=address.node_id)
        client = cls(stream, connection, identity)
        try:
            await stream.send_all(connection.initiate())
            event = await client.event()
            assert isinstance(event, HandshakeDone)
            await stream.send_all(connection.data_to_send())
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await trio.aclose_forcefully(self.stream)

    # --- messages

    async def send(self, message: Request) -> int:
        """Send a request, in pieces of `step` bytes if that is set; its id."""
        request_id, chunks = self.connection.send_request(message)
        for chunk in chunks:
            for piece in self._pieces(bytes(chunk)):
                await self.stream.send_all(piece)
        return request_id

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        step = self.step or len(data)
        return (data[at : at + step] for at in range(0, len(data), step))

    async def event(self) -> Any:
        with trio.fail_after(PATIENCE_SECONDS):
            while isinstance(event := self.connection.next_event(), NeedData):
                data = await self.stream.receive_some(65536)
                if data:
                    self.connection.receive_data(data)
                else:
                    self.connection.receive_eof()
            return event

    async def receive(self, request_id: int) -> Reply:
        """The reply to a request; others that come first are kept."""
        while request_id not in self._replies:
            event = await self.event()
            assert isinstance(event, ReplyReceived), event
            self._replies[event.request_id] = event.message
        return self._replies.pop(request_id)

    async def ask(self, message: Request, kind: type[T]) -> T:
        """The reply, which must be of this kind."""
        reply = await self.receive(await self.send(message))
        assert isinstance(reply, kind), reply
        return reply

    async def refused(self, message: Request) -> ErrorCode:
        """The code of the error that the request meets."""
        return (await self.ask(message, ErrorReply)).code

    async def closed(self) -> None:
        """Wait until the node has closed the connection."""
        assert isinstance(await self.event(), PeerClosed)

    # --- what every test does

    async def status(self) -> AccountStatusReply:
        return await self.ask(AccountStatus(), AccountStatusReply)

    async def terms(self) -> SignedTerms:
        return SignedTerms.decode((await self.ask(GetTerms(), TermsReply)).terms)

    async def open_account(self) -> Agreement:
        proposal = Agreement.propose(await self.terms(), self.identity, self.clock.now())
        return Agreement.decode((await self.ask(OpenAccount(agreement=proposal.encoded), OpenAccountReply)).agreement)

    async def rent(self, capacity_bytes: int) -> AddCapacityReply:
        """Open the account if need be, pay for capacity, wait until it is there."""
        await self.open_account()
        status = await self.status()
        reply = await self.ask(
            AddCapacity(growth_index=status.growth_index, capacity_bytes=capacity_bytes), AddCapacityReply
        )
        assert self.daemon.pay(reply.bolt11)
        await self.until(lambda now: now.capacity_bytes == capacity_bytes)
        return reply

    async def deposit(self, amount_msat: int) -> None:
        before = await self.status()
        reply = await self.ask(
            RequestInvoice(
                purpose=InvoicePurpose.DEPOSIT, deposit_index=before.deposit_index, amount_msat=Msat(amount_msat)
            ),
            InvoiceReply,
        )
        assert self.daemon.pay(reply.bolt11)
        await self.until(lambda now: now.deposit_msat == before.deposit_msat + amount_msat)

    async def until(self, holds: Callable[[AccountStatusReply], object]) -> AccountStatusReply:
        """Ask for the status until `holds` is true of it: what the node's services bring about takes its time."""
        with trio.fail_after(PATIENCE_SECONDS):
            while not holds(status := await self.status()):  # noqa: ASYNC110 - the node is asked
                await trio.sleep(0.005)
            return status

    async def put(self, data: bytes, *, token_start: int = 0, tokens: bytes = b"") -> ShareId:
        share_id = merkle.share_id(data)
        await self.ask(PutShare(share_id=share_id, token_start=token_start, tokens=tokens, payload=data), PutShareReply)
        return share_id

    def tokens(self, node: NodeAddress, data: bytes, *, count: int = 24) -> bytes:
        seed = self.identity.seed
        return proofs.make_tokens(
            data, merkle.share_id(data), proofs.audit_key(seed), proofs.token_key(seed), node.node_id, 0, count
        )

    def nonce(self, node: NodeAddress, t: int) -> bytes:
        return proofs.audit_nonce(proofs.audit_key(self.identity.seed), node.node_id, t)

    def rent_request(self, node: NodeAddress, status: AccountStatusReply) -> RequestInvoice:
        return RequestInvoice(
            purpose=InvoicePurpose.RENT,
            period=status.next_period,
            token_index=status.token_index,
            nonce=self.nonce(node, status.token_index),
        )


async def eventually(holds: Callable[[], object]) -> None:
    """Wait until `holds()` is true."""
    with trio.fail_after(PATIENCE_SECONDS):
        while not holds():  # noqa: ASYNC110 - what is waited for sets no event
            await trio.sleep(0.005)


def some_bytes(count: int) -> bytes:
    return secrets.token_bytes(count)
