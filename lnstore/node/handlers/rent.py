"""request_invoice: rent, whose preimage is the storage proof, and deposits."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

from lnstore.books.rules import blocked_refusal
from lnstore.books.states import shrunk_for
from lnstore.node import invoicing
from lnstore.node.announcing import announce_changes
from lnstore.node.context import RequestContext
from lnstore.node.errors import Refusal
from lnstore.node.handlers.growth import deposit_invoice
from lnstore.node.limits import MAXIMUM_RENT_ATTEMPTS, MINIMUM_RENT_EXPIRY_SECONDS
from lnstore.node.proof import RentProof, prove
from lnstore.node.throttle import Work
from lnstore.ports import Account, PlannedInvoice
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.messages import InvoicePurpose, InvoiceReply, RequestInvoice
from lnstore_protocol.prices import PriceNotAgreed
from lnstore_protocol.proofs import NONCE_BYTES
from lnstore_protocol.terms import period_at, period_start


async def request_invoice(request: RequestContext, message: RequestInvoice) -> InvoiceReply:  # MA-R16, P-R7
    """The invoice for a rent period or a deposit."""
    make = _INVOICES.get(message.purpose)
    if make is None:
        raise Refusal(ErrorCode.MALFORMED, "capacity is asked for with add_capacity")
    return await make(request, message)


async def _rent_invoice(request: RequestContext, message: RequestInvoice) -> InvoiceReply:  # MA-R17, MA-R18
    period, token_index, nonce = message.period, message.token_index, message.nonce
    if period is None or token_index is None or nonce is None or len(nonce) != NONCE_BYTES:
        raise Refusal(ErrorCode.MALFORMED, "rent needs the period, the token index and a nonce of 32 bytes")
    node = request.node
    # Repeated requests wait for the first one's answer instead of reading the sample again.
    async with node.account_locks.holding(request.account_id):
        account = await announce_changes(node, await request.account())
        if account.blocked:  # RA-W3
            raise blocked_refusal()
        planned = await node.books.planned_invoice(request.account_id, InvoicePurpose.RENT, period)
        if planned is None or (planned.token_index, planned.nonce) != (token_index, nonce):
            planned = await _attempt(request, account, planned, period=period, token_index=token_index, nonce=nonce)
        return invoicing.reply(InvoiceReply, planned, await invoicing.issue(node, planned))


async def _attempt(  # MA-R25
    request: RequestContext,
    account: Account,
    former: PlannedInvoice | None,
    *,
    period: int,
    token_index: int,
    nonce: bytes,
) -> PlannedInvoice:
    """The period's first invoice, or one in the place of `former`, which the client cannot or will not pay.

    Its daemon may have lost that payment for good, or the proof may have failed for a share that is there again. What
    a new one takes is a challenge that the node did not know: a higher token index with its own nonce.
    """
    if former is not None and (token_index <= (former.token_index or 0) or nonce == former.nonce):
        raise Refusal(
            ErrorCode.NONCE_MISMATCH,
            f"rent for period {period} was asked for with another nonce or token index; the last one counts",
        )
    node = request.node
    _check_period(account, period, token_index, node.clock.now())
    if former is not None:
        if former.attempt + 1 >= MAXIMUM_RENT_ATTEMPTS:
            raise Refusal(
                ErrorCode.RATE_LIMITED,
                f"rent for period {period} was asked for with {MAXIMUM_RENT_ATTEMPTS} token indices, and no more are "
                f"answered; the invoice for index {former.token_index} can still be paid",
            )
        # Beside the few of one period, for accounts that lapse unpaid and are opened anew.
        limited = node.admission.work(Work.PROOF, request.account_id, request.network)
        if limited is not None:
            raise limited
        await invoicing.withdraw(node, former)
    ids = await node.books.leased_ids(request.account_id)
    proof = await prove(node, request.account_id, ids, nonce, token_index) if ids else _nothing_to_prove()
    planned = await node.books.plan_invoice(
        _plan(account, former, proof, node.clock.now(), period=period, token_index=token_index, nonce=nonce)
    )
    if proof.lost:
        request.log.error(
            "shares are lost", account=request.account_id, shares=len(proof.lost) // 32, of=planned.shares
        )
    return planned


def _check_period(account: Account, period: int, token_index: int, now: int) -> None:
    if period != account.next_period or period > period_at(account.anchor_at, account.period_seconds, now) + 1:
        raise Refusal(
            ErrorCode.PERIOD_REFUSED,
            f"period {period} is not due: {account.next_period} is the next unpaid one, and it is payable "
            "from the start of the period before it",
        )
    if token_index < account.token_index:
        # A higher one is the client's right: it may have revealed a nonce that never arrived here.
        raise Refusal(
            ErrorCode.PERIOD_REFUSED,
            f"the account's next token index is {account.token_index}, {token_index} is used up",
        )
    if not account.capacity_bytes:
        raise Refusal(
            ErrorCode.PERIOD_REFUSED, "this account has no capacity, so that there is nothing to pay or prove"
        )
    try:
        account.prices.for_period(period)
    except PriceNotAgreed as exc:  # R-W29
        raise Refusal(ErrorCode.PRICE_NOT_AGREED, f"{exc}; sign the change first") from exc


def _plan(  # R-W14, R-W17, R-W30
    account: Account,
    former: PlannedInvoice | None,
    proof: RentProof,
    now: int,
    *,
    period: int,
    token_index: int,
    nonce: bytes,
) -> PlannedInvoice:
    starts_at = period_start(account.anchor_at, account.period_seconds, period)
    # What the first invoice counted stays: growth since then has paid for this period by itself, and a shrink since
    # then is for a later one. At no price the
    # period is not paid for at all, and what is there now is what is proven.
    free = account.prices.for_period(period).price_msat_per_gib_month == 0
    capacity = shrunk_for(account, period).capacity_bytes if former is None or free else former.capacity_bytes
    return PlannedInvoice(
        label=invoicing.label(account.account_id, InvoicePurpose.RENT, period, token_index),
        account_id=account.account_id,
        purpose=InvoicePurpose.RENT,
        index=period,
        attempt=0 if former is None else former.attempt + 1,
        amount_msat=account.prices.rent_msat(capacity, period),
        from_at=starts_at,
        until_at=starts_at + account.period_seconds,
        capacity_bytes=capacity,
        expires_at=max(starts_at + account.grace_seconds, now + MINIMUM_RENT_EXPIRY_SECONDS),
        preimage=proof.preimage,
        nonce=nonce,
        token_index=token_index,
        shares=proof.shares,
        sample=proof.sample,
        lost=proof.lost,
    )


def _nothing_to_prove() -> RentProof:  # P-W11
    """There is nothing to prove, so the preimage is any secret."""
    return RentProof(shares=0, sample=b"", lost=b"", preimage=secrets.token_bytes(32))


_INVOICES: dict[InvoicePurpose, Callable[[RequestContext, RequestInvoice], Awaitable[InvoiceReply]]] = {
    InvoicePurpose.RENT: _rent_invoice,
    InvoicePurpose.DEPOSIT: deposit_invoice,
}
