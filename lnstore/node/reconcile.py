"""The books against the Lightning daemon: every payment received was credited once, and nothing else was.

Both may change meanwhile. The daemon's list is read after the books' pay index was noted: what was credited up to there
must be in the list. What the daemon was paid after the books' pay index, as it is in the end, is still to be collected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from lnstore.errors import ExitCode, LnstoreError
from lnstore.ports import AuditBooks, Difference, Invoice, InvoiceBooks, InvoiceList, InvoiceStatus, Recorded
from lnstore_protocol.ids import Msat

PAGE = 500
"""Invoices asked of the daemon at once: some hundred KiB."""

PREFIX = "lnstore/"
"""What the labels of all invoices of lnstore begin with (invoicing.label)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What was compared, and the differences. `waiting` payments were received and are still to be credited."""

    invoices: int
    paid: int
    received_msat: Msat
    waiting: int
    waiting_msat: Msat
    differences: tuple[Difference, ...]


class LedgerDiffers(LnstoreError):
    """The books differ from the Lightning daemon's, or from themselves; each difference was named."""

    exit_code = ExitCode.DIFFERS

    def __init__(self, count: int) -> None:
        what = "a difference was" if count == 1 else f"{count} differences were"
        super().__init__(f"{what} found; docs/guides/node.md says what each kind means and what to do")


class _Books(AuditBooks, InvoiceBooks, Protocol):
    """What is needed of the books."""


async def reconcile(
    books: _Books, lightning: InvoiceList, *, deleted_are_fine: bool = False, tell: Callable[[int], None] | None = None
) -> Reconciled:
    """Compare all invoices of the daemon with the books. LightningError when the daemon does not answer.

    With `deleted_are_fine` credited invoices that the daemon does not know are passed over: its operator has it delete
    old ones. `tell` is told how many invoices were looked at.
    """
    noted = await books.pay_index()
    differences = await books.differences()
    seen: set[int] = set()
    uncredited: list[Invoice] = []
    count, received, last_index, index = 0, 0, 0, 1
    while index:
        page, index = await lightning.list_invoices(from_index=index, limit=PAGE)
        last_index = max([last_index, *(one.pay_index for one in page if one.pay_index is not None)])
        ours = [one for one in page if one.label.startswith(PREFIX)]
        recorded = await books.recorded([one.label for one in ours])
        for one in ours:
            record = recorded.get(one.label)
            count += 1
            if record is not None and record.pay_index is not None:
                seen.add(record.pay_index)
                differences += _credited_differences(one, record)
            elif one.status is InvoiceStatus.PAID:
                uncredited.append(one)
            if one.status is InvoiceStatus.PAID:
                received += one.received_msat or 0
        if tell is not None:
            tell(count)
    waiting: list[Invoice] = []
    cursor = await books.pay_index()
    for one in uncredited:
        record = (await books.recorded([one.label])).get(one.label)
        if record is not None and record.pay_index is not None:
            continue  # credited while we looked
        if (one.pay_index or 0) > cursor:
            waiting.append(one)
        else:
            differences.append(_uncredited_difference(one, record))
    if not deleted_are_fine:
        differences += await _unknown(books, noted, seen)
        if noted > last_index:
            differences.append(
                Difference(
                    "pay index",
                    str(noted),
                    f"the books have followed the daemon's payments up to number {noted}, its list ends at "
                    f"{last_index}: it has deleted invoices, or was set back to an older copy of itself, whose next "
                    "payments will be passed over",
                )
            )
    return Reconciled(
        invoices=count,
        paid=len(seen) + len(uncredited),
        received_msat=Msat(received),
        waiting=len(waiting),
        waiting_msat=Msat(sum(one.received_msat or 0 for one in waiting)),
        differences=tuple(differences),
    )


async def _unknown(books: AuditBooks, noted: int, seen: set[int]) -> list[Difference]:
    """Credited invoices, up to the pay index `noted`, that the daemon's list does not have."""
    found: list[Difference] = []
    after = 0
    while page := await books.credited_since(after, until=noted):
        after = page[-1].pay_index or noted
        found += [
            Difference(
                "unknown to the daemon",
                one.label,
                f"{one.received_msat} msat were credited for {one.label}, which the daemon does not know (any more)",
            )
            for one in page
            if one.pay_index not in seen
        ]
    return found


def _credited_differences(invoice: Invoice, record: Recorded) -> Iterator[Difference]:
    label = invoice.label
    if invoice.status is not InvoiceStatus.PAID:
        yield Difference(
            "not paid",
            label,
            f"{record.received_msat} msat were credited for {label}, which the daemon says is {invoice.status.value}",
        )
        return
    if invoice.payment_hash != record.payment_hash:
        yield Difference(
            "payment hash",
            label,
            f"{label} was paid under {invoice.payment_hash.hex()} and planned under {record.payment_hash.hex()}",
        )
    if invoice.received_msat != record.received_msat:
        yield Difference(
            "amount",
            label,
            f"{record.received_msat} msat were credited for {label}, the daemon received {invoice.received_msat} msat",
        )
    if invoice.pay_index != record.pay_index:
        yield Difference(
            "pay index",
            label,
            f"{label} was credited as payment {record.pay_index}, it is the daemon's payment {invoice.pay_index}",
        )


def _uncredited_difference(invoice: Invoice, record: Recorded | None) -> Difference:
    received = f"{invoice.received_msat} msat were received for {invoice.label} (payment {invoice.pay_index})"
    if record is None:
        return Difference(
            "no account",
            invoice.label,
            f"{received}, an invoice that these books never planned: they are older than it, or another node's",
        )
    if record.payment_hash != invoice.payment_hash:
        return Difference("payment hash", invoice.label, f"{received}, under another payment hash than was planned")
    return Difference("not credited", invoice.label, f"{received} and never credited, though later payments were")
