"""Rent, period by period, at many nodes at once; each payment is locked to a proof (rent_proof.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lnstore.client.accounts import (
    standing,
    wait_until_credited,
)
from lnstore.client.catalog import NodeEntry
from lnstore.client.faults import Fault
from lnstore.client.holdings import is_kept
from lnstore.client.money_errors import (
    InvoiceLost,
    ProofFailed,
)
from lnstore.client.payments import resolve_open, resume
from lnstore.client.proof import ADVICE
from lnstore.client.proof_index import next_index
from lnstore.client.purse import Purse
from lnstore.client.receipts import collect_if_needed
from lnstore.client.rent_checks import MAXIMUM_AHEAD, rent_due
from lnstore.client.rent_proof import answer_again, ask_and_pay
from lnstore.client.tasks import each
from lnstore.client.verdicts import note_failed, note_passed
from lnstore.client.wallet_entries import PaymentEntry, Verdict
from lnstore.errors import LnstoreError
from lnstore_protocol.ids import Msat, NodeId
from lnstore_protocol.messages import AccountStatusReply, InvoicePurpose
from lnstore_protocol.terms import Agreement

NODES_AT_ONCE = 8
PERIODS_AT_ONCE = 24
"""The most periods that one run pays at one node: a token each."""

TOKENS_WARNING = 3
"""With this many proofs left for some share it is time for new tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RentPaid:
    """One period's rent. The preimage is the proof: with `verified` it is what our own tokens folded to.

    `verified` is False only where nothing is stored at the node; `sampled` of `shares` shares were proven.
    """

    node_id: NodeId
    petname: str
    period: int
    from_at: int
    until_at: int
    amount_msat: Msat
    fee_msat: Msat
    shares: int
    sampled: int
    verified: bool
    preimage: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RentOutcome:
    """What `pay_rent` did at one node: the periods paid (none: nothing is due), and what stopped it."""

    node: NodeEntry
    paid: tuple[RentPaid, ...]
    paid_until_at: int | None
    proofs_left: int | None
    error: LnstoreError | None
    receipt_warnings: tuple[str, ...] = ()
    """What is wrong with the node's receipts, a sentence each."""

    @property
    def warning(self) -> str:
        """A sentence when some share's tokens are nearly used up, else empty."""
        if self.proofs_left is None or self.proofs_left > TOKENS_WARNING:
            return ""
        return (
            f"some shares at {self.node.petname} can be proven only {self.proofs_left} more times; give them new "
            f"tokens before then, with: lnstore rent renew {self.node.petname}"
        )


async def pay_rent(
    purse: Purse,
    nodes: Sequence[NodeEntry] | None = None,
    *,
    ahead: int = 0,
    progress: Callable[[str], None] | None = None,
) -> list[RentOutcome]:
    """Pay the rent that is due at these nodes (all with an account), with `ahead` 1 also the next period's.

    A node that fails does not keep the others from being paid: its outcome holds the error. ValueError for another
    `ahead`.
    """
    if not 0 <= ahead <= MAXIMUM_AHEAD:
        raise ValueError(f"rent can be paid at most {MAXIMUM_AHEAD} period ahead")
    await resolve_open(purse)
    chosen = [node for node in purse.catalog.nodes() if is_kept(purse.catalog, node)] if nodes is None else list(nodes)
    tell = progress or (lambda _: None)

    async def pay(node: NodeEntry) -> RentOutcome:
        paid: list[RentPaid] = []
        status = None
        error: LnstoreError | None = None
        try:
            for _ in range(PERIODS_AT_ONCE):
                agreement, status = await standing(purse, node)
                if (again := await answer_again(purse, node, agreement, status)) is not None:
                    paid.append(_rent_paid(node, again))
                    await purse.write(note_passed, purse, node.node_id, again.from_at, again.sampled)
                if not rent_due(agreement, status, now=purse.clock.now(), ahead=ahead):
                    break
                tell(f"paying {node.petname} for period {status.next_period}")
                paid.append(await _pay_period(purse, node, agreement, status))
                await purse.write(note_passed, purse, node.node_id, paid[-1].from_at, paid[-1].sampled)
            if not paid:
                _check_last_proof(purse, node)
        except LnstoreError as exc:
            error = exc
            await purse.write(note_failed, purse, node, status.next_period if status else None, exc)
        receipt_warnings = await collect_if_needed(purse, node)
        return RentOutcome(
            node=node,
            paid=tuple(paid),
            paid_until_at=status.paid_until_at if status else None,
            proofs_left=_proofs_left(purse, node, status) if status else None,
            error=error,
            receipt_warnings=receipt_warnings,
        )

    return await each(pay, chosen, at_once=NODES_AT_ONCE)


async def _pay_period(purse: Purse, node: NodeEntry, agreement: Agreement, status: AccountStatusReply) -> RentPaid:
    """The account's next period, paid and credited."""
    period = status.next_period
    try:
        entry = await _paid(purse, node, agreement, status)
    except InvoiceLost:
        # That challenge is abandoned: the next one has another answer, and so another invoice.
        entry = await _paid(purse, node, agreement, status)
    if entry.amount_msat:
        await wait_until_credited(purse, node, entry, lambda new: new.next_period > period)
    return _rent_paid(node, entry)


async def _paid(purse: Purse, node: NodeEntry, agreement: Agreement, status: AccountStatusReply) -> PaymentEntry:
    """The settled payment for the account's next period: begun earlier, or asked for now."""
    begun = purse.wallet.find(node.node_id, InvoicePurpose.RENT, status.next_period, since_at=agreement.anchor_at)
    if begun is None:
        return await ask_and_pay(purse, node, agreement, status)
    return await resume(purse, node, begun) if begun.open else begun


def _check_last_proof(purse: Purse, node: NodeEntry) -> None:
    """ProofFailed for as long as the last proof at no price was a failed one: no payment that is missing tells it."""
    last = purse.wallet.failed_challenge(node.node_id)
    if last is not None and last.verdict is Verdict.FAILED_AT_NO_PRICE:
        raise ProofFailed(
            Fault.WRONG_ANSWERS, f"{node.petname} failed its last proof, over {last.shares} shares{ADVICE}"
        )


def _proofs_left(purse: Purse, node: NodeEntry, status: AccountStatusReply) -> int | None:
    end = purse.catalog.least_token_end(node.node_id)
    return None if end is None else max(end - next_index(purse.catalog, node, said=status.token_index), 0)


def _rent_paid(node: NodeEntry, entry: PaymentEntry) -> RentPaid:
    return RentPaid(
        node_id=node.node_id,
        petname=node.petname,
        period=entry.index,
        from_at=entry.from_at,
        until_at=entry.until_at,
        amount_msat=entry.amount_msat,
        fee_msat=entry.fee_msat or Msat(0),
        shares=entry.shares,
        sampled=entry.sampled,
        # An intent is only ever written once the invoice was found to be locked to the proof over its sample.
        verified=entry.sampled > 0,
        preimage=entry.preimage,
    )
