"""Reading from a real socket into the protocol core: the same events whatever the kernel hands over at once."""

from __future__ import annotations

import socket
import struct

import pytest
import trio
import trio.testing

from lnstore.receiving import READ_BYTES, receive
from lnstore_protocol.connection import NEED_DATA, Connection, HandshakeDone, Role
from lnstore_protocol.events import PeerClosed, RequestReceived
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import NodeId, ShareId
from lnstore_protocol.messages import GetTerms, PutShare


def _pair() -> tuple[Connection, Connection]:
    operator = Identity.generate()
    client = Connection(Role.CLIENT, Identity.generate(), remote=NodeId(operator.public_key))
    node = Connection(Role.NODE, operator)
    node.receive_data(client.initiate())
    node.next_event()
    client.receive_data(node.data_to_send())
    assert isinstance(client.next_event(), HandshakeDone)
    node.receive_data(client.data_to_send())
    assert isinstance(node.next_event(), HandshakeDone)
    return client, node


def _sockets() -> tuple[trio.SocketStream, trio.SocketStream]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        left = socket.create_connection(server.getsockname())
        right, _ = server.accept()
    return trio.SocketStream(trio.socket.from_stdlib_socket(left)), trio.SocketStream(
        trio.socket.from_stdlib_socket(right)
    )


@pytest.mark.parametrize("size", [1, READ_BYTES, READ_BYTES + 1, 1_000_000])
@pytest.mark.parametrize("over", ["a socket", "memory"])
async def test_messages_with_payloads_and_small_ones_arrive_in_order_and_whole(size: int, over: str) -> None:
    """Payloads of all sizes, each followed by a small message that may share its last read; then the end."""
    client, node = _pair()
    near, far = _sockets() if over == "a socket" else trio.testing.memory_stream_pair()
    payloads = [bytes([number]) * size for number in (1, 2, 3)]

    async def send() -> None:
        async with near:
            for payload in payloads:
                put = PutShare(share_id=ShareId(bytes(32)), token_start=0, tokens=b"", payload=payload)
                for message in (put, GetTerms()):
                    for chunk in client.send_request(message)[1]:
                        await near.send_all(bytes(chunk))

    got: list[object] = []
    async with far, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while not isinstance(event := node.next_event(), PeerClosed):
            if event is NEED_DATA:
                await receive(far, node)
            else:
                assert isinstance(event, RequestReceived)
                got.append(event.message)
    assert [bytes(m.payload) for m in got[::2] if isinstance(m, PutShare)] == payloads
    assert got[1::2] == [GetTerms()] * 3


async def test_a_connection_that_breaks_within_a_payload_is_a_broken_stream() -> None:
    """As `receive_some` says it; and what was closed on this side is not called broken."""
    client, node = _pair()
    near, far = _sockets()
    put = PutShare(share_id=ShareId(bytes(32)), token_start=0, tokens=b"", payload=bytes(1_000_000))
    async with near, far:
        await near.send_all(bytes(next(client.send_request(put)[1])[:20_000]))  # less than sockets hold unread
        while node.payload_left_bytes <= READ_BYTES:
            await receive(far, node)
            assert node.next_event() is NEED_DATA
        # Closing it then resets the connection.
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await near.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await receive(far, node)
        await far.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await receive(far, node)
