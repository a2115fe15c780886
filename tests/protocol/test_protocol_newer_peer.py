"""A peer of version 1.1, with an invented field, an invented message and an invented feature, meets this version."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from protocol_strategies import events_of, forge_frame, open_pair, sealed

from lnstore_protocol import messages as m
from lnstore_protocol.connection import ReplyReceived, RequestReceived, UnknownRequest
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.ids import LightningId

HELLO = m.Hello(version_major=1, version_minor=0, features=b"")
ODD_MESSAGE = msgpack.packb([301, 77, {2: "news", 4: [1, 2]}])


def head(message_type: int, request_id: int, body: dict[int, Any]) -> bytes:
    packed: bytes = msgpack.packb([message_type, request_id, body])
    return packed


def hello_reply(**changes: Any) -> dict[int, Any]:
    """The body of a 1.1 node's reply: minor version 1, an odd feature, a field that 1.0 does not have."""
    body = {2: 1, 4: 1, 6: b"\x02", 8: "regtest", 10: bytes(33), 12: "sig", 14: 5, 15: {"load": [0.5, None]}}
    return body | {int(key[1:]): value for key, value in changes.items()}


def test_a_client_of_1_0_is_served_by_a_node_of_1_1() -> None:
    """M-W5, M-R3, M-R4, M-R13: what is odd is passed over, and the two go on in 1.0 (M-W8)."""
    client, node = open_pair()
    for message in (HELLO, m.GetTerms()):
        node.receive_data(sealed(client.send_request(message)[1]))
    assert [event.request_id for event in events_of(node) if isinstance(event, RequestReceived)] == [0, 1]
    client.receive_data(forge_frame(node, ODD_MESSAGE))
    client.receive_data(forge_frame(node, head(258, 0, hello_reply())))
    client.receive_data(forge_frame(node, ODD_MESSAGE))
    client.receive_data(forge_frame(node, head(260, 1, {2: b"terms", 31: [1]})))
    first, second = events_of(client)
    assert isinstance(first, ReplyReceived)
    hello = first.message
    assert isinstance(hello, m.HelloReply)
    assert (hello.version_minor, hello.network, hello.lightning_id) == (1, "regtest", LightningId(bytes(33)))
    assert min(hello.version_minor, HELLO.version_minor) == 0
    assert not m.demands_a_feature(hello.features)
    assert second == ReplyReceived(1, m.TermsReply(terms=b"terms"))


def test_a_node_of_1_0_serves_a_client_of_1_1() -> None:
    """M-R5: even what it does not know and should costs the client that request only."""
    client, node = open_pair()
    node.receive_data(forge_frame(client, head(2, 0, {2: 1, 4: 1, 6: b"\x02", 7: "1.1"})))
    node.receive_data(forge_frame(client, ODD_MESSAGE))
    node.receive_data(forge_frame(client, head(98, 1, {2: "a request of 1.1"})))
    node.receive_data(forge_frame(client, head(4, 2, {97: b"odd"})))
    hello = m.Hello(version_major=1, version_minor=1, features=b"\x02")
    assert events_of(node) == [RequestReceived(0, hello), UnknownRequest(1, 98), RequestReceived(2, m.GetTerms())]
    assert not m.demands_a_feature(hello.features)


@pytest.mark.parametrize("features", [b"\x01", b"\x04", b"\x00\x10", b"\x40" + bytes(63)])
def test_a_node_of_1_1_that_can_not_serve_1_0_is_refused_with_a_reason(features: bytes) -> None:
    """M-R11, M-R12: the even bit of a pair is a demand, and version 1.0 knows no feature."""
    assert m.demands_a_feature(features)


def test_an_even_field_of_1_1_that_was_not_agreed_is_refused() -> None:
    """M-R2, M-R7, M-W4: it would mean something else to each side; the node can say so before it closes."""
    client, node = open_pair()
    node.receive_data(forge_frame(client, head(4, 5, {2: 1})))
    with pytest.raises(RemoteProtocolError) as info:
        events_of(node)
    assert (info.value.code, info.value.request_id) == (ErrorCode.UNKNOWN_FEATURE, 5)
    assert sealed(node.send_reply(5, m.ErrorReply(code=info.value.code, message="")))
