"""What a BOLT11 invoice asks for, read from its text: enough to judge it without a Lightning daemon."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from lnstore_protocol.conformance.curve import recover

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_PREFIX = re.compile(r"ln([a-z]+?)(?:([1-9][0-9]*)([munp]?))?")
_MSAT_PER_BITCOIN = 10**11
_DIVISORS = {"": 1, "m": 10**3, "u": 10**6, "n": 10**9, "p": 10**12}
_SIGNATURE_SYMBOLS = 104
_TIME_SYMBOLS = 7
_DEFAULT_EXPIRY_SECONDS = 3600

NETWORKS = {"bitcoin": "bc", "testnet": "tb", "testnet4": "tb", "signet": "tbs", "regtest": "bcrt"}
"""Prefix by Core Lightning's name of the chain."""


@dataclass(frozen=True, slots=True)
class Invoice:
    """A decoded invoice whose signature is its payee's. `amount_msat` is None when the payer chooses."""

    prefix: str
    amount_msat: int | None
    created_at: int
    expiry_seconds: int
    payment_hash: bytes
    description: str
    payee: bytes


def decode(text: str) -> Invoice:
    """The invoice; ValueError says what is wrong with it."""
    prefix, symbols = _bech32(text)
    match = _PREFIX.fullmatch(prefix)
    if match is None or len(symbols) < _TIME_SYMBOLS + _SIGNATURE_SYMBOLS:
        raise ValueError("not a BOLT11 invoice")
    data, signature = symbols[:-_SIGNATURE_SYMBOLS], _bytes(symbols[-_SIGNATURE_SYMBOLS:])
    digest = hashlib.sha256(prefix.encode() + _bytes(data, padded=True)).digest()
    fields = _fields(data[_TIME_SYMBOLS:])
    if "p" not in fields:
        raise ValueError("an invoice without a payment hash")
    return Invoice(
        prefix=match[1],
        amount_msat=_amount(match[2], match[3]),
        created_at=_number(data[:_TIME_SYMBOLS]),
        expiry_seconds=_number(fields["x"]) if "x" in fields else _DEFAULT_EXPIRY_SECONDS,
        payment_hash=_bytes(fields["p"]),
        description=_bytes(fields.get("d", [])).decode(errors="replace"),
        payee=recover(digest, signature),
    )


def _amount(digits: str | None, unit: str) -> int | None:
    if digits is None:
        return None
    amount, rest = divmod(int(digits) * _MSAT_PER_BITCOIN, _DIVISORS[unit])
    if rest:
        raise ValueError("an amount finer than a millisatoshi")
    return amount


def _fields(symbols: list[int]) -> dict[str, list[int]]:
    fields: dict[str, list[int]] = {}
    at = 0
    while at + 3 <= len(symbols):
        length = symbols[at + 1] * 32 + symbols[at + 2]
        fields.setdefault(_ALPHABET[symbols[at]], symbols[at + 3 : at + 3 + length])
        at += 3 + length
    if at != len(symbols):
        raise ValueError("an invoice's fields do not fill it")
    return fields


def _bech32(text: str) -> tuple[str, list[int]]:
    if text not in (text.lower(), text.upper()):
        raise ValueError("mixed case")
    prefix, separator, rest = text.lower().rpartition("1")
    symbols = [_ALPHABET.find(character) for character in rest]
    if not separator or min(symbols, default=-1) < 0:
        raise ValueError("not bech32")
    checksum = 1
    for value in [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix] + symbols:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            checksum ^= generator if top >> bit & 1 else 0
    if checksum != 1:
        raise ValueError("the checksum does not fit")
    return prefix, symbols[:-6]


def _number(symbols: list[int]) -> int:
    number = 0
    for symbol in symbols:
        number = number << 5 | symbol
    return number


def _bytes(symbols: list[int], *, padded: bool = False) -> bytes:
    """The whole bytes in the symbols, or (`padded`) all their bits, filled up with zeros."""
    bits = len(symbols) * 5
    number = _number(symbols)
    rest = bits % 8
    if padded and rest:
        return (number << 8 - rest).to_bytes(bits // 8 + 1, "big")
    return (number >> rest).to_bytes(bits // 8, "big")
