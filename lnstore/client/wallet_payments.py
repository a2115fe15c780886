"""The wallet's payments: from the intent, which is on disk before any money moves, to the outcome and its postings."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import fields
from hashlib import sha256
from typing import Any

from lnstore.client.budgets import Budgets, check_budgets
from lnstore.client.catalog import Catalog
from lnstore.client.money_errors import InvoiceFault, InvoiceRefused, PaymentOpen
from lnstore.client.wallet_entries import FEES, LIGHTNING, OPEN, Intent, Offer, PaymentEntry, Verdict
from lnstore.ports import Outcome, Payment
from lnstore_protocol.ids import Digest, Msat, NodeId, PaymentHash
from lnstore_protocol.messages import InvoicePurpose


class WalletPayments:
    """Part of wallet.Wallet."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    # R-W12, R-R15
    def intend(self, intent: Intent, now: int, *, fee_limit_msat: Msat, budgets: Budgets) -> PaymentEntry:
        """Put the intent on disk, as UNKNOWN. The same invoice again is the same payment, reopened once it FAILED.

        InvoiceRefused(ALREADY_PAID) when the invoice or another of the same payment hash is settled; PaymentOpen when
        another invoice for the same node, purpose and index, or of the same payment hash, is open; BudgetExceeded when
        the amount and `fee_limit_msat`, the most that routing may cost, are more than a budget has left.
        """
        with self._catalog.transaction() as db:
            for entry in self._select(
                "payment_hash = ? OR (node_id = ? AND purpose = ? AND idx = ?)",
                (bytes(intent.payment_hash), bytes(intent.node_id), int(intent.purpose), intent.index),
            ):
                if entry.state is Outcome.SETTLED and entry.payment_hash == intent.payment_hash:
                    raise InvoiceRefused(
                        InvoiceFault.ALREADY_PAID,
                        "the node asks again for an invoice that is already paid; nothing was paid. Run the command "
                        "again, and if that does not help ask the node's operator",
                    )
                if entry.open and entry.bolt11 != intent.bolt11:
                    raise PaymentOpen(
                        "the node sent another invoice while the payment of the first may still succeed; nothing more "
                        "was paid. Run the command again in a few minutes"
                    )
            # An earlier attempt that is not known to have failed may still cost what it was allowed.
            for (earlier,) in db.execute(
                "SELECT fee_limit_msat FROM payments WHERE bolt11 = ? AND state <> ?",
                (intent.bolt11, Outcome.FAILED.value),
            ):
                fee_limit_msat = max(fee_limit_msat, Msat(earlier))
            most_msat = intent.amount_msat + fee_limit_msat
            check_budgets(self._catalog, budgets, intent.node_id, most_msat, now, besides=intent.bolt11)
            _insert(db, intent, Outcome.UNKNOWN, now, fee_limit_msat)
            return self._one("bolt11 = ?", (intent.bolt11,))

    def given(self, offer: Offer, preimage: bytes, now: int) -> PaymentEntry:
        """Put on disk what a node gave for nothing, as settled; the same again is the same entry. There is no posting.

        ValueError for an offer with an amount or an invoice.
        """
        if offer.amount_msat or offer.bolt11:
            raise ValueError("what has a price is paid for")
        payment_hash = PaymentHash(sha256(preimage).digest())
        intent = Intent(**{f.name: getattr(offer, f.name) for f in fields(Offer)}, payment_hash=payment_hash)
        where = "node_id = ? AND purpose = ? AND idx = ? AND payment_hash = ? AND bolt11 = ''"
        of = (bytes(offer.node_id), int(offer.purpose), offer.index, bytes(payment_hash))
        with self._catalog.transaction() as db:
            if not self._select(where, of):
                _insert(db, intent, Outcome.SETTLED, now)
                db.execute(
                    f"UPDATE payments SET fee_msat = 0, preimage = ?, settled_at = ? WHERE {where}",  # noqa: S608
                    (preimage, now, *of),
                )
            return self._one(where, of)

    def record(self, payment_id: int, payment: Payment, now: int) -> PaymentEntry:
        """Write down what became of a payment; SETTLED also writes its postings. A closed one stays as it is.

        With rent that can never be paid, its challenge is abandoned: the invoice is locked to its answer.
        """
        with self._catalog.transaction() as db:
            entry = self._one("payment_id = ?", (payment_id,))
            if not entry.open:
                return entry
            if payment.outcome is not Outcome.SETTLED:
                db.execute(
                    "UPDATE payments SET state = ? WHERE payment_id = ?", (payment.outcome.value, entry.payment_id)
                )
                if payment.unpayable and entry.token_index is not None:
                    write_verdict(db, entry.node_id, entry.token_index, Verdict.ABANDONED)
                return self._one("payment_id = ?", (payment_id,))
            sent = entry.amount_msat if payment.sent_msat is None else payment.sent_msat
            # What does not hash to the payment hash is no preimage, whoever says so; the money is gone all the same.
            preimage = payment.preimage
            if preimage is not None and sha256(preimage).digest() != entry.payment_hash:
                preimage = None
            # More than the invoice asked for, whatever the reason, is what the transport cost.
            fee = max(sent - entry.amount_msat, 0)
            db.execute(
                "UPDATE payments SET state = ?, fee_msat = ?, preimage = ?, settled_at = ? WHERE payment_id = ?",
                (Outcome.SETTLED.value, fee, preimage, now, entry.payment_id),
            )
            purpose = entry.purpose.name.lower()
            for kind, debit, amount in (
                (purpose, f"{purpose}:{entry.node_id.hex()}", entry.amount_msat),
                ("fee", FEES, fee),
            ):
                if amount:
                    db.execute(
                        "INSERT INTO postings (at, kind, debit, credit, amount_msat, reference) "
                        "VALUES (?, ?, ?, ?, ?, ?)",
                        (now, kind, debit, LIGHTNING, amount, f"{kind}/{entry.payment_hash.hex()}"),
                    )
            return self._one("payment_id = ?", (payment_id,))

    def open_payments(self) -> list[PaymentEntry]:
        """All whose outcome is not known yet, oldest first."""
        return self._select("state IN (?, ?)", tuple(state.value for state in OPEN))

    def payments(self, node_id: NodeId | None = None) -> list[PaymentEntry]:
        """All payments, or those to one node, oldest first."""
        return self._select("1") if node_id is None else self._select("node_id = ?", (bytes(node_id),))

    def find(self, node_id: NodeId, purpose: InvoicePurpose, index: int, *, since_at: int) -> PaymentEntry | None:
        """The payment for this node, purpose and index that is open or settled, begun at `since_at` or later."""
        found = self._select(
            "node_id = ? AND purpose = ? AND idx = ? AND created_at >= ? AND state <> ?",
            (bytes(node_id), int(purpose), index, since_at, Outcome.FAILED.value),
        )
        return found[-1] if found else None

    # --- rows -------------------------------------------------------------------------------------------------------

    def _one(self, where: str, parameters: Sequence[Any]) -> PaymentEntry:
        (entry,) = self._select(where, parameters)
        return entry

    def _select(self, where: str, parameters: Sequence[Any] = ()) -> list[PaymentEntry]:
        return [_entry(row) for row in self._catalog.rows(f"{_PAYMENTS} WHERE {where} ORDER BY payment_id", parameters)]


_READ: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "payment_id": ("payment_id", int),
    "node_id": ("node_id", NodeId),
    "purpose": ("purpose", InvoicePurpose),
    "index": ("idx", int),
    "bolt11": ("bolt11", str),
    "payment_hash": ("payment_hash", PaymentHash),
    "amount_msat": ("amount_msat", Msat),
    "fee_msat": ("fee_msat", Msat),
    "state": ("state", Outcome),
    "from_at": ("from_at", int),
    "until_at": ("until_at", int),
    "capacity_bytes": ("capacity_bytes", int),
    "shares": ("shares", int),
    "sampled": ("sampled", int),
    "token_index": ("token_index", int),
    "sample_hash": ("sample_hash", Digest),
    "preimage": ("preimage", bytes),
    "created_at": ("created_at", int),
    "settled_at": ("settled_at", int),
}
"""PaymentEntry's fields: their columns, and how a value that is not NULL is read."""

_PAYMENTS = f"SELECT {', '.join(column for column, _ in _READ.values())} FROM payments"  # noqa: S608 -- our own names


def write_verdict(db: sqlite3.Connection, node_id: NodeId, token_index: int, verdict: Verdict) -> None:
    """Put on disk what became of a challenge, in the caller's transaction."""
    db.execute(
        "UPDATE challenges SET state = ? WHERE node_id = ? AND token_index = ?",
        (verdict.value, bytes(node_id), token_index),
    )


def _insert(db: sqlite3.Connection, intent: Intent, state: Outcome, now: int, fee_limit_msat: int = 0) -> None:
    db.execute(
        "INSERT INTO payments (node_id, purpose, idx, bolt11, payment_hash, amount_msat, fee_limit_msat, state, "
        "from_at, until_at, capacity_bytes, shares, sampled, token_index, sample_hash, created_at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (bolt11) WHERE bolt11 <> '' "
        "DO UPDATE SET state = excluded.state, created_at = excluded.created_at, "
        "fee_limit_msat = excluded.fee_limit_msat",
        (
            bytes(intent.node_id),
            int(intent.purpose),
            intent.index,
            intent.bolt11,
            bytes(intent.payment_hash),
            intent.amount_msat,
            fee_limit_msat,
            state.value,
            intent.from_at,
            intent.until_at,
            intent.capacity_bytes,
            intent.shares,
            intent.sampled,
            intent.token_index,
            bytes(intent.sample_hash),
            now,
        ),
    )


def _entry(row: tuple[Any, ...]) -> PaymentEntry:
    read = zip(_READ.items(), row, strict=True)
    values: dict[str, Any] = {name: None if value is None else kind(value) for (name, (_, kind)), value in read}
    return PaymentEntry(**values)
