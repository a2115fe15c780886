"""The steered clock."""

from pathlib import Path

import pytest

from lnstore.clock import SteeredClock, SystemClock, clock_for


def test_steered_clock_is_shared_and_only_moves_forward(tmp_path: Path) -> None:
    """Every process that names the same file sees the same time."""
    ours, theirs = SteeredClock(tmp_path / "clock"), SteeredClock(tmp_path / "clock")
    assert ours.offset_seconds() == 0
    ours.advance(100)
    ours.advance(5)
    assert theirs.offset_seconds() == 105
    assert theirs.now() >= SystemClock().now() + 104
    with pytest.raises(ValueError, match="forward"):
        ours.advance(-1)


def test_no_file_is_the_system_clock(tmp_path: Path) -> None:
    """Outside development networks nothing steers the clock."""
    assert isinstance(clock_for(None), SystemClock)
    assert isinstance(clock_for(tmp_path / "clock"), SteeredClock)
