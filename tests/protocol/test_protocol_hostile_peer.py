"""What a malicious or faulty peer can send, and how each is refused."""

from __future__ import annotations

from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_strategies import (
    CLIENT_KEY,
    NODE_ID,
    events_of,
    forge_frame,
    forge_record,
    fresh_pair,
    open_pair,
    sealed,
    sender_cipher,
)

from lnstore_protocol import messages as m
from lnstore_protocol.codec import encode_head
from lnstore_protocol.connection import (
    MAX_PENDING_REQUESTS,
    NEED_DATA,
    PROLOGUE,
    Connection,
    HandshakeDone,
    ReplyReceived,
    RequestReceived,
    Role,
    UnknownRequest,
)
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.identity import Identity, x25519_public
from lnstore_protocol.ids import NodeId, ShareId
from lnstore_protocol.noise import Handshake

INTERNAL = m.ErrorReply(code=ErrorCode.INTERNAL, message="")


def refusal(connection: Connection, data: bytes) -> RemoteProtocolError:
    """The error that `data` brings about; it comes again at each further call."""
    connection.receive_data(data)
    with pytest.raises(RemoteProtocolError) as info:
        events_of(connection)
    with pytest.raises(RemoteProtocolError) as again:
        connection.next_event()
    assert again.value is info.value
    return info.value


# --- handshake --------------------------------------------------------------------------------------------------------


def test_a_client_that_expects_another_node_gets_no_answer() -> None:  # T-R2
    """Act 1 is for the holder of one key."""
    client = Connection(Role.CLIENT, CLIENT_KEY, remote=NodeId(Identity(b"\x77" * 32).public_key))
    _, node = fresh_pair()
    refusal(node, client.initiate())
    assert node.data_to_send() == b""


def test_a_node_without_the_key_cannot_answer() -> None:  # T-R3
    """Who has not the node's secret key cannot make act 2."""
    client, _ = fresh_pair()
    client.initiate()
    refusal(client, bytes(range(48)))


@given(st.binary(min_size=48, max_size=100))
def test_noise_on_the_port_is_refused(data: bytes) -> None:
    """A scanner's bytes end the connection without an answer."""
    _, node = fresh_pair()
    refusal(node, data)
    assert node.data_to_send() == b""


@pytest.mark.parametrize(
    "claimed",
    [Identity(b"\x66" * 32).public_key, b"\x01" + bytes(31), bytes(32), b"\xff" * 32],
    ids=["another account's key", "a point of low order", "zero", "no point at all"],
)
def test_an_account_key_must_be_the_one_of_the_handshake(claimed: bytes) -> None:  # T-R4, T-R1
    """Nobody can claim an account whose secret key it has not."""
    attacker = Handshake(
        initiator=True,
        prologue=PROLOGUE,
        static_private=CLIENT_KEY.x25519_private(),
        remote_static=x25519_public(NODE_ID),
    )
    _, node = fresh_pair()
    node.receive_data(attacker.write_message())
    assert node.next_event() is NEED_DATA
    attacker.read_message(node.data_to_send())
    refusal(node, attacker.write_message(claimed))
    assert not node.is_open


def test_an_act_1_with_another_prologue_is_refused() -> None:
    """Another protocol, or another version of it, does not get past the first act."""
    attacker = Handshake(
        initiator=True,
        prologue=b"lnstore/2",
        static_private=CLIENT_KEY.x25519_private(),
        remote_static=x25519_public(NODE_ID),
    )
    _, node = fresh_pair()
    refusal(node, attacker.write_message())


@pytest.mark.parametrize("act", [1, 2, 3])
def test_a_replayed_or_damaged_act_is_refused(act: int) -> None:
    """One bit is enough."""
    client, node = fresh_pair()
    acts = [client.initiate()]
    if act > 1:
        node.receive_data(acts[0])
        assert node.next_event() is NEED_DATA
        acts.append(node.data_to_send())
    if act > 2:
        client.receive_data(acts[1])
        assert isinstance(client.next_event(), HandshakeDone)
        acts.append(client.data_to_send())
    damaged = bytearray(acts[-1])
    damaged[-1] ^= 0x80
    refusal(client if act == 2 else node, bytes(damaged))


def test_an_end_within_the_handshake_is_an_error() -> None:
    """There is no half-open connection to go on with."""
    client, node = fresh_pair()
    node.receive_data(client.initiate()[:47])
    node.receive_eof()
    with pytest.raises(RemoteProtocolError, match="closed within"):
        node.next_event()


# --- records ----------------------------------------------------------------------------------------------------------


def test_a_damaged_record_is_refused_whichever_byte_it_is() -> None:  # T-R11
    """Ciphertext and tag directly, the length because the tag then fails."""
    for at in (1, 2, 20, -1):
        client, node = open_pair()
        data = bytearray(sealed(client.send_request(m.GetTerms())[1]))
        data[at] ^= 1
        refusal(node, bytes(data) + bytes(10))


def test_records_cannot_be_replayed_dropped_or_swapped() -> None:  # T-W7
    """The nonce counts."""
    client, node = open_pair()
    first = sealed(client.send_request(m.GetTerms())[1])
    second = sealed(client.send_request(m.GetTerms())[1])
    refusal(node, second)
    client, node = open_pair()
    first = sealed(client.send_request(m.GetTerms())[1])
    node.receive_data(first)
    assert events_of(node) == [RequestReceived(0, m.GetTerms())]
    refusal(node, first)


def test_a_record_cannot_be_turned_back_to_its_sender() -> None:
    """Each direction has its own key."""
    client, _ = open_pair()
    refusal(client, sealed(client.send_request(m.GetTerms())[1]))


@pytest.mark.parametrize("length", [0, 1, 15, 16])
def test_a_record_that_carries_nothing_is_refused(length: int) -> None:  # T-R10
    """Empty records would keep a reader busy for nothing; the length alone tells."""
    _, node = open_pair()
    assert "nothing" in str(refusal(node, length.to_bytes(2, "big")))


@pytest.mark.parametrize("cut", [1, 2, 29])
def test_an_end_within_a_record_is_an_error(cut: int) -> None:  # T-R20
    """A stream that was cut does not look like one that ended."""
    client, node = open_pair()
    node.receive_data(sealed(client.send_request(m.GetTerms())[1])[:cut])
    node.receive_eof()
    with pytest.raises(RemoteProtocolError, match="closed within"):
        node.next_event()


def test_an_end_between_the_records_of_a_message_is_an_error() -> None:
    """Nor does a message that lacks its last record."""
    client, node = open_pair()
    put = m.PutShare(share_id=ShareId(b"s" * 32), token_start=0, tokens=b"", payload=bytes(300_000))
    node.receive_data(bytes(next(iter(client.send_request(put)[1]))))
    node.receive_eof()
    with pytest.raises(RemoteProtocolError, match="closed within"):
        events_of(node)


# --- messages ---------------------------------------------------------------------------------------------------------


def test_unknown_odd_messages_are_passed_over_on_both_sides() -> None:  # M-R4
    """A newer peer may say what this side does not understand."""
    client, node = open_pair()
    odd = msgpack.packb([99, 5, {2: "anything"}])
    node.receive_data(forge_frame(client, odd) + sealed(client.send_request(m.GetTerms())[1]))
    assert events_of(node) == [RequestReceived(0, m.GetTerms())]
    reply = m.TermsReply(terms=b"t")
    client.receive_data(forge_frame(node, odd) + sealed(node.send_reply(0, reply)))
    assert events_of(client) == [ReplyReceived(0, reply)]


def test_an_unknown_even_request_is_reported_and_answered() -> None:  # M-R5
    """The connection goes on."""
    client, node = open_pair()
    head = msgpack.packb([98, 41, {2: "anything"}])
    node.receive_data(forge_frame(client, head) + sealed(client.send_request(m.GetTerms())[1]))
    assert events_of(node) == [UnknownRequest(41, 98), RequestReceived(0, m.GetTerms())]
    assert node.pending_requests == 2
    sealed(node.send_reply(41, m.ErrorReply(code=ErrorCode.UNKNOWN_MESSAGE, message="98?")))
    assert node.pending_requests == 1


def test_an_unknown_even_message_is_refused_by_a_client() -> None:  # M-R6
    """A node sends nothing but replies, so there is nobody to answer."""
    client, node = open_pair()
    assert refusal(client, forge_frame(node, msgpack.packb([98, 1, {}]))).code is ErrorCode.UNKNOWN_MESSAGE


def test_an_unknown_request_needs_an_id() -> None:
    """Otherwise nobody could answer it."""
    client, node = open_pair()
    assert "without an id" in str(refusal(node, forge_frame(client, msgpack.packb([98, "x", {}]))))


@pytest.mark.parametrize("size", [m.MAX_SHARE_BYTES + 1, 0xFFFF_FFFF])
def test_a_message_that_is_too_large_is_refused_and_can_be_answered(size: int) -> None:  # T-R12, T-W14
    """After its first bytes; one error still goes out, then the connection is closed."""
    client, node = open_pair()
    put = m.PutShare(share_id=ShareId(b"s" * 32), token_start=0, tokens=b"", payload=b"")
    head = encode_head(9, put)
    error = refusal(node, forge_record(client, len(head).to_bytes(4, "big") + size.to_bytes(4, "big") + head[:13]))
    assert (error.code, error.request_id) == (ErrorCode.TOO_LARGE, 9)
    assert sealed(node.send_reply(9, m.ErrorReply(code=error.code, message=str(error))))


def test_a_malformed_request_can_be_answered() -> None:  # M-R7
    """The error names the request; only an ErrorReply fits it."""
    client, node = open_pair()
    error = refusal(node, forge_frame(client, msgpack.packb([m.GetShare.TYPE, 3, {98: 1}])))
    assert (error.code, error.request_id) == (ErrorCode.UNKNOWN_FEATURE, 3)
    assert sealed(node.send_reply(3, m.ErrorReply(code=error.code, message="")))


def test_messages_go_one_way_only() -> None:  # T-R18
    """A client does not reply, a node does not request."""
    client, node = open_pair()
    assert "other way" in str(refusal(node, forge_frame(client, encode_head(1, m.TermsReply(terms=b"")))))
    client, node = open_pair()
    assert "other way" in str(refusal(client, forge_frame(node, encode_head(1, m.GetTerms()))))


def test_a_request_id_in_use_is_refused() -> None:  # T-R16
    """Two requests of one id could not be told apart."""
    client, node = open_pair()
    node.receive_data(sealed(client.send_request(m.GetTerms())[1]))
    assert events_of(node)
    assert "still in use" in str(refusal(node, forge_frame(client, encode_head(0, m.GetTerms()))))


def test_too_many_requests_are_refused() -> None:  # T-R16
    """A node's list of open requests does not grow beyond its bound."""
    client, node = open_pair()
    for i in range(MAX_PENDING_REQUESTS):
        node.receive_data(forge_frame(client, encode_head(i, m.GetTerms())))
        assert len(events_of(node)) == 1
    error = refusal(node, forge_frame(client, encode_head(1000, m.GetTerms())))
    assert (error.code, error.request_id) == (ErrorCode.RATE_LIMITED, 1000)


def test_a_reply_must_answer_a_request_that_waits() -> None:  # T-R17
    """Unasked, repeated, and of the wrong type."""
    client, node = open_pair()
    assert "not outstanding" in str(refusal(client, forge_frame(node, encode_head(0, INTERNAL))))

    client, node = open_pair()
    sealed(client.send_request(m.GetTerms())[1])
    client.receive_data(forge_frame(node, encode_head(0, INTERNAL)))
    assert events_of(client) == [ReplyReceived(0, INTERNAL)]
    assert "not outstanding" in str(refusal(client, forge_frame(node, encode_head(0, INTERNAL))))

    client, node = open_pair()
    sealed(client.send_request(m.GetTerms())[1])
    reply = m.PutShareReply(used_bytes=1)
    assert "does not answer" in str(refusal(client, forge_frame(node, encode_head(0, reply))))


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=5))
def test_arbitrary_plaintext_raises_nothing_else(pieces: list[bytes]) -> None:
    """An authenticated peer may send what it likes: events, or RemoteProtocolError."""
    client, node = open_pair()
    with suppress(RemoteProtocolError):
        for piece in pieces:
            node.receive_data(forge_record(client, piece))
            events_of(node)


def test_many_small_records_are_read_in_one_go() -> None:
    """No recursion, whatever the number of records, ignored messages and frames in one read."""
    client, node = open_pair()
    data = b"".join(forge_frame(client, b"\x93\x63\x00\x80") for _ in range(3000))
    node.receive_data(data + b"".join(forge_record(client, bytes([b])) for b in b"\0\0\0\4\0\0\0\0\x93\4\0\x80"))
    assert events_of(node) == [RequestReceived(0, m.GetTerms())]
    assert sender_cipher(client)._next == 3012
