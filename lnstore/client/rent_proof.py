"""Asking for a proof over our shares, judging it, and paying the invoice that is locked to it (DESIGN.md, section 6).

The node learns the nonce of token index t only once we ask for the invoice of our own rent payment number t: what the
node says of indices is compared with our own books first, so that no nonce is revealed early and no old proof is paid
again.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from lnstore.client.accounts import check_prices
from lnstore.client.agreements import CLOCK_TOLERANCE_SECONDS, agreements_of, held_from, price_for, prices_of
from lnstore.client.catalog import NodeEntry
from lnstore.client.given import accept, check_given
from lnstore.client.holdings import check_listed, drop_given_up
from lnstore.client.losses import Losses
from lnstore.client.money_errors import (
    InvoiceFault,
    InvoiceRefused,
    NodeUntrusted,
    ProofFailed,
    TokensUsedUp,
)
from lnstore.client.node_errors import NodeRefused
from lnstore.client.payments import check_affordable, know, pay_invoice
from lnstore.client.proof import compute_proof, proof_differs
from lnstore.client.purse import Purse
from lnstore.client.rent_checks import MAXIMUM_AHEAD, check_indices, check_rent
from lnstore.client.verdicts import refuse_replay
from lnstore.client.wallet_entries import Challenge, Offer, PaymentEntry, Verdict
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.messages import AccountStatusReply, InvoicePurpose, InvoiceReply, RequestInvoice
from lnstore_protocol.proofs import audit_key, audit_nonce, select_sample, token_key
from lnstore_protocol.receipts import NO_SAMPLE
from lnstore_protocol.terms import Agreement, period_at


# MA-W4, MA-W5, MA-R21
async def ask_and_pay(purse: Purse, node: NodeEntry, agreement: Agreement, status: AccountStatusReply) -> PaymentEntry:
    """Reveal the nonce of the account's next period, check the proof that comes for it, and pay."""
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


async def answer_again(
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
