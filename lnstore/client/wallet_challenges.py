"""The wallet's challenges, what became of them, and how our own books say that an account stands."""

from __future__ import annotations

from typing import Any

from lnstore.client.capacity import rented, shrinks_at
from lnstore.client.wallet_entries import Challenge, Standing, Verdict
from lnstore.client.wallet_payments import WalletPayments, write_verdict
from lnstore.ports import Outcome
from lnstore_protocol.ids import NodeId, ShareId
from lnstore_protocol.messages import InvoicePurpose

_SPENT = (Verdict.ABANDONED, Verdict.FAILED_AT_NO_PRICE)
_FAILED = (Verdict.FAILED, Verdict.FAILED_AT_NO_PRICE)


class WalletChallenges(WalletPayments):
    """Part of wallet.Wallet."""

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
            write_verdict(db, node_id, token_index, verdict)

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


_CHALLENGES = "SELECT node_id, token_index, period, expected, shares, state FROM challenges"


def _challenge(row: tuple[Any, ...]) -> Challenge:
    node_id, index, period, expected, shares, state = row
    ids = tuple(ShareId(expected[at : at + 32]) for at in range(0, len(expected), 32))
    return Challenge(NodeId(node_id), index, period, ids, shares, Verdict(state))
