"""Bytes as text that a person may copy: bech32m (BIP-350) of one version symbol and the bytes (spec 04).

A text may be longer than the 90 characters of BIP-173, which bounds Bitcoin addresses, not the code: up to 1,023
characters every error in up to three characters is found, any other, and any in longer texts, with odds of 2^-30 to
pass. Source: BIP-173's reference code with BIP-350's constant.
"""

from __future__ import annotations

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_SYMBOL = {letter: value for value, letter in enumerate(_ALPHABET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_BECH32M = 0x2BC830A3
_CHECK_SYMBOLS = 6


def characters(count: int) -> int:
    """How many characters `count` bytes take, prefix not counted."""
    return 1 + 1 + -(-count * 8 // 5) + _CHECK_SYMBOLS


def encode(prefix: str, version: int, data: bytes) -> str:
    """The text of `data` under a prefix; `version` is in 0 … 31."""
    count = -(-len(data) * 8 // 5)
    number = int.from_bytes(data, "big") << (count * 5 - len(data) * 8)
    symbols = [version, *(number >> shift & 31 for shift in range((count - 1) * 5, -1, -5))]
    check = _polymod(_expand(prefix) + symbols + [0] * _CHECK_SYMBOLS) ^ _BECH32M
    symbols += [check >> shift & 31 for shift in range(25, -1, -5)]
    return f"{prefix}1" + "".join(_ALPHABET[symbol] for symbol in symbols)


def decode(
    text: str, prefixes: tuple[str, ...], *, what: str, version: int, characters: int | None = None
) -> tuple[str, bytes]:
    """The prefix and the bytes of a text (spaces around it are passed over), `characters` long if that is given.

    ValueError says what is wrong with this `what`, without repeating the text, which may be a secret.
    """
    text = text.strip()
    if text.lower() != text and text.upper() != text:
        raise ValueError(f"a {what} is written in small or in capital letters, not in both")
    prefix, separator, rest = text.lower().rpartition("1")
    if not separator or prefix not in prefixes:
        raise ValueError(f"a {what} begins with {' or '.join(f'{known}1' for known in prefixes)}")
    if characters is not None and len(text) != characters:
        raise ValueError(f"a {what} has {characters} characters, this one has {len(text)}")
    strange = next((letter for letter in rest if letter not in _SYMBOL), None)
    if strange is not None:
        raise ValueError(f"the character {strange!r} does not occur in a {what}")
    symbols = [_SYMBOL[letter] for letter in rest]
    if len(symbols) <= _CHECK_SYMBOLS or _polymod(_expand(prefix) + symbols) != _BECH32M:
        raise ValueError(f"a letter of the {what} is wrong (its checksum does not fit)")
    if symbols[0] != version:
        raise ValueError(f"this is a {what} of version {symbols[0]}; update to read it")
    return prefix, _to_bytes(symbols[1:-_CHECK_SYMBOLS], what)


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


def _to_bytes(symbols: list[int], what: str) -> bytes:
    number = 0
    for symbol in symbols:
        number = number << 5 | symbol
    count, padding = divmod(len(symbols) * 5, 8)
    if padding >= 5:
        raise ValueError(f"the {what} has a character too many")
    if number & ((1 << padding) - 1):
        raise ValueError(f"the {what}'s last bits are not zero")
    return (number >> padding).to_bytes(count, "big")
