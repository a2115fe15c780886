"""Sizes in bytes as people read them."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def human_bytes(count: int) -> str:
    """`1.5 GiB`."""
    unit = min((max(count, 1).bit_length() - 1) // 10, len(_UNITS) - 1)
    return f"{count} B" if unit == 0 else f"{count / (1 << 10 * unit):.1f} {_UNITS[unit]}"
