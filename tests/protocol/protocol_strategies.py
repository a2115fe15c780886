"""Hypothesis strategies for protocol values, and two connections wired in memory."""

from __future__ import annotations

import types
from dataclasses import fields
from enum import IntEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from lnstore_protocol.codec import MAX_ELEMENT_BYTES, MESSAGES
from lnstore_protocol.connection import NEED_DATA, Connection, Event, HandshakeDone, Role
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import FixedBytes, LightningId, Msat, NodeId, ShareId
from lnstore_protocol.messages import Message, Reply, Request
from lnstore_protocol.noise import CipherState
from lnstore_protocol.terms import ChannelPolicy, Terms

CLIENT_KEY = Identity(b"\x11" * 32)
NODE_KEY = Identity(b"\x22" * 32)
NODE_ID = NodeId(NODE_KEY.public_key)

uint63 = st.integers(0, (1 << 63) - 1)
share_ids = st.binary(min_size=32, max_size=32).map(ShareId)
keys = st.binary(min_size=32, max_size=32)


def _texts(max_bytes: int) -> st.SearchStrategy[str]:
    return st.text(max_size=min(max_bytes, 40)).filter(lambda text: len(text.encode()) <= max_bytes)


def _values(kind: Any, max_len: int) -> st.SearchStrategy[Any]:
    if get_origin(kind) in (Union, types.UnionType):
        inner = next(arm for arm in get_args(kind) if arm is not type(None))
        return st.none() | _values(inner, max_len)
    kind = getattr(kind, "__supertype__", kind)
    if get_origin(kind) is list:
        return st.lists(_texts(MAX_ELEMENT_BYTES), max_size=min(max_len, 6))
    if issubclass(kind, IntEnum):
        return st.sampled_from(list(kind))
    if issubclass(kind, FixedBytes):
        return st.binary(min_size=kind.SIZE, max_size=kind.SIZE).map(kind)
    return {int: uint63, str: _texts(max_len), bytes: st.binary(max_size=min(max_len, 200))}[kind]


def message_of(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Messages of one class, within every limit."""
    hints = get_type_hints(cls)
    parts = {
        field.name: _values(hints[field.name], field.metadata["max_len"])
        for field in fields(cls)
        if "key" in field.metadata
    }
    if any(field.name == "payload" for field in fields(cls)):
        parts["payload"] = st.binary(max_size=300)
    return st.builds(cls, **parts)


messages: st.SearchStrategy[Message] = st.sampled_from(list(MESSAGES.values())).flatmap(message_of)
requests: st.SearchStrategy[Request] = st.sampled_from(get_args(Request)).flatmap(message_of)


def replies_to(request: Request) -> st.SearchStrategy[Reply]:
    """The reply that fits a request, with any content."""
    return message_of(MESSAGES[request.TYPE + 256])


def example_terms(**changes: Any) -> Terms:
    """Terms of the node with the test key."""
    values: dict[str, Any] = {
        "node_id": NODE_ID,
        "lightning_id": LightningId(b"\x02" + b"\x33" * 32),
        "network": "regtest",
        "price_msat_per_gib_month": Msat(2000),
        "egress_msat_per_gib": Msat(1000),
        "ingress_msat_per_gib": Msat(0),
        "period_seconds": 2_592_000,
        "grace_seconds": 604_800,
        "minimum_capacity_bytes": 1 << 20,
        "maximum_capacity_bytes": 1 << 40,
        "channel_policy": ChannelPolicy.ANY,
        "minimum_channel_sat": 100_000,
        "valid_from_at": 1_800_000_000,
        "valid_until_at": 1_800_086_400,
        "price_periods": 12,
    }
    return Terms(**(values | changes))


# --- connections ------------------------------------------------------------------------------------------------------


def fresh_pair(**node_options: Any) -> tuple[Connection, Connection]:
    """A client and a node that have not spoken yet."""
    client = Connection(Role.CLIENT, CLIENT_KEY, remote=NODE_ID)
    return client, Connection(Role.NODE, NODE_KEY, **node_options)


def open_pair(**node_options: Any) -> tuple[Connection, Connection]:
    """A client and a node after the handshake."""
    client, node = fresh_pair(**node_options)
    node.receive_data(client.initiate())
    assert node.next_event() is NEED_DATA
    client.receive_data(node.data_to_send())
    assert isinstance(client.next_event(), HandshakeDone)
    node.receive_data(client.data_to_send())
    assert isinstance(node.next_event(), HandshakeDone)
    return client, node


def sealed(chunks: Any) -> bytes:
    """All chunks of one send as bytes."""
    return b"".join(bytes(chunk) for chunk in chunks)


def events_of(connection: Connection) -> list[Event]:
    """Every event that is there."""
    events: list[Event] = []
    while (event := connection.next_event()) is not NEED_DATA:
        assert not isinstance(event, type(NEED_DATA))
        events.append(event)
    return events


def sender_cipher(connection: Connection) -> CipherState:
    """The cipher a connection sends with, to forge what its own rules would not send."""
    assert connection._sender is not None
    return connection._sender._cipher


def forge_record(connection: Connection, plaintext: bytes) -> bytes:
    """One record as `connection` would seal it, with any plaintext."""
    ciphertext = sender_cipher(connection).seal(plaintext)
    return len(ciphertext).to_bytes(2, "big") + ciphertext


def forge_frame(connection: Connection, head: bytes, payload: bytes = b"") -> bytes:
    """One frame in one record, with any head."""
    return forge_record(connection, len(head).to_bytes(4, "big") + len(payload).to_bytes(4, "big") + head + payload)
