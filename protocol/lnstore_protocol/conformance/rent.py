"""Checks of 03 and 05: the rent invoice, whose preimage is the proof."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Final

from lnstore_protocol import proofs
from lnstore_protocol.conformance import bolt11
from lnstore_protocol.conformance.leases import put_tokens
from lnstore_protocol.conformance.link import message_frame
from lnstore_protocol.conformance.node_link import NodeLink
from lnstore_protocol.conformance.tenant import Tenant, growth, judge_invoice, new_share, new_tenant, pay, put, status
from lnstore_protocol.conformance.trial import Checks, Trial
from lnstore_protocol.conformance.verdict import Failed, Skipped
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import ShareId
from lnstore_protocol.merkle import share_id
from lnstore_protocol.messages import (
    SAMPLE_SHARES,
    TOKEN_BYTES,
    TOKENS_PER_SHARE,
    AccountState,
    AccountStatusReply,
    ErrorReply,
    InvoicePurpose,
    InvoiceReply,
    PutShare,
    RequestInvoice,
)
from lnstore_protocol.terms import period_at, period_start, rent_msat

CHECKS = Checks()
REFUSED: Final = ErrorCode.PERIOD_REFUSED
MISMATCH: Final = ErrorCode.NONCE_MISMATCH
ENTRY_BYTES = ShareId.SIZE + TOKEN_BYTES
NO_TOKEN = bytes(TOKEN_BYTES)
IN_FLIGHT = 64
MANY_SHARES = SAMPLE_SHARES + 8
EXPIRY_SLACK_SECONDS = 120


@dataclass(slots=True)
class Case:
    """An account that owes rent, what it stored, and how it stands."""

    tenant: Tenant
    link: NodeLink
    shares: dict[ShareId, bytes]
    """What it stored, by share id."""
    standing: AccountStatusReply

    @property
    def request(self) -> RequestInvoice:
        """The request for the first unpaid period."""
        t = self.standing.token_index
        return RequestInvoice(
            purpose=InvoicePurpose.RENT, period=self.standing.next_period, token_index=t, nonce=self.tenant.nonce(t)
        )


def prepare(trial: Trial, *sizes: int) -> Case:
    """A new account with capacity and shares of these sizes, that can ask for its next period's rent."""
    tenant = new_tenant(trial)
    link = trial.link(tenant.identity)
    standing = status(trial, link)
    terms, anchor = tenant.terms, tenant.agreement.anchor_at
    if not rent_msat(standing.capacity_bytes, terms.period_seconds, terms.price_msat_per_gib_month):
        raise Skipped("rent is free at this node")
    if standing.next_period > period_at(anchor, terms.period_seconds, trial.bench.now()) + 1:
        raise Skipped("a new account's next period is further away than rent may be paid ahead")
    shares = {}
    for size in sizes:
        share = new_share(size)
        shares[put(trial, link, tenant, share)] = share
    return Case(tenant, link, shares, standing)


def rent(trial: Trial, case: Case, request: RequestInvoice | None = None) -> tuple[InvoiceReply, bolt11.Invoice]:
    """The reply to the request for rent, judged by all a client must judge it by before it pays."""
    request = request or case.request
    reply = trial.reply(case.link, request, InvoiceReply, "MA-R17")
    judge_bounds(trial, case, reply)
    invoice = judge_invoice(trial, reply, reply.amount_msat)
    judge_proof(trial, case, request, reply, invoice.payment_hash)
    return reply, invoice


def judge_bounds(trial: Trial, case: Case, reply: InvoiceReply) -> None:
    """Times, capacity and amount (R-W17, R-R19)."""
    terms, anchor, period = case.tenant.terms, case.tenant.agreement.anchor_at, case.standing.next_period
    bounds = period_start(anchor, terms.period_seconds, period), period_start(anchor, terms.period_seconds, period + 1)
    trial.require("R-W17", (reply.from_at, reply.until_at) == bounds, f"rent for other times than period {period}")
    capacity = case.standing.capacity_bytes
    trial.require("R-R19", reply.capacity_bytes == capacity, f"rent for {reply.capacity_bytes} bytes of {capacity}")
    due = rent_msat(capacity, terms.period_seconds, terms.price_msat_per_gib_month)
    trial.require("R-W17", reply.amount_msat == due, f"{reply.amount_msat} msat of rent asked for, {due} are due")
    trial.reached.update({"R-W2", "R-R19"})


def judge_proof(
    trial: Trial, case: Case, request: RequestInvoice, reply: InvoiceReply, payment_hash: bytes
) -> dict[ShareId, bytes]:
    """The sample's tokens by share id; Failed unless sample, tokens and payment hash are what our own copies give."""
    nonce, t = request.nonce or b"", request.token_index or 0
    whole = len(reply.sample) % ENTRY_BYTES == 0 and len(reply.lost) % ShareId.SIZE == 0
    trial.require("MA-W6", whole, "sample or lost is not a whole number of entries")
    rows = [reply.sample[at : at + ENTRY_BYTES] for at in range(0, len(reply.sample), ENTRY_BYTES)]
    tokens = {ShareId(row[:32]): row[32:] for row in rows}
    lost = [ShareId(reply.lost[at : at + 32]) for at in range(0, len(reply.lost), 32)]
    trial.require("MA-W6", len(tokens) == len(rows) and not tokens.keys() & lost, "a share that is named twice")
    trial.require("P-W9", not lost, f"the node says that it lost {len(lost)} shares which it has just acknowledged")
    keys = [proofs.sample_key(nonce, row[:32]) for row in rows]
    trial.require("P-R9", len(rows) <= SAMPLE_SHARES and keys == sorted(set(keys)), "a sample that is out of order")
    wanted = proofs.select_sample(nonce, case.shares)
    text = f"a sample of {len(rows)} shares that is not the {len(wanted)} which the nonce selects"
    trial.require("P-W7", list(tokens) == wanted, text)
    trial.require("P-W7", reply.shares == len(case.shares), f"{reply.shares} shares of {len(case.shares)}")
    answers = [(share, proofs.answer(nonce, share, case.shares[share])) for share in wanted]
    if wanted:
        due = proofs.payment_hash(proofs.fold(nonce, answers))
        trial.require("P-W11", payment_hash == due, "the payment hash is not that of the folded answers")
    else:
        folded = proofs.payment_hash(proofs.fold(nonce, []))
        trial.require("P-W11", payment_hash != folded, "the preimage of an empty sample can be guessed")
    for share, answer in answers:
        if tokens[share] != NO_TOKEN:
            unmasked = proofs.unmask(tokens[share], case.tenant.token_key, case.tenant.terms.node_id, share, t)
            trial.require("P-R6", unmasked == answer, f"the token of share {share} is not the one that was stored")
    trial.reached.update({"P-R6", "P-R9", "P-R10", "P-R11", "P-R13", "P-R14", "P-W10", "MA-R20", "MA-R21", "P-W8"})
    return tokens


# --- the proof --------------------------------------------------------------------------------------------------------


@CHECKS.on("MB-R35", "P-W10", "P-R6")
def rent_with_renewed_tokens(trial: Trial) -> None:
    """The proof comes with the tokens put last, and an older table that comes late does not shorten them."""
    case = prepare(trial, 300)
    tenant, t = case.tenant, case.standing.token_index
    share = new_share(20_000)
    bare = put(trial, case.link, tenant, share, tokens=b"")
    case.shares[bare] = share
    for count in (3, 1):
        kept = put_tokens(trial, case.link, [share], [tenant.tokens(share, t, count)], start=t)
        trial.require("MB-R35", all(kept), "tokens of a leased share were not taken")
    reply = trial.reply(case.link, case.request, InvoiceReply, "MA-R17")
    tokens = judge_proof(trial, case, case.request, reply, bolt11.decode(reply.bolt11).payment_hash)
    trial.require("MB-R35", tokens[bare] != NO_TOKEN, "the proof comes without the token that was put for its index")


@CHECKS.on("MB-R34", "MB-R35", "P-W10", "MA-R17")
def rent_with_tokens_from_a_later_index(trial: Trial) -> None:
    """A client that passed over indices puts tokens from its next one on, and the proof at that index has them."""
    case = prepare(trial, 300)
    tenant, link, t = case.tenant, case.link, case.standing.token_index + TOKENS_PER_SHARE
    share = next(iter(case.shares.values()))
    for start in (t + 3, t):  # the latter reach less far, and begin sooner
        kept = put_tokens(trial, link, [share], [tenant.tokens(share, start, 4)], start=start)
        trial.require("MB-R34", all(kept), "tokens from a later index on were not taken")
    later = replace(case.request, token_index=t, nonce=tenant.nonce(t))
    reply = trial.reply(link, later, InvoiceReply, "MA-R17")
    tokens = judge_proof(trial, case, later, reply, bolt11.decode(reply.bolt11).payment_hash)
    trial.require("MB-R35", NO_TOKEN not in tokens.values(), "the proof comes without the token put for its index")


@CHECKS.on("P-W11", "P-R13", "P-W7", "P-W8", "MA-W6", "P-R9", "P-R10", "R-W17", "R-R19", "R-W19", "MA-R20", "MA-R21")
def rent_is_locked_to_the_proof(trial: Trial) -> None:
    """The invoice's payment hash is what our own copies of the shares fold to, over exactly the rent."""
    case = prepare(trial, 1, 511, 512, 513, 16_384, 40_000)
    _, invoice = rent(trial, case)
    terms = case.tenant.terms
    start = period_start(case.tenant.agreement.anchor_at, terms.period_seconds, case.standing.next_period)
    payable = start + terms.grace_seconds - trial.bench.now()
    text = f"the invoice can be paid for {invoice.expiry_seconds} s, and the grace ends in {payable}"
    trial.require("R-W19", invoice.expiry_seconds >= max(60, payable - EXPIRY_SLACK_SECONDS), text)


@CHECKS.on("MA-R18", "MA-R17", "P-W7")
def one_nonce_per_period(trial: Trial) -> None:
    """The same request gets the same reply, also after more was stored; another nonce or index is NONCE_MISMATCH."""
    case = prepare(trial, 3000, 4000)
    first, _ = rent(trial, case)
    again = trial.reply(case.link, case.request, InvoiceReply, "MA-R18")
    trial.require("MA-R18", again == first, "the same request gave another reply")
    request = case.request
    for what, nonce, index in (
        ("another nonce", os.urandom(32), request.token_index),
        ("the next nonce", case.tenant.nonce(1), request.token_index),
        ("the next token index", request.nonce, (request.token_index or 0) + 1),
    ):
        other = RequestInvoice(purpose=InvoicePurpose.RENT, period=request.period, token_index=index, nonce=nonce)
        trial.refusal("MA-R17", case.link, other, MISMATCH, what=f"{what} for a period that was asked for")
    put(trial, case.link, case.tenant, new_share(5000))
    fresh = trial.link(case.tenant.identity)
    later = trial.reply(fresh, request, InvoiceReply, "MA-R18")
    trial.require("MA-R18", later == first, "the same request gave another reply after something was stored")
    trial.reached.add("P-W7")


@CHECKS.on("MA-R25", "MA-R17")
def a_higher_index_for_the_same_period(trial: Trial) -> None:
    """Another challenge gets another invoice for the same rent; the former can no longer be paid."""
    case = prepare(trial, 700, 800)
    payer = trial.bench.tools.payer
    t = case.standing.token_index
    former, _ = rent(trial, case)
    for index in (t + 2, t + 3, t + 5):
        request = replace(case.request, token_index=index, nonce=case.tenant.nonce(index))
        latter, _ = rent(trial, case, request)
        trial.require("MA-R25", latter.bolt11 != former.bolt11, "another challenge gave the same invoice")
        same = (latter.amount_msat, latter.capacity_bytes) == (former.amount_msat, former.capacity_bytes)
        trial.require("MA-R25", same, "another challenge changed the rent")
        stands = payer is not None and payer.pay(former.bolt11)
        trial.require("MA-R25", not stands, "an invoice that was replaced could still be paid")
        former = latter
    trial.refusal("MA-R17", case.link, case.request, MISMATCH, what="the first challenge after a later one")


@CHECKS.on("P-W10", "P-R6", "MB-R5")
def tokens_come_back(trial: Trial) -> None:
    """Each share comes with the token of its index as it was stored last, with zeros where there is none."""
    case = prepare(trial, 2000, 2001, 2002, 2003)
    tenant, link, t = case.tenant, case.link, case.standing.token_index
    again, none, later, plain = case.shares
    right = tenant.tokens(case.shares[again])
    at = t * TOKEN_BYTES
    replaced = {again: (0, right[::-1]), none: (0, b""), later: (t + 1, tenant.tokens(case.shares[later], t + 1, 3))}
    for share, (start, tokens) in replaced.items():
        request = PutShare(share_id=share, token_start=start, tokens=tokens, payload=case.shares[share])
        if isinstance(link.ask(request), ErrorReply):
            raise Failed("MB-R5", "a share could not be stored again with new tokens")
    reply = trial.reply(link, case.request, InvoiceReply, "MA-R17")
    got = {
        reply.sample[i : i + 32]: reply.sample[i + 32 : i + ENTRY_BYTES] for i in range(0, 4 * ENTRY_BYTES, ENTRY_BYTES)
    }
    expected = {
        again: right[::-1][at : at + TOKEN_BYTES],
        none: NO_TOKEN,
        later: NO_TOKEN,
        plain: tenant.tokens(case.shares[plain])[at : at + TOKEN_BYTES],
    }
    for share, token in expected.items():
        requirement = {again: "MB-R5", plain: "P-R6"}.get(share, "P-W10")
        trial.require(requirement, got.get(share) == token, f"share {share} came with another token")


@CHECKS.on("P-R6", "P-W10")
def tokens_are_the_accounts_own(trial: Trial) -> None:
    """Two accounts with the same share each get their own tokens."""
    case, other = prepare(trial, 7000), prepare(trial)
    ((stored, share),) = case.shares.items()
    put(trial, other.link, other.tenant, share)
    other.shares[stored] = share
    for one in (other, case):
        rent(trial, one)
    trial.reached.add("P-R6")


@CHECKS.on("P-W7", "P-W11")
def sample_of_many(trial: Trial) -> None:
    """Of more than 512 shares the sample is the 512 with the smallest sample keys."""
    case = prepare(trial)
    shares = [number.to_bytes(2, "big") + os.urandom(6) for number in range(MANY_SHARES)]
    link = case.link
    for at in range(0, len(shares), IN_FLIGHT):
        requests = [
            PutShare(share_id=share_id(share), token_start=0, tokens=case.tenant.tokens(share, 0, 1), payload=share)
            for share in shares[at : at + IN_FLIGHT]
        ]
        ids = [link.new_id(PutShare.TYPE) for _ in requests]
        link.send(b"".join(map(message_frame, ids, requests)), what="put_share frames")
        for _ in ids:
            received = link.receive_reply().message
            if isinstance(received, ErrorReply):
                raise Failed("MB-R2", f"a share of 8 bytes was answered {received.code.name}")
    case.shares = {share_id(share): share for share in shares}
    rent(trial, case)


@CHECKS.on("P-W11", "P-R14")
def rent_without_shares(trial: Trial) -> None:
    """An account with capacity and no share pays an invoice whose preimage nobody can guess."""
    case = prepare(trial)
    reply, _ = rent(trial, case)
    trial.require("P-W7", not reply.sample and not reply.shares, "a sample of an account without shares")


# --- asking and paying ------------------------------------------------------------------------------------------------


@CHECKS.on("MA-R17", "R-R18")
def rent_refusals(trial: Trial) -> None:
    """Another period than the first unpaid one, and another token index than the account's, are PERIOD_REFUSED."""
    case = prepare(trial, 600)
    period, index = case.standing.next_period, case.standing.token_index
    for what, wrong_period, wrong_index in (
        ("a paid period", period - 1, index),
        ("a later period", period + 1, index),
        ("a period far away", period + (1 << 40), index),
        ("a token index below the account's", period, index - 1),
    ):
        if wrong_period < 0 or wrong_index < 0:
            continue
        request = RequestInvoice(
            purpose=InvoicePurpose.RENT, period=wrong_period, token_index=wrong_index, nonce=os.urandom(32)
        )
        trial.refusal("MA-R17", case.link, request, REFUSED, what=what)
    # None of that was an answer: the true nonce is still taken.
    rent(trial, case)
    trial.reached.add("R-R18")


@CHECKS.on("R-W20", "R-W15", "MA-R17", "R-W21", "R-R17")
def paid_rent(trial: Trial) -> None:
    """Paid rent moves paid_until to the period's end and the token index past the proof's, which may skip some."""
    case = prepare(trial, 800, 900)
    before = case.standing
    used = before.token_index + 2
    request = RequestInvoice(
        purpose=InvoicePurpose.RENT, period=before.next_period, token_index=used, nonce=case.tenant.nonce(used)
    )
    reply, _ = rent(trial, case, request)
    trial.reached.add("R-R17")
    deposit_msat = status(trial, case.link).deposit_msat
    pay(trial, reply.bolt11)

    def credited() -> AccountStatusReply | None:
        now = status(trial, case.link)
        return now if now.next_period != before.next_period else None

    after = trial.until(credited, Failed("R-W20", "paid rent was not credited"))
    trial.require("R-W20", after.paid_until_at == reply.until_at, f"paid until {after.paid_until_at}")
    trial.require("R-W20", after.next_period == before.next_period + 1, f"the next period is {after.next_period}")
    index = used + 1
    trial.require("R-W20", after.token_index == index, f"the next token index is {after.token_index}, not {index}")
    trial.require("R-W20", after.state is AccountState.ACTIVE, f"the account is {after.state.name}")
    trial.require("R-W15", after.deposit_msat == deposit_msat, "the payment was credited to the deposit as well")
    terms, anchor = case.tenant.terms, case.tenant.agreement.anchor_at
    ahead = after.next_period > period_at(anchor, terms.period_seconds, trial.bench.now()) + 1
    for what, t in [
        ("a token index below the account's", used),
        *([("a period too far ahead", index)] if ahead else []),
    ]:
        request = RequestInvoice(
            purpose=InvoicePurpose.RENT, period=after.next_period, token_index=t, nonce=case.tenant.nonce(t)
        )
        trial.refusal("MA-R17", case.link, request, REFUSED, what=what)
    trial.reached.update({"MA-R17", "R-W21"})


@CHECKS.on("R-W8", "MA-R13")
def growth_after_a_rent_invoice(trial: Trial) -> None:
    """A growth asked for after a rent invoice is charged until the end of that invoice's period."""
    case = prepare(trial, 900)
    reply, _ = rent(trial, case)
    more = case.standing.capacity_bytes + (1 << 20)
    if more > case.tenant.terms.maximum_capacity_bytes:
        raise Skipped("the account has the most that the terms allow")
    offer = growth(trial, case.link, case.tenant, more)
    text = f"a growth until {offer.until_at}, and rent was asked for until {reply.until_at}"
    trial.require("R-W8", offer.until_at == reply.until_at, text)
    trial.reached.add("MA-R13")
