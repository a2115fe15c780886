"""What lnstore must reach, as multiples of Tahoe-LAFS over Foolscap in the same run, and what it aims at beyond."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.plan import KIB, MIB


@dataclass(frozen=True, slots=True)
class Target:
    """At least so many times the peer's rate; the goal beyond, None where there is no other."""

    at_least: float
    goal: float | None = None


# (work, coding, bytes of a file, files, at once, whether nodes are dead). Uploads: with zfec alone.
_TARGETS: dict[tuple[str, str, int, int, int, bool], Target] = {
    ("put", "3-of-5", 100 * MIB, 1, 1, False): Target(2.5, 5),
    ("get", "3-of-5", 100 * MIB, 1, 1, False): Target(4.5, 8),
    ("get", "3-of-5", 100 * MIB, 1, 1, True): Target(3.5),
    ("put", "3-of-10", 100 * MIB, 1, 1, False): Target(1.8, 6),
    ("put", "3-of-5", MIB, 1, 1, False): Target(3, 5),
    ("get", "3-of-5", MIB, 1, 1, False): Target(3, 5),
    ("verify by download", "3-of-5", 100 * MIB, 1, 1, False): Target(3),
    ("verify by audit", "3-of-5", 100 * MIB, 1, 1, False): Target(30),
    ("repair", "3-of-5", 100 * MIB, 1, 1, False): Target(3),
    **{(work, "3-of-5", 10 * KIB, 200, at_once, False): Target(5, 10) for work in ("put", "get") for at_once in (1, 8)},
}

_WITH_ISAL: dict[str, Target] = {"3-of-5": Target(3.5, 5), "3-of-10": Target(4, 6)}
"""Uploads of 100 MiB where ISA-L computes parity."""

CLIENT_PEAK_BYTES = 150 * MIB
NODE_IDLE_BYTES = 60 * MIB
NODE_CROWDED_BYTES = 300 * MIB
"""With 200 connections that all send."""
SLOWEST_TO_MEDIAN = 0.5
"""So much at the least of what its median gets through must that of these connections which has least."""
START_SECONDS = 2.0
PUT_TIMES_THE_FIRST = 1.2
"""A put at a node with many accounts or leases takes at most so many times what it takes at one with few."""
FOLDER = Target(25, 50)
"""Small files in one put, as multiples of the peer's best rate for files each on its own."""
FIRST_BYTE_SECONDS = 0.050
COMMAND_SECONDS = {"command: help": 0.3, "command: ls": 0.4, "command: put 1 KiB": 0.7}
WITH_SLOW_NODE = {"put": 0.8, "get": 0.9}
"""Of the undisturbed rate, with one of five nodes at 1 MB/s or silent."""

BUSY_SHARE = 0.85
"""Of a link of 100 Mbit/s, 50 ms there and back, 1 % loss, by the bytes of shares."""

SHARE_OF_LIMIT = 0.5
"""Transfers of 100 MiB at 3-of-5 aim at this much of the computed limit."""


def target_of(row: Mapping[str, Any], *, erasure_code: str) -> Target | None:
    """The target for a row of the results, by the library that computed parity."""
    key = (row["name"], row["coding"], row["file_bytes"], row["files"], row["at_once"], row["dead"] > 0)
    if erasure_code == "ISA-L" and row["name"] == "put" and row["file_bytes"] == 100 * MIB:
        return _WITH_ISAL.get(row["coding"])
    return _TARGETS.get(key)
