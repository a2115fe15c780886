"""01 and 02: heads and frames."""

from __future__ import annotations

from typing import Any

import msgpack

from cases.common import (
    Case,
    key,
)
from lnstore_protocol import codec, messages
from lnstore_protocol.frames import HEADER

PUT = {2: key("share"), 4: 0, 6: b"\x11" * 32}
HELLO = {2: 1, 4: 0, 6: b""}
_ERROR = messages.ErrorReply.TYPE


def _head(message_type: Any, request_id: Any, body: Any) -> str:
    packed: bytes = msgpack.packb([message_type, request_id, body])
    return packed.hex()


def codec_cases() -> list[Case]:
    """Heads: what is read from them, or what is wrong."""
    valid: list[tuple[str, str]] = [
        ("hello", _head(2, 0, HELLO)),
        ("hello with an agent", _head(2, 1, HELLO | {1: "someone/1.0"})),
        ("hello of a newer minor version with an unknown odd key", _head(2, 1, HELLO | {4: 1, 9: {1: [[{3: b"x"}]]}})),
        ("no fields", _head(4, 2**63 - 1, {})),
        (
            "integers in longer forms than needed",
            "93cd0002ce00000007" + "83" + "cc02" + "cf0000000000000001" + "0400" + "06c50000",
        ),
        ("rent", _head(12, 5, {1: 3, 2: 0, 3: 2, 5: key("nonce")})),
        ("an error code of a later version is INTERNAL", _head(_ERROR, 7, {2: 4242, 4: "new"})),
        ("what an account that never paid can have", _head(_ERROR, 7, {2: 21, 4: "too much", 7: 1 << 30})),
        ("which tokens were stored", _head(306, 4, {2: b"\xa0"})),
        ("an account opened by who says its Lightning id", _head(6, 2, {2: b"\xa0", 3: bytes([2]) + key("lightning")})),
        ("a channel asked for by who says its Lightning id", _head(30, 3, {1: bytes([3]) + key("lightning")})),
        ("a channel asked for by who does not", _head(30, 3, {})),
        ("a list of texts", _head(288, 1, {2: ["lnstore://" + "ab" * 32 + "@host:7460"]})),
    ]
    invalid: list[tuple[str, str, str]] = [
        ("empty", "", "MALFORMED"),
        ("not an array", "c0", "MALFORMED"),
        ("array of two", "920201", "MALFORMED"),
        ("array of four", "94020180c0", "MALFORMED"),
        ("array of three in a longer form than 0x93", "dc00030400" + "80", "MALFORMED"),
        ("cut short", _head(2, 0, HELLO)[:-2], "MALFORMED"),
        ("a byte after its end", _head(4, 0, {}) + "00", "MALFORMED"),
        ("type is text", _head("2", 0, HELLO), "MALFORMED"),
        ("type is true", _head(True, 0, HELLO), "MALFORMED"),  # noqa: FBT003 - a value, not an argument
        ("type is negative", _head(-2, 0, HELLO), "MALFORMED"),
        ("request id is negative", _head(4, -1, {}), "MALFORMED"),
        ("request id is 2^63", _head(4, 1 << 63, {}), "MALFORMED"),
        ("request id is nil", _head(4, None, {}), "MALFORMED"),
        ("body is an array", _head(4, 0, []), "MALFORMED"),
        ("body is nil", _head(4, 0, None), "MALFORMED"),
        ("an even type that is not known", _head(200, 0, {}), "UNKNOWN_MESSAGE"),
        ("a required field is missing", _head(2, 0, {2: 1, 6: b""}), "MALFORMED"),
        ("an unknown even key", _head(2, 0, HELLO | {8: 0}), "UNKNOWN_FEATURE"),
        ("a key is there twice", "9302008402010400" + "06c400" + "0201", "MALFORMED"),
        ("a key is text", _head(2, 0, HELLO | {"x": 0}), "MALFORMED"),
        ("a key is negative", _head(2, 0, HELLO | {-1: 0}), "MALFORMED"),
        ("an integer is a float", _head(2, 0, HELLO | {2: 1.0}), "MALFORMED"),
        ("an integer is a boolean", _head(2, 0, HELLO | {2: True}), "MALFORMED"),
        ("an integer is nil", _head(2, 0, HELLO | {2: None}), "MALFORMED"),
        ("an integer is 2^63", _head(2, 0, HELLO | {4: 1 << 63}), "MALFORMED"),
        ("an integer is negative", _head(2, 0, HELLO | {4: -1}), "MALFORMED"),
        ("bytes are text", _head(2, 0, HELLO | {6: ""}), "MALFORMED"),
        ("bytes are too long", _head(2, 0, HELLO | {6: bytes(65)}), "MALFORMED"),
        ("text is bytes", _head(2, 0, HELLO | {1: b"x"}), "MALFORMED"),
        ("text is too long", _head(2, 0, HELLO | {1: "x" * 129}), "MALFORMED"),
        ("text is too long in UTF-8", _head(2, 0, HELLO | {1: "é" * 65}), "MALFORMED"),
        ("text is not UTF-8", "9302008402010400" + "06c400" + "01a1ff", "MALFORMED"),
        ("an optional field is nil", _head(2, 0, HELLO | {1: None}), "MALFORMED"),
        ("a Lightning id of 32 bytes with an agreement", _head(6, 0, {2: b"\xa0", 3: bytes(32)}), "MALFORMED"),
        ("a Lightning id of 34 bytes", _head(30, 0, {1: bytes(34)}), "MALFORMED"),
        ("a Lightning id as text", _head(30, 0, {1: "02" * 33}), "MALFORMED"),
        ("an empty Lightning id", _head(30, 0, {1: b""}), "MALFORMED"),
        ("a capacity that is none", _head(_ERROR, 7, {2: 21, 4: "too much", 7: -1}), "MALFORMED"),
        ("a capacity as text", _head(_ERROR, 7, {2: 21, 4: "too much", 7: "1GiB"}), "MALFORMED"),
        ("an id of 31 bytes", _head(24, 0, {2: bytes(31), 4: 0}), "MALFORMED"),
        ("an enumeration's value is not known", _head(12, 0, {2: 3}), "MALFORMED"),
        ("a list is too long", _head(286, 0, {2: bytes(33), 4: [""] * 9, 6: 0}), "MALFORMED"),
        ("a list's element is too long", _head(286, 0, {2: bytes(33), 4: ["x" * 361], 6: 0}), "MALFORMED"),
        ("a list's element is bytes", _head(286, 0, {2: bytes(33), 4: [b""], 6: 0}), "MALFORMED"),
        ("an array of 129 elements under an unknown odd key", _head(2, 0, HELLO | {9: [0] * 129}), "MALFORMED"),
        ("a value within 5 arrays under an unknown odd key", _head(2, 0, HELLO | {9: [[[[[0]]]]]}), "MALFORMED"),
        ("tokens without their number", _head(50, 0, {2: 0}), "MALFORMED"),
        ("bits of more shares than one put_tokens has", _head(306, 0, {2: bytes(129)}), "MALFORMED"),
        ("an extension type", "9302008402010400" + "06c400" + "01d40100", "MALFORMED"),
    ]
    cases: list[Case] = []
    for name, head in valid:
        request_id, message = codec.decode_head(bytes.fromhex(head), memoryview(b""))
        fields = {
            field: _plain(getattr(message, field)) for field in message.__dataclass_fields__ if field != "payload"
        }
        cases.append({"name": name, "head": head, "request_id": request_id, "type": message.TYPE, "fields": fields})
    return cases + [{"name": name, "head": head, "error": error} for name, head, error in invalid]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return value


def _frame(head: str, payload: bytes = b"") -> str:
    raw = bytes.fromhex(head)
    return (HEADER.pack(len(raw), len(payload)) + raw + payload).hex()


def frame_cases() -> list[Case]:
    """Streams of frames: what they hold, or the error that ends them."""
    get_terms, put = _head(4, 1, {}), _head(14, 2, PUT)
    valid: list[tuple[str, str, list[Case]]] = [
        ("one message", _frame(get_terms), [{"type": 4, "head": get_terms, "payload": ""}]),
        (
            "two messages, the second with a payload",
            _frame(get_terms) + _frame(put, b"abc"),
            [{"type": 4, "head": get_terms, "payload": ""}, {"type": 14, "head": put, "payload": b"abc".hex()}],
        ),
        (
            "an unknown odd type is a frame too",
            _frame(_head(301, 1, {})),
            [{"type": 301, "head": _head(301, 1, {}), "payload": ""}],
        ),
        ("half a header", _frame(get_terms)[:10], []),
        ("a payload that is not all there", _frame(put, b"abc")[:-2], []),
    ]
    invalid: list[tuple[str, str, str]] = [
        ("a head of 0 bytes", HEADER.pack(0, 0).hex(), "MALFORMED"),
        ("a head of 3 bytes", HEADER.pack(3, 0).hex(), "MALFORMED"),
        ("a head that is not an array of three", HEADER.pack(4, 0).hex() + "94010203", "MALFORMED"),
        ("a type above 65535", HEADER.pack(8, 0).hex() + "93ce0001000000" + "80", "MALFORMED"),
        ("a type that is text", HEADER.pack(5, 0).hex() + "93a1320080", "MALFORMED"),
        ("a head over its type's limit", HEADER.pack(1025, 0).hex() + get_terms + "00" * 9, "TOO_LARGE"),
        (
            "a payload over its type's limit",
            HEADER.pack(100, messages.MAX_SHARE_BYTES + 1).hex() + put[:26],
            "TOO_LARGE",
        ),
        ("a payload where the type has none", HEADER.pack(4, 1).hex() + get_terms, "TOO_LARGE"),
        ("4 GiB announced", HEADER.pack(4, 0xFFFFFFFF).hex() + get_terms, "TOO_LARGE"),
        ("an unknown type with a payload", _frame(_head(301, 1, {}), b"x"), "TOO_LARGE"),
        ("an unknown type over 64 KiB", HEADER.pack(65537, 0).hex() + _head(301, 1, {}) + "00" * 9, "TOO_LARGE"),
    ]
    return [{"name": name, "stream": stream, "frames": frames} for name, stream, frames in valid] + [
        {"name": name, "stream": stream, "error": error} for name, stream, error in invalid
    ]
