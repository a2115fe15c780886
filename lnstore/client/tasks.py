"""Concurrency pieces of the client: tasks whose error comes out as itself, and a budget of bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

Item = TypeVar("Item")
T = TypeVar("T")


@asynccontextmanager
async def open_tasks() -> AsyncIterator[trio.Nursery]:
    """A nursery that raises the first error of its tasks bare instead of in a group.

    Callers then catch NodeError or PutFailed by name, however many tasks stand between. What the others were cancelled
    with is of no interest; an interrupt wins over errors.
    """
    error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        error = _foremost(group)
    if error is not None:
        raise error


async def each(function: Callable[[Item], Awaitable[T]], items: Sequence[Item], *, at_once: int) -> list[T]:
    """The function's result for each item, in their order, several at once."""
    results: dict[int, T] = {}
    todo = iter(enumerate(items))

    async def work() -> None:
        for number, item in todo:
            results[number] = await function(item)

    async with open_tasks() as nursery:
        for _ in range(min(at_once, len(items))):
            nursery.start_soon(work)
    return [results[number] for number in range(len(items))]


def _foremost(group: BaseExceptionGroup[BaseException]) -> BaseException:
    flat: list[BaseException] = []
    todo: list[BaseException] = [group]
    while todo:
        error = todo.pop(0)
        if isinstance(error, BaseExceptionGroup):
            todo[:0] = error.exceptions
        else:
            flat.append(error)
    interrupts = [e for e in flat if not isinstance(e, (Exception, trio.Cancelled))]
    errors = [e for e in flat if isinstance(e, Exception)]
    return (interrupts + errors + flat)[0]


class ByteBudget:
    """At most `limit` bytes taken at once; whoever asks for more waits, in order. More than all of it counts as all."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._waiting: deque[tuple[int, trio.Event]] = deque()
        self.most_taken = 0
        """The highest ever, for tests and reports."""

    @property
    def taken(self) -> int:
        """Bytes taken now."""
        return self._taken

    async def take(self, count: int) -> int:
        """Wait for room and take it; what to give back later."""
        count = min(count, self._limit)
        if not self._waiting and self._taken + count <= self._limit:
            self._note(count)
            await trio.lowlevel.checkpoint_if_cancelled()
            return count
        turn = trio.Event()
        self._waiting.append((count, turn))
        try:
            await turn.wait()
        except trio.Cancelled:
            if turn.is_set():
                self.give(count)
            else:
                self._waiting.remove((count, turn))
                self._wake()
            raise
        return count

    def give(self, count: int) -> None:
        """Give back what `take` returned."""
        self._taken -= count
        self._wake()

    def _note(self, count: int) -> None:
        self._taken += count
        self.most_taken = max(self.most_taken, self._taken)

    def _wake(self) -> None:
        while self._waiting and self._taken + self._waiting[0][0] <= self._limit:
            count, turn = self._waiting.popleft()
            self._note(count)
            turn.set()
