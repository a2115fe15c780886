"""Any k of n shares give the data back, whole or in part."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnstore.client.erasure import STRIPE_BYTES, ErasureCode


def views(count: int, size: int, rng: random.Random | None = None) -> list[memoryview]:
    return [memoryview(bytearray(rng.randbytes(size) if rng else size)) for _ in range(count)]


def coded(needed: int, total: int, size: int, rng: random.Random) -> list[memoryview]:
    data, parity = views(needed, size, rng), views(total - needed, size)
    ErasureCode(needed, total).encode(data, parity)
    return data + parity


@given(code=st.tuples(st.integers(1, 12), st.integers(0, 8)), size=st.integers(1, 200), seed=st.integers(0, 1 << 30))
def test_any_needed_shares_give_every_data_share_back(code: tuple[int, int], size: int, seed: int) -> None:  # F-R4
    rng = random.Random(seed)
    needed, total = code[0], sum(code)
    shares = coded(needed, total, size, rng)
    kept = {n: shares[n] for n in rng.sample(range(total), needed)}
    wanted = rng.sample(range(needed), rng.randint(1, needed))
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
