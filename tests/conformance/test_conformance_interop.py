"""Versions that meet: 1.0 as it is, and a 1.1 with an invented odd field, odd message and feature (02, Versions)."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trio
from conformance_world import NodeWorld
from examples_world import example_node, running_example

from lnstore.client import transport
from lnstore.client.files import open_client
from lnstore.client.profile import init_profile
from lnstore.client.transport import connect
from lnstore.node import session
from lnstore.node.handlers import hello
from lnstore_protocol.codec import encode_head, payload_of
from lnstore_protocol.conformance.link import raw_frame
from lnstore_protocol.connection import Connection, Role
from lnstore_protocol.frames import HEADER, Frame
from lnstore_protocol.identity import Identity
from lnstore_protocol.messages import (
    AccountStatus,
    GetTerms,
    Hello,
    HelloReply,
    ListPeers,
    Message,
    OpenAccount,
)
from lnstore_protocol.terms import Agreement, SignedTerms

ODD_KEY, ODD_TYPE, NEWS_TYPE = 201, 1001, 1003
NEWS = 1 << 41
"""The invented feature 20: who has it is sent an odd message with news along with every reply."""

FEATURES = NEWS.to_bytes(6, "big")
AGENT_SECONDS = 20.0


@dataclass
class Seen:
    """What came to the 1.1 sides of a test."""

    odd_fields: int = 0
    odd_messages: int = 0
    news: int = 0
    minors: list[int] = field(default_factory=list)


class Newer(Connection):
    """Version 1.1: an odd field in every message, an odd message before it, and the feature where both have it."""

    seen: Seen

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agreed = False

    def send_request(self, message: Any) -> Any:
        if isinstance(message, Hello):
            message = dataclasses.replace(message, version_minor=1, features=FEATURES)
        return super().send_request(message)

    def send_reply(self, request_id: int, message: Any) -> Any:
        if isinstance(message, HelloReply):
            message = dataclasses.replace(message, version_minor=1, features=FEATURES)
        return super().send_reply(request_id, message)

    def _send(self, request_id: int, message: Message) -> Iterator[memoryview]:
        super()._send(request_id, message).close()  # type: ignore[attr-defined]  # only for its checks
        assert self._sender is not None
        self._sender.is_broken = self._sender._busy = False
        kind, number, body = msgpack.unpackb(encode_head(request_id, message), strict_map_key=False)
        head = msgpack.packb([kind, number, body | {ODD_KEY: [b"new", {1: None}]}])
        front = raw_frame(ODD_TYPE, 0, {2: "not known to 1.0"})
        if self.agreed and self.role is Role.NODE:
            front += raw_frame(NEWS_TYPE, 0, {0: "news"})
        payload = memoryview(payload_of(message)).cast("B")
        return self._sender.chunks(memoryview(front + HEADER.pack(len(head), len(payload)) + head), payload)

    def _frame_event(self, frame: Frame) -> Any:
        self.seen.odd_messages += frame.type == ODD_TYPE
        self.seen.news += frame.type == NEWS_TYPE
        if frame.type not in (ODD_TYPE, NEWS_TYPE):
            body = msgpack.unpackb(frame.head, strict_map_key=False)[2]
            self.seen.odd_fields += ODD_KEY in body
        event = super()._frame_event(frame)
        message = getattr(event, "message", None)
        if isinstance(message, (Hello, HelloReply)):
            self.seen.minors.append(min(1, message.version_minor))
            self.agreed = bool(int.from_bytes(message.features, "big") & (NEWS | NEWS >> 1))
        return event


@pytest.fixture
def seen() -> Iterator[Seen]:
    Newer.seen = Seen()
    yield Newer.seen
    del Newer.seen


async def _talk(address: Any) -> None:
    """A new client's first requests at lnstore's node."""
    identity = Identity.generate()
    async with connect(address, identity) as connection:
        terms = SignedTerms.decode((await connection.request(GetTerms(), timeout_seconds=AGENT_SECONDS)).terms)
        proposed = Agreement.propose(terms, identity, connection.hello.now_at).encoded
        reply = await connection.request(OpenAccount(agreement=proposed), timeout_seconds=AGENT_SECONDS)
        assert Agreement.decode(reply.agreement).countersigned
        async with trio.open_nursery() as nursery:
            for message in (AccountStatus(), ListPeers(), GetTerms()):
                nursery.start_soon(lambda m: connection.request(m, timeout_seconds=AGENT_SECONDS), message)


@pytest.mark.parametrize("newer_client", [False, True], ids=["client 1.0", "client 1.1"])
@pytest.mark.parametrize("newer_node", [False, True], ids=["node 1.0", "node 1.1"])
async def test_lnstores_client_and_node(
    world: NodeWorld, monkeypatch: pytest.MonkeyPatch, seen: Seen, newer_client: bool, newer_node: bool
) -> None:
    """Each pair of versions serves; what is new comes only to who knows it, the feature only where both have it."""
    if newer_client:
        monkeypatch.setattr(transport, "Connection", Newer)
    if newer_node:
        monkeypatch.setattr(session, "Connection", Newer)
        monkeypatch.setattr(hello, "VERSION_MINOR", 1)
    async with world.running() as address:
        await _talk(address)
    both = newer_client and newer_node
    assert bool(seen.news) is both
    assert bool(seen.odd_fields) is bool(seen.odd_messages) is both
    assert set(seen.minors) <= {1 if both else 0}
    assert bool(seen.minors) is (newer_client or newer_node)


@pytest.mark.parametrize("newer", ["client", "node"])
async def test_a_file_goes_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: Seen, newer: str
) -> None:
    """Puts and gets, with payloads, between a 1.0 and a 1.1, either way round."""
    monkeypatch.setattr(transport if newer == "client" else example_node, "Connection", Newer)
    content = os.urandom(1_000_000)
    profile = init_profile(tmp_path / "profile", needed=1, happy=1, total=1)
    with running_example() as address:
        async with connect(address, profile.identity) as connection:
            terms = SignedTerms.decode((await connection.request(GetTerms(), timeout_seconds=AGENT_SECONDS)).terms)
            proposed = Agreement.propose(terms, profile.identity, connection.hello.now_at).encoded
            await connection.request(OpenAccount(agreement=proposed), timeout_seconds=AGENT_SECONDS)
        async with open_client(profile) as client:
            client.catalog.add_node(address, petname="example", lightning_id=None, added_at=0)
            stored = await client.put(io.BytesIO(content), name="file")
            output = io.BytesIO()
            await client.get(stored.cap, output)
    assert output.getvalue() == content
    assert seen.minors
    assert seen.news == seen.odd_messages == seen.odd_fields == 0
