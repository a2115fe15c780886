"""What nodes asked for, from one change to the next, and what their rises say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lnstore.client.catalog import Catalog
from lnstore_protocol.ids import Msat, NodeId
from lnstore_protocol.terms import Terms

MOST_POINTS = 20
"""A rise takes no more than this: it was announced, and nobody had to agree to it."""

PERCENT_PER_POINT = 5


@dataclass(frozen=True, slots=True)
class PriceSeen:
    """The prices that a node asked for from the time on that they were seen first."""

    seen_at: int
    rent_msat_per_gib_month: Msat
    egress_msat_per_gib: Msat
    ingress_msat_per_gib: Msat


@dataclass(frozen=True, slots=True)
class Rise:
    """A rise of the rent by so many percent, and the points that it takes at first."""

    at: int
    percent: int
    points: int


def rises(prices: Sequence[PriceSeen]) -> list[Rise]:
    """The rises of rent among prices in their order; from nothing to something counts as much as any."""
    found = []
    for before, after in pairwise(prices):
        old, new = before.rent_msat_per_gib_month, after.rent_msat_per_gib_month
        if new > old:
            percent = 100 * (new - old) // old if old else 100 * PERCENT_PER_POINT
            found.append(Rise(after.seen_at, percent, min(MOST_POINTS, percent // PERCENT_PER_POINT)))
    return found


def note_prices(catalog: Catalog, node_id: NodeId, terms: Terms, now: int) -> None:
    """Remember what a node asks for, if it is not what it asked for last. Waits for the disk then."""
    asked = (terms.price_msat_per_gib_month, terms.egress_msat_per_gib, terms.ingress_msat_per_gib)
    known = prices_seen(catalog, node_id)
    if known:
        last = known[-1]
        if asked == (last.rent_msat_per_gib_month, last.egress_msat_per_gib, last.ingress_msat_per_gib):
            return
    with catalog.transaction() as db:
        db.execute(
            "INSERT INTO node_prices (node_id, seen_at, rent_msat_per_gib_month, egress_msat_per_gib, "
            "ingress_msat_per_gib) VALUES (?, ?, ?, ?, ?)",
            (bytes(node_id), now, *asked),
        )


def prices_seen(catalog: Catalog, node_id: NodeId) -> list[PriceSeen]:
    """All of a node's, oldest first."""
    rows = catalog.rows(
        "SELECT seen_at, rent_msat_per_gib_month, egress_msat_per_gib, ingress_msat_per_gib FROM node_prices "
        "WHERE node_id = ? ORDER BY price_id",
        (bytes(node_id),),
    )
    return [PriceSeen(at, Msat(rent), Msat(egress), Msat(ingress)) for at, rent, egress, ingress in rows]
