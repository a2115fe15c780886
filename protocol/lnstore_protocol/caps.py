"""Capabilities: the strings that read (`lnsr1…`) or only verify (`lnsv1…`) a file (spec 04).

Text form: bech32m of one version symbol, 0, and 64 bytes (the 32-byte key, the 32-byte manifest id), 115 characters.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from blake3 import blake3

from lnstore_protocol import bech32m
from lnstore_protocol.ids import ShareId

READ_PREFIX = "lnsr"
VERIFY_PREFIX = "lnsv"
VERSION = 0
KEY_BYTES = 32
CAP_CHARACTERS = len(READ_PREFIX) + bech32m.characters(KEY_BYTES + ShareId.SIZE)


@dataclass(frozen=True, slots=True)
class ReadCap:
    """What reads a file: its key and where its manifest is. Whoever has the text can read. ValueError for a bad key."""

    file_key: bytes = field(repr=False)
    manifest_id: ShareId

    def __post_init__(self) -> None:
        _check_key(self.file_key)

    def verify_cap(self) -> VerifyCap:
        """The capability that checks and repairs the file, but reads nothing."""
        return VerifyCap(verify_key(self.file_key), self.manifest_id)

    def to_text(self) -> str:
        """The capability as text: a secret."""
        return bech32m.encode(READ_PREFIX, VERSION, self.file_key + self.manifest_id)  # F-W8


@dataclass(frozen=True, slots=True)
class VerifyCap:
    """What checks and repairs a file without reading it. ValueError for a bad key."""

    verify_key: bytes = field(repr=False)
    manifest_id: ShareId

    def __post_init__(self) -> None:
        _check_key(self.verify_key)

    def to_text(self) -> str:
        """The capability as text: a secret, though a lesser one."""
        return bech32m.encode(VERIFY_PREFIX, VERSION, self.verify_key + self.manifest_id)


def verify_key(file_key: bytes) -> bytes:
    """The 32-byte key of the manifest's verify part; it leads nowhere back."""
    _check_key(file_key)
    return blake3(file_key, derive_key_context="lnstore verify key v1").digest()


def parse_cap(text: str) -> ReadCap | VerifyCap:  # F-R13, F-R14, F-R15, F-R16
    """The capability in `text` (spaces around it are passed over); ValueError says what is wrong, without the text."""
    prefix, data = bech32m.decode(text, tuple(_KINDS), what="capability", version=VERSION, characters=CAP_CHARACTERS)
    return _KINDS[prefix](data[:KEY_BYTES], ShareId(data[KEY_BYTES:]))


_KINDS: dict[str, type[ReadCap | VerifyCap]] = {READ_PREFIX: ReadCap, VERIFY_PREFIX: VerifyCap}


def _check_key(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise ValueError(f"a capability's key has {KEY_BYTES} bytes")
