"""What is wrong at a node: an audit of every share, and after a proof that failed, which part of it was false.

The audit reads the leaves that the failed challenge reads, each verified against the share's id. With them we compute
the answers ourselves. The node repeats its reply to that challenge (MA-R18), so its tokens can be held against them:
shares that are all there, under tokens that are not those we made, are a table that was altered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lnstore.client.audit import Audit, LostShare, audit_node
from lnstore.client.catalog import NodeEntry
from lnstore.client.faults import Fault
from lnstore.client.losses import Losses
from lnstore.client.node_errors import NodeRefused
from lnstore.client.purse import Purse
from lnstore.client.scores import Happening, Scores
from lnstore.client.wallet_entries import Challenge, Verdict
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import InvoicePurpose, InvoiceReply, RequestInvoice
from lnstore_protocol.proofs import audit_key, audit_nonce, read_sample, token_key, unmask

SHARES_NAMED = 3
"""So many lost shares are named in a sentence."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the audit of a node found. `altered` are whole shares that came with tokens which are not ours."""

    node: NodeEntry
    audited: int
    lost: tuple[LostShare, ...]
    altered: tuple[ShareId, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.lost and not self.altered

    @property
    def sentence(self) -> str:
        """What the audit found, in words."""
        petname = self.node.petname
        if self.sound:
            return f"{petname}: showed a piece of each of {self.audited} shares"
        if self.altered:
            return (
                f"{petname}: shows all {self.audited} shares, but returned other storage tokens than you made for "
                f"{len(self.altered)} of them; rent is asked for with another challenge the next time"
            )
        why = "; ".join(f"{share.share_id.hex()[:16]} ({share.why.value})" for share in self.lost[:SHARES_NAMED])
        more = f" and {len(self.lost) - SHARES_NAMED} more" if len(self.lost) > SHARES_NAMED else ""
        return f"{petname}: lost {len(self.lost)} of {self.audited} shares: {why}{more}"


async def diagnose(purse: Purse, node: NodeEntry, share_ids: Sequence[ShareId] | None = None) -> Diagnosis:  # R-R22
    """Audit every share at the node, judge its last failed proof, and write down what is lost and what it did.

    Only these shares where there is no failed proof to judge, which any of them may have failed.

    Errors of the connection are raised: who does not answer has not been shown to have lost anything.
    """
    failed = purse.wallet.failed_challenge(node.node_id)
    audit = await audit_node(purse, node, share_ids if failed is None else None)
    altered: list[ShareId] = []
    if failed is not None and not audit.lost:
        altered = await _altered(purse, node, failed, audit)
    await purse.write(remember, purse, node, audit, tuple(altered), failed)
    return Diagnosis(node, audit.audited, tuple(audit.lost), tuple(altered))


async def _altered(purse: Purse, node: NodeEntry, failed: Challenge, audit: Audit) -> list[ShareId]:
    """The shares whose tokens, as the node sends them, hide other answers than their bytes give."""
    t, secret = failed.token_index, purse.account_secret
    nonce = audit_nonce(audit_key(secret), node.node_id, t)
    request = RequestInvoice(purpose=InvoicePurpose.RENT, period=failed.period, token_index=t, nonce=nonce)
    try:
        reply = await purse.ask(node, request, InvoiceReply)
        pairs, _ = read_sample(reply.sample, reply.lost)
    except (NodeRefused, RemoteProtocolError):
        return []
    return [
        share_id
        for share_id, token in pairs
        if share_id in audit.answers
        and unmask(token, token_key(secret), node.node_id, share_id, t) != audit.answers[share_id]
    ]


def remember(
    purse: Purse,
    node: NodeEntry,
    audit: Audit,
    altered: tuple[ShareId, ...] = (),
    failed: Challenge | None = None,
) -> None:
    """Write down what is lost and what is there after all, and what that makes of the node."""
    now, catalog = purse.clock.now(), purse.catalog
    losses, scores = Losses(catalog), Scores(catalog)
    with catalog.transaction():
        losses.forgive(node.node_id, audit.whole)
        for fault in dict.fromkeys(share.why.fault for share in audit.lost):
            ids = [share.share_id for share in audit.lost if share.why.fault is fault]
            losses.note(node.node_id, ids, fault, now)
            reference = f"audit/{fault.value}/{min(ids).hex()}"
            scores.note(node.node_id, Happening.AUDIT_FAILED, reference, now=now, fault=fault, shares=len(ids))
        if altered and failed is not None:
            reference = f"tokens/{failed.token_index}"
            scores.note(
                node.node_id,
                Happening.AUDIT_FAILED,
                reference,
                now=now,
                fault=Fault.TOKENS_ALTERED,
                shares=len(altered),
            )
        if audit.audited and not audit.lost and not altered:
            scores.note(node.node_id, Happening.AUDIT_PASSED, f"audit/{now}", now=now, shares=audit.audited)
        if failed is not None and not audit.lost:
            # The answer to that nonce stays what it was; the next proof is asked for with another one.
            purse.wallet.judge(node.node_id, failed.token_index, Verdict.ABANDONED)
