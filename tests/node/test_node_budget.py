"""The memory budget: never over its total, first come first served, nothing leaks."""

from __future__ import annotations

import mmap

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from lnstore.node.budget import MemoryBudget, PayloadBuffers
from lnstore.node.limits import READ_BYTES
from lnstore_protocol.frames import BufferPool

MIB = 1 << 20


async def test_who_asks_first_is_served_first_even_if_less_would_fit() -> None:
    budget = MemoryBudget(10)
    await budget.take(8)
    order = []

    async def want(count: int) -> None:
        await budget.take(count)
        order.append(count)

    async with trio.open_nursery() as nursery:
        for count in (5, 1, 2):
            nursery.start_soon(want, count)
            await trio.testing.wait_all_tasks_blocked()
        assert order == []
        assert not budget.try_take(1)
        budget.give(4)
        await trio.testing.wait_all_tasks_blocked()
        assert set(order) == {5, 1}
        budget.give(4)
    assert order[2] == 2
    assert budget.used_bytes == 8


async def test_who_gives_up_waiting_lets_the_next_one_through() -> None:
    budget = MemoryBudget(10)
    await budget.take(6)
    with trio.move_on_after(0):
        await budget.take(5)
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def give_up() -> None:
            with scope:
                await budget.take(5)

        nursery.start_soon(give_up)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(budget.take, 4)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
    assert budget.used_bytes == 10


async def test_a_grant_that_meets_a_cancellation_is_given_back() -> None:
    budget = MemoryBudget(10)
    await budget.take(10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(budget.take, 7)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        budget.give(10)
    assert budget.used_bytes == 0


async def test_more_than_the_whole_is_refused_by_take_and_shortened_by_holding() -> None:
    budget = MemoryBudget(10)
    with pytest.raises(ValueError, match="more than the whole"):
        await budget.take(11)
    async with budget.holding(11):
        assert budget.used_bytes == 10
    assert budget.used_bytes == 0


def _buffers(total: int) -> tuple[MemoryBudget, PayloadBuffers]:
    budget = MemoryBudget(total)
    return budget, PayloadBuffers(budget, BufferPool(size=4 * MIB, keep=2))


async def test_a_payload_beyond_the_budget_costs_no_memory_until_it_is_granted() -> None:
    budget, buffers = _buffers(5 * MIB)
    first = buffers.allocate(4 * MIB)
    second = buffers.allocate(4 * MIB)
    assert isinstance(second.obj, mmap.mmap)
    assert budget.used_bytes == 4 * MIB
    one, two = buffers.claim(first), buffers.claim(second)
    assert one is not None
    assert two is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(buffers.settle)
        await trio.testing.wait_all_tasks_blocked()
        assert [one.granted, two.granted] == [True, False]
        buffers.finish(one)
    assert [one.granted, two.granted] == [True, True]
    buffers.finish(two)
    buffers.finish(two)
    assert budget.used_bytes == 0


async def test_a_payload_finished_while_it_waits_takes_nothing() -> None:
    budget, buffers = _buffers(4 * MIB)
    one = buffers.claim(buffers.allocate(4 * MIB))
    two = buffers.claim(buffers.allocate(READ_BYTES))
    assert one is not None
    assert two is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(buffers.settle)
        await trio.testing.wait_all_tasks_blocked()
        buffers.finish(two)
        buffers.finish(one)
    assert budget.used_bytes == 0


def test_payloads_of_ignored_messages_are_finished_all_but_the_one_being_received() -> None:
    budget, buffers = _buffers(16 * MIB)
    for count in (1000, 2000, 3000):
        buffers.allocate(count)
    buffers.finish_ignored(receiving=True)
    assert budget.used_bytes == 3000
    buffers.close()
    assert budget.used_bytes == 0


def test_only_own_payloads_can_be_claimed_and_only_once() -> None:
    _, buffers = _buffers(16 * MIB)
    view = buffers.allocate(1000)
    assert buffers.claim(memoryview(b"x")) is None
    assert buffers.claim(b"x") is None
    assert buffers.claim(view) is not None
    assert buffers.claim(view) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40))))
def test_the_budget_is_never_exceeded_and_never_leaks(steps: list[tuple[bool, int]]) -> None:
    budget = MemoryBudget(100)
    held: list[int] = []
    for take, count in steps:
        if take:
            fits = sum(held) + count <= 100
            assert budget.try_take(count) is fits
            if fits:
                held.append(count)
        elif held:
            budget.give(held.pop(count % len(held)))
        assert budget.used_bytes == sum(held) <= 100
