"""Whether rent is due, and whether what a node asks for it is what we owe by our own books: no node is asked here."""

from __future__ import annotations

from lnstore.client.agreements import unsigned
from lnstore.client.money_errors import (
    InvoiceFault,
    InvoiceRefused,
    NodeUntrusted,
)
from lnstore.client.wallet_entries import Standing
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import AccountStatusReply, InvoiceReply
from lnstore_protocol.prices import PriceNotAgreed, Prices
from lnstore_protocol.stages import due_seconds
from lnstore_protocol.terms import Agreement, period_at, period_start

MAXIMUM_AHEAD = 1
"""Nodes take rent for the current period and the one after it."""


def rent_due(agreement: Agreement, status: AccountStatusReply, *, now: int, ahead: int) -> bool:  # R-R7
    """Whether the account's next period is to be paid or proven: it begins soon (DUE), or within `ahead` periods."""
    terms = agreement.terms.terms
    soon = now + due_seconds(terms.period_seconds)
    # At no price there is still something to prove.
    return status.capacity_bytes > 0 and (
        status.next_period <= period_at(agreement.anchor_at, terms.period_seconds, soon)
        or status.next_period <= period_at(agreement.anchor_at, terms.period_seconds, now) + ahead
    )


# MA-R10, R-R17, R-R18
def check_indices(agreement: Agreement, status: AccountStatusReply, ours: Standing, petname: str) -> None:
    """NodeUntrusted when the node wants a nonce that is not next, or a period that is paid already."""
    if not ours.next_proof <= status.token_index <= ours.latest_proof:
        raise NodeUntrusted(
            f"{petname} wants proof number {status.token_index}, by your own books it is number {ours.next_proof}; "
            "revealing another one would let it answer without your data, so nothing was paid. If your catalog was "
            "restored from an old copy, restore the newest; else ask the node's operator"
        )
    starts = period_start(agreement.anchor_at, agreement.terms.terms.period_seconds, status.next_period)
    if starts < ours.paid_until_at:
        raise NodeUntrusted(
            f"{petname} wants rent from a time that you have paid already; nothing was paid. Ask its operator"
        )


# MA-R9, R-R19, R-R29
def check_rent(reply: InvoiceReply, *, prices: Prices, period: int, capacity_bytes: int, petname: str) -> Msat:
    """The most that this period may cost by our own books; InvoiceRefused when it is for other times or bytes."""
    starts = period_start(prices.anchor_at, prices.period_seconds, period)
    if (reply.from_at, reply.until_at) != (starts, starts + prices.period_seconds):
        raise InvoiceRefused(
            InvoiceFault.WRONG_PERIOD,
            f"{petname} wants to be paid for other times than period {period}; nothing was paid. Ask its operator",
        )
    if reply.amount_msat and reply.capacity_bytes > capacity_bytes:
        raise InvoiceRefused(
            InvoiceFault.WRONG_CAPACITY,
            f"{petname} wants rent for {reply.capacity_bytes} bytes, you rented {capacity_bytes} there; nothing was "
            "paid. Ask its operator",
        )
    try:
        return prices.rent_msat(capacity_bytes, period)
    except PriceNotAgreed as exc:
        raise unsigned(exc, petname) from exc
