"""What the client's books hold: offers, payments, what they bought, and challenges."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from lnstore.client.capacity import Rented
from lnstore.ports import Outcome
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
