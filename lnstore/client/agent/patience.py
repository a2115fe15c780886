"""How long a job may fail, by what it fails with, before a person is told."""

from __future__ import annotations

from lnstore.client.money_errors import NotCredited, PaymentFailed, PaymentOpen
from lnstore.client.node_errors import NodeError, NodeRefused
from lnstore.errors import LnstoreError
from lnstore.ports import LightningError

_HOUR = 3600
_PATIENCE: tuple[tuple[type[LnstoreError], int], ...] = (
    (NodeRefused, _HOUR),
    (NodeError, 24 * _HOUR),
    (LightningError, _HOUR),
    (PaymentOpen, 6 * _HOUR),
    (NotCredited, 6 * _HOUR),
    (PaymentFailed, 6 * _HOUR),
)
"""The first that fits; anything else is told at once."""


def patience_seconds(error: LnstoreError) -> int:
    """How long to go on trying in silence. An account that nears its end is told of whatever this says."""
    return next((seconds for kind, seconds in _PATIENCE if isinstance(error, kind)), 0)


def is_unanswered(error: LnstoreError) -> bool:
    """Whether a node did not answer at all."""
    return isinstance(error, NodeError) and not isinstance(error, NodeRefused)
