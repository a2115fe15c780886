"""From shares to plaintext: which ranges of which shares a read needs, and records opened in their order. Pure.

Shares 0 … k-1 are the ciphertext itself, so a read that finds them only strips records. A range of one share that is
not to be had is computed from the same range of any k others: hence the unit of fetching is the stripe, one range of
bytes wanted of one or more data shares. Ranges are whole leaves, as the Merkle proofs are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from lnstore_protocol.content import (
    RECORD_BYTES,
    SEALED_RECORD_BYTES,
    RecordOpener,
    ciphertext_bytes,
    record_count,
    record_range,
    record_span,
)
from lnstore_protocol.manifest import Manifest, SegmentShares
from lnstore_protocol.messages import LEAF_BYTES

FIRST_BYTES = (512 * 1024, 2 * 1024 * 1024)
"""A read begins with parts of its first segment that end so far into it: its first bytes wait for no more than that."""

OPEN_RECORDS = 16
"""Decrypted and written at once: small enough for the processor's cache."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Ciphertext bytes `start` to `end` (exclusive) of data share `number`, as the file's order needs them."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Stripe:
    """The bytes `start` to `end` (exclusive) of the data shares `wanted`."""

    start: int
    end: int
    wanted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """What a read takes from one segment, or from a part of it: pieces in order, and the stripes that cover them."""

    number: int
    segment: SegmentShares
    pieces: tuple[Piece, ...]
    stripes: tuple[Stripe, ...]


def plan_segment(number: int, segment: SegmentShares, start: int, end: int) -> SegmentPlan:  # F-R6
    """How to read the segment's ciphertext from `start` to `end` (exclusive, at least one byte)."""
    size = segment.share_bytes
    pieces = []
    wanted: dict[tuple[int, int], list[int]] = {}
    for share in range(start // size, (end - 1) // size + 1):
        piece = Piece(share, max(0, start - share * size), min(size, end - share * size))
        pieces.append(piece)
        leaves = (
            piece.start // LEAF_BYTES * LEAF_BYTES,
            min(size, -(-piece.end // LEAF_BYTES) * LEAF_BYTES),
        )
        wanted.setdefault(leaves, []).append(share)
    stripes = tuple(Stripe(*leaves, tuple(shares)) for leaves, shares in wanted.items())
    return SegmentPlan(number, segment, tuple(pieces), stripes)


def plan_read(manifest: Manifest, offset: int, length: int) -> list[SegmentPlan]:
    """How to read `length` plaintext bytes at `offset`; the whole of an empty file is its one empty record.

    ValueError when they do not lie in the file.
    """
    if not 0 <= offset <= offset + length <= manifest.file_bytes:
        raise ValueError(f"{length} bytes at {offset} do not lie in a file of {manifest.file_bytes}")
    if length:
        span = record_span(*record_range(offset, length), manifest.file_bytes)
    elif manifest.file_bytes:
        return []
    else:
        span = (0, ciphertext_bytes(0))
    plans: list[SegmentPlan] = []
    at = 0
    for number, segment in enumerate(manifest.segments):
        start, end = max(span[0] - at, 0), min(span[1] - at, segment.size_bytes)
        if start < end:
            ends = [*_first_ends(segment, start, end), end] if not plans else [end]
            for begin, stop in pairwise([start, *ends]):
                plans.append(plan_segment(number, segment, begin, stop))
        at += segment.size_bytes
    return plans


def _first_ends(segment: SegmentShares, start: int, end: int) -> list[int]:
    """Where to cut a read's first segment, if much of it is read: between leaves, and no later than its share ends."""
    if end - start <= FIRST_BYTES[-1]:
        return []
    share = start // segment.share_bytes * segment.share_bytes
    leaf = (start - share) // LEAF_BYTES * LEAF_BYTES
    ends = {share + min(leaf + count, segment.share_bytes) for count in FIRST_BYTES}
    return [at for at in sorted(ends) if at < end]


class PlaintextWriter:
    """Takes the ciphertext of a planned read in order and writes its plaintext. Blocking; one thread at a time."""

    def __init__(
        self, file_key: bytes, file_bytes: int, offset: int, length: int, write: Callable[[memoryview], None]
    ) -> None:
        first, last = record_range(offset, length) if length else (0, 0)
        self._opener = RecordOpener(file_key)
        self._write = write
        self._last_of_file = record_count(file_bytes) - 1
        self._last_bytes = ciphertext_bytes(file_bytes) - self._last_of_file * SEALED_RECORD_BYTES
        self._next = first
        self._end = last + 1
        self._skip = offset - first * RECORD_BYTES
        self._left = length
        self._record = memoryview(bytearray(SEALED_RECORD_BYTES))
        self._held = 0
        self._out = memoryview(bytearray(min(OPEN_RECORDS, last - first + 1) * RECORD_BYTES))
        self.written_bytes = 0

    @property
    def is_done(self) -> bool:
        """Whether every record of the read was opened."""
        return self._next == self._end

    def feed(self, ciphertext: memoryview) -> None:
        """The next ciphertext; RemoteProtocolError for a record that does not open, and what `write` raises."""
        while ciphertext:
            due = self._last_bytes if self._next == self._last_of_file else SEALED_RECORD_BYTES
            if self._held or len(ciphertext) < due:
                count = min(due - self._held, len(ciphertext))
                self._record[self._held : self._held + count] = ciphertext[:count]
                self._held += count
                ciphertext = ciphertext[count:]
                if self._held == due:
                    self._held = 0
                    self._open(self._record[:due], 1)
                continue
            whole = min(len(ciphertext) // SEALED_RECORD_BYTES, OPEN_RECORDS, max(1, self._last_of_file - self._next))
            size = whole * SEALED_RECORD_BYTES if due == SEALED_RECORD_BYTES else due
            self._open(ciphertext[:size], max(1, whole))
            ciphertext = ciphertext[size:]

    def _open(self, sealed: memoryview, records: int) -> None:
        last = self._next + records - 1 == self._last_of_file
        size = self._opener.open_into(sealed, self._out, first_record=self._next, last=last)
        self._next += records
        plain = self._out[self._skip : min(size, self._skip + self._left)]
        self._skip = 0
        self._left -= len(plain)
        self.written_bytes += len(plain)
        if plain:
            self._write(plain)
