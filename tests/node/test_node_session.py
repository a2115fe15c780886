"""Connections: pipelining, slow and broken peers, limits, memory, and the orderly end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from node_world import MIB, Client, World, eventually, some_bytes

from lnstore.node.limits import REQUESTS_PER_SESSION
from lnstore.storage.files import FileShares
from lnstore_protocol import merkle
from lnstore_protocol.codec import encode_head
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.frames import HEADER
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import (
    AccountStatus,
    AccountStatusReply,
    AddCapacity,
    Buffer,
    ErrorReply,
    GetShare,
    GetTerms,
    PutShare,
    PutShareReply,
    TermsReply,
)


def _put(data: bytes) -> PutShare:
    return PutShare(share_id=merkle.share_id(data), token_start=0, tokens=b"", payload=data)


class GatedShares(FileShares):
    """A disk on which writing waits for the gate."""

    gate: threading.Event

    def put(self, share_id: ShareId, data: Buffer, hashes: Sequence[bytes] | None = None) -> None:
        assert self.gate.wait(20)
        super().put(share_id, data, hashes)


@pytest.fixture
def gated(world: World) -> World:
    shares = GatedShares(world.directory / "shares")
    shares.gate = threading.Event()
    world.shares = shares
    return world


def _open_gate(world: World) -> None:
    assert isinstance(world.shares, GatedShares)
    world.shares.gate.set()


async def test_replies_come_as_they_are_ready_not_as_they_were_asked(gated: World) -> None:  # T-W13
    async with gated.running() as node, gated.client(node) as client:
        await client.rent(8 * MIB)
        slow = await client.send(_put(some_bytes(1000)))
        await client.ask(GetTerms(), TermsReply)
        await client.status()
        _open_gate(gated)
        assert isinstance(await client.receive(slow), PutShareReply)


async def test_many_requests_may_be_under_way_on_one_connection(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.rent(64 * MIB)
        blobs = [some_bytes(10_000 + i) for i in range(3 * REQUESTS_PER_SESSION)]
        ids = [await client.send(_put(data)) for data in blobs]
        for request_id in reversed(ids):
            assert isinstance(await client.receive(request_id), PutShareReply)
        assert (await client.status()).shares == len(blobs)


async def test_a_connection_has_no_more_requests_in_work_than_its_limit(gated: World) -> None:
    async with gated.running() as node, gated.client(node) as client:
        await client.rent(8 * MIB)
        puts = [await client.send(_put(some_bytes(100 + i))) for i in range(REQUESTS_PER_SESSION)]
        last = await client.send(AccountStatus())
        with trio.move_on_after(0.1) as waiting:
            await client.receive(last)
        assert waiting.cancelled_caught
        _open_gate(gated)
        assert isinstance(await client.receive(last), AccountStatusReply)
        for request_id in puts:
            assert isinstance(await client.receive(request_id), PutShareReply)


async def test_a_client_that_sends_byte_by_byte_is_served(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        client.step = 1
        await client.put(some_bytes(3000))
        client.step = 1000
        await client.put(some_bytes(200_000))
        assert (await client.status()).shares == 2


async def test_garbage_instead_of_a_handshake_is_closed_and_logged_only(world: World) -> None:  # T-R2, T-W15
    async with world.running() as node, await trio.open_tcp_stream(node.address.host, node.address.port) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n" + b"x" * 100)
        with trio.fail_after(10):
            assert await stream.receive_some(100) == b""
        async with world.client(node) as client:
            await client.terms()


async def test_a_handshake_that_never_ends_is_given_up(world: World) -> None:  # T-R6
    world.deadlines = replace(world.deadlines, handshake=0.1)
    async with world.running() as node, await trio.open_tcp_stream(node.address.host, node.address.port) as stream:
        await stream.send_all(b"x" * 10)
        with trio.fail_after(10):
            assert await stream.receive_some(100) == b""
        await eventually(lambda: node.node.connections == 0)


async def test_an_idle_connection_is_closed_but_not_one_with_a_request_in_work(gated: World) -> None:  # T-R22
    gated.deadlines = replace(gated.deadlines, idle=0.2)
    async with gated.running() as node, gated.client(node) as client:
        await client.rent(8 * MIB)
        put = await client.send(_put(b"x"))
        with trio.move_on_after(0.5):
            await client.receive(put)
        _open_gate(gated)
        assert isinstance(await client.receive(put), PutShareReply)
        await client.closed()


async def test_a_payload_that_never_arrives_is_given_up_with_its_memory(world: World) -> None:
    world.deadlines = replace(world.deadlines, frame=0.2)
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        _, chunks = client.connection.send_request(_put(some_bytes(4 * MIB)))
        await client.stream.send_all(next(iter(chunks)))
        await eventually(lambda: node.node.context.incoming.used_bytes == 4 * MIB)
        await client.closed()
        await eventually(lambda: node.node.connections == 0)
        assert node.node.context.incoming.used_bytes == 0


async def test_a_client_that_does_not_read_is_closed_with_its_memory(world: World) -> None:
    world.deadlines = replace(world.deadlines, send=0.2)
    async with world.running() as node, world.client(node) as client, world.client(node) as other:
        await client.rent(64 * MIB)
        await client.deposit(100_000)
        share_id = await client.put(some_bytes(4 * MIB))
        for _ in range(REQUESTS_PER_SESSION):
            await client.send(GetShare(share_id=share_id, offset=0, length=0))
        await eventually(lambda: node.node.context.outgoing.used_bytes > 0)
        await eventually(lambda: node.node.connections == 1)
        assert node.node.context.outgoing.used_bytes == 0
        await other.terms()


async def test_a_message_over_its_limit_is_answered_then_closed(world: World) -> None:  # T-W14, M-R7
    async with world.running() as node, world.client(node) as client:
        head = encode_head(99, GetTerms())
        await _send_frame(client, 99, HEADER.pack(len(head), 5 * MIB) + head)
        await client.stream.send_all(bytes(100_000))
        reply = await client.receive(99)
        assert isinstance(reply, ErrorReply)
        assert reply.code is ErrorCode.TOO_LARGE
        await client.closed()


async def _send_frame(client: Client, request_id: int, frame: bytes) -> None:
    """Send what the library would refuse to send."""
    sender = client.connection._sender
    assert sender is not None
    client.connection._pending[request_id] = GetTerms.TYPE
    for chunk in sender.chunks(memoryview(frame), memoryview(b"")):
        await client.stream.send_all(chunk)


async def test_an_unknown_request_is_refused_and_the_connection_goes_on(world: World) -> None:  # M-R5
    async with world.running() as node, world.client(node) as client:
        unknown = encode_head(99, GetTerms()).replace(bytes([GetTerms.TYPE]), bytes([100]), 1)
        await _send_frame(client, 99, HEADER.pack(len(unknown), 0) + unknown)
        reply = await client.receive(99)
        assert isinstance(reply, ErrorReply)
        assert reply.code is ErrorCode.UNKNOWN_MESSAGE
        await client.terms()


async def test_connections_beyond_the_limit_are_refused(tmp_path: Path) -> None:  # T-R9
    world = World(tmp_path, maximum_connections=2)
    async with world.running() as node, world.client(node) as one:
        async with world.client(node):
            with pytest.raises((RemoteProtocolError, trio.BrokenResourceError)):
                await Client.connect(node.address, Identity.generate())
        await eventually(lambda: node.node.connections == 1)
        async with world.client(node) as two:
            await two.terms()
        await one.terms()


class FaultyShares(FileShares):
    """A disk whose program has a fault."""

    def size(self, share_id: ShareId) -> int | None:
        return len(share_id) // 0


async def test_a_failing_request_is_answered_internal_and_the_connection_goes_on(world: World) -> None:  # E-W2, M-W12
    world.shares = FaultyShares(world.directory / "shares")
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        get = GetShare(share_id=ShareId(bytes(32)), offset=0, length=0)
        assert await client.refused(get) is ErrorCode.INTERNAL
        await client.terms()


async def test_many_large_uploads_at_once_stay_within_the_memory_budget(gated: World) -> None:  # T-R15
    """Twelve clients want 48 MiB in flight; the incoming half of the budget is 16 MiB."""
    toml = gated.directory / "node.toml"
    toml.write_text(toml.read_text().replace('"128MiB"', '"32MiB"'))
    done = []
    async with gated.running() as node:
        identity = Identity.generate()
        async with gated.client(node, identity) as client:
            await client.rent(64 * MIB)
        budget = node.node.context.incoming
        assert budget.total_bytes == 16 * MIB

        async def upload() -> None:
            async with gated.client(node, identity) as client:
                await client.put(some_bytes(4 * MIB))
                done.append(client)

        async with trio.open_nursery() as uploads:
            for _ in range(12):
                uploads.start_soon(upload)
            await eventually(lambda: budget.used_bytes == budget.total_bytes)
            _open_gate(gated)
            highest = 0
            while len(done) < 12:
                highest = max(highest, budget.used_bytes)
                await trio.sleep(0.001)
        assert highest <= budget.total_bytes
        assert budget.used_bytes == 0


async def test_memory_kept_for_traffic_is_let_go_when_it_is_over(world: World) -> None:
    world.deadlines = replace(world.deadlines, quiet=0.05)
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        await client.put(some_bytes(4 * MIB))
        await eventually(lambda: node.node.tidied == node.node.context.incoming.taken)
        assert not node.node.context.buffers._free
        await client.put(some_bytes(4 * MIB))


async def test_stopping_answers_what_is_in_work_and_refuses_what_comes(gated: World) -> None:
    async with gated.running() as node, gated.client(node) as client, gated.client(node) as idle:
        await client.rent(8 * MIB)
        put = await client.send(_put(b"x"))
        await client.status()
        node.node.stop()
        await idle.closed()
        await eventually(lambda: not (gated.directory / "address").exists())
        assert await client.refused(AccountStatus()) is ErrorCode.SHUTTING_DOWN
        with pytest.raises(OSError, match="all attempts"):
            await Client.connect(node.address, Identity.generate())
        _open_gate(gated)
        assert isinstance(await client.receive(put), PutShareReply)
        await client.closed()


async def test_stopping_waits_for_nobody_longer_than_the_drain_deadline(world: World) -> None:
    world.deadlines = replace(world.deadlines, drain=0.2)
    with trio.fail_after(10):
        async with world.running() as node, world.client(node) as client:
            await client.open_account()
            world.daemon.hang("before create")
            await client.send(AddCapacity(growth_index=0, capacity_bytes=MIB))
            await world.daemon.hanging.wait()
            node.node.stop()
            await eventually(lambda: node.node.connections == 0)
