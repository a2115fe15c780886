"""What the books allow and what a credit does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from books_world import ANCHOR, EGRESS, GIB, PERIOD, an_account, deposit, growth, rent
from hypothesis import given
from hypothesis import strategies as st

from lnstore.books.rules import credit, growth_window, hold_entries, plan_refusal, settle_entries, write_refusal
from lnstore.ports import BooksRefused, PlannedInvoice
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import AccountState, InvoicePurpose
from lnstore_protocol.terms import rent_msat

NOW = ANCHOR + 400
ACTIVE, GRACE, LAPSED = AccountState


@pytest.mark.parametrize(
    ("state", "used", "size", "code"),
    [
        (ACTIVE, 0, 100, None),
        (ACTIVE, 1, 100, ErrorCode.CAPACITY_EXCEEDED),
        (GRACE, 0, 1, ErrorCode.IN_GRACE),
        (LAPSED, 0, 1, ErrorCode.LAPSED),
    ],
)
def test_writing_needs_an_active_account_with_room(
    state: AccountState, used: int, size: int, code: ErrorCode | None
) -> None:
    refusal = write_refusal(state, 100, used, size)
    assert (refusal and refusal.code) == code


# --- the growth window ----------------------------------------------------------------------------------------------


def test_a_first_growth_is_charged_until_the_current_period_ends() -> None:
    account = an_account(capacity_bytes=0, paid_until_at=ANCHOR)
    assert growth_window(account, None, NOW) == (NOW, ANCHOR + PERIOD)
    assert growth_window(account, None, ANCHOR + 3 * PERIOD) == (ANCHOR + 3 * PERIOD, ANCHOR + 4 * PERIOD)
    assert growth_window(account, None, ANCHOR - 5) == (ANCHOR - 5, ANCHOR + PERIOD)


def test_later_growth_is_charged_until_what_is_paid() -> None:
    assert growth_window(an_account(paid_until_at=ANCHOR + 2 * PERIOD), None, NOW) == (NOW, ANCHOR + 2 * PERIOD)


def test_growth_also_pays_for_a_period_whose_rent_invoice_counts_the_old_capacity() -> None:
    account = an_account()
    assert growth_window(account, rent(account), NOW) == (NOW, ANCHOR + 2 * PERIOD)


# --- planning -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, None),
        ({"index": 0}, ErrorCode.PERIOD_REFUSED),
        ({"index": 2}, ErrorCode.PERIOD_REFUSED),
        ({"token_index": 4}, ErrorCode.PERIOD_REFUSED),
        ({"token_index": 6}, None),  # a nonce that never arrived may have been revealed for the one between
        ({"capacity_bytes": GIB - 1}, ErrorCode.PERIOD_REFUSED),
    ],
)
def test_rent_is_planned_for_the_next_period_token_and_the_whole_capacity(
    changes: dict[str, int], code: ErrorCode | None
) -> None:
    account = replace(an_account(), token_index=5)
    refusal = plan_refusal(account, replace(rent(account), **changes))  # type: ignore[arg-type]
    assert (refusal and refusal.code) == code


@pytest.mark.parametrize(
    ("state", "purpose", "code"),
    [
        (GRACE, InvoicePurpose.RENT, None),
        (GRACE, InvoicePurpose.CAPACITY, ErrorCode.IN_GRACE),
        (GRACE, InvoicePurpose.DEPOSIT, None),
        (LAPSED, InvoicePurpose.RENT, ErrorCode.LAPSED),
        (LAPSED, InvoicePurpose.CAPACITY, ErrorCode.LAPSED),
        (LAPSED, InvoicePurpose.DEPOSIT, None),
    ],
)
def test_states_limit_what_is_sold(state: AccountState, purpose: InvoicePurpose, code: ErrorCode | None) -> None:
    account = an_account(state=state)
    planned = {
        InvoicePurpose.RENT: rent(account),
        InvoicePurpose.CAPACITY: growth(account, GIB, NOW, ANCHOR + PERIOD),
        InvoicePurpose.DEPOSIT: deposit(account, 5, NOW),
    }[purpose]
    refusal = plan_refusal(account, planned)
    assert (refusal and refusal.code) == code


def test_growth_and_deposits_are_numbered_without_gaps() -> None:
    account = an_account()
    for planned in (
        growth(account, GIB, NOW, ANCHOR + PERIOD, index=2),
        growth(account, GIB, NOW, ANCHOR + PERIOD, index=0),
        deposit(account, 5, NOW, index=1),
    ):
        refusal = plan_refusal(account, planned)
        assert refusal is not None
        assert refusal.code is ErrorCode.PERIOD_REFUSED


# --- credits --------------------------------------------------------------------------------------------------------


def kinds(planned: PlannedInvoice, **account: object) -> dict[str, int]:
    done = credit(an_account(**account), planned, planned.amount_msat, NOW, promised_until_at=0)
    return {entry.kind: entry.amount_msat for entry in done.entries}


def test_rent_moves_the_paid_time_and_the_token_on() -> None:  # R-W20
    account = an_account()
    planned = rent(account)
    done = credit(account, planned, planned.amount_msat, NOW, promised_until_at=planned.until_at)
    assert done.account == replace(account, paid_until_at=ANCHOR + 2 * PERIOD, token_index=1)
    (entry,) = done.entries
    assert (entry.debit, entry.credit, entry.amount_msat) == ("lightning", f"rent:{'aa' * 32}", PERIOD)


def test_rent_paid_in_grace_restores_the_account() -> None:
    account = an_account(state=GRACE)
    planned = rent(account)
    done = credit(account, planned, planned.amount_msat, ANCHOR + PERIOD + 10, promised_until_at=0)
    assert done.account.state is ACTIVE


def test_rent_for_a_period_that_is_over_too_does_not_restore_the_account() -> None:
    account = an_account(state=GRACE, grace_seconds=5 * PERIOD)
    planned = rent(account)
    done = credit(account, planned, planned.amount_msat, ANCHOR + 3 * PERIOD, promised_until_at=0)
    assert (done.account.state, done.account.paid_until_at) == (GRACE, ANCHOR + 2 * PERIOD)


def test_a_first_growth_opens_the_period_it_pays_for() -> None:  # R-W10
    account = an_account(capacity_bytes=0, paid_until_at=ANCHOR, growth_index=0)
    planned = growth(account, GIB, NOW, ANCHOR + PERIOD)
    done = credit(account, planned, planned.amount_msat, NOW, promised_until_at=0)
    assert done.account == replace(account, capacity_bytes=GIB, paid_until_at=ANCHOR + PERIOD, growth_index=1)
    assert [entry.kind for entry in done.entries] == ["growth"]


def test_later_growth_adds_capacity_and_pays_for_nobodys_rent() -> None:
    """A byte more, charged until the end of an invoiced but unpaid period, does not pay that period's rent."""
    account = an_account()
    unpaid = rent(account)
    planned = growth(account, 1, NOW, unpaid.until_at)
    done = credit(account, planned, planned.amount_msat, NOW, promised_until_at=unpaid.until_at)
    assert (done.account.capacity_bytes, done.account.paid_until_at) == (GIB + 1, account.paid_until_at)


def test_growth_that_a_rent_invoice_overtook_becomes_deposit() -> None:
    """A TiB charged for the last minutes of a period must not ride along in the next one for a GiB's rent."""
    account = an_account()
    planned = growth(account, 1024 * GIB, ANCHOR + PERIOD - 5, ANCHOR + PERIOD)
    overtaking = rent(account)
    done = credit(account, planned, planned.amount_msat, ANCHOR + PERIOD - 1, promised_until_at=overtaking.until_at)
    assert done.account == replace(account, growth_index=2, deposit_msat=planned.amount_msat)
    assert [entry.kind for entry in done.entries] == ["unusable payment"]


def test_a_growth_that_was_made_already_becomes_deposit() -> None:
    planned = growth(an_account(growth_index=0), GIB, NOW, ANCHOR + PERIOD)
    assert kinds(planned) == {"unusable payment": planned.amount_msat}


@pytest.mark.parametrize("purpose", ["rent", "growth"])
def test_what_is_paid_after_a_lapse_becomes_deposit(purpose: str) -> None:  # R-W16
    account = an_account()
    planned = rent(account) if purpose == "rent" else growth(account, GIB, NOW, ANCHOR + PERIOD)
    lapsed = replace(account, state=LAPSED, capacity_bytes=0)
    done = credit(lapsed, planned, planned.amount_msat, NOW, promised_until_at=0)
    assert (done.account.state, done.account.capacity_bytes) == (LAPSED, 0)
    assert done.account.deposit_msat == planned.amount_msat
    assert [entry.kind for entry in done.entries] == ["unusable payment"]


def test_a_period_is_not_paid_twice() -> None:
    planned = rent(an_account())
    assert kinds(planned, paid_until_at=ANCHOR + 2 * PERIOD) == {"unusable payment": planned.amount_msat}


def test_too_little_buys_nothing_and_is_kept_as_deposit() -> None:
    account = an_account()
    planned = rent(account)
    done = credit(account, planned, planned.amount_msat - 1, NOW, promised_until_at=0)
    assert done.account == replace(account, token_index=1, deposit_msat=Msat(planned.amount_msat - 1))


@given(
    purpose=st.sampled_from(InvoicePurpose),
    state=st.sampled_from(AccountState),
    capacity_bytes=st.sampled_from([0, 1, GIB]),
    added=st.integers(1, 10 * GIB),
    over=st.integers(-10, 10**12),
    before_msat=st.integers(0, 10**12),
    promised=st.integers(0, 4).map(lambda n: ANCHOR + n * PERIOD),
)
def test_every_msat_received_is_posted_once_and_nothing_else_changes_hands(
    *,
    purpose: InvoicePurpose,
    state: AccountState,
    capacity_bytes: int,
    added: int,
    over: int,
    before_msat: int,
    promised: int,
) -> None:
    account = an_account(state=state, capacity_bytes=capacity_bytes, deposit_msat=Msat(before_msat))
    planned = {
        InvoicePurpose.RENT: rent(account),
        InvoicePurpose.CAPACITY: growth(account, added, NOW, ANCHOR + PERIOD),
        InvoicePurpose.DEPOSIT: deposit(account, added, NOW),
    }[purpose]
    received = max(1, planned.amount_msat + over)
    done = credit(account, planned, received, NOW, promised_until_at=promised)
    assert sum(entry.amount_msat for entry in done.entries) == received
    assert all(entry.debit == "lightning" and entry.amount_msat > 0 for entry in done.entries)
    to_deposit = sum(entry.amount_msat for entry in done.entries if entry.credit.startswith("deposit:"))
    assert done.account.deposit_msat == before_msat + to_deposit
    assert done.account.capacity_bytes >= account.capacity_bytes
    assert len({entry.kind for entry in done.entries}) == len(done.entries)


@given(
    capacities=st.lists(st.integers(1, 4 * GIB), min_size=1, max_size=5),
    when=st.lists(st.integers(0, PERIOD - 1), min_size=5, max_size=5),
)
def test_growing_in_steps_is_charged_as_having_grown_at_those_times(capacities: list[int], when: list[int]) -> None:
    """Growth within a period adds up to each capacity's share of the period, but for rounding up."""
    account = an_account(capacity_bytes=0, paid_until_at=ANCHOR, growth_index=0)
    charged, exact = 0, 0.0
    for added, second in zip(capacities, sorted(when), strict=False):
        now = ANCHOR + second
        from_at, until_at = growth_window(account, None, now)
        planned = growth(account, added, from_at, until_at)
        account = credit(account, planned, planned.amount_msat, now, promised_until_at=0).account
        charged += planned.amount_msat
        exact += added * (ANCHOR + PERIOD - now) / GIB
    assert account.capacity_bytes == sum(capacities[:5])
    assert account.paid_until_at == ANCHOR + PERIOD
    assert exact - 1e-3 <= charged <= exact + len(capacities) + 1e-3
    assert rent(account).amount_msat == rent_msat(account.capacity_bytes, PERIOD, account.price_msat_per_gib_month)


# --- traffic --------------------------------------------------------------------------------------------------------


def test_a_hold_needs_its_price_in_the_deposit() -> None:
    account = an_account(deposit_msat=Msat(1_024))
    assert [entry.amount_msat for entry in hold_entries(account, GIB, EGRESS)] == [1_024]
    with pytest.raises(BooksRefused) as refused:
        hold_entries(account, GIB + 1, EGRESS)
    assert refused.value.code is ErrorCode.PAYMENT_REQUIRED


def test_reading_at_no_price_needs_no_deposit() -> None:
    assert hold_entries(an_account(), GIB, Msat(0)) == ()


@given(held=st.integers(0, 10**6), used=st.integers(0, 2 * 10**6))
def test_a_settled_hold_is_spent_in_full_one_way_or_the_other(held: int, used: int) -> None:
    entries = settle_entries(an_account().account_id, held, used)
    assert sum(entry.amount_msat for entry in entries) == held
    assert all(entry.debit.startswith("hold:") for entry in entries)
