"""Shares that a node was found to have lost and that still count as stored there, until they lie elsewhere.

A loss is written down as it is found, so that a later `repair` knows of it whatever is killed in between. The share
stays in the catalog's list of its node until another node has acknowledged it; then both change in one transaction, and
the lease is given up where the share was lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lnstore.client.catalog import SHARE_COLUMNS, Catalog, ShareEntry, share_entry
from lnstore.client.faults import Fault
from lnstore_protocol.ids import NodeId, ShareId


@dataclass(frozen=True, slots=True)
class Loss:
    """One share that one node lost, and how that was seen."""

    share: ShareEntry
    fault: Fault
    found_at: int


class Losses:
    """The losses in the catalog. Short and blocking; those that write wait for the disk."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def note(self, node_id: NodeId, share_ids: Iterable[ShareId], fault: Fault, now: int) -> None:
        """The node does not hold these as they were stored."""
        with self._catalog.transaction() as db:
            db.executemany(
                "INSERT INTO lost_shares (node_id, share_id, fault, found_at) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET fault = excluded.fault",
                [(bytes(node_id), bytes(share_id), fault.value, now) for share_id in share_ids],
            )

    def forgive(self, node_id: NodeId, share_ids: Iterable[ShareId]) -> None:
        """The node showed these to be whole after all."""
        with self._catalog.transaction() as db:
            db.executemany(
                "DELETE FROM lost_shares WHERE node_id = ? AND share_id = ?",
                [(bytes(node_id), bytes(share_id)) for share_id in share_ids],
            )

    def all(self, file_id: int | None = None) -> list[Loss]:
        """What is lost and needed by a file (None: by any), by file and segment."""
        return self._lost("file_id = ?", file_id) if file_id is not None else self._lost("1")

    def last_found_at(self) -> int | None:
        """When something was found to be lost for the last time, of what is lost still."""
        found_at: int | None
        ((found_at,),) = self._catalog.rows("SELECT max(found_at) FROM lost_shares")
        return found_at

    def at(self, node_id: NodeId) -> list[Loss]:
        """What this node lost."""
        return self._lost("node_id = ?", bytes(node_id))

    def _lost(self, where: str, *of: int | bytes) -> list[Loss]:
        rows = self._catalog.rows(
            f"SELECT {SHARE_COLUMNS}, fault, found_at FROM lost_shares JOIN shares USING (node_id, share_id) "  # noqa: S608 -- our own
            f"JOIN files USING (file_id) WHERE {where} ORDER BY name, segment, number, node_id",
            of,
        )
        return [Loss(share_entry(row[:-2]), Fault(row[-2]), row[-1]) for row in rows]

    def moved(self, share_id: ShareId, from_node: NodeId, to: NodeId, token_end: int) -> None:  # R-R21, MB-W4
        """Another node has acknowledged the share: it counts there now, for all files, and is given up at the first."""
        here, there = bytes(from_node), bytes(to)
        with self._catalog.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO shares (node_id, share_id, file_id, segment, number, size_bytes, token_end) "
                "SELECT ?, share_id, file_id, segment, number, size_bytes, ? FROM shares "
                "WHERE node_id = ? AND share_id = ?",
                (there, token_end, here, bytes(share_id)),
            )
            db.execute("DELETE FROM given_up WHERE node_id = ? AND share_id = ?", (there, bytes(share_id)))
            self.dispensed(share_id, from_node)

    def dispensed(self, share_id: ShareId, node_id: NodeId) -> None:  # MB-W4
        """Enough others have the share: it counts at this node no more, and is given up there."""
        which = (bytes(node_id), bytes(share_id))
        with self._catalog.transaction() as db:
            db.execute("DELETE FROM shares WHERE node_id = ? AND share_id = ?", which)
            db.execute("DELETE FROM lost_shares WHERE node_id = ? AND share_id = ?", which)
            db.execute("INSERT OR IGNORE INTO given_up (node_id, share_id) VALUES (?, ?)", which)

    def restored(self, share_id: ShareId, node_id: NodeId, token_end: int) -> None:
        """The node that lost the share has shown it again, with new tokens."""
        with self._catalog.transaction():
            self.forgive(node_id, [share_id])
            self._catalog.tokens_renewed(node_id, [share_id], token_end)
