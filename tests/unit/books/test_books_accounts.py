"""Accounts: opening, lapsing, opening anew, and what is rented out in all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from books_world import (
    ANCHOR,
    GIB,
    GRACE,
    PERIOD,
    World,
    a_world,
    agreement,
    always,
    deposit,
    growth,
    lease,
    paid,
    rent,
    share_id,
)

from lnstore.ports import BooksRefused
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, Msat
from lnstore_protocol.messages import AccountStage, AccountState, InvoicePurpose
from lnstore_protocol.terms import Agreement


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as world:
        yield world


async def test_a_new_account_owes_and_holds_nothing(world: World) -> None:
    client = Identity.generate()
    signed = agreement(client)
    account = await world.books.open_account(signed, ANCHOR)
    assert account.agreement == signed.encoded
    assert (account.state, account.capacity_bytes, account.paid_until_at) == (AccountState.ACTIVE, 0, ANCHOR)
    assert (account.next_period, account.token_index, account.deposit_msat) == (0, 0, 0)
    assert await world.books.account(AccountId(client.public_key)) == account
    assert await world.books.accounts() == [account]


async def test_opening_again_changes_nothing(world: World) -> None:
    client = Identity.generate()
    first = await world.books.open_account(agreement(client), ANCHOR)
    assert await world.books.open_account(agreement(client, ANCHOR + 9), ANCHOR + 9) == first


async def test_an_agreement_that_the_node_has_not_signed_is_not_entered(world: World) -> None:
    client = Identity.generate()
    half = Agreement.propose(agreement(client).terms, client, ANCHOR)
    with pytest.raises(ValueError, match="both have signed"):
        await world.books.open_account(half, ANCHOR)


async def test_an_unknown_account_is_none(world: World) -> None:
    assert await world.books.account(AccountId(bytes(32))) is None


async def test_accounts_come_oldest_first(world: World) -> None:
    opened = [await world.opened() for _ in range(5)]
    assert await world.books.accounts() == opened


async def test_advancing_takes_an_unpaid_account_through_every_stage_and_warns_of_each(world: World) -> None:  # RP-W2
    account = await world.renting()
    end = ANCHOR + PERIOD
    found = []
    for now in range(ANCHOR, end + 10 * PERIOD, 25):
        found += [(now - end, look.stage, look.entered, look.warned_of) for look in await world.books.advance(now)]
    active, due, grace, lapsed, swept = AccountStage
    assert found == [
        (-PERIOD // 4 - 375, active, False, due),
        (-PERIOD // 4, due, True, None),
        (-PERIOD // 8, due, False, grace),
        (0, grace, True, None),
        (GRACE // 2, grace, False, lapsed),
        (GRACE, swept, True, None),
    ], "each once, and of no share there is nothing to sweep"
    after = await world.now_is(account)
    assert (after.state, after.capacity_bytes, after.look_at) == (AccountState.LAPSED, 0, None)


async def test_who_owes_nothing_moves_on_without_a_change_of_state(world: World) -> None:
    account = await world.opened()
    free = await world.renting(price_msat_per_gib_month=Msat(0))
    assert await world.books.advance(ANCHOR + 5 * PERIOD + 3) == []
    assert (await world.now_is(account)).next_period == 5
    assert (await world.now_is(free)).next_period == 5


async def test_nothing_is_written_when_nothing_is_due(world: World) -> None:
    await world.renting()
    commits = world.books.commits
    await world.books.advance(ANCHOR + 1)
    assert world.books.commits == commits


async def test_a_lapsed_account_opens_anew_with_its_deposit_and_its_counters(world: World) -> None:  # R-W7
    account = await world.renting()
    account = await world.pay(rent(account))
    account = await world.pay(deposit(account, 77, ANCHOR))
    await world.books.add_lease(lease(account, 1), ANCHOR, present=always)
    end = account.paid_until_at
    unpaid = await world.books.plan_invoice(rent(account))
    await world.books.advance(end + GRACE)
    now = end + GRACE + 5
    anew = await world.books.open_account(agreement(world.clients[0], now), now)
    assert (anew.state, anew.capacity_bytes, anew.used_bytes, anew.shares) == (AccountState.ACTIVE, 0, 0, 0)
    assert (anew.anchor_at, anew.paid_until_at, anew.next_period) == (now, now, 0)
    assert (anew.deposit_msat, anew.ingress_bytes) == (77, 100)
    assert (anew.growth_index, anew.deposit_index) == (account.growth_index, account.deposit_index)
    assert anew.token_index == account.token_index + 1, "the nonce of the unpaid rent was revealed"
    assert await world.books.accounts() == [anew]
    assert await world.books.held(anew.account_id, [share_id(1)]) == [False]
    assert await world.books.planned_invoice(anew.account_id, InvoicePurpose.RENT, unpaid.index) is None


async def test_what_was_invoiced_before_the_lapse_becomes_deposit_when_it_is_paid_after(world: World) -> None:
    account = await world.renting()
    unpaid = await world.books.plan_invoice(rent(account))
    now = ANCHOR + PERIOD + GRACE
    await world.books.advance(now)
    anew = await world.books.open_account(agreement(world.clients[0], now), now)
    after = await world.books.credit(paid(unpaid, 2), now)
    assert after == replace(anew, deposit_msat=unpaid.amount_msat)


async def test_an_account_that_opened_anew_can_lapse_again(world: World) -> None:
    await world.renting()
    for round_ in range(1, 4):
        now = ANCHOR + round_ * 10 * PERIOD
        await world.books.advance(now)
        anew = await world.books.open_account(agreement(world.clients[0], now), now)
        assert anew.growth_index == round_
        await world.pay(growth(anew, GIB, now, now + PERIOD), now)
    assert await world.books.rented_bytes(ANCHOR) == GIB


async def test_a_label_of_former_days_is_not_taken_for_a_new_invoice(world: World) -> None:
    account = await world.renting()
    old = await world.books.plan_invoice(rent(account))
    now = ANCHOR + 10 * PERIOD
    await world.books.advance(now)
    anew = await world.books.open_account(agreement(world.clients[0], now), now)
    with pytest.raises(ValueError, match="another invoice"):
        await world.books.plan_invoice(rent(anew, label=old.label))


async def test_rented_bytes_count_capacity_and_what_is_being_bought(world: World) -> None:  # R-W11
    account = await world.renting(3 * GIB)
    other = await world.opened()
    assert await world.books.rented_bytes(ANCHOR) == 3 * GIB
    first = await world.books.plan_invoice(growth(other, GIB, ANCHOR, ANCHOR + PERIOD))
    assert await world.books.rented_bytes(ANCHOR) == 4 * GIB
    assert await world.books.rented_bytes(first.expires_at) == 3 * GIB, "expired"
    second = await world.books.plan_invoice(growth(other, 2 * GIB, ANCHOR, ANCHOR + PERIOD, attempt=1))
    assert await world.books.rented_bytes(ANCHOR) == 5 * GIB, "the later attempt counts instead"
    await world.pay(second)
    assert await world.books.rented_bytes(ANCHOR) == 5 * GIB
    await world.pay(rent(await world.now_is(other)))
    await world.books.advance(account.paid_until_at + GRACE)
    assert await world.books.rented_bytes(ANCHOR) == 2 * GIB, "the lapsed one's is free again"


async def test_growth_beyond_what_may_be_rented_out_is_refused_and_not_kept(world: World) -> None:
    await world.renting(3 * GIB)
    other = await world.opened()
    planned = growth(other, GIB, ANCHOR, ANCHOR + PERIOD)
    with pytest.raises(BooksRefused) as refused:
        await world.books.plan_invoice(planned, rentable_bytes=4 * GIB - 1)
    assert refused.value.code is ErrorCode.CAPACITY_REFUSED
    assert await world.books.planned_invoice(other.account_id, InvoicePurpose.CAPACITY, 0) is None
    assert await world.books.plan_invoice(planned, rentable_bytes=4 * GIB) == planned


async def test_a_deposit_that_was_invoiced_before_the_lapse_does_not_stand_in_the_way_of_the_next(world: World) -> None:
    """Its label is used up, paid or not; paid late, it is still credited."""
    account = await world.renting()
    unpaid = await world.books.plan_invoice(deposit(account, 5, ANCHOR))
    now = ANCHOR + PERIOD + GRACE
    await world.books.advance(now)
    anew = await world.books.open_account(agreement(world.clients[0], now), now)
    assert anew.deposit_index == account.deposit_index + 1
    planned = await world.books.plan_invoice(deposit(anew, 7, now))
    assert planned.label != unpaid.label
    for pay_index, invoice in enumerate((planned, unpaid), start=2):
        after = await world.books.credit(paid(invoice, pay_index), now)
    assert after is not None
    assert (after.deposit_msat, after.deposit_index) == (12, anew.deposit_index + 1)
