"""How often peers may ask: the buckets, and what a session does with those who ask more."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from node_world import HELLO, Client, World, eventually

from lnstore.config import NodeConfig
from lnstore.node.admission import Admission, TooMany, Visit
from lnstore.node.limits import RATES
from lnstore.node.throttle import NO_NETWORK, Buckets, Counts, Limits, Rate, Throttle, Work, network_of
from lnstore.node.turns import Turns
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.identity import Identity
from lnstore_protocol.messages import (
    AccountStatusReply,
    AddCapacity,
    ErrorReply,
    GetTerms,
    HelloReply,
    OpenAccount,
    TermsReply,
)
from lnstore_protocol.terms import Agreement

MIB = 1 << 20
RATE = Rate(5, 0.5)
CONNECTION_ERRORS = (RemoteProtocolError, trio.BrokenResourceError)


@given(st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_no_window_holds_more_than_the_burst_and_what_fills_it(gaps: list[float]) -> None:
    """Whoever asks, and waits as told whenever that is asked of it, gets burst + window · rate permits at most."""
    buckets, now, granted = Buckets(10), 1000.0, []
    for gap in gaps:
        now += gap
        wait = buckets.wait(Work.ASK, b"a", RATE, now)
        assert 0 <= wait <= 1 / RATE.per_second + 1e-6
        now += wait
        assert buckets.wait(Work.ASK, b"a", RATE, now + 1e-6) == 0
        buckets.take(Work.ASK, b"a", RATE, now)
        granted.append(now)
    for first, start in enumerate(granted):
        for last in range(first, len(granted)):
            assert last - first + 1 <= RATE.burst + (granted[last] - start) * RATE.per_second + 1e-3


def test_the_tables_are_bounded_and_full_buckets_need_no_place() -> None:
    buckets = Buckets(3)
    for key in (b"a", b"b", b"c", b"d"):
        buckets.take(Work.ASK, key, RATE, 0.0)
    assert len(buckets) == 3
    buckets.take(Work.ASK, b"e", RATE, 2.0)  # all others are full again
    assert len(buckets) == 1


def test_a_refused_request_is_not_counted_and_works_are_apart() -> None:
    """E-W4: what is refused for the network is not charged to the account, and the told time is enough."""
    throttle = Throttle({Work.AUDIT: Limits(account=Rate(9, 1.0), network=Rate(1, 0.25))}, maximum=9)
    assert throttle.take(Work.AUDIT, account=b"a", network=b"n", now=0.0) == 0
    assert [throttle.take(Work.AUDIT, account=b"a", network=b"n", now=1.0) for _ in range(20)] == [3.0] * 20
    assert throttle.take(Work.OPEN, account=b"a", network=b"n", now=1.0) == 0  # without limits
    assert throttle.take(Work.AUDIT, account=b"a", network=b"n", now=4.0) == 0


def test_a_factor_scales_every_limit_and_none_is_no_limit() -> None:
    none = Throttle(RATES, factor=0.0, maximum=9)
    assert not any(none.take(Work.OPEN, account=b"a", network=b"n", now=0.0) for _ in range(5000))
    tenth = Throttle(RATES, factor=0.1, maximum=9)
    granted = sum(tenth.take(Work.INVOICE, account=b"a", network=b"n", now=0.0) == 0 for _ in range(50))
    assert granted == RATES[Work.INVOICE].account.burst // 10


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.7", bytes([192, 0, 2, 7])),
        ("::ffff:192.0.2.7", bytes([192, 0, 2, 7])),
        ("2001:db8:1:2:3:4:5:6", bytes.fromhex("20010db800010002")),
        ("fe80::1%eth0", bytes.fromhex("fe80000000000000")),
        ("somewhere", NO_NETWORK),
    ],
)
def test_an_ipv6_holder_is_one_network(host: str, network: bytes) -> None:
    assert network_of(host) == network


def test_counts_forget_who_has_none() -> None:
    counts = Counts()
    counts.enter(b"a")
    counts.enter(b"a")
    counts.leave(b"a")
    assert (counts.of(b"a"), counts.of(b"b"), counts.total) == (1, 0, 1)
    counts.leave(b"a")
    assert (counts.of(b"a"), counts.total) == (0, 0)


async def test_turns_are_taken_in_order_and_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    turns, order = Turns(2), list[tuple[bytes, int, float]]()

    async def work(number: int, key: bytes) -> None:
        async with turns.holding(key):
            order.append((key, number, autojump_clock.current_time()))
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(work, number, b"flood")
            await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(work, 0, b"other")
        with trio.move_on_after(0.5):  # who gives up loses nothing for others
            await work(99, b"flood")
    start = order[0][2]
    taken = {(key, number): round(at - start) for key, number, at in order}
    assert taken == {(b"other", 0): 0} | {(b"flood", number): number // 2 for number in range(6)}
    assert len(turns) == 0


async def test_a_flood_is_told_when_to_ask_again_and_others_are_served(tmp_path: Path) -> None:
    """S-W2, E-W4: one account's invoices are used up; its questions, and other accounts' invoices, are not."""
    world = World(tmp_path, rate_limit_percent=3)  # 3 invoices of an account, 30 of a network
    async with world.running() as node, world.client(node) as one, world.client(node) as two:
        await one.open_account()
        for number in range(3):
            assert await one.refused(AddCapacity(growth_index=7, capacity_bytes=MIB)) is ErrorCode.PERIOD_REFUSED, (
                number
            )
        reply = await one.ask(AddCapacity(growth_index=7, capacity_bytes=MIB), ErrorReply)
        assert reply.code is ErrorCode.RATE_LIMITED
        assert reply.retry_after_seconds == 334
        assert isinstance(await one.status(), AccountStatusReply)
        await two.rent(MIB)


async def test_a_network_opens_few_accounts_at_once(tmp_path: Path) -> None:  # S-W2
    world = World(tmp_path, rate_limit_percent=1)  # 3 of one network
    async with world.running() as node:
        codes = []
        async with world.client(node) as client:
            terms = await client.terms()
        for _ in range(5):
            async with world.client(node) as client:
                proposal = Agreement.propose(terms, client.identity, world.clock.now())
                reply = await client.receive(await client.send(OpenAccount(agreement=proposal.encoded)))
                codes.append(reply.code if isinstance(reply, ErrorReply) else None)
        assert codes == [None] * 3 + [ErrorCode.RATE_LIMITED] * 2
        assert len(await node.books.accounts()) == 3


async def test_what_comes_after_a_flood_is_read_later(tmp_path: Path) -> None:
    """A refusal costs work too: after it the connection is read no further for a while, up to a second."""
    world = World(tmp_path, rate_limit_percent=1)
    async with world.running() as node, world.client(node) as client:
        started = trio.current_time()
        for _ in range(9):  # 10 questions with hello
            await client.ask(GetTerms(), TermsReply)
        while not isinstance(await client.receive(await client.send(GetTerms())), ErrorReply):
            pass  # what filled the bucket meanwhile
        refused_at = trio.current_time()
        await client.receive(await client.send(GetTerms()))
        assert trio.current_time() - refused_at >= 0.2
        assert trio.current_time() - started < 15


async def test_connections_of_one_address_are_bounded(tmp_path: Path) -> None:  # T-R9
    world = World(tmp_path, maximum_connections_per_address=2)
    async with world.running() as node, world.client(node):
        async with world.client(node):
            with pytest.raises(CONNECTION_ERRORS):
                await Client.connect(node.address, Identity.generate())
        await eventually(lambda: node.node.connections == 1)
        async with world.client(node) as again:
            await again.terms()


async def test_connections_in_a_short_time_are_bounded(tmp_path: Path) -> None:  # T-R9
    world = World(tmp_path, rate_limit_percent=1)  # 10 at once, one more in 5 s
    async with world.running() as node:
        met = 0
        for _ in range(12):
            try:
                async with await Client.connect(node.address, Identity.generate()) as client:
                    await client.ask(HELLO, HelloReply)
                    met += 1
            except CONNECTION_ERRORS:
                pass
        assert 10 <= met < 12


def the_config(directory: Path, **settings: object) -> NodeConfig:
    (directory / "node.toml").write_text(NodeConfig.template(**settings))
    return NodeConfig.load(directory)


async def test_when_all_places_are_taken_the_crowded_address_gives_one_up(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:  # T-R9
    """The one of it that was used longest ago; an address that has as many as the most crowded gets no other's."""
    admission, given_up = Admission(the_config(tmp_path, maximum_connections=4)), list[str]()
    with ExitStack() as stack:

        async def enter(network: bytes, name: str) -> Visit:
            await trio.sleep(1)
            visit = stack.enter_context(admission.connection(network))
            visit.give_up = lambda: given_up.append(name)
            admission.shaken(visit)
            return visit

        first = await enter(b"flood", "first")
        for name in ("second", "third", "fourth"):
            await enter(b"flood", name)
        first.used_at = autojump_clock.current_time()
        with pytest.raises(TooMany):
            await enter(b"flood", "fifth")
        await enter(b"honest", "honest")
        assert given_up == ["second"]
        await enter(b"other", "other")
        assert given_up == ["second", "third"]
        with pytest.raises(TooMany):  # the flood has 2, and honest would have 2
            await enter(b"honest", "honest again")
    with pytest.raises(TooMany), Admission(the_config(tmp_path, maximum_connections=0)).connection(b"a"):
        pass


async def test_handshakes_of_one_address_leave_places_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # T-R9
    monkeypatch.setattr("lnstore.node.admission.HANDSHAKES", 3)
    admission, given_up = Admission(the_config(tmp_path)), list[int]()
    with ExitStack() as stack:
        done = stack.enter_context(admission.connection(b"flood"))
        admission.shaken(done)
        for number in range(3):
            visit = stack.enter_context(admission.connection(b"flood"))
            visit.give_up = partial(given_up.append, number)
        stack.enter_context(admission.connection(b"honest"))
        assert given_up == [0]
        with pytest.raises(TooMany):
            stack.enter_context(admission.connection(b"flood"))


async def test_unfinished_handshakes_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:  # T-R9
    """Whoever begins handshakes and never ends them keeps few places, and finished ones do not count."""
    monkeypatch.setattr("lnstore.node.admission.HANDSHAKES_PER_NETWORK", 3)
    async with world.running() as node, world.client(node) as guest:
        idle = [await trio.open_tcp_stream(node.address.host, node.address.port) for _ in range(3)]
        await eventually(lambda: node.node.connections == 4)
        with pytest.raises(CONNECTION_ERRORS):
            await Client.connect(node.address, Identity.generate())
        await guest.terms()
        await idle[0].aclose()
        await eventually(lambda: node.node.connections == 3)
        async with world.client(node) as other:
            await other.terms()
        for stream in idle:
            await stream.aclose()
