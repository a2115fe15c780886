"""An account at the node under test: opened, rented for, filled; every reply judged as a careful client would."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from lnstore_protocol import cbor, proofs
from lnstore_protocol.conformance import bolt11
from lnstore_protocol.conformance.node_link import NodeLink
from lnstore_protocol.conformance.trial import Trial
from lnstore_protocol.conformance.verdict import Failed, Skipped
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, Msat, ShareId
from lnstore_protocol.merkle import share_id
from lnstore_protocol.messages import (
    AccountStatus,
    AccountStatusReply,
    AddCapacity,
    AddCapacityReply,
    GetTerms,
    InvoicePurpose,
    InvoiceReply,
    OpenAccount,
    OpenAccountReply,
    PutShare,
    PutShareReply,
    RequestInvoice,
    TermsReply,
)
from lnstore_protocol.terms import (
    Agreement,
    SignedTerms,
    Terms,
    ingress_msat,
    period_at,
    period_start,
    rent_msat,
    traffic_msat,
)

DEFAULT_CAPACITY_BYTES = 8 << 20
"""What an account of the run rents unless it is told otherwise: two shares of the greatest size."""

DEPOSIT_TRAFFIC_BYTES = 64 << 20
"""For so much reading the run's reader deposits."""

CLOCK_TOLERANCE_SECONDS = 600
NO_PAYER = "needs a payer: give --lightning-rpc or --pay-command"


@dataclass(slots=True)
class Tenant:
    """An account and its keys."""

    identity: Identity
    agreement: Agreement
    capacity_bytes: int = 0
    audit_key: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    token_key: bytes = field(default_factory=lambda: os.urandom(32), repr=False)

    @property
    def account_id(self) -> AccountId:
        """Whose account it is."""
        return AccountId(self.identity.public_key)

    @property
    def terms(self) -> Terms:
        """What was agreed."""
        return self.agreement.terms.terms

    def nonce(self, t: int) -> bytes:
        """r_t."""
        return proofs.audit_nonce(self.audit_key, self.terms.node_id, t)

    def tokens(self, share: bytes, start: int = 0, count: int = 24) -> bytes:
        """Tokens of a share."""
        return proofs.make_tokens(
            share, share_id(share), self.audit_key, self.token_key, self.terms.node_id, start, count
        )


# --- terms and agreements ---------------------------------------------------------------------------------------------


def take_terms(trial: Trial) -> SignedTerms:
    """The node's terms, judged (R-R1 to R-R4, C-R6)."""
    if trial.bench.terms is None:
        link = trial.link()
        encoded = trial.reply(link, GetTerms(), TermsReply, "MA-R1").terms
        trial.bench.terms = judge_terms(trial, encoded)
    return trial.bench.terms


def judge_terms(trial: Trial, encoded: bytes) -> SignedTerms:
    """The terms; Failed with what a client must refuse them for."""
    judge_cbor(encoded, "the terms")
    try:
        signed = SignedTerms.decode(encoded)
    except RemoteProtocolError as exc:
        raise Failed(_STRUCTURE_FAULTS.get(exc.code, "R-R2"), f"the terms: {exc}") from exc
    trial.reached.update({"R-R1", "R-R2", "C-R8", "C-R6", "C-W3"})
    terms, hello, now = signed.terms, trial.hello(), trial.bench.now()
    trial.require("R-R3", terms.node_id == trial.bench.address.node_id, f"terms of another node, {terms.node_id}")
    trial.require("R-R3", terms.lightning_id == hello.lightning_id, "terms for another Lightning id than hello's")
    trial.require("R-R3", terms.network == hello.network, "terms for another network than hello's")
    starts = terms.valid_from_at - CLOCK_TOLERANCE_SECONDS
    trial.require("R-R4", starts <= now <= terms.valid_until_at, "terms that are not valid now")
    return signed


_STRUCTURE_FAULTS = {ErrorCode.BAD_SIGNATURE: "R-R1", ErrorCode.UNKNOWN_FEATURE: "C-R8"}


def judge_cbor(encoded: bytes, what: str) -> None:
    """Failed (C-R6) unless the bytes are deterministic CBOR."""
    try:
        cbor.decode(encoded, what=what)
    except RemoteProtocolError as exc:
        raise Failed("C-R6", str(exc)) from exc


def open_account(trial: Trial, identity: Identity | None = None, *, anchor_at: int | None = None) -> Tenant:
    """A new account, its agreement judged (MA-R7)."""
    terms = take_terms(trial)
    identity = identity or Identity.generate()
    proposed = Agreement.propose(terms, identity, trial.bench.now() if anchor_at is None else anchor_at)
    reply = trial.reply(trial.link(identity), OpenAccount(agreement=proposed.encoded), OpenAccountReply, "MA-R4")
    return Tenant(identity, judge_agreement(trial, reply.agreement, identity))


def judge_agreement(trial: Trial, encoded: bytes, identity: Identity) -> Agreement:
    """The agreement of this account with the node; Failed with what a client must refuse it for."""
    judge_cbor(encoded, "the agreement")
    try:
        agreement = Agreement.decode(encoded)
    except RemoteProtocolError as exc:
        raise Failed(_STRUCTURE_FAULTS.get(exc.code, "MA-R7"), f"the agreement: {exc}") from exc
    trial.require("MA-R7", agreement.countersigned, "the agreement is not countersigned")
    trial.require("MA-R7", agreement.account_id == identity.public_key, "the agreement is another account's")
    node_id = trial.bench.address.node_id
    trial.require("MA-R7", agreement.terms.terms.node_id == node_id, "the agreement is with another node")
    return agreement


# --- invoices ---------------------------------------------------------------------------------------------------------


def judge_invoice(trial: Trial, reply: InvoiceReply, limit_msat: int) -> bolt11.Invoice:
    """The invoice; Failed with the rule by which a client must not pay it (R-R10 to R-R14)."""
    try:
        invoice = bolt11.decode(reply.bolt11)
    except ValueError as exc:
        raise Failed("R-R10", f"the invoice can not be read: {exc}") from exc
    trial.reached.add("R-R10")
    hello = trial.hello()
    trial.require("R-R11", invoice.payee == hello.lightning_id, f"the invoice's payee is {invoice.payee.hex()}")
    network = bolt11.NETWORKS.get(hello.network)
    trial.require("R-R12", invoice.prefix == network, f"an invoice of {invoice.prefix!r} on {hello.network}")
    asked = f"the invoice asks for {invoice.amount_msat} msat, the reply for {reply.amount_msat}, due are {limit_msat}"
    trial.require("R-R13", invoice.amount_msat == reply.amount_msat and reply.amount_msat <= limit_msat, asked)
    left = invoice.created_at + invoice.expiry_seconds - trial.bench.now() + trial.bench.advanced_seconds
    trial.require("R-R14", left > 30, f"the invoice expires in {left} seconds")
    return invoice


def pay(trial: Trial, bolt11_text: str) -> None:
    """Pay it; Skipped when that can not be done, which is not the node's fault as far as is known."""
    payer = trial.bench.tools.payer
    if payer is None:
        raise Skipped(NO_PAYER)
    if not payer.pay(bolt11_text):
        raise Skipped("the payment failed; see that the payer has a channel or a route to the node")


def status(trial: Trial, link: NodeLink) -> AccountStatusReply:
    """How the account stands."""
    return trial.reply(link, AccountStatus(), AccountStatusReply, "MA-R8")


def growth(trial: Trial, link: NodeLink, tenant: Tenant, capacity_bytes: int) -> AddCapacityReply:
    """The node's offer of a growth, judged (R-R8, R-R9, R-W8, R-W9) but not paid."""
    before = status(trial, link)
    request = AddCapacity(growth_index=before.growth_index, capacity_bytes=capacity_bytes)
    reply = trial.reply(link, request, AddCapacityReply, "MA-R12")
    terms, now = tenant.terms, trial.bench.now()
    anchor, period = tenant.agreement.anchor_at, terms.period_seconds
    added = capacity_bytes - before.capacity_bytes
    trial.require("R-R8", reply.capacity_bytes == added, f"{reply.capacity_bytes} bytes offered, {added} asked for")
    near = abs(reply.from_at - now) <= CLOCK_TOLERANCE_SECONDS
    trial.require("R-R8", near, f"a growth from {reply.from_at}, and it is {now}")
    latest = period_start(anchor, period, max(period_at(anchor, period, now), 0) + 2)
    trial.require("R-R8", reply.from_at < reply.until_at <= latest, f"a growth until {reply.until_at}")
    due = max(1, rent_msat(added, reply.until_at - reply.from_at, terms.price_msat_per_gib_month))
    trial.require("R-W8", reply.amount_msat == due, f"{reply.amount_msat} msat asked for, {due} are due")
    trial.reached.update({"R-R9", "R-W2"})
    judge_invoice(trial, reply, due)
    return reply


def grow(trial: Trial, link: NodeLink, tenant: Tenant, capacity_bytes: int) -> AccountStatusReply:
    """Have that capacity, paid and credited (R-W10, R-W15); nothing is paid where the node gives it for nothing."""
    before = status(trial, link)
    if before.capacity_bytes >= capacity_bytes:
        tenant.capacity_bytes = before.capacity_bytes
        return before
    if trial.bench.tools.payer is None:
        raise Skipped(NO_PAYER)
    reply = growth(trial, link, tenant, capacity_bytes)
    pay(trial, reply.bolt11)

    def credited() -> AccountStatusReply | None:
        now = status(trial, link)
        return now if now.growth_index != before.growth_index else None

    after = trial.until(credited, Failed("R-W10", "a paid growth was not credited"))
    wanted = before.capacity_bytes + reply.capacity_bytes
    trial.require("R-W15", after.capacity_bytes == wanted, f"{after.capacity_bytes} bytes, {wanted} were paid for")
    trial.require("R-W15", after.growth_index == before.growth_index + 1, "the growth index did not go up by one")
    if not before.capacity_bytes:
        until = max(before.paid_until_at, reply.until_at)
        trial.require("R-W10", after.paid_until_at == until, f"paid until {after.paid_until_at} instead of {until}")
    trial.reached.add("R-W10")
    tenant.capacity_bytes = after.capacity_bytes
    return after


def add_deposit(trial: Trial, link: NodeLink, amount_msat: int) -> AccountStatusReply:
    """A deposit, paid and credited once (R-W15)."""
    if trial.bench.tools.payer is None:
        raise Skipped(NO_PAYER)
    before = status(trial, link)
    request = RequestInvoice(
        purpose=InvoicePurpose.DEPOSIT, deposit_index=before.deposit_index, amount_msat=Msat(amount_msat)
    )
    reply = trial.reply(link, request, InvoiceReply, "MA-R19")
    judge_invoice(trial, reply, amount_msat)
    pay(trial, reply.bolt11)

    def credited() -> AccountStatusReply | None:
        now = status(trial, link)
        return now if now.deposit_index != before.deposit_index else None

    after = trial.until(credited, Failed("R-W15", "a paid deposit was not credited"))
    gained = after.deposit_msat - before.deposit_msat
    trial.require("R-W15", gained == amount_msat, f"{amount_msat} msat were paid and {gained} credited")
    return after


# --- paid accounts ----------------------------------------------------------------------------------------------------


def wanted_capacity(trial: Trial) -> int:
    """What each account of the run rents."""
    return trial.bench.tools.capacity_bytes or max(
        DEFAULT_CAPACITY_BYTES, take_terms(trial).terms.minimum_capacity_bytes
    )


def new_tenant(trial: Trial, *, for_writing: bool = True) -> Tenant:
    """An account of its own with capacity, and where writing has a price with a deposit `for_writing`."""
    if trial.bench.no_tenant is not None:
        raise Skipped(trial.bench.no_tenant)
    tenant = open_account(trial)
    try:
        grow(trial, trial.link(tenant.identity), tenant, wanted_capacity(trial))
        written = 2 * wanted_capacity(trial) + DEPOSIT_TRAFFIC_BYTES
        if for_writing and (price := traffic_msat(written, tenant.terms.ingress_msat_per_gib)):
            add_deposit(trial, trial.link(tenant.identity), price)
    except (Failed, Skipped) as exc:
        trial.bench.no_tenant = str(exc) if isinstance(exc, Skipped) else f"no account can be rented for: {exc}"
        raise
    return tenant


def the_tenant(trial: Trial) -> tuple[Tenant, NodeLink]:
    """The run's account with capacity, bought when first needed, and a connection of its own to it."""
    if trial.bench.tenant is None:
        trial.bench.tenant = new_tenant(trial)
    tenant = trial.bench.tenant
    return tenant, trial.link(tenant.identity)


def the_reader(trial: Trial) -> tuple[Tenant, NodeLink]:
    """The run's account with a deposit, where reading has a price, and a connection of its own to it."""
    if trial.bench.reader is None:
        reader = open_account(trial)
        price = traffic_msat(DEPOSIT_TRAFFIC_BYTES, reader.terms.egress_msat_per_gib)
        if price:
            add_deposit(trial, trial.link(reader.identity), price)
        trial.bench.reader = reader
    return trial.bench.reader, trial.link(trial.bench.reader.identity)


def judge_put(trial: Trial, tenant: Tenant, reply: PutShareReply, size_bytes: int) -> None:
    """Failed unless what the reply says was charged is what the bytes cost (RI-R2)."""
    charged, total = reply.charged_msat, reply.ingress_bytes
    trial.require("RI-W5", (charged is None) == (total is None), "the reply tells a charge or the bytes alone")
    trial.require("RI-W5", charged != 0, "a charge of nothing is told")
    if charged is not None and total is not None:
        trial.require("RI-W5", total >= size_bytes, f"{total} bytes written ever, and {size_bytes} just now")
        due = ingress_msat(total - size_bytes, size_bytes, tenant.terms.ingress_msat_per_gib)
        trial.require("RI-W1", charged == due, f"{charged} msat charged, {due} are due")


def put(trial: Trial, link: NodeLink, tenant: Tenant, share: bytes, *, tokens: bytes | None = None) -> ShareId:
    """Store a share with tokens from index 0 on; its id."""
    request = PutShare(
        share_id=share_id(share),
        token_start=0,
        tokens=tenant.tokens(share) if tokens is None else tokens,
        payload=share,
    )
    trial.reply(link, request, PutShareReply, "MB-R3")
    trial.leases.append((link.identity, request.share_id))
    return request.share_id


def new_share(size_bytes: int) -> bytes:
    """A share that nobody has."""
    return os.urandom(size_bytes)
