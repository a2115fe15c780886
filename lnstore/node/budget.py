"""The memory budget: what requests in flight may hold, node-wide.

There are two budgets of half the setting each, one for payloads that come in and one for replies that go out, because
that is what rules out deadlock. What a task may wait for while it holds something is ordered, and never the other way:

    incoming budget  →  a place among the session's requests  →  a turn (admission.py)  →  outgoing budget
                     →  the session's writer

A session waits for the incoming budget holding nothing of it for the message it is reading (PayloadBuffers). A request
waits for the outgoing budget once, before it reads from disk; its turn ends before it waits for the writer. Whoever
holds the writer waits only for its peer, and whoever receives a message waits only for its peer, both up to a deadline
that closes the connection. So the last resource in the order always comes free, and with it all others.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from lnstore.node.limits import READ_BYTES
from lnstore_protocol.frames import BufferPool
from lnstore_protocol.messages import Buffer


class MemoryBudget:
    """So many bytes, given out first come first served."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._free = total_bytes
        self.taken = 0
        """How often something was taken since the start; says whether there was traffic."""
        self._waiting: deque[tuple[int, trio.Event]] = deque()

    @property
    def used_bytes(self) -> int:
        """What is given out now."""
        return self.total_bytes - self._free

    def try_take(self, count: int) -> bool:
        """Take `count` bytes if they are free and nobody waits."""
        if self._waiting or count > self._free:
            return False
        self._free -= count
        self.taken += 1
        return True

    async def take(self, count: int) -> None:
        """Take `count` bytes as soon as they are free; ValueError when they never can be."""
        if count > self.total_bytes:
            raise ValueError(f"{count} bytes are more than the whole budget of {self.total_bytes}")
        await trio.lowlevel.checkpoint_if_cancelled()
        if self.try_take(count):
            return
        granted = trio.Event()
        entry = (count, granted)
        self._waiting.append(entry)
        try:
            await granted.wait()
        except BaseException:
            if granted.is_set():
                self.give(count)
            else:
                self._waiting.remove(entry)
                self._grant()
            raise

    def give(self, count: int) -> None:
        """Give back `count` bytes that were taken."""
        self._free += count
        self._grant()

    @asynccontextmanager
    async def holding(self, count: int) -> AsyncIterator[None]:
        """Hold `count` bytes (at most the whole budget) for the block."""
        count = min(count, self.total_bytes)
        await self.take(count)
        try:
            yield
        finally:
            self.give(count)

    def _grant(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            count, granted = self._waiting.popleft()
            self._free -= count
            self.taken += 1
            granted.set()


@dataclass(slots=True, eq=False)
class Payload:
    """One incoming payload and what it has of the budget."""

    size_bytes: int
    view: memoryview | None = field(repr=False)
    granted: bool

    def is_used(self) -> bool:
        """Whether somebody still writes or reads it."""
        return self.view is not None


class PayloadBuffers:
    """One session's incoming payloads: where their bytes go, and what they have of the budget.

    The protocol core asks for a buffer in the midst of a read, when nobody can wait. If the budget has no room just
    then, the payload gets pages that cost nothing until they are written, and `settle` waits before the next read: so
    a session holds at most READ_BYTES that were not granted.
    """

    def __init__(self, budget: MemoryBudget, pool: BufferPool) -> None:
        self._budget = budget
        self._pool = pool
        self._unclaimed: list[Payload] = []
        self._ungranted: list[Payload] = []

    def allocate(self, count: int) -> memoryview:
        """A buffer for a payload of `count` bytes (the protocol core's Allocate)."""
        granted = self._budget.try_take(count)
        view = self._pool.take(count) if granted or count <= READ_BYTES else memoryview(mmap.mmap(-1, count))
        payload = Payload(count, view, granted)
        self._unclaimed.append(payload)
        if not granted:
            self._ungranted.append(payload)
        return view

    def claim(self, view: Buffer) -> Payload | None:
        """The record of this complete payload, whose reader now answers for it: it must be finished."""
        if not isinstance(view, memoryview):
            return None
        for at, payload in enumerate(self._unclaimed):
            if payload.view is not None and payload.view.obj is view.obj:
                return self._unclaimed.pop(at)
        return None

    def finish(self, payload: Payload) -> None:
        """Nobody reads this payload any more: its memory and its share of the budget go back."""
        view, payload.view = payload.view, None
        if view is None:
            return
        self._pool.give(view)
        if payload.granted:
            self._budget.give(payload.size_bytes)

    def finish_ignored(self, *, receiving: bool) -> None:
        """Finish payloads of messages that were passed over: all unclaimed but, while `receiving`, the newest."""
        while len(self._unclaimed) > (1 if receiving else 0):
            self.finish(self._unclaimed.pop(0))

    async def settle(self) -> None:  # T-R15
        """Wait until every payload that is still in use has its share of the budget."""
        while self._ungranted:
            payload = self._ungranted[0]
            if payload.is_used():
                await self._budget.take(payload.size_bytes)
                payload.granted = payload.is_used()
                if not payload.granted:
                    self._budget.give(payload.size_bytes)
            self._ungranted.pop(0)

    def close(self) -> None:
        """The session ends; claimed payloads are finished by their requests."""
        self.finish_ignored(receiving=False)
