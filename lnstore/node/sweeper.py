"""Sweeping: deleting what nobody leases, in steps, so that uploads are never held up for long."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import trio

from lnstore.logs import get_logger
from lnstore.node.context import NodeContext
from lnstore.node.limits import ORPHAN_BATCH, ORPHAN_SCAN_SECONDS, SWEEP_SECONDS, SWEEP_STEP
from lnstore_protocol.ids import ShareId

_log = get_logger("lnstore.node.sweeper")


class Sweeper:
    """Deletes shares without a lease: soon when leases ended, in any case now and then."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node

    async def run(self) -> None:
        """Sweep, for ever."""
        while True:
            with trio.move_on_after(SWEEP_SECONDS):
                await self._node.sweep_wanted.wait()
            self._node.sweep_wanted = trio.Event()
            await self.sweep()

    async def sweep(self) -> int:
        """End what has lapsed and delete what is not leased; how many shares went."""
        swept = step = await self._step()
        while step == SWEEP_STEP:
            step = await self._step()
            swept += step
        if swept:
            _log.info("swept", shares=swept)
        return swept

    async def _step(self) -> int:
        return await self._node.books.sweep(delete=self._node.shares.delete, limit=SWEEP_STEP)

    async def run_orphan_scans(self) -> None:
        """Look for orphans, at the start and then now and then, for ever."""
        while True:
            await self.scan_orphans()
            await trio.sleep(ORPHAN_SCAN_SECONDS)

    async def scan_orphans(self) -> int:
        """Delete share files that no lease knows: what a crash between file and lease left; how many.

        A file whose lease is just being made may go too: that put sees it inside its transaction and writes again.
        """
        ids = self._node.shares.share_ids()
        orphans = 0
        while batch := await trio.to_thread.run_sync(_take, ids, limiter=self._node.workers.reads):
            for share_id in batch:
                orphans += await self._node.books.forget_orphan(share_id, delete=self._node.shares.delete)
        if orphans:
            _log.info("orphaned share files deleted", shares=orphans)
        return orphans


def _take(ids: Iterator[ShareId]) -> list[ShareId]:
    return list(islice(ids, ORPHAN_BATCH))
