"""Measurements as they go into the results: every repetition, medians, spread, and what disturbed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.processes import Meter

NOISY_SHARE = 0.05
"""Of the cores' time, taken by others: above it a repetition is called noisy."""


MOVING = {"put", "get", "put folder", "get folder"}
"""Works whose rate in bytes says something."""
UPKEEP = {"verify by download", "repair"}
"""Works that read what is stored, and give nothing to who asks for them."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is done: "put", "get", "first byte" …; `file_bytes` each, `files` of them, `at_once` at the same time.

    `dead` nodes are ended before.
    """

    name: str
    coding: str
    file_bytes: int
    files: int = 1
    at_once: int = 1
    dead: int = 0

    @property
    def total_bytes(self) -> int:
        """Plaintext moved."""
        return self.file_bytes * self.files


@dataclass(slots=True)
class Series:
    """One work by one system, repeated."""

    work: Work
    system: str
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[dict[str, float]] = field(default_factory=list)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    others: list[float] = field(default_factory=list)
    stolen: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    compared_equal: bool | None = None
    """Whether every file that was read back was the one that was stored; None where nothing is read back."""

    def add(self, seconds: float, meter: Meter) -> None:
        """Another repetition; `seconds` as the user sees it."""
        self.seconds.append(seconds)
        self.cpu_seconds.append(meter.cpu)
        self.peak_bytes = {role: max(peak, self.peak_bytes.get(role, 0)) for role, peak in meter.peak.items()}
        self.others.append(meter.others)
        self.stolen.append(meter.stolen)
        self.load.append(meter.load)

    def row(self) -> dict[str, Any]:
        """The series as JSON."""
        median = statistics.median(self.seconds)
        per_second = self.work.files / median if self.work.files > 1 else None
        moves = self.work.file_bytes > 0 and self.work.name in MOVING
        return {
            **asdict(self.work),
            "system": self.system,
            "seconds": [round(s, 5) for s in self.seconds],
            "seconds_median": round(median, 5),
            "seconds_best": round(min(self.seconds), 5),
            "spread": round(spread(self.seconds), 3),
            "mb_per_s": round(self.work.total_bytes / median / 1e6, 2) if moves else None,
            "files_per_s": None if per_second is None else round(per_second, 2),
            "cpu_seconds": {
                role: round(statistics.median(cpu[role] for cpu in self.cpu_seconds), 4)
                for role in (self.cpu_seconds[0] if self.cpu_seconds else {})
            },
            "peak_bytes": self.peak_bytes,
            "others_share": [round(o, 3) for o in self.others],
            "stolen_share": [round(s, 3) for s in self.stolen],
            "load_average": [round(load, 2) for load in self.load],
            "noisy": any(share > NOISY_SHARE for share in (*self.others, *self.stolen)),
            "compared_equal": self.compared_equal,
        }


def spread(values: Sequence[float]) -> float:
    """Slowest less fastest, as a share of the median."""
    return (max(values) - min(values)) / statistics.median(values) if len(values) > 1 else 0.0
