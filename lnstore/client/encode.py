"""From plaintext to shares in one pass: read, encrypt, cut into segments, code, hash, make tokens. Blocking.

Two steps per segment, both meant for worker threads. `fill` reads and encrypts and must be called for one segment after
the other; `code` does the rest and may run for several segments at once. Memory is one SegmentBuffer per segment under
way, used again and again, and two read buffers; plaintext is read a little ahead because the last record is marked.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from dataclasses import dataclass, field

from lnstore.client.erasure import ErasureCode
from lnstore.client.segments import SegmentSize, segment_size
from lnstore.client.source import Source
from lnstore_protocol import merkle, proofs
from lnstore_protocol.content import RECORD_BYTES, SEALED_RECORD_BYTES, RecordSealer, record_count
from lnstore_protocol.ids import NodeId, ShareId

READ_BYTES = 16 * RECORD_BYTES
"""Read and encrypted at once: small enough for the processor's cache."""


OWN_PAGES_BYTES = 4 * 1024 * 1024
"""From here on a buffer has pages of its own."""


class SegmentBuffer:
    """Memory for the n shares of a segment, side by side, data first. With k = 1 the one share stands for all."""

    def __init__(self, needed: int, total: int, share_bytes: int) -> None:
        self.needed = needed
        self.total = total
        self._memory = _memory(share_bytes * (total if needed > 1 else 1))
        self.segment = self._memory[: needed * share_bytes]

    def shares(self, share_bytes: int) -> list[memoryview]:
        """Views of the n shares."""
        if self.needed == 1:
            return [self._memory[:share_bytes]] * self.total
        return [self._memory[at : at + share_bytes] for at in range(0, self.total * share_bytes, share_bytes)]


def _memory(count: int) -> memoryview:
    """So many bytes; much of it goes back to the system as soon as nobody uses it, and does not stay beside others."""
    if count < OWN_PAGES_BYTES:
        return memoryview(bytearray(count))
    pages = mmap.mmap(-1, count)
    with suppress(OSError, AttributeError):  # large pages cost less to get; Linux has them, if it was built with them
        pages.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(pages)


@dataclass(frozen=True, slots=True)
class FilledSegment:
    """A segment whose ciphertext is in its buffer. `plain_bytes` is how much plaintext was encrypted for it."""

    number: int
    size: SegmentSize
    plain_bytes: int
    buffer: SegmentBuffer = field(repr=False)


@dataclass(frozen=True, slots=True)
class CodedSegment:
    """A segment ready to be sent: shares by number, and their ids."""

    number: int
    size: SegmentSize
    shares: tuple[memoryview, ...] = field(repr=False)
    share_ids: tuple[ShareId, ...]


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """What storage tokens are made with. Prints no secret."""

    audit_key: bytes = field(repr=False)
    token_key: bytes = field(repr=False)

    @classmethod
    def of(cls, account_secret: bytes) -> TokenKeys:
        """The keys of an account."""
        return cls(proofs.audit_key(account_secret), proofs.token_key(account_secret))

    def tokens(self, share: memoryview, share_id: ShareId, node_id: NodeId, start: int) -> bytes:  # MB-W1
        """The tokens of one share at one node, for the rent indices from `start` on."""
        return proofs.make_tokens(share, share_id, self.audit_key, self.token_key, node_id, start)


class SegmentFiller:
    """Reads a source to its end and fills one segment buffer after the other with its ciphertext."""

    def __init__(self, source: Source, file_key: bytes) -> None:
        self._source = source
        self._sealer = RecordSealer(file_key)
        # Whole records; one byte more than a small file has, so that its end shows with the first read.
        chunk = READ_BYTES if source.size is None else min(READ_BYTES, record_count(source.size + 1) * RECORD_BYTES)
        self._chunk = memoryview(bytearray(chunk))
        self._spare = memoryview(bytearray(chunk))
        self._record = memoryview(bytearray(SEALED_RECORD_BYTES))
        self._plain = self._ahead = self._rest = self._chunk[:0]
        self._next_record = 0
        self._segments = 0
        self._sealed_last = False
        self._started = False
        self.plain_bytes = 0
        """Plaintext encrypted so far; the file's size once all is done."""

    @property
    def is_done(self) -> bool:
        """Whether the last segment has been filled."""
        return self._sealed_last and not self._rest

    def fill(self, buffer: SegmentBuffer) -> FilledSegment:
        """The next segment; SourceError. Not to be called any more once is_done."""
        if not self._started:
            self._started = True
            self._read_ahead()
            self._next_chunk()
        before = self.plain_bytes
        size = segment_size(self._fill(buffer.segment), buffer.needed)
        buffer.segment[size.size_bytes : size.share_bytes * buffer.needed] = bytes(
            size.share_bytes * buffer.needed - size.size_bytes
        )
        number = self._segments
        self._segments += 1
        return FilledSegment(number, size, self.plain_bytes - before, buffer)

    def _fill(self, out: memoryview) -> int:
        at = self._take_rest(out)
        while at < len(out) and not self._sealed_last:
            if not self._plain and self._ahead:
                self._next_chunk()
            room = (len(out) - at) // SEALED_RECORD_BYTES
            if room:
                at += self._seal(room, out[at:])
            else:  # a record that this segment and the next one share
                self._rest = self._record[: self._seal(1, self._record)]
                at += self._take_rest(out[at:])
        return at

    def _seal(self, records: int, out: memoryview) -> int:
        piece = self._plain[: records * RECORD_BYTES]
        self._plain = self._plain[len(piece) :]
        last = not self._plain and not self._ahead
        size = self._sealer.seal_into(piece, out, first_record=self._next_record, last=last)
        self._next_record += -(-len(piece) // RECORD_BYTES)
        self._sealed_last = last
        self.plain_bytes += len(piece)
        return size

    def _take_rest(self, out: memoryview) -> int:
        count = min(len(self._rest), len(out))
        out[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _next_chunk(self) -> None:
        self._plain = self._ahead
        self._read_ahead()

    def _read_ahead(self) -> None:
        self._chunk, self._spare = self._spare, self._chunk
        self._ahead = self._chunk[: self._source.fill(self._chunk)]


def code_segment(filled: FilledSegment, code: ErasureCode) -> CodedSegment:  # P-W6
    """Compute a segment's parity shares and all share ids."""
    shares = filled.buffer.shares(filled.size.share_bytes)
    if code.needed == 1:
        share_ids = (merkle.share_id(shares[0]),) * code.total
    else:
        code.encode(shares[: code.needed], shares[code.needed :])
        share_ids = tuple(merkle.share_id(share) for share in shares)
    return CodedSegment(filled.number, filled.size, tuple(shares), share_ids)
