"""When nodes answered and when they did not, by the hour: what their uptime is computed from.

However often a node is tried within an hour, the hour counts once. Where nobody at all was reached our own network may
be what failed, and nothing is held against anybody.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from lnstore.client.catalog import Catalog, CatalogError
from lnstore.ports import Clock
from lnstore_protocol.ids import NodeId

HOUR_SECONDS = 3600
WINDOW_SECONDS = 30 * 86_400
"""So far back uptime looks; what is older is deleted."""

LEAST_HOURS = 8
"""With fewer hours in which it was tried a node is not judged by its uptime."""


@dataclass(frozen=True, slots=True)
class Uptime:
    """In how many hours of the window a node was tried, and in what part of each, summed up, it answered."""

    hours: int = 0
    answered_hours: float = 0.0

    @property
    def percent(self) -> int | None:
        """The part of them in which it answered; None where it was never tried."""
        return None if not self.hours else round(100 * self.answered_hours / self.hours)

    @property
    def penalty(self) -> float:
        """A point for each percent of the hours in which it did not answer."""
        return 0.0 if self.hours < LEAST_HOURS else 100 * (1 - self.answered_hours / self.hours)


NEVER_TRIED = Uptime()


class Contacts:
    """What a client's connections find out, written to the catalog once an hour and at the end."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock
        self._hour_at = 0
        self._answers: dict[NodeId, bool] = {}

    def note(self, node_id: NodeId, *, answered: bool) -> None:
        """A node was reached, or was not; the last time counts."""
        hour_at = self._clock.now() // HOUR_SECONDS * HOUR_SECONDS
        if hour_at != self._hour_at:
            self.flush()
            self._hour_at = hour_at
        self._answers[node_id] = answered

    def flush(self) -> None:
        """Write down what was noted. Waits for the disk; a catalog that cannot be written loses it."""
        noted, self._answers = self._answers, {}
        if any(noted.values()):
            with suppress(CatalogError):
                self._write(noted)

    def _write(self, noted: dict[NodeId, bool]) -> None:
        with self._catalog.transaction() as db:
            db.execute("DELETE FROM node_contacts WHERE hour_at < ?", (self._hour_at - WINDOW_SECONDS,))
            db.executemany(
                "INSERT INTO node_contacts (node_id, hour_at, answered, failed) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET answered = answered + excluded.answered, failed = failed + excluded.failed",
                [(bytes(node_id), self._hour_at, answered, not answered) for node_id, answered in noted.items()],
            )


def uptime(catalog: Catalog, node_id: NodeId, now: int) -> Uptime:
    """A node's uptime in the window that ends now."""
    ((hours, answered),) = catalog.rows(
        "SELECT count(*), coalesce(sum(1.0 * answered / (answered + failed)), 0.0) FROM node_contacts "
        "WHERE node_id = ? AND hour_at > ?",
        (bytes(node_id), now - WINDOW_SECONDS),
    )
    return Uptime(hours, answered)
