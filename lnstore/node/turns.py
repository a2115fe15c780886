"""Taking turns: so many at once of each, the others wait in the order they came."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Turns:
    """At most `at_once` blocks of one key run at the same time; keys in use are all that is remembered."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._limiters: dict[bytes, tuple[trio.CapacityLimiter, list[None]]] = {}

    def __len__(self) -> int:
        return len(self._limiters)

    @asynccontextmanager
    async def holding(self, key: bytes) -> AsyncIterator[None]:
        """Wait for a turn, and have it for the block."""
        limiter, users = self._limiters.setdefault(key, (trio.CapacityLimiter(self._at_once), []))
        users.append(None)
        turn = object()  # a task may have several
        try:
            await limiter.acquire_on_behalf_of(turn)
            try:
                yield
            finally:
                limiter.release_on_behalf_of(turn)
        finally:
            users.pop()
            if not users:
                del self._limiters[key]
