"""How large a channel must be for so many periods of rent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnstore.lightning.simulated.channels import reserve_sat, spike_fee_sat
from lnstore.lightning.supply import channel_size_sat


@given(st.integers(0, 10**12), st.integers(0, 120), st.integers(0, 10**8))
def test_the_rent_is_spendable(rent_msat: int, periods: int, minimum_sat: int) -> None:
    """What the size leaves after reserve and commitment fee covers all periods, with little to spare."""
    size = channel_size_sat(rent_msat, periods, minimum_sat)
    assert size >= minimum_sat
    spendable_msat = (size - reserve_sat(size) - spike_fee_sat(2)) * 1000
    assert spendable_msat >= rent_msat * periods
    if size > minimum_sat:
        assert spendable_msat <= rent_msat * periods + 20_000_000


def test_known_sizes() -> None:
    """40 sat a month for a year needs little; the minimum decides."""
    assert channel_size_sat(40_000, 12, 0) == 16_647
    assert channel_size_sat(40_000, 12, 100_000) == 100_000
    assert channel_size_sat(10_000_000, 12, 0) == 137_374


@pytest.mark.parametrize("arguments", [(-1, 1, 1), (1, -1, 1), (1, 1, -1)])
def test_nonsense(arguments: tuple[int, int, int]) -> None:
    """Negative arguments are refused."""
    with pytest.raises(ValueError, match="cannot be negative"):
        channel_size_sat(*arguments)


def test_the_recorded_figures() -> None:
    """1,000,000 and 500,000 sat leave what real Core Lightning was seen to leave, to the sat."""
    assert 1_000_000 - reserve_sat(1_000_000) - spike_fee_sat(2) == 985_709
    assert reserve_sat(1000) == 546
