"""Records: the frame stream sealed into reused chunks, and the received bytes that wait to be opened (spec 01).

A record is u16 big-endian ciphertext length | ciphertext, one Noise transport message with empty associated data: a
length that was tampered with lets the tag of that record fail, so covering it as well would add nothing. Our own full
records take 64 KiB on the wire, so that four of them fill a chunk and one fills a usual socket read.
"""

from __future__ import annotations

from collections.abc import Iterator

from lnstore_protocol.errors import LocalProtocolError
from lnstore_protocol.noise import TAG_BYTES, CipherState

LENGTH_BYTES = 2
RECORD_OVERHEAD_BYTES = LENGTH_BYTES + TAG_BYTES
RECORD_PLAINTEXT_BYTES = (1 << 16) - RECORD_OVERHEAD_BYTES
"""What a full record of ours carries."""

CHUNK_BYTES = 256 * 1024
"""The most that one step of a send gives out."""

SMALL_SEND_BYTES = 4 * 1024
"""Up to here payload and head share one record, at the price of a copy; and no big buffer is needed."""

RECEIVE_BYTES = 256 * 1024
"""Size of the receive buffer; at most one record is left in it between two reads."""

HANDSHAKE_RECEIVE_BYTES = 3 * 1024
"""Size of the receive buffer until the handshake is done: with its objects below the 4 KiB of T-R7."""


class ChunkSealer:
    """Seals messages, one after the other, into one output buffer.

    Broken for good (`is_broken`) once a send was given up half-way: the peer's cipher can no longer follow.
    """

    def __init__(self, cipher: CipherState) -> None:
        self.is_broken = False
        self._cipher = cipher
        self._out = memoryview(b"")
        self._busy = False

    def check_ready(self) -> None:
        """LocalProtocolError unless a new message may be sent."""
        if self.is_broken:
            raise LocalProtocolError("an earlier send failed; the connection is of no use any more")
        if self._busy:
            raise LocalProtocolError("the message before has not been sent completely")

    def chunks(self, front: memoryview, payload: memoryview) -> Iterator[memoryview]:
        """Both parts as sealed records, in chunks valid until the next step; busy until all are taken."""
        self._busy = True
        return self._chunks(front, payload)

    def _chunks(self, front: memoryview, payload: memoryview) -> Iterator[memoryview]:  # T-W6, T-W8
        out = self._out_buffer(len(front) + len(payload))
        at = 0
        try:
            for source in (front, payload):
                done, end = 0, len(source)
                while done < end:
                    count = min(end - done, RECORD_PLAINTEXT_BYTES, len(out) - at - RECORD_OVERHEAD_BYTES)
                    length = count + TAG_BYTES
                    out[at] = length >> 8
                    out[at + 1] = length & 0xFF
                    at += LENGTH_BYTES
                    self._cipher.seal_into(source[done : done + count], out[at : at + length])
                    at += length
                    done += count
                    if len(out) - at <= SMALL_SEND_BYTES:  # not worth a record of its own
                        yield out[:at]
                        at = 0
            if at:
                yield out[:at]
            self._busy = False
        finally:
            self.is_broken |= self._busy

    def _out_buffer(self, plain_bytes: int) -> memoryview:
        """The output buffer, grown to what this send needs: most connections never send a payload."""
        size = 3 * SMALL_SEND_BYTES if plain_bytes <= SMALL_SEND_BYTES else CHUNK_BYTES
        if len(self._out) < size:
            self._out = memoryview(bytearray(size))
        return self._out


class Incoming:
    """Received bytes not yet used: a view of the caller's own bytes while that suffices, else the receive buffer."""

    def __init__(self) -> None:
        self._size = HANDSHAKE_RECEIVE_BYTES
        self._own = memoryview(b"")
        self._view = self._own
        self._at = 0
        self._end = 0

    @property
    def count(self) -> int:
        """How many bytes wait."""
        return self._end - self._at

    def peek_u16(self) -> int:
        """The next two bytes as an integer, big-endian, left where they are."""
        return self._view[self._at] << 8 | self._view[self._at + 1]

    def take(self, count: int) -> memoryview:
        """The next bytes, valid until more is received."""
        at = self._at
        self._at = at + count
        return self._view[at : at + count]

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """Take `data` in; a bytes object is used where it lies if nothing else waits."""
        if self._at == self._end and isinstance(data, bytes):
            self._view, self._at, self._end = memoryview(data), 0, len(data)
            return
        self._make_room(len(data))
        self._own[self._end : self._end + len(data)] = data
        self._end += len(data)

    def trust(self) -> None:
        """The peer has proven who it is: from now on there is a buffer of full size for it."""
        self._size = RECEIVE_BYTES

    def space(self) -> memoryview:
        """Room for at least 64 KiB more, 768 bytes until the peer is trusted; then call advance."""
        self._make_room(self._size // 4)
        return self._own[self._end :]

    def advance(self, count: int) -> None:
        """`count` bytes were written to the front of `space`; LocalProtocolError when there was not that much."""
        if self._view is not self._own or not 0 <= count <= len(self._own) - self._end:
            raise LocalProtocolError("more was received than there was space for")
        self._end += count

    def _make_room(self, count: int) -> None:
        """What is left, at the front of the own buffer, with room for `count` more bytes behind it."""
        rest = self._view[self._at : self._end]
        if self._view is self._own and len(self._own) - self._end >= count and (self._at == 0 or len(rest)):
            return
        own = self._own
        if len(own) < len(rest) + count:
            own = memoryview(bytearray(max(self._size, len(rest) + count)))
        own[: len(rest)] = rest
        self._own = self._view = own
        self._at, self._end = 0, len(rest)
