"""Rent pinned to another currency: the arithmetic, the rate command and what it may do wrong, and the terms."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from node_world import TestClock, World

from lnstore.config import ConfigError, NodeConfig
from lnstore.node.directory import init_node
from lnstore.node.fiat import RATE_FILE, FiatRate, jump_percent, parse_rate, rent_price_msat
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.messages import GetTerms


@pytest.mark.parametrize(
    ("per_tib", "per_bitcoin", "msat"),
    [
        ("1.024", "100000", 1000),
        ("1.50", "95000", 1542),
        ("1", "100000000000000", 1),
        ("0.000000001", "1", 1),
        ("0.0005", "48828.125", 1),
        ("0.0015", "97656.25", 2),
    ],
)
def test_the_price_is_the_nearest_msat_and_never_nothing(per_tib: str, per_bitcoin: str, msat: int) -> None:
    """Halves go up."""
    assert rent_price_msat(per_tib, Fraction(per_bitcoin)) == msat


@given(st.decimals("0.01", "1000", places=2), st.integers(1, 10**7))
def test_the_price_is_exact_to_half_a_msat(per_tib: object, per_bitcoin: int) -> None:
    exact = Fraction(str(per_tib)) * 10**11 / (1024 * per_bitcoin)
    assert abs(rent_price_msat(str(per_tib), Fraction(per_bitcoin)) - exact) <= Fraction(1, 2) or exact < 1


@pytest.mark.parametrize(
    "text", ["", "0", "0.0", "-1", "1e5", "95,000", "nan", "95000 EUR", "1.", ".5", "1" * 13, "\u0661"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="decimal number"):
        parse_rate(text)


def test_a_jump_is_measured_against_the_last_rate() -> None:
    assert parse_rate(" 95000.50\n") == "95000.50"
    assert [jump_percent(Fraction(100), Fraction(found)) for found in (100, 120, 80, "120.01")] == [0, 20, 20, 21]


# --- the command ------------------------------------------------------------------------------------------------------


class Source:
    """A rate that is asked from a script."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.clock = TestClock()
        self.script = folder / "rate.py"
        self.folder = folder / "node"
        init_node(
            self.folder,
            fiat_currency="EUR",
            fiat_per_tib_month="1.024",
            fiat_rate_command=[sys.executable, str(self.script)],
            **settings,
        )
        self.open()

    def open(self) -> None:
        """As a node that starts."""
        self.rate = FiatRate(NodeConfig.load(self.folder), self.clock)

    async def after(self, seconds: int, script: str) -> int | None:
        """The price once the command, which does this now, was asked after so long."""
        self.script.write_text(script)
        self.clock.time += seconds
        await self.rate.step()
        return self.rate.price_msat(self.clock.time)


HOUR = 3600


async def test_the_last_rate_holds_until_it_is_too_old_whatever_the_command_does(tmp_path: Path) -> None:
    """It fails, prints something else, too much, or a jump; the rate outlives a restart; then there is none."""
    source = Source(tmp_path)
    assert source.rate.price_msat(source.clock.time) is None
    assert await source.after(0, "print(100000)") == 1000
    assert await source.after(HOUR - 1, "print(110000)") == 1000
    assert await source.after(1, "print(80000)") == 1250
    for wrong in ("raise SystemExit(1)", "print('95000 EUR')", "print('9' * 10000)", "print(8)", "print(10**6)"):
        assert await source.after(HOUR, wrong) == 1250
    source.open()
    assert await source.after(0, "raise SystemExit(1)") == 1250
    assert await source.after(40 * HOUR, "raise SystemExit(1)") == 1250
    assert await source.after(20 * HOUR, "print(8)") is None
    (source.folder / RATE_FILE).unlink()
    source.open()
    assert await source.after(0, "print(50000)") == 2000


async def test_a_rate_file_that_cannot_be_read_is_no_rate(tmp_path: Path) -> None:
    """Nor is one of another currency."""
    source = Source(tmp_path)
    for text in ("{", "[]", json.dumps({"currency": "USD", "fiat_per_bitcoin": "1", "at": 0}), '{"currency": "EUR"}'):
        (source.folder / RATE_FILE).write_text(text)
        source.open()
        assert source.rate.price_msat(source.clock.time) is None
    init_node(tmp_path / "other", fiat_currency="EUR", fiat_per_tib_month="1", fiat_rate_command=["/does/not/exist"])
    missing = FiatRate(NodeConfig.load(tmp_path / "other"), source.clock)
    await missing.step()
    assert missing.price_msat(source.clock.time) is None


# --- settings and terms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"fiat_currency": "EUR"},
        {"fiat_per_bitcoin": "95000"},
        {"fiat_currency": "eur", "fiat_per_tib_month": "1", "fiat_per_bitcoin": "95000"},
        {"fiat_currency": "EUR", "fiat_per_tib_month": "1"},
        {"fiat_currency": "EUR", "fiat_per_tib_month": "1", "fiat_per_bitcoin": "1", "fiat_rate_command": ["x"]},
        {"fiat_currency": "EUR", "fiat_per_tib_month": "0", "fiat_per_bitcoin": "95000"},
        {"fiat_currency": "EUR", "fiat_per_tib_month": "1,5", "fiat_per_bitcoin": "95000"},
        {"price_periods": 0},
    ],
)
def test_half_a_pin_is_refused(tmp_path: Path, settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        init_node(tmp_path / "node", **settings)


async def test_terms_say_what_they_are_pinned_to(tmp_path: Path) -> None:
    """With the price of the rate that the operator set; without any rate there are no terms."""
    pinned = {"fiat_currency": "EUR", "fiat_per_tib_month": "1.024"}
    world = World(tmp_path, **pinned, fiat_per_bitcoin="50000")
    async with world.running() as node, world.client(node) as client:
        terms = (await client.terms()).terms
        assert (terms.fiat_currency, terms.fiat_per_tib_month) == ("EUR", "1.024")
        assert terms.price_msat_per_gib_month == 2000
    (tmp_path / "second").mkdir()
    world = World(tmp_path / "second", **pinned, fiat_rate_command=["/does/not/exist"])
    async with world.running() as node, world.client(node) as client:
        assert await client.refused(GetTerms()) is ErrorCode.PRICE_UNAVAILABLE
