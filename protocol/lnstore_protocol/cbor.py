"""Deterministic CBOR (RFC 8949 §4.2.1) for everything that is signed or hashed (spec 00).

Only maps with unsigned integer keys, arrays, byte strings, text, unsigned integers, booleans and null, nested at most
MAX_DEPTH deep. The decoder is our own, because strictness is the format here: it takes the one deterministic encoding
and nothing else, looks at every length before it allocates, and never meets the tags (regular expressions, decimals,
dates, …) that a general decoder would build from a stranger's bytes before anybody could refuse them.
"""

from __future__ import annotations

from typing import Any

import cbor2

from lnstore_protocol.errors import RemoteProtocolError

MAX_DEPTH = 4
"""Arrays and maps within each other, the outermost counted (C-W3)."""

MAX_VALUES = 1 << 19
"""Values in one structure, keys included: more than the largest manifest needs (C-R7)."""

MAX_INTEGER = (1 << 63) - 1

_ARGUMENT_BYTES = {24: 1, 25: 2, 26: 4, 27: 8}
_LEAST = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}
"""What an argument of that form must at least be, or it would fit a shorter one."""

_UNSIGNED = 0
_SIMPLE = 7
_SIMPLE_VALUES = {20: False, 21: True, 22: None}


def encode(value: Any) -> bytes:  # C-W3
    """The one deterministic encoding of `value`, which must be of the types above."""
    return cbor2.dumps(value, canonical=True)  # with integer keys its order is the bytewise one of the RFC


def decode(data: bytes, *, what: str) -> Any:  # C-R6, C-R7
    """The value in `data`; RemoteProtocolError unless it is its one deterministic encoding. `what` names it."""
    try:
        return _Reader(bytes(data)).whole()
    except RemoteProtocolError as exc:
        raise RemoteProtocolError(f"{what} {exc}") from None


def as_map(value: Any) -> dict[int, Any] | None:
    """`value` if it is a map, else None: what `decode` gives has no type of its own."""
    found = value
    return value if isinstance(found, dict) else None


class _Reader:
    """What is left of one encoding: the position and how many values may still come."""

    def __init__(self, data: bytes) -> None:
        self._at = 0
        self._data = data
        self._left = MAX_VALUES

    def whole(self) -> Any:
        """The one value that the encoding holds."""
        value = self._value(MAX_DEPTH)
        if self._at != len(self._data):
            raise RemoteProtocolError("is not valid CBOR: bytes follow its end")
        return value

    def _value(self, depth: int) -> Any:
        """The next value, in which containers may be `depth` deep."""
        major, argument = self._head()
        match major:
            case 0:
                if argument > MAX_INTEGER:
                    raise RemoteProtocolError("holds an integer out of range")
                return argument
            case 1:  # negative
                raise RemoteProtocolError("holds an integer out of range")
            case 2:
                return self._take(argument)
            case 3:
                try:
                    return self._take(argument).decode()
                except UnicodeDecodeError:
                    raise RemoteProtocolError("is not valid CBOR: text that is not UTF-8") from None
            case 4:
                self._count(argument, depth)
                return [self._value(depth - 1) for _ in range(argument)]
            case 5:
                self._count(2 * argument, depth)
                return self._map(argument, depth - 1)
            case 6:
                raise RemoteProtocolError("holds a tag")
            case _:
                if argument not in _SIMPLE_VALUES:
                    raise RemoteProtocolError("holds a float or a simple value that is none of false, true and null")
                return _SIMPLE_VALUES[argument]

    def _map(self, pairs: int, depth: int) -> dict[int, Any]:
        found: dict[int, Any] = {}
        before = -1
        for _ in range(pairs):
            major, key = self._head()
            if major != _UNSIGNED or key > MAX_INTEGER:
                raise RemoteProtocolError("holds a map key that is not an unsigned integer in its range")
            if key <= before:  # in their shortest form the order of unsigned integers is that of their bytes
                raise RemoteProtocolError("is not in deterministic encoding: keys repeated or out of order")
            before = key
            found[key] = self._value(depth)
        return found

    def _head(self) -> tuple[int, int]:
        """Major type and argument; of a simple value or float the additional information."""
        at = self._at
        if at >= len(self._data):
            raise RemoteProtocolError("is not valid CBOR: cut short")
        major, information = self._data[at] >> 5, self._data[at] & 31
        self._at = at + 1
        if information < 24 or major == _SIMPLE:
            return major, information
        size = _ARGUMENT_BYTES.get(information)
        if size is None:
            raise RemoteProtocolError("is not in deterministic encoding: an indefinite length")
        argument = int.from_bytes(self._take(size), "big")
        if argument < _LEAST[information]:
            raise RemoteProtocolError("is not in deterministic encoding: a longer form than needed")
        return major, argument

    def _take(self, count: int) -> bytes:
        at, self._at = self._at, self._at + count
        if self._at > len(self._data):
            raise RemoteProtocolError("is not valid CBOR: cut short")
        return self._data[at : self._at]

    def _count(self, values: int, depth: int) -> None:  # S-R4
        if depth == 0:
            raise RemoteProtocolError("is nested too deeply")
        if values > len(self._data) - self._at:  # each takes a byte at least
            raise RemoteProtocolError("is not valid CBOR: cut short")
        self._left -= values
        if self._left < 0:
            raise RemoteProtocolError(f"holds more than {MAX_VALUES} values")
