"""Connections carry many requests at once, survive cancellations in step, and say whose fault an end was."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing
from tiny_node import TinyNetwork, TinyNode

from lnstore.client.node_errors import ConnectionLost, NodeRefused, NodeTimeout, NodeUnreachable, WrongNodeKey
from lnstore.client.pool import open_pool
from lnstore.client.tasks import ByteBudget
from lnstore.client.transport import IN_FLIGHT_BYTES, SMALL_CHUNK_BYTES, connect
from lnstore_protocol import merkle
from lnstore_protocol.errors import ErrorCode, Retry
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import NodeAddress, NodeId, ShareId
from lnstore_protocol.messages import (
    MAX_SHARE_BYTES,
    AccountStatus,
    ErrorReply,
    GetShare,
    Hello,
    HelloReply,
    ListPeers,
    PutShare,
    Request,
)

ME = Identity(b"c" * 32)


@pytest.fixture
async def network(nursery: trio.Nursery) -> TinyNetwork:
    return TinyNetwork(nursery, 2)


def put(data: bytes) -> PutShare:
    return PutShare(share_id=merkle.share_id(data), token_start=0, tokens=b"", payload=data)


def read(data: bytes) -> GetShare:
    return GetShare(share_id=merkle.share_id(data), offset=0, length=0)


async def test_hello_is_done_when_the_connection_is_open(network: TinyNetwork) -> None:  # M-W6
    node = network.nodes[0]
    async with connect(node.address, ME, open_stream=network.open_stream) as connection:
        assert connection.hello.network == "regtest"
        assert node.count(Hello) == 1


async def test_requests_in_flight_each_get_their_own_reply(network: TinyNetwork) -> None:
    """Twenty shares of different content go out and come back over one connection at once."""
    node = network.nodes[0]
    shares = [bytes([i]) * (100_000 + i) for i in range(20)]
    got: dict[int, bytes] = {}

    async with connect(node.address, ME, open_stream=network.open_stream) as connection:

        async def there_and_back(i: int) -> None:
            await connection.request(put(shares[i]), timeout_seconds=5)
            reply = await connection.request(read(shares[i]), timeout_seconds=5)
            got[i] = bytes(reply.payload)

        async with trio.open_nursery() as tasks:
            for i in range(20):
                tasks.start_soon(there_and_back, i)
    assert [got[i] for i in range(20)] == shares
    assert node.connections == 1


async def test_small_messages_that_wait_together_leave_together_and_in_order(network: TinyNetwork) -> None:
    """Small before large before small, and each reaches the node whole."""
    node = network.nodes[0]
    sizes = [100, 2000, 3 * SMALL_CHUNK_BYTES, 30, SMALL_CHUNK_BYTES, 10]
    shares = [bytes([i]) * size for i, size in enumerate(sizes)]
    packets: list[int] = []

    async def counted(address: NodeAddress) -> trio.abc.Stream:
        stream = await network.open_stream(address)
        return trio.StapledStream(CountedSends(stream, packets), stream)

    async with connect(node.address, ME, open_stream=counted) as connection:
        packets.clear()
        async with trio.open_nursery() as tasks:
            for share in shares:
                tasks.start_soon(partial(connection.request, put(share), timeout_seconds=5))
        assert len(packets) < len(shares)
        for share in shares:
            assert bytes((await connection.request(read(share), timeout_seconds=5)).payload) == share


class CountedSends(trio.abc.SendStream):
    """Notes how many bytes each sending has."""

    def __init__(self, stream: trio.abc.Stream, packets: list[int]) -> None:
        self._stream = stream
        self._packets = packets

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._packets.append(len(data))
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def test_a_refusal_carries_code_sentence_and_retry_rule(network: TinyNetwork) -> None:  # E-R3
    async with connect(network.nodes[0].address, ME, open_stream=network.open_stream) as connection:
        with pytest.raises(NodeRefused, match="does not hold this share") as refused:
            await connection.request(read(b"never stored"), timeout_seconds=5)
        assert (refused.value.code, refused.value.retry) == (ErrorCode.SHARE_UNKNOWN, Retry.NEVER)


async def test_a_node_that_says_when_to_ask_again_is_asked_then(
    network: TinyNetwork, autojump_clock: trio.testing.MockClock
) -> None:  # E-R2, E-R6
    node = network.nodes[0]
    asked: list[float] = []

    def limited(request: Request) -> ErrorReply | None:
        if isinstance(request, Hello):
            return None
        asked.append(autojump_clock.current_time())
        left = 3 - len(asked)
        return ErrorReply(code=ErrorCode.RATE_LIMITED, message="", retry_after_seconds=7) if left else None

    node.fault = limited
    async with connect(node.address, ME, open_stream=network.open_stream) as connection:
        await connection.request(AccountStatus(), timeout_seconds=60)
        assert [round(at - asked[0]) for at in asked] == [0, 7, 14]
        asked.clear()
        with pytest.raises(NodeRefused, match="slow down"):  # it is not waited for what does not come in time
            await connection.request(AccountStatus(), timeout_seconds=6)
        assert len(asked) == 1


async def test_a_limit_without_a_time_is_the_callers_to_judge(network: TinyNetwork) -> None:
    node = network.nodes[0]
    asked: list[Request] = []

    def limited(request: Request) -> ErrorReply | None:
        asked.append(request)
        return None if isinstance(request, Hello) else ErrorReply(code=ErrorCode.RATE_LIMITED, message="")

    node.fault = limited
    async with connect(node.address, ME, open_stream=network.open_stream) as connection:
        with pytest.raises(NodeRefused):
            await connection.request(AccountStatus(), timeout_seconds=60)
    assert len(asked) == 2


async def test_a_nodes_sentence_is_shown_without_what_a_terminal_would_obey(network: TinyNetwork) -> None:
    """M-R19: it is a stranger's text."""
    node = network.nodes[0]
    node.fault = lambda request: (
        None if isinstance(request, Hello) else ErrorReply(code=ErrorCode.INTERNAL, message="\x1b[2J\rall is well")
    )
    async with connect(node.address, ME, open_stream=network.open_stream) as connection:
        with pytest.raises(NodeRefused, match="all is well") as refused:
            await connection.request(read(b"x"), timeout_seconds=5)
    assert str(refused.value).isprintable()


async def test_a_node_that_does_not_answer_is_a_timeout_and_the_connection_goes_on(network: TinyNetwork) -> None:
    node = network.nodes[0]
    node.fault = lambda request: "stall" if isinstance(request, ListPeers) else None
    async with connect(node.address, ME, open_stream=network.open_stream) as connection:
        with pytest.raises(NodeTimeout, match="within"):
            await connection.request(ListPeers(), timeout_seconds=0.05)
        assert (await connection.request(AccountStatus(), timeout_seconds=5)).shares == 0


async def test_cancelling_within_a_payload_ends_the_connection_instead_of_garbling_it(network: TinyNetwork) -> None:
    """The message that was being sent cannot be finished, so whoever else waits is told, and the pool reconnects."""
    node = network.nodes[0]
    async with open_pool(ME, open_stream=network.open_stream) as pool:
        connection = await pool.dial(node.address)
        stalled = trio.Event()

        async def waiter() -> None:
            with pytest.raises(ConnectionLost, match="middle of a message"):
                await connection.request(ListPeers(), timeout_seconds=5)
            stalled.set()

        node.fault = lambda request: "stall" if isinstance(request, ListPeers) else None
        async with trio.open_nursery() as tasks:
            tasks.start_soon(waiter)
            await trio.testing.wait_all_tasks_blocked()
            with trio.CancelScope() as scope:
                tasks.start_soon(_cancel_when_sending, connection, scope)
                await connection.request(put(bytes(MAX_SHARE_BYTES)), timeout_seconds=5)
            assert scope.cancelled_caught
            await stalled.wait()
        node.fault = lambda _: None
        assert (await pool.request(node.address, AccountStatus(), timeout_seconds=5)).shares == 0
        assert node.connections == 2


async def _cancel_when_sending(connection: object, scope: trio.CancelScope) -> None:
    while not any(call.sending for call in connection._waiting):  # type: ignore[attr-defined]
        await trio.lowlevel.checkpoint()
    scope.cancel()


async def test_a_request_cancelled_before_it_was_sent_never_reaches_the_node(network: TinyNetwork) -> None:
    node = network.nodes[0]
    async with connect(node.address, ME, open_stream=network.open_stream) as connection:
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.request(ListPeers(), timeout_seconds=5)
        await connection.request(AccountStatus(), timeout_seconds=5)
    assert node.count(ListPeers) == 0


async def test_payloads_in_flight_stay_within_the_budget(network: TinyNetwork) -> None:
    """However many shares are asked for at once, a connection has at most its budget open."""
    node = network.nodes[0]
    share = bytes(MAX_SHARE_BYTES)
    node.shares[bytes(merkle.share_id(share))] = share
    async with (
        connect(node.address, ME, open_stream=network.open_stream) as connection,
        trio.open_nursery() as tasks,
    ):
        for _ in range(12):
            tasks.start_soon(lambda: connection.request(read(share), timeout_seconds=20))
    assert connection._budget.most_taken <= IN_FLIGHT_BYTES
    assert connection._budget.taken == 0


async def test_a_node_that_dies_fails_every_request_in_flight(network: TinyNetwork) -> None:  # T-R19, T-R21
    node = network.nodes[0]
    node.fault = lambda r: "die" if isinstance(r, AccountStatus) else "stall" if isinstance(r, ListPeers) else None
    lost: list[Request] = []
    async with connect(node.address, ME, open_stream=network.open_stream) as connection:

        async def ask(request: Request) -> None:
            with pytest.raises(ConnectionLost, match=r"tiny:1 .*closed"):
                await connection.request(request, timeout_seconds=5)
            lost.append(request)

        async with trio.open_nursery() as tasks:
            for request in (ListPeers(), ListPeers(), AccountStatus()):
                tasks.start_soon(ask, request)
        with pytest.raises(ConnectionLost):
            await connection.request(ListPeers(), timeout_seconds=5)
    assert len(lost) == 3


async def test_another_key_than_the_address_names_is_told_apart_from_a_dead_node(network: TinyNetwork) -> None:
    other = Identity.generate()
    wrong = NodeAddress(NodeId(other.public_key), "tiny", network.nodes[0].port)
    with pytest.raises(WrongNodeKey, match="current lnstore:// address"):
        async with connect(wrong, ME, open_stream=network.open_stream):
            pass
    with pytest.raises(NodeUnreachable, match="Connection refused"):
        async with connect(NodeAddress(wrong.node_id, "tiny", 99), ME, open_stream=network.open_stream):
            pass


async def test_something_that_accepts_and_stays_silent_is_unreachable(nursery: trio.Nursery) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    address = NodeAddress(NodeId(Identity.generate().public_key), "127.0.0.1", port)
    with pytest.raises(NodeUnreachable, match="did not answer within"):
        async with connect(address, ME, timeout_seconds=0.05):
            pass
    await listeners[0].aclose()


@pytest.mark.parametrize(
    ("version", "features", "refusal"),
    [
        (2, b"", "no protocol version"),
        (1, b"\x04", "requires a feature"),
        (1, b"\x01" + bytes(63), "requires a feature"),
    ],
    ids=["another major version", "an even feature bit", "an even bit far up"],
)
async def test_a_node_that_can_not_be_understood_is_refused(
    network: TinyNetwork, version: int, features: bytes, refusal: str
) -> None:
    """M-R12: another major version, or a demanded feature that this client lacks."""
    node = network.nodes[0]
    true_answer = node.answer

    def newer(request: Request) -> HelloReply | ErrorReply:
        reply = true_answer(request)
        return (
            HelloReply(
                version_major=version,
                version_minor=0,
                features=features,
                network="regtest",
                lightning_id=reply.lightning_id,
                lightning_signature="",
                now_at=0,
            )
            if isinstance(request, Hello)
            else reply
        )

    node.answer = newer  # type: ignore[method-assign]
    with pytest.raises(NodeRefused, match=refusal):
        async with connect(node.address, ME, open_stream=network.open_stream):
            pass


async def test_the_pool_shares_one_connection_and_replaces_a_dead_one(network: TinyNetwork) -> None:
    node = network.nodes[0]
    async with open_pool(ME, open_stream=network.open_stream) as pool:
        async with trio.open_nursery() as tasks:
            for _ in range(5):
                tasks.start_soon(lambda: pool.request(node.address, AccountStatus(), timeout_seconds=5))
        assert node.connections == 1
        died = iter(["die"])
        node.fault = lambda _: next(died, None)
        await pool.request(node.address, AccountStatus(), timeout_seconds=5)
        assert node.connections == 2


async def test_after_a_failed_attempt_the_next_ones_fail_at_once(network: TinyNetwork) -> None:
    """A dead node costs one attempt, not one per share."""
    node = network.nodes[0]
    node.down = True
    async with open_pool(ME, open_stream=network.open_stream) as pool:
        with pytest.raises(NodeUnreachable):
            await pool.dial(node.address)
        node.down = False
        with pytest.raises(NodeUnreachable):
            await pool.dial(node.address)
    assert node.connections == 0


async def test_the_budget_is_given_in_order_and_survives_cancellation() -> None:
    """A large request is not starved by small ones that come later."""
    budget = ByteBudget(10)
    order: list[str] = []

    async def take(name: str, count: int) -> None:
        order.append(f"{name} {await budget.take(count)}")

    assert await budget.take(8) == 8
    async with trio.open_nursery() as tasks:
        tasks.start_soon(take, "large", 99)
        await trio.testing.wait_all_tasks_blocked()
        tasks.start_soon(take, "small", 1)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.01):
            await budget.take(1)
        assert order == []
        budget.give(8)
        await trio.testing.wait_all_tasks_blocked()
        assert order == ["large 10"]
        budget.give(10)
    assert order == ["large 10", "small 1"]
    assert (budget.taken, budget.most_taken) == (1, 10)


def test_a_share_id_is_what_the_tiny_node_checks() -> None:
    node = TinyNode(1)
    reply = node.answer(PutShare(share_id=ShareId(bytes(32)), token_start=0, tokens=b"", payload=b"x"))
    assert reply.code is ErrorCode.ROOT_MISMATCH
