"""The client's own books, inside its catalog: payments from the intent to the outcome, and a double-entry ledger.

Rules that this file keeps: an intent is on disk before any money moves; a payment is SETTLED in the transaction that
writes its postings, once; what is SETTLED or FAILED is closed, and only a FAILED payment may be intended again;
there is at most one open payment for each node, purpose and index. All methods are short and blocking; those that
write wait for the disk.

Ledger accounts: "lightning" is credited with all that leaves; "rent:{node hex}", "capacity:{node hex}",
"deposit:{node hex}" and "fees" are debited. Balances are debits less credits and add up to 0.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from hashlib import sha256
from typing import Any

from lnstore.client.budgets import Budgets, check_budgets
from lnstore.client.capacity import Rented, rented, shrinks_at
from lnstore.client.catalog import Catalog
from lnstore.client.money_errors import InvoiceFault, InvoiceRefused, PaymentOpen
from lnstore.ports import Outcome, Payment, Posting
from lnstore_protocol.ids import Digest, Msat, NodeId, PaymentHash, ShareId
from lnstore_protocol.messages import InvoicePurpose
from lnstore_protocol.receipts import NO_SAMPLE

LIGHTNING = "lightning"
FEES = "fees"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A node's invoice and what the node says that it pays for.

    `index` is the period (rent), the growth index or the deposit index; `sampled` is how many shares the proof covers,
    `token_index` whose nonce it answers, `sample_hash` the hash of
    the proof's sample (rent only).
    """

    node_id: NodeId
    purpose: InvoicePurpose
    index: int
    bolt11: str
    amount_msat: Msat
    from_at: int
    until_at: int
    capacity_bytes: int
    shares: int = 0
    sampled: int = 0
    token_index: int | None = None
    sample_hash: Digest = NO_SAMPLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent(Offer):
    """An offer whose invoice was checked and is to be paid (or, over nothing, was accepted)."""

    payment_hash: PaymentHash


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentEntry(Intent):
    """A payment as the wallet has it. UNKNOWN is also the state from the intent on, until the daemon has spoken.

    `created_at` is when the latest attempt began. The fee, the preimage and `settled_at` are set once it is SETTLED.
    """

    payment_id: int
    state: Outcome
    fee_msat: Msat | None
    preimage: bytes | None = field(repr=False)
    created_at: int
    settled_at: int | None

    @property
    def open(self) -> bool:
        """Whether it may still settle, for all that is known."""
        return self.state in OPEN


OPEN = (Outcome.PENDING, Outcome.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Spending:
    """What one node was paid in one calendar month (UTC, `2026-12`)."""

    node_id: NodeId
    month: str
    rent_msat: Msat
    capacity_msat: Msat
    deposit_msat: Msat
    fees_msat: Msat


@dataclass(frozen=True, slots=True)
class Standing:
    """What our own books say of an account since its agreement began.

    `rented` and `paid_until_at` (the anchor before any payment) are what settled payments bought. The next
    proof has the index `latest_proof`: the first that was never paid, `next_proof`, unless it was revealed in vain.
    That is so for a nonce of an agreement that lapsed, for one of a period that another proof paid, for one that was
    abandoned, and for one that was answered wrongly at no price. The node may not have heard of it, and count from
    `next_proof` on. `growths` is the number of the next growth, `asked_until` the first period whose rent was never
    asked for.
    """

    rented: Rented
    growths: int
    paid_until_at: int
    next_proof: int
    latest_proof: int
    asked_until: int


class Verdict(Enum):
    """What became of a challenge. An abandoned one can lead to no payment: its period is asked for with the next."""

    REVEALED = "revealed"
    FAILED = "failed"
    FAILED_AT_NO_PRICE = "failed at no price"
    """Its period is over with that, as far as the node is concerned, and its index used up."""
    ABANDONED = "abandoned"


_SPENT = (Verdict.ABANDONED, Verdict.FAILED_AT_NO_PRICE)
_FAILED = (Verdict.FAILED, Verdict.FAILED_AT_NO_PRICE)


@dataclass(frozen=True, slots=True)
class Challenge:  # P-R8
    """A nonce that was revealed: which of our shares its proof must cover, ascending by sample key.

    How that went is in the catalog as its Verdict.
    """

    node_id: NodeId
    token_index: int
    period: int
    expected: tuple[ShareId, ...] = field(repr=False)
    shares: int
    verdict: Verdict = field(default=Verdict.REVEALED, compare=False)


class Wallet:
    """Payments and ledger of one catalog; see the module's text."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    # --- payments ---------------------------------------------------------------------------------------------------

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
                    self.judge(entry.node_id, entry.token_index, Verdict.ABANDONED)
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

    def standing(self, node_id: NodeId, *, anchor_at: int) -> Standing:  # MA-R9
        """What settled payments to this node bought since the agreement of that anchor."""
        settled = [entry for entry in self.payments(node_id) if entry.state is Outcome.SETTLED]
        current = [entry for entry in settled if entry.created_at >= anchor_at]
        rents = [entry for entry in current if entry.purpose is InvoicePurpose.RENT]
        growths = sorted((e for e in current if e.purpose is InvoicePurpose.CAPACITY), key=lambda entry: entry.index)
        # The first growth pays its period as a whole; a later one adds to what rent has paid or is yet to pay.
        whole = [*rents, *growths[:1]]
        next_proof = max((e.token_index for e in settled if e.token_index is not None), default=-1) + 1
        periods = {entry.index for entry in rents}
        revealed = self._catalog.rows(
            "SELECT token_index, period, revealed_at, state FROM challenges WHERE node_id = ?", (bytes(node_id),)
        )
        in_vain = [
            t + 1
            for t, period, at, state in revealed
            if Verdict(state) in _SPENT or at < anchor_at or period in periods
        ]
        return Standing(
            rented=rented(
                [(entry.index, entry.capacity_bytes) for entry in growths],
                shrinks_at(self._catalog, node_id, since_at=anchor_at),
            ),
            growths=max((entry.index + 1 for entry in growths), default=0),
            paid_until_at=max((entry.until_at for entry in whole), default=anchor_at),
            next_proof=next_proof,
            latest_proof=max([next_proof, *in_vain]),
            asked_until=max((period + 1 for _, period, at, _ in revealed if at >= anchor_at), default=0),
        )

    # --- challenges -------------------------------------------------------------------------------------------------

    def challenge(self, challenge: Challenge, now: int) -> Challenge:
        """Put on disk what a nonce is about to be revealed for; the one already there for node and index wins."""
        with self._catalog.transaction() as db:
            db.execute(
                "INSERT INTO challenges (node_id, token_index, period, expected, shares, revealed_at) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    bytes(challenge.node_id),
                    challenge.token_index,
                    challenge.period,
                    b"".join(challenge.expected),
                    challenge.shares,
                    now,
                ),
            )
            (row,) = db.execute(
                f"{_CHALLENGES} WHERE node_id = ? AND token_index = ?",
                (bytes(challenge.node_id), challenge.token_index),
            )
            return _challenge(row)

    def judge(self, node_id: NodeId, token_index: int, verdict: Verdict) -> None:
        """Put on disk what became of a challenge."""
        with self._catalog.transaction() as db:
            db.execute(
                "UPDATE challenges SET state = ? WHERE node_id = ? AND token_index = ?",
                (verdict.value, bytes(node_id), token_index),
            )

    def failed_challenge(self, node_id: NodeId) -> Challenge | None:
        """The last one at this node, if its proof failed and was not paid since."""
        unpaid = self.standing(node_id, anchor_at=0).next_proof
        rows = self._catalog.rows(
            f"{_CHALLENGES} WHERE node_id = ? AND token_index >= ? ORDER BY token_index", (bytes(node_id), unpaid)
        )
        last = _challenge(rows[-1]) if rows else None
        return last if last is not None and last.verdict in _FAILED else None

    def last_failed_at(self) -> int | None:
        """When the last nonce was revealed whose proof failed and has not been given up, at any node."""
        revealed_at: int | None
        ((revealed_at,),) = self._catalog.rows(
            "SELECT max(revealed_at) FROM challenges WHERE state IN (?, ?)", tuple(one.value for one in _FAILED)
        )
        return revealed_at

    def unanswered(self, node_id: NodeId, *, since_at: int) -> Challenge | None:  # RA-R10
        """The last nonce that was revealed since then and for which no answer is on disk."""
        rows = self._catalog.rows(
            f"{_CHALLENGES} AS c WHERE node_id = ? AND revealed_at >= ? AND state = ? AND NOT EXISTS (SELECT 1 "  # noqa: S608
            "FROM payments AS p WHERE p.node_id = c.node_id AND p.token_index = c.token_index AND p.state <> ?) "
            "ORDER BY token_index",
            (bytes(node_id), since_at, Verdict.REVEALED.value, Outcome.FAILED.value),
        )
        return _challenge(rows[-1]) if rows else None

    def proofs(self, node_id: NodeId) -> tuple[int, int]:
        """How many proofs of this node passed, and how many failed, over all agreements."""
        passed = {
            entry.token_index
            for entry in self.payments(node_id)
            if entry.purpose is InvoicePurpose.RENT and entry.state is Outcome.SETTLED and entry.sampled
        }
        rows = self._catalog.rows("SELECT state FROM challenges WHERE node_id = ?", (bytes(node_id),))
        return len(passed), sum(Verdict(state) in _FAILED for (state,) in rows)

    # --- the ledger -------------------------------------------------------------------------------------------------

    def postings(self) -> list[Posting]:
        """The whole ledger, in order."""
        return [
            Posting(
                posting_id=posting_id,
                at=at,
                kind=kind,
                debit=debit,
                credit=credit,
                amount_msat=amount,
                reference=reference,
            )
            for posting_id, at, kind, debit, credit, amount, reference in self._catalog.rows(
                "SELECT posting_id, at, kind, debit, credit, amount_msat, reference FROM postings ORDER BY posting_id"
            )
        ]

    def balances(self) -> dict[str, Msat]:
        """Debits less credits by ledger account, by name; they add up to 0."""
        rows = self._catalog.rows(
            "SELECT account, sum(amount) FROM (SELECT debit AS account, amount_msat AS amount FROM postings "
            "UNION ALL SELECT credit, -amount_msat FROM postings) GROUP BY account ORDER BY account"
        )
        return {account: Msat(amount) for account, amount in rows}

    def spending(self) -> list[Spending]:
        """What each node was paid in each month, oldest month first."""
        rows = self._catalog.rows(
            "SELECT node_id, strftime('%Y-%m', settled_at, 'unixepoch') AS month, "
            "sum(CASE purpose WHEN 0 THEN amount_msat ELSE 0 END), "
            "sum(CASE purpose WHEN 1 THEN amount_msat ELSE 0 END), "
            "sum(CASE purpose WHEN 2 THEN amount_msat ELSE 0 END), sum(fee_msat) "
            "FROM payments WHERE state = ? GROUP BY node_id, month ORDER BY month, node_id",
            (Outcome.SETTLED.value,),
        )
        return [
            Spending(NodeId(node_id), month, Msat(rent), Msat(capacity), Msat(deposit), Msat(fees))
            for node_id, month, rent, capacity, deposit, fees in rows
        ]

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


_CHALLENGES = "SELECT node_id, token_index, period, expected, shares, state FROM challenges"


def _challenge(row: tuple[Any, ...]) -> Challenge:
    node_id, index, period, expected, shares, state = row
    ids = tuple(ShareId(expected[at : at + 32]) for at in range(0, len(expected), 32))
    return Challenge(NodeId(node_id), index, period, ids, shares, Verdict(state))


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
