"""Accounts that cost nothing for a while and then something: due, grace and what comes back, as both sides see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from money_town import GRACE, MIB, PERIOD
from test_receipts_over_years import Archive

from lnstore.client.ending import leave, plan_leave
from lnstore.client.purse import Purse
from lnstore_protocol.messages import AccountStage, AccountState
from lnstore_protocol.stages import due_seconds
from lnstore_protocol.terms import period_start, refund_msat, rent_msat

SOME = 1000
"""Seconds: more than a test takes on a busy machine, and little of any stage."""

RENT = rent_msat(8 * MIB, PERIOD, 10**9)


class Changing(Archive):
    """A town whose node takes something, or nothing, as the test goes on."""

    def until(self, period: int, before: int = 0) -> None:
        """Go on to so long before the start of that period of the account."""
        status = self.look().status
        assert status is not None
        self.advance(period_start(status.anchor_at, PERIOD, period) - before - self.clock.now())

    def stands(self) -> tuple[AccountState, AccountStage, int | None, bool]:
        """State by the node, stage and what comes when by client and node alike, and whether there is a warning."""
        self.bill()
        seen = self.look()
        assert seen.status is not None
        assert seen.outlook is not None
        coming = seen.outlook.coming
        assert (coming.stage if coming else None, coming.at if coming else None) == (
            seen.status.next_stage,
            seen.status.next_stage_at,
        )
        return seen.status.state, seen.outlook.stage, coming.at if coming else None, bool(seen.warning)

    async def _leave(self, purse: Purse) -> None:
        node = purse.catalog.node(self.address.node_id)
        self.planned = await plan_leave(purse, node)
        self.left = await leave(purse, node)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Changing]:
    town = Changing(tmp_path)
    try:
        yield town
    finally:
        town.stop()


@pytest.mark.parametrize("signed", [True, False])
def test_before_a_price_rises_from_nothing_rent_is_due_as_before_any_other_period(  # RP-W1, RP-R1
    town: Changing, *, signed: bool
) -> None:
    """Nothing at all while nothing is agreed to come; then due in its time, grace, and nobody swept before its end."""
    town.set(price_msat_per_gib_month=0, price_periods=2)
    assert town.run("buy") == "done"
    assert town.run("put") == "done"
    assert town.stands() == (AccountState.ACTIVE, AccountStage.ACTIVE, None, False)
    town.set(price_msat_per_gib_month=10**9)
    change = town.look().change
    assert change is not None
    if signed:
        assert town.run("agree") == "done"
    owed_at = change.from_at
    due_at = owed_at - due_seconds(PERIOD)
    assert town.stands() == (AccountState.ACTIVE, AccountStage.ACTIVE, due_at, False)
    town.until(2, due_seconds(PERIOD) - SOME)
    assert town.stands() == (AccountState.ACTIVE, AccountStage.DUE, owed_at, True)
    town.until(2, -SOME)
    assert town.stands() == (AccountState.GRACE, AccountStage.GRACE, owed_at + GRACE, True)
    town.until(2, SOME - GRACE)
    assert town.bill() is AccountState.GRACE
    if not signed:
        assert town.run("rent") == "PriceUnsigned"
        assert town.run("agree") == "done"
    assert town.run("rent") == "done", town.last.said
    assert town.bill() is AccountState.ACTIVE
    assert town.rents() == [RENT]


def test_who_asks_in_time_proves_the_last_free_period_and_pays_the_next(town: Changing) -> None:
    """In the last quarter of it both are asked for: no grace comes of a price that rises."""
    town.set(price_msat_per_gib_month=0, price_periods=2)
    assert town.run("buy") == "done"
    assert town.run("put") == "done"
    town.set(price_msat_per_gib_month=10**9)
    town.look()
    assert town.run("agree") == "done"
    town.until(2, SOME)
    assert town.run("rent") == "done", town.last.said
    assert town.rents() == [0, RENT]
    town.until(2, -SOME)
    assert town.stands()[:2] == (AccountState.ACTIVE, AccountStage.ACTIVE)


def test_who_was_free_is_not_said_to_have_lapsed_and_pays_from_the_next_period_on(town: Changing) -> None:  # RA-W5
    town.set(price_periods=2)
    assert town.run("buy") == "done"
    assert town.run("put") == "done"
    town.free(free=True)
    town.advance(3 * PERIOD)
    assert town.stands() == (AccountState.ACTIVE, AccountStage.ACTIVE, None, False)
    town.free(free=False)
    state, stage, at, warned = town.stands()
    assert (state, stage, warned) == (AccountState.ACTIVE, AccountStage.ACTIVE, False)
    town.until(4, due_seconds(PERIOD) - SOME)
    status = town.look().status
    assert status is not None
    assert at == status.paid_until_at - due_seconds(PERIOD)
    assert town.stands() == (AccountState.ACTIVE, AccountStage.DUE, status.paid_until_at, True)
    town.until(4, -SOME)
    assert town.stands()[:2] == (AccountState.GRACE, AccountStage.GRACE)
    assert town.run("rent") == "done", town.last.said
    assert town.stands()[:2] == (AccountState.ACTIVE, AccountStage.ACTIVE)


@pytest.mark.parametrize("ahead", [False, True])
def test_who_was_free_and_leaves_gets_back_what_was_paid_and_both_sides_say_so(  # RP-W8, RP-R6
    town: Changing, *, ahead: bool
) -> None:
    town.set(refund_permille=1000)
    assert town.run("buy") == "done"
    town.free(free=True)
    town.advance(2 * PERIOD)
    town.free(free=False)
    if ahead:
        assert town.run("ahead") == "done", town.last.said
    assert town.run("leave") == "done", town.last.said
    due = refund_msat(8 * MIB, PERIOD, 10**9, 1000) if ahead else 0
    assert town.planned.refund_msat == town.left.due_msat == town.left.refund_msat == due
