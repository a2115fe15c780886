"""The rate at which one proof finds a loss is what spec/03 computes; the full measurement is bench/detection.py."""

from __future__ import annotations

import math

import pytest

from bench.detection import (
    SECTORS,
    Detects,
    ids_of,
    interval,
    measure,
    misses_sectors,
    misses_shares,
    sectors_of,
    whole_shares,
)

SEEDS = 100


@pytest.mark.parametrize(
    ("detects", "computed"),
    [
        pytest.param(whole_shares(ids_of(600), 1), 1 - misses_shares(600, 1), id="1 share of 600"),
        pytest.param(whole_shares(ids_of(1024), 3), 1 - misses_shares(1024, 3), id="3 shares of 1,024"),
        pytest.param(sectors_of(ids_of(10), 0.01), 1 - misses_sectors(10, 0.01), id="1 % of the sectors of 10 shares"),
        pytest.param(sectors_of(ids_of(1), 0.05), 1 - misses_sectors(1, 0.05), id="5 % of one share"),
    ],
)
def test_losses_are_found_as_often_as_computed(detects: Detects, computed: float) -> None:
    """Fixed seeds: within five standard deviations, or something about sample or positions is not uniform."""
    rate = measure("", "", detects, computed, SEEDS)
    assert abs(rate.measured - computed) <= 5 * math.sqrt(computed * (1 - computed) / SEEDS)


def test_every_lost_share_of_a_small_account_is_found() -> None:
    assert measure("", "", whole_shares(ids_of(512), 1), 1.0, 20).found == 20
    assert misses_shares(512, 1) == 0


def test_the_formulas_at_their_ends() -> None:
    assert misses_sectors(1, 1.0) == 0
    assert misses_sectors(1, 1 / SECTORS) == pytest.approx(1 - 32 / SECTORS, abs=1e-5)
    assert interval(0, 100)[0] == 0
    assert interval(100, 100)[1] == 1
