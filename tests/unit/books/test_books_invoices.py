"""Invoices: planned once, credited once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from books_world import ANCHOR, GIB, GRACE, PERIOD, World, a_world, deposit, growth, paid, rent
from sqlalchemy.exc import IntegrityError

from lnstore.ports import BooksRefused, InvoiceStatus
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId, Msat
from lnstore_protocol.messages import AccountState, InvoicePurpose


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as world:
        yield world


async def test_a_plan_is_kept_whole(world: World) -> None:
    account = await world.renting()
    planned = rent(account, nonce=b"n" * 32, shares=3, sample=b"s" * 48, lost=b"l" * 32)
    assert await world.books.plan_invoice(planned) == planned
    assert await world.books.planned_invoice(account.account_id, InvoicePurpose.RENT, 1) == planned
    await world.books.issued(planned.label, "lnbcrt1")
    found = await world.books.planned_invoice(account.account_id, InvoicePurpose.RENT, 1)
    assert found == replace(planned, bolt11="lnbcrt1")


async def test_the_first_plan_under_a_label_wins(world: World) -> None:
    account = await world.renting()
    first = await world.books.plan_invoice(rent(account, nonce=b"1" * 32))
    second = await world.books.plan_invoice(rent(account, nonce=b"2" * 32, label=first.label))
    assert second == first


async def test_the_latest_attempt_is_found(world: World) -> None:
    account = await world.opened()
    for attempt in (0, 1, 2):
        await world.books.plan_invoice(growth(account, GIB, ANCHOR, ANCHOR + PERIOD, attempt=attempt))
    found = await world.books.planned_invoice(account.account_id, InvoicePurpose.CAPACITY, 0)
    assert found is not None
    assert found.attempt == 2
    assert await world.books.planned_invoice(account.account_id, InvoicePurpose.DEPOSIT, 0) is None


async def test_planning_is_checked_against_the_account_as_it_is(world: World) -> None:
    account = await world.renting()
    outdated = rent(account)
    await world.pay(growth(account, GIB, ANCHOR, ANCHOR + PERIOD))
    with pytest.raises(BooksRefused) as refused:
        await world.books.plan_invoice(outdated)
    assert refused.value.code is ErrorCode.PERIOD_REFUSED
    with pytest.raises(BooksRefused) as unknown:
        await world.books.plan_invoice(replace(outdated, account_id=AccountId(bytes(32))))
    assert unknown.value.code is ErrorCode.NO_ACCOUNT


async def test_noting_an_invoice_that_nobody_planned_is_an_error(world: World) -> None:
    with pytest.raises(KeyError):
        await world.books.issued("lnstore/nothing", "lnbc")


async def test_every_purpose_has_its_effect(world: World) -> None:
    account = await world.opened()
    account = await world.pay(growth(account, GIB, ANCHOR, ANCHOR + PERIOD))
    assert (account.capacity_bytes, account.paid_until_at, account.growth_index) == (GIB, ANCHOR + PERIOD, 1)
    account = await world.pay(rent(account))
    assert (account.paid_until_at, account.token_index, account.next_period) == (ANCHOR + 2 * PERIOD, 1, 2)
    account = await world.pay(deposit(account, 500, ANCHOR))
    assert (account.deposit_msat, account.deposit_index) == (500, 1)
    account = await world.pay(growth(account, 2 * GIB, ANCHOR, ANCHOR + 2 * PERIOD))
    assert (account.capacity_bytes, account.paid_until_at, account.growth_index) == (3 * GIB, ANCHOR + 2 * PERIOD, 2)
    balances = await world.books.balances()
    name = account.account_id.hex()
    earned = {f"growth:{name}": -(PERIOD + 4 * PERIOD), f"rent:{name}": -PERIOD, f"deposit:{name}": -500}
    expected = {f"{kind}:{name}": 0 for kind in ("egress", "hold")} | earned | {"lightning": 6 * PERIOD + 500}
    assert balances == expected


async def test_a_credited_invoice_says_so(world: World) -> None:
    account = await world.opened()
    planned = deposit(account, 5, ANCHOR)
    await world.pay(planned)
    found = await world.books.planned_invoice(account.account_id, InvoicePurpose.DEPOSIT, 0)
    assert found == replace(planned, credited=True)


async def test_overpayment_goes_to_the_deposit(world: World) -> None:
    account = await world.opened()
    account = await world.pay(growth(account, GIB, ANCHOR, ANCHOR + PERIOD), received_msat=PERIOD + 9)
    assert (account.capacity_bytes, account.deposit_msat) == (GIB, 9)
    account = await world.pay(deposit(account, 5, ANCHOR), received_msat=6)
    assert account.deposit_msat == 15


async def test_a_pay_index_is_credited_once_in_order(world: World) -> None:
    account = await world.opened()
    first = await world.books.plan_invoice(deposit(account, 5, ANCHOR))
    second = await world.books.plan_invoice(growth(account, GIB, ANCHOR, ANCHOR + PERIOD))
    assert await world.books.pay_index() == 0
    assert await world.books.credit(paid(second, 7), ANCHOR) is not None
    assert await world.books.pay_index() == 7
    assert await world.books.credit(paid(second, 7), ANCHOR) is None, "again"
    assert await world.books.credit(paid(first, 3), ANCHOR) is None, "passed over"
    assert await world.books.credit(paid(second, 8), ANCHOR) is None, "the same invoice under a new index"
    assert await world.books.pay_index() == 8
    now = await world.now_is(account)
    assert (now.capacity_bytes, now.deposit_msat, now.growth_index) == (GIB, 0, 1)


async def test_the_same_payment_by_many_callers_at_once_is_credited_once(world: World) -> None:
    account = await world.opened()
    planned = await world.books.plan_invoice(deposit(account, 5, ANCHOR))
    results: list[object] = []

    async def collect() -> None:
        results.append(await world.books.credit(paid(planned, 1), ANCHOR))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(collect)
    assert sum(result is not None for result in results) == 1
    assert (await world.now_is(account)).deposit_msat == 5


async def test_an_invoice_that_is_not_ours_only_moves_the_cursor(world: World) -> None:
    account = await world.opened()
    foreign = replace(paid(deposit(account, 5, ANCHOR), 3), label="coffee")
    assert await world.books.credit(foreign, ANCHOR) is None
    assert await world.books.pay_index() == 3
    planned = await world.books.plan_invoice(deposit(account, 5, ANCHOR))
    same_label = paid(deposit(account, 5, ANCHOR, label=planned.label), 4)
    assert await world.books.credit(same_label, ANCHOR) is None, "another payment hash"
    assert await world.books.pay_index() == 4
    assert await world.books.balances() == dict.fromkeys(await world.books.balances(), 0)


async def test_an_unpaid_invoice_cannot_be_credited(world: World) -> None:
    account = await world.opened()
    planned = await world.books.plan_invoice(deposit(account, 5, ANCHOR))
    for wrong in (replace(paid(planned, 1), status=InvoiceStatus.EXPIRED), replace(paid(planned, 1), pay_index=None)):
        with pytest.raises(ValueError, match="not paid"):
            await world.books.credit(wrong, ANCHOR)


async def test_an_invoice_of_unknown_received_amount_counts_as_what_was_asked(world: World) -> None:
    account = await world.opened()
    planned = await world.books.plan_invoice(deposit(account, 5, ANCHOR))
    credited = await world.books.credit(replace(paid(planned, 1), received_msat=None), ANCHOR)
    assert credited is not None
    assert credited.deposit_msat == 5


async def test_rent_paid_after_the_lapse_is_kept_as_deposit(world: World) -> None:
    account = await world.renting()
    planned = await world.books.plan_invoice(rent(account))
    await world.books.advance(ANCHOR + PERIOD + GRACE)
    late = await world.books.credit(paid(planned, 2), ANCHOR + PERIOD + GRACE)
    assert late is not None
    assert (late.state, late.deposit_msat) == (AccountState.LAPSED, planned.amount_msat)


async def test_growth_that_a_rent_invoice_overtook_is_kept_as_deposit(world: World) -> None:
    account = await world.renting()
    planned = await world.books.plan_invoice(growth(account, 1024 * GIB, ANCHOR + PERIOD - 1, ANCHOR + PERIOD))
    await world.books.plan_invoice(rent(account))
    after = await world.books.credit(paid(planned, 2), ANCHOR + PERIOD - 1)
    assert after is not None
    assert (after.capacity_bytes, after.deposit_msat, after.growth_index) == (GIB, planned.amount_msat, 2)
    assert after.deposit_msat == Msat(1024)


async def test_secrets_do_not_get_into_the_text_of_an_error(world: World) -> None:
    account = await world.renting()
    planned = rent(account, amount_msat=Msat(-1), preimage=b"secret preimage " * 2, nonce=b"secret nonce....")
    with pytest.raises(IntegrityError) as failed:
        await world.books.plan_invoice(planned)
    assert "secret" not in str(failed.value)
    assert "secret" not in repr(failed.value)


async def test_a_further_attempt_at_rent_costs_what_the_first_did(world: World) -> None:
    """Growth between the two has paid for the period by itself."""
    account = await world.renting()
    first = await world.books.plan_invoice(rent(account))
    until_at = first.until_at
    grown = await world.books.plan_invoice(growth(account, GIB, ANCHOR + 10, until_at))
    await world.books.credit(paid(grown, 2), ANCHOR + 10)
    again = replace(rent(account), label="again", attempt=1, token_index=4)
    assert await world.books.plan_invoice(again) == again
    assert await world.books.planned_invoice(account.account_id, InvoicePurpose.RENT, first.index) == again
    fresh = replace(again, label="fresh", attempt=0)
    with pytest.raises(BooksRefused) as refused:
        await world.books.plan_invoice(fresh)
    assert refused.value.code is ErrorCode.PERIOD_REFUSED


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_two_attempts_that_are_paid_after_all_pay_the_period_once(world: World, order: tuple[int, int]) -> None:
    account = await world.renting()
    attempts = [rent(account), replace(rent(account), label="again", attempt=1, token_index=4)]
    for attempt in attempts:
        await world.books.plan_invoice(attempt)
    for pay_index, number in enumerate(order, start=2):
        after = await world.books.credit(paid(attempts[number], pay_index), ANCHOR)
    assert after is not None
    assert (after.paid_until_at, after.token_index) == (attempts[0].until_at, 5)
    assert after.deposit_msat == attempts[0].amount_msat


async def test_an_invoice_that_is_being_withdrawn_is_made_again_unless_it_was_paid(world: World) -> None:
    account = await world.renting()
    planned = await world.books.plan_invoice(rent(account))
    await world.books.issued(planned.label, "lnbc1")
    await world.books.withdrawing(planned.label)
    kept = await world.books.planned_invoice(account.account_id, planned.purpose, planned.index)
    assert kept is not None
    assert kept.bolt11 is None
    await world.books.issued(planned.label, "lnbc2")
    await world.books.credit(paid(planned, 2), ANCHOR)
    await world.books.withdrawing(planned.label)
    kept = await world.books.planned_invoice(account.account_id, planned.purpose, planned.index)
    assert kept is not None
    assert (kept.bolt11, kept.credited) == ("lnbc2", True)


async def test_an_invoice_being_withdrawn_is_made_again_unless_it_was_credited(world: World) -> None:
    account = await world.opened()
    planned = await world.books.plan_invoice(deposit(account, 5, ANCHOR))
    for credited, bolt11 in ((False, None), (True, "lnbcrt1")):
        await world.books.issued(planned.label, "lnbcrt1")
        if credited:
            await world.pay(planned)
        await world.books.withdrawing(planned.label)
        found = await world.books.planned_invoice(account.account_id, InvoicePurpose.DEPOSIT, 0)
        assert found is not None
        assert (found.credited, found.bolt11) == (credited, bolt11)
