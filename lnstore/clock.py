"""The two clocks: the system's, and one that a development network steers."""

from __future__ import annotations

import time
from pathlib import Path

from lnstore.ports import Clock


class SystemClock:
    """The system's wall clock."""

    def now(self) -> int:
        """Seconds since the Unix epoch."""
        return int(time.time())


class SteeredClock:
    """The system's clock plus the seconds written in a file: how a development network lets a month pass at once.

    Every process of the network names the same file; a missing file is an offset of 0.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def now(self) -> int:
        """Seconds since the Unix epoch, as steered."""
        return int(time.time()) + self.offset_seconds()

    def offset_seconds(self) -> int:
        """How far ahead this clock is."""
        try:
            return int(self._path.read_text())
        except FileNotFoundError:
            return 0

    def advance(self, seconds: int) -> None:
        """Move the clock ahead for everybody; ValueError for a step back."""
        if seconds < 0:
            raise ValueError("a clock only moves forward")
        temporary = self._path.with_suffix(".new")
        temporary.write_text(str(self.offset_seconds() + seconds))
        temporary.replace(self._path)


def clock_for(path: Path | None) -> Clock:
    """The clock steered by `path`, or the system's."""
    return SystemClock() if path is None else SteeredClock(path)
