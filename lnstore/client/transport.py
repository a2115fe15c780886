"""Connections to nodes: TCP, the handshake, hello, and then many requests at once on one connection.

Per connection one task reads and one writes. A message that the writer began is sent to its end; when whoever asked is
cancelled within one that carries a payload, the connection is given up instead, since the payload's buffer is theirs
again from then on. So no cancellation ever leaves the two sides out of step.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import trio
import trio.abc

from lnstore.client.node_errors import (
    ConnectionLost,
    NodeError,
    NodeRefused,
    NodeTimeout,
    NodeUnreachable,
    WrongNodeKey,
    name_of,
)
from lnstore.client.tasks import ByteBudget, open_tasks
from lnstore.long_paths import suit_path
from lnstore.receiving import receive
from lnstore_protocol.connection import NEED_DATA, Connection, HandshakeDone, PeerClosed, ReplyReceived, Role
from lnstore_protocol.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from lnstore_protocol.frames import BufferPool
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import NodeAddress
from lnstore_protocol.messages import (
    MAX_SHARE_BYTES,
    ErrorReply,
    GetShare,
    Hello,
    HelloReply,
    Reply,
    Request,
    demands_a_feature,
)

VERSION_MAJOR = 1
VERSION_MINOR = 0
CONNECT_SECONDS = 10.0
"""From the first packet to the answer to hello."""

IN_FLIGHT_BYTES = 16 * 1024 * 1024
"""Payloads asked for or sent and not yet answered, per connection."""

SMALLEST_CHARGE_BYTES = 256 * 1024
"""What any request counts for in that budget: so at most 64 are open, well below what the protocol allows."""

SMALL_CHUNK_BYTES = 32 * 1024
TOGETHER_BYTES = 64 * 1024
"""No larger chunks, of messages that wait at the same time, are sent together when they come to so many bytes."""

OpenStream = Callable[[NodeAddress], Awaitable[trio.abc.Stream]]


async def open_tcp(address: NodeAddress) -> trio.abc.Stream:
    """A TCP stream to the node; OSError when there is none to be had."""
    return await trio.open_tcp_stream(address.host, address.port)


class _Call:
    """One request from the moment it is asked until its reply."""

    __slots__ = ("abandoned", "charge", "done", "error", "message", "reply", "sending")

    def __init__(self, message: Request, charge: int) -> None:
        self.message: Request | None = message
        self.charge = charge
        self.done = trio.Event()
        self.reply: Reply | None = None
        self.error: Exception | None = None
        self.sending = False
        self.abandoned = False


class NodeConnection:
    """An open connection to one node. Made by `connect` or a NodePool."""

    def __init__(
        self, address: NodeAddress, stream: trio.abc.Stream, protocol: Connection, buffers: BufferPool
    ) -> None:
        self.address = address
        self.hello: HelloReply
        self.lost: NodeError | None = None
        self.received_bytes = 0
        self.heard_at = trio.current_time()
        self._stream = stream
        self._protocol = protocol
        self._buffers = buffers
        self._budget = ByteBudget(IN_FLIGHT_BYTES)
        self._queue, self._queued = trio.open_memory_channel[_Call](IN_FLIGHT_BYTES // SMALLEST_CHARGE_BYTES)
        self._calls: dict[int, _Call] = {}
        self._waiting: set[_Call] = set()
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    def __repr__(self) -> str:
        return f"NodeConnection({name_of(self.address)}, {'lost' if self.lost else 'open'})"

    async def request(self, message: Request, *, timeout_seconds: float) -> Any:
        """The reply to `message`, of the class that belongs to it.

        A payload's buffer must not change before this returns or raises. A node that says when it can be asked again
        is asked again then, if that is in time. Raises NodeRefused for an error reply, ConnectionLost, NodeTimeout;
        LocalProtocolError for a message that breaks a limit.
        """
        deadline = trio.current_time() + timeout_seconds
        with trio.move_on_at(deadline):
            while True:
                try:
                    return await self._request(message)
                except NodeRefused as refused:  # E-R2, E-R6
                    pause = refused.error.retry_after_seconds
                    if refused.code is not ErrorCode.RATE_LIMITED or pause is None or pause < 1:
                        raise
                    if trio.current_time() + pause >= deadline:
                        raise
                    await trio.sleep(pause)
        raise NodeTimeout(self.address, f"did not answer within {timeout_seconds:g} s; try again later")

    async def wait_lost(self) -> None:
        """Until the connection has ended."""
        await self._ended.wait()

    def abort(self, reason: str) -> None:
        """Give the connection up; requests under way fail with ConnectionLost."""
        self._lose(ConnectionLost(self.address, reason))

    async def _request(self, message: Request) -> Any:
        payload_bytes = len(getattr(message, "payload", b""))
        if isinstance(message, GetShare):
            payload_bytes = message.length or MAX_SHARE_BYTES
        charge = await self._budget.take(max(payload_bytes, SMALLEST_CHARGE_BYTES))
        call = _Call(message, charge)
        if self.lost is not None:
            self._budget.give(charge)
            raise self.lost.again()
        self._waiting.add(call)
        self._queue.send_nowait(call)
        try:
            await call.done.wait()
        except trio.Cancelled:
            call.abandoned = True
            if call.done.is_set() and call.reply is not None:
                self._buffers.give(getattr(call.reply, "payload", b""))
            elif call.sending and hasattr(message, "payload"):
                self.abort("was left in the middle of a message")
            raise
        if call.error is not None:
            raise call.error
        if isinstance(call.reply, ErrorReply):
            raise NodeRefused(self.address, call.reply)
        return call.reply

    # --- the two tasks ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Read and write until the connection ends. Raises nothing: what ended it is told to every request."""
        try:
            with self._scope:
                async with open_tasks() as tasks:
                    tasks.start_soon(self._read)
                    tasks.start_soon(self._write)
        finally:
            self._lose(ConnectionLost(self.address, "was disconnected by this side"))
            self._ended.set()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await trio.aclose_forcefully(self._stream)

    async def _write(self) -> None:
        """One message after the other; small chunks of those that wait at the same time leave together."""
        together = bytearray()
        async for call in self._queued:
            try:
                for chunk in self._seal(call):
                    if len(chunk) <= SMALL_CHUNK_BYTES:
                        together += chunk
                        continue
                    await self._flush(together)
                    await self._stream.send_all(chunk)
                if len(together) >= TOGETHER_BYTES or not self._queued.statistics().current_buffer_used:
                    await self._flush(together)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._protocol.send_failed()
                self._lose(ConnectionLost(self.address, "closed the connection; try again"))
                return

    async def _flush(self, together: bytearray) -> None:
        if together:
            await self._stream.send_all(together)
            together.clear()

    def _seal(self, call: _Call) -> Iterator[memoryview]:
        """The call's message in chunks to be sent, each valid until the next one; none when it is not to be sent."""
        if call.abandoned:
            self._finish(call)
            return
        try:
            request_id, chunks = self._protocol.send_request(call.message)  # type: ignore[arg-type]  # set until sent
        except LocalProtocolError as exc:
            call.error = exc
            self._finish(call)
            return
        self._calls[request_id] = call
        call.sending = True
        yield from chunks
        call.sending = False
        call.message = None

    async def _read(self) -> None:
        while self.lost is None:
            try:
                self.received_bytes += await receive(self._stream, self._protocol)
                self.heard_at = trio.current_time()
                self._dispatch()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._lose(ConnectionLost(self.address, "closed the connection; try again"))
            except RemoteProtocolError as exc:
                self._lose(ConnectionLost(self.address, f"broke the protocol: {exc}; one of the two must be updated"))

    def _dispatch(self) -> None:
        while (event := self._protocol.next_event()) is not NEED_DATA:
            match event:
                case ReplyReceived(request_id=request_id, message=reply):
                    call = self._calls.pop(request_id)
                    call.reply = reply
                    if call.abandoned:
                        self._buffers.give(getattr(reply, "payload", b""))
                    self._finish(call)
                case PeerClosed():
                    self._lose(ConnectionLost(self.address, "closed the connection; try again"))
                    return
                case _:
                    raise RemoteProtocolError("an event that no client expects")

    def _finish(self, call: _Call) -> None:
        if call in self._waiting:
            self._waiting.remove(call)
            self._budget.give(call.charge)
            call.done.set()

    def _lose(self, error: NodeError) -> None:  # T-R19, T-R21
        if self.lost is None:
            self.lost = error
            for call in list(self._waiting):
                call.error = error.again()
                self._finish(call)
            self._scope.cancel()


# --- opening ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def connect(  # M-W6, M-W7, M-W8, M-W9, V-W3
    address: NodeAddress,
    identity: Identity,
    *,
    timeout_seconds: float = CONNECT_SECONDS,
    buffers: BufferPool | None = None,
    open_stream: OpenStream = open_tcp,
) -> AsyncIterator[NodeConnection]:
    """A connection past its hello; closed at the end of the block.

    Raises NodeUnreachable, WrongNodeKey, ConnectionLost, and NodeRefused when the versions do not fit.
    """
    deadline = trio.current_time() + timeout_seconds
    buffers = buffers or BufferPool(size=MAX_SHARE_BYTES, keep=0)
    protocol = Connection(Role.CLIENT, identity, remote=address.node_id, allocate=buffers.take)
    stream = await _open(address, protocol, deadline, open_stream)
    connection = NodeConnection(address, stream, protocol, buffers)
    async with open_tasks() as tasks:
        tasks.start_soon(connection.run)
        try:
            hello = Hello(
                version_major=VERSION_MAJOR,
                version_minor=VERSION_MINOR,
                features=b"",
                agent=f"lnstore/{version('lnstore')}",
            )
            left = max(0.0, deadline - trio.current_time())
            connection.hello = await connection.request(hello, timeout_seconds=left)
            if connection.hello.version_major != VERSION_MAJOR:  # M-R12
                raise NodeRefused(address, ErrorReply(code=ErrorCode.UNSUPPORTED_VERSION, message=""))
            if demands_a_feature(connection.hello.features):
                raise NodeRefused(address, ErrorReply(code=ErrorCode.UNKNOWN_FEATURE, message=""))
            yield connection
        finally:
            connection.abort("was disconnected by this side")


async def _open(
    address: NodeAddress, protocol: Connection, deadline: float, open_stream: OpenStream
) -> trio.abc.Stream:
    """A stream on which the handshake is done."""
    seconds = deadline - trio.current_time()
    stream: trio.abc.Stream | None = None
    try:
        with trio.move_on_at(deadline):
            stream = await open_stream(address)
            await _handshake(stream, protocol)
            opened, stream = stream, None
            return opened
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise NodeUnreachable(
            address, f"cannot be reached ({reason}); check that it runs and that the address is right"
        ) from exc
    except (RemoteProtocolError, trio.BrokenResourceError) as exc:
        raise WrongNodeKey(
            address,
            "did not prove to have the key its address names; ask its operator for the current lnstore:// address",
        ) from exc
    finally:
        if stream is not None:
            await trio.aclose_forcefully(stream)
    raise NodeUnreachable(address, f"did not answer within {seconds:g} s; check that it runs and the address is right")


async def _handshake(stream: trio.abc.Stream, protocol: Connection) -> None:
    await stream.send_all(protocol.initiate())
    while not isinstance(protocol.next_event(), HandshakeDone):
        await receive(stream, protocol)
    await stream.send_all(protocol.data_to_send())
    suit_path(stream)
