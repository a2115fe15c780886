"""What the suite asks of a system it measures; lnstore and each peer are one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.processes import Roles


class BenchError(Exception):
    """The measuring cannot go on; the text says why."""


@dataclass(frozen=True, slots=True)
class Coding:
    """Any `needed` of `total` shares, one per node."""

    needed: int
    total: int

    def __str__(self) -> str:
        return f"{self.needed}-of-{self.total}"


@dataclass(frozen=True, slots=True)
class Stored:
    """A transfer: how long it took as its user sees it, and for each file what reads it back."""

    seconds: float
    keys: tuple[str, ...]


class System(Protocol):
    """A storage network on this machine with one client whose connections are open. Files go from and to the disk."""

    @property
    def name(self) -> str:
        """As tables show it."""
        ...

    def roles(self) -> Roles:
        """Its processes, "client" and "nodes" among them."""
        ...

    async def put(self, files: Sequence[Path], *, at_once: int) -> Stored:
        """Store every file on its own, `at_once` of them at the same time."""
        ...

    async def get(self, keys: Sequence[str], files: Sequence[Path], *, at_once: int) -> float:
        """Read back into these files; seconds."""
        ...

    async def first_byte(self, key: str) -> float:
        """Seconds from asking for a whole file to its first byte; the rest is not waited for."""
        ...

    async def verify(self, key: str) -> float:
        """Read every byte of every share at its node, and check it; seconds. BenchError when anything is lost."""
        ...

    async def lose(self, key: str, number: int) -> None:
        """Delete the share with this number of a file, or with the next there is, from its node's disk."""
        ...

    async def repair(self, key: str) -> float:
        """Find out what is lost, without reading all, and store it again; seconds. BenchError when that fails."""
        ...

    async def forget(self, keys: Sequence[str]) -> None:
        """Free the room these files take at the nodes."""
        ...

    async def kill_nodes(self, count: int) -> None:
        """End so many nodes at once, for good."""
        ...

    def commands(self, small_file: Path) -> dict[str, list[str]]:
        """Whole commands to be timed from start to end, by a short name; `small_file` is stored by one of them."""
        ...
