"""Receipts of what we paid: fetched, compared with our own books, kept for years, and acknowledged.

A node makes its receipts from its books whenever it is asked, so nothing depends on when that is: whatever was cut
short is made up for the next time. What a node signed is kept even when it is wrong: it is evidence. What is wrong with
a receipt is worked out each time it is looked at, since our own daemon may tell us of a payment later than the node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lnstore.client.catalog import Catalog, NodeEntry
from lnstore.client.purse import Purse
from lnstore.client.wallet import Wallet
from lnstore.client.wallet_entries import PaymentEntry
from lnstore.errors import LnstoreError
from lnstore.ports import Outcome
from lnstore_protocol.bundles import agreement_line, receipt_line
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import NodeId
from lnstore_protocol.messages import (
    RECEIPTS_AT_ONCE,
    GetReceipts,
    GetReceiptsReply,
    PutReceipts,
    PutReceiptsReply,
)
from lnstore_protocol.receipts import Acknowledgement, Receipt, join, receipt_faults, split
from lnstore_protocol.terms import Agreement

PAGES_AT_ONCE = 64
"""The most pages of receipts that one look fetches: 4,096 receipts, more than 100 years of months and growths."""

CREDITED_WITHIN_SECONDS = 600
"""A settled payment has a receipt by then, or its lack is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A receipt as the catalog keeps it. `faults` is what is wrong with it, by its agreements and our own books.

    `open` says that our own daemon has not told what became of the payment: nothing is judged until then.
    """

    node_id: NodeId
    encoded: bytes = field(repr=False)
    receipt: Receipt
    payment: PaymentEntry | None
    faults: tuple[str, ...]
    acknowledgement: bytes | None = field(repr=False)
    acknowledged: bool

    @property
    def open(self) -> bool:
        """Whether it can not be judged yet."""
        return self.payment is not None and self.payment.open


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a look for a node's receipts brought: how many are new, and what is to be told of, a sentence each."""

    node: NodeEntry
    new: int
    warnings: tuple[str, ...]


# --- the catalog's part ---------------------------------------------------------------------------------------------


def agreements(catalog: Catalog, node_id: NodeId) -> list[Agreement]:
    """All agreements there ever were with the node, signed by both."""
    rows = catalog.rows("SELECT encoded FROM agreements WHERE node_id = ? ORDER BY rowid", (bytes(node_id),))
    return [Agreement.decode(encoded) for (encoded,) in rows]


def kept(catalog: Catalog, node_id: NodeId) -> list[Kept]:
    """The node's receipts by number, judged."""
    agreed = agreements(catalog, node_id)
    payments = {entry.payment_hash: entry for entry in Wallet(catalog).payments(node_id)}
    rows = catalog.rows(
        "SELECT encoded, acknowledgement, acknowledged FROM receipts WHERE node_id = ? ORDER BY number",
        (bytes(node_id),),
    )
    found = []
    for encoded, acknowledgement, acknowledged in rows:
        receipt = Receipt.decode(encoded)
        payment = payments.get(receipt.payment_hash)
        found.append(
            Kept(
                node_id=node_id,
                encoded=encoded,
                receipt=receipt,
                payment=payment,
                faults=tuple(receipt_faults(receipt, agreed) + own_faults(receipt, payment)),
                acknowledgement=acknowledgement,
                acknowledged=bool(acknowledged),
            )
        )
    return found


def own_faults(receipt: Receipt, payment: PaymentEntry | None) -> list[str]:  # RC-R7
    """How a receipt differs from our own record of the payment, a sentence each."""
    if payment is None and receipt.given:
        return []  # a proof at no price whose answer never arrived, or failed: never acknowledged
    if payment is None:
        return ["it is for a payment that your own books do not have"]
    if payment.open:
        return []
    if payment.state is not Outcome.SETTLED:
        return ["it is for a payment that your own daemon says was not made"]
    faults = [
        f"it says {name.replace('_', ' ')} {said}, your own books {own}"
        for name, said, own in (
            ("purpose", receipt.purpose.name, payment.purpose.name),
            ("number", receipt.index, payment.index),
            ("from_at", receipt.from_at, payment.from_at),
            ("until_at", receipt.until_at, payment.until_at),
            ("capacity_bytes", receipt.capacity_bytes, payment.capacity_bytes),
            ("amount_msat", receipt.amount_msat, payment.amount_msat),
            ("token_index", receipt.token_index, payment.token_index or 0),
            ("shares", receipt.shares, payment.shares),
            ("sampled", receipt.sampled, payment.sampled),
            ("sample", receipt.sample_hash.hex(), payment.sample_hash.hex()),
        )
        if said != own
    ]
    if receipt.received_msat < payment.amount_msat:
        faults.append(f"it says that {receipt.received_msat} msat arrived of the {payment.amount_msat} msat you paid")
    elif not receipt.served:
        faults.append("it says that the payment came too late for what it was for, and became deposit as a whole")
    return faults


def lacking(catalog: Catalog, node_id: NodeId, now: int) -> list[PaymentEntry]:
    """Payments to the node that settled a while ago and have no receipt; what was given for nothing has none."""
    have = {
        Receipt.decode(encoded).payment_hash
        for (encoded,) in catalog.rows("SELECT encoded FROM receipts WHERE node_id = ?", (bytes(node_id),))
    }
    return [
        entry
        for entry in Wallet(catalog).payments(node_id)
        if entry.state is Outcome.SETTLED
        and entry.amount_msat
        and entry.payment_hash not in have
        and (entry.settled_at or 0) + CREDITED_WITHIN_SECONDS <= now
    ]


def something_to_do(catalog: Catalog, node_id: NodeId) -> bool:
    """Whether the node may have receipts that we have not, or has not taken an acknowledgement of one."""
    ((settled,),) = catalog.rows(
        "SELECT count(*) FROM payments WHERE node_id = ? AND state = ?",
        (bytes(node_id), Outcome.SETTLED.value),
    )
    ((have, acknowledged),) = catalog.rows(
        "SELECT count(*), coalesce(sum(acknowledged), 0) FROM receipts WHERE node_id = ?", (bytes(node_id),)
    )
    return bool(settled > have or have > acknowledged)


def bundle_lines(catalog: Catalog, node_id: NodeId) -> Iterator[str]:  # RC-W4
    """The lines of a bundle of the node's receipts: all agreements, then the receipts with all that shows they hold."""
    held = kept(catalog, node_id)
    if held:
        yield from (agreement_line(agreement.encoded) for agreement in agreements(catalog, node_id))
    for one in held:
        preimage = one.payment.preimage if one.payment is not None else None
        yield receipt_line(one.encoded, preimage=preimage, acknowledgement=one.acknowledgement)


def _keep(catalog: Catalog, node_id: NodeId, encoded: Sequence[bytes], now: int) -> None:
    with catalog.transaction() as db:
        for one in encoded:
            db.execute(
                "INSERT INTO receipts (node_id, number, encoded, received_at) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                (bytes(node_id), Receipt.decode(one).number, one, now),
            )


def _sign(purse: Purse, node_id: NodeId, now: int) -> list[Kept]:  # RC-W3
    """Those that are right and not acknowledged at the node yet, signed: written down before they are sent."""
    with purse.catalog.transaction() as db:
        for one in kept(purse.catalog, node_id):
            if one.acknowledgement is None and one.payment is not None and not one.faults and not one.open:
                db.execute(
                    "UPDATE receipts SET acknowledgement = ? WHERE node_id = ? AND number = ?",
                    (
                        Acknowledgement.of(one.encoded, now).sign(purse.identity),
                        bytes(node_id),
                        one.receipt.number,
                    ),
                )
    return [one for one in kept(purse.catalog, node_id) if one.acknowledgement is not None and not one.acknowledged]


def _acknowledged(catalog: Catalog, node_id: NodeId, numbers: Sequence[int]) -> None:
    with catalog.transaction() as db:
        db.executemany(
            "UPDATE receipts SET acknowledged = 1 WHERE node_id = ? AND number = ?",
            [(bytes(node_id), number) for number in numbers],
        )


# --- the node's part ------------------------------------------------------------------------------------------------


async def collect(purse: Purse, node: NodeEntry) -> Collected:
    """Fetch the receipts that are new, judge all, send what is acknowledged. A node that fails is told of, not raised.

    Any LnstoreError of the connection or the node becomes a warning: nothing of money depends on receipts.
    """
    warnings: list[str] = []
    new = 0
    try:
        new = await _fetch(purse, node)
        await _acknowledge(purse, node)
    except (LnstoreError, RemoteProtocolError) as exc:
        warnings.append(f"{node.petname} does not give its receipts as it should: {exc}")
    warnings += [
        f"receipt {one.receipt.number} of {node.petname} is wrong: {'; '.join(one.faults)}"
        for one in await purse.write(kept, purse.catalog, node.node_id)
        if one.faults
    ]
    missing = await purse.write(lacking, purse.catalog, node.node_id, purse.clock.now())
    if missing:
        sum_msat = sum(entry.amount_msat for entry in missing)
        warnings.append(f"{node.petname} gives no receipt for {len(missing)} of your payments ({sum_msat} msat)")
    return Collected(node=node, new=new, warnings=tuple(warnings))


async def collect_if_needed(purse: Purse, node: NodeEntry) -> tuple[str, ...]:
    """What `collect` warns of, where there is something to collect; for the end of what pays."""
    if not await purse.write(something_to_do, purse.catalog, node.node_id):
        return ()
    return (await collect(purse, node)).warnings


async def _fetch(purse: Purse, node: NodeEntry) -> int:
    new = 0
    for _ in range(PAGES_AT_ONCE):
        number = await purse.write(_next_number, purse.catalog, node.node_id)
        request = GetReceipts(first_number=number, limit=RECEIPTS_AT_ONCE)
        reply = await purse.ask(node, request, GetReceiptsReply)
        page = split(reply.payload)
        for at, encoded in enumerate(page, number):
            receipt = Receipt.decode(encoded)
            if (receipt.account_id, receipt.node_id, receipt.number) != (purse.account_id, node.node_id, at):
                raise RemoteProtocolError(f"it sent another receipt in the place of number {at}")
        await purse.write(_keep, purse.catalog, node.node_id, page, purse.clock.now())
        new += len(page)
        if number + len(page) >= reply.total:
            break
        if not page:
            raise RemoteProtocolError(f"it says that there are {reply.total} receipts and gives only {number}")
    return new


def _next_number(catalog: Catalog, node_id: NodeId) -> int:
    ((number,),) = catalog.rows(
        "SELECT coalesce(max(number), -1) + 1 FROM receipts WHERE node_id = ?", (bytes(node_id),)
    )
    return int(number)


async def _acknowledge(purse: Purse, node: NodeEntry) -> None:
    due = await purse.write(_sign, purse, node.node_id, purse.clock.now())
    for start in range(0, len(due), RECEIPTS_AT_ONCE):
        batch = due[start : start + RECEIPTS_AT_ONCE]
        words = [one.acknowledgement for one in batch if one.acknowledgement is not None]
        await purse.ask(node, PutReceipts(payload=join(words)), PutReceiptsReply)
        numbers = [one.receipt.number for one in batch]
        await purse.write(_acknowledged, purse.catalog, node.node_id, numbers)
