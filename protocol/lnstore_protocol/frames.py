"""Frames: u32 head length | u32 payload length | head | payload, both lengths big-endian (spec 01).

The reader is fed the plaintext of records. It looks at the type as soon as a head's first bytes are there and refuses
a head or payload above that type's limit before it holds more than PEEK_BYTES of it. A payload is written once, into a
buffer of exactly its size, and handed out without another copy; whoever decrypts may even write it there directly
(payload_space, advance).
"""

from __future__ import annotations

import mmap
import struct
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from lnstore_protocol.codec import MIN_HEAD_BYTES, PEEK_BYTES, peek, size_limit
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.messages import UNKNOWN_LIMIT

HEADER = struct.Struct(">II")
HEADER_BYTES = HEADER.size
_NO_PAYLOAD = memoryview(b"")

Allocate = Callable[[int], memoryview]
"""Gives a writable buffer of exactly so many bytes; what it holds before is of no matter."""


class Frame(NamedTuple):
    """One message as it came: its type, its head undecoded, and its payload."""

    type: int
    head: bytes
    payload: memoryview


class BufferPool:
    """Payload buffers used again: a fresh page costs more than the cipher that fills it.

    They are whole pages, so that a disk can be written from them directly. `take` fits Allocate. `give` takes a
    payload back once nothing refers to it any more; giving back what is still read elsewhere lets the next payload
    overwrite it. At most `keep` buffers of `size` bytes are kept; other sizes are left to the garbage collector. Not
    for several threads at once.
    """

    def __init__(self, *, size: int, keep: int) -> None:
        self._size = size
        self._keep = keep
        self._free: list[mmap.mmap] = []

    def take(self, count: int) -> memoryview:
        """A buffer of `count` bytes with arbitrary content."""
        if not self._size // 4 <= count <= self._size:
            return memoryview(bytearray(count))
        buffer = self._free.pop() if self._free else mmap.mmap(-1, self._size)
        return memoryview(buffer)[:count]

    def give(self, payload: memoryview | bytes | bytearray) -> None:
        """Take back what `take` gave; anything else is passed over."""
        if isinstance(payload, memoryview):
            buffer = payload.obj
            payload.release()  # a later read through it then fails instead of showing somebody else's bytes
            if isinstance(buffer, mmap.mmap) and len(buffer) == self._size and len(self._free) < self._keep:
                self._free.append(buffer)

    def clear(self) -> None:
        """Let go of the buffers that are kept."""
        self._free.clear()


def fresh_buffer(count: int) -> memoryview:
    """The default Allocate: a new buffer each time."""
    return memoryview(bytearray(count))


class _Stage(Enum):
    HEADER = auto()
    PEEK = auto()
    HEAD = auto()
    PAYLOAD = auto()


class FrameReader:
    """Turns a byte stream into frames. After a RemoteProtocolError it must not be fed again."""

    def __init__(self, allocate: Allocate = fresh_buffer) -> None:
        self._allocate = allocate
        self._ready: deque[Frame] = deque()
        self._start()

    def _start(self) -> None:
        self._stage = _Stage.HEADER
        self._front = bytearray()
        self._front_bytes = HEADER_BYTES
        self._head_bytes = 0
        self._payload_bytes = 0
        self._type = 0
        self._head = b""
        self._payload = _NO_PAYLOAD
        self._filled = 0

    @property
    def announced_payload_bytes(self) -> int:
        """The payload length of the frame being received, once its head was accepted; 0 between frames."""
        return self._payload_bytes if self._stage in (_Stage.HEAD, _Stage.PAYLOAD) else 0

    @property
    def is_between_frames(self) -> bool:
        """Whether every byte fed so far belongs to a frame that is complete."""
        return self._stage is _Stage.HEADER and not self._front

    @property
    def payload_left(self) -> int:
        """How many bytes the payload being received still lacks; 0 outside a payload."""
        return len(self._payload) - self._filled

    def payload_space(self, count: int) -> memoryview:
        """Where the next `count` bytes of the payload go; `count` is at most payload_left. Then call advance."""
        return self._payload[self._filled : self._filled + count]

    def advance(self, count: int) -> None:
        """The next `count` bytes of the payload were written to payload_space."""
        self._filled += count
        if self._filled == len(self._payload):
            self._finish()

    def feed(self, data: memoryview) -> None:
        """Take plaintext; RemoteProtocolError for a frame that must not be read on."""
        at, end = 0, len(data)
        while at < end:
            if self.payload_left:
                count = min(end - at, self.payload_left)
                self.payload_space(count)[:] = data[at : at + count]
                self.advance(count)
                at += count
                continue
            count = min(end - at, self._front_bytes - len(self._front))
            self._front += data[at : at + count]
            at += count
            while not self.payload_left and len(self._front) == self._front_bytes:
                self._front_complete()

    def next_frame(self) -> Frame | None:
        """The oldest complete frame not yet taken."""
        return self._ready.popleft() if self._ready else None

    def _front_complete(self) -> None:  # T-R13
        """A part of header and head is there: find how much more of it to wait for."""
        match self._stage:
            case _Stage.HEADER:
                self._head_bytes, self._payload_bytes = HEADER.unpack(self._front)
                if self._head_bytes < MIN_HEAD_BYTES:
                    raise RemoteProtocolError("a head is too short to be one")
                self._stage = _Stage.PEEK
                self._front_bytes += min(self._head_bytes, PEEK_BYTES)
            case _Stage.PEEK:
                self._check_limits()
                self._stage = _Stage.HEAD
                self._front_bytes = HEADER_BYTES + self._head_bytes
            case _:
                self._head = bytes(self._front[HEADER_BYTES:])
                if self._payload_bytes:
                    self._payload = self._allocate(self._payload_bytes)
                    self._stage = _Stage.PAYLOAD
                else:
                    self._finish()

    def _check_limits(self) -> None:  # T-R12, T-R14
        self._type, request_id = peek(self._front[HEADER_BYTES:])
        limit = size_limit(self._type)
        if self._head_bytes > limit.head_bytes or self._payload_bytes > limit.payload_bytes:
            known = "" if limit is not UNKNOWN_LIMIT else "unknown "
            error = RemoteProtocolError(
                f"{known}message type {self._type}: head of {self._head_bytes} and payload of {self._payload_bytes} "
                f"bytes, at most {limit.head_bytes} and {limit.payload_bytes} are allowed",
                ErrorCode.TOO_LARGE,
            )
            error.request_id = request_id
            raise error

    def _finish(self) -> None:
        self._ready.append(Frame(self._type, self._head, self._payload))
        self._start()
