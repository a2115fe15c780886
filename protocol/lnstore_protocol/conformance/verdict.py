"""How a check ends early, and the bytes that show why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SHOWN_BYTES = 160
"""How much of one entry is kept: heads fit, and of a payload its beginning shows what it is."""

KEPT_ENTRIES = 4000
"""How many entries of one check are kept."""


class Failed(Exception):
    """The peer breaks `requirement`; the text says how."""

    def __init__(self, requirement: str, text: str) -> None:
        super().__init__(f"{requirement}: {text}")
        self.requirement = requirement
        self.text = text


class Skipped(Exception):
    """The check does not apply here; the text says why."""


class Unreachable(Exception):
    """There is no peer to check; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Bytes that went over one connection: `way` is ">" to the peer or "<" from it, `what` says what they are.

    Frames are shown as they are inside the records, acts and raw bytes as they are on the wire.
    """

    connection: int
    way: str
    what: str
    length: int
    shown: bytes

    def __str__(self) -> str:
        more = "…" if self.length > len(self.shown) else ""
        return f"{self.way} #{self.connection} {self.what}, {self.length} bytes: {self.shown.hex()}{more}"


class Reached(set[str]):
    """Requirements that were seen to hold, and after how many entries of the trace each was."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.after: dict[str, int] = {}
        self._trace = trace

    def add(self, requirement: str) -> None:
        """This one holds, as the bytes so far show; the first time counts."""
        super().add(requirement)
        self.after.setdefault(requirement, len(self._trace.entries))

    def update(self, *others: Iterable[str]) -> None:
        """All of these hold."""
        for requirement in (r for other in others for r in other):
            self.add(requirement)


class Trace:
    """The entries of one check."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._connections = 0

    def new_connection(self) -> int:
        """A number for a connection."""
        self._connections += 1
        return self._connections

    def add(self, connection: int, way: str, what: str, *parts: bytes | memoryview) -> None:
        """Write down that these bytes, joined, went over the connection."""
        if len(self.entries) >= KEPT_ENTRIES:
            return
        shown = b"".join(bytes(part[:SHOWN_BYTES]) for part in parts)[:SHOWN_BYTES]
        self.entries.append(Entry(connection, way, what, sum(map(len, parts)), shown))
