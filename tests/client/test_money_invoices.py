"""What an invoice must be before any money leaves: every check by itself, over its whole range."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnstore.client.money_errors import InvoiceFault, InvoiceRefused
from lnstore.client.payments import MINIMUM_LEFT_SECONDS, check_invoice, max_fee_msat
from lnstore.ports import DecodedInvoice
from lnstore_protocol.ids import LightningId, Msat, PaymentHash

PAYEE = LightningId(b"\x02" * 33)
HASH = PaymentHash(b"h" * 32)
NOW = 1_800_000_000
GOOD = DecodedInvoice(
    payee=PAYEE,
    payment_hash=HASH,
    amount_msat=Msat(40_000),
    created_at=NOW,
    expires_at=NOW + 3600,
    network="regtest",
    description="",
)


def check(invoice: DecodedInvoice, *, stated: int = 40_000, limit: int = 40_000, now: int = NOW) -> int:
    return check_invoice(
        invoice,
        payee=PAYEE,
        network="regtest",
        stated_msat=stated,
        limit_msat=limit,
        payment_hash=HASH,
        now=now,
    )


def fault_of(invoice: DecodedInvoice, *, stated: int = 40_000, limit: int = 40_000, now: int = NOW) -> InvoiceFault:
    with pytest.raises(InvoiceRefused) as refused:
        check(invoice, stated=stated, limit=limit, now=now)
    assert "nothing was paid" in str(refused.value)
    return refused.value.fault


def test_an_invoice_that_is_all_right_passes_and_gives_its_amount() -> None:
    assert check(GOOD) == 40_000


@given(st.integers(1, 10**12), st.integers(0, 10**12))
def test_an_invoice_over_the_computed_amount_is_refused_and_one_up_to_it_is_not(amount: int, limit: int) -> None:
    invoice = replace(GOOD, amount_msat=Msat(amount))
    if amount <= limit:
        assert check(invoice, stated=amount, limit=limit) == amount
    else:
        assert fault_of(invoice, stated=amount, limit=limit) is InvoiceFault.OVERPRICED


def test_one_msat_too_much_is_too_much() -> None:
    assert fault_of(replace(GOOD, amount_msat=Msat(40_001)), stated=40_001) is InvoiceFault.OVERPRICED


def test_an_invoice_that_asks_for_less_than_the_node_said_is_refused_too() -> None:
    """The two must be the same payment, or the node could later say that the other one is still due."""
    assert fault_of(replace(GOOD, amount_msat=Msat(39_999))) is InvoiceFault.AMOUNT_DIFFERS


@pytest.mark.parametrize("amount", [None, Msat(0)])
def test_an_invoice_that_leaves_the_amount_to_the_payer_is_refused(amount: Msat | None) -> None:
    assert fault_of(replace(GOOD, amount_msat=amount)) is InvoiceFault.NO_AMOUNT


def test_another_payee_is_refused_and_both_keys_are_named() -> None:
    other = LightningId(b"\x03" * 33)
    assert fault_of(replace(GOOD, payee=other)) is InvoiceFault.WRONG_PAYEE


def test_another_network_is_refused() -> None:
    assert fault_of(replace(GOOD, network="bitcoin")) is InvoiceFault.WRONG_NETWORK


def test_another_payment_hash_than_the_proof_gives_is_refused() -> None:
    assert fault_of(replace(GOOD, payment_hash=PaymentHash(bytes(32)))) is InvoiceFault.WRONG_HASH


@given(st.integers(-(10**6), 10**6))
def test_only_an_invoice_with_time_left_is_paid(left: int) -> None:
    invoice = replace(GOOD, expires_at=NOW + left)
    if left >= MINIMUM_LEFT_SECONDS:
        assert check(invoice) == 40_000
    else:
        assert fault_of(invoice) is InvoiceFault.EXPIRED


@given(st.integers(0, 10**12), st.integers(0, 100))
def test_fees_are_one_sat_or_the_percentage_whichever_is_more(amount: int, percent: int) -> None:
    fee = max_fee_msat(amount, percent)
    assert fee >= 1000
    assert fee == 1000 or fee <= amount * percent / 100
