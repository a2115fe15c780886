"""A file's manifest: which shares make it, encrypted in two parts, itself stored as a share (spec 04).

    blob   = deterministic CBOR {0: version 1, 2: verify box, 4: read box}
    verify = deterministic CBOR {0: k, 2: n, 4: [[ciphertext bytes, share bytes, n ids joined], …]}
    read   = deterministic CBOR {0: plaintext bytes, 1: kind}     without key 1 for a plain file
    box    = SIV (16) ‖ ciphertext ‖ tag (16)

The verify box opens with the verify key, the read box with a key derived from the file key. A box's SIV is the keyed
BLAKE3 of its plaintext, and the cipher's key is derived from the box key and the SIV, with a zero nonce. So equal
manifests give equal blobs (a repeated upload finds its manifest stored already), and two different manifests under one
file key, which deduplication with another k and n brings about, never share a key and nonce, as a fixed nonce alone
would have them do. The blob itself is named by its share id, which is in the capability: its parts can be neither
mixed nor replaced.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Any

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from lnstore_protocol import caps, cbor
from lnstore_protocol.content import ciphertext_bytes
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import MAX_SHARE_BYTES

VERSION = 1
MAX_TOTAL = 256
"""The most shares per segment: what the erasure code over GF(2^8) can number."""

MAX_MANIFEST_BYTES = MAX_SHARE_BYTES
"""A manifest is one share: at 3-of-5 and 12 MiB per segment that is some 280 GiB of content."""

MAX_SEGMENT_BYTES = 16 * 1024 * 1024
"""The most ciphertext that is encoded at once: what bounds a reader's memory, whatever a manifest says (F-R12)."""

PLAIN_FILE, TREE = 0, 1
"""What a file is: bytes of somebody's, or a folder's tree object (trees.py). A reader takes other kinds as bytes."""

_SIV_BYTES = 16
_TAG_BYTES = 16
_ZERO_NONCE = bytes(12)


@dataclass(frozen=True, slots=True)
class SegmentShares:
    """One segment: its ciphertext bytes, the bytes of each of its shares, and the n share ids by erasure number."""

    size_bytes: int
    share_bytes: int
    share_ids: tuple[ShareId, ...]


@dataclass(frozen=True, slots=True)
class VerifyPart:  # F-W3
    """What checking and repairing needs: any `needed` of the `total` shares of a segment give it back.

    ValueError when its numbers are out of range or contradict each other (F-R10, F-R12).
    """

    needed: int
    total: int
    segments: tuple[SegmentShares, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.needed <= self.total <= MAX_TOTAL:
            raise ValueError(f"{self.needed} of {self.total} is no erasure code (1 ≤ k ≤ n ≤ {MAX_TOTAL})")
        if not self.segments:
            raise ValueError("a manifest has at least one segment")
        for number, segment in enumerate(self.segments):
            if len(segment.share_ids) != self.total:
                raise ValueError(f"segment {number} has {len(segment.share_ids)} shares instead of {self.total}")
            if not 0 < segment.size_bytes <= MAX_SEGMENT_BYTES:
                raise ValueError(f"segment {number}: {segment.size_bytes} bytes, {MAX_SEGMENT_BYTES} are the most")
            if segment.share_bytes != -(-segment.size_bytes // self.needed):
                raise ValueError(f"segment {number}: shares of {segment.share_bytes} bytes are not those of its size")
            if segment.share_bytes > MAX_SHARE_BYTES:
                raise ValueError(f"segment {number}: a share of {segment.share_bytes} bytes")

    @property
    def size_bytes(self) -> int:
        """The ciphertext of the whole file."""
        return sum(segment.size_bytes for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Manifest:  # F-R11
    """A whole manifest; `file_bytes` is the plaintext's size. ValueError when its numbers contradict each other."""

    needed: int
    total: int
    file_bytes: int
    segments: tuple[SegmentShares, ...]
    kind: int = PLAIN_FILE

    def __post_init__(self) -> None:
        held = self.verify_part().size_bytes
        if self.file_bytes < 0 or ciphertext_bytes(self.file_bytes) != held:
            raise ValueError(f"segments of {held} bytes are not the ciphertext of {self.file_bytes} bytes")

    def verify_part(self) -> VerifyPart:
        """What the verify capability shows of it."""
        return VerifyPart(self.needed, self.total, self.segments)


def encode(manifest: Manifest, file_key: bytes) -> bytes:  # F-W6
    """The encrypted manifest, to be stored as a share; always the same for the same input.

    ValueError when it does not fit into a share: then the file must be stored in parts.
    """
    segments = [[s.size_bytes, s.share_bytes, b"".join(s.share_ids)] for s in manifest.segments]
    verify = {0: manifest.needed, 2: manifest.total, 4: segments}
    read = {0: manifest.file_bytes} | ({1: manifest.kind} if manifest.kind != PLAIN_FILE else {})
    blob = cbor.encode(
        {
            0: VERSION,
            2: _seal(caps.verify_key(file_key), verify),
            4: _seal(_read_key(file_key), read),
        }
    )
    if len(blob) > MAX_MANIFEST_BYTES:
        raise ValueError(
            f"the manifest of {len(manifest.segments)} segments has {len(blob)} bytes, {MAX_MANIFEST_BYTES} are the "
            "most: store the file in several parts, or with larger segments"
        )
    return blob


def decode_verify(blob: bytes, verify_key: bytes) -> VerifyPart:
    """The verify part; RemoteProtocolError when the blob is no manifest, or not under this key."""
    return _verify_part(_boxes(blob), verify_key)


def decode(blob: bytes, file_key: bytes) -> Manifest:
    """The whole manifest; RemoteProtocolError when the blob is no manifest, or not under this key."""
    boxes = _boxes(blob)
    part = _verify_part(boxes, caps.verify_key(file_key))
    read = _map(_open(_read_key(file_key), boxes[4]), {0: int})
    kind = read.get(1, PLAIN_FILE)
    if type(kind) is not int:
        raise RemoteProtocolError("manifest: key 1 is not int")
    try:
        return Manifest(part.needed, part.total, read[0], part.segments, kind)
    except ValueError as exc:
        raise RemoteProtocolError(f"manifest: {exc}") from exc


def _boxes(blob: bytes) -> dict[int, Any]:  # F-R8
    if len(blob) > MAX_MANIFEST_BYTES:
        raise RemoteProtocolError("a manifest larger than a share", ErrorCode.TOO_LARGE)
    boxes = _map(cbor.decode(bytes(blob), what="manifest"), {0: int, 2: bytes, 4: bytes})
    if boxes[0] != VERSION:
        raise RemoteProtocolError(f"a manifest of version {boxes[0]}", ErrorCode.UNSUPPORTED_VERSION)
    return boxes


def _verify_part(boxes: dict[int, Any], verify_key: bytes) -> VerifyPart:
    body = _map(_open(verify_key, boxes[2]), {0: int, 2: int, 4: list})
    try:
        segments = tuple(_segment(row) for row in body[4])
        return VerifyPart(body[0], body[2], segments)
    except ValueError as exc:
        raise RemoteProtocolError(f"manifest: {exc}") from exc


def _segment(row: Any) -> SegmentShares:
    match row:
        case [bool(), *_] | [_, bool(), *_]:
            raise ValueError("a segment's size is not an integer")
        case [int(size_bytes), int(share_bytes), bytes(ids)]:
            pieces = (ids[at : at + ShareId.SIZE] for at in range(0, len(ids), ShareId.SIZE))
            return SegmentShares(size_bytes, share_bytes, tuple(ShareId(piece) for piece in pieces))
        case _:
            raise ValueError("a segment is not [ciphertext bytes, share bytes, ids]")


def _map(value: Any, kinds: dict[int, type]) -> dict[int, Any]:
    """`value` with the required keys of `kinds`; unknown odd keys are passed over, unknown even ones refused."""
    body = cbor.as_map(value)
    if body is None:
        raise RemoteProtocolError("a part of the manifest is not a map")
    unknown = next((key for key in body if key not in kinds and key % 2 == 0), None)
    if unknown is not None:
        raise RemoteProtocolError(f"manifest: key {unknown} is not known and must be", ErrorCode.UNKNOWN_FEATURE)
    for key, kind in kinds.items():
        if type(body.get(key)) is not kind:
            raise RemoteProtocolError(f"manifest: key {key} is missing or not {kind.__name__}")
    return body


# --- boxes ------------------------------------------------------------------------------------------------------------


def _read_key(file_key: bytes) -> bytes:
    return blake3(file_key, derive_key_context="lnstore manifest read key v1").digest()


def _siv(box_key: bytes, plaintext: bytes) -> bytes:
    key = blake3(box_key, derive_key_context="lnstore manifest siv v1").digest()
    return blake3(plaintext, key=key).digest(_SIV_BYTES)


def _cipher(box_key: bytes, siv: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(blake3(box_key + siv, derive_key_context="lnstore manifest box v1").digest())


def _seal(box_key: bytes, body: dict[int, Any]) -> bytes:
    plaintext = cbor.encode(body)
    siv = _siv(box_key, plaintext)
    return siv + _cipher(box_key, siv).encrypt(_ZERO_NONCE, plaintext, None)


def _open(box_key: bytes, box: bytes) -> Any:  # F-R9
    if len(box) < _SIV_BYTES + _TAG_BYTES:
        raise RemoteProtocolError("a part of the manifest is too short")
    siv = box[:_SIV_BYTES]
    try:
        plaintext = _cipher(box_key, siv).decrypt(_ZERO_NONCE, box[_SIV_BYTES:], None)
    except InvalidTag as exc:
        raise RemoteProtocolError("the manifest does not open with this key") from exc
    if not hmac.compare_digest(_siv(box_key, plaintext), siv):  # S-R3
        raise RemoteProtocolError("the manifest's nonce is not the one of its content")
    return cbor.decode(plaintext, what="manifest")
