"""The time port."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall-clock time, the only source of `now` outside tests."""

    def now(self) -> int:
        """Seconds since the Unix epoch."""
        ...
