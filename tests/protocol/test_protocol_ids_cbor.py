"""Identifiers and addresses as text, and deterministic CBOR."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnstore_protocol import cbor
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import AccountId, LightningId, NodeAddress, NodeId, ShareId

NODE = NodeId(b"\xab" * 32)


# --- ids --------------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=32, max_size=32))
def test_an_id_prints_as_hex_and_reads_back(data: bytes) -> None:
    """An id is its bytes, compares as such, and says its kind in repr."""
    share_id = ShareId(data)
    assert share_id == data
    assert ShareId.from_hex(str(share_id)) == share_id
    assert ShareId.from_hex(str(share_id).upper()) == share_id
    assert repr(share_id) == f"ShareId({data.hex()})"
    assert f"{share_id}" == data.hex()


@pytest.mark.parametrize(("kind", "size"), [(NodeId, 31), (AccountId, 33), (LightningId, 32), (ShareId, 0)])
def test_an_id_has_one_length(kind: type[NodeId], size: int) -> None:
    """The error names the kind and both lengths."""
    with pytest.raises(ValueError, match=rf"{kind.__name__} must have {kind.SIZE} bytes, this one has {size}"):
        kind(bytes(size))


@pytest.mark.parametrize("text", ["", "ab", "zz" * 32, "ab" * 33])
def test_what_is_no_hex_id_is_refused(text: str) -> None:
    """Wrong length or wrong digits."""
    with pytest.raises(ValueError, match="64 hex digits are needed"):
        NodeId.from_hex(text)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (f"lnstore://{NODE}@node.example:9736", "node.example", 9736),
        (f"lnstore://{NODE}@127.0.0.1:1", "127.0.0.1", 1),
        (f"lnstore://{NODE}@[::1]:65535", "::1", 65535),
        (f" lnstore://{str(NODE).upper()}@h:80\n", "h", 80),
    ],
)
def test_addresses_round_trip(text: str, host: str, port: int) -> None:  # C-W4
    """Names, IPv4, IPv6 in brackets."""
    address = NodeAddress.parse(text)
    assert address == NodeAddress(NODE, host, port)
    assert NodeAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "node.example:9736",
        f"http://{NODE}@node.example:9736",
        f"lnstore://{NODE}@node.example",
        f"lnstore://{NODE}@node.example:0",
        f"lnstore://{NODE}@node.example:65536",
        f"lnstore://{NODE}@:9736",
        f"lnstore://{NODE}@a b:9736",
        f"lnstore://{NODE}@::1:9736",
        f"lnstore://{str(NODE)[:-1]}@node.example:9736",
        f"lnstore://{NODE}@a@b:9736",
        f"lnstore://{NODE}@h:9736/path",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:  # C-R10
    """With a sentence that shows what one looks like."""
    with pytest.raises(ValueError, match="lnstore://<64 hex digits>@host:port"):
        NodeAddress.parse(text)


# --- CBOR -------------------------------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers(0, (1 << 63) - 1) | st.binary(max_size=40) | st.text(max_size=20)
flat = st.lists(scalars, max_size=4) | st.dictionaries(st.integers(0, 100), scalars, max_size=5)
values = st.dictionaries(st.integers(0, 1 << 40), scalars | flat | st.lists(flat, max_size=3), max_size=8)


@given(values)
def test_cbor_round_trips(value: Any) -> None:
    """One value, one encoding."""
    encoded = cbor.encode(value)
    assert cbor.decode(encoded, what="value") == value
    assert cbor.encode(cbor.decode(encoded, what="value")) == encoded
    assert cbor.encode(dict(reversed(value.items()))) == encoded


@given(st.integers(0, (1 << 63) - 1))
def test_keys_are_in_the_order_of_their_bytes(key: int) -> None:
    """RFC 8949 §4.2.1, not the older length-first order; for unsigned integers both agree."""
    keys = sorted({key, 0, 23, 24, 255, 256, 65535, 65536, 1 << 32}, key=cbor2.dumps)
    assert list(cbor.decode(cbor.encode(dict.fromkeys(keys, 0)), what="")) == keys


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "valid CBOR"),
        (b"\xa1\x00", "valid CBOR"),
        (b"\x00\x00", "deterministic|valid CBOR"),
        (b"\x18\x05", "deterministic"),
        (b"\xa2\x01\x00\x00\x00", "deterministic"),
        (b"\xa2\x00\x00\x00\x01", "deterministic|valid CBOR"),
        (b"\x5f\x41\x00\xff", "deterministic"),
        (b"\x9f\x00\xff", "deterministic"),
        (b"\xbf\x00\x00\xff", "deterministic"),
        (b"\x58\x01\x00", "deterministic"),
        (b"\x20", "out of range"),
        (b"\x1b\x80\x00\x00\x00\x00\x00\x00\x00", "out of range"),
        (b"\xc2\x41\x05", "holds a tag"),
        (b"\xf9\x3c\x00", "holds a float"),
        (b"\xf7", "holds a"),
        (b"\xc0\x74" + b"2013-03-21T20:04:00Z", "holds a|valid CBOR"),
        (b"\xa1\x61a\x00", "unsigned integer"),
        (b"\xa1\x20\x00", "unsigned integer"),
        (b"\xa1\xf5\x00", "unsigned integer"),
        (b"\x81\x81\x81\x81\x80", "deeply"),
        (b"\x81\xa1\x00\x81\xa1\x00\x81\x00", "deeply"),
        (b"\x81" * 500 + b"\x80", "deeply"),
        (b"\x62\xff\xfe", "valid CBOR"),
        (b"\xd8\x23\x63(a+", "holds a tag"),
        (b"\xa1\x1b\x80\x00\x00\x00\x00\x00\x00\x00\x00", "unsigned integer"),
        (b"\x9a\x00\x10\x00\x00" + b"\x00" * (1 << 20), "values"),
        (b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "valid CBOR"),
        (b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff", "valid CBOR"),
    ],
)
def test_every_other_encoding_is_refused(data: bytes, words: str) -> None:  # C-R6, C-R7
    """Longer forms, other orders, indefinite lengths, tags, floats, negative numbers; the error names the value."""
    with pytest.raises(RemoteProtocolError, match=words) as info:
        cbor.decode(data, what="the sheet")
    assert "the sheet" in str(info.value)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    """What decodes is deterministic; what does not is RemoteProtocolError."""
    try:
        value = cbor.decode(data, what="")
    except RemoteProtocolError:
        return
    assert cbor.encode(value) == data
