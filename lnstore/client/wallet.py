"""The client's own books, inside its catalog: payments from the intent to the outcome, and a double-entry ledger.

Rules that it and its parts (wallet_payments.py, wallet_challenges.py) keep: an intent is on disk before any money
moves; a payment is SETTLED in the transaction that writes its postings, once; what is SETTLED or FAILED is closed, and
only a FAILED payment may be intended again; there is at most one open payment for each node, purpose and index. All
methods are short and blocking; those that write wait for the disk.

Ledger accounts: "lightning" is credited with all that leaves; "rent:{node hex}", "capacity:{node hex}",
"deposit:{node hex}" and "fees" are debited. Balances are debits less credits and add up to 0.
"""

from __future__ import annotations

from lnstore.client.wallet_challenges import WalletChallenges
from lnstore.client.wallet_entries import Spending
from lnstore.ports import Outcome, Posting
from lnstore_protocol.ids import Msat, NodeId


class Wallet(WalletChallenges):
    """Payments, challenges and ledger of one catalog; see the module's text."""

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
