"""Shares of a put under way, and those that nobody waits for any longer.

One slow node of five would make the whole put as slow as itself. A share that takes several times what shares took at
the others is given up where the put can do without its node; which that is, the put says. A process that was stopped
itself, or had no turn for long, holds that against nobody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import trio

from lnstore.client.pace import Pace
from lnstore.client.tasks import open_tasks
from lnstore_protocol.ids import NodeId

LEAST_SECONDS = 1.0
"""No share is slow before, whatever others took."""

CHECK_SECONDS = 0.25
HELD_UP_SECONDS = 0.25
"""Woken so much too late, this process counts as having been held up."""


@dataclass(slots=True, eq=False)
class _Wait:
    node_id: NodeId
    since: float
    is_dispensable: Callable[[], bool]
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Stragglers:
    """The waits of one put."""

    def __init__(self, share_seconds: float) -> None:
        self.pace = Pace(first_seconds=share_seconds, least_seconds=LEAST_SECONDS, most_seconds=share_seconds)
        self._waits: set[_Wait] = set()

    @contextmanager
    def waiting(self, node_id: NodeId, is_dispensable: Callable[[], bool]) -> Iterator[trio.CancelScope]:
        """Wait for a share in the block, cancelled once it is slow and dispensable; a share that came sets the pace."""
        wait = _Wait(node_id, trio.current_time(), is_dispensable)
        self._waits.add(wait)
        try:
            with wait.scope:
                yield wait.scope
                self.pace.note(trio.current_time() - wait.since)
        finally:
            self._waits.remove(wait)

    def give_up(self, node_id: NodeId) -> None:
        """Wait for nothing more from this node."""
        for wait in self._waits:
            if wait.node_id == node_id:
                wait.scope.cancel()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """For the block, look at all waits a few times a second."""
        async with open_tasks() as tasks:
            tasks.start_soon(self._watch)
            yield
            tasks.cancel_scope.cancel()

    async def _watch(self) -> None:
        while True:
            due = trio.current_time() + CHECK_SECONDS
            await trio.sleep_until(due)
            now = trio.current_time()
            if now - due > HELD_UP_SECONDS:
                for wait in self._waits:
                    wait.since += now - due
            for wait in self._waits:
                if self.is_slow(now - wait.since) and wait.is_dispensable():
                    wait.scope.cancel()

    @property
    def slowness(self) -> str:
        """What is wrong with a node whose share was slow."""
        usual = self.pace.usual_seconds or 0.0
        return f"took more than {self.pace.slow_seconds:.1f} s for a share, others take {usual:.1f} s"

    def is_slow(self, seconds: float) -> bool:
        """Whether a share that is not there after so long is slow, compared with others."""
        return self.pace.usual_seconds is not None and seconds > self.pace.slow_seconds
