"""How transfers report on their way."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told from the transfer's own task; must return at once."""

    def start(self, total_bytes: int | None) -> None:
        """The transfer begins; None when its length is not known.

        A put with `dedupe` begins twice: what it reads to compare comes first.
        """
        ...

    def advance(self, bytes_done: int, shares_done: int) -> None:
        """So many plaintext bytes and shares are done in all."""
        ...


class NoProgress:
    """Nobody watches."""

    def start(self, total_bytes: int | None) -> None:
        """Nothing."""

    def advance(self, bytes_done: int, shares_done: int) -> None:
        """Nothing."""


class ProgressSum:
    """Transfers that follow one another, reported as one."""

    def __init__(self, outer: Progress, total_bytes: int) -> None:
        self._outer = outer
        self._shares = self._before = 0
        self.done_bytes = 0
        outer.start(total_bytes)

    def start(self, total_bytes: int | None) -> None:  # noqa: ARG002 - the sum is known from the beginning
        """One of them begins."""
        self._before = self._shares

    def advance(self, bytes_done: int, shares_done: int) -> None:
        """So much of it is done."""
        self._shares = self._before + shares_done
        self._outer.advance(self.done_bytes + bytes_done, self._shares)

    def add(self, whole_bytes: int) -> None:
        """It is done."""
        self.done_bytes += whole_bytes
        self._outer.advance(self.done_bytes, self._shares)
