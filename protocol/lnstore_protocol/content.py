"""A file's content: plaintext ↔ 64 KiB records, ChaCha20-Poly1305 in the STREAM construction (spec 04).

    record i = ChaCha20-Poly1305(content key, nonce = u88 i, big-endian ‖ last flag, up to 65536 bytes of plaintext)

The counter keeps records in their order, the flag (1 for the last record, else 0) shows a file that was cut short. Only
the last record may hold less than 64 KiB; it is empty only in an empty file, so each content has one ciphertext. The
content key is derived from the file key, which no two contents share, so no nonce is used twice under one key.

Source: Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance" (2015), as in age's payload.

Both directions work on many records per call, from and to buffers of the caller; the global lock is released while a
record is worked on, so several threads may use one sealer or opener.
"""

from __future__ import annotations

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.messages import Buffer

RECORD_BYTES = 64 * 1024
TAG_BYTES = 16
SEALED_RECORD_BYTES = RECORD_BYTES + TAG_BYTES
MAX_RECORDS = 1 << 40
"""64 PiB of plaintext; far below both the counter's and the cipher's bounds."""


def record_count(plaintext_bytes: int) -> int:
    """How many records a file has: at least one."""
    return max(1, -(-plaintext_bytes // RECORD_BYTES))


def ciphertext_bytes(plaintext_bytes: int) -> int:
    """How long the ciphertext of a file is."""
    return plaintext_bytes + record_count(plaintext_bytes) * TAG_BYTES


def record_range(offset: int, length: int) -> tuple[int, int]:
    """First and last record (inclusive) that hold `length` plaintext bytes at `offset`; ValueError for no bytes."""
    if offset < 0 or length <= 0:
        raise ValueError(f"{length} bytes at {offset} are no range")
    return offset // RECORD_BYTES, (offset + length - 1) // RECORD_BYTES


def record_span(first: int, last: int, plaintext_bytes: int) -> tuple[int, int]:
    """Start and end (exclusive) of the records `first` to `last` (inclusive) in the ciphertext of such a file."""
    return first * SEALED_RECORD_BYTES, min((last + 1) * SEALED_RECORD_BYTES, ciphertext_bytes(plaintext_bytes))


class RecordSealer:
    """Encrypts the records of one file. Shows no key."""

    __slots__ = ("_aead",)

    def __init__(self, file_key: bytes) -> None:
        self._aead = ChaCha20Poly1305(_content_key(file_key))

    def seal_into(self, plaintext: Buffer, out: memoryview, *, first_record: int, last: bool) -> int:  # F-W2
        """Encrypt records from number `first_record` on into the front of `out`; the bytes written.

        `plaintext` is whole records, or with `last` the rest of the file. ValueError for anything else, or when `out`
        is too small.
        """
        source = memoryview(plaintext)
        records = _records(len(source), RECORD_BYTES, 0, first_record, last=last)
        size = len(source) + records * TAG_BYTES
        _check_room(out, size)
        seal = self._aead.encrypt_into
        for i in range(records):
            piece = source[i * RECORD_BYTES : (i + 1) * RECORD_BYTES]
            at = i * SEALED_RECORD_BYTES
            nonce = _nonce(first_record + i, last=last and i == records - 1)
            seal(nonce, piece, None, out[at : at + len(piece) + TAG_BYTES])
        return size


class RecordOpener:
    """Decrypts the records of one file. Shows no key."""

    __slots__ = ("_aead",)

    def __init__(self, file_key: bytes) -> None:
        self._aead = ChaCha20Poly1305(_content_key(file_key))

    # F-R1, F-R2, F-R3
    def open_into(self, ciphertext: Buffer, out: memoryview, *, first_record: int, last: bool) -> int:
        """Decrypt records from number `first_record` on into the front of `out`; the bytes written.

        `ciphertext` is whole sealed records, or with `last` the rest of the file. RemoteProtocolError when a record
        is damaged, of another file, in another place, or wrongly (not) the last; ValueError for sizes that fit no
        records, or when `out` is too small.
        """
        source = memoryview(ciphertext)
        records = _records(len(source), SEALED_RECORD_BYTES, TAG_BYTES, first_record, last=last)
        size = len(source) - records * TAG_BYTES
        _check_room(out, size)
        unseal = self._aead.decrypt_into
        for i in range(records):
            piece = source[i * SEALED_RECORD_BYTES : (i + 1) * SEALED_RECORD_BYTES]
            at = i * RECORD_BYTES
            nonce = _nonce(first_record + i, last=last and i == records - 1)
            try:
                unseal(nonce, piece, None, out[at : at + len(piece) - TAG_BYTES])
            except InvalidTag as exc:
                raise RemoteProtocolError(f"record {first_record + i} does not open with this file key") from exc
        return size


def _content_key(file_key: bytes) -> bytes:
    if len(file_key) != 32:
        raise ValueError("a file key has 32 bytes")
    return blake3(file_key, derive_key_context="lnstore content v1").digest()


def _nonce(record: int, *, last: bool) -> bytes:
    return (record << 8 | last).to_bytes(12, "big")


def _records(size: int, unit: int, overhead: int, first_record: int, *, last: bool) -> int:
    """How many records `size` bytes are, each `unit` long, of which `overhead` is no plaintext; ValueError if none."""
    full, rest = divmod(size, unit)
    short = rest - overhead  # plaintext bytes of a last record that is not full
    if last and (rest or not full):
        if short < 0 or (short == 0 and (full or first_record)):
            raise ValueError(f"{size} bytes from record {first_record} on are not the end of a file")
        full += 1
    elif rest:
        raise ValueError(f"{size} bytes are not whole records of {unit}")
    if first_record < 0 or first_record + full > MAX_RECORDS:
        raise ValueError(f"record {first_record + full} is out of range")
    return full


def _check_room(out: memoryview, size: int) -> None:
    if len(out) < size:
        raise ValueError(f"{size} bytes do not fit into {len(out)}")
