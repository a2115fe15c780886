"""What we rent at a node by our own books: the growths that we paid for and the shrinks that it confirmed, in order.

A shrink is on disk before it is asked for, without its period; the node's answer, or what its account status says
after an interruption, makes it count. One that never arrived is taken out again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lnstore.client.catalog import Catalog
from lnstore_protocol.ids import NodeId
from lnstore_protocol.messages import AccountStatusReply
from lnstore_protocol.terms import Agreement, period_at


@dataclass(frozen=True, slots=True)
class Shrink:
    """A smaller capacity that we asked for when we had paid for growths below number `growths`.

    `from_period` is None until we know that the node plans it.
    """

    shrink_id: int
    capacity_bytes: int
    growths: int
    from_period: int | None


@dataclass(frozen=True, slots=True)
class Rented:
    """A capacity, and another one from a period on, if a shrink was the last thing."""

    capacity_bytes: int
    shrink_to_bytes: int | None = None
    shrink_period: int | None = None

    def in_period(self, period: int) -> int:  # RP-R4
        """What the rent of a period is charged on."""
        if self.shrink_to_bytes is None or self.shrink_period is None or period < self.shrink_period:
            return self.capacity_bytes
        return self.shrink_to_bytes

    @property
    def in_the_end(self) -> int:
        """What is rented once a planned shrink has begun."""
        return self.capacity_bytes if self.shrink_to_bytes is None else self.shrink_to_bytes


def rented(growths: Iterable[tuple[int, int]], shrinks: Iterable[Shrink]) -> Rented:
    """What paid growths (number, bytes) and confirmed shrinks come to.

    A growth after a shrink finds it begun: nodes refuse growth while one is planned. So does a shrink for a later
    period; one for the same period or an earlier one takes its place.
    """
    events: list[tuple[tuple[int, int, int], int | Shrink]] = [((index, 1, 0), added) for index, added in growths]
    events += [((one.growths, 0, one.shrink_id), one) for one in shrinks]
    now = Rented(0)
    for _, event in sorted(events, key=lambda pair: pair[0]):
        if isinstance(event, int):
            now = Rented(now.in_the_end + event)
        elif event.from_period is not None:
            now = Rented(now.in_period(event.from_period - 1), event.capacity_bytes, event.from_period)
    return now


def shrinks_at(catalog: Catalog, node_id: NodeId, *, since_at: int) -> list[Shrink]:
    """All that were asked for at this node at `since_at` or later, in order."""
    rows = catalog.rows(
        "SELECT shrink_id, capacity_bytes, growths, from_period FROM shrinks WHERE node_id = ? AND asked_at >= ? "
        "ORDER BY shrink_id",
        (bytes(node_id), since_at),
    )
    return [Shrink(*row) for row in rows]


def ask_shrink(catalog: Catalog, node_id: NodeId, capacity_bytes: int, growths: int, now: int) -> int:  # RP-W6
    """Put on disk what is about to be asked for; its id."""
    with catalog.transaction() as db:
        inserted = db.execute(
            "INSERT INTO shrinks (node_id, capacity_bytes, growths, asked_at) VALUES (?, ?, ?, ?)",
            (bytes(node_id), capacity_bytes, growths, now),
        )
        if inserted.lastrowid is None:
            raise AssertionError("an inserted row has a number")
        return inserted.lastrowid


def confirm_shrink(catalog: Catalog, shrink_id: int, from_period: int) -> None:
    """Put on disk that the node plans it, and from which period on."""
    with catalog.transaction() as db:
        db.execute("UPDATE shrinks SET from_period = ? WHERE shrink_id = ?", (from_period, shrink_id))


def forget_shrink(catalog: Catalog, shrink_id: int) -> None:
    """Take out one that the node does not plan."""
    with catalog.transaction() as db:
        db.execute("DELETE FROM shrinks WHERE shrink_id = ?", (shrink_id,))


def find_out(catalog: Catalog, node_id: NodeId, agreement: Agreement, status: AccountStatusReply) -> None:
    """What became of a shrink whose answer we never got, by what the node says now."""
    asked = [one for one in shrinks_at(catalog, node_id, since_at=agreement.anchor_at) if one.from_period is None]
    for one in asked:
        if status.shrink_to_bytes == one.capacity_bytes and status.shrink_period is not None:
            confirm_shrink(catalog, one.shrink_id, status.shrink_period)
        elif status.shrink_to_bytes is None and status.capacity_bytes == one.capacity_bytes:
            current = period_at(agreement.anchor_at, agreement.terms.terms.period_seconds, status.now_at)
            confirm_shrink(catalog, one.shrink_id, max(current, status.next_period))
        else:
            forget_shrink(catalog, one.shrink_id)
