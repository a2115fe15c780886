"""What a peer costs a node before it has proven anything: memory and X25519 operations."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from protocol_strategies import CLIENT_KEY, NODE_KEY, fresh_pair, open_pair, sealed

from lnstore_protocol import messages as m
from lnstore_protocol import noise
from lnstore_protocol.connection import NEED_DATA, Connection, HandshakeDone, RequestReceived, Role
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.identity import Identity, x25519_public
from lnstore_protocol.ids import NodeId, ShareId
from lnstore_protocol.records import HANDSHAKE_RECEIVE_BYTES


@contextmanager
def memory_held() -> Iterator[Callable[[], int]]:
    """How many bytes the block's end holds more than its beginning, as Python's allocator counts them."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    try:
        yield lambda: tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def read_into(node: Connection, data: bytes) -> None:
    """As a shell does that reads into the receive buffer, as much as it is told to."""
    at = 0
    while at < len(data):
        space = node.receive_space()
        count = min(len(space), node.receive_bytes, len(data) - at)
        space[:count] = data[at : at + count]
        node.receive_advance(count)
        at += count


@pytest.mark.parametrize("how", ["in pieces", "into the buffer"])
def test_a_stranger_makes_a_node_hold_4_kib_at_most(how: str) -> None:
    """T-R7: measured with 47 bytes of act 1, and with act 1 and 95 bytes of act 3."""
    _held_by_a_stranger(how)  # what watches the lines that run (coverage) remembers them from now on
    assert max(_held_by_a_stranger(how)) < 4096


def _held_by_a_stranger(how: str) -> tuple[int, int]:
    client, node = fresh_pair()
    act_1 = client.initiate()

    def feed(data: bytes) -> None:
        node.receive_data(bytearray(data)) if how == "in pieces" else read_into(node, data)

    with memory_held() as held:
        for part in (act_1[:20], act_1[20:47]):
            feed(part)
            assert node.next_event() is NEED_DATA
        held_first = held()
    feed(act_1[47:])
    assert node.next_event() is NEED_DATA
    client.receive_data(node.data_to_send())
    assert isinstance(client.next_event(), HandshakeDone)
    act_3 = client.data_to_send()
    with memory_held() as held:
        for at in range(95):
            feed(act_3[at : at + 1])
            assert node.next_event() is NEED_DATA
        held_last = held()
    assert node.receive_bytes == HANDSHAKE_RECEIVE_BYTES
    feed(act_3[95:])
    assert isinstance(node.next_event(), HandshakeDone)
    assert node.receive_bytes == 65_536
    assert len(node.receive_space()) >= 65_536
    return held_first, held_last


def test_records_that_come_with_act_3_pass_through_the_small_buffer() -> None:
    """T-W5: a client need not wait."""
    client, node = fresh_pair()
    read_into(node, client.initiate())
    assert node.next_event() is NEED_DATA
    client.receive_data(node.data_to_send())
    assert isinstance(client.next_event(), HandshakeDone)
    put = m.PutShare(share_id=ShareId(bytes(32)), token_start=0, tokens=b"", payload=bytes(2500))
    stream = client.data_to_send() + sealed(client.send_request(put)[1])
    assert len(stream) < HANDSHAKE_RECEIVE_BYTES
    read_into(node, stream[:2000])
    assert isinstance(node.next_event(), HandshakeDone)
    assert node.next_event() is NEED_DATA
    read_into(node, stream[2000:])
    assert node.next_event() == RequestReceived(0, put)


class Operations:
    """Counts X25519 operations: libsodium's, wherever the handshake calls them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for name in ("crypto_scalarmult", "crypto_scalarmult_base"):
            monkeypatch.setattr(noise, name, self._counting(getattr(noise, name)))

    def _counting(self, real: Callable[..., bytes]) -> Callable[..., bytes]:
        def counting(*args: bytes) -> bytes:
            self.count += 1
            return real(*args)

        return counting


@pytest.mark.parametrize(
    ("act_1", "most"),
    [(bytes(range(47)), 0), (bytes(range(48)), 1), (bytes(range(48)) * 40, 1), (bytes(48), 1)],
    ids=["47 bytes", "48 bytes", "40 times 48 bytes", "a point of low order"],
)
def test_who_does_not_know_the_node_id_costs_one_operation(
    monkeypatch: pytest.MonkeyPatch, act_1: bytes, most: int
) -> None:
    """T-R8, T-R2: and gets no byte for it, however much it sends; 47 bytes cost none."""
    operations = Operations(monkeypatch)
    node = Connection(Role.NODE, NODE_KEY)
    for at in range(0, len(act_1), 48):
        node.receive_data(act_1[at : at + 48])
        with suppress(RemoteProtocolError):
            assert node.next_event() is NEED_DATA
    assert operations.count == most
    assert node.data_to_send() == b""


def test_a_client_for_another_node_costs_one_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    """T-R8: an act 1 in good form, made for another key."""
    act_1 = Connection(Role.CLIENT, CLIENT_KEY, remote=NodeId(Identity(b"\x77" * 32).public_key)).initiate()
    operations = Operations(monkeypatch)
    node = Connection(Role.NODE, NODE_KEY)
    node.receive_data(act_1)
    with pytest.raises(RemoteProtocolError):
        node.next_event()
    assert operations.count == 1


def test_an_identity_knows_its_own_x25519_form() -> None:
    """T-W1: made once from the secret key; the same as the conversion of the public one."""
    assert NODE_KEY.x25519_public() == x25519_public(NODE_KEY.public_key)
    client, node = open_pair()
    assert client.is_open
    assert node.is_open
