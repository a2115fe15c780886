"""01: handshakes and records that go wrong."""

from __future__ import annotations

from cases.common import ACCOUNT, NODE, NODE_ID, STRANGER, Case, key
from lnstore_protocol import messages
from lnstore_protocol.connection import PROLOGUE, Connection, Role
from lnstore_protocol.identity import x25519_public
from lnstore_protocol.noise import CipherState, Handshake

_LOW_ORDER = bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
"""A point of order 8: every key agreement with it is all zero."""


def _attacker(prologue: bytes = PROLOGUE, node: bytes = NODE_ID) -> Handshake:
    return Handshake(
        initiator=True,
        prologue=prologue,
        static_private=ACCOUNT.x25519_private(),
        remote_static=x25519_public(node),
        ephemeral_private=key("client ephemeral"),
    )


def _pair() -> tuple[Connection, Connection]:
    client = Connection(Role.CLIENT, ACCOUNT, remote=NODE_ID, ephemeral_private=key("client ephemeral"))
    return client, Connection(Role.NODE, NODE, ephemeral_private=key("node ephemeral"))


def _acts() -> tuple[bytes, bytes, bytes, Connection, Connection]:
    client, node = _pair()
    act_1 = client.initiate()
    node.receive_data(act_1)
    node.next_event()
    act_2 = node.data_to_send()
    client.receive_data(act_2)
    client.next_event()
    act_3 = client.data_to_send()
    node.receive_data(act_3)
    node.next_event()
    return act_1, act_2, act_3, client, node


def _act_3(claimed: bytes) -> bytes:
    """Act 3 of who holds the account's key, around another payload."""
    attacker, (_, node) = _attacker(), _pair()
    node.receive_data(attacker.write_message())
    node.next_event()
    attacker.read_message(node.data_to_send())
    return attacker.write_message(claimed)


def _flip(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def transport_cases() -> list[Case]:
    """What one side receives, in order, and whether it opens, or why not. `eof` says that the stream ends then."""
    act_1, act_2, act_3, client, node = _acts()
    request = b"".join(map(bytes, client.send_request(messages.GetTerms())[1]))
    second = b"".join(map(bytes, client.send_request(messages.ListPeers())[1]))
    node.receive_data(request)
    node.next_event()
    reply = b"".join(map(bytes, node.send_reply(0, messages.TermsReply(terms=b""))))

    def case(name: str, reader: str, received: list[bytes], error: str = "", **more: object) -> Case:
        result: Case = {"name": name, "reader": reader, "received": [part.hex() for part in received], **more}
        return result | ({"error": error} if error else {})

    low = _low_order_act_1()
    malformed = "MALFORMED"
    return [
        case("node: a handshake", "node", [act_1, act_3], events=["HandshakeDone"]),
        case("client: a handshake", "client", [act_2], events=["HandshakeDone"]),
        case("node: a record", "node", [act_1, act_3, request], events=["HandshakeDone", "RequestReceived"]),
        case(
            "node: records together with act 3",
            "node",
            [act_1, act_3 + request],
            events=["HandshakeDone", "RequestReceived"],
        ),
        case(
            "node: the end between two messages",
            "node",
            [act_1, act_3, request],
            events=["HandshakeDone", "RequestReceived", "PeerClosed"],
            eof=True,
        ),
        case(
            "node: act 3 claims the other Ed25519 key of the same X25519 form",
            "node",
            [act_1, _act_3(_flip_sign(ACCOUNT.public_key))],
            events=["HandshakeDone"],
        ),
        case("node: nothing", "node", [], malformed, eof=True),
        case("node: act 1 cut short", "node", [act_1[:47]], malformed, eof=True),
        case("node: the end before act 3", "node", [act_1], malformed, eof=True),
        case("node: act 3 cut short", "node", [act_1, act_3[:95]], malformed, eof=True),
        case("client: act 2 cut short", "client", [act_2[:47]], malformed, eof=True),
        case("node: act 1 of zeros", "node", [bytes(48)], malformed),
        case("node: a bit of act 1's key", "node", [_flip(act_1, 0)], malformed),
        case("node: a bit of act 1's tag", "node", [_flip(act_1, 47)], malformed),
        case("node: act 1 with a key of low order", "node", [low], malformed),
        case("node: act 1 of another version", "node", [_attacker(b"lnstore/2").write_message()], malformed),
        case("node: act 1 without a prologue", "node", [_attacker(b"").write_message()], malformed),
        case("node: act 1 for another node", "node", [_attacker(node=STRANGER.public_key).write_message()], malformed),
        case("node: act 1 twice", "node", [act_1, act_1 + act_1], malformed),
        case("client: act 2 of zeros", "client", [bytes(48)], malformed),
        case("client: a bit of act 2's key", "client", [_flip(act_2, 31)], malformed),
        case("client: a bit of act 2's tag", "client", [_flip(act_2, 32)], malformed),
        case("client: act 1 as act 2", "client", [act_1], malformed),
        case("client: act 2 of another handshake", "client", [_other_act_2()], malformed),
        case("node: a bit of act 3's sealed key", "node", [act_1, _flip(act_3, 0)], malformed),
        case("node: a bit of the tag of act 3's key", "node", [act_1, _flip(act_3, 47)], malformed),
        case("node: a bit of act 3's payload", "node", [act_1, _flip(act_3, 48)], malformed),
        case("node: a bit of act 3's last tag", "node", [act_1, _flip(act_3, 95)], malformed),
        case("node: act 3 with its halves exchanged", "node", [act_1, act_3[48:] + act_3[:48]], malformed),
        case("node: act 3 of another handshake", "node", [act_1, _other_act_3()], malformed),
        case("node: act 3 claims another account", "node", [act_1, _act_3(STRANGER.public_key)], "BAD_SIGNATURE"),
        case("node: act 3 claims no point", "node", [act_1, _act_3(b"\xff" * 32)], malformed),
        case("node: act 3 claims a point of low order", "node", [act_1, _act_3(b"\x01" + bytes(31))], malformed),
        case("node: act 3 without a payload", "node", [act_1, _act_3(b"").ljust(96, b"\0")], malformed),
        case("node: a record of 16 bytes", "node", [act_1, act_3, b"\0\x10" + request[2:18]], malformed),
        case("node: a record of 0 bytes", "node", [act_1, act_3, b"\0\0" + request], malformed),
        case("node: a bit of a record's length", "node", [act_1, act_3, _flip(request, 1)], malformed, eof=True),
        case("node: a bit of a record", "node", [act_1, act_3, _flip(request, 2)], malformed),
        case("node: a bit of a record's tag", "node", [act_1, act_3, _flip(request, -1)], malformed),
        case("node: a record twice", "node", [act_1, act_3, request, request], malformed),
        case("node: the second record first", "node", [act_1, act_3, second], malformed),
        case("node: its own record", "node", [act_1, act_3, reply], malformed),
        case("node: a record cut short", "node", [act_1, act_3, request[:-1]], malformed, eof=True),
        case(
            "node: a message cut short at a record's end", "node", [act_1, act_3, _half_a_frame()], malformed, eof=True
        ),
        case("client: its own record", "client", [act_2, request], malformed),
    ]


def _flip_sign(public_key: bytes) -> bytes:
    return public_key[:31] + bytes([public_key[31] ^ 0x80])


def _low_order_act_1() -> bytes:
    """A key whose agreement is all zero, and the tag that fits if a node goes on with that."""
    state = _attacker()._state  # noqa: SLF001 - wrong bytes on purpose
    state.mix_hash(_LOW_ORDER)
    state.mix_key(bytes(32))
    return _LOW_ORDER + state.seal(b"")


def _other_act_2() -> bytes:
    node = Connection(Role.NODE, NODE, ephemeral_private=key("another ephemeral"))
    other = Connection(Role.CLIENT, ACCOUNT, remote=NODE_ID, ephemeral_private=key("a third ephemeral"))
    node.receive_data(other.initiate())
    node.next_event()
    return node.data_to_send()


def _other_act_3() -> bytes:
    client, _ = _pair()
    node = Connection(Role.NODE, NODE, ephemeral_private=key("another ephemeral"))
    node.receive_data(client.initiate())
    node.next_event()
    client.receive_data(node.data_to_send())
    client.next_event()
    return client.data_to_send()


def _half_a_frame() -> bytes:
    """One good record that holds the first 9 bytes of a frame."""
    _, _, _, client, _ = _acts()
    cipher: CipherState = client._sender._cipher  # type: ignore[union-attr]  # noqa: SLF001 - wrong bytes on purpose
    plain = b"\0\0\0\x04\0\0\0\0\x93"
    return (len(plain) + 16).to_bytes(2, "big") + cipher.seal(plain)
