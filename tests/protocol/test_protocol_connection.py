"""Two connections in memory: the handshake, messages however the bytes are cut, and the rules of each side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_strategies import (
    CLIENT_KEY,
    NODE_ID,
    NODE_KEY,
    events_of,
    fresh_pair,
    open_pair,
    replies_to,
    requests,
    sealed,
)

from lnstore_protocol import messages as m
from lnstore_protocol.connection import (
    MAX_PENDING_REQUESTS,
    NEED_DATA,
    Connection,
    Event,
    HandshakeDone,
    PeerClosed,
    ReplyReceived,
    RequestReceived,
    Role,
)
from lnstore_protocol.errors import ErrorCode, LocalProtocolError
from lnstore_protocol.frames import BufferPool
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import Msat, NodeId, ShareId
from lnstore_protocol.records import CHUNK_BYTES


def put(size: int) -> m.PutShare:
    payload = bytes(i * 7 % 251 for i in range(256)) * (size // 256 + 1)
    return m.PutShare(share_id=ShareId(b"s" * 32), token_start=0, tokens=b"t" * 384, payload=payload[:size])


def fed(connection: Connection, pieces: list[bytes]) -> list[Event]:
    events: list[Event] = []
    for piece in pieces:
        connection.receive_data(piece)
        events += events_of(connection)
    return events


# --- handshake --------------------------------------------------------------------------------------------------------


def test_the_handshake_tells_each_side_who_the_other_is() -> None:
    """48, 48 and 96 bytes; then the node knows the account, and the client that it reached the node."""
    client, node = fresh_pair()
    act_1 = client.initiate()
    node.receive_data(act_1)
    assert node.next_event() is NEED_DATA
    act_2 = node.data_to_send()
    client.receive_data(act_2)
    assert client.next_event() == HandshakeDone(NODE_ID)
    open_before = node.is_open
    act_3 = client.data_to_send()
    node.receive_data(act_3)
    assert node.next_event() == HandshakeDone(CLIENT_KEY.public_key)
    assert [len(act) for act in (act_1, act_2, act_3)] == [48, 48, 96]
    assert (open_before, client.is_open, node.is_open) == (False, True, True)
    assert client.data_to_send() == node.data_to_send() == b""


def test_the_node_is_silent_until_act_1_is_complete() -> None:  # T-W3
    """A port scan gets no byte."""
    client, node = fresh_pair()
    act_1 = client.initiate()
    for byte in act_1[:-1]:
        node.receive_data(bytes([byte]))
        assert node.next_event() is NEED_DATA
        assert node.data_to_send() == b""
    node.receive_data(act_1[-1:])
    assert node.next_event() is NEED_DATA
    assert len(node.data_to_send()) == 48


def test_requests_may_follow_act_3_at_once() -> None:  # T-W5, M-W10
    """Handshake and messages in one piece, and byte by byte, give the same events."""
    for step in (1, 10_000):
        client, node = fresh_pair()
        node.receive_data(client.initiate())
        assert node.next_event() is NEED_DATA
        client.receive_data(node.data_to_send())
        assert fed(client, [b""]) == [HandshakeDone(NODE_ID)]
        stream = client.data_to_send() + sealed(client.send_request(m.GetTerms())[1])
        stream += sealed(client.send_request(m.AccountStatus())[1])
        assert fed(node, [stream[i : i + step] for i in range(0, len(stream), step)]) == [
            HandshakeDone(CLIENT_KEY.public_key),
            RequestReceived(0, m.GetTerms()),
            RequestReceived(1, m.AccountStatus()),
        ]


def test_act_3_goes_out_before_any_request() -> None:
    """The order on the wire is the order of the ciphers."""
    client, node = fresh_pair()
    node.receive_data(client.initiate())
    assert node.next_event() is NEED_DATA
    client.receive_data(node.data_to_send())
    assert isinstance(client.next_event(), HandshakeDone)
    with pytest.raises(LocalProtocolError, match="data_to_send comes first"):
        client.send_request(m.GetTerms())


def test_roles_are_kept_in_the_handshake() -> None:
    """A client names its node, a node names nobody; only a client initiates, once."""
    with pytest.raises(LocalProtocolError, match="names the node"):
        Connection(Role.CLIENT, CLIENT_KEY)
    with pytest.raises(LocalProtocolError, match="names the node"):
        Connection(Role.NODE, NODE_KEY, remote=NodeId(CLIENT_KEY.public_key))
    client, node = fresh_pair()
    with pytest.raises(LocalProtocolError, match="initiates"):
        node.initiate()
    client.initiate()
    with pytest.raises(LocalProtocolError, match="initiates"):
        client.initiate()
    with pytest.raises(LocalProtocolError, match="handshake"):
        client.send_request(m.GetTerms())


def test_the_same_keys_give_the_same_bytes() -> None:
    """With ephemeral keys injected nothing is random."""

    def first_bytes() -> tuple[bytes, bytes]:
        client = Connection(Role.CLIENT, CLIENT_KEY, remote=NODE_ID, ephemeral_private=b"\x44" * 32)
        node = Connection(Role.NODE, NODE_KEY, ephemeral_private=b"\x55" * 32)
        node.receive_data(client.initiate())
        assert node.next_event() is NEED_DATA
        client.receive_data(node.data_to_send())
        assert isinstance(client.next_event(), HandshakeDone)
        return client.data_to_send(), sealed(client.send_request(put(10_000))[1])

    assert first_bytes() == first_bytes()


# --- messages ---------------------------------------------------------------------------------------------------------


@given(st.lists(requests, min_size=1, max_size=4), st.data())
def test_any_cut_of_the_bytes_gives_the_same_events(sent: list[m.Request], data: st.DataObject) -> None:  # T-W8
    """Whole, cut anywhere, and byte by byte; then the replies in any order."""
    client, node = open_pair()
    stream = b"".join(sealed(client.send_request(message)[1]) for message in sent)
    expected = [RequestReceived(i, message) for i, message in enumerate(sent)]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=6)))
    assert fed(node, [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]) == expected
    assert client.pending_requests == node.pending_requests == len(sent)

    order = data.draw(st.permutations(range(len(sent))))
    answers = [(i, data.draw(replies_to(sent[i]))) for i in order]
    back = b"".join(sealed(node.send_reply(i, reply)) for i, reply in answers)
    assert fed(client, [back[i : i + 1] for i in range(len(back))]) == [ReplyReceived(i, r) for i, r in answers]
    assert client.pending_requests == node.pending_requests == 0


@pytest.mark.parametrize("step", [1000, 65_536, 70_000, 1 << 30])
@pytest.mark.parametrize("size", [0, 1, 3_500, 4_096, 65_518, 65_519, 260_000, 300_000, m.MAX_SHARE_BYTES])
def test_payloads_of_every_size_arrive(size: int, step: int) -> None:
    """Below, at and above the bounds of records and chunks; the chunks are never longer than they may be."""
    client, node = open_pair()
    message = put(size)
    chunks = []
    for chunk in client.send_request(message)[1]:
        assert 0 < len(chunk) <= CHUNK_BYTES
        chunks.append(bytes(chunk))
    stream = b"".join(chunks)
    # A prefix of whole chunks is what arrives first; a few bytes of overhead per record.
    assert len(stream) < size + 600 + (size // 65_000 + 3) * 18
    assert fed(node, [stream[i : i + step] for i in range(0, len(stream), step)]) == [RequestReceived(0, message)]


def test_receiving_into_the_buffer_is_the_same() -> None:
    """receive_space and receive_advance instead of receive_data, mixed with it."""
    client, node = open_pair()
    stream = b"".join(sealed(client.send_request(put(size))[1]) for size in (200_000, 5, 70_000, 0, 900_000))
    events: list[Event] = []
    at = 0
    while at < len(stream):
        if at % 3 == 0:
            count = min(40_000, len(stream) - at)
            node.receive_data(stream[at : at + count])
        else:
            space = node.receive_space()
            assert len(space) >= 65_536
            count = min(50_001, len(space), len(stream) - at)
            space[:count] = stream[at : at + count]
            node.receive_advance(count)
        at += count
        events += events_of(node)
    assert [len(e.message.payload) for e in events if isinstance(e, RequestReceived)] == [  # type: ignore[union-attr]
        200_000,
        5,
        70_000,
        0,
        900_000,
    ]


def test_a_mutable_buffer_may_be_used_again_by_the_caller() -> None:
    """Only bytes objects are kept; a bytearray is copied."""
    client, node = open_pair()
    stream = bytearray(sealed(client.send_request(m.GetTerms())[1]))
    node.receive_data(memoryview(stream))
    stream[:] = bytes(len(stream))
    assert node.next_event() == RequestReceived(0, m.GetTerms())


def test_space_that_was_not_asked_for_cannot_be_filled() -> None:
    """receive_advance is for what receive_space gave."""
    _, node = open_pair()
    with pytest.raises(LocalProtocolError, match="space"):
        node.receive_advance(1)
    space = node.receive_space()
    with pytest.raises(LocalProtocolError, match="space"):
        node.receive_advance(len(space) + 1)


def test_the_announced_payload_shows_while_it_comes() -> None:
    """The shell can charge its memory budget before it reads on."""
    client, node = open_pair()
    assert node.announced_payload_bytes == 0
    chunks = iter(client.send_request(put(1_000_000))[1])
    node.receive_data(bytes(next(chunks)))
    assert node.next_event() is NEED_DATA
    assert node.announced_payload_bytes == 1_000_000
    assert fed(node, [bytes(chunk) for chunk in chunks])
    assert node.announced_payload_bytes == 0


def test_a_pool_provides_the_payload_buffers() -> None:
    """The buffer of a payload given back takes the next one."""
    pool = BufferPool(size=m.MAX_SHARE_BYTES, keep=2)
    client, node = open_pair(allocate=pool.take)
    buffers = set()
    for _ in range(3):
        (event,) = fed(node, [sealed(client.send_request(put(m.MAX_SHARE_BYTES))[1])])
        assert isinstance(event, RequestReceived)
        assert isinstance(event.message, m.PutShare)
        assert event.message.payload == put(m.MAX_SHARE_BYTES).payload
        assert isinstance(event.message.payload, memoryview)
        buffers.add(id(event.message.payload.obj))
        pool.give(event.message.payload)
    assert len(buffers) == 1


def test_the_output_buffer_is_used_again() -> None:
    """One buffer per connection: a chunk is valid only until the next step."""
    client, _ = open_pair()
    _, chunks = client.send_request(put(1_000_000))
    assert len({id(chunk.obj) for chunk in chunks}) == 1


def test_an_error_fits_every_request() -> None:
    """ErrorReply is the one reply that answers any request."""
    client, node = open_pair()
    request_id, chunks = client.send_request(put(5))
    fed(node, [sealed(chunks)])
    error = m.ErrorReply(code=ErrorCode.PAYMENT_REQUIRED, message="pay", bolt11="lnbcrt1", amount_msat=Msat(5))
    assert fed(client, [sealed(node.send_reply(request_id, error))]) == [ReplyReceived(request_id, error)]


# --- closing, and misuse by this side ---------------------------------------------------------------------------------


def test_the_end_between_messages_is_an_event() -> None:  # T-R20
    """Both sides can go on sending; nothing more may be received."""
    client, node = open_pair()
    request_id, chunks = client.send_request(m.GetTerms())
    node.receive_data(sealed(chunks))
    node.receive_eof()
    assert node.next_event() == RequestReceived(0, m.GetTerms())
    assert node.next_event() == PeerClosed()
    assert node.next_event() == PeerClosed()
    with pytest.raises(LocalProtocolError, match="after the end"):
        node.receive_data(b"x")
    with pytest.raises(LocalProtocolError, match="after the end"):
        node.receive_advance(1)
    assert fed(client, [sealed(node.send_reply(request_id, m.TermsReply(terms=b"t")))])


def test_a_send_must_be_consumed_before_the_next() -> None:
    """Interleaved records of two messages would be neither."""
    client, _ = open_pair()
    _, chunks = client.send_request(put(1_000_000))
    with pytest.raises(LocalProtocolError, match="not been sent completely"):
        client.send_request(m.GetTerms())
    next(chunks)
    with pytest.raises(LocalProtocolError, match="not been sent completely"):
        client.send_request(m.GetTerms())
    sealed(chunks)
    client.send_request(m.GetTerms())


def test_after_a_failed_send_nothing_is_sent() -> None:  # T-W9
    """Bytes that were lost make the rest unreadable, whether the shell says so or drops the chunks half-way."""
    client, _ = open_pair()
    sealed(client.send_request(m.GetTerms())[1])
    client.send_failed()
    assert not client.is_open
    with pytest.raises(LocalProtocolError, match="earlier send failed"):
        client.send_request(m.GetTerms())
    client, _ = open_pair()
    _, chunks = client.send_request(put(1_000_000))
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert not client.is_open
    with pytest.raises(LocalProtocolError, match="earlier send failed"):
        client.send_request(m.GetTerms())
    client, _ = fresh_pair()
    client.send_failed()
    with pytest.raises(LocalProtocolError):
        client.initiate()


def test_a_message_over_its_limit_leaves_the_connection_as_it_was() -> None:
    """A refused message takes no request id and no nonce."""
    client, node = open_pair()
    with pytest.raises(LocalProtocolError):
        client.send_request(put(m.MAX_SHARE_BYTES + 1))
    assert client.pending_requests == 0
    assert fed(node, [sealed(client.send_request(m.GetTerms())[1])]) == [RequestReceived(0, m.GetTerms())]


def test_each_side_sends_its_own_kind() -> None:
    """Clients request, nodes reply, and only what fits a request that waits."""
    client, node = open_pair()
    terms = m.TermsReply(terms=b"t")
    with pytest.raises(LocalProtocolError, match="client sends requests"):
        node.send_request(m.GetTerms())
    with pytest.raises(LocalProtocolError, match="client sends requests"):
        client.send_request(terms)  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match="node sends replies"):
        client.send_reply(0, terms)
    with pytest.raises(LocalProtocolError, match="node sends replies"):
        node.send_reply(0, m.GetTerms())  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match="not waiting"):
        node.send_reply(0, terms)
    fed(node, [sealed(client.send_request(m.GetTerms())[1])])
    with pytest.raises(LocalProtocolError, match="does not answer"):
        node.send_reply(0, m.PutShareReply(used_bytes=1))
    sealed(node.send_reply(0, terms))
    with pytest.raises(LocalProtocolError, match="not waiting"):
        node.send_reply(0, terms)


def test_pending_requests_are_bounded() -> None:  # T-W12
    """A client of ours never has more unanswered requests than a node must take."""
    client, node = open_pair()
    for _ in range(MAX_PENDING_REQUESTS):
        fed(node, [sealed(client.send_request(m.GetTerms())[1])])
    with pytest.raises(LocalProtocolError, match="unanswered"):
        client.send_request(m.GetTerms())
    fed(client, [sealed(node.send_reply(77, m.TermsReply(terms=b"t")))])
    client.send_request(m.GetTerms())


def test_secrets_are_not_in_repr() -> None:
    """A connection prints its role and phase."""
    client, _ = open_pair()
    assert repr(client) == "Connection(client, open)"
    assert Identity(b"\xee" * 32).seed.hex() not in repr(Identity(b"\xee" * 32))
