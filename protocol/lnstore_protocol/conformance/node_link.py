"""A connection to the node under test, as its client."""

from __future__ import annotations

import socket
from typing import Final

from lnstore_protocol.codec import REPLY_TYPES
from lnstore_protocol.conformance.link import Link, Received, message_frame
from lnstore_protocol.conformance.verdict import Failed, Trace, Unreachable
from lnstore_protocol.connection import ACT_BYTES, PROLOGUE
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.identity import Identity, x25519_public
from lnstore_protocol.ids import NodeAddress
from lnstore_protocol.messages import REPLY, ErrorReply, Hello, Message, Reply, Request
from lnstore_protocol.noise import Handshake

HELLO: Final = Hello(version_major=1, version_minor=0, features=b"", agent="lnstore conformance")


class NodeLink(Link):
    """TCP is open; `shake_hands` comes next, unless the acts themselves are what is tried."""

    def __init__(self, address: NodeAddress, identity: Identity, trace: Trace, patience_seconds: float) -> None:
        try:
            stream = socket.create_connection((address.host, address.port), timeout=patience_seconds)
        except OSError as exc:
            raise Unreachable(f"{address} can not be reached ({exc}); check that the node runs") from exc
        super().__init__(stream, trace, patience_seconds)
        self.address = address
        self.identity = identity
        self.pending: dict[int, int] = {}
        """Type of each unanswered request, by request id."""
        self._next_request_id = 0

    # --- handshake

    def handshake(self, remote_static: bytes | None = None) -> Handshake:
        """A handshake with the node's key, or with another one."""
        return Handshake(
            initiator=True,
            prologue=PROLOGUE,
            static_private=self.identity.x25519_private(),
            remote_static=remote_static or x25519_public(self.address.node_id),
        )

    def begin(self, handshake: Handshake) -> bytes:
        """Acts 1 and 2; act 2 as it came. PeerClosed when there is none."""
        self.send_raw(handshake.write_message(), "act 1")
        return self.take_act_2(handshake)

    def take_act_2(self, handshake: Handshake) -> bytes:
        """Read act 2."""
        act = self.receive_raw(ACT_BYTES[1])
        self.note("<", "act 2", act)
        try:
            handshake.read_message(act)
        except RemoteProtocolError as exc:
            raise Failed("T-W1", "act 2 was not made with the key that the address names") from exc
        return act

    def finish(self, handshake: Handshake, *, together_with: bytes = b"") -> None:
        """Act 3, and in the same packet a frame."""
        act = handshake.write_message(self.identity.public_key)
        self.install(*handshake.split())
        self.note(">", "act 3", act)
        record = b""
        if together_with:
            self.note(">", "frame", together_with)
            record = self.seal(together_with)
        self._put(act + record)

    def shake_hands(self) -> None:
        """All three acts."""
        handshake = self.handshake()
        self.begin(handshake)
        self.finish(handshake)

    # --- requests

    def new_id(self, message_type: int) -> int:
        """A request id, noted as unanswered."""
        request_id = self._next_request_id
        self._next_request_id += 1
        self.pending[request_id] = message_type
        return request_id

    def send_requests(self, *messages: Request) -> list[int]:
        """Send them in one go; their ids."""
        ids = [self.new_id(message.TYPE) for message in messages]
        self.send(*map(message_frame, ids, messages))
        return ids

    def receive_reply(self, *, seconds: float | None = None) -> Received:
        """The node's next message, which has to answer an open request (M-W3, T-W13)."""
        received = self.receive(seconds=seconds)
        if received.type not in REPLY_TYPES:
            raise Failed("T-W13", f"the node sent a message of type {received.type}, which is no reply")
        request_type = self.pending.pop(received.request_id, None)
        if request_type is None:
            raise Failed("M-W3", f"a reply to request {received.request_id}, which no unanswered request has")
        if received.type not in (request_type + REPLY, ErrorReply.TYPE):
            raise Failed("T-W13", f"a message of type {received.type} answers one of type {request_type}")
        return received

    def ask(self, message: Request) -> Reply:
        """Send a request and wait for its reply."""
        (request_id,) = self.send_requests(message)
        return self.answer_to(request_id)

    def answer_to(self, request_id: int) -> Reply:
        """The reply to this request; other replies that come before it are dropped."""
        while True:
            received = self.receive_reply()
            if received.request_id == request_id:
                return _reply(received.message)


def _reply(message: Message) -> Reply:
    if message.TYPE not in REPLY_TYPES:
        raise AssertionError(message)
    return message  # type: ignore[return-value]  # its type says that it is one
