"""Rent, period by period, each payment locked to a proof that the node holds our shares (DESIGN.md, section 6).

The node learns the nonce of token index t only once we ask for the invoice of our own rent payment number t: what the
node says of indices is compared with our own books first, so that no nonce is revealed early and no old proof is paid
again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from lnstore.client.accounts import (
    check_prices,
    standing,
    wait_until_credited,
)
from lnstore.client.agreements import CLOCK_TOLERANCE_SECONDS, agreements_of, held_from, price_for, prices_of, unsigned
from lnstore.client.catalog import NodeEntry
from lnstore.client.faults import Fault
from lnstore.client.given import accept, check_given
from lnstore.client.holdings import check_listed, drop_given_up, is_kept
from lnstore.client.losses import Losses
from lnstore.client.money_errors import (
    InvoiceFault,
    InvoiceLost,
    InvoiceRefused,
    NodeUntrusted,
    ProofFailed,
    TokensUsedUp,
)
from lnstore.client.node_errors import NodeRefused
from lnstore.client.payments import check_affordable, know, pay_invoice, resolve_open, resume
from lnstore.client.proof import ADVICE, compute_proof, proof_differs
from lnstore.client.purse import Purse
from lnstore.client.receipts import collect_if_needed
from lnstore.client.tasks import each
from lnstore.client.verdicts import note_failed, note_passed, refuse_replay
from lnstore.client.wallet import Challenge, Offer, PaymentEntry, Standing, Verdict
from lnstore.errors import LnstoreError
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import Msat, NodeId
from lnstore_protocol.messages import AccountStatusReply, InvoicePurpose, InvoiceReply, RequestInvoice
from lnstore_protocol.prices import PriceNotAgreed, Prices
from lnstore_protocol.proofs import audit_key, audit_nonce, select_sample, token_key
from lnstore_protocol.receipts import NO_SAMPLE
from lnstore_protocol.stages import due_seconds
from lnstore_protocol.terms import Agreement, period_at, period_start

NODES_AT_ONCE = 8
MAXIMUM_AHEAD = 1
"""Nodes take rent for the current period and the one after it."""

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


# --- decisions ------------------------------------------------------------------------------------------------------


def rent_due(agreement: Agreement, status: AccountStatusReply, *, now: int, ahead: int) -> bool:  # R-R7
    """Whether the account's next period is to be paid or proven: it begins soon (DUE), or within `ahead` periods."""
    terms = agreement.terms.terms
    soon = now + due_seconds(terms.period_seconds)
    # At no price there is still something to prove.
    return status.capacity_bytes > 0 and (
        status.next_period <= period_at(agreement.anchor_at, terms.period_seconds, soon)
        or status.next_period <= period_at(agreement.anchor_at, terms.period_seconds, now) + ahead
    )


# MA-R10, R-R17, R-R18
def check_indices(agreement: Agreement, status: AccountStatusReply, ours: Standing, petname: str) -> None:
    """NodeUntrusted when the node wants a nonce that is not next, or a period that is paid already."""
    if not ours.next_proof <= status.token_index <= ours.latest_proof:
        raise NodeUntrusted(
            f"{petname} wants proof number {status.token_index}, by your own books it is number {ours.next_proof}; "
            "revealing another one would let it answer without your data, so nothing was paid. If your catalog was "
            "restored from an old copy, restore the newest; else ask the node's operator"
        )
    starts = period_start(agreement.anchor_at, agreement.terms.terms.period_seconds, status.next_period)
    if starts < ours.paid_until_at:
        raise NodeUntrusted(
            f"{petname} wants rent from a time that you have paid already; nothing was paid. Ask its operator"
        )


# MA-R9, R-R19, R-R29
def check_rent(reply: InvoiceReply, *, prices: Prices, period: int, capacity_bytes: int, petname: str) -> Msat:
    """The most that this period may cost by our own books; InvoiceRefused when it is for other times or bytes."""
    starts = period_start(prices.anchor_at, prices.period_seconds, period)
    if (reply.from_at, reply.until_at) != (starts, starts + prices.period_seconds):
        raise InvoiceRefused(
            InvoiceFault.WRONG_PERIOD,
            f"{petname} wants to be paid for other times than period {period}; nothing was paid. Ask its operator",
        )
    if reply.amount_msat and reply.capacity_bytes > capacity_bytes:
        raise InvoiceRefused(
            InvoiceFault.WRONG_CAPACITY,
            f"{petname} wants rent for {reply.capacity_bytes} bytes, you rented {capacity_bytes} there; nothing was "
            "paid. Ask its operator",
        )
    try:
        return prices.rent_msat(capacity_bytes, period)
    except PriceNotAgreed as exc:
        raise unsigned(exc, petname) from exc


# --- paying ---------------------------------------------------------------------------------------------------------


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
                if (again := await _answer_again(purse, node, agreement, status)) is not None:
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
            proofs_left=_proofs_left(purse, node, status.token_index) if status else None,
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
        return await _ask_and_pay(purse, node, agreement, status)
    return await resume(purse, node, begun) if begun.open else begun


# MA-W4, MA-W5, MA-R21
async def _ask_and_pay(purse: Purse, node: NodeEntry, agreement: Agreement, status: AccountStatusReply) -> PaymentEntry:
    await purse.write(_pass_over_given_up, purse, node)
    ours = purse.wallet.standing(node.node_id, anchor_at=agreement.anchor_at)
    price_for(prices_of(purse, node, agreement, status), status.next_period, node.petname)
    held = held_from(agreements_of(purse, node, agreement), status.next_period)
    check_prices(held[0].terms.terms, purse.config, node.petname)
    if status.token_index > ours.latest_proof:
        # The node may have credited what our own daemon has not told us of yet.
        for entry in purse.wallet.open_payments():
            if entry.node_id == node.node_id and entry.purpose is InvoicePurpose.RENT:
                await know(purse, node, entry)
        ours = purse.wallet.standing(node.node_id, anchor_at=agreement.anchor_at)
    check_indices(agreement, status, ours, node.petname)
    # A nonce that was revealed in vain is passed over, whatever the node asks for.
    now, period, t = purse.clock.now(), status.next_period, ours.latest_proof
    latest = period_at(agreement.anchor_at, agreement.terms.terms.period_seconds, now + CLOCK_TOLERANCE_SECONDS)
    if period > latest + MAXIMUM_AHEAD:
        raise NodeUntrusted(f"{node.petname} wants rent for period {period}, which is not due; nothing was paid")
    if not status.free:
        due = prices_of(purse, node, agreement).rent_msat(ours.rented.in_period(period), period)
        check_affordable(purse, node, due)
    given_up = await drop_given_up(purse, node)
    await check_listed(purse, node, _ids_at(purse, node))
    nonce = audit_nonce(audit_key(purse.account_secret), node.node_id, t)
    challenge = await purse.write(_challenge, purse, node, nonce, period, t)
    reply = await _ask(purse, node, challenge)
    return await _judge(purse, node, agreement, challenge, reply, given_up=given_up)


def _pass_over_given_up(purse: Purse, node: NodeEntry) -> None:
    """A failed proof over shares that were given up since would fail again: the next one has another nonce."""
    failed = purse.wallet.failed_challenge(node.node_id)
    if failed is None or purse.catalog.given_up_at(node.node_id).isdisjoint(failed.expected):
        return
    if not Losses(purse.catalog).at(node.node_id):
        purse.wallet.judge(node.node_id, failed.token_index, Verdict.ABANDONED)


async def _answer_again(
    purse: Purse, node: NodeEntry, agreement: Agreement, status: AccountStatusReply
) -> PaymentEntry | None:  # RA-R10, RA-R11
    """The proof whose answer was lost on its way here, if the node did not have to wait for a payment: at no price.

    Nothing is paid in any case. None when there is no such answer.
    """
    challenge = purse.wallet.unanswered(node.node_id, since_at=agreement.anchor_at)
    if challenge is None or challenge.period >= status.next_period:
        return None
    given_up = await drop_given_up(purse, node)
    try:
        reply = await _ask(purse, node, challenge)
    except NodeRefused as refused:
        if refused.code is not ErrorCode.PERIOD_REFUSED:
            raise
        await purse.write(purse.wallet.judge, node.node_id, challenge.token_index, Verdict.ABANDONED)
        return None
    if reply.amount_msat:
        raise NodeUntrusted(
            f"{node.petname} wants rent for period {challenge.period}, which it shows as paid; nothing was paid. "
            "Ask its operator"
        )
    return await _judge(purse, node, agreement, challenge, reply, given_up=given_up)


def _check_last_proof(purse: Purse, node: NodeEntry) -> None:
    """ProofFailed for as long as the last proof at no price was a failed one: no payment that is missing tells it."""
    last = purse.wallet.failed_challenge(node.node_id)
    if last is not None and last.verdict is Verdict.FAILED_AT_NO_PRICE:
        raise ProofFailed(
            Fault.WRONG_ANSWERS, f"{node.petname} failed its last proof, over {last.shares} shares{ADVICE}"
        )


async def _ask(purse: Purse, node: NodeEntry, challenge: Challenge) -> InvoiceReply:
    nonce = audit_nonce(audit_key(purse.account_secret), node.node_id, challenge.token_index)
    request = RequestInvoice(
        purpose=InvoicePurpose.RENT, period=challenge.period, token_index=challenge.token_index, nonce=nonce
    )
    return await purse.ask(node, request, InvoiceReply)


async def _judge(
    purse: Purse,
    node: NodeEntry,
    agreement: Agreement,
    challenge: Challenge,
    reply: InvoiceReply,
    *,
    given_up: AbstractSet[bytes],
) -> PaymentEntry:  # RA-R9
    """Check the proof in a reply and pay its invoice, or accept it where there is none to pay."""
    period, t = challenge.period, challenge.token_index
    ours = purse.wallet.standing(node.node_id, anchor_at=agreement.anchor_at)
    if reply.amount_msat:
        await refuse_replay(purse, node, reply, t)
    limit = check_rent(
        reply,
        prices=prices_of(purse, node, agreement),
        period=period,
        capacity_bytes=ours.rented.in_period(period),
        petname=node.petname,
    )
    failed = Verdict.FAILED if reply.amount_msat else Verdict.FAILED_AT_NO_PRICE
    secret = purse.account_secret
    try:
        proof = compute_proof(
            nonce=audit_nonce(audit_key(secret), node.node_id, t),
            node_id=node.node_id,
            token_index=t,
            token_key=token_key(secret),
            expected=challenge.expected,
            ours=_ids_at(purse, node),
            given_up=given_up,
            sample=reply.sample,
            lost=reply.lost,
            petname=node.petname,
        )
    except ProofFailed:
        await purse.write(purse.wallet.judge, node.node_id, t, failed)
        raise
    offer = Offer(
        node_id=node.node_id,
        purpose=InvoicePurpose.RENT,
        index=period,
        bolt11=reply.bolt11,
        amount_msat=reply.amount_msat,
        from_at=reply.from_at,
        until_at=reply.until_at,
        capacity_bytes=reply.capacity_bytes,
        shares=reply.shares,
        sampled=proof.sampled if proof else 0,
        token_index=t,
        sample_hash=proof.sample_hash if proof else NO_SAMPLE,
    )
    if not reply.amount_msat:
        if proof is not None and check_given(reply, node.petname) != proof.preimage:
            await purse.write(purse.wallet.judge, node.node_id, t, failed)
            raise proof_differs(node.petname, proof)
        return await accept(purse, node, offer, reply)
    if proof is None:
        return await pay_invoice(purse, node, offer, limit_msat=limit)
    try:
        return await pay_invoice(purse, node, offer, limit_msat=limit, payment_hash=proof.payment_hash)
    except InvoiceRefused as refused:
        if refused.fault is not InvoiceFault.WRONG_HASH:
            raise
        await purse.write(purse.wallet.judge, node.node_id, t, failed)
        raise proof_differs(node.petname, proof) from refused


def _challenge(purse: Purse, node: NodeEntry, nonce: bytes, period: int, t: int) -> Challenge:  # P-W4, P-R8
    """What the proof must cover: our shares as they were when this nonce was first revealed."""
    used_up = purse.catalog.used_up_at(node.node_id, t)
    if used_up:
        raise TokensUsedUp(
            f"{len(used_up)} shares at {node.petname} can be proven no more; nothing was paid. Give them new "
            f"tokens with: lnstore rent renew {node.petname}",
            shares=used_up,
        )
    ids = _ids_at(purse, node)
    expected = tuple(select_sample(nonce, ids))
    return purse.wallet.challenge(Challenge(node.node_id, t, period, expected, len(ids)), purse.clock.now())


def _ids_at(purse: Purse, node: NodeEntry) -> set[bytes]:
    ids = purse.catalog.share_ids_at(node.node_id)
    return {ids[at : at + 32] for at in range(0, len(ids), 32)}


def _proofs_left(purse: Purse, node: NodeEntry, token_index: int) -> int | None:
    end = purse.catalog.least_token_end(node.node_id)
    return None if end is None else max(end - token_index, 0)


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
