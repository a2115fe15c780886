"""How transfers report on their way."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told from the transfer's own task; must return at once."""

    def start(self, total_bytes: int | None) -> None:
        """The transfer begins; None when its length is not known."""
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
