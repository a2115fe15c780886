"""What a proof of rent, or its failure, is remembered as: the score of a node, and shares lost by its own word."""

from __future__ import annotations

from lnstore.client.catalog import NodeEntry
from lnstore.client.losses import Losses
from lnstore.client.money_errors import ProofFailed
from lnstore.client.payments import decode_invoice
from lnstore.client.proof import proof_replayed
from lnstore.client.purse import Purse
from lnstore.client.scores import Happening, Scores, fault_of
from lnstore.client.wallet_entries import Verdict
from lnstore.errors import LnstoreError
from lnstore_protocol.ids import NodeId
from lnstore_protocol.messages import InvoiceReply


async def refuse_replay(purse: Purse, node: NodeEntry, reply: InvoiceReply, t: int) -> None:
    """ProofFailed when the invoice is locked to what that of another token index was."""
    invoice = await decode_invoice(purse, reply.bolt11)
    before = {entry.payment_hash for entry in purse.wallet.payments(node.node_id) if entry.token_index not in (None, t)}
    if invoice.payment_hash in before:
        await purse.write(purse.wallet.judge, node.node_id, t, Verdict.FAILED)
        raise proof_replayed(node.petname)


def note_passed(purse: Purse, node_id: NodeId, from_at: int, sampled: int) -> None:
    """A proof over so many shares, for the period from `from_at`, was right."""
    if sampled:
        now, reference = purse.clock.now(), f"passed/{from_at}"
        Scores(purse.catalog).note(node_id, Happening.PROOF_PASSED, reference, now=now, shares=sampled)


def note_failed(purse: Purse, node: NodeEntry, period: int | None, error: LnstoreError) -> None:
    """What kept rent from being paid, once for each challenge and kind; nothing when the node is not at fault."""
    fault, now = fault_of(error), purse.clock.now()
    if fault is None:
        return
    lost = (*error.lost, *error.missing) if isinstance(error, ProofFailed) else ()
    failed = purse.wallet.failed_challenge(node.node_id)
    which = f"period {period}" if failed is None else f"proof {failed.token_index}"
    with purse.catalog.transaction():
        Losses(purse.catalog).note(node.node_id, lost, fault, now)
        Scores(purse.catalog).note(
            node.node_id,
            Happening.PROOF_FAILED,
            f"failed/{which}/{fault.value}",
            now=now,
            fault=fault,
            shares=len(lost),
        )
