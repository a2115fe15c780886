"""Any k of n shares give the data back, whole or in part."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import zfec
from hypothesis import given
from hypothesis import strategies as st

from lnstore.client import isal
from lnstore.client.erasure import STRIPE_BYTES, ErasureCode

HAS_ISAL = isal.matrix(b"\1", columns=1) is not None


@pytest.fixture(scope="module", params=["zfec", "ISA-L"], autouse=True)
def _library(request: pytest.FixtureRequest) -> Iterator[None]:
    """All of this with each library that there is."""
    if request.param == "ISA-L" and not HAS_ISAL:
        pytest.skip("this machine has no ISA-L (Debian: libisal2)")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(isal.CHOICE_VARIABLE, request.param)
        yield


def views(count: int, size: int, rng: random.Random | None = None) -> list[memoryview]:
    return [memoryview(bytearray(rng.randbytes(size) if rng else size)) for _ in range(count)]


def coded(needed: int, total: int, size: int, rng: random.Random) -> list[memoryview]:
    data, parity = views(needed, size, rng), views(total - needed, size)
    ErasureCode(needed, total).encode(data, parity)
    return data + parity


@given(code=st.tuples(st.integers(1, 12), st.integers(0, 8)), size=st.integers(1, 200), seed=st.integers(0, 1 << 30))
def test_any_needed_shares_give_every_share_back(code: tuple[int, int], size: int, seed: int) -> None:  # F-R4
    rng = random.Random(seed)
    needed, total = code[0], sum(code)
    shares = coded(needed, total, size, rng)
    kept = {n: shares[n] for n in rng.sample(range(total), needed)}
    wanted = rng.sample(range(total), rng.randint(1, total))
    out = views(len(wanted), size)
    ErasureCode(needed, total).decode(kept, wanted, out)
    assert out == [shares[n] for n in wanted]


@pytest.mark.parametrize("size", [STRIPE_BYTES - 1, STRIPE_BYTES, STRIPE_BYTES + 1])
def test_stripes_leave_no_seam(size: int) -> None:
    shares = coded(2, 4, size, random.Random(size))
    out = views(2, size)
    ErasureCode(2, 4).decode({2: shares[2], 3: shares[3]}, (0, 1), out)
    assert out == shares[:2]


def test_the_same_range_of_each_share_decodes_to_that_range() -> None:
    """Range reads rest on this: the code works byte by byte."""
    shares = coded(3, 5, 1000, random.Random(1))
    out = views(1, 100)
    ErasureCode(3, 5).decode({n: shares[n][300:400] for n in (0, 3, 4)}, (2,), out)
    assert out[0] == shares[2][300:400]


@given(code=st.tuples(st.integers(1, 12), st.integers(1, 20)), size=st.integers(1, 5000))
def test_the_bytes_are_zfecs_whichever_library_made_them(code: tuple[int, int], size: int) -> None:  # F-W6
    needed, total = code[0], sum(code)
    shares = coded(needed, total, size, random.Random(size))
    numbers = tuple(range(needed, total))
    assert shares[needed:] == zfec.Encoder(needed, total).encode(tuple(shares[:needed]), numbers)


def test_a_library_that_codes_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong parity would be found only when somebody needs it."""
    idle = SimpleNamespace(ec_init_tables=lambda *_: None, ec_encode_data=lambda *_: None)
    monkeypatch.setattr(isal, "_library", lambda: idle)
    test_stripes_leave_no_seam(STRIPE_BYTES)


def test_without_the_library_zfec_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    isal._library.cache_clear()
    try:
        assert isal.matrix(b"\1", columns=1) is None
        test_stripes_leave_no_seam(STRIPE_BYTES)
    finally:
        isal._library.cache_clear()


def test_shares_that_may_not_be_written_to_are_coded_too() -> None:
    shares = coded(2, 3, 1000, random.Random(1))
    parity = views(1, 1000)
    ErasureCode(2, 3).encode([memoryview(bytes(share)) for share in shares[:2]], parity)
    assert parity == shares[2:]
    if (identity := isal.matrix(b"\1", columns=1)) is not None:
        with pytest.raises(ValueError, match="one share for each column"):
            identity.multiply(views(2, 4), views(1, 4))


def test_what_is_no_code_or_no_full_set_is_refused() -> None:
    for needed, total in ((0, 1), (3, 2), (1, 257)):
        with pytest.raises(ValueError, match="no erasure code"):
            ErasureCode(needed, total)
    with pytest.raises(ValueError, match="3 are needed"):
        ErasureCode(3, 5).decode({0: views(1, 4)[0]}, (0,), views(1, 4))
    with pytest.raises(ValueError, match="one size"):
        ErasureCode(2, 2).encode([*views(1, 4), *views(1, 5)], [])
    with pytest.raises(ValueError, match="parity shares"):
        ErasureCode(2, 3).encode(views(2, 4), [])
