"""Invoices from the plan in the books to the daemon and back: every step may be repeated after a crash.

The plan (label, preimage, amount) is committed before the daemon hears of it. A daemon that has the invoice already
gives the same one again, so a crash between plan, invoice and note of it only means that the next request does the
missing steps.
"""

from __future__ import annotations

from typing import TypeVar

from lnstore.logs import get_logger
from lnstore.node.context import NodeContext
from lnstore.node.errors import Refusal
from lnstore.node.limits import MINIMUM_RENT_EXPIRY_SECONDS
from lnstore.ports import InvoiceStatus, PlannedInvoice
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId
from lnstore_protocol.messages import InvoicePurpose, InvoiceReply

_log = get_logger("lnstore.node.invoicing")

InvoiceReplyT = TypeVar("InvoiceReplyT", bound=InvoiceReply)

_WORDS = {InvoicePurpose.RENT: "rent", InvoicePurpose.CAPACITY: "capacity", InvoicePurpose.DEPOSIT: "deposit"}


def label(account_id: AccountId, purpose: InvoicePurpose, index: int, attempt: int) -> str:  # R-W14
    """The invoice's label at the daemon.

    For rent the token index takes the place of the attempt: an account that lapsed and was opened anew counts its
    periods from 0 again, but not its token indices.
    """
    return f"lnstore/{account_id.hex()}/{_WORDS[purpose]}/{index}/{attempt}"


async def issue(node: NodeContext, planned: PlannedInvoice) -> str:  # R-W14, V-W6
    """The BOLT11 string of a planned invoice, made at the daemon unless it is there.

    An unpaid invoice that has expired at the daemon is made again with the same preimage: the node did not evict the
    account, so it must be able to pay. LightningUnavailable when the daemon does not answer.
    """
    if planned.amount_msat == 0:
        return ""  # RA-W9: given for nothing, and no daemon hears of it
    now = node.clock.now()
    if planned.bolt11 is not None and (planned.credited or now < planned.expires_at):
        return planned.bolt11
    if planned.credited:
        raise _was_paid(planned)
    node.binding.require_confirmed()
    if planned.bolt11 is not None:
        invoice = await node.lightning.find_invoice(planned.label)
        if invoice is not None and invoice.status is not InvoiceStatus.EXPIRED:
            return invoice.bolt11
        if invoice is not None and not await node.lightning.delete_invoice(planned.label, InvoiceStatus.EXPIRED):
            return planned.bolt11
    made = await node.lightning.create_invoice(
        label=planned.label,
        amount_msat=planned.amount_msat,
        description=f"lnstore {_WORDS[planned.purpose]} {planned.index} at node {node.node_id.hex()[:16]}",
        expires_in_seconds=max(MINIMUM_RENT_EXPIRY_SECONDS, planned.expires_at - now),
        preimage=planned.preimage,
    )
    await node.books.issued(planned.label, made.bolt11)
    _log.info(
        "invoice made",
        account=planned.account_id,
        purpose=_WORDS[planned.purpose],
        index=planned.index,
        amount_msat=planned.amount_msat,
        payment_hash=made.payment_hash,
    )
    return made.bolt11


async def withdraw(node: NodeContext, planned: PlannedInvoice) -> None:  # MA-R14
    """Make sure that a former attempt can no longer be paid; Refusal when it was paid.

    It is crossed out in the books first: after a crash between the two deletions a repeated request has it made again,
    instead of being told an invoice that the daemon no longer knows.
    """
    node.binding.require_confirmed()
    await node.books.withdrawing(planned.label)
    for status in (InvoiceStatus.UNPAID, InvoiceStatus.EXPIRED):
        if await node.lightning.delete_invoice(planned.label, status):
            return
    if await node.lightning.find_invoice(planned.label) is not None:
        raise _was_paid(planned)


def _was_paid(planned: PlannedInvoice) -> Refusal:
    return Refusal(
        ErrorCode.PERIOD_REFUSED,
        f"the invoice of {_WORDS[planned.purpose]} {planned.index} was paid; ask for the account's status",
    )


def reply(kind: type[InvoiceReplyT], planned: PlannedInvoice, bolt11: str) -> InvoiceReplyT:
    """What the client is told of an invoice."""
    return kind(
        bolt11=bolt11,
        amount_msat=planned.amount_msat,
        from_at=planned.from_at,
        until_at=planned.until_at,
        capacity_bytes=planned.capacity_bytes,
        shares=planned.shares,
        sample=planned.sample,
        lost=planned.lost,
        preimage=None if planned.amount_msat else planned.preimage,
    )
