"""What the stand-in does wrong, or newer than version 1.0, one thing at a time; and what a client must make of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import msgpack

from lnstore_protocol import merkle
from lnstore_protocol.codec import encode_head
from lnstore_protocol.conformance.link import Received, frame, message_frame, raw_frame
from lnstore_protocol.conformance.stand_in import ClientLink
from lnstore_protocol.frames import HEADER
from lnstore_protocol.messages import (
    LEAF_BYTES,
    GetShare,
    GetShareReply,
    GetTerms,
    Hello,
    ListPeersReply,
    Message,
    Reply,
)

EVEN_KEY, ODD_KEY = 200, 201


class Must(Enum):
    """What a client must do."""

    GO_ON = auto()
    """Take the reply as if nothing were strange."""
    CLOSE = auto()
    """End the connection."""
    REFUSE = auto()
    """Not take what it got for what it asked for."""


Send = Callable[[ClientLink, Received, Reply], None]
"""Sends something in place of the honest reply to a request."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row: in place of the honest reply to a request of type `on`, `send` sends something.

    Of shares only those of several leaves are meant: a client may well read the manifest before.
    """

    requirements: tuple[str, ...]
    name: str
    title: str
    must: Must
    send: Send
    on: type[Message] = Hello
    wrong_key: bool = False

    def applies(self, request: Message, reply: Reply) -> bool:
        """Whether this is what the scenario bends."""
        small = isinstance(reply, GetShareReply) and reply.share_bytes <= LEAF_BYTES
        return isinstance(request, self.on) and not small


def honest(link: ClientLink, request: Received, reply: Reply) -> None:
    """The reply as it should be."""
    link.send(message_frame(request.request_id, reply))


def _instead(make: Callable[[int, Reply], bytes]) -> Send:
    def send(link: ClientLink, request: Received, reply: Reply) -> None:
        link.send(make(request.request_id, reply))

    return send


def _changed(**fields: Any) -> Send:
    return _instead(lambda request_id, reply: message_frame(request_id, dataclasses.replace(reply, **fields)))


def _body(reply: Reply) -> dict[int, Any]:
    body: dict[int, Any] = msgpack.unpackb(encode_head(0, reply), strict_map_key=False)[2]
    return body


def _with(change: Callable[[dict[int, Any]], dict[Any, Any]]) -> Send:
    """The honest reply with another body."""
    return _instead(lambda request_id, reply: raw_frame(reply.TYPE, request_id, change(_body(reply))))


def _before(*extra: bytes) -> Send:
    """Frames, then the honest reply."""
    return _instead(lambda request_id, reply: b"".join(extra) + message_frame(request_id, reply))


# --- what the table below needs more than a line for ------------------------------------------------------------------


def _in_single_bytes(link: ClientLink, request: Received, reply: Reply) -> None:
    link.send(message_frame(request.request_id, reply), record_bytes=1)


def _damaged_record(link: ClientLink, request: Received, reply: Reply) -> None:
    record = bytearray(link.seal(message_frame(request.request_id, reply)))
    record[-1] ^= 1
    link.send_raw(bytes(record), "a damaged record")


def _empty_record(link: ClientLink, _request: Received, _reply: Reply) -> None:
    sealed = link.seal(b"")
    link.send_raw(sealed, "a record that carries nothing")


def _cut_off(link: ClientLink, request: Received, reply: Reply) -> None:
    link.send(message_frame(request.request_id, reply)[:-1])
    link.end_sending()


def _closed(link: ClientLink, _request: Received, _reply: Reply) -> None:
    link.end_sending()


def _longer(request_id: int, reply: Reply) -> bytes:
    """The body as a map32 with keys of eight bytes and the values' lengths in four."""
    items = b""
    for key, value in _body(reply).items():
        items += b"\xcf" + key.to_bytes(8, "big")
        match value:
            case int():
                items += b"\xcf" + value.to_bytes(8, "big")
            case bytes():
                items += b"\xc6" + len(value).to_bytes(4, "big") + value
            case _:
                items += b"\xdb" + len(value.encode()).to_bytes(4, "big") + value.encode()
    front = b"\x93\xcd" + reply.TYPE.to_bytes(2, "big") + b"\xcf" + request_id.to_bytes(8, "big")
    return frame(front + b"\xdf" + len(_body(reply)).to_bytes(4, "big") + items)


def _oversized_head(_request_id: int, reply: Reply) -> bytes:
    return HEADER.pack(1 << 31, 0) + encode_head(0, reply)[:13]


def _unasked_payload(request_id: int, reply: Reply) -> bytes:
    head = encode_head(request_id, reply)
    return HEADER.pack(len(head), 1 << 20) + head


def _share(change: Callable[[GetShareReply], GetShareReply]) -> Send:
    def send(link: ClientLink, request: Received, reply: Reply) -> None:
        honest(link, request, change(reply) if isinstance(reply, GetShareReply) else reply)

    return send


def _flipped(reply: GetShareReply) -> GetShareReply:
    payload = bytearray(reply.payload)
    payload[len(payload) // 2] ^= 1
    return dataclasses.replace(reply, payload=bytes(payload))


def _other_leaves(link: ClientLink, request: Received, reply: Reply) -> None:
    """True bytes with their true proof that are not those asked for: a leaf less, or the next one."""
    asked = request.message
    if isinstance(asked, GetShare) and isinstance(reply, GetShareReply):
        share = link.shares[asked.share_id]
        hashes = merkle.leaf_hashes(share)
        first, last = merkle.leaf_range(len(share), asked.offset, asked.length)
        first, last = (first, last - 1) if last > first else ((first + 1) % len(hashes),) * 2
        start, end = merkle.leaf_span(len(share), first, last)
        proof = merkle.range_proof(hashes, first, last)
        reply = dataclasses.replace(reply, offset=start, proof=proof, payload=share[start:end])
    honest(link, request, reply)


_HELLO_REPLY_CUT = _with(lambda body: {key: value for key, value in body.items() if key != 10})
_STRANGE: Any = [[1], {1: b"new"}]

SCENARIOS: tuple[Scenario, ...] = tuple(
    Scenario(*row)
    for row in (
        (("T-W2", "T-W4", "M-W6"), "honest", "An honest node is used.", Must.GO_ON, honest),
        (
            ("T-W8",),
            "records_of_one_byte",
            "Replies cut into records of one byte are read.",
            Must.GO_ON,
            _in_single_bytes,
        ),
        (("T-R3",), "wrong_node_key", "A node without the key is left.", Must.CLOSE, honest, Hello, True),
        (("T-R11",), "damaged_record", "A record that does not open ends it.", Must.CLOSE, _damaged_record),
        (("T-R10",), "empty_record", "A record that carries nothing ends it.", Must.CLOSE, _empty_record),
        (("T-R20", "T-R21"), "cut_off", "A stream that ends within a reply is no answer.", Must.REFUSE, _cut_off),
        (("T-R21",), "closed", "A stream that ends is no answer.", Must.REFUSE, _closed),
        # frames and heads
        (("T-R12",), "oversized_head", "A head over its limit ends it at once.", Must.CLOSE, _instead(_oversized_head)),
        (("T-R12",), "oversized_payload", "A payload over its limit ends it.", Must.CLOSE, _instead(_unasked_payload)),
        (
            ("T-R13",),
            "no_head",
            "A head that is none ends it.",
            Must.CLOSE,
            _instead(lambda *_: frame(b"\x92\x01\x02\xc0")),
        ),
        (
            ("C-R1",),
            "trailing_byte",
            "A byte after the head's value ends it.",
            Must.CLOSE,
            _instead(lambda request_id, reply: frame(encode_head(request_id, reply) + b"\0")),
        ),
        (("C-R5",), "longer_encodings", "Longer encodings of a head are read.", Must.GO_ON, _instead(_longer)),
        (("M-R1",), "missing_field", "A reply that lacks a required field ends it.", Must.CLOSE, _HELLO_REPLY_CUT),
        (
            ("C-R2",),
            "wrong_type",
            "A boolean for an integer ends it.",
            Must.CLOSE,
            _with(lambda body: body | {2: True}),
        ),
        (("C-R3",), "text_key", "A key that is text ends it.", Must.CLOSE, _with(lambda body: {**body, "a": 1})),
        (
            ("C-R4",),
            "deep_value",
            "Five arrays in each other under an odd key end it.",
            Must.CLOSE,
            _with(lambda body: body | {ODD_KEY: [[[[[1]]]]]}),
        ),
        # requests and replies
        (
            ("T-R17",),
            "unknown_request",
            "A reply to a request that was not made ends it.",
            Must.CLOSE,
            _instead(lambda request_id, reply: message_frame(request_id + 1000, reply)),
        ),
        (
            ("T-R17",),
            "another_reply",
            "A reply of another type ends it.",
            Must.CLOSE,
            _instead(lambda request_id, _: message_frame(request_id, ListPeersReply(peers=[]))),
        ),
        (
            ("T-R18",),
            "request_from_the_node",
            "A request from a node ends it.",
            Must.CLOSE,
            _instead(lambda request_id, _: message_frame(request_id, GetTerms())),
        ),
        # versions and features
        (
            ("M-R6",),
            "unknown_even_message",
            "An unknown even message ends it.",
            Must.CLOSE,
            _before(raw_frame(1000, 5, {})),
        ),
        (
            ("M-R4", "T-R14"),
            "unknown_odd_message",
            "An unknown odd message is passed over.",
            Must.GO_ON,
            _before(raw_frame(1001, 5, {2: bytes(60_000)})),
        ),
        (("M-R2",), "unknown_even_key", "An unknown even key ends it.", Must.CLOSE, _with(lambda b: b | {EVEN_KEY: 1})),
        (
            ("M-R3",),
            "unknown_odd_key",
            "An unknown odd key is passed over.",
            Must.GO_ON,
            _with(lambda b: b | {ODD_KEY: _STRANGE}),
        ),
        (("M-R12",), "other_major_version", "Another major version ends it.", Must.CLOSE, _changed(version_major=2)),
        (("M-R12",), "demanded_feature", "A demanded feature ends it.", Must.CLOSE, _changed(features=b"\x40")),
        (
            ("M-R13",),
            "offered_feature",
            "An offered feature is passed over.",
            Must.GO_ON,
            _changed(features=b"\x80" + bytes(7)),
        ),
        (
            ("M-W8",),
            "later_minor_version",
            "A later minor version is used as 1.0.",
            Must.GO_ON,
            _changed(version_minor=9),
        ),
        # shares
        (
            ("P-R5", "MB-R10", "F-R5"),
            "wrong_bytes",
            "Other bytes than the share's are refused.",
            Must.REFUSE,
            _share(_flipped),
            GetShare,
        ),
        (
            ("P-R5", "MB-R10"),
            "another_share",
            "Another share, with its own true proof, is refused.",
            Must.REFUSE,
            _share(lambda r: dataclasses.replace(r, payload=bytes(reversed(bytes(r.payload))), proof=r.proof)),
            GetShare,
        ),
        (
            ("P-R4",),
            "longer_proof",
            "A proof that is longer than needed is refused.",
            Must.REFUSE,
            _share(lambda r: dataclasses.replace(r, proof=r.proof + bytes(32))),
            GetShare,
        ),
        (
            ("P-R5",),
            "other_size",
            "Another size of the share than it has is refused.",
            Must.REFUSE,
            _share(lambda r: dataclasses.replace(r, share_bytes=r.share_bytes + 1)),
            GetShare,
        ),
        (
            ("P-R2", "P-R3"),
            "ragged_offset",
            "Bytes that do not begin at a leaf are refused.",
            Must.REFUSE,
            _share(lambda r: dataclasses.replace(r, offset=r.offset + 1)),
            GetShare,
        ),
        (
            ("MB-R11",),
            "other_range",
            "True leaves that are not those asked for are refused.",
            Must.REFUSE,
            _other_leaves,
            GetShare,
        ),
    )
)
"""Every scenario, the honest one first."""
