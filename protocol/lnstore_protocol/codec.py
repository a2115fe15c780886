"""Dataclass ↔ msgpack head, by the field metadata that messages.wire leaves (spec 02).

A head is the msgpack array `[type, request id, body]`; the body maps key numbers to values. What is read is checked
field by field: exact types (a bool is no integer, an enum only one of its members), sizes, and the even/odd rule for
keys this version does not know. Every class is turned into a table once, at import.

Rules that this file keeps: bytes from the wire only ever raise RemoteProtocolError; a message of our own that breaks a
limit only ever raises LocalProtocolError; nothing is read whose size the frame has not bounded already.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from enum import IntEnum
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgpack

from lnstore_protocol.errors import ErrorCode, LocalProtocolError, RemoteProtocolError
from lnstore_protocol.ids import FixedBytes
from lnstore_protocol.messages import (
    DEFAULT_LIMIT,
    SIZE_LIMITS,
    UNKNOWN_LIMIT,
    Buffer,
    Message,
    Reply,
    Request,
    SizeLimit,
)

MAX_TYPE = (1 << 16) - 1
MAX_INTEGER = (1 << 63) - 1
MAX_REQUEST_ID = MAX_INTEGER
MAX_ELEMENT_BYTES = 360
"""UTF-8 bytes of one text in a list: the longest node address is 334."""

MAX_ELEMENTS = 128
"""Keys of a map, elements of an array, known or not."""

MAX_DEPTH = 4
"""Arrays and maps within each other under an unknown odd key, which is then passed over."""

PEEK_BYTES = 13
"""Array marker, type (up to 3 bytes) and request id (up to 9): enough of a head to refuse it and to say whose it is."""

MIN_HEAD_BYTES = 4
"""The smallest head: array marker, type, request id, empty map, one byte each."""

MESSAGES: dict[int, type[Any]] = {cls.TYPE: cls for cls in (*get_args(Request), *get_args(Reply))}
"""Every known message class by its type number."""

REQUEST_TYPES: frozenset[int] = frozenset(cls.TYPE for cls in get_args(Request))
REPLY_TYPES: frozenset[int] = frozenset(cls.TYPE for cls in get_args(Reply))

_LIMITS = {number: SIZE_LIMITS.get(number, DEFAULT_LIMIT) for number in MESSAGES}


def size_limit(message_type: int) -> SizeLimit:
    """The most bytes that head and payload of this type may have, known or not."""
    return _LIMITS.get(message_type, UNKNOWN_LIMIT)


# --- one field ------------------------------------------------------------------------------------------------------
#
# A reader turns what msgpack gave into the field's value, or raises ValueError with what is wrong; a writer turns the
# value into what msgpack takes, under the same bounds. Both are closures over the bounds, so a field costs one call.

_Convert = Callable[[Any], Any]

# msgpack has no type stubs: here, once, is what we take its two functions for.
_pack: Callable[[Any], bytes] = msgpack.packb  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType, reportAssignmentType]
_unpack: Callable[..., Any] = msgpack.unpackb  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]


def _is(value: Any, kind: type) -> bool:
    """Whether `value` is of exactly that type; it stays Any for the checkers, as what it holds is not known yet."""
    return type(value) is kind


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"an integer is needed, not {type(value).__name__}")
    if not 0 <= value <= MAX_INTEGER:
        raise ValueError(f"{value} is not in 0 … 2^63-1")
    return value


def _write_integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"an integer is needed, not {type(value).__name__}")
    return _integer(int(value))


def _data(max_len: int) -> _Convert:
    def convert(value: Any) -> bytes:
        if not isinstance(value, bytes):
            raise ValueError(f"bytes are needed, not {type(value).__name__}")
        if len(value) > max_len:
            raise ValueError(f"{len(value)} bytes, at most {max_len} are allowed")
        return value

    return convert


def _text(max_len: int) -> _Convert:
    def convert(value: Any) -> str:
        if type(value) is not str:
            raise ValueError(f"text is needed, not {type(value).__name__}")
        if len(value) > max_len or (not value.isascii() and len(value.encode()) > max_len):
            raise ValueError(f"text of more than {max_len} bytes")
        return value

    return convert


def _texts(max_len: int) -> _Convert:
    element = _text(MAX_ELEMENT_BYTES)

    def convert(value: Any) -> list[str]:
        if not _is(value, list):
            raise ValueError(f"a list is needed, not {type(value).__name__}")
        if len(value) > max_len:
            raise ValueError(f"{len(value)} elements, at most {max_len} are allowed")
        return [element(item) for item in value]

    return convert


def _identifier(kind: type[FixedBytes]) -> tuple[_Convert, _Convert]:
    def read(value: Any) -> FixedBytes:
        if not isinstance(value, bytes):
            raise ValueError(f"bytes are needed, not {type(value).__name__}")
        return kind(value)

    def write(value: Any) -> bytes:
        if not isinstance(value, bytes) or len(value) != kind.SIZE:
            raise ValueError(f"not a {kind.__name__}")
        return value

    return read, write


def _enumeration(kind: type[IntEnum]) -> tuple[_Convert, _Convert]:
    members = {int(member): member for member in kind}
    # A newer peer's error is still an error: what cannot be told apart is read as the least specific one.
    fallback = ErrorCode.INTERNAL if kind is ErrorCode else None

    def read(value: Any) -> IntEnum:
        member = members.get(_integer(value), fallback)
        if member is None:
            raise ValueError(f"{value} is no {kind.__name__}")
        return member

    def write(value: Any) -> int:
        if value not in members:
            raise ValueError(f"{value!r} is no {kind.__name__}")
        return int(value)

    return read, write


def _converters(kind: Any, max_len: int) -> tuple[_Convert, _Convert]:
    if get_origin(kind) in (Union, UnionType):
        kind = next(arm for arm in get_args(kind) if arm is not type(None))
    kind = getattr(kind, "__supertype__", kind)  # a NewType stands for what it wraps
    if get_origin(kind) is list:
        both = _texts(max_len)
        return both, both
    if issubclass(kind, FixedBytes):
        return _identifier(kind)
    if issubclass(kind, IntEnum):
        return _enumeration(kind)
    if kind is int:
        return _integer, _write_integer
    both = {bytes: _data, str: _text}[kind](max_len)
    return both, both


# --- one message class ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Table:
    """What encoding and decoding one class needs, looked up once."""

    cls: type[Any]
    writers: tuple[tuple[int, str, _Convert, bool], ...]
    """(key, name, writer, may be left out when None) in the order of keys."""
    readers: dict[int, tuple[str, _Convert]]
    required: tuple[int, ...]
    has_payload: bool
    limit: SizeLimit


def _table(cls: type[Any]) -> _Table:
    hints = get_type_hints(cls)
    writers: list[tuple[int, str, _Convert, bool]] = []
    readers: dict[int, tuple[str, _Convert]] = {}
    required: list[int] = []
    for field in fields(cls):
        if "key" not in field.metadata:
            continue
        key: int = field.metadata["key"]
        read, write = _converters(hints[field.name], field.metadata["max_len"])
        readers[key] = (field.name, read)
        writers.append((key, field.name, write, field.default is None))
        if field.default is MISSING:
            required.append(key)
    return _Table(
        cls=cls,
        writers=tuple(sorted(writers, key=lambda row: row[0])),
        readers=readers,
        required=tuple(required),
        has_payload=any(field.name == "payload" for field in fields(cls)),
        limit=size_limit(cls.TYPE),
    )


_TABLES: dict[int, _Table] = {number: _table(cls) for number, cls in MESSAGES.items()}


# --- heads ------------------------------------------------------------------------------------------------------------


def payload_of(message: Message) -> Buffer:
    """The bulk bytes of a message, empty for the many types without."""
    payload: Buffer = getattr(message, "payload", b"")
    return payload


def encode_head(request_id: int, message: Message) -> bytes:  # C-W1, C-W2, M-W1, M-W2, T-W10
    """The head of `message`; its payload goes into the frame as it is.

    LocalProtocolError when a field or the payload breaks its limit.
    """
    table = _TABLES[message.TYPE]
    body: dict[int, Any] = {}
    name = "request id"
    try:
        number = _write_integer(request_id)
        for key, name, write, optional in table.writers:
            value = getattr(message, name)
            if value is None and optional:
                continue
            body[key] = write(value)
        head = _pack([message.TYPE, number, body])
    except ValueError as exc:  # UnicodeEncodeError (a lone surrogate) is one too
        raise LocalProtocolError(f"{table.cls.__name__}.{name}: {exc}") from exc
    # Fields within their bounds make a head within its own: a test holds the two tables together.
    if table.has_payload and memoryview(payload_of(message)).nbytes > table.limit.payload_bytes:
        raise LocalProtocolError(f"{table.cls.__name__}: the payload is over {table.limit.payload_bytes} bytes")
    return head


def peek(head: Buffer) -> tuple[int, int | None]:  # T-R13
    """Type and request id from a head's first PEEK_BYTES (or the whole, if shorter), before the rest is there.

    The request id is None when it cannot be read; RemoteProtocolError when the type cannot.
    """
    if len(head) < 2 or head[0] != 0x93:
        raise RemoteProtocolError("a head is not an array of three")
    message_type, end = _peek_uint(head, 1)
    if message_type is None or message_type > MAX_TYPE:
        raise RemoteProtocolError("a message type is not an integer below 65536")
    return message_type, _peek_uint(head, end)[0]


_UINT_BYTES = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}


def _peek_uint(head: Buffer, at: int) -> tuple[int | None, int]:
    if at >= len(head):
        return None, at
    first = head[at]
    if first < 0x80:
        return first, at + 1
    size = _UINT_BYTES.get(first)
    if size is None or at + 1 + size > len(head):
        return None, at
    value = int.from_bytes(head[at + 1 : at + 1 + size], "big")
    return (value if value <= MAX_INTEGER else None), at + 1 + size


def decode_head(head: Buffer, payload: Buffer) -> tuple[int, Message]:
    """The request id and the message; `payload` becomes its field of that name, uncopied.

    RemoteProtocolError: UNKNOWN_MESSAGE for a type this version does not know (whether that matters is the even/odd
    rule, applied in connection.py), UNKNOWN_FEATURE for an unknown even key, TOO_LARGE for a payload or head above
    its type's limit, MALFORMED for everything else. Its `request_id` is set as soon as it is known.
    """
    message_type, request_id, pairs = _parse(head)
    try:
        table = _TABLES.get(message_type)
        if table is None:
            raise _unknown_message(message_type)
        return request_id, _decode_body(table, pairs, len(head), payload)
    except RemoteProtocolError as exc:
        exc.request_id = request_id
        raise


def _unknown_message(message_type: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"message type {message_type} is not known", ErrorCode.UNKNOWN_MESSAGE)


def _parse(head: Buffer) -> tuple[int, int, Any]:  # C-R1, C-R3, C-R5
    """Type, request id and body of a head, the body as msgpack gives it."""
    try:
        # Maps come as tuples of pairs: a plain dict would hide a key that is there twice.
        parts = _unpack(
            head,
            strict_map_key=False,
            object_pairs_hook=tuple,
            max_array_len=MAX_ELEMENTS,
            max_map_len=MAX_ELEMENTS,
            ext_hook=_refuse_extension,
            max_ext_len=0,
        )
    except Exception as exc:  # msgpack documents no closed set of exceptions for hostile bytes
        raise RemoteProtocolError("a head is not msgpack within its limits") from exc
    if not _is(parts, list) or len(parts) != 3:
        raise RemoteProtocolError("a head is not an array of three")
    message_type, request_id, pairs = parts
    if type(message_type) is not int or type(request_id) is not int or not 0 <= request_id <= MAX_REQUEST_ID:
        raise RemoteProtocolError("type or request id is not an integer in its range")
    return message_type, request_id, pairs


def _refuse_extension(code: int, _data: bytes) -> Any:
    raise ValueError(f"extension type {code}")  # msgpack's own limit lets one of no bytes pass


def _decode_body(table: _Table, pairs: Any, head_bytes: int, payload: Buffer) -> Message:  # C-R2, M-R1, M-R2, M-R3
    name = table.cls.__name__
    if not _is(pairs, tuple):
        raise RemoteProtocolError(f"{name}: the body is not a map")
    if head_bytes > table.limit.head_bytes or len(payload) > table.limit.payload_bytes:
        raise RemoteProtocolError(f"{name}: larger than allowed", ErrorCode.TOO_LARGE)
    values: dict[str, Any] = {}
    readers = table.readers
    seen: set[int] = set()
    for key, value in pairs:
        if type(key) is not int or key < 0:
            raise RemoteProtocolError(f"{name}: a key is not an unsigned integer")
        if key in seen:
            raise RemoteProtocolError(f"{name}: key {key} is there twice")
        seen.add(key)
        reader = readers.get(key)
        if reader is not None:
            field_name, read = reader
            try:
                values[field_name] = read(value)
            except ValueError as exc:
                raise RemoteProtocolError(f"{name}.{field_name}: {exc}") from exc
        elif key % 2 == 0:
            raise RemoteProtocolError(f"{name}: key {key} is not known and must be", ErrorCode.UNKNOWN_FEATURE)
        else:
            _check_depth(value, name)
    for key in table.required:
        if key not in seen:
            raise RemoteProtocolError(f"{name}: {readers[key][0]} is missing")
    if table.has_payload:
        values["payload"] = payload
    message: Message = table.cls(**values)
    return message


def _check_depth(value: Any, name: str) -> None:
    """C-R4: at most MAX_DEPTH arrays and maps within each other, empty ones counted as in cbor.py."""
    layer: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        lists = [group for group in layer if _is(group, list)]
        maps = [group for group in layer if _is(group, tuple)]
        if not lists and not maps:
            return
        layer = [item for group in lists for item in group]
        layer += [item for pairs in maps for pair in pairs for item in pair]
    raise RemoteProtocolError(f"{name}: nested too deeply")
