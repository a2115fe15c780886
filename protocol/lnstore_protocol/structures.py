"""The form of everything that is signed: deterministic CBOR maps with integer keys (spec 00, 05).

A signature is Ed25519 over the encoding of the map without its signatures. Even keys are required, odd ones optional:
an unknown even key is refused, an unknown odd one is passed over, yet covered by the signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lnstore_protocol import cbor
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError

SIGNATURE = 64
NODE_SIGNATURE = 66

Table = Mapping[int, tuple[str, type[Any]]]
"""Field name and type of each key of a structure. A field with an odd key is optional and has a default."""


def to_map(value: Any, table: Table) -> dict[int, Any]:
    """The fields of `value` under their keys, ready to be encoded and signed; optional ones that are 0 are left out."""
    plain = {bytes: bytes, int: int, str: str}
    body: dict[int, Any] = {}
    for key, (name, kind) in table.items():
        held = getattr(value, name)
        if key % 2 and held in (None, ""):
            continue
        base = next(b for b in plain if issubclass(kind, b))
        body[key] = base(held)
    return body


def read_map(  # R-R1
    encoded: bytes, what: str, *, signatures: tuple[int, ...], optional: tuple[int, ...] = ()
) -> dict[int, Any]:
    """The map in `encoded`, with its signatures in place but not verified; `what` names it in errors."""
    body = cbor.as_map(cbor.decode(encoded, what=what))
    if body is None:
        raise RemoteProtocolError(f"{what} is not a map")
    for key in (*signatures, *(k for k in optional if k in body)):
        if not isinstance(body.get(key), bytes):
            raise RemoteProtocolError(f"{what}: signature {key} is missing", ErrorCode.BAD_SIGNATURE)
    return body


def from_map(body: dict[int, Any], table: Table, what: str) -> dict[str, Any]:  # C-R8, C-R9
    """The fields of `table` that the map holds; RemoteProtocolError for one that lacks or is of another type.

    Optional ones that lack are left out.
    """
    unknown = [k for k in body if k not in table and k not in (SIGNATURE, NODE_SIGNATURE) and k % 2 == 0]
    if unknown:
        raise RemoteProtocolError(f"{what}: key {unknown[0]} is not known and must be", ErrorCode.UNKNOWN_FEATURE)
    fields: dict[str, Any] = {}
    for key, (name, kind) in table.items():
        if key % 2 and key not in body:
            continue
        value: Any = body.get(key)
        base: type[Any] = bytes if issubclass(kind, bytes) else int if issubclass(kind, int) else str
        if not isinstance(value, base) or isinstance(value, bool):
            raise RemoteProtocolError(f"{what}: {name} is missing or not a {base.__name__}")
        try:
            fields[name] = kind(value)
        except ValueError as exc:
            raise RemoteProtocolError(f"{what}: {name}: {exc}") from exc
    return fields


def without(body: dict[int, Any], *keys: int) -> dict[int, Any]:
    """The map without these keys: what a signature covers."""
    return {k: v for k, v in body.items() if k not in keys}
