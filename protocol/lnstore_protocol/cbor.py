"""Deterministic CBOR (RFC 8949 §4.2) for everything that is signed or hashed.

Only maps with unsigned integer keys, arrays, byte strings, text, unsigned integers, booleans and null; nesting at most
MAX_DEPTH, and a decoder that refuses any other encoding of the same value. With integer keys cbor2's canonical order
is the bytewise order of the RFC.
"""

from __future__ import annotations

from typing import Any

import cbor2

from lnstore_protocol.errors import RemoteProtocolError

MAX_DEPTH = 4


def encode(value: Any) -> bytes:
    """The one deterministic encoding of `value`."""
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, *, what: str) -> Any:
    """The value in `data`; RemoteProtocolError unless it is its one deterministic encoding. `what` names it."""
    try:
        value = cbor2.loads(data, max_depth=MAX_DEPTH + 1)
        _check(value, MAX_DEPTH)
        again = encode(value)
    except RemoteProtocolError as exc:
        raise RemoteProtocolError(f"{what}: {exc}") from None
    except Exception as exc:  # cbor2 lets many kinds escape on hostile bytes; all mean the same here
        raise RemoteProtocolError(f"{what} is not valid CBOR") from exc
    if again != bytes(data):
        raise RemoteProtocolError(f"{what} is not in deterministic encoding")
    return value


def _check(value: Any, depth: int) -> None:
    if depth == 0 and isinstance(value, list | dict):
        raise RemoteProtocolError("nested too deeply")
    match value:
        case bool() | None | bytes() | str():
            return
        case int():
            if not 0 <= value < 1 << 63:
                raise RemoteProtocolError("an integer is out of range")
        case list():
            for item in value:
                _check(item, depth - 1)
        case dict():
            for key, item in value.items():
                if isinstance(key, bool) or not isinstance(key, int) or key < 0:
                    raise RemoteProtocolError("a map key is not an unsigned integer")
                _check(item, depth - 1)
        case _:
            raise RemoteProtocolError(f"holds a {type(value).__name__}")
