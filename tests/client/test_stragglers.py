"""Shares that take much longer than others are given up, where the put can do without them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
import trio.testing
from transfer_fixtures import bed_of, content, read_back

from lnstore.client.standing import LATE_SECONDS
from lnstore.client.stragglers import CHECK_SECONDS, LEAST_SECONDS, Stragglers
from lnstore_protocol.ids import NodeId
from lnstore_protocol.messages import AccountStatus, Hello, PutShare

SLOW, OTHER = NodeId(bytes(32)), NodeId(b"\1" * 32)
SHARE_SECONDS = 120.0


async def wait(stragglers: Stragglers, seconds: float, node_id: NodeId = SLOW, *, dispensable: bool = True) -> float:
    """Wait for a share that takes so long; when it was there or given up, and -1 for given up."""
    began = trio.current_time()
    with stragglers.waiting(node_id, lambda: dispensable) as scope:
        await trio.sleep(seconds)
    assert trio.current_time() - began <= seconds + 0.001
    return -1 if scope.cancelled_caught else trio.current_time() - began


@pytest.mark.parametrize(
    ("usual", "seconds", "given_up"),
    [
        (0.01, LEAST_SECONDS - 0.1, False),
        (0.01, LEAST_SECONDS + 2 * CHECK_SECONDS, True),
        (2.0, 7.9, False),
        (2.0, 8.6, True),
        (100.0, SHARE_SECONDS - 1, False),
    ],
)
async def test_slow_is_several_times_what_others_took(
    autojump_clock: trio.testing.MockClock, usual: float, seconds: float, given_up: bool
) -> None:
    stragglers = Stragglers(SHARE_SECONDS)
    async with stragglers.watching():
        assert await wait(stragglers, usual, OTHER) == pytest.approx(usual)
        assert (await wait(stragglers, seconds) < 0) is given_up


async def test_nobody_is_slow_before_another_was_there(autojump_clock: trio.testing.MockClock) -> None:
    stragglers = Stragglers(SHARE_SECONDS)
    async with stragglers.watching():
        assert await wait(stragglers, SHARE_SECONDS - 1) > 0


async def test_what_the_put_needs_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    stragglers = Stragglers(SHARE_SECONDS)
    async with stragglers.watching():
        await wait(stragglers, 0.1, OTHER)
        assert await wait(stragglers, 60, dispensable=False) == pytest.approx(60)


async def test_a_node_given_up_is_waited_for_no_more(autojump_clock: trio.testing.MockClock) -> None:
    stragglers = Stragglers(SHARE_SECONDS)
    outcomes: list[float] = []

    async def note(node_id: NodeId) -> None:
        outcomes.append(await wait(stragglers, 0.5, node_id))

    async with stragglers.watching(), trio.open_nursery() as tasks:
        for node_id in (SLOW, SLOW, OTHER):
            tasks.start_soon(note, node_id)
        await trio.sleep(0.1)
        stragglers.give_up(SLOW)
    assert outcomes == [-1, -1, pytest.approx(0.5)]


async def test_a_process_that_was_stopped_itself_blames_nobody(mock_clock: trio.testing.MockClock) -> None:
    """After ten seconds without a turn every share has all its time again; only then is it slow."""
    stragglers = Stragglers(SHARE_SECONDS)
    stragglers.pace.note(0.01)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(stragglers.watching())
        scope = stack.enter_context(stragglers.waiting(SLOW, lambda: True))
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(10)
        await trio.testing.wait_all_tasks_blocked()
        assert not scope.cancel_called
        for _ in range(round(LEAST_SECONDS / CHECK_SECONDS) + 1):
            mock_clock.jump(CHECK_SECONDS)
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
    assert scope.cancel_called


@pytest.mark.parametrize("nodes", [3, 4])
def test_a_silent_node_delays_a_put_by_moments(tmp_path: Path, nodes: int) -> None:
    """Its shares go to the spare node, or are missing where there is none; the put says who was slow."""

    async def run() -> None:
        async with trio.open_nursery() as tasks:
            bed = bed_of(tmp_path, tasks, nodes=nodes, needed=2)
            bed.nodes[1].fault = lambda r: "stall" if isinstance(r, PutShare) else None
            data = content(50_000)
            async with bed.client(share_seconds=SHARE_SECONDS) as client:
                result = await client.put(bed.file(data), total=3)
                assert await read_back(client, result.cap) == data
            assert result.missing_shares == (1 if nodes == 3 else 0)
            assert result.seconds < SHARE_SECONDS / 10
            faults = [tally.fault for tally in result.nodes.values() if tally.fault]
            assert all("others take" in fault for fault in faults)
            assert len(faults) == 1 or (nodes == 4 and not faults)
            tasks.cancel_scope.cancel()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0.05))


def test_a_node_that_is_silent_from_the_start_delays_the_first_of_some_puts_only(tmp_path: Path) -> None:
    async def run() -> None:
        async with trio.open_nursery() as tasks:
            bed = bed_of(tmp_path, tasks, nodes=3, needed=2)
            bed.nodes[1].fault = lambda r: None if isinstance(r, Hello) else "stall"
            async with bed.client(share_seconds=SHARE_SECONDS) as client:
                began = trio.current_time()
                for name in "abc":
                    result = await client.put(bed.file(name.encode()), name=name)
                    assert result.missing_shares == 1
                assert trio.current_time() - began < 2 * LATE_SECONDS
            assert bed.nodes[1].count(AccountStatus) == 1
            tasks.cancel_scope.cancel()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0.05))
