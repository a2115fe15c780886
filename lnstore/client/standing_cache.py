"""How the accounts stand, asked once for many puts that follow one another.

What a put needs to know beforehand is where there is room; every node checks each share itself. So what was asked a few
seconds ago, less what was written since, is as good, as long as nothing went wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import trio

from lnstore.client.catalog import Catalog, NodeEntry
from lnstore.client.pool import NodePool
from lnstore.client.standing import LATE, Fit, Unfit, standings
from lnstore_protocol.ids import NodeId

FRESH_SECONDS = 5.0


class Standings:
    """What `standing.standings` said last."""

    def __init__(self, pool: NodePool, catalog: Catalog) -> None:
        self._pool = pool
        self._catalog = catalog
        self._asking = trio.Lock()
        self._nodes: list[NodeEntry] = []
        self._fit: dict[NodeId, Fit] = {}
        self._unfit: list[Unfit] = []
        self._until = -math.inf

    @property
    def is_fresh(self) -> bool:
        """Whether what is known may be used again."""
        return trio.current_time() < self._until

    async def ask(self, nodes: Sequence[NodeEntry], *, enough: int | None = None) -> tuple[list[Fit], list[Unfit]]:
        """As standings; not asked again when all nodes could be written to, or were late, a short while ago."""
        async with self._asking:
            if self.is_fresh and self._nodes == nodes:
                return list(self._fit.values()), self._unfit
            fit, unfit = await standings(self._pool, self._catalog, nodes, enough=enough)
            self._nodes = list(nodes)
            self._fit = {one.node.node_id: one for one in fit}
            self._unfit = unfit
            settled = all(one.reason == LATE for one in unfit)
            self._until = trio.current_time() + FRESH_SECONDS if settled else -math.inf
            return fit, unfit

    def wrote(self, node_id: NodeId, count: int, charged_msat: int) -> None:
        """So many bytes less are free, and so much less is in the deposit."""
        if (fit := self._fit.get(node_id)) is not None:
            self._fit[node_id] = replace(
                fit, free_bytes=max(0, fit.free_bytes - count), writing=fit.writing.after(count, charged_msat)
            )

    def doubt(self) -> None:
        """Something went wrong, or was changed: ask again the next time."""
        self._until = -math.inf
