"""Giving up shares: what the catalog forgets, the nodes are told, so that its room is free again."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from lnstore.client.catalog import Catalog, CatalogError
from lnstore.client.node_errors import NodeError
from lnstore.client.pool import NodePool
from lnstore_protocol.ids import NodeId, ShareId
from lnstore_protocol.messages import MAX_IDS, DropShares

DROP_SECONDS = 30.0


async def drop_shares(pool: NodePool, catalog: Catalog, unneeded: Mapping[NodeId, list[ShareId]]) -> set[NodeId]:
    """Give up leases at their nodes, all at once; the nodes that could not be told.

    The catalog has noted the shares as given up before (`Catalog.remove_file`), so whoever was not reached now is told
    again before the next rent proof.
    """
    unreached: set[NodeId] = set()
    async with trio.open_nursery() as tasks:
        for node_id, share_ids in unneeded.items():
            tasks.start_soon(_drop, pool, catalog, node_id, share_ids, unreached)
    return unreached


async def _drop(
    pool: NodePool, catalog: Catalog, node_id: NodeId, share_ids: list[ShareId], unreached: set[NodeId]
) -> None:
    try:
        address = catalog.node(node_id).address
        for at in range(0, len(share_ids), MAX_IDS):
            message = DropShares(payload=b"".join(share_ids[at : at + MAX_IDS]))
            await pool.request(address, message, timeout_seconds=DROP_SECONDS)
    except (NodeError, CatalogError):
        unreached.add(node_id)
