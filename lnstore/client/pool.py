"""All nodes of one client: one connection each, opened when first needed and again when it was lost."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import trio

from lnstore.client.node_errors import ConnectionLost, NodeError, NodeRefused, NodeTimeout
from lnstore.client.tasks import open_tasks
from lnstore.client.transport import CONNECT_SECONDS, NodeConnection, OpenStream, connect, open_tcp
from lnstore_protocol.frames import BufferPool
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, NodeAddress, NodeId
from lnstore_protocol.messages import MAX_SHARE_BYTES, PresentDelegation, Request

BACKOFF_SECONDS = 5.0
"""After a failed attempt to connect, how long further ones fail at once with the same error."""

KEPT_BUFFERS = 12
"""Payload buffers kept for use again; a fresh page costs more than the cipher that fills it."""


ChainFor = Callable[[NodeId], bytes | None]
"""The chain to present to a node (delegation.encode_chain); None where one has an account of one's own, or nothing."""


def _no_chain(_node_id: NodeId) -> bytes | None:
    return None


class NoteContact(Protocol):
    """Told of each attempt to reach a node; contacts.py's."""

    def __call__(self, node_id: NodeId, *, answered: bool) -> None:
        """Whether it answered."""


def _note_nothing(node_id: NodeId, *, answered: bool) -> None:
    pass


class NodePool:
    """See the module's text. Made by `open_pool`. Who uses up a reply's payload gives it back to `buffers`."""

    def __init__(
        self,
        identity: Identity,
        tasks: trio.Nursery,
        *,
        connect_seconds: float = CONNECT_SECONDS,
        open_stream: OpenStream = open_tcp,
        chain_for: ChainFor = _no_chain,
        note_contact: NoteContact = _note_nothing,
    ) -> None:
        self.buffers = BufferPool(size=MAX_SHARE_BYTES, keep=KEPT_BUFFERS)
        self._identity = identity
        self._tasks = tasks
        self._connect_seconds = connect_seconds
        self._open_stream = open_stream
        self._chain_for = chain_for
        self._note_contact = note_contact
        self._connections: dict[NodeAddress, NodeConnection] = {}
        self._locks: dict[NodeAddress, trio.Lock] = {}
        self._failed: dict[NodeAddress, tuple[float, NodeError]] = {}

    async def dial(self, address: NodeAddress) -> NodeConnection:
        """The connection to the node, opened if need be; as `connect` raises, at once for a while after a failure."""
        async with self._locks.setdefault(address, trio.Lock()):
            connection = self._connections.get(address)
            if connection is not None and connection.lost is None:
                return connection
            until, error = self._failed.get(address, (0.0, None))
            if error is not None and trio.current_time() < until:
                raise error.again()
            try:
                opened: NodeConnection = await self._tasks.start(self._hold, address)
            except NodeError as exc:
                self._failed[address] = (trio.current_time() + BACKOFF_SECONDS, exc)
                self._note_contact(address.node_id, answered=isinstance(exc, NodeRefused))
                raise
            self._note_contact(address.node_id, answered=True)
            self._failed.pop(address, None)
            self._connections[address] = opened
            return opened

    async def request(self, address: NodeAddress, message: Request, *, timeout_seconds: float) -> Any:
        """Ask a node, as NodeConnection.request; once more when a connection from before turns out to be dead.

        Every request of the protocol may be repeated without harm.
        """
        known = self._connections.get(address)
        connection = await self.dial(address)
        try:
            return await connection.request(message, timeout_seconds=timeout_seconds)
        except NodeTimeout:
            self._note_contact(address.node_id, answered=False)
            raise
        except ConnectionLost:
            if connection is not known:
                raise
        connection = await self.dial(address)
        return await connection.request(message, timeout_seconds=timeout_seconds)

    @property
    def account_id(self) -> AccountId:
        """Whose account the requests are for where they are not made by a delegation."""
        return AccountId(self._identity.public_key)

    def heard(self, address: NodeAddress) -> tuple[int, float]:
        """The bytes that this connection to a node has brought, and when the last came; (0, never) without one."""
        connection = self._connections.get(address)
        return (0, -math.inf) if connection is None else (connection.received_bytes, connection.heard_at)

    def is_delegate_at(self, node_id: NodeId) -> bool:
        """Whether requests to this node are made by a delegation, for another's account."""
        return self._chain_for(node_id) is not None

    def drop(self, address: NodeAddress, reason: str) -> None:
        """Give up the connection to a node, if there is one."""
        connection = self._connections.pop(address, None)
        if connection is not None:
            connection.abort(reason)

    async def _hold(
        self, address: NodeAddress, task_status: trio.TaskStatus[NodeConnection] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async with connect(
            address,
            self._identity,
            timeout_seconds=self._connect_seconds,
            buffers=self.buffers,
            open_stream=self._open_stream,
        ) as connection:
            chain = self._chain_for(address.node_id)
            if chain is not None:  # D-W2
                await connection.request(PresentDelegation(chain=chain), timeout_seconds=self._connect_seconds)
            task_status.started(connection)
            await connection.wait_lost()


@asynccontextmanager
async def open_pool(
    identity: Identity,
    *,
    connect_seconds: float = CONNECT_SECONDS,
    open_stream: OpenStream = open_tcp,
    chain_for: ChainFor = _no_chain,
    note_contact: NoteContact = _note_nothing,
) -> AsyncIterator[NodePool]:
    """A pool whose connections are closed at the end of the block; `chain_for` says where to act by a delegation."""
    async with open_tasks() as tasks:
        yield NodePool(
            identity,
            tasks,
            connect_seconds=connect_seconds,
            open_stream=open_stream,
            chain_for=chain_for,
            note_contact=note_contact,
        )
        tasks.cancel_scope.cancel()
