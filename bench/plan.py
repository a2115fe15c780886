"""What a run measures: parts, sizes, repetitions; the full run, the quick one, and what arguments make of them."""

from __future__ import annotations

from dataclasses import dataclass

from bench.system import Coding

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SMALL_FILE_BYTES = 10 * KIB
AT_ONCE = (1, 8)
"""Small files one by one, and so many at the same time."""

PARTS = ("transfers", "first-byte", "small", "folder", "commands", "rent", "upkeep", "dead", "crowd")
"""What can be measured, in this order; killing nodes comes last but for what has nodes of its own."""

SLOW_PARTS = frozenset({"folder", "crowd"})
"""Minutes each, whatever the sizes: left out of the quick run unless they are asked for."""

_REPETITIONS = {SMALL_FILE_BYTES: 3, MIB: 15, 100 * MIB: 5, GIB: 3, 5 * GIB: 1}
_UNIT_BYTES = {"KiB": KIB, "MiB": MIB, "GiB": GIB}


@dataclass(frozen=True, slots=True)
class Plan:
    """A run. `repetitions` 0: as many as suit each size."""

    codings: tuple[Coding, ...] = (Coding(3, 5), Coding(3, 10))
    sizes: tuple[int, ...] = (MIB, 100 * MIB, GIB, 5 * GIB)
    small_files: int = 200
    folder_files: int = 10_000
    repetitions: int = 0
    first_byte_size: int = GIB
    dead_size: int = 100 * MIB
    parts: tuple[str, ...] = PARTS
    command_repetitions: int = 7

    def repetitions_of(self, size: int) -> int:
        """How often a transfer of this size is measured."""
        known = [count for bound, count in sorted(_REPETITIONS.items()) if bound <= size]
        return self.repetitions or (known[-1] if known else _REPETITIONS[SMALL_FILE_BYTES])

    @property
    def largest(self) -> int:
        """The most plaintext stored at once."""
        sizes = [*self.sizes, self.small_files * SMALL_FILE_BYTES]
        sizes += [self.folder_files * SMALL_FILE_BYTES] if "folder" in self.parts else []
        sizes += [self.first_byte_size] if "first-byte" in self.parts else []
        return max([*sizes, self.dead_size] if {"dead", "rent", "upkeep"} & set(self.parts) else sizes)


FULL = Plan()
QUICK = Plan(
    codings=(Coding(3, 5),),
    sizes=(MIB, 100 * MIB),
    repetitions=3,
    first_byte_size=100 * MIB,
    parts=tuple(part for part in PARTS if part not in SLOW_PARTS),
    command_repetitions=3,
)


def parse_size(text: str) -> int:
    """`10KiB`, `1MiB`, `5GiB` as bytes; ValueError."""
    for unit, factor in _UNIT_BYTES.items():
        if text.endswith(unit) and text.removesuffix(unit).isdecimal():
            return int(text.removesuffix(unit)) * factor
    raise ValueError(f"{text!r} is not a size; write for example 10KiB, 1MiB or 5GiB")


def size_text(size: int) -> str:
    """A size as tables show it, in the largest unit that divides it."""
    unit, factor = next(((u, f) for u, f in reversed(_UNIT_BYTES.items()) if size >= f and size % f == 0), ("B", 1))
    return f"{size // factor} {unit}"


def parse_coding(text: str) -> Coding:
    """`3-of-5`; ValueError."""
    needed, _, total = text.partition("-of-")
    if not (needed.isdecimal() and total.isdecimal() and 1 <= int(needed) <= int(total) <= 256):
        raise ValueError(f"{text!r} is no erasure code; write for example 3-of-5")
    return Coding(int(needed), int(total))
