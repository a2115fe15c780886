"""One connection: read, answer several requests at once, write one reply at a time.

Rules that this file keeps: one task reads and feeds the protocol core; each request is a task of the session's
nursery; whoever writes holds the writer lock for a whole reply, and those who wait for it are the session's queue,
REQUESTS_PER_SESSION long at most. Every wait for the peer has a deadline (limits.Deadlines). What a session may hold
in memory, and why nothing waits in a circle, is told in budget.py.

The two `except Exception` of the node's request path are here: a request that fails is answered INTERNAL, a connection
that fails is closed, and both are logged; nothing of it reaches other sessions.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, suppress

import trio

from lnstore.logs import get_logger
from lnstore.long_paths import suit_path
from lnstore.node.admission import Visit
from lnstore.node.budget import Payload, PayloadBuffers
from lnstore.node.context import NodeContext, Peer, RequestContext
from lnstore.node.egress import Reader
from lnstore.node.errors import Refusal
from lnstore.node.handlers import answer
from lnstore.node.handlers.hello import is_understood
from lnstore.node.limits import PAUSE_SECONDS, READ_BYTES, REQUESTS_PER_SESSION
from lnstore.ports import BooksRefused, LightningError, StorageFull
from lnstore.receiving import receive
from lnstore_protocol.connection import Connection, Role
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.events import HandshakeDone, NeedData, PeerClosed, RequestReceived, UnknownRequest
from lnstore_protocol.ids import AccountId
from lnstore_protocol.messages import Buffer, ErrorReply, Hello, Reply, Request

_log = get_logger("lnstore.node.session")

_MESSAGE_BYTES = 1000
"""What of an error's text goes into its reply, which allows 1024."""


class Session:
    """A connection from its first byte to its end. `run` never raises but when it is cancelled."""

    def __init__(self, node: NodeContext, stream: trio.abc.Stream, number: int, *, visit: Visit) -> None:
        self._node = node
        self._stream = stream
        self._visit = visit
        self._log = _log.bind(session=number)
        self._payloads = PayloadBuffers(node.incoming, node.buffers)
        self._connection = Connection(Role.NODE, node.identity, allocate=self._payloads.allocate)
        self._places = trio.Semaphore(REQUESTS_PER_SESSION)
        self._writer = trio.StrictFIFOLock()
        self._scope = trio.CancelScope()
        visit.give_up = self._scope.cancel
        self._reading = trio.CancelScope()
        self._peer: Peer | None = None
        self._greeted = False
        self._draining = False
        self._in_work = 0
        self._frame_deadline = float("inf")

    async def run(self) -> None:
        """Serve the connection until it ends."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    with self._reading:
                        await self._serve(nursery)
                await self._linger()
            await trio.aclose_forcefully(self._stream)
            if self._peer is not None and not self._draining:
                await self._settle(self._peer)
        except Exception:  # noqa: BLE001 - the boundary of a connection
            self._log.exception("connection failed; it is closed")
        finally:
            self._payloads.close()
            await trio.aclose_forcefully(self._stream)

    def drain(self) -> None:
        """Finish what is in work, refuse what comes, then close."""
        self._draining = True
        if not self._in_work:
            self._reading.cancel()

    async def _settle(self, peer: Peer) -> None:
        await self._node.egress.settle(Reader(peer.key))
        if peer.authority is not None:
            await self._node.egress.settle(Reader(peer.authority.account_id, peer.authority.certificate_id))

    # --- reading --------------------------------------------------------------------------------------------------

    async def _serve(self, nursery: trio.Nursery) -> None:
        try:
            with trio.move_on_after(self._node.deadlines.handshake) as patience:
                await self._shake_hands()
            if patience.cancelled_caught:
                self._log.info("no handshake in time")
                self._scope.cancel()
                return
            await self._read_requests(nursery)
        except RemoteProtocolError as exc:
            self._log.info("peer broke the protocol", reason=str(exc), code=exc.code.name)
            if exc.request_id is not None:
                await self._send(exc.request_id, _error(exc.code, str(exc)))
            nursery.cancel_scope.cancel()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._log.debug("connection lost")
            self._scope.cancel()

    async def _shake_hands(self) -> None:  # T-R2
        while True:
            event = self._connection.next_event()
            if handshake := self._connection.data_to_send():
                await self._stream.send_all(handshake)
            match event:
                case HandshakeDone(peer=peer):
                    self._peer = Peer(AccountId(peer))
                    self._node.admission.shaken(self._visit)
                    suit_path(self._stream)
                    self._log = self._log.bind(account=peer.hex()[:16])
                    self._log.debug("connected")
                    return
                case PeerClosed():
                    return
                case _:
                    await self._receive(float("inf"))

    async def _read_requests(self, nursery: trio.Nursery) -> None:  # T-R15
        connection = self._connection
        while True:
            event = connection.next_event()
            match event:
                case NeedData():
                    receiving = connection.announced_payload_bytes > 0
                    self._payloads.finish_ignored(receiving=receiving)
                    # Nothing more is read before what is being received has its share of the memory budget.
                    await self._payloads.settle()
                    if not await self._receive(self._deadline(receiving=receiving)):
                        return
                case RequestReceived(request_id=request_id, message=message):
                    self._frame_deadline = float("inf")
                    await self._start(nursery, request_id, message)
                case UnknownRequest(request_id=request_id):
                    await self._start(nursery, request_id, None)
                case PeerClosed():
                    return
                case _:
                    raise AssertionError(event)

    def _deadline(self, *, receiving: bool) -> float:  # T-R22
        """When the next bytes must be here: in a payload, the time at which all of it must be."""
        if not receiving:
            self._frame_deadline = float("inf")
            return trio.current_time() + self._node.deadlines.idle
        self._frame_deadline = min(self._frame_deadline, trio.current_time() + self._node.deadlines.frame)
        return self._frame_deadline

    async def _receive(self, deadline: float) -> bool:
        """Feed the next bytes to the protocol core; False when the peer stayed silent past the deadline."""
        while True:
            with trio.CancelScope(deadline=deadline):
                await receive(self._stream, self._connection)
                return True
            if not self._in_work or deadline == self._frame_deadline:
                self._log.info("peer stayed silent; closing")
                self._scope.cancel()
                return False
            deadline = trio.current_time() + self._node.deadlines.idle

    async def _linger(self) -> None:
        """Let the peer read our last words: closing with unread bytes would reset the connection and lose them."""
        with trio.move_on_after(self._node.deadlines.linger), suppress(trio.BrokenResourceError):
            if isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
            while await self._stream.receive_some(READ_BYTES):
                pass

    # --- answering ------------------------------------------------------------------------------------------------

    async def _start(self, nursery: trio.Nursery, request_id: int, message: Request | None) -> None:
        refusal = self._gate(message)
        await self._places.acquire()
        payload: Buffer | None = getattr(message, "payload", None)
        claimed = None if payload is None else self._payloads.claim(payload)
        self._in_work += 1
        nursery.start_soon(self._answer, request_id, message, refusal, claimed)
        if refusal is not None and refusal.pause_seconds:
            shortest, longest = PAUSE_SECONDS
            await trio.sleep(min(max(refusal.pause_seconds, shortest), longest))

    def _gate(self, message: Request | None) -> Refusal | None:  # M-R5, M-R9
        """Why this request is not even looked at; decided as it arrives, so requests may follow hello at once."""
        if self._peer is None:
            raise AssertionError("a request before the handshake")
        self._visit.used_at = trio.current_time()
        limited = self._node.admission.request(type(message), self._peer.key, self._visit.network)
        if limited is not None:
            return limited
        if message is None:
            return Refusal(ErrorCode.UNKNOWN_MESSAGE, "this node does not know that message")
        if self._draining:
            return Refusal(ErrorCode.SHUTTING_DOWN, "this node is stopping; reconnect later")
        if isinstance(message, Hello):
            self._greeted = self._greeted or is_understood(message)
            return None
        return None if self._greeted else Refusal(ErrorCode.HELLO_REQUIRED, "say hello first")

    async def _answer(
        self, request_id: int, message: Request | None, refusal: Refusal | None, claimed: Payload | None
    ) -> None:
        try:
            async with AsyncExitStack() as until_sent:
                if message is None or refusal is not None:
                    reply: Reply = _refused(refusal or Refusal(ErrorCode.INTERNAL, "no message"))
                else:
                    reply = await self._handle(request_id, message, until_sent)
                if claimed is not None:
                    self._payloads.finish(claimed)
                await self._send(request_id, reply)
        finally:
            if claimed is not None:
                self._payloads.finish(claimed)
            self._in_work -= 1
            self._places.release()
            if self._draining and not self._in_work:
                self._reading.cancel()

    async def _handle(self, request_id: int, message: Request, until_sent: AsyncExitStack) -> Reply:  # E-W2
        """The reply to a request, whatever happens: the boundary of a request."""
        log = self._log.bind(request=request_id, type=type(message).__name__)
        started = time.perf_counter()
        if self._peer is None:
            raise AssertionError("a request before the handshake")
        request = RequestContext(self._node, self._peer, log, until_sent, self._visit.network)
        try:
            async with self._node.admission.turn(type(message), self._peer.key, self._visit.network):
                reply = await answer(request, message)
        except Refusal as exc:
            reply = _refused(exc)
        except BooksRefused as exc:
            reply = _error(exc.code, str(exc), capacity_bytes=exc.capacity_bytes, amount_msat=exc.amount_msat)
        except RemoteProtocolError as exc:
            reply = _error(exc.code, str(exc))
        except LightningError as exc:
            self._node.binding.doubt(exc)
            log.warning("lightning daemon did not do it", reason=str(exc))
            reply = _error(ErrorCode.LIGHTNING_UNAVAILABLE, "this node's Lightning daemon does not answer; try later")
        except (StorageFull, OSError) as exc:
            log.error("cannot write", reason=str(exc))  # noqa: TRY400 - a full disk needs no traceback
            reply = _error(ErrorCode.STORAGE_FULL, "this node's disk is full or failing")
        except Exception:
            log.exception("request failed")
            reply = _error(ErrorCode.INTERNAL, "this node failed; its log says why")
        refused = reply.code.name if isinstance(reply, ErrorReply) else None
        log.debug("request", ms=round((time.perf_counter() - started) * 1000, 2), refused=refused)
        return reply

    async def _send(self, request_id: int, reply: Reply) -> None:  # T-W13, M-W3
        """Write one reply. When the peer does not take it, the session ends."""
        async with self._writer:
            sent = False
            try:
                for chunk in self._connection.send_reply(request_id, reply):
                    with trio.fail_after(self._node.deadlines.send):
                        await self._stream.send_all(chunk)
                sent = True
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._log.debug("connection lost while sending")
            except trio.TooSlowError:
                self._log.info("peer does not read; closing")
            finally:
                if not sent:
                    self._connection.send_failed()
                    self._scope.cancel()


def _refused(refusal: Refusal) -> ErrorReply:
    return _error(
        refusal.code, str(refusal), amount_msat=refusal.amount_msat, retry_after_seconds=refusal.retry_after_seconds
    )


def _error(code: ErrorCode, text: str, **more: object) -> ErrorReply:
    return ErrorReply(code=code, message=text.encode()[:_MESSAGE_BYTES].decode(errors="ignore"), **more)  # type: ignore[arg-type]
