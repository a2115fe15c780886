"""One connection without I/O: bytes in, events out; messages in, sealed bytes out (spec 01).

The handshake has fixed sizes and no length prefix: act 1 (client, 48 bytes: e and an empty payload's tag), act 2
(node, 48), act 3 (client, 96: its encrypted static key, then its Ed25519 public key as the encrypted payload). Only an
initiator that knows the node's key gets an answer; any other costs the node one X25519 operation and 4 KiB (T-R7,
T-R8).

Then each direction is a sequence of records (records.py), whose plaintexts, joined, are the stream of frames
(frames.py), each holding one message (messages.py).

Rules that this file keeps: what may come or go is in the two tables below; a payload is sealed from where it lies and
opened to where it stays; after the first error from the peer nothing more is read, but one error may still be sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto

from lnstore_protocol.codec import MESSAGES, REPLY_TYPES, REQUEST_TYPES, decode_head, encode_head, payload_of, peek
from lnstore_protocol.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from lnstore_protocol.events import (
    NEED_DATA,
    Event,
    HandshakeDone,
    NeedData,
    PeerClosed,
    ReplyReceived,
    RequestReceived,
    UnknownRequest,
)
from lnstore_protocol.frames import HEADER, Allocate, Frame, FrameReader, fresh_buffer
from lnstore_protocol.identity import Identity, x25519_public
from lnstore_protocol.ids import NodeId
from lnstore_protocol.messages import REPLY, ErrorReply, Message, Reply, Request
from lnstore_protocol.noise import MAX_NOISE_BYTES, TAG_BYTES, CipherState, Handshake
from lnstore_protocol.records import (
    HANDSHAKE_RECEIVE_BYTES,
    LENGTH_BYTES,
    RECEIVE_BYTES,
    SMALL_SEND_BYTES,
    ChunkSealer,
    Incoming,
)

PROLOGUE = b"lnstore/1"
ACT_BYTES = (48, 48, 96)
MAX_PENDING_REQUESTS = 128
"""Requests sent and not yet answered, in one connection."""


class Role(Enum):
    """Which side of the connection this is; the client initiates."""

    CLIENT = "client"
    NODE = "node"


# --- tables -----------------------------------------------------------------------------------------------------------


class _Phase(Enum):
    START = "the handshake has not begun"
    AWAIT_ACT_1 = "waiting for act 1"
    AWAIT_ACT_2 = "waiting for act 2"
    AWAIT_ACT_3 = "waiting for act 3"
    OPEN = "open"
    ENDED = "the peer has closed"
    FAILED = "failed"


_FIRST_PHASE = {Role.CLIENT: _Phase.START, Role.NODE: _Phase.AWAIT_ACT_1}

# The acts a side waits for: how long each is.
_AWAITED = {_Phase.AWAIT_ACT_1: ACT_BYTES[0], _Phase.AWAIT_ACT_2: ACT_BYTES[1], _Phase.AWAIT_ACT_3: ACT_BYTES[2]}


class _Verdict(Enum):
    REQUEST = auto()
    REPLY = auto()
    UNKNOWN_REQUEST = auto()
    IGNORE = auto()
    REFUSE = auto()
    WRONG_WAY = auto()


class _Kind(Enum):
    REQUEST = auto()
    REPLY = auto()
    UNKNOWN_EVEN = auto()
    UNKNOWN_ODD = auto()


_RECEIVED: dict[tuple[Role, _Kind], _Verdict] = {
    (Role.NODE, _Kind.REQUEST): _Verdict.REQUEST,
    (Role.NODE, _Kind.REPLY): _Verdict.WRONG_WAY,
    (Role.NODE, _Kind.UNKNOWN_EVEN): _Verdict.UNKNOWN_REQUEST,
    (Role.NODE, _Kind.UNKNOWN_ODD): _Verdict.IGNORE,
    (Role.CLIENT, _Kind.REQUEST): _Verdict.WRONG_WAY,
    (Role.CLIENT, _Kind.REPLY): _Verdict.REPLY,
    (Role.CLIENT, _Kind.UNKNOWN_EVEN): _Verdict.REFUSE,
    (Role.CLIENT, _Kind.UNKNOWN_ODD): _Verdict.IGNORE,
}


def _kind(message_type: int) -> _Kind:
    if message_type in REQUEST_TYPES:
        return _Kind.REQUEST
    if message_type in REPLY_TYPES:
        return _Kind.REPLY
    return _Kind.UNKNOWN_ODD if message_type % 2 else _Kind.UNKNOWN_EVEN


_ONLY_AN_ERROR_FITS = 0
"""Stands for the type of a request that could not be read."""


def _fits(reply_type: int, request_type: int) -> bool:
    return reply_type in (request_type + REPLY, ErrorReply.TYPE)


# --- the connection ---------------------------------------------------------------------------------------------------


class Connection:
    """One side of one connection. Not for several threads at once; one task owns it.

    Raises LocalProtocolError when this side calls it wrongly, RemoteProtocolError when the peer's bytes break the
    protocol; after the latter only one send_reply with an ErrorReply makes sense, then closing.

    `allocate` gives the buffers that payloads arrive in (frames.BufferPool.take, to use them again).
    """

    def __init__(
        self,
        role: Role,
        identity: Identity,
        *,
        remote: NodeId | None = None,
        allocate: Allocate = fresh_buffer,
        ephemeral_private: bytes | None = None,
    ) -> None:
        if (role is Role.CLIENT) is (remote is None):
            raise LocalProtocolError("a client, and only it, names the node it connects to")
        self.role = role
        self._identity = identity
        self._remote = remote
        self._phase = _FIRST_PHASE[role]
        self._handshake: Handshake | None = Handshake(
            initiator=role is Role.CLIENT,
            prologue=PROLOGUE,
            static_private=identity.x25519_private(),
            static_public=identity.x25519_public(),
            remote_static=None if remote is None else x25519_public(remote),
            ephemeral_private=ephemeral_private,
        )
        self._sender: ChunkSealer | None = None
        self._receiver: CipherState | None = None
        self._handshake_out = bytearray()
        self._incoming = Incoming()
        self._eof = False
        self._frames = FrameReader(allocate)
        self._scratch = memoryview(b"")
        self._pending: dict[int, int] = {}
        self._next_request_id = 0
        self._failure: RemoteProtocolError | None = None

    def __repr__(self) -> str:
        return f"Connection({self.role.value}, {self._phase.value})"

    # --- state that the shell looks at

    @property
    def pending_requests(self) -> int:
        """Requests that were received (node) or sent (client) and are not answered yet."""
        return len(self._pending)

    @property
    def announced_payload_bytes(self) -> int:
        """The payload length of the message being received, 0 if none: what to charge before reading on."""
        return self._frames.announced_payload_bytes

    @property
    def payload_left_bytes(self) -> int:
        """How many bytes the payload being received still lacks, 0 outside of one: so much is surely on its way."""
        return self._frames.payload_left

    @property
    def receive_bytes(self) -> int:
        """How many bytes to read from the transport at once: 3 KiB until the handshake is done (T-R7), then 64 KiB."""
        return HANDSHAKE_RECEIVE_BYTES if self._handshake is not None else RECEIVE_BYTES // 4

    @property
    def is_open(self) -> bool:
        """Whether messages may be sent: the handshake is done and no sending has failed."""
        return self._sender is not None and not self._sender.is_broken

    # --- bytes in

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes from the peer, at most receive_bytes at a time.

        Bytes objects may be kept until they are used up; others are copied.
        """
        if self._eof:
            raise LocalProtocolError("data after the end of the stream")
        self._incoming.add(data)

    def receive_space(self) -> memoryview:
        """Room in the receive buffer, to read into without a copy; then call receive_advance.

        At least 64 KiB, and 768 bytes until the handshake is done.
        """
        return self._incoming.space()

    def receive_advance(self, count: int) -> None:
        """`count` bytes were read into receive_space."""
        if self._eof:
            raise LocalProtocolError("data after the end of the stream")
        self._incoming.advance(count)

    def receive_eof(self) -> None:
        """The peer will send nothing more."""
        self._eof = True

    def next_event(self) -> Event | NeedData:
        """The next event in what was received, or NEED_DATA. RemoteProtocolError, then and ever after, on a fault."""
        if self._failure is not None:
            raise self._failure
        try:
            return self._next_event()
        except RemoteProtocolError as exc:
            self._failure = exc
            if self.role is Role.NODE and exc.request_id is not None:
                self._pending.setdefault(exc.request_id, _ONLY_AN_ERROR_FITS)
            self._phase = _Phase.FAILED
            raise

    def _next_event(self) -> Event | NeedData:
        if self._phase is _Phase.ENDED:
            return PeerClosed()
        while self._phase is _Phase.OPEN:
            frame = self._frames.next_frame()
            if frame is None:
                if not self._open_record():
                    return self._starved()
                continue
            event = self._frame_event(frame)
            if event is not None:
                return event
        length = _AWAITED.get(self._phase)
        handshake = self._handshake
        if handshake is None or length is None or self._incoming.count < length:
            return self._starved()
        return self._read_act(handshake, bytes(self._incoming.take(length)))

    def _starved(self) -> PeerClosed | NeedData:  # T-R20
        if not self._eof:
            return NEED_DATA
        if self._phase is not _Phase.OPEN or self._incoming.count or not self._frames.is_between_frames:
            raise RemoteProtocolError("the peer closed within the handshake or a message")
        self._phase = _Phase.ENDED
        return PeerClosed()

    # --- handshake

    def initiate(self) -> bytes:  # T-W2
        """The client's act 1, to be sent at once."""
        if self._phase is not _Phase.START or self._handshake is None:
            raise LocalProtocolError("only a client initiates, and once")
        self._phase = _Phase.AWAIT_ACT_2
        return self._handshake.write_message()

    def data_to_send(self) -> bytes:
        """Handshake bytes that are due; empty after it and in between."""
        data = bytes(self._handshake_out)
        self._handshake_out.clear()
        return data

    def _read_act(self, handshake: Handshake, act: bytes) -> Event | NeedData:  # T-W3, T-W4, T-R3, T-R4
        payload = handshake.read_message(act)  # of the first two acts it is empty: their size leaves no room for one
        if self._phase is _Phase.AWAIT_ACT_1:
            self._handshake_out += handshake.write_message()
            self._phase = _Phase.AWAIT_ACT_3
            return self._next_event()
        if self._phase is _Phase.AWAIT_ACT_2:
            self._handshake_out += handshake.write_message(self._identity.public_key)
            peer = bytes(self._remote or b"")
        else:
            peer = payload
            if x25519_public(peer) != handshake.remote_static:
                raise RemoteProtocolError("the account key is not the one of the handshake", ErrorCode.BAD_SIGNATURE)
        sending, self._receiver = handshake.split()
        self._sender = ChunkSealer(sending)
        self._handshake = None  # and with it the ephemeral key
        self._incoming.trust()
        self._phase = _Phase.OPEN
        return HandshakeDone(peer)

    # --- records and frames in

    def _open_record(self) -> bool:  # T-R10, T-R11
        """Decrypt one record into the frame reader; False when it is not complete yet."""
        incoming = self._incoming
        if incoming.count < LENGTH_BYTES or self._receiver is None:
            return False
        length = incoming.peek_u16()
        plain = length - TAG_BYTES
        if plain <= 0:
            raise RemoteProtocolError("a record that carries nothing")
        if incoming.count < LENGTH_BYTES + length:
            return False
        ciphertext = incoming.take(LENGTH_BYTES + length)[LENGTH_BYTES:]
        frames = self._frames
        if plain <= frames.payload_left:
            self._receiver.open_into(ciphertext, frames.payload_space(plain))
            frames.advance(plain)
        else:
            if len(self._scratch) < plain:
                self._scratch = memoryview(bytearray(plain if plain <= SMALL_SEND_BYTES else MAX_NOISE_BYTES))
            into = self._scratch[:plain]
            self._receiver.open_into(ciphertext, into)
            frames.feed(into)
        return True

    def _frame_event(self, frame: Frame) -> Event | None:  # T-R18, M-R4, M-R6
        verdict = _RECEIVED[self.role, _kind(frame.type)]
        match verdict:
            case _Verdict.IGNORE:
                return None
            case _Verdict.REFUSE:
                raise RemoteProtocolError(f"message type {frame.type} is not known", ErrorCode.UNKNOWN_MESSAGE)
            case _Verdict.WRONG_WAY:
                raise RemoteProtocolError(f"a {MESSAGES[frame.type].__name__} goes the other way")
            case _Verdict.UNKNOWN_REQUEST:
                _, request_id = peek(frame.head)
                if request_id is None:
                    raise RemoteProtocolError("a request without an id")
                self._note_request(request_id, frame.type)
                return UnknownRequest(request_id, frame.type)
            case _Verdict.REQUEST:
                return self._request_event(frame)
            case _Verdict.REPLY:
                return self._reply_event(frame)

    def _request_event(self, frame: Frame) -> Event:
        request_id, message = decode_head(frame.head, frame.payload)
        self._note_request(request_id, frame.type)
        return RequestReceived(request_id, message)  # type: ignore[arg-type]  # the table says it is a Request

    def _note_request(self, request_id: int, message_type: int) -> None:  # T-R16
        if request_id in self._pending:
            raise RemoteProtocolError(f"request id {request_id} is still in use")
        if len(self._pending) >= MAX_PENDING_REQUESTS:
            error = RemoteProtocolError("too many unanswered requests", ErrorCode.RATE_LIMITED)
            error.request_id = request_id
            raise error
        self._pending[request_id] = message_type

    def _reply_event(self, frame: Frame) -> Event:  # T-R17
        request_id, message = decode_head(frame.head, frame.payload)
        request_type = self._pending.pop(request_id, None)
        if request_type is None:
            raise RemoteProtocolError(f"a reply to request {request_id}, which is not outstanding")
        if not _fits(frame.type, request_type):
            raise RemoteProtocolError(
                f"a {MESSAGES[frame.type].__name__} does not answer a {MESSAGES[request_type].__name__}"
            )
        return ReplyReceived(request_id, message)  # type: ignore[arg-type]  # the table says it is a Reply

    # --- messages out

    def send_request(self, message: Request) -> tuple[int, Iterator[memoryview]]:  # T-W11, T-W12
        """The request's id and its sealed chunks, each valid until the next step (client).

        Every chunk must be sent, in order, before anything else is; if that fails, call send_failed.
        LocalProtocolError: not open, too many pending requests, the send before not consumed, or over a limit.
        """
        if self.role is not Role.CLIENT or message.TYPE not in REQUEST_TYPES:
            raise LocalProtocolError("a client sends requests, nothing else")
        if len(self._pending) >= MAX_PENDING_REQUESTS:
            raise LocalProtocolError(f"{MAX_PENDING_REQUESTS} requests are unanswered already")
        request_id = self._next_request_id
        chunks = self._send(request_id, message)
        self._next_request_id = request_id + 1
        self._pending[request_id] = message.TYPE
        return request_id, chunks

    def send_reply(self, request_id: int, message: Reply) -> Iterator[memoryview]:  # M-W3
        """The reply's sealed chunks, as send_request's (node). The request must be pending and the reply fit it."""
        if self.role is not Role.NODE or message.TYPE not in REPLY_TYPES:
            raise LocalProtocolError("a node sends replies, nothing else")
        request_type = self._pending.get(request_id)
        if request_type is None:
            raise LocalProtocolError(f"request {request_id} is not waiting for a reply")
        if not _fits(message.TYPE, request_type):
            raise LocalProtocolError(f"a {type(message).__name__} does not answer a request of type {request_type}")
        chunks = self._send(request_id, message)
        del self._pending[request_id]
        return chunks

    def send_failed(self) -> None:  # T-W9
        """Bytes given out by a send did not (all) reach the peer: nothing can be sent any more."""
        if self._sender is None:
            self._phase = _Phase.FAILED
        else:
            self._sender.is_broken = True

    def _send(self, request_id: int, message: Message) -> Iterator[memoryview]:
        sender = self._sender
        if sender is None:
            raise LocalProtocolError("nothing can be sent before the handshake is done")
        if self._handshake_out:
            raise LocalProtocolError("data_to_send comes first: the peer still waits for the handshake's last act")
        sender.check_ready()
        head = encode_head(request_id, message)
        payload = memoryview(payload_of(message)).cast("B")
        front = HEADER.pack(len(head), len(payload)) + head
        if len(front) + len(payload) <= SMALL_SEND_BYTES:
            front += payload
            payload = payload[:0]
        return sender.chunks(memoryview(front), payload)


__all__ = [
    "NEED_DATA",
    "Connection",
    "Event",
    "HandshakeDone",
    "NeedData",
    "PeerClosed",
    "ReplyReceived",
    "RequestReceived",
    "Role",
    "UnknownRequest",
]
