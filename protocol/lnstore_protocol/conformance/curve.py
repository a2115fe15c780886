"""secp256k1 signatures of messages as Lightning daemons make them: signed, and recovered from, in 60 lines.

Slow, and not in constant time: it judges what others signed, and signs for stand-ins whose key is worth nothing.
Sources: SEC 2 (curve), SEC 1 section 4.1.6 (recovery), Core Lightning's signmessage (text and header byte).
"""

from __future__ import annotations

import hashlib

_P = 2**256 - 2**32 - 977
_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
_ZBASE32 = "ybndrfg8ejkmcpqxot1uwisza345h769"
_HEADER = 31
"""The first byte of a signmessage signature, less the recovery id: a compressed key's."""

_Point = tuple[int, int] | None


def _add(left: _Point, right: _Point) -> _Point:
    if left is None:
        return right
    if right is None:
        return left
    (x1, y1), (x2, y2) = left, right
    if x1 == x2 and (y1 + y2) % _P == 0:
        return None
    slope = 3 * x1 * x1 * pow(2 * y1, -1, _P) if left == right else (y2 - y1) * pow(x2 - x1, -1, _P)
    x3 = (slope * slope - x1 - x2) % _P
    return x3, (slope * (x1 - x3) - y1) % _P


def _times(factor: int, point: _Point) -> _Point:
    total: _Point = None
    while factor:
        if factor & 1:
            total = _add(total, point)
        point = _add(point, point)
        factor >>= 1
    return total


def _compressed(point: _Point) -> bytes:
    if point is None:
        raise ValueError("the point at infinity is no key")
    return bytes([2 + point[1] % 2]) + point[0].to_bytes(32, "big")


def public_key(secret: int) -> bytes:
    """The 33-byte compressed public key of a secret number."""
    return _compressed(_times(secret, _G))


def sign(secret: int, digest: bytes) -> bytes:
    """The signature r ‖ s ‖ recovery id, 65 bytes, of a 32-byte digest; the same each time."""
    k = int.from_bytes(hashlib.sha512(secret.to_bytes(32, "big") + digest).digest(), "big") % (_N - 1) + 1
    point = _times(k, _G)
    if point is None:
        raise ValueError("a key that can not sign")
    r = point[0] % _N
    s = pow(k, -1, _N) * (int.from_bytes(digest, "big") + r * secret) % _N
    recovery = point[1] % 2
    if s > _N // 2:
        s, recovery = _N - s, recovery ^ 1
    return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([recovery])


def recover(digest: bytes, signature: bytes) -> bytes:
    """The compressed public key that made r ‖ s ‖ recovery id; ValueError when none did."""
    if len(signature) != 65 or signature[64] > 3:
        raise ValueError("not a recoverable signature")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    x = r + (_N if signature[64] & 2 else 0)
    y = pow(x**3 + 7, (_P + 1) // 4, _P)
    if not (0 < r < _N and 0 < s < _N and x < _P) or y * y % _P != (x**3 + 7) % _P:
        raise ValueError("not a signature")
    point = (x, y if y % 2 == signature[64] & 1 else _P - y)
    inverse = pow(r, -1, _N)
    z = int.from_bytes(digest, "big")
    return _compressed(_add(_times(-z * inverse % _N, _G), _times(s * inverse % _N, point)))


def _message_digest(text: str) -> bytes:
    return hashlib.sha256(hashlib.sha256(b"Lightning Signed Message:" + text.encode()).digest()).digest()


def sign_message(secret: int, text: str) -> str:
    """What lightningd's signmessage gives as zbase."""
    signature = sign(secret, _message_digest(text))
    number = int.from_bytes(bytes([_HEADER + signature[64]]) + signature[:64], "big")
    return "".join(_ZBASE32[number >> shift & 31] for shift in range(515, -1, -5))


def message_signer(text: str, zbase: str) -> bytes:
    """The compressed public key that signed `text` so; ValueError when it is no such signature."""
    if len(zbase) != 104:
        raise ValueError("a signature has 104 characters")
    number = 0
    for character in zbase:
        number = number << 5 | _ZBASE32.index(character)
    raw = number.to_bytes(65, "big")
    if raw[0] < _HEADER:
        raise ValueError("not a compressed key's signature")
    return recover(_message_digest(text), raw[1:] + bytes([raw[0] - _HEADER]))
