"""How far a node can be trusted with new shares: a number from 100 to 0, made of what it was found to do.

score = 100 - the sum of its faults' penalties (faults.FAULTS) and price rises (price_history.py), each halved for every
90 days that went by since - a point for each percent of the hours in which it did not answer (contacts.py).

Below 80 a node gets shares only when better ones do not suffice. Below 50 it is suspended: no new share goes there,
what it holds is still proven, paid for and read, and time lifts it. Who is caught deceiving a week or more after it was
suspended is excluded, which only a person lifts. The same finding counts once, however often it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from lnstore.client.catalog import Catalog
from lnstore.client.contacts import NEVER_TRIED, Uptime, uptime
from lnstore.client.faults import DECEIT, FAULTS, Fault
from lnstore.client.money_errors import InvoiceFault, InvoiceRefused, ProofFailed
from lnstore.client.price_history import PriceSeen, prices_seen, rises
from lnstore_protocol.ids import NodeId

FULL = 100
DOUBTFUL_BELOW = 80
SUSPENDED_BELOW = 50
HALF_LIFE_SECONDS = 90 * 86_400
EXCLUSION_SECONDS = 7 * 86_400
"""From suspension on: what is found before that may have the same cause."""


class Happening(Enum):
    """What is remembered of a node."""

    PROOF_PASSED = "proof_passed"
    PROOF_FAILED = "proof_failed"
    AUDIT_PASSED = "audit_passed"
    AUDIT_FAILED = "audit_failed"
    REPAIRED = "repaired"
    READMITTED = "readmitted"


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """One of them. `shares` is how many it was about."""

    at: int
    happening: Happening
    fault: Fault | None
    shares: int


@dataclass(frozen=True, slots=True)
class Part:
    """What one thing takes from the score now, why, and when it was; `at` None: it is about a span of time."""

    points: float
    words: str
    at: int | None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """A node's score now, and why. `excluded_at` is when it was caught while it was suspended."""

    value: int
    events: tuple[NodeEvent, ...]
    parts: tuple[Part, ...] = ()
    uptime: Uptime = NEVER_TRIED
    prices: tuple[PriceSeen, ...] = ()
    excluded_at: int | None = None

    @property
    def excluded(self) -> bool:
        """Whether no new share goes there until a person says otherwise."""
        return self.excluded_at is not None

    @property
    def suspended(self) -> bool:
        """Whether no new share goes there now."""
        return self.excluded or self.value < SUSPENDED_BELOW

    @property
    def doubtful(self) -> bool:
        """Whether others are preferred."""
        return self.suspended or self.value < DOUBTFUL_BELOW

    @property
    def stand(self) -> str:
        """A word for it."""
        if self.excluded:
            return "excluded"
        return "suspended" if self.suspended else "doubtful" if self.doubtful else "trusted"

    def count(self, happening: Happening) -> int:
        """How often that was."""
        return sum(event.happening is happening for event in self.events)

    def last(self, happening: Happening) -> int | None:
        """When that was last."""
        return next((event.at for event in reversed(self.events) if event.happening is happening), None)

    @property
    def sentence(self) -> str:
        """The score in words."""
        if not self.parts:
            return f"score {self.value}: nothing is held against it"
        worst = max(self.parts, key=lambda part: part.points)
        more = f", and {len(self.parts) - 1} more" if len(self.parts) > 1 else ""
        return f"score {self.value}, {_STANDS[self.stand]}: it {worst.words}{more}"


_STANDS = {
    "trusted": "in use",
    "doubtful": "in use where better ones do not suffice",
    "suspended": "suspended: no new share goes there",
    "excluded": "excluded: caught again while it was suspended, and no new share goes there",
}


def score_of(
    events: Iterable[NodeEvent],
    now: int,
    up: Uptime = NEVER_TRIED,
    prices: Sequence[PriceSeen] = (),
) -> Score:
    """The score that these come to: events and prices oldest first, and the uptime."""
    known = tuple(events)
    readmitted = [at for at, event in enumerate(known) if event.happening is Happening.READMITTED]
    counted = known[readmitted[-1] + 1 :] if readmitted else known
    parts = [
        Part(_faded(FAULTS[event.fault].penalty, event.at, now), _words(event), event.at, event.fault)
        for event in counted
        if event.fault is not None
    ]
    parts += [
        Part(_faded(rise.points, rise.at, now), f"raised its rent by {rise.percent} %", rise.at)
        for rise in rises(prices)
        if rise.points
    ]
    if up.penalty:
        parts.append(Part(up.penalty, f"answered in {up.percent} % of {up.hours} hours in which it was asked", None))
    value = max(0, round(FULL - sum(part.points for part in parts)))
    return Score(value, known, tuple(parts), up, tuple(prices), _excluded_at(counted))


def _faded(points: int, at: int, now: int) -> float:
    return float(points * 0.5 ** (max(0, now - at) / HALF_LIFE_SECONDS))


def _words(event: NodeEvent) -> str:
    words = "" if event.fault is None else FAULTS[event.fault].words
    return f"{words} ({event.shares} shares)" if event.shares else words


def _excluded_at(events: Sequence[NodeEvent]) -> int | None:
    """When a node deceived that had been suspended for its faults for a while; None: it did not."""
    suspended_at: int | None = None
    faults: list[NodeEvent] = []
    for event in events:
        if event.fault is None:
            continue
        if _left_of(faults, event.at) >= SUSPENDED_BELOW:
            suspended_at = None
        elif suspended_at is not None and event.at >= suspended_at + EXCLUSION_SECONDS and event.fault in DECEIT:
            return event.at
        faults.append(event)
        if suspended_at is None and _left_of(faults, event.at) < SUSPENDED_BELOW:
            suspended_at = event.at
    return None


def _left_of(faults: Iterable[NodeEvent], now: int) -> float:
    return FULL - sum(_faded(FAULTS[one.fault].penalty, one.at, now) for one in faults if one.fault is not None)


class Scores:
    """The events in the catalog. Short and blocking; those that write wait for the disk."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def note(
        self,
        node_id: NodeId,
        happening: Happening,
        reference: str,
        *,
        now: int,
        fault: Fault | None = None,
        shares: int = 0,
    ) -> None:
        """Remember what happened; `reference` names it, so that the same thing found again is not counted again."""
        with self._catalog.transaction() as db:
            db.execute(
                "INSERT INTO node_events (node_id, at, happening, fault, shares, reference) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                (bytes(node_id), now, happening.value, fault.value if fault else None, shares, reference),
            )

    def events(self, node_id: NodeId) -> list[NodeEvent]:
        """All of a node's, oldest first."""
        return self._events("node_id = ?", node_id)

    def score(self, node_id: NodeId, now: int) -> Score:
        """How it stands."""
        return self._score(node_id, self.events(node_id), now)

    def readmit(self, node_id: NodeId, now: int) -> None:
        """Hold nothing against a node any more that was found up to now."""
        self.note(node_id, Happening.READMITTED, f"readmitted/{now}", now=now)

    def all(self, node_ids: Sequence[NodeId], now: int) -> dict[NodeId, Score]:
        """Of all these; their `events` are only those that bear on it, as every put asks."""
        return {node_id: self._score(node_id, self._events(_BEARING, node_id), now) for node_id in node_ids}

    def _score(self, node_id: NodeId, events: Sequence[NodeEvent], now: int) -> Score:
        up = uptime(self._catalog, node_id, now)
        return score_of(events, now, up, prices_seen(self._catalog, node_id))

    def _events(self, where: str, node_id: NodeId) -> list[NodeEvent]:
        query = f"SELECT at, happening, fault, shares FROM node_events WHERE {where} ORDER BY event_id"  # noqa: S608 -- our own
        return [_event(row) for row in self._catalog.rows(query, (bytes(node_id),))]


_BEARING = f"node_id = ? AND (fault IS NOT NULL OR happening = '{Happening.READMITTED.value}')"


def fault_of(error: Exception) -> Fault | None:
    """What an error says of the node that caused it; None when it is not the node's fault."""
    if isinstance(error, ProofFailed):
        return error.fault
    if isinstance(error, InvoiceRefused):
        return _INVOICE_FAULTS.get(error.fault, Fault.WRONG_INVOICE)
    return None


_INVOICE_FAULTS: dict[InvoiceFault, Fault | None] = {
    InvoiceFault.OVERPRICED: Fault.OVERCHARGED,
    InvoiceFault.AMOUNT_DIFFERS: Fault.OVERCHARGED,
    InvoiceFault.WRONG_CAPACITY: Fault.OVERCHARGED,
    InvoiceFault.WRONG_PAYEE: Fault.WRONG_PAYEE,
    InvoiceFault.EXPIRED: None,
    InvoiceFault.ALREADY_PAID: None,
}


def _event(row: tuple[Any, ...]) -> NodeEvent:
    at, happening, fault, shares = row
    return NodeEvent(at, Happening(happening), None if fault is None else Fault(fault), shares)
