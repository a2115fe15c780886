"""What a rent payment proves: the node's answer over our shares, checked before the payment and without any I/O."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from lnstore.client.faults import Fault
from lnstore.client.money_errors import ProofFailed
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import Digest, NodeId, PaymentHash, ShareId
from lnstore_protocol.messages import TOKEN_BYTES
from lnstore_protocol.proofs import check_sample, fold, payment_hash, unmask
from lnstore_protocol.receipts import sample_hash

_ENTRY = 32 + TOKEN_BYTES
_SHOWN = 3
"""How many ids an error names; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The preimage that the invoice must be locked to, and over how many shares, and which, it was computed."""

    preimage: bytes = field(repr=False)
    sampled: int
    sample_hash: Digest

    @property
    def payment_hash(self) -> PaymentHash:
        """What the invoice must ask for."""
        return payment_hash(self.preimage)


def compute_proof(  # MA-R20, P-R11, P-R14, R-R20, R-R21
    *,
    nonce: bytes,
    node_id: NodeId,
    token_index: int,
    token_key: bytes,
    expected: tuple[ShareId, ...],
    ours: AbstractSet[bytes],
    given_up: AbstractSet[bytes],
    sample: bytes,
    lost: bytes,
    petname: str,
) -> Proof | None:
    """The preimage for the sample that a node sent; None when there was nothing to prove.

    `expected` is the sample of our shares from when the nonce was first revealed, `ours` all ids that the catalog has
    at this node now, `given_up` what the node was told to drop, `sample` and `lost` the node's
    (messages.InvoiceReply). ProofFailed names what was lost or left out.
    """
    if len(sample) % _ENTRY or len(lost) % 32:
        raise ProofFailed(
            Fault.MALFORMED_PROOF, f"{petname} sent a proof of an impossible length; nothing was paid{ADVICE}"
        )
    tokens = {ShareId(sample[at : at + 32]): sample[at + 32 : at + _ENTRY] for at in range(0, len(sample), _ENTRY)}
    admitted = [ShareId(lost[at : at + 32]) for at in range(0, len(lost), 32)]
    gone = [share_id for share_id in admitted if share_id in ours]
    if gone:
        raise ProofFailed(
            Fault.ADMITS_LOSS,
            f"{petname} says that it lost {named(gone)}; nothing was paid{ADVICE}",
            lost=gone,
        )
    try:
        # A share that we dropped since is nobody's loss.
        due = [share_id for share_id in expected if share_id in ours]
        missing = check_sample(nonce, due, list(tokens), admitted)
    except RemoteProtocolError as exc:
        raise ProofFailed(
            Fault.MALFORMED_PROOF, f"the proof of {petname} is not well formed: {exc}; nothing was paid{ADVICE}"
        ) from exc
    if len(tokens) * _ENTRY != len(sample):
        raise ProofFailed(Fault.MALFORMED_PROOF, f"{petname} proves a share twice; nothing was paid{ADVICE}")
    if strange := [share_id for share_id in tokens if share_id in given_up and share_id not in expected]:
        raise ProofFailed(
            Fault.PROVES_DROPPED,
            f"{petname} proves shares that you gave up ({named(strange)}), in the place of others; "
            f"nothing was paid{ADVICE}",
        )
    if missing:
        raise ProofFailed(
            Fault.LEFT_OUT,
            f"{petname} left {named(missing)} out of its proof; nothing was paid{ADVICE}",
            missing=missing,
        )
    if not tokens:
        return None
    answers = [
        (share_id, unmask(token, token_key, node_id, share_id, token_index)) for share_id, token in tokens.items()
    ]
    return Proof(fold(nonce, answers), len(answers), sample_hash(tokens))


def proof_differs(petname: str, proof: Proof) -> ProofFailed:
    """The error for an invoice that is locked to something else than the proof."""
    return ProofFailed(
        Fault.WRONG_ANSWERS,
        f"{petname} answers for {proof.sampled} of your shares, and some of its answers are wrong: it lost or altered "
        f"what it holds; nothing was paid{ADVICE}",
    )


def proof_replayed(petname: str) -> ProofFailed:
    """The error for an invoice that is locked to the proof of an earlier payment."""
    return ProofFailed(
        Fault.REPLAYED,
        f"{petname} answers with the proof of an earlier payment instead of looking at your shares; nothing was "
        f"paid{ADVICE}",
    )


ADVICE = (
    ". Find out what is lost with `lnstore check --verify`, and have it stored elsewhere with `lnstore repair --all`"
)


def named(ids: list[ShareId]) -> str:
    """`3 shares (…)`."""
    shown = ", ".join(share_id.hex()[:16] for share_id in ids[:_SHOWN])
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"{len(ids)} share{'s' if len(ids) > 1 else ''} ({shown}{more})"
