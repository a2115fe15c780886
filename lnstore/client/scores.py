"""How far a node can be trusted with new shares: a number from 100 to 0, made of what it was found to do.

score = 100 - the sum of its faults' penalties (faults.FAULTS), each halved for every 90 days that went by since. A node
below 50 is suspended: no new share goes there, what it holds is still proven, paid for and read. Below 80 it gets
shares only when better ones do not suffice. The same finding counts once, however often it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from lnstore.client.catalog import Catalog
from lnstore.client.faults import FAULTS, Fault
from lnstore.client.money_errors import InvoiceFault, InvoiceRefused, ProofFailed
from lnstore_protocol.ids import NodeId

FULL = 100
DOUBTFUL_BELOW = 80
SUSPENDED_BELOW = 50
HALF_LIFE_SECONDS = 90 * 86_400


class Happening(Enum):
    """What is remembered of a node."""

    PROOF_PASSED = "proof_passed"
    PROOF_FAILED = "proof_failed"
    AUDIT_PASSED = "audit_passed"
    AUDIT_FAILED = "audit_failed"
    REPAIRED = "repaired"


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """One of them. `shares` is how many it was about."""

    at: int
    happening: Happening
    fault: Fault | None
    shares: int


@dataclass(frozen=True, slots=True)
class Score:
    """A node's score now, and why."""

    value: int
    events: tuple[NodeEvent, ...]

    @property
    def suspended(self) -> bool:
        """Whether no new share goes there."""
        return self.value < SUSPENDED_BELOW

    @property
    def doubtful(self) -> bool:
        """Whether others are preferred."""
        return self.value < DOUBTFUL_BELOW

    def count(self, happening: Happening) -> int:
        """How often that was."""
        return sum(event.happening is happening for event in self.events)

    @property
    def sentence(self) -> str:
        """The score in words."""
        faults = [event for event in self.events if event.fault is not None]
        if not faults:
            return f"score {self.value}: nothing is held against it"
        latest = faults[-1]
        words = FAULTS[latest.fault].words if latest.fault else ""
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        stand = "suspended: no new share goes there" if self.suspended else "in use"
        return f"score {self.value}, {stand}: it {words}{more}"


def score_of(events: Iterable[NodeEvent], now: int) -> Score:
    """The score that these events, oldest first, come to."""
    known = tuple(events)
    lost = sum(
        FAULTS[event.fault].penalty * 0.5 ** (max(0, now - event.at) / HALF_LIFE_SECONDS)
        for event in known
        if event.fault is not None
    )
    return Score(max(0, round(FULL - lost)), known)


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
        return [
            _event(row)
            for row in self._catalog.rows(
                "SELECT at, happening, fault, shares FROM node_events WHERE node_id = ? ORDER BY event_id",
                (bytes(node_id),),
            )
        ]

    def score(self, node_id: NodeId, now: int) -> Score:
        """How it stands."""
        return score_of(self.events(node_id), now)

    def all(self, node_ids: Sequence[NodeId], now: int) -> dict[NodeId, Score]:
        """Of all these."""
        return {node_id: self.score(node_id, now) for node_id in node_ids}


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
