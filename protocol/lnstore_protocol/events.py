"""What a connection reports: one frozen dataclass per event (spec 01)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from lnstore_protocol.messages import Reply, Request


@dataclass(frozen=True, slots=True)
class HandshakeDone:
    """Both sides are authenticated; `peer` is the other's Ed25519 public key (AccountId or NodeId)."""

    peer: bytes


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A request to answer with send_reply (node)."""

    request_id: int
    message: Request


@dataclass(frozen=True, slots=True)
class ReplyReceived:
    """The answer to a request of ours (client)."""

    request_id: int
    message: Reply


@dataclass(frozen=True, slots=True)
class UnknownRequest:
    """A request of an unknown even type: answer it with an ErrorReply of UNKNOWN_MESSAGE (node)."""

    request_id: int
    type: int


@dataclass(frozen=True, slots=True)
class PeerClosed:
    """The peer ended its side between two messages; nothing more will come."""


class NeedData(Enum):
    """No event yet: receive more bytes first."""

    NEED_DATA = auto()


NEED_DATA: Final = NeedData.NEED_DATA
Event = HandshakeDone | RequestReceived | ReplyReceived | UnknownRequest | PeerClosed
