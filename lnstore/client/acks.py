"""Acknowledged shares on their way into the catalog, in batches: a commit waits for the disk."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

import trio

from lnstore.client.catalog import Catalog, ShareEntry
from lnstore.client.contents import Content, Contents
from lnstore_protocol.ids import ShareId

QUEUED_SHARES = 64
BATCH_SHARES = 256
BATCH_SECONDS = 0.5
"""Acknowledged shares are written to the catalog so many at once, or after so long."""


class AckRecorder:  # MB-R7
    """Takes shares that nodes acknowledged and records them. Add within `open()`, with `run` as a task."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._threads = trio.CapacityLimiter(1)
        self._send, self._receive = trio.open_memory_channel[ShareEntry](QUEUED_SHARES)
        self._waiting: list[ShareEntry] = []

    def open(self) -> AbstractAsyncContextManager[object]:
        """Shares may be added in this block; `run` ends after it."""
        return self._send

    async def add(self, entry: ShareEntry) -> None:
        """A node acknowledged this share."""
        await self._send.send(entry)

    async def run(self) -> None:
        """Record many at once; the last ones are left for `complete` or `flush`. CatalogError."""
        async for entry in self._receive:
            self._waiting.append(entry)
            with trio.move_on_after(BATCH_SECONDS):
                while len(self._waiting) < BATCH_SHARES:
                    try:
                        self._waiting.append(await self._receive.receive())
                    except trio.EndOfChannel:
                        return
            batch = list(self._waiting)
            await trio.to_thread.run_sync(self._catalog.add_shares, batch, limiter=self._threads)
            del self._waiting[: len(batch)]

    async def complete(
        self, file_id: int, *, manifest_id: ShareId, file_bytes: int, contents: Sequence[Content] = ()
    ) -> None:
        """Record the last shares, that the file is complete, and what it holds, in one transaction. CatalogError."""
        await trio.to_thread.run_sync(
            partial(self._complete, file_id, manifest_id, file_bytes, contents), limiter=self._threads
        )
        self._waiting.clear()

    def _complete(self, file_id: int, manifest_id: ShareId, file_bytes: int, contents: Sequence[Content]) -> None:
        with self._catalog.transaction():
            self._catalog.add_shares(self._waiting)
            self._catalog.complete_file(file_id, manifest_id=manifest_id, file_bytes=file_bytes)
            Contents(self._catalog).note(file_id, contents)

    def flush(self) -> None:
        """At the end, also when interrupted: a share that is recorded is not sent again. Blocking; CatalogError."""
        while True:
            try:
                self._waiting.append(self._receive.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
                break
        if self._waiting:
            self._catalog.add_shares(self._waiting)
            self._waiting.clear()
