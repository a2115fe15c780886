"""How long shares take, and from when on one is slow."""

from __future__ import annotations

SLOW_FACTOR = 4.0
"""So many times what shares took lately is slow."""

_NEWEST_WEIGHT = 0.2


class Pace:
    """What the shares of one transfer took lately, whichever node they went to or came from."""

    def __init__(self, *, first_seconds: float, least_seconds: float, most_seconds: float) -> None:
        self.usual_seconds: float | None = None
        self._first_seconds = first_seconds
        self._bounds = least_seconds, most_seconds

    def note(self, seconds: float) -> None:
        """A share took so long."""
        usual = self.usual_seconds
        self.usual_seconds = seconds if usual is None else usual + _NEWEST_WEIGHT * (seconds - usual)

    @property
    def slow_seconds(self) -> float:
        """A share that takes longer is slow."""
        least, most = self._bounds
        slow = self._first_seconds if self.usual_seconds is None else self.usual_seconds * SLOW_FACTOR
        return min(max(slow, least), most)
