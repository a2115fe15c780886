"""Checks of 02a: what request_invoice refuses, and deposits."""

from __future__ import annotations

import secrets
from typing import Final

from lnstore_protocol.conformance import bolt11
from lnstore_protocol.conformance.node_link import NodeLink
from lnstore_protocol.conformance.tenant import NO_PAYER, add_deposit, judge_invoice, open_account, pay, status
from lnstore_protocol.conformance.trial import Checks, Trial
from lnstore_protocol.conformance.verdict import Failed, Skipped
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import InvoicePurpose, InvoiceReply, RequestInvoice

CHECKS = Checks()
MALFORMED: Final = ErrorCode.MALFORMED
REFUSED: Final = ErrorCode.PERIOD_REFUSED
MAX_DEPOSIT_MSAT = 10**12
DEPOSIT_MSAT = 1_000
RENT, DEPOSIT = InvoicePurpose.RENT, InvoicePurpose.DEPOSIT


def _deposit(index: int | None, amount: int | None) -> RequestInvoice:
    return RequestInvoice(purpose=DEPOSIT, deposit_index=index, amount_msat=None if amount is None else Msat(amount))


@CHECKS.on("MA-R16", "P-R7")
def incomplete_invoice_requests(trial: Trial) -> None:
    """A purpose of CAPACITY, a missing field, a nonce that is not 32 bytes and an amount out of range are MALFORMED."""
    tenant = open_account(trial)
    nonce = secrets.token_bytes(32)
    for what, request in (
        ("a purpose of CAPACITY", RequestInvoice(purpose=InvoicePurpose.CAPACITY)),
        ("rent without anything", RequestInvoice(purpose=RENT)),
        ("rent without a period", RequestInvoice(purpose=RENT, token_index=0, nonce=nonce)),
        ("rent without a token index", RequestInvoice(purpose=RENT, period=0, nonce=nonce)),
        ("rent without a nonce", RequestInvoice(purpose=RENT, period=0, token_index=0)),
        ("a nonce of 31 bytes", RequestInvoice(purpose=RENT, period=0, token_index=0, nonce=nonce[1:])),
        ("an empty nonce", RequestInvoice(purpose=RENT, period=0, token_index=0, nonce=b"")),
        ("a deposit without anything", RequestInvoice(purpose=DEPOSIT)),
        ("a deposit without its index", _deposit(None, 1)),
        ("a deposit without an amount", _deposit(0, None)),
        ("a deposit of nothing", _deposit(0, 0)),
        ("a deposit over 10^12 msat", _deposit(0, MAX_DEPOSIT_MSAT + 1)),
    ):
        trial.refusal("MA-R16", trial.link(tenant.identity), request, MALFORMED, what=what)
    trial.reached.add("P-R7")


@CHECKS.on("MA-R17", "R-W18")
def rent_that_is_not_owed(trial: Trial) -> None:
    """An account without capacity owes nothing: its requests for rent are PERIOD_REFUSED, whatever the period."""
    tenant = open_account(trial)
    link = trial.link(tenant.identity)
    for period in (0, 1, 2, 1 << 40):
        request = RequestInvoice(purpose=RENT, period=period, token_index=0, nonce=secrets.token_bytes(32))
        trial.refusal("R-W18", link, request, REFUSED, what=f"rent for period {period} of an account that owes nothing")
    trial.reached.add("MA-R17")


def _invoice(trial: Trial, link: NodeLink, index: int, amount_msat: int) -> tuple[InvoiceReply, bolt11.Invoice]:
    reply = trial.reply(link, _deposit(index, amount_msat), InvoiceReply, "MA-R19")
    return reply, judge_invoice(trial, reply, amount_msat)


@CHECKS.on("MA-R19", "R-R10", "R-R11", "R-R12", "R-R13", "R-R14", "V-W6", "M-R15")
def deposit_invoices(trial: Trial) -> None:
    """A deposit's invoice is the node's own over what was asked for, and the same for the same request."""
    tenant = open_account(trial)
    link = trial.link(tenant.identity)
    index = status(trial, link).deposit_index
    for wrong in {0, 1, index + 1, index + 7} - {index}:
        trial.refusal(
            "MA-R19", link, _deposit(wrong, 1), REFUSED, what=f"deposit number {wrong}, where {index} is next"
        )
    first, invoice = _invoice(trial, link, index, DEPOSIT_MSAT)
    exact = first.amount_msat == DEPOSIT_MSAT
    trial.require("R-R13", exact, f"{first.amount_msat} msat instead of {DEPOSIT_MSAT}")
    trial.require("MA-R19", not first.capacity_bytes, "a deposit for capacity")
    again, _ = _invoice(trial, link, index, DEPOSIT_MSAT)
    trial.require("MA-R19", again == first, "the same request gave another reply")
    for secret, what in (
        (tenant.account_id.hex(), "the account id"),
        (trial.bench.address.node_id.hex(), "the whole node id"),
    ):
        trial.require("V-W6", secret not in invoice.description.lower(), f"the description holds {what}")
    trial.reached.add("M-R15")


@CHECKS.on("MA-R14", "MA-R19")
def replaced_invoices(trial: Trial) -> None:
    """An invoice that another amount has replaced can no longer be paid."""
    tenant = open_account(trial)
    link = trial.link(tenant.identity)
    index = status(trial, link).deposit_index
    former, _ = _invoice(trial, link, index, DEPOSIT_MSAT)
    latter, _ = _invoice(trial, link, index, DEPOSIT_MSAT + 1)
    trial.require("MA-R19", latter.bolt11 != former.bolt11, "another amount gave the same invoice")
    payer = trial.bench.tools.payer
    if payer is None:
        raise Skipped(NO_PAYER)
    trial.require("MA-R14", not payer.pay(former.bolt11), "an invoice that was replaced could still be paid")
    pay(trial, latter.bolt11)


@CHECKS.on("R-W15")
def deposits_are_credited_once(trial: Trial) -> None:
    """What is paid is credited, once, to the account and to no other."""
    tenant, other = open_account(trial), open_account(trial)
    link = trial.link(tenant.identity)
    first = add_deposit(trial, link, DEPOSIT_MSAT)
    trial.require("R-W15", first.deposit_index == 1, f"the next deposit is number {first.deposit_index} after one")
    # Whoever credits again does so when it asks its daemon the next time: after the next payment.
    add_deposit(trial, link, 7)
    settled = status(trial, trial.link(tenant.identity)).deposit_msat
    trial.require("R-W15", settled == DEPOSIT_MSAT + 7, f"{settled} msat credited of {DEPOSIT_MSAT + 7} paid")
    theirs = status(trial, trial.link(other.identity)).deposit_msat
    trial.require("R-W15", theirs == 0, f"{theirs} msat credited to an account that paid nothing")


@CHECKS.on("R-R16")
def unpaid_invoices_credit_nothing(trial: Trial) -> None:
    """An invoice that nobody paid changes nothing, however often it is asked for."""
    tenant = open_account(trial)
    link = trial.link(tenant.identity)
    before = status(trial, link)
    for _ in range(3):
        _invoice(trial, link, before.deposit_index, DEPOSIT_MSAT)
    after = status(trial, link)
    same = (after.deposit_msat, after.deposit_index) == (before.deposit_msat, before.deposit_index)
    if not same:
        raise Failed("R-R16", "a deposit was credited that was not paid")
    trial.reached.add("R-R16")
