"""Capabilities: the strings that read (`lnsr1…`) or only verify (`lnsv1…`) a file (spec 04).

Text form: bech32m (BIP-350) of one version symbol, 0, and 64 bytes (the 32-byte key, the 32-byte manifest id). At 115
characters it is longer than the 90 of BIP-173, which bounds Bitcoin addresses, not the code: up to 1,023 characters
every error in up to three characters is found, any other with odds of 2^-30 to pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from blake3 import blake3

from lnstore_protocol.ids import ShareId

READ_PREFIX = "lnsr"
VERIFY_PREFIX = "lnsv"
VERSION = 0
KEY_BYTES = 32
_DATA_BYTES = KEY_BYTES + ShareId.SIZE
_DATA_SYMBOLS = -(-_DATA_BYTES * 8 // 5)
CAP_CHARACTERS = len(READ_PREFIX) + 1 + 1 + _DATA_SYMBOLS + 6


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
        return _to_text(READ_PREFIX, self.file_key, self.manifest_id)


@dataclass(frozen=True, slots=True)
class VerifyCap:
    """What checks and repairs a file without reading it. ValueError for a bad key."""

    verify_key: bytes = field(repr=False)
    manifest_id: ShareId

    def __post_init__(self) -> None:
        _check_key(self.verify_key)

    def to_text(self) -> str:
        """The capability as text: a secret, though a lesser one."""
        return _to_text(VERIFY_PREFIX, self.verify_key, self.manifest_id)


def verify_key(file_key: bytes) -> bytes:
    """The 32-byte key of the manifest's verify part; it leads nowhere back."""
    _check_key(file_key)
    return blake3(file_key, derive_key_context="lnstore verify key v1").digest()


def parse_cap(text: str) -> ReadCap | VerifyCap:  # F-R13, F-R14, F-R15, F-R16
    """The capability in `text` (spaces around it are passed over); ValueError says what is wrong, without the text."""
    text = text.strip()
    if text.lower() != text and text.upper() != text:
        raise ValueError("a capability is written in small or in capital letters, not in both")
    prefix, separator, rest = text.lower().rpartition("1")
    kind = _KINDS.get(prefix)
    if not separator or kind is None:
        raise ValueError(f"a capability begins with {READ_PREFIX}1 or {VERIFY_PREFIX}1")
    if len(text) != CAP_CHARACTERS:
        raise ValueError(f"a capability has {CAP_CHARACTERS} characters, this one has {len(text)}")
    strange = next((letter for letter in rest if letter not in _SYMBOL), None)
    if strange is not None:
        raise ValueError(f"the character {strange!r} does not occur in capabilities")
    symbols = [_SYMBOL[letter] for letter in rest]
    if _polymod(_expand(prefix) + symbols) != _BECH32M:
        raise ValueError("a letter of the capability is wrong (its checksum does not fit)")
    if symbols[0] != VERSION:
        raise ValueError(f"this is a capability of version {symbols[0]}; update to read it")
    data = _to_bytes(symbols[1:-6])
    return kind(data[:KEY_BYTES], ShareId(data[KEY_BYTES:]))


_KINDS: dict[str, type[ReadCap | VerifyCap]] = {READ_PREFIX: ReadCap, VERIFY_PREFIX: VerifyCap}


def _check_key(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise ValueError(f"a capability's key has {KEY_BYTES} bytes")


# --- bech32m, after BIP-173's reference code with BIP-350's constant --------------------------------------------------

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_SYMBOL = {letter: value for value, letter in enumerate(_ALPHABET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32M = 0x2BC830A3


def _polymod(symbols: list[int]) -> int:
    check = 1
    for symbol in symbols:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ symbol
        for i, value in enumerate(_GENERATOR):
            if top >> i & 1:
                check ^= value
    return check


def _expand(prefix: str) -> list[int]:
    return [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]


def _to_text(prefix: str, key: bytes, manifest_id: ShareId) -> str:  # F-W8
    data = int.from_bytes(key + manifest_id, "big") << (_DATA_SYMBOLS * 5 - _DATA_BYTES * 8)
    symbols = [VERSION, *(data >> shift & 31 for shift in range((_DATA_SYMBOLS - 1) * 5, -1, -5))]
    check = _polymod(_expand(prefix) + symbols + [0] * 6) ^ _BECH32M
    symbols += [check >> shift & 31 for shift in range(25, -1, -5)]
    return f"{prefix}1" + "".join(_ALPHABET[symbol] for symbol in symbols)


def _to_bytes(symbols: list[int]) -> bytes:
    number = 0
    for symbol in symbols:
        number = number << 5 | symbol
    padding = _DATA_SYMBOLS * 5 - _DATA_BYTES * 8
    if number & ((1 << padding) - 1):
        raise ValueError("the capability's last bits are not zero")
    return (number >> padding).to_bytes(_DATA_BYTES, "big")
