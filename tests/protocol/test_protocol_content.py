"""The content cipher: any file in any pieces gives the one ciphertext; nothing can be moved, cut or swapped."""

from __future__ import annotations

from itertools import pairwise

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from lnstore_protocol.content import (
    RECORD_BYTES,
    SEALED_RECORD_BYTES,
    RecordOpener,
    RecordSealer,
    ciphertext_bytes,
    record_count,
    record_range,
    record_span,
)
from lnstore_protocol.errors import RemoteProtocolError

KEY = b"\x4d" * 32
PLAIN = bytes(range(256)) * (5 * 256)  # five records
sizes = st.one_of(
    st.integers(0, 5 * RECORD_BYTES),
    st.sampled_from([0, 1, RECORD_BYTES - 1, RECORD_BYTES, RECORD_BYTES + 1, 3 * RECORD_BYTES]),
)


def seal(plaintext: bytes, first_record: int = 0, *, last: bool = True, key: bytes = KEY) -> bytes:
    out = memoryview(bytearray(len(plaintext) + (len(plaintext) // RECORD_BYTES + 1) * 16))
    return bytes(out[: RecordSealer(key).seal_into(plaintext, out, first_record=first_record, last=last)])


def unseal(ciphertext: bytes, first_record: int = 0, *, last: bool = True, key: bytes = KEY) -> bytes:
    out = memoryview(bytearray(len(ciphertext)))
    return bytes(out[: RecordOpener(key).open_into(ciphertext, out, first_record=first_record, last=last)])


@given(sizes)
def test_the_round_trip(size: int) -> None:
    """Of every size; the ciphertext is as long as foretold."""
    sealed = seal(PLAIN[:size])
    assert len(sealed) == ciphertext_bytes(size)
    assert unseal(sealed) == PLAIN[:size]


def test_records_are_what_the_head_of_the_file_says() -> None:  # F-W2
    """The construction written out once more: two full records and one byte."""
    aead = ChaCha20Poly1305(blake3(KEY, derive_key_context="lnstore content v1").digest())
    plain = PLAIN[: 2 * RECORD_BYTES + 1]
    expected = b"".join(
        aead.encrypt(i.to_bytes(11, "big") + bytes([i == 2]), plain[i * RECORD_BYTES : (i + 1) * RECORD_BYTES], None)
        for i in range(3)
    )
    assert seal(plain) == expected


@given(st.integers(1, 5 * RECORD_BYTES), st.data())
def test_pieces_of_whole_records_give_the_same(size: int, data: st.DataObject) -> None:
    """Sealed and opened piece by piece, into one reused buffer."""
    plain, whole = PLAIN[:size], seal(PLAIN[:size])
    records = record_count(size)
    cuts = [0, *sorted(data.draw(st.sets(st.integers(1, records), max_size=3)) - {records}), records]
    sealed = opened = b""
    for a, b in pairwise(cuts):
        piece = plain[a * RECORD_BYTES : b * RECORD_BYTES]
        sealed += seal(piece, a, last=b == records)
        start, end = record_span(a, b - 1, size)
        opened += unseal(whole[start:end], a, last=b == records)
    assert sealed == whole
    assert opened == plain


@given(st.integers(1, 5 * RECORD_BYTES), st.data())
def test_a_range_needs_only_its_records(size: int, data: st.DataObject) -> None:
    """record_range and record_span lead from plaintext bytes to the ciphertext that holds them."""
    offset = data.draw(st.integers(0, size - 1))
    length = data.draw(st.integers(1, size - offset))
    first, last = record_range(offset, length)
    start, end = record_span(first, last, size)
    opened = unseal(seal(PLAIN[:size])[start:end], first, last=last == record_count(size) - 1)
    skip = offset - first * RECORD_BYTES
    assert opened[skip : skip + length] == PLAIN[offset : offset + length]


@pytest.mark.parametrize(("offset", "length"), [(0, 0), (-1, 5), (5, -1)])
def test_no_bytes_are_no_range(offset: int, length: int) -> None:
    """An empty range has no records."""
    with pytest.raises(ValueError, match="no range"):
        record_range(offset, length)


def test_an_empty_file_has_one_empty_record() -> None:  # F-R3
    """So that its end, too, is authenticated."""
    assert len(seal(b"")) == 16 == ciphertext_bytes(0)
    assert unseal(seal(b"")) == b""


def not_opened(ciphertext: bytes, first_record: int = 0, *, last: bool = True, key: bytes = KEY) -> None:
    with pytest.raises(RemoteProtocolError, match="does not open"):
        unseal(ciphertext, first_record, last=last, key=key)


def test_nothing_can_be_moved_cut_or_swapped() -> None:  # F-R1, F-R2
    """Order, end and key are all authenticated."""
    whole = seal(PLAIN)
    one, two = whole[:SEALED_RECORD_BYTES], whole[SEALED_RECORD_BYTES : 2 * SEALED_RECORD_BYTES]
    not_opened(two + one, last=False)
    not_opened(whole[: 2 * SEALED_RECORD_BYTES])
    not_opened(whole, last=False)
    not_opened(two, 0, last=False)
    not_opened(whole, 1)
    not_opened(whole, key=b"\0" * 32)
    not_opened(seal(PLAIN[:100])[:-1])


@given(st.data())
def test_no_changed_bit_passes(data: st.DataObject) -> None:
    """Anywhere in the ciphertext."""
    sealed = bytearray(seal(PLAIN[: RECORD_BYTES + 50]))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    not_opened(bytes(sealed))


@pytest.mark.parametrize(
    ("size", "first_record", "last"),
    [(1, 0, False), (RECORD_BYTES + 1, 0, False), (0, 1, True), (0, -1, True), (RECORD_BYTES, 1 << 40, False)],
)
def test_what_is_not_whole_records_cannot_be_sealed(size: int, first_record: int, last: bool) -> None:
    """Only the file's end may be shorter, and it is empty only in an empty file."""
    with pytest.raises(ValueError, match=r"record"):
        seal(bytes(size), first_record, last=last)


@pytest.mark.parametrize(
    ("size", "first_record", "last"),
    [
        (0, 0, True),
        (15, 0, True),
        (16, 1, True),
        (SEALED_RECORD_BYTES + 16, 0, True),
        (SEALED_RECORD_BYTES + 15, 0, True),
        (SEALED_RECORD_BYTES - 1, 0, False),
    ],
)
def test_what_is_not_whole_records_cannot_be_opened(size: int, first_record: int, last: bool) -> None:
    """The same, as the reader sees it: sizes that no sealer makes."""
    with pytest.raises(ValueError, match=r"record"):
        unseal(bytes(size), first_record, last=last)


def test_the_buffer_must_be_large_enough() -> None:
    """Checked before anything is written."""
    out = bytearray(RECORD_BYTES + 15)
    with pytest.raises(ValueError, match="do not fit"):
        RecordSealer(KEY).seal_into(PLAIN[:RECORD_BYTES], memoryview(out), first_record=0, last=True)
    assert not any(out)
    with pytest.raises(ValueError, match="do not fit"):
        RecordOpener(KEY).open_into(seal(PLAIN), memoryview(out), first_record=0, last=True)
    assert not any(out)


def test_no_records_are_no_work() -> None:
    """A piece without bytes in the middle of a file is allowed and empty."""
    assert seal(b"", 3, last=False) == b""
    assert unseal(b"", 3, last=False) == b""


@pytest.mark.parametrize("kind", [RecordSealer, RecordOpener])
def test_keys_have_32_bytes_and_are_not_shown(kind: type[RecordSealer | RecordOpener]) -> None:
    """Neither is the key derived from it."""
    with pytest.raises(ValueError, match="32 bytes"):
        kind(bytes(31))
    assert "4d4d" not in repr(kind(KEY))
    assert "MMMM" not in repr(kind(KEY))
