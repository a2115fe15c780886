"""add_capacity and deposit invoices: numbered purchases whose unpaid attempts may be replaced."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from lnstore.books.rules import blocked_refusal, growth_window
from lnstore.node import invoicing
from lnstore.node.context import RequestContext
from lnstore.node.errors import Refusal
from lnstore.node.limits import (
    GROWTH_EXPIRY_SECONDS,
    GROWTH_FRESH_SECONDS,
    MAXIMUM_DEPOSIT_MSAT,
    STRANGER_GROWTH_EXPIRY_SECONDS,
)
from lnstore.node.strangers import limits_of
from lnstore.ports import Account, PlannedInvoice
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import (
    AccountState,
    AddCapacity,
    AddCapacityReply,
    InvoicePurpose,
    InvoiceReply,
    RequestInvoice,
)
from lnstore_protocol.prices import PriceNotAgreed
from lnstore_protocol.terms import Agreement


async def add_capacity(request: RequestContext, message: AddCapacity) -> AddCapacityReply:  # MA-R12, MA-R13, R-W8, R-W9
    """The invoice that raises the account's capacity to what is asked, pro rata to the end of what it has paid."""
    node = request.node
    async with node.account_locks.holding(request.account_id):
        now = node.clock.now()
        account = await request.account()
        if account.blocked:  # RA-W3
            raise blocked_refusal()
        if (given := await _given_before(request, account, message)) is not None:
            return invoicing.reply(AddCapacityReply, given, "")
        _check_growth(account, message, now)
        delta = message.capacity_bytes - account.capacity_bytes
        rent = await node.books.planned_invoice(request.account_id, InvoicePurpose.RENT, account.next_period)
        from_at, until_at = growth_window(account, rent, now)
        # An attempt that is old, or that a rent invoice made meanwhile has overtaken, would be refused by the client.
        attempt, kept = await _attempt(
            request,
            InvoicePurpose.CAPACITY,
            message.growth_index,
            wanted=lambda planned: (
                (planned.capacity_bytes, planned.until_at) == (delta, until_at)
                and from_at - planned.from_at <= GROWTH_FRESH_SECONDS
            ),
        )
        if kept is not None:
            return invoicing.reply(AddCapacityReply, kept, await invoicing.issue(node, kept))
        try:  # nothing only at no price: Lightning has no invoice over nothing, and nothing is what it is given for
            amount = account.prices.growth_msat(delta, from_at, until_at)
        except PriceNotAgreed as exc:  # R-W29
            raise Refusal(ErrorCode.PRICE_NOT_AGREED, f"{exc}; sign the change first") from exc
        planned = await node.books.plan_invoice(
            PlannedInvoice(
                label=invoicing.label(request.account_id, InvoicePurpose.CAPACITY, message.growth_index, attempt),
                account_id=request.account_id,
                purpose=InvoicePurpose.CAPACITY,
                index=message.growth_index,
                attempt=attempt,
                amount_msat=Msat(amount),
                from_at=from_at,
                until_at=until_at,
                capacity_bytes=delta,
                expires_at=now
                + (GROWTH_EXPIRY_SECONDS if account.unpaid_since_at is None else STRANGER_GROWTH_EXPIRY_SECONDS),
                preimage=secrets.token_bytes(32),
            ),
            rentable_bytes=node.config.capacity,
            limits=limits_of(node.config),
        )
        return invoicing.reply(AddCapacityReply, planned, await invoicing.issue(node, planned))


async def _given_before(  # RA-R7
    request: RequestContext, account: Account, message: AddCapacity
) -> PlannedInvoice | None:
    """The latest growth, if it was given for nothing and is asked for again: its reply may have been lost."""
    if message.growth_index != account.growth_index - 1 or message.capacity_bytes != account.capacity_bytes:
        return None
    latest = await request.node.books.planned_invoice(request.account_id, InvoicePurpose.CAPACITY, message.growth_index)
    return latest if latest is not None and latest.amount_msat == 0 else None


def _check_growth(account: Account, message: AddCapacity, now: int) -> None:
    if account.state is AccountState.GRACE or (account.capacity_bytes and account.paid_until_at <= now):
        raise Refusal(ErrorCode.IN_GRACE, "rent is overdue; pay it before you rent more")
    if message.growth_index != account.growth_index:
        raise Refusal(
            ErrorCode.PERIOD_REFUSED,
            f"the account's next growth is {account.growth_index}, not {message.growth_index}",
        )
    if account.shrink_to_bytes is not None:
        raise Refusal(
            ErrorCode.SHRINK_PLANNED,
            f"{account.shrink_to_bytes} bytes are planned from period {account.shrink_period} on; take that back by "
            f"planning {account.capacity_bytes}, then rent more",
        )
    if message.capacity_bytes <= account.capacity_bytes:
        raise Refusal(
            ErrorCode.CAPACITY_REFUSED, f"the account has {account.capacity_bytes} bytes already; ask for more in all"
        )
    if account.quota_bytes is not None and message.capacity_bytes > account.quota_bytes:  # RA-W2
        raise Refusal(
            ErrorCode.CAPACITY_REFUSED,
            f"the operator allows this account {account.quota_bytes} bytes, which more capacity would not change",
        )
    terms = Agreement.decode(account.last_agreement).terms.terms
    if not terms.minimum_capacity_bytes <= message.capacity_bytes <= terms.maximum_capacity_bytes:
        raise Refusal(
            ErrorCode.CAPACITY_REFUSED,
            f"an account rents {terms.minimum_capacity_bytes} to {terms.maximum_capacity_bytes} bytes here",
        )


async def deposit_invoice(request: RequestContext, message: RequestInvoice) -> InvoiceReply:  # MA-R16, MA-R19
    """The invoice that adds to the account's deposit."""
    node = request.node
    index, amount = message.deposit_index, message.amount_msat
    if index is None or amount is None or not 1 <= amount <= MAXIMUM_DEPOSIT_MSAT:
        raise Refusal(
            ErrorCode.MALFORMED, f"a deposit needs its index and an amount of 1 to {MAXIMUM_DEPOSIT_MSAT} msat"
        )
    async with node.account_locks.holding(request.account_id):
        now = node.clock.now()
        account = await request.account()
        if account.blocked:  # RA-W3
            raise blocked_refusal()
        if index != account.deposit_index:
            raise Refusal(
                ErrorCode.PERIOD_REFUSED, f"the account's next deposit is {account.deposit_index}, not {index}"
            )
        attempt, planned = await _attempt(
            request, InvoicePurpose.DEPOSIT, index, wanted=lambda planned: planned.amount_msat == amount
        )
        if planned is None:
            planned = await node.books.plan_invoice(
                PlannedInvoice(
                    label=invoicing.label(request.account_id, InvoicePurpose.DEPOSIT, index, attempt),
                    account_id=request.account_id,
                    purpose=InvoicePurpose.DEPOSIT,
                    index=index,
                    attempt=attempt,
                    amount_msat=amount,
                    from_at=now,
                    until_at=now,
                    capacity_bytes=0,
                    expires_at=now + GROWTH_EXPIRY_SECONDS,
                    preimage=secrets.token_bytes(32),
                )
            )
        return invoicing.reply(InvoiceReply, planned, await invoicing.issue(node, planned))


async def _attempt(
    request: RequestContext, purpose: InvoicePurpose, index: int, *, wanted: Callable[[PlannedInvoice], bool]
) -> tuple[int, PlannedInvoice | None]:
    """The number of the attempt to make, and the attempt itself if there is one that still stands.

    One that is another purchase or has expired is withdrawn at the daemon first, so that two can never be paid.
    """
    node = request.node
    latest = await node.books.planned_invoice(request.account_id, purpose, index)
    if latest is None:
        return 0, None
    if latest.credited or (wanted(latest) and node.clock.now() < latest.expires_at):
        return latest.attempt, latest
    await invoicing.withdraw(node, latest)
    return latest.attempt + 1, None
