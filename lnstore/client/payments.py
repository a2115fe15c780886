"""The one way money leaves: check the invoice, write the intent down, pay, write the outcome down.

A crash at any point changes nothing. Before the intent nothing was paid. After it, `resolve_open` asks the daemon, at
the start of every command that touches money, what became of the payment. While a payment is open its invoice is the
only one that is ever paid for that node, purpose and index, and a daemon pays one invoice once: nothing is paid twice.
"""

from __future__ import annotations

from dataclasses import fields
from functools import partial

from lnstore.client.budgets import check_budgets
from lnstore.client.catalog import NodeEntry
from lnstore.client.money_errors import (
    InvoiceFault,
    InvoiceLost,
    InvoiceRefused,
    NodeUntrusted,
    PaymentFailed,
    PaymentOpen,
)
from lnstore.client.purse import Purse
from lnstore.client.wallet_entries import Intent, Offer, PaymentEntry
from lnstore.ports import DecodedInvoice, LightningRefused, Outcome, Payment
from lnstore_protocol.ids import LightningId, Msat, PaymentHash
from lnstore_protocol.messages import InvoicePurpose

PAY_SECONDS = 60
"""How long the daemon may look for a way to pay before it gives up."""

ATTEMPT_SECONDS = 2 * PAY_SECONDS
"""After this long an attempt whose caller died is over; until then "no such payment" may only mean "not yet"."""

MINIMUM_LEFT_SECONDS = 30
"""An invoice that expires sooner is not paid any more."""

MINIMUM_FEE_MSAT = 1000
"""Routing fees of 1 sat are allowed whatever the percentage says, since fees have a fixed part."""


# --- what an invoice must be ----------------------------------------------------------------------------------------


def max_fee_msat(amount_msat: int, percent: int) -> Msat:
    """The most that routing this amount may cost."""
    return Msat(max(MINIMUM_FEE_MSAT, amount_msat * percent // 100))


def check_invoice(  # R-R11, R-R12, R-R13, R-R14
    invoice: DecodedInvoice,
    *,
    payee: LightningId,
    network: str,
    stated_msat: int,
    limit_msat: int,
    payment_hash: PaymentHash | None,
    now: int,
) -> Msat:
    """The invoice's amount, if it may be paid; InvoiceRefused says which check failed.

    `stated_msat` is what the node's reply says of it, `limit_msat` what the client computed itself, `payment_hash` what
    the client's own preimage hashes to (None: nothing to prove), `now` the time by the system's clock.
    """
    if invoice.payee != payee:
        raise InvoiceRefused(
            InvoiceFault.WRONG_PAYEE,
            f"the invoice pays {invoice.payee.hex()}, not the node's own Lightning key {payee.hex()}; nothing was "
            "paid. If the operator has moved to another Lightning node, run `lnstore nodes add` with the address again",
        )
    if invoice.network != network:
        raise InvoiceRefused(
            InvoiceFault.WRONG_NETWORK,
            f"the invoice is for the {invoice.network} network, your daemon is on {network}; nothing was paid. "
            "Use a node on the same network",
        )
    if not invoice.amount_msat:
        raise InvoiceRefused(
            InvoiceFault.NO_AMOUNT, "the invoice names no amount; nothing was paid. Ask the node's operator"
        )
    if invoice.amount_msat > limit_msat:
        raise InvoiceRefused(
            InvoiceFault.OVERPRICED,
            f"the invoice asks for {invoice.amount_msat} msat where {limit_msat} msat are due; nothing was paid. "
            "Ask the node's operator, or use another node",
        )
    if invoice.amount_msat != stated_msat:
        raise InvoiceRefused(
            InvoiceFault.AMOUNT_DIFFERS,
            f"the node speaks of {stated_msat} msat, its invoice of {invoice.amount_msat}; nothing was paid. "
            "Ask the node's operator",
        )
    if payment_hash is not None and invoice.payment_hash != payment_hash:
        raise InvoiceRefused(
            InvoiceFault.WRONG_HASH,
            "the invoice is not locked to the proof over your shares; nothing was paid. Find what is lost with: "
            "lnstore check --verify",
        )
    if invoice.expires_at < now + MINIMUM_LEFT_SECONDS:
        raise InvoiceRefused(
            InvoiceFault.EXPIRED,
            "the invoice has expired or is about to; nothing was paid. Run the command again, and check that both "
            "machines' clocks are right if that does not help",
        )
    return invoice.amount_msat


# --- paying ---------------------------------------------------------------------------------------------------------


async def decode_invoice(purse: Purse, bolt11: str) -> DecodedInvoice:  # R-R10
    """What the invoice says, read by our own daemon; InvoiceRefused(UNREADABLE) when it is none."""
    try:
        return await purse.lightning.decode(bolt11)
    except LightningRefused as refused:
        raise InvoiceRefused(
            InvoiceFault.UNREADABLE,
            f"the node sent something that is not a valid invoice ({refused.message}); nothing was paid. "
            "Ask the node's operator",
        ) from refused


async def pay_invoice(  # M-R20, R-R15
    purse: Purse, node: NodeEntry, offer: Offer, *, limit_msat: Msat, payment_hash: PaymentHash | None = None
) -> PaymentEntry:
    """Check and pay a node's invoice, once; the settled payment.

    `limit_msat` is the client's own computation; `payment_hash`, where there is a proof, what its preimage hashes to.
    InvoiceRefused, BudgetExceeded, PaymentFailed, InvoiceLost, PaymentOpen; LightningUnavailable only before anything
    was paid.
    """
    if node.lightning_id is None:
        raise NodeUntrusted(f"the Lightning key of {node.petname} is not known; run: lnstore nodes add {node.address}")
    invoice = await decode_invoice(purse, offer.bolt11)
    check_invoice(
        invoice,
        payee=node.lightning_id,
        network=(await purse.daemon()).network,
        stated_msat=offer.amount_msat,
        limit_msat=limit_msat,
        payment_hash=payment_hash,
        now=purse.invoice_clock.now(),
    )
    intent = Intent(**{f.name: getattr(offer, f.name) for f in fields(Offer)}, payment_hash=invoice.payment_hash)
    entry = await _intend(purse, intent)
    return await _attempt(purse, node, entry, first=True)


def check_affordable(purse: Purse, node: NodeEntry, amount_msat: int) -> None:
    """BudgetExceeded when a payment of so much would be refused now; told before other steps are taken for it.

    Whether it is made is decided where it is written down.
    """
    most = amount_msat + max_fee_msat(amount_msat, purse.config.maximum_fee_percent) if amount_msat else 0
    check_budgets(purse.catalog, purse.budgets, node.node_id, most, purse.clock.now())


async def _intend(purse: Purse, intent: Intent) -> PaymentEntry:
    fee_limit = max_fee_msat(intent.amount_msat, purse.config.maximum_fee_percent)
    write = partial(purse.wallet.intend, fee_limit_msat=fee_limit, budgets=purse.budgets)
    return await purse.write(write, intent, purse.clock.now())


async def resume(purse: Purse, node: NodeEntry, entry: PaymentEntry) -> PaymentEntry:
    """Carry an open payment on: by its own invoice, which the daemon pays at most once. Errors as `pay_invoice`."""
    payment = await _what_became_of(purse, entry)
    entry = await purse.write(purse.wallet.record, entry.payment_id, payment, purse.clock.now())
    if entry.state is Outcome.SETTLED:
        return entry
    if payment.unpayable:
        raise await _lost(purse, node, entry)
    if entry.state is Outcome.FAILED:
        raise PaymentFailed(
            f"an earlier payment of {entry.amount_msat} msat to {node.petname} failed; run the command again"
        )
    invoice = await decode_invoice(purse, entry.bolt11)
    if entry.state is Outcome.PENDING or invoice.expires_at < purse.invoice_clock.now() + MINIMUM_LEFT_SECONDS:
        raise _still_open(node, entry, payment.reason)
    entry = await _intend(purse, entry)
    return await _attempt(purse, node, entry, first=False)


async def know(purse: Purse, node: NodeEntry, entry: PaymentEntry) -> PaymentEntry:
    """The payment with its outcome; PaymentOpen, with the daemon's reason, while that is not known."""
    payment = await _what_became_of(purse, entry)
    entry = await purse.write(purse.wallet.record, entry.payment_id, payment, purse.clock.now())
    if entry.open:
        raise _still_open(node, entry, payment.reason)
    return entry


async def resolve(purse: Purse, entry: PaymentEntry) -> PaymentEntry:
    """Ask the daemon what became of an open payment and write it down; it may still be open after that."""
    payment = await _what_became_of(purse, entry)
    return await purse.write(purse.wallet.record, entry.payment_id, payment, purse.clock.now())


async def _what_became_of(purse: Purse, entry: PaymentEntry) -> Payment:
    payment = await purse.lightning.payment(entry.bolt11)
    over = purse.clock.now() >= entry.created_at + ATTEMPT_SECONDS
    if payment.outcome is Outcome.FAILED and not over and not payment.unpayable:
        # The daemon lists nothing, but it may not have come to an attempt that a caller since dead asked for.
        return Payment(Outcome.UNKNOWN)
    return payment


async def resolve_open(purse: Purse) -> list[PaymentEntry]:  # R-W13
    """Resolve all open payments; those that are still open. For the start of every command that touches money."""
    resolved = [await resolve(purse, entry) for entry in purse.wallet.open_payments()]
    return [entry for entry in resolved if entry.open]


async def _attempt(purse: Purse, node: NodeEntry, entry: PaymentEntry, *, first: bool) -> PaymentEntry:
    payment = await purse.lightning.pay(
        entry.bolt11,
        max_fee_msat=max_fee_msat(entry.amount_msat, purse.config.maximum_fee_percent),
        retry_for_seconds=PAY_SECONDS,
    )
    written = payment
    if payment.outcome is Outcome.FAILED and not first and not payment.unpayable:
        # This attempt is over, but an earlier one, interrupted, may not be: `resolve` closes it when its time is up.
        written = Payment(Outcome.UNKNOWN)
    entry = await purse.write(purse.wallet.record, entry.payment_id, written, purse.clock.now())
    if payment.unpayable:
        raise await _lost(purse, node, entry)
    match payment.outcome:
        case Outcome.SETTLED:
            return entry
        case Outcome.FAILED:
            raise PaymentFailed(
                f"paying {entry.amount_msat} msat to {node.petname} failed: {payment.reason or 'no reason given'}; "
                f"nothing was paid. Is there a channel with enough to spend? lnstore channel ls; or open one: "
                f"lnstore channel open {node.petname}"
            )
        case Outcome.PENDING | Outcome.UNKNOWN:
            raise _still_open(node, entry, payment.reason)


async def _lost(purse: Purse, node: NodeEntry, entry: PaymentEntry) -> InvoiceLost:
    invoice = await decode_invoice(purse, entry.bolt11)
    minutes = max(1, -(-(invoice.expires_at - purse.invoice_clock.now()) // 60))
    # Rent is asked for with the next challenge; of growth and deposits a node has one invoice at a time.
    advice = (
        "run the command again: the node is asked for another"
        if entry.purpose is InvoicePurpose.RENT
        else f"the node makes another once it has expired: run the command again in {minutes} minutes"
    )
    return InvoiceLost(
        f"your Lightning daemon died when it was about to pay {entry.amount_msat} msat to {node.petname}; nothing was "
        f"paid, and it will never pay this invoice; {advice}"
    )


def _still_open(node: NodeEntry, entry: PaymentEntry, reason: str) -> PaymentOpen:
    state = "on its way" if entry.state is Outcome.PENDING else "of unknown outcome"
    return PaymentOpen(
        f"the payment of {entry.amount_msat} msat to {node.petname} is {state}{f' ({reason})' if reason else ''}; "
        "run the command again in a few minutes: the payment is settled from your daemon's own list, and nothing is "
        "paid twice"
    )
