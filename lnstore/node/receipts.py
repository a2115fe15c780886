"""A node's receipts, made from its books and key whenever they are asked for: the same bytes each time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

from lnstore.ports import Books, Credited
from lnstore_protocol.bundles import agreement_line, receipt_line
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, NodeId, ShareId
from lnstore_protocol.messages import TOKEN_BYTES
from lnstore_protocol.receipts import Receipt, sample_hash

_ENTRY = ShareId.SIZE + TOKEN_BYTES
PAGE = 256


def receipt_of(credited: Credited, node_id: NodeId) -> Receipt:  # RC-W1, RC-W6
    """What the receipt for a credited invoice says."""
    planned = credited.planned
    sample = [ShareId(planned.sample[at : at + ShareId.SIZE]) for at in range(0, len(planned.sample), _ENTRY)]
    return Receipt(
        account_id=planned.account_id,
        node_id=node_id,
        number=credited.number,
        agreement_hash=credited.agreement_hash,
        purpose=planned.purpose,
        index=planned.index,
        from_at=planned.from_at,
        until_at=planned.until_at,
        capacity_bytes=planned.capacity_bytes,
        amount_msat=planned.amount_msat,
        received_msat=credited.received_msat,
        deposited_msat=credited.deposited_msat,
        payment_hash=planned.payment_hash,
        credited_at=credited.credited_at,
        token_index=planned.token_index or 0,
        shares=planned.shares,
        sampled=len(sample),
        sample_hash=sample_hash(sample),
    )


async def bundle_pages(books: Books, node: Identity, account_id: AccountId) -> AsyncIterator[list[str]]:
    """The lines of a bundle of an account's receipts, a page at a time: its agreements, then the receipts."""
    number, total = 0, 1
    while number < total:
        total, page = await books.credited(account_id, first_number=number, limit=PAGE)
        if number == 0 and total:
            yield [agreement_line(encoded) for encoded in await books.agreements(account_id)]
        signed = await trio.to_thread.run_sync(signed_receipts, page, node)
        yield [
            receipt_line(encoded, preimage=one.planned.preimage, acknowledgement=one.acknowledgement)
            for one, encoded in zip(page, signed, strict=True)
        ]
        number += len(page)


def signed_receipts(credited: list[Credited], node: Identity) -> list[bytes]:  # RC-W2
    """Their receipts, signed."""
    node_id = NodeId(node.public_key)
    return [receipt_of(one, node_id).sign(node) for one in credited]
