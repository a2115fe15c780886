"""What a node gives for nothing: growth and proofs of periods at a price of 0 (spec 05c)."""

from __future__ import annotations

from lnstore.client.catalog import NodeEntry
from lnstore.client.money_errors import InvoiceFault, InvoiceRefused
from lnstore.client.purse import Purse
from lnstore.client.wallet_entries import Offer, PaymentEntry
from lnstore_protocol.messages import InvoiceReply

PREIMAGE_BYTES = 32


def check_given(reply: InvoiceReply, petname: str) -> bytes:  # RA-R8
    """The preimage of a reply over nothing; InvoiceRefused when it is not well formed."""
    if reply.bolt11 or reply.preimage is None or len(reply.preimage) != PREIMAGE_BYTES:
        raise InvoiceRefused(
            InvoiceFault.NO_AMOUNT,
            f"{petname} takes nothing, and what it sent instead of an invoice is not well formed; nothing was paid. "
            "Ask its operator",
        )
    return reply.preimage


async def accept(purse: Purse, node: NodeEntry, offer: Offer, reply: InvoiceReply) -> PaymentEntry:
    """Write down what the node gave; the same thing given again is the same entry."""
    preimage = check_given(reply, node.petname)
    return await purse.write(purse.wallet.given, offer, preimage, purse.clock.now())
