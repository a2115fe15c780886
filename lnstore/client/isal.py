"""Intel's ISA-L, where the system has it: multiplies shares by a matrix over GF(2^8), many times as fast as zfec.

Its field is zfec's (polynomial 0x11d), so with zfec's matrix it gives zfec's bytes; whoever uses it tries that first.
Found as the system's loader finds it (Debian: libisal2); LNSTORE_ERASURE_CODE=zfec leaves it alone. The global lock is
released while it computes.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from functools import cache

CHOICE_VARIABLE = "LNSTORE_ERASURE_CODE"
_NAMES = ("libisal.so.2", "libisal.2.dylib")
_TABLE_BYTES = 32
"""Of expanded coefficients, for each of the matrix."""


class Matrix:
    """`rows` by `columns` coefficients, ready to be multiplied with. Several threads may use it at once."""

    def __init__(self, library: ctypes.CDLL, coefficients: bytes, *, columns: int) -> None:
        self._library = library
        self._columns = columns
        self._rows = len(coefficients) // columns
        self._tables = ctypes.create_string_buffer(_TABLE_BYTES * len(coefficients))
        library.ec_init_tables(columns, self._rows, coefficients, self._tables)

    def multiply(self, shares: Sequence[memoryview], out: Sequence[memoryview]) -> None:
        """Fill `out`, one for each row, from `shares`, one for each column; all have one size, which is checked."""
        sizes = {len(share) for share in (*shares, *out)}
        if len(sizes) != 1 or (len(shares), len(out)) != (self._columns, self._rows):
            raise ValueError("a matrix is multiplied with one share for each column, into one for each row")
        size = sizes.pop()
        sources, targets = [_bytes_of(share) for share in shares], [_bytes_of(share) for share in out]
        self._library.ec_encode_data(
            size, self._columns, self._rows, self._tables, _addresses(sources), _addresses(targets)
        )


def matrix(coefficients: bytes, *, columns: int) -> Matrix | None:
    """The matrix with these coefficients, row after row; None where there is no ISA-L, or it is not wanted."""
    library = None if os.environ.get(CHOICE_VARIABLE) == "zfec" else _library()
    return None if library is None else Matrix(library, coefficients, columns=columns)


@cache
def _library() -> ctypes.CDLL | None:
    for name in _NAMES:
        try:
            library = ctypes.CDLL(name)
            library.ec_init_tables.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
            library.ec_init_tables.restype = None
            library.ec_encode_data.argtypes = (*(ctypes.c_int,) * 3, *(ctypes.c_void_p,) * 3)
            library.ec_encode_data.restype = None
        except (OSError, AttributeError):
            continue
        return library
    return None


def _bytes_of(view: memoryview) -> ctypes.Array[ctypes.c_char]:
    """The memory of a view, held until the result goes; a copy of what may not be written to."""
    array = ctypes.c_char * len(view)
    return array.from_buffer_copy(view) if view.readonly else array.from_buffer(view)


def _addresses(arrays: Sequence[ctypes.Array[ctypes.c_char]]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*(ctypes.addressof(array) for array in arrays))
