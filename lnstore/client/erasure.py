"""Erasure coding of segments: any k of n shares give the k data shares back.

Systematic Reed-Solomon over GF(2^8) with zfec's Vandermonde matrix (Rizzo, "Effective Erasure Codes for Reliable
Computer Communication Protocols", 1997): shares 0 … k-1 are the data itself, only n-k parity shares are computed. Where
there is ISA-L it multiplies with that matrix (isal.py), after it gave zfec's bytes for a small example. zfec works in
stripes, since it returns new bytes: small ones are reused by the allocator, whole shares would be fresh pages.
Blocking; for worker threads, the global lock is released while either computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import zfec

from lnstore.client import isal

STRIPE_BYTES = 256 * 1024
MAX_TOTAL = 256
_EXAMPLE_BYTES = 301
"""Per share, of what ISA-L must code as zfec does: longer than any of its steps, and no multiple of one."""


class ErasureCode:
    """The code for one (k, n). Stateless after construction, so several threads may use it."""

    def __init__(self, needed: int, total: int) -> None:
        if not 1 <= needed <= total <= MAX_TOTAL:
            raise ValueError(f"{needed} of {total} is no erasure code (1 ≤ k ≤ n ≤ {MAX_TOTAL})")
        self.needed = needed
        self.total = total
        self._parity_numbers = tuple(range(needed, total))
        self._encoder = zfec.Encoder(needed, total)
        self._decoder = zfec.Decoder(needed, total)
        self._parity = self._parity_matrix()

    @property
    def library(self) -> str:
        """What computes: ISA-L or zfec."""
        return "zfec" if self._parity is None else "ISA-L"

    def encode(self, data: Sequence[memoryview], parity: Sequence[memoryview]) -> None:
        """Fill the n-k `parity` shares from the k `data` shares, all of the same size; ValueError otherwise."""
        size = _common_size([*data, *parity])
        if len(data) != self.needed or len(parity) != self.total - self.needed:
            raise ValueError(f"{self.needed} data and {self.total - self.needed} parity shares are needed")
        if not parity:
            return
        if self._parity is not None:
            self._parity.multiply(data, parity)
            return
        for at in range(0, size, STRIPE_BYTES):
            end = min(at + STRIPE_BYTES, size)
            blocks = self._encoder.encode(tuple(d[at:end] for d in data), self._parity_numbers)
            for share, block in zip(parity, blocks, strict=True):
                share[at:end] = block

    # F-R4
    def decode(self, shares: Mapping[int, memoryview], wanted: Sequence[int], out: Sequence[memoryview]) -> None:
        """Fill `out` with the shares of the numbers `wanted`, from any k shares by number.

        All have the same size, maybe only a range of each share, the same of all. ValueError for too few of them.
        """
        if len(shares) < self.needed:
            raise ValueError(f"{len(shares)} shares, {self.needed} are needed")
        # Data shares first: the more of them, the less there is to compute.
        numbers = tuple(sorted(shares)[: self.needed])
        size = _common_size([*(shares[n] for n in numbers), *out])
        if self._parity is not None and self._multiply_back(shares, numbers, wanted, out):
            return
        for at in range(0, size, STRIPE_BYTES):
            end = min(at + STRIPE_BYTES, size)
            blocks = self._decoder.decode(tuple(shares[n][at:end] for n in numbers), numbers)
            for share, block in zip(out, self._encoder.encode(tuple(blocks), tuple(wanted)), strict=True):
                share[at:end] = block

    def _multiply_back(
        self,
        shares: Mapping[int, memoryview],
        numbers: tuple[int, ...],
        wanted: Sequence[int],
        out: Sequence[memoryview],
    ) -> bool:
        """`decode` with ISA-L; whether there is any. What zfec makes of unit vectors is the matrix to multiply with."""
        rows = self._encoder.encode(tuple(self._decoder.decode(_unit_vectors(self.needed), numbers)), tuple(wanted))
        back = isal.matrix(b"".join(rows), columns=self.needed)
        if back is not None and wanted:
            back.multiply([shares[n] for n in numbers], out)
        return back is not None

    def _parity_matrix(self) -> isal.Matrix | None:
        """For ISA-L: the rows of the parity shares; None without ISA-L, or when it does not do as zfec does."""
        if not self._parity_numbers:
            return None
        rows = self._encoder.encode(_unit_vectors(self.needed), self._parity_numbers)
        parity = isal.matrix(b"".join(rows), columns=self.needed)
        if parity is None:
            return None
        data = [memoryview(bytes((7 * i + 31 * j) % 251 for j in range(_EXAMPLE_BYTES))) for i in range(self.needed)]
        tried = [memoryview(bytearray(_EXAMPLE_BYTES)) for _ in rows]
        parity.multiply(data, tried)
        return parity if tried == self._encoder.encode(tuple(data), self._parity_numbers) else None


def _unit_vectors(count: int) -> tuple[bytes, ...]:
    return tuple(bytes(i == j for j in range(count)) for i in range(count))


def _common_size(shares: Sequence[memoryview]) -> int:
    sizes = {len(share) for share in shares}
    if len(sizes) != 1:
        raise ValueError("the shares of a segment have one size")
    return sizes.pop()
