"""Rent, period by period, each payment locked to a proof that the node holds our shares (DESIGN.md, section 6).

The node learns the nonce of token index t only once we ask for the invoice of our own rent payment number t: what the
node says of indices is compared with our own books first, so that no nonce is revealed early and no old proof is paid
again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from lnstore.client.accounts import (
    CLOCK_TOLERANCE_SECONDS,
    account_status,
    agreement_of,
    check_prices,
    standing,
    wait_until_credited,
)
from lnstore.client.catalog import NodeEntry
from lnstore.client.holdings import check_listed, drop_given_up
from lnstore.client.money_errors import (
    InvoiceFault,
    InvoiceLost,
    InvoiceRefused,
    NodeUntrusted,
    ProofFailed,
    TokensUsedUp,
)
from lnstore.client.payments import know, pay_invoice, resolve_open, resume
from lnstore.client.proof import compute_proof, proof_differs
from lnstore.client.purse import Purse
from lnstore.client.tasks import open_tasks
from lnstore.client.wallet import Challenge, Offer, PaymentEntry, Standing, Verdict
from lnstore.errors import LnstoreError
from lnstore_protocol.ids import Msat, NodeId
from lnstore_protocol.messages import AccountState, AccountStatusReply, InvoicePurpose, InvoiceReply, RequestInvoice
from lnstore_protocol.proofs import audit_key, audit_nonce, select_sample, token_key
from lnstore_protocol.terms import Agreement, period_at, period_start, rent_msat

NODES_AT_ONCE = 8
MAXIMUM_AHEAD = 1
"""Nodes take rent for the current period and the one after it."""

PERIODS_AT_ONCE = 24
"""The most periods that one run pays at one node: a token each."""

TOKENS_WARNING = 3
"""With this many proofs left for some share it is time for new tokens."""

T = TypeVar("T")


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

    @property
    def warning(self) -> str:
        """A sentence when some share's tokens are nearly used up, else empty."""
        if self.proofs_left is None or self.proofs_left > TOKENS_WARNING:
            return ""
        return (
            f"some shares at {self.node.petname} can be proven only {self.proofs_left} more times; give them new "
            f"tokens before then, with: lnstore rent renew {self.node.petname}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RentStatus:
    """An account as both sides see it. The node's part is None when it does not answer (`error` says why)."""

    node: NodeEntry
    agreement: Agreement | None
    status: AccountStatusReply | None
    ours: Standing | None
    shares_in_catalog: int
    bytes_in_catalog: int
    rent_msat_per_period: Msat
    next_due_at: int | None
    paid_msat: Msat
    fees_msat: Msat
    error: str

    @property
    def agrees(self) -> bool:  # MA-R11
        """Whether the node's numbers are those of our own books (it may hold more shares: interrupted uploads)."""
        return (
            self.status is not None
            and self.ours is not None
            and self.status.capacity_bytes == self.ours.capacity_bytes
            and self.ours.next_proof <= self.status.token_index <= self.ours.latest_proof
            and self.status.paid_until_at == self.ours.paid_until_at
            and self.status.shares >= self.shares_in_catalog
        )


# --- decisions ------------------------------------------------------------------------------------------------------


def rent_due(agreement: Agreement, status: AccountStatusReply, *, now: int, ahead: int) -> bool:  # R-R7
    """Whether the account's next period is to be paid: it has begun, or begins within `ahead` periods."""
    terms = agreement.terms.terms
    rent = rent_msat(status.capacity_bytes, terms.period_seconds, terms.price_msat_per_gib_month)
    return rent > 0 and status.next_period <= period_at(agreement.anchor_at, terms.period_seconds, now) + ahead


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
def check_rent(reply: InvoiceReply, *, agreement: Agreement, period: int, capacity_bytes: int, petname: str) -> Msat:
    """The most that this period may cost by our own books; InvoiceRefused when it is for other times or bytes."""
    terms = agreement.terms.terms
    starts = period_start(agreement.anchor_at, terms.period_seconds, period)
    if (reply.from_at, reply.until_at) != (starts, starts + terms.period_seconds):
        raise InvoiceRefused(
            InvoiceFault.WRONG_PERIOD,
            f"{petname} wants to be paid for other times than period {period}; nothing was paid. Ask its operator",
        )
    if reply.capacity_bytes > capacity_bytes:
        raise InvoiceRefused(
            InvoiceFault.WRONG_CAPACITY,
            f"{petname} wants rent for {reply.capacity_bytes} bytes, you rented {capacity_bytes} there; nothing was "
            "paid. Ask its operator",
        )
    return rent_msat(capacity_bytes, terms.period_seconds, terms.price_msat_per_gib_month)


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
    chosen = [node for node in purse.catalog.nodes() if node.agreement is not None] if nodes is None else list(nodes)
    tell = progress or (lambda _: None)

    async def pay(node: NodeEntry) -> RentOutcome:
        paid: list[RentPaid] = []
        status = None
        error: LnstoreError | None = None
        try:
            for _ in range(PERIODS_AT_ONCE):
                agreement, status = await standing(purse, node)
                if not rent_due(agreement, status, now=purse.clock.now(), ahead=ahead):
                    break
                tell(f"paying {node.petname} for period {status.next_period}")
                paid.append(await _pay_period(purse, node, agreement, status))
        except LnstoreError as exc:
            error = exc
        return RentOutcome(
            node=node,
            paid=tuple(paid),
            paid_until_at=status.paid_until_at if status else None,
            proofs_left=_proofs_left(purse, node, status.token_index) if status else None,
            error=error,
        )

    return await _each(pay, chosen)


async def _pay_period(purse: Purse, node: NodeEntry, agreement: Agreement, status: AccountStatusReply) -> RentPaid:
    """The account's next period, paid and credited."""
    period = status.next_period
    try:
        entry = await _paid(purse, node, agreement, status)
    except InvoiceLost:
        # That challenge is abandoned: the next one has another answer, and so another invoice.
        entry = await _paid(purse, node, agreement, status)
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
    ours = purse.wallet.standing(node.node_id, anchor_at=agreement.anchor_at)
    check_prices(agreement.terms.terms, purse.config, node.petname)
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
    secret = purse.account_secret
    nonce = audit_nonce(audit_key(secret), node.node_id, t)
    given_up = await drop_given_up(purse, node)
    await check_listed(purse, node, _ids_at(purse, node))
    challenge = await purse.write(_challenge, purse, node, nonce, period, t)
    request = RequestInvoice(purpose=InvoicePurpose.RENT, period=period, token_index=t, nonce=nonce)
    reply = await purse.ask(node, request, InvoiceReply)
    limit = check_rent(
        reply, agreement=agreement, period=period, capacity_bytes=ours.capacity_bytes, petname=node.petname
    )
    try:
        proof = compute_proof(
            nonce=nonce,
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
        await purse.write(purse.wallet.judge, node.node_id, t, Verdict.FAILED)
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
    )
    if proof is None:
        return await pay_invoice(purse, node, offer, limit_msat=limit)
    try:
        return await pay_invoice(purse, node, offer, limit_msat=limit, payment_hash=proof.payment_hash)
    except InvoiceRefused as refused:
        if refused.fault is not InvoiceFault.WRONG_HASH:
            raise
        await purse.write(purse.wallet.judge, node.node_id, t, Verdict.FAILED)
        raise proof_differs(node.petname, proof) from refused


def _challenge(purse: Purse, node: NodeEntry, nonce: bytes, period: int, t: int) -> Challenge:  # P-W4, P-R8
    """What the proof must cover: our shares as they were when this nonce was first revealed."""
    used_up = [share.share_id for share in purse.catalog.shares_at(node.node_id) if share.token_end <= t]
    if used_up:
        raise TokensUsedUp(
            f"{len(set(used_up))} shares at {node.petname} can be proven no more; nothing was paid. Give them new "
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
    ends = [share.token_end for share in purse.catalog.shares_at(node.node_id)]
    return max(min(ends) - token_index, 0) if ends else None


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


# --- status ---------------------------------------------------------------------------------------------------------


async def rent_status(purse: Purse, nodes: Sequence[NodeEntry] | None = None) -> list[RentStatus]:
    """How the accounts at these nodes (all known ones) stand, in the node's numbers and in our own."""
    await resolve_open(purse)

    async def look(node: NodeEntry) -> RentStatus:
        try:
            status, error = await account_status(purse, node), ""
        except LnstoreError as exc:
            status, error = None, str(exc)
        return _status(purse, node, status, error)

    return await _each(look, list(purse.catalog.nodes() if nodes is None else nodes))


def _status(purse: Purse, node: NodeEntry, status: AccountStatusReply | None, error: str) -> RentStatus:
    agreement = agreement_of(purse, node) if node.agreement is not None else None
    ours = purse.wallet.standing(node.node_id, anchor_at=agreement.anchor_at) if agreement else None
    spent = [row for row in purse.wallet.spending() if row.node_id == node.node_id]
    sizes = {share.share_id: share.size_bytes for share in purse.catalog.shares_at(node.node_id)}
    rent, due_at = Msat(0), None
    if agreement is not None and ours is not None:
        terms = agreement.terms.terms
        rent = rent_msat(ours.capacity_bytes, terms.period_seconds, terms.price_msat_per_gib_month)
        lapsed = status is not None and status.state is AccountState.LAPSED
        due_at = None if lapsed or rent == 0 else ours.paid_until_at
    return RentStatus(
        node=node,
        agreement=agreement,
        status=status,
        ours=ours,
        shares_in_catalog=len(sizes),
        bytes_in_catalog=sum(sizes.values()),
        rent_msat_per_period=rent,
        next_due_at=due_at,
        paid_msat=Msat(sum(row.rent_msat + row.capacity_msat + row.deposit_msat for row in spent)),
        fees_msat=Msat(sum(row.fees_msat for row in spent)),
        error=error,
    )


async def _each(function: Callable[[NodeEntry], Awaitable[T]], nodes: Sequence[NodeEntry]) -> list[T]:
    """The function's result for each node, in their order, several at once."""
    results: dict[NodeId, T] = {}
    limiter = trio.CapacityLimiter(NODES_AT_ONCE)

    async def one(node: NodeEntry) -> None:
        async with limiter:
            results[node.node_id] = await function(node)

    async with open_tasks() as nursery:
        for node in nodes:
            nursery.start_soon(one, node)
    return [results[node.node_id] for node in nodes]
