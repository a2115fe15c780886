"""Heads: every message survives the round trip, every other byte string is refused with the right code."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_strategies import messages, uint63

from lnstore_protocol import codec
from lnstore_protocol import messages as m
from lnstore_protocol.codec import MESSAGES, decode_head, encode_head, peek, size_limit
from lnstore_protocol.errors import ERROR_RULES, ErrorCode, LocalProtocolError, RemoteProtocolError
from lnstore_protocol.ids import ShareId

GET_SHARE = m.GetShare(share_id=ShareId(b"s" * 32), offset=0, length=16)
BODY = {2: b"s" * 32, 4: 0, 6: 16}


def pack(*parts: Any) -> bytes:
    data: bytes = msgpack.packb(list(parts))
    return data


def refused(head: bytes, payload: bytes = b"") -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as info:
        decode_head(head, payload)
    return info.value


@given(messages, uint63)
def test_every_message_survives_the_round_trip(message: m.Message, request_id: int) -> None:
    """Decoding gives back the request id and an equal message; encoding is deterministic."""
    head = encode_head(request_id, message)
    assert decode_head(head, codec.payload_of(message)) == (request_id, message)
    assert decode_head(memoryview(head), codec.payload_of(message)) == (request_id, message)
    assert encode_head(request_id, message) == head
    assert peek(head[: codec.PEEK_BYTES]) == (message.TYPE, request_id)


def test_types_follow_their_rule() -> None:
    """A request's type is even and below 256, its reply is 256 more, and the registries are complete."""
    assert all(number % 2 == 0 and number < 256 for number in codec.REQUEST_TYPES)
    assert {number + m.REPLY for number in codec.REQUEST_TYPES} | {m.ErrorReply.TYPE} == codec.REPLY_TYPES
    assert set(MESSAGES) == codec.REQUEST_TYPES | codec.REPLY_TYPES
    assert set(m.SIZE_LIMITS) <= set(MESSAGES)


@pytest.mark.parametrize("cls", MESSAGES.values(), ids=lambda cls: cls.__name__)
def test_required_fields_are_even_and_optional_ones_odd(cls: type[Any]) -> None:
    """The even/odd rule tells what an unknown key means, so our own keys keep it; every length has a bound."""
    for field in fields(cls):
        if field.name == "payload":
            assert size_limit(cls.TYPE).payload_bytes > 0
            continue
        required = field.default is field.default_factory
        assert (field.metadata["key"] % 2 == 0) is required, field.name
        if field.type in ("bytes", "str", "list[str]"):
            assert field.metadata["max_len"] > 0, field.name


@pytest.mark.parametrize("cls", MESSAGES.values(), ids=lambda cls: cls.__name__)
def test_the_largest_fields_fit_the_size_limit(cls: type[Any]) -> None:  # T-W10
    """A message with every field at its own bound never breaks the limit of its type."""
    values: dict[str, Any] = {}
    for field in fields(cls):
        limit = field.metadata.get("max_len", 0)
        match field.type:
            case "bytes" | "bytes | None":
                values[field.name] = b"x" * limit
            case "str" | "str | None":
                values[field.name] = "x" * limit
            case "list[str]":
                values[field.name] = ["x" * codec.MAX_ELEMENT_BYTES] * limit
            case "Buffer":
                values[field.name] = bytes(size_limit(cls.TYPE).payload_bytes)
            case "int" | "int | None" | "Msat" | "Msat | None":
                values[field.name] = codec.MAX_INTEGER
            case "ShareId" | "ShareId | None" | "AccountId" | "CertificateId | None":
                values[field.name] = b"i" * 32
            case "LightningId" | "LightningId | None":
                values[field.name] = b"i" * 33
            case "InvitationSecret | None":
                values[field.name] = b"i" * 16
            case "ErrorCode":
                values[field.name] = ErrorCode.INTERNAL
            case "InvoicePurpose":
                values[field.name] = m.InvoicePurpose.RENT
            case "AccountStage | None":
                values[field.name] = m.AccountStage.SWEPT
            case "AccountState":
                values[field.name] = m.AccountState.ACTIVE
            case other:
                pytest.fail(f"no largest value for {other}")
    head = encode_head(codec.MAX_REQUEST_ID, cls(**values))
    assert len(head) <= size_limit(cls.TYPE).head_bytes
    assert decode_head(head, values.get("payload", b""))[0] == codec.MAX_REQUEST_ID


def test_optional_fields_may_be_absent() -> None:  # C-W2
    """None is left out on the wire and read back as None; a missing optional key takes its default."""
    head = encode_head(1, m.ListShares(limit=5))
    assert msgpack.unpackb(head, strict_map_key=False) == [m.ListShares.TYPE, 1, {2: 5}]
    assert decode_head(head, b"") == (1, m.ListShares(limit=5, after=None))
    hello = {2: 1, 4: 0, 6: b""}
    assert decode_head(pack(m.Hello.TYPE, 1, hello), b"") == (
        1,
        m.Hello(version_major=1, version_minor=0, features=b""),
    )


def test_unknown_odd_keys_are_passed_over() -> None:  # M-R3
    """Whatever a newer peer puts under an odd key does no harm."""
    for value in (None, 1.5, -3, [1, {"a": b"b"}], {1: {2: {3: [4]}}}, "text", b"bytes", True):
        assert decode_head(pack(m.GetShare.TYPE, 7, {**BODY, 99: value}), b"") == (7, GET_SHARE)


def test_unknown_even_keys_are_refused() -> None:  # M-R2
    """An even key that this version does not know must not be passed over; the request at fault is named."""
    error = refused(pack(m.GetShare.TYPE, 7, {**BODY, 98: 1}))
    assert error.code is ErrorCode.UNKNOWN_FEATURE
    assert error.request_id == 7


@pytest.mark.parametrize("number", [255, 254, 600, 601, 0])
def test_unknown_types_have_their_own_code(number: int) -> None:
    """Whether to pass over or refuse them is the connection's rule."""
    error = refused(pack(number, 3, {}))
    assert (error.code, error.request_id) == (ErrorCode.UNKNOWN_MESSAGE, 3)


def test_an_unknown_error_code_is_internal() -> None:  # M-R8
    """A newer peer's error is still an error; other enums take only their members."""
    _, reply = decode_head(pack(m.ErrorReply.TYPE, 1, {2: 9999, 4: "new"}), b"")
    assert reply == m.ErrorReply(code=ErrorCode.INTERNAL, message="new")
    assert refused(pack(m.RequestInvoice.TYPE, 1, {2: 9999})).code is ErrorCode.MALFORMED


MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "no array": msgpack.packb({1: 2}),
    "a map in place of the array": msgpack.packb({1: 2, 3: 4, 5: 6}),
    "two elements": pack(16, 1),
    "four elements": pack(16, 1, BODY, 1),
    "type is text": pack("16", 1, BODY),
    "type is a bool": b"\x93\xc3\x01\x80",
    "type is a float": pack(16.0, 1, BODY),
    "request id is negative": pack(16, -1, BODY),
    "request id is 2^63": pack(16, 1 << 63, BODY),
    "request id is a bool": b"\x93\x04\xc2\x80",
    "body is a list": pack(16, 1, [1, 2]),
    "body is null": pack(16, 1, None),
    "key is text": pack(16, 1, {**BODY, "a": 1}),
    "key is a bool": pack(16, 1, {**BODY, True: 1}),
    "key is negative": pack(16, 1, {**BODY, -1: 1}),
    "key is a float": pack(16, 1, {**BODY, 9.0: 1}),
    "a required field is missing": pack(16, 1, {2: b"s" * 32, 4: 0}),
    "a required field is null": pack(16, 1, {**BODY, 4: None}),
    "an integer is a bool": pack(16, 1, {**BODY, 4: True}),
    "an integer is a float": pack(16, 1, {**BODY, 4: 1.0}),
    "an integer is negative": pack(16, 1, {**BODY, 4: -1}),
    "an integer is 2^63": pack(16, 1, {**BODY, 4: 1 << 63}),
    "an id is too short": pack(16, 1, {**BODY, 2: b"s" * 31}),
    "an id is too long": pack(16, 1, {**BODY, 2: b"s" * 33}),
    "an id is text": pack(16, 1, {**BODY, 2: "s" * 32}),
    "bytes over their bound": pack(28, 1, {2: b"a" * 32, 4: b"n" * 33}),
    "bytes are text": pack(28, 1, {2: b"a" * 32, 4: "name"}),
    "text over its bound": pack(512, 1, {2: 1, 4: "x" * 1025}),
    "text over its bound in UTF-8": pack(512, 1, {2: 1, 4: "é" * 513}),
    "text is bytes": pack(512, 1, {2: 1, 4: b"x"}),
    "text is not UTF-8": b"\x93\xcd\x02\x00\x01\x82\x02\x01\x04\xa2\xff\xfe",
    "text is a surrogate": b"\x93\xcd\x02\x00\x01\x82\x02\x01\x04\xa3\xed\xa0\x80",
    "a list is too long": pack(288, 1, {2: ["x"] * 65}),
    "a list is text": pack(288, 1, {2: "x"}),
    "a list of bytes": pack(288, 1, {2: [b"x"]}),
    "a text in a list is too long": pack(288, 1, {2: ["x" * 361]}),
    "an enum is a bool": pack(12, 1, {2: True}),
    "an enum is no member": pack(12, 1, {2: 3}),
    "a key is there twice": b"\x93\x14\x01\x82\x02\x05\x02\x05",
    "an unknown odd key is there twice": b"\x93\x04\x01\x82\x61\x05\x61\x05",
    "something follows": pack(4, 1, {}) + b"\x00",
    "cut short": pack(16, 1, BODY)[:-1],
    "too many elements": pack(4, 1, {99: [0] * 129}),
    "nested too deeply": pack(4, 1, {99: [[[[[1]]]]]}),
    "nested too deeply, the innermost empty": pack(4, 1, {99: [[[[[]]]]]}),
    "maps nested too deeply": pack(4, 1, {99: {0: {0: {0: {0: {}}}}}}),
    "an extension of no bytes": b"\x93\x04\x01\x81\x63\xc7\x00\x05",
    "nested very deeply": b"\x93\x04\x01\x81\x63" + b"\x91" * 900 + b"\xc0",
    "nested beyond msgpack": b"\x93\x04\x01\x81\x63" + b"\x91" * 1000 + b"\xc0",
    "an extension type": pack(4, 1, {99: msgpack.ExtType(5, b"x")}),
    "a reserved byte": b"\x93\x04\x01\x81\x63\xc1",
    "an array that promises too much": b"\x93\x04\x01\x81\x63\xdd\xff\xff\xff\xff",
}


@pytest.mark.parametrize("head", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_heads_are_refused(head: bytes) -> None:  # C-R1, C-R2, C-R3, C-R4, M-R1
    """Each breaks one rule, and is MALFORMED."""
    assert refused(head).code is ErrorCode.MALFORMED


def test_too_large_is_its_own_code() -> None:
    """The codec holds the size limits also by itself."""
    assert refused(pack(4, 1, {99: b"x" * 1024})).code is ErrorCode.TOO_LARGE
    assert refused(pack(4, 1, {}), b"payload").code is ErrorCode.TOO_LARGE


def test_a_peek_may_find_no_request_id() -> None:
    """What is cut short, or no integer, or too large."""
    for rest in (b"", b"\xa1x", b"\xcd\x01", b"\xcf" + b"\xff" * 8):
        assert peek(b"\x93\x04" + rest) == (4, None)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    """Bytes from the wire decode or raise RemoteProtocolError."""
    with suppress(RemoteProtocolError):
        decode_head(data, b"")
    with suppress(RemoteProtocolError):
        peek(data)


@given(messages, st.data())
def test_a_damaged_head_raises_nothing_else(message: m.Message, data: st.DataObject) -> None:
    """The same for a message with one byte changed."""
    head = bytearray(encode_head(1, message))
    at = data.draw(st.integers(0, len(head) - 1))
    head[at] ^= data.draw(st.integers(1, 255))
    with suppress(RemoteProtocolError):
        decode_head(bytes(head), codec.payload_of(message))


INVALID: dict[str, Any] = {
    "an integer below 0": replace(GET_SHARE, offset=-1),
    "an integer of 2^63": replace(GET_SHARE, offset=1 << 63),
    "a bool": replace(GET_SHARE, offset=True),
    "a float": replace(GET_SHARE, offset=1.5),  # type: ignore[arg-type]
    "a required field that is None": replace(GET_SHARE, offset=None),  # type: ignore[arg-type]
    "a short id": replace(GET_SHARE, share_id=b"s"),  # type: ignore[arg-type]
    "bytes over their bound": m.GetRecord(account_id=b"a" * 32, name=b"n" * 33),  # type: ignore[arg-type]
    "text for bytes": m.GetRecord(account_id=b"a" * 32, name="n"),  # type: ignore[arg-type]
    "text over its bound": m.ErrorReply(code=ErrorCode.INTERNAL, message="x" * 1025),
    "a lone surrogate": m.ErrorReply(code=ErrorCode.INTERNAL, message="\ud800"),
    "an enum that is none": m.ErrorReply(code=77777, message=""),  # type: ignore[arg-type]
    "too many elements": m.ListPeersReply(peers=["x"] * 65),
    "a tuple for a list": m.ListPeersReply(peers=("x",)),  # type: ignore[arg-type]
    "a long element": m.ListPeersReply(peers=["x" * 361]),
    "a payload over its bound": m.PutShare(
        share_id=ShareId(b"s" * 32), token_start=0, tokens=b"", payload=bytes(m.MAX_SHARE_BYTES + 1)
    ),
}


@pytest.mark.parametrize("message", INVALID.values(), ids=INVALID.keys())
def test_our_own_mistakes_are_ours(message: m.Message) -> None:
    """A message of ours that breaks a limit is a LocalProtocolError."""
    with pytest.raises(LocalProtocolError):
        encode_head(1, message)


def test_a_bad_request_id_is_ours() -> None:
    """Request ids are 0 … 2^63-1."""
    with pytest.raises(LocalProtocolError, match="request id"):
        encode_head(-1, m.GetTerms())


def test_secrets_are_not_in_repr() -> None:
    """A nonce that is not yet revealed, tokens and payloads stay out of logs."""
    request = m.RequestInvoice(purpose=m.InvoicePurpose.RENT, nonce=b"\xabSECRETNONCE")
    put = m.PutShare(share_id=ShareId(b"s" * 32), token_start=0, tokens=b"TOKENS", payload=b"PAYLOAD")
    text = repr(request) + repr(put)
    assert "SECRET" not in text
    assert "TOKENS" not in text
    assert "PAYLOAD" not in text


def test_every_error_has_a_rule() -> None:
    """The registry is closed: each code has its retry rule and a sentence."""
    assert set(ERROR_RULES) == set(ErrorCode)
    assert all(rule.sentence.endswith(".") for rule in ERROR_RULES.values())
