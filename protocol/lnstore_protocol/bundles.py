"""Bundles of receipts: writing their lines, and checking them without any node (spec 05b).

A bundle is read line by line, so that years of many accounts need no memory. Receipts stand by account in ascending
number, each agreement before the first receipt under it; an agreement is forgotten when another account begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any

from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import AccountId, NodeId
from lnstore_protocol.messages import InvoicePurpose
from lnstore_protocol.prices import Prices
from lnstore_protocol.receipts import (
    Acknowledgement,
    Receipt,
    acknowledgement_faults,
    agreement_hash,
    receipt_faults,
)
from lnstore_protocol.terms import GIB, Agreement, period_at

HEADER = '{"lnstore_receipts": 1}'
MAX_LINE_CHARACTERS = 32_768
"""The longest line that is read: an agreement has at most 8 KiB."""

MAX_FINDINGS = 1_000
"""Findings that are kept; the rest are counted."""


def agreement_line(encoded: bytes) -> str:
    """The line for an agreement signed by both."""
    return json.dumps({"agreement": encoded.hex()})


def receipt_line(
    receipt: bytes, *, preimage: bytes | None = None, acknowledgement: bytes | None = None
) -> str:  # RC-W4
    """The line for a signed receipt, with the payment's preimage and the client's acknowledgement where known."""
    parts = {"receipt": receipt, "preimage": preimage, "acknowledgement": acknowledgement}
    return json.dumps({name: value.hex() for name, value in parts.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a bundle: where (None: not of one account or receipt) and what."""

    text: str
    line: int
    node_id: NodeId | None = None
    account_id: AccountId | None = None
    number: int | None = None


@dataclass(slots=True, kw_only=True)
class Series:
    """What a bundle's receipts of one account at one node add up to.

    `covered_from_at` to `covered_until_at` is the time that rent and first growths paid for; `proofs` counts the
    periods whose proof covers shares, `preimages` and `acknowledged` the receipts shown with one. Within that time
    `uncharged_periods` have a price, and the node took nothing for them.
    """

    node_id: NodeId
    account_id: AccountId
    receipts: int = 0
    periods: int = 0
    proofs: int = 0
    preimages: int = 0
    acknowledged: int = 0
    rent_msat: int = 0
    capacity_msat: int = 0
    deposit_msat: int = 0
    uncharged_periods: int = 0
    covered_from_at: int | None = None
    covered_until_at: int | None = None
    next_number: int = 0
    anchor_at: int | None = None


class BundleCheck:
    """Takes a bundle line by line; what it found so far is in `series` and `findings`.

    `notes` are to be told, and nothing is wrong with them.
    """

    def __init__(self) -> None:
        self.series: list[Series] = []
        self.findings: list[Finding] = []
        self.notes: list[Finding] = []
        self.found = 0
        self._line = 0
        self._agreements: dict[bytes, Agreement] = {}
        self._seen: set[tuple[NodeId, AccountId]] = set()

    def feed(self, lines: Iterable[str]) -> None:  # RC-R8
        """Check these lines; a finding for each that is no line of a bundle, too."""
        for line in lines:
            self._line += 1
            for text in self._check(line):
                self._find(text)

    def finish(self) -> None:
        """The bundle ends here: one that never began is a finding."""
        if self._line == 0:
            self._find("the file is empty; it is no bundle of receipts")

    def _find(self, text: str, receipt: Receipt | None = None) -> None:
        self.found += 1
        self._enter(self.findings, text, receipt)

    def _enter(self, findings: list[Finding], text: str, receipt: Receipt | None) -> None:
        if len(findings) < MAX_FINDINGS:
            at = (None, None, None) if receipt is None else (receipt.node_id, receipt.account_id, receipt.number)
            findings.append(Finding(text, self._line, *at))

    def _note_uncharged(self, series: Series, receipt: Receipt, gap: range, prices: Prices) -> None:  # RC-R9
        """Between two receipts whose numbers follow each other: the node asked for nothing then, or gave it."""
        for first, until in _priced(gap, prices):
            series.uncharged_periods += until - first
            periods = f"period {first}" if until == first + 1 else f"periods {first} to {until - 1}"
            text = f"the node took nothing for {periods}, and nothing is shown to have been proven"
            self._enter(self.notes, text, receipt)

    def _check(self, line: str) -> Iterator[str]:
        if self._line == 1:
            if line.strip() != HEADER:
                yield "the first line is not that of a bundle of receipts"
            return
        values = _values(line)
        if values is None:
            yield "this is not a line of a bundle of receipts"
        elif "agreement" in values:
            yield from self._take_agreement(values["agreement"])
        else:
            yield from self._take_receipt(values)

    def _take_agreement(self, encoded: bytes) -> Iterator[str]:
        try:
            agreement = Agreement.decode(encoded)
        except RemoteProtocolError as exc:
            yield str(exc)
            return
        parties = (agreement.terms.terms.node_id, agreement.account_id)
        if any((one.terms.terms.node_id, one.account_id) != parties for one in self._agreements.values()):
            self._agreements = {}
        self._agreements[agreement_hash(encoded)] = agreement

    def _take_receipt(self, values: dict[str, bytes]) -> Iterator[str]:
        encoded = values["receipt"]
        try:
            receipt = Receipt.decode(encoded)
        except RemoteProtocolError as exc:
            yield str(exc)
            return
        series = self._series_of(receipt)
        for text in self._receipt_faults(series, receipt, values):
            self._find(text, receipt)
        series.receipts += 1
        series.proofs += receipt.sampled > 0
        series.preimages += "preimage" in values
        series.acknowledged += "acknowledgement" in values
        name = f"{receipt.purpose.name.lower()}_msat"
        setattr(series, name, getattr(series, name) + receipt.received_msat)

    def _series_of(self, receipt: Receipt) -> Series:
        last = self.series[-1] if self.series else None
        if last is not None and (last.node_id, last.account_id) == (receipt.node_id, receipt.account_id):
            return last
        series = Series(node_id=receipt.node_id, account_id=receipt.account_id)
        if (receipt.node_id, receipt.account_id) in self._seen:
            self._find("receipts of this account stand in two places of the bundle", receipt)
        self._seen.add((receipt.node_id, receipt.account_id))
        self.series.append(series)
        return series

    def _receipt_faults(self, series: Series, receipt: Receipt, values: dict[str, bytes]) -> Iterator[str]:
        if receipt.number > series.next_number:
            left_out = receipt.number - series.next_number
            yield f"{left_out} receipt{'s' if left_out > 1 else ''} before it are left out"
        elif receipt.number < series.next_number:
            yield "a receipt of this or a greater number stands before it"
        series.next_number = receipt.number + 1
        yield from receipt_faults(receipt, list(self._agreements.values()))
        agreement = self._agreements.get(receipt.agreement_hash)
        if agreement is not None:
            under = [one for one in self._agreements.values() if one.anchor_at == agreement.anchor_at]
            with suppress(ValueError):  # agreements that exclude each other: receipt_faults says so
                self._note_uncharged(series, receipt, _gap(series, receipt, agreement), Prices.of(under))
                yield from _coverage_faults(series, receipt, agreement)
        preimage = values.get("preimage")
        if preimage is not None and sha256(preimage).digest() != receipt.payment_hash:
            yield "the preimage is not that of its payment hash"
        if "acknowledgement" in values:
            try:
                acknowledgement = Acknowledgement.decode(values["acknowledgement"])
            except RemoteProtocolError as exc:
                yield str(exc)
            else:
                yield from acknowledgement_faults(acknowledgement, receipt, values["receipt"])


def _gap(series: Series, receipt: Receipt, agreement: Agreement) -> range:
    """The periods that neither the receipts before nor this one cover; a growth does not, where it is not the first."""
    until_at = series.covered_until_at
    if receipt.purpose is InvoicePurpose.DEPOSIT or not receipt.served:
        return range(0)
    if series.anchor_at != agreement.anchor_at or until_at is None:
        return range(0)
    first, until = (
        period_at(agreement.anchor_at, agreement.terms.terms.period_seconds, at) for at in (until_at, receipt.until_at)
    )
    return range(first, receipt.index if receipt.purpose is InvoicePurpose.RENT else until)


def _priced(gap: range, prices: Prices) -> Iterator[tuple[int, int]]:
    """Of those periods the ones that have a price, from the first on and up to the second."""
    steps = (step.from_period for step in prices.steps if step.from_period in gap)
    for first, until in pairwise(sorted({gap.start, *steps, gap.stop})):
        if first in gap and prices.owes(GIB, first):
            yield first, until


def _coverage_faults(series: Series, receipt: Receipt, agreement: Agreement) -> Iterator[str]:
    if receipt.purpose is InvoicePurpose.DEPOSIT or not receipt.served:
        return
    if series.anchor_at != agreement.anchor_at:  # opened anew after a lapse: the time between was not rented
        series.anchor_at, series.covered_until_at = agreement.anchor_at, None
    until_at = series.covered_until_at
    if receipt.purpose is InvoicePurpose.CAPACITY:
        # Only growth of an account that has nothing pays for its time as a whole.
        covers = until_at is None or receipt.from_at >= until_at
    else:
        covers = True
        series.periods += 1
        if until_at is not None and receipt.from_at < until_at:
            yield f"period {receipt.index} is paid twice"
    if covers:
        if series.covered_from_at is None:
            series.covered_from_at = receipt.from_at
        series.covered_until_at = max(until_at or 0, receipt.until_at)


def _values(line: str) -> dict[str, bytes] | None:
    """The bytes of a line by name; None when it is no line of a bundle."""
    if len(line) > MAX_LINE_CHARACTERS:
        return None
    try:
        found: Any = json.loads(line)
        values = {str(name): bytes.fromhex(text) for name, text in found.items()}
    except (ValueError, AttributeError, TypeError, RecursionError):
        return None
    return values if set(values) == {"agreement"} or "receipt" in set(values) <= _OF_RECEIPTS else None


_OF_RECEIPTS = {"receipt", "preimage", "acknowledgement"}
