"""Having the disk begin before it must be waited for."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

_SYNC_FILE_RANGE_WRITE = 2


def begin_writing(fd: int, offset: int, count: int) -> None:
    """Start writing these bytes of a file to the disk, so that the sync in the end finds most of it done.

    Only a hint: it promises nothing, waits for next to nothing, and where the system has no such call nothing happens.
    """
    call = _sync_file_range()
    if call is not None:
        call(fd, offset, count, _SYNC_FILE_RANGE_WRITE)


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    try:
        call = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    call.restype = ctypes.c_int
    return call
