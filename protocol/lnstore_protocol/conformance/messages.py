"""Checks of 02: what a node does with every invalid value of every request, and with what it does not know."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import MISSING, fields
from enum import IntEnum
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

import msgpack

from lnstore_protocol.codec import MAX_ELEMENTS
from lnstore_protocol.conformance.link import PeerClosed, frame, name_of, raw_frame, raw_head
from lnstore_protocol.conformance.node_link import NodeLink
from lnstore_protocol.conformance.trial import Checks, Trial
from lnstore_protocol.conformance.verdict import Failed
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import FixedBytes
from lnstore_protocol.messages import (
    AccountStatus,
    AddCapacity,
    AuditShare,
    ChannelInfo,
    DropShares,
    ErrorReply,
    GetReceipts,
    GetRecord,
    GetShare,
    GetTerms,
    HaveShares,
    Hello,
    ListPeers,
    ListShares,
    OpenAccount,
    PutReceipts,
    PutRecord,
    PutShare,
    PutTokens,
    RenewAgreement,
    RequestInvoice,
)

CHECKS = Checks()
MALFORMED: Final = ErrorCode.MALFORMED
REQUEST_ID = 5

_ID = bytes(32)
SAMPLES: dict[type[Any], dict[int, Any]] = {
    Hello: {2: 1, 4: 0, 6: b"", 1: "agent"},
    GetTerms: {},
    OpenAccount: {2: b"\xa0"},
    AccountStatus: {},
    RenewAgreement: {2: b"\xa0"},
    AddCapacity: {2: 0, 4: 1 << 20},
    RequestInvoice: {2: 2, 1: 0, 3: 0, 5: _ID, 7: 0, 9: 1},
    PutShare: {2: _ID, 4: 0, 6: b""},
    GetShare: {2: _ID, 4: 0, 6: 0},
    HaveShares: {},
    ListShares: {2: 1, 1: _ID},
    DropShares: {},
    AuditShare: {2: _ID, 4: 0},
    PutRecord: {2: b"\xa0"},
    GetRecord: {2: _ID, 4: b"name"},
    ChannelInfo: {},
    ListPeers: {},
    GetReceipts: {2: 0, 4: 1},
    PutReceipts: {},
    PutTokens: {2: 0, 4: 1},
}
"""A body of each request with every field in its form; what it asks for is refused or not, but it can be read."""

ODD_KEY = 201
EVEN_KEY = 200


def invalid_values(kind: Any, max_len: int) -> Iterator[tuple[str, str, Any]]:
    """(requirement, what it is, value) for a field of that Python type and length."""
    if get_origin(kind) in (Union, UnionType):
        kind = next(arm for arm in get_args(kind) if arm is not type(None))
    kind = getattr(kind, "__supertype__", kind)
    yield "C-R2", "nil", None
    yield "C-R2", "a map", {}
    if issubclass(kind, int):
        yield "C-R2", "a boolean", True
        yield "C-R2", "text", "1"
        yield "C-R2", "a float", 1.0
        yield "C-R2", "-1", -1
        yield "C-R2", "2^63", 1 << 63
        if issubclass(kind, IntEnum):
            yield "M-R8", "an unknown enumeration value", 99
    elif issubclass(kind, str):
        yield "C-R2", "bytes", b"text"
        yield "C-R2", "text that is not UTF-8", _NotUtf8
        yield "M-R1", "text that is too long", "x" * (max_len + 1)
    else:
        yield "C-R2", "text", "x" * 32
        yield "C-R2", "an integer", 1
        if issubclass(kind, FixedBytes):
            yield "M-R1", "a byte too few", bytes(kind.SIZE - 1)
            yield "M-R1", "a byte too many", bytes(kind.SIZE + 1)
        else:
            yield "M-R1", "bytes that are too many", bytes(max_len + 1)


NOT_UTF8 = b"\xa2\xc3\x28"


class _NotUtf8:
    """Stands for a str of two bytes that are not UTF-8, which msgpack does not write."""


def _head(message_type: int, body: dict[int, Any]) -> bytes:
    items = [
        msgpack.packb(key) + (NOT_UTF8 if value is _NotUtf8 else msgpack.packb(value)) for key, value in body.items()
    ]
    front: bytes = msgpack.packb(message_type)
    return b"\x93" + front + bytes([REQUEST_ID, 0x80 + len(body)]) + b"".join(items)


@CHECKS.on("M-R1", "C-R2", "M-R8", "M-R7", "T-W14")
def invalid_fields(trial: Trial) -> None:
    """Each field of each request, with each value that it can not have, is refused with MALFORMED; so is its lack."""
    for cls, body in SAMPLES.items():
        hints = get_type_hints(cls)
        for row in fields(cls):
            if "key" not in row.metadata:
                continue
            key, what = row.metadata["key"], f"a {cls.__name__} whose {row.name}"
            if row.default is MISSING:
                lacking = {k: v for k, v in body.items() if k != key}
                trial.fault("M-R1", frame(_head(cls.TYPE, lacking)), MALFORMED, what=f"{what} is missing", **_ANSWERED)
            for requirement, is_what, value in invalid_values(hints[row.name], row.metadata["max_len"]):
                head = _head(cls.TYPE, body | {key: value})
                # Text that is not UTF-8 may keep a reader from reading the head at all, and so the request id.
                answer = None if value is _NotUtf8 else True
                said = f"{what} is {is_what}"
                trial.fault(requirement, frame(head), MALFORMED, what=said, request_id=REQUEST_ID, answer=answer)
    trial.reached.add("T-W14")


_ANSWERED: Final[dict[str, Any]] = {"request_id": REQUEST_ID, "answer": True}


@CHECKS.on("M-R1", "C-R1", "C-R3", "C-R4")
def invalid_heads(trial: Trial) -> None:
    """Heads that are not exactly [type, request id, map], and maps that are none, are refused with MALFORMED."""
    good = raw_head(GetTerms.TYPE, REQUEST_ID, {})
    front = good[:-1]
    deep: Any = 1
    for _ in range(5):
        deep = [deep]
    for requirement, head, what in (
        ("C-R1", good + b"\0", "a head with a byte after it"),
        ("C-R1", front + b"\x81\x02", "a head that is cut short"),
        ("C-R1", front + b"\xc1\xc1", "a head with the byte that msgpack never uses"),
        ("M-R1", raw_head(GetTerms.TYPE, REQUEST_ID, []), "a body that is an array"),
        ("M-R1", raw_head(GetTerms.TYPE, REQUEST_ID, None), "a body that is nil"),
        ("C-R3", front + b"\x82\x65\x01\x65\x01", "a body with a key that is there twice"),
        ("C-R3", raw_head(GetTerms.TYPE, REQUEST_ID, {"a": 1}), "a body with a key that is text"),
        ("C-R3", raw_head(GetTerms.TYPE, REQUEST_ID, {-1: 1}), "a body with a negative key"),
        ("C-R3", raw_head(GetTerms.TYPE, REQUEST_ID, {ODD_KEY: [0] * (MAX_ELEMENTS + 1)}), "an array of 129 elements"),
        (
            "C-R3",
            raw_head(GetTerms.TYPE, REQUEST_ID, {2 * i + 201: 0 for i in range(MAX_ELEMENTS + 1)}),
            "a map of 129 elements",
        ),
        ("C-R4", raw_head(GetTerms.TYPE, REQUEST_ID, {ODD_KEY: deep}), "a value nested five levels deep"),
    ):
        trial.fault(requirement, frame(head), MALFORMED, what=what, request_id=REQUEST_ID)


@CHECKS.on("C-R5")
def longer_encodings(trial: Trial) -> None:
    """Integers and lengths that are not in their shortest encoding are read all the same."""
    body = (
        b"\xdf\0\0\0\4"
        b"\xcc\x02\xcf\0\0\0\0\0\0\0\1"
        b"\xcd\0\x04\xce\0\0\0\0"
        b"\xce\0\0\0\x06\xc6\0\0\0\0"
        b"\xcf\0\0\0\0\0\0\0\x01\xdb\0\0\0\5agent"
    )
    link = trial.link(hello=False)
    link.pending[REQUEST_ID] = Hello.TYPE
    link.send(frame(b"\x93\xcd\0\x02\xcf" + REQUEST_ID.to_bytes(8, "big") + body))
    reply = link.answer_to(REQUEST_ID)
    trial.require(
        "C-R5", not isinstance(reply, ErrorReply), f"a hello in longer encodings was answered {name_of(reply)}"
    )


# --- what is not known ------------------------------------------------------------------------------------------------


@CHECKS.on("M-R2", "M-R7")
def unknown_even_keys(trial: Trial) -> None:
    """Every request with an even body key that is not known is refused with UNKNOWN_FEATURE."""
    for cls, body in SAMPLES.items():
        data = raw_frame(cls.TYPE, REQUEST_ID, body | {EVEN_KEY: 1})
        trial.fault("M-R2", data, ErrorCode.UNKNOWN_FEATURE, what=f"a {cls.__name__} with key {EVEN_KEY}", **_ANSWERED)


@CHECKS.on("M-R3", "C-R4")
def unknown_odd_keys(trial: Trial) -> None:
    """Every request with an odd body key that is not known is answered as without it."""
    values: tuple[Any, ...] = (
        1,
        "text",
        b"bytes",
        None,
        [[[[1]]]],
        {1: {2: {3: {}}}},
        -1,
        1.5,
        True,
        secrets.token_bytes(500),
    )
    for at, (cls, body) in enumerate(SAMPLES.items()):
        value = values[at % len(values)]
        plain = _answered(trial, cls, body)
        odd = _answered(trial, cls, body | {ODD_KEY: value})
        trial.require(
            "M-R3", odd == plain, f"a {cls.__name__} with key {ODD_KEY} was answered {odd} instead of {plain}"
        )
    for value in values:
        got = _answered(trial, GetTerms, {ODD_KEY: value})
        trial.require("M-R3", got == "TermsReply", f"a GetTerms with {ODD_KEY}: {value!r:.40} was answered {got}")
    trial.reached.add("C-R4")


def _answered(trial: Trial, cls: type[Any], body: dict[int, Any]) -> str:
    """The kind of the answer to a request of a stranger; what is asked for does not exist."""
    link = trial.link()
    link.pending[REQUEST_ID] = cls.TYPE
    link.send(raw_frame(cls.TYPE, REQUEST_ID, body))
    try:
        reply = link.answer_to(REQUEST_ID)
    except PeerClosed:
        return "the end of the connection"
    return f"error {reply.code.name}" if isinstance(reply, ErrorReply) else type(reply).__name__


@CHECKS.on("M-R4", "T-R14")
def unknown_odd_messages(trial: Trial) -> None:
    """Messages of unknown odd types are passed over without an answer, up to 64 KiB."""
    link = trial.link()
    for message_type, body in ((1, {}), (35, {2: 1}), (1001, {ODD_KEY: bytes(60_000)}), (65_535, {4: "text"})):
        link.send(raw_frame(message_type, 77, body))
    _next_is_answered("M-R4", trial, link, "an unknown odd message")
    trial.reached.add("T-R14")


def _next_is_answered(requirement: str, trial: Trial, link: NodeLink, after: str) -> None:
    """Require that two more requests are answered, and nothing else: an answer out of order would come in between."""
    try:
        for _ in range(2):
            link.ask(GetTerms())
    except PeerClosed:
        raise Failed(requirement, f"the connection was closed after {after}") from None
    except Failed as exc:
        raise Failed(requirement, f"{after} was answered ({exc.text})") from exc
    trial.reached.add(requirement)


@CHECKS.on("M-R5")
def unknown_even_messages(trial: Trial) -> None:
    """Requests of unknown even types are answered UNKNOWN_MESSAGE, and the connection goes on."""
    link = trial.link()
    for message_type in (98, 254, 1000, 65_534):
        request_id = link.new_id(message_type)
        link.send(raw_frame(message_type, request_id, {ODD_KEY: b"new"}))
        try:
            received = link.receive_reply()
        except PeerClosed:
            raise Failed("M-R5", f"the connection was closed after a message of type {message_type}") from None
        code = received.message.code if isinstance(received.message, ErrorReply) else None
        text = f"type {message_type} was answered {name_of(received.message)} instead of UNKNOWN_MESSAGE"
        trial.require("M-R5", code is ErrorCode.UNKNOWN_MESSAGE, text)
    _next_is_answered("M-R5", trial, link, "an unknown even message")


@CHECKS.on("M-W1", "M-W2", "M-W3", "M-W4", "C-W1", "C-W2", "E-W1", "E-W3")
def replies_are_well_formed(trial: Trial) -> None:
    """Replies and errors to every request are in the form of their tables; errors come with a sentence."""
    link = trial.link()
    for cls, body in SAMPLES.items():
        request_id = link.new_id(cls.TYPE)
        link.send(raw_frame(cls.TYPE, request_id, body))
        reply = link.answer_to(request_id)
        if isinstance(reply, ErrorReply):
            trial.require("E-W3", " " in reply.message.strip(), f"an error that says nothing: {reply.message!r}")
    trial.reached.update({"M-W1", "M-W2", "M-W3", "M-W4", "C-W1", "C-W2", "E-W1"})
