"""How the process asks the system for memory."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

LARGEST_REUSED_BYTES = 32 * 1024 * 1024
"""glibc's own upper bound for M_MMAP_THRESHOLD."""

KEPT_FREE_BYTES = 16 * 1024 * 1024
GROWTH_BYTES = 1024 * 1024
ARENAS = 2


def reuse_freed_memory() -> bool:
    """Have large freed buffers used again instead of given back to the system at once; whether that was possible.

    A fresh page costs 2.5 to 3.5 µs, more than the ciphers take for its 4 KiB, and glibc by default maps every large
    buffer afresh. Where the C library is another one, nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {
        _M_MMAP_THRESHOLD: LARGEST_REUSED_BYTES,
        _M_TRIM_THRESHOLD: KEPT_FREE_BYTES,
        _M_TOP_PAD: GROWTH_BYTES,
        _M_ARENA_MAX: ARENAS,
    }
    taken = [mallopt(name, value) == 1 for name, value in settings.items()]
    return all(taken)


def give_back_memory() -> None:
    """Give freed memory back to the system after all: for a process that has nothing to do for a while."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
