"""One connection with the peer under test: every byte under control, on record, and judged as it comes.

Sending is free: any bytes, records, frames and heads, right or wrong. Receiving holds the peer to the requirements on
writers (T-W6, T-W7, T-W10, C-W1, C-W2, M-W1 … M-W4, E-W1) and raises Failed with the number of the first one it breaks.
"""

from __future__ import annotations

import copy
import socket
from collections import deque
from dataclasses import dataclass, field, fields
from typing import Any

import msgpack

from lnstore_protocol.codec import MESSAGES, PEEK_BYTES, decode_head, encode_head, payload_of, peek, size_limit
from lnstore_protocol.conformance.verdict import Failed, Trace
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.frames import HEADER, HEADER_BYTES
from lnstore_protocol.messages import ErrorReply, Message
from lnstore_protocol.noise import TAG_BYTES, CipherState
from lnstore_protocol.records import LENGTH_BYTES, RECORD_PLAINTEXT_BYTES

_READ_BYTES = 65536

_NONCES_BACK = 4
"""How many nonces ago a record is looked for that does not open under its own."""


class PeerClosed(Exception):
    """The peer ended the connection."""


class PeerSilent(Exception):
    """Nothing came within the patience of the run."""


@dataclass(frozen=True, slots=True)
class Received:
    """One message as it came."""

    type: int
    request_id: int
    message: Message
    head: bytes = field(repr=False)
    payload: bytes = field(repr=False)


def frame(head: bytes, payload: bytes | memoryview = b"") -> bytes:
    """The frame of a head and a payload, right or wrong."""
    return HEADER.pack(len(head), len(payload)) + head + payload


def raw_head(message_type: Any, request_id: Any, body: Any) -> bytes:
    """A head of any three values."""
    packed: bytes = msgpack.packb([message_type, request_id, body])
    return packed


def raw_frame(message_type: Any, request_id: Any, body: Any, payload: bytes = b"") -> bytes:
    """A frame whose head has any three values."""
    return frame(raw_head(message_type, request_id, body), payload)


def message_frame(request_id: int, message: Message) -> bytes:
    """The frame of a proper message."""
    return frame(encode_head(request_id, message), bytes(payload_of(message)))


class Link:
    """A socket with the peer; sealed once `install` was given the handshake's ciphers."""

    def __init__(self, stream: socket.socket, trace: Trace, patience_seconds: float) -> None:
        self.number = trace.new_connection()
        self.patience_seconds = patience_seconds
        self._stream = stream
        self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._trace = trace
        self._incoming = bytearray()
        self._plain = bytearray()
        self._sending: CipherState | None = None
        self._receiving: CipherState | None = None
        self._earlier: deque[CipherState] = deque(maxlen=_NONCES_BACK)

    def close(self) -> None:
        """End the connection."""
        self._stream.close()

    def note(self, way: str, what: str, *parts: bytes | memoryview) -> None:
        """Put bytes on record."""
        self._trace.add(self.number, way, what, *parts)

    # --- bytes

    def send_raw(self, data: bytes, what: str = "bytes") -> None:
        """Send bytes as they are. That the peer has closed shows when its answer is read."""
        self.note(">", what, data)
        self._put(data)

    def end_sending(self) -> None:
        """TCP FIN in our direction."""
        self.note(">", "FIN")
        try:
            self._stream.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def receive_raw(self, count: int, *, seconds: float | None = None) -> bytes:
        """The next `count` bytes from the wire; PeerClosed or PeerSilent when they do not come."""
        while len(self._incoming) < count:
            self._stream.settimeout(self.patience_seconds if seconds is None else seconds)
            try:
                data = self._stream.recv(_READ_BYTES)
            except TimeoutError:
                raise PeerSilent from None
            except OSError:
                data = b""
            if not data:
                self.note("<", "end of the stream")
                raise PeerClosed
            self._incoming += data
        taken = bytes(self._incoming[:count])
        del self._incoming[:count]
        return taken

    def _put(self, data: bytes) -> None:
        self._stream.settimeout(self.patience_seconds)
        try:
            self._stream.sendall(data)
        except OSError:  # the peer has closed, or reads no more: seen by whoever reads next
            return

    # --- records

    def install(self, sending: CipherState, receiving: CipherState) -> None:
        """From here on everything is sealed."""
        self._sending, self._receiving = sending, receiving

    def seal(self, plain: bytes) -> bytes:
        """One record."""
        if self._sending is None:
            raise AssertionError("nothing is sealed before the handshake")
        sealed = self._sending.seal(plain)
        return len(sealed).to_bytes(LENGTH_BYTES, "big") + sealed

    def send(self, *frames: bytes, record_bytes: int = RECORD_PLAINTEXT_BYTES, what: str = "frame") -> None:
        """Send frames, joined, in records of `record_bytes` plaintext bytes."""
        for data in frames:
            self.note(">", what, data)
        joined = b"".join(frames)
        cuts = range(0, len(joined), record_bytes)
        self._put(b"".join(self.seal(joined[at : at + record_bytes]) for at in cuts))

    def _open_record(self, seconds: float | None) -> None:
        length = int.from_bytes(self.receive_raw(LENGTH_BYTES, seconds=seconds), "big")
        if length <= TAG_BYTES:
            raise Failed("T-W6", f"a record of {length} bytes carries nothing")
        sealed = self.receive_raw(length)
        receiver = self._receiving
        if receiver is None:
            raise AssertionError("nothing is opened before the handshake")
        before = copy.copy(receiver)
        try:
            self._plain += receiver.open(sealed)
        except RemoteProtocolError:
            self.note("<", "record", sealed)
            raise Failed("T-W7", _why_not(self._earlier, sealed)) from None
        self._earlier.appendleft(before)

    # --- frames

    def receive(self, *, seconds: float | None = None) -> Received:
        """The peer's next message; `seconds` bounds the wait for it instead of the patience."""
        while len(self._plain) < HEADER_BYTES:
            self._open_record(seconds)
        head_bytes, payload_bytes = HEADER.unpack(self._plain[:HEADER_BYTES])
        while len(self._plain) < HEADER_BYTES + min(head_bytes, PEEK_BYTES):
            self._open_record(None)
        self._check_limits(head_bytes, payload_bytes)
        end = HEADER_BYTES + head_bytes + payload_bytes
        while len(self._plain) < end:
            self._open_record(None)
        self.note("<", "frame", memoryview(self._plain)[:end])
        head = bytes(self._plain[HEADER_BYTES : HEADER_BYTES + head_bytes])
        payload = bytes(self._plain[HEADER_BYTES + head_bytes : end])
        del self._plain[:end]
        return judged(head, payload)

    def is_closed_within(self, seconds: float) -> bool:
        """Whether the peer closes, whatever it sends before."""
        try:
            while True:
                self.receive_raw(1, seconds=seconds)
        except PeerClosed:
            return True
        except PeerSilent:
            return False

    def _check_limits(self, head_bytes: int, payload_bytes: int) -> None:
        front = bytes(self._plain[HEADER_BYTES : HEADER_BYTES + PEEK_BYTES])
        message_type = _type_of(front)
        limit = size_limit(message_type)
        if head_bytes > limit.head_bytes or payload_bytes > limit.payload_bytes:
            self.note("<", "frame", memoryview(self._plain))
            raise Failed(
                "T-W10",
                f"a message of type {message_type} with a head of {head_bytes} and a payload of {payload_bytes} bytes; "
                f"its limits are {limit.head_bytes} and {limit.payload_bytes}",
            )


# --- judging ----------------------------------------------------------------------------------------------------------


def judged(head: bytes, payload: bytes) -> Received:
    """The message in head and payload; Failed with the requirement on writers that it breaks."""
    try:
        parts = msgpack.unpackb(head, strict_map_key=False, object_pairs_hook=tuple)
    except Exception as exc:  # msgpack documents no closed set of exceptions
        raise Failed("C-W1", f"a head that is not msgpack: {head.hex()}") from exc
    if not (isinstance(parts, list) and len(parts) == 3 and isinstance(parts[2], tuple)):
        raise Failed("M-W1", "a head that is not [type, request id, body]")
    keys = [key for key, _ in parts[2]]
    if len(set(map(repr, keys))) != len(parts[2]) or not all(type(key) is int and key >= 0 for key in keys):
        raise Failed("C-W1", f"a body whose keys are not unsigned integers, each there once: {keys}")
    known = {row.metadata.get("key") for row in fields(MESSAGES[parts[0]])} if parts[0] in MESSAGES else set()
    nothing = [key for key, value in parts[2] if value is None and key in known]
    if nothing:
        raise Failed("C-W2", f"nil under the key {nothing[0]}")
    try:
        request_id, message = decode_head(head, payload)
    except RemoteProtocolError as exc:
        newer = exc.code in (ErrorCode.UNKNOWN_FEATURE, ErrorCode.UNKNOWN_MESSAGE)
        raise Failed("M-W4" if newer else "M-W2", str(exc)) from exc
    if isinstance(message, ErrorReply):
        said = dict(parts[2])[2]
        if said not in set(ErrorCode):
            raise Failed("E-W1", f"error code {said} is not in the registry")
    return Received(parts[0], request_id, message, head, payload)


def _type_of(front: bytes) -> int:
    """The type at the front of a head; 0 when it can not be read, which judging the head will tell."""
    try:
        return peek(front)[0]
    except RemoteProtocolError:
        return 0


def _why_not(earlier: deque[CipherState], sealed: bytes) -> str:
    """What is wrong with a record that does not open under the next nonce."""
    for back, cipher in enumerate(earlier, start=1):
        try:
            cipher.open(sealed)
        except RemoteProtocolError:
            continue
        return f"a record sealed under the nonce of the one {back} before it"
    return "a record that does not open under the next nonce"


def name_of(message: Message) -> str:
    """A message for a person."""
    if isinstance(message, ErrorReply):
        return f"error {message.code.name} ({message.message})"
    return MESSAGES[message.TYPE].__name__
