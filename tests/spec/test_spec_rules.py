"""Numbers, tables and formulas of the documents, computed again."""

from __future__ import annotations

import random
import re
from functools import reduce
from math import comb

import pytest
import zfec
from spec_documents import documents, prose, tables_with

from lnstore.node.limits import (
    ANCHOR_SKEW_SECONDS,
    GROWTH_EXPIRY_SECONDS,
    GROWTH_FRESH_SECONDS,
    MAXIMUM_DEPOSIT_MSAT,
    MAXIMUM_RENT_ATTEMPTS,
)
from lnstore_protocol import caps, codec, content, merkle, proofs
from lnstore_protocol.connection import ACT_BYTES, MAX_PENDING_REQUESTS, PROLOGUE
from lnstore_protocol.messages import LEAF_BYTES, MAX_SHARE_BYTES, SAMPLE_SHARES, AccountStage, AccountState
from lnstore_protocol.noise import PROTOCOL_NAME
from lnstore_protocol.stages import (
    DUE_FRACTION,
    MAXIMUM_DUE_SECONDS,
    MAXIMUM_WARNING_SECONDS,
    NEXT_STAGE,
    STATES,
    WARNING_FRACTION,
    Due,
)
from lnstore_protocol.terms import rent_msat

GIB = 1 << 30


def test_transport_constants_are_those_of_the_code() -> None:
    text = prose("01")
    acts = [int(row[2]) for row in tables_with("| act | direction | bytes | content |", documents()["01"])[0]]
    assert tuple(acts) == ACT_BYTES
    assert f"`{PROLOGUE.decode()}`" in text
    assert f'"{PROTOCOL_NAME.decode()}"' in text
    assert f"more than {MAX_PENDING_REQUESTS} requests unanswered" in text
    assert f"first {codec.PEEK_BYTES} bytes of the head" in text
    assert f"head shorter than {codec.MIN_HEAD_BYTES} bytes" in text


def test_sizes_in_the_documents_are_those_of_the_code() -> None:
    assert f"1 to {MAX_SHARE_BYTES:,} bytes" in prose("03")
    assert f"leaves of {LEAF_BYTES:,} bytes" in prose("03")
    assert f"the {SAMPLE_SHARES} smallest sample keys" in prose("03")
    assert f"A sector is {proofs.SECTOR_BYTES} bytes" in prose("03")
    assert f"records of {content.RECORD_BYTES:,} bytes" in prose("04")
    assert f"The text has {caps.CAP_CHARACTERS} characters" in prose("04")
    assert f"more than {ANCHOR_SKEW_SECONDS} seconds from its own clock" in prose("02a")
    assert f"at most {GROWTH_EXPIRY_SECONDS:,} seconds, and SHOULD, from {GROWTH_FRESH_SECONDS} seconds" in prose("05")
    assert f"at least for {MAXIMUM_RENT_ATTEMPTS} token indices" in prose("02a")
    assert MAXIMUM_DEPOSIT_MSAT == 10**12
    assert "1 to 10^12" in prose("02a")


def test_account_stages_are_those_of_the_code() -> None:
    header = "| stage | state | owes nothing | paid | soon | overdue | too late |"
    (rows,) = tables_with(header, documents()["05d"])
    assert {AccountStage[row[0]]: AccountState[row[1]] for row in rows} == STATES
    documented = {
        (AccountStage[row[0]], due): AccountStage[cell] for row in rows for due, cell in zip(Due, row[2:], strict=True)
    }
    assert documented == NEXT_STAGE


def test_times_of_the_stages_are_those_of_the_code() -> None:
    assert f"min(floor(period_seconds / {DUE_FRACTION}), {MAXIMUM_DUE_SECONDS})" in prose("05d")
    assert f"min(floor(length / {WARNING_FRACTION}), {MAXIMUM_WARNING_SECONDS})" in prose("05d")


def test_examples_of_the_rent_arithmetic_are_right() -> None:
    assert "20 GiB, 30 days, 2,000 msat per GiB-month are 40,000 msat" in prose("05")
    assert rent_msat(20 * GIB, 2_592_000, 2000) == 40_000
    assert rent_msat(1, 1, 1) == 1
    assert rent_msat(0, 1, 1) == rent_msat(1, 0, 1) == rent_msat(1, 1, 0) == 0
    assert f"{1024 * GIB * 2_592_000 * 2000 / 1e21:.1f}" == "5.7"


# --- the erasure code ------------------------------------------------------------------------------------------------


def _multiply(a: int, b: int) -> int:
    """The product in GF(2^8), straight from the definition."""
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11D << (bit - 8)
    return product


_PRODUCTS = [[_multiply(a, b) for b in range(256)] for a in range(256)]
_INVERSE = [0, *(row.index(1) for row in _PRODUCTS[1:])]
_POINTS = [0, 1]
while len(_POINTS) < 256:
    _POINTS.append(_PRODUCTS[_POINTS[-1]][2])


def _row(i: int, k: int) -> list[int]:
    """Row i of the matrix by the formula of 04."""
    row = []
    for j in range(k):
        factors = (_PRODUCTS[_POINTS[i] ^ _POINTS[m]][_INVERSE[_POINTS[j] ^ _POINTS[m]]] for m in range(k) if m != j)
        row.append(reduce(lambda a, b: _PRODUCTS[a][b], factors, 1))
    return row


def _some_rows(k: int, n: int) -> list[int]:
    """All of a small code; of a large one those at both ends, on both sides of k, and others from all over it."""
    return sorted({0, k - 1, *range(k, min(k + 1, n)), n - 1, *range(0, n, 1 + n // 32)})


@pytest.mark.parametrize(("k", "n"), [(1, 1), (1, 4), (3, 5), (10, 30), (40, 256), (256, 256)])
def test_formula_of_the_erasure_code_gives_the_bytes_of_zfec(k: int, n: int) -> None:
    rng = random.Random(k * 1000 + n)
    primaries = [rng.randbytes(3) for _ in range(k)]
    encoded = zfec.Encoder(k, n).encode(primaries)
    for i in _some_rows(k, n):
        row = _row(i, k)
        expected = bytes(
            reduce(lambda a, b: a ^ b, (_PRODUCTS[row[j]][primaries[j][at]] for j in range(k))) for at in range(3)
        )
        assert bytes(encoded[i]) == expected


def test_example_rows_of_the_erasure_code_are_right() -> None:
    for i in (3, 4):
        (printed,) = re.findall(rf"share {i}:  (0x.*)", documents()["04"])
        assert [int(value, 16) for value in printed.split(", ")] == _row(i, 3)


# --- how likely loss is found ----------------------------------------------------------------------------------------


def _found_by_shares(shares: int, lost: int) -> float:
    return 1 - comb(shares - lost, SAMPLE_SHARES) / comb(shares, SAMPLE_SHARES)


def _found_by_sectors(fraction: float, sampled: int) -> float:
    return 1 - float((1 - fraction) ** (proofs.POSITIONS * sampled))


_TIB = 1 << 18
_CASES: list[tuple[str, str, float]] = [
    ("1 share", "5,120 shares (20 GiB)", _found_by_shares(5120, 1)),
    ("5 shares (0.1 %)", "20 GiB", _found_by_shares(5120, 5)),
    ("51 shares (1 %)", "20 GiB", _found_by_shares(5120, 51)),
    ("1 share", "262,144 shares (1 TiB)", _found_by_shares(_TIB, 1)),
    ("0.1 % of the shares", "100,000 shares or more", _found_by_shares(_TIB, _TIB // 1000)),
    ("1 % of the shares", "100,000 shares or more", _found_by_shares(_TIB, _TIB // 100)),
    ("1 % of all sectors", "10 shares (40 MiB)", _found_by_sectors(0.01, 10)),
    ("0.1 % of all sectors", "10 shares", _found_by_sectors(0.001, 10)),
    ("0.01 % of all sectors", "512 shares or more", _found_by_sectors(0.0001, 512)),
    ("0.1 % of all sectors", "512 shares or more", _found_by_sectors(0.001, 512)),
    ("1 sector of one sampled share", "", _found_by_sectors(1 / 8192, 1)),
    ("5 % of one sampled share", "", _found_by_sectors(0.05, 1)),
    ("half of one sampled share", "", _found_by_sectors(0.5, 1)),
]


def _shows(cell: str, probability: float) -> bool:
    if cell == "> 99.99 %":
        return probability > 0.9999
    digits = cell.removesuffix(" %")
    return f"{probability * 100:.{len(digits.partition('.')[2])}f}" == digits


def test_odds_of_finding_a_loss_are_as_printed() -> None:
    """The measured ones lie within four standard deviations of the computed ones."""
    (rows,) = tables_with("| loss | account | found by one payment | measured | by 12 payments |", documents()["03"])
    printed = {(row[0], row[1]): row[2:] for row in rows}
    for loss, account, once in _CASES:
        one, measured, twelve = printed.pop((loss, account))
        assert _shows(one, once), (loss, account, once)
        assert not twelve or _shows(twelve, 1 - (1 - once) ** 12), (loss, account)
        if measured:
            found, tries = (int(number.replace(",", "")) for number in measured.split(" of "))
            assert abs(found - once * tries) <= 4 * (once * (1 - once) * tries) ** 0.5 + 1, (loss, account)
    assert printed == {("any whole share", "up to 512 shares (2 GiB)"): ["100 %", "2,000 of 2,000", ""]}


def test_longest_range_proof_is_as_printed() -> None:
    """No proof over 256 leaves has more than 14 hashes, and one for a single leaf has 8."""
    hashes = [bytes([i]) * 32 for i in range(256)]
    lengths = [
        len(merkle.range_proof(hashes, first, last)) // 32
        for first in (0, 1, 2, 3, 127, 128, 129)
        for last in range(first, 256)
    ]
    assert max(lengths) == 14
    assert len(merkle.range_proof(hashes, 77, 77)) == 8 * 32
