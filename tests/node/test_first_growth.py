"""The first growth of an account that never paid: a part of what is left, and the rest once that is paid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from money_town import MIB, PERIOD, Life
from test_price_changes import Market

from lnstore.client.wallet import Wallet
from lnstore.client.wallet_entries import PaymentEntry
from lnstore_protocol.messages import InvoicePurpose
from lnstore_protocol.terms import rent_msat

PRICE = 10**9


class Fresh(Market):
    """A town whose client has no account yet, and wants much."""

    def growths(self) -> list[PaymentEntry]:
        """What was paid for capacity, in order."""

        async def read() -> list[PaymentEntry]:
            with self._catalog(Life()) as catalog:
                return [entry for entry in Wallet(catalog).payments() if entry.purpose is InvoicePurpose.CAPACITY]

        return sorted(self.do(read), key=lambda entry: entry.index)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Fresh]:
    town = Fresh(tmp_path)
    try:
        yield town
    finally:
        town.stop()


@pytest.mark.parametrize("dies_at", [None, 20, 26, 32])
def test_more_than_a_newcomer_gets_is_rented_in_two_parts(town: Fresh, dies_at: int | None) -> None:  # MA-W9, MA-R31
    """For the price of one, and never more of it than was wanted, also where the client is killed in between."""
    town.set(capacity='"20MiB"')
    town.capacity_bytes = 12 * MIB
    if dies_at is not None:
        assert town.run("buy", dies_at) == "killed"
    assert town.run("buy") == "done", town.last.said
    first, rest = town.growths()
    assert (first.capacity_bytes, rest.capacity_bytes) == (8 * MIB, 4 * MIB)
    whole = rent_msat(12 * MIB, PERIOD, PRICE)
    assert whole * 99 // 100 < first.amount_msat + rest.amount_msat <= whole + 1
    assert town.run("buy") == "done"
    assert len(town.growths()) == 2
    town.check()


def test_a_first_part_below_the_least_that_is_rented_out_is_no_way(town: Fresh) -> None:
    town.set(capacity='"20MiB"', minimum_account='"10MiB"')
    town.capacity_bytes = 12 * MIB
    assert town.run("buy") == "CapacityUnfit"
    assert "no account there has fewer than 10485760 bytes" in town.last.said
    assert "lnstore rent quote" in town.last.said
    assert town.growths() == []


def test_what_is_refused_for_another_reason_is_not_bought_in_part(town: Fresh) -> None:
    town.set(capacity='"10MiB"')
    town.capacity_bytes = 12 * MIB
    assert town.run("buy") == "NodeRefused"
    assert "not that much capacity left" in town.last.said
    assert town.growths() == []
