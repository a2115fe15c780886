"""Checks of 05: what writing costs."""

from __future__ import annotations

from lnstore_protocol.conformance.node_link import NodeLink
from lnstore_protocol.conformance.tenant import Tenant, judge_put, new_share, new_tenant, status, the_tenant
from lnstore_protocol.conformance.trial import Checks, Trial
from lnstore_protocol.conformance.verdict import Skipped
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.merkle import share_id
from lnstore_protocol.messages import LEAF_BYTES, DropShares, DropSharesReply, PutShare, PutShareReply
from lnstore_protocol.terms import ingress_msat

CHECKS = Checks()
SIZES = (1, 100, LEAF_BYTES, 2 * LEAF_BYTES + 1, 40 * LEAF_BYTES, 1)


def _priced(tenant: Tenant) -> int:
    price = tenant.terms.ingress_msat_per_gib
    if not price:
        raise Skipped("writing is free at this node")
    return price


def _request(share: bytes) -> PutShare:
    return PutShare(share_id=share_id(share), token_start=0, tokens=b"", payload=share)


def _send(trial: Trial, link: NodeLink, share: bytes) -> PutShareReply:
    reply = trial.reply(link, _request(share), PutShareReply, "MB-R3")
    trial.leases.append((link.identity, share_id(share)))
    return reply


@CHECKS.on("RI-W1", "RI-W5", "RI-R2", "R-R23")
def writing_is_charged(trial: Trial) -> None:
    """Each new share costs the price of all bytes with it less that of those before, and the reply says so."""
    tenant, link = the_tenant(trial)
    price = _priced(tenant)
    before = status(trial, link)
    for size in SIZES:
        reply = _send(trial, link, new_share(size))
        judge_put(trial, tenant, reply, size)
        after = status(trial, link)
        due = ingress_msat(before.ingress_bytes, size, price)
        taken = before.deposit_msat - after.deposit_msat
        trial.require("RI-W1", taken == due, f"{taken} msat were taken for {size} bytes, {due} are due")
        trial.require(
            "RI-W5", (reply.charged_msat or 0) == due, f"the reply says {reply.charged_msat} msat, {due} are due"
        )
        counted = after.ingress_bytes - before.ingress_bytes
        trial.require("RI-W1", counted == size, f"{size} bytes were written, {counted} counted")
        before = after
    trial.reached.update({"RI-R2", "R-R23"})


@CHECKS.on("RI-W2")
def storing_twice_is_charged_once(trial: Trial) -> None:
    """A share that is leased already, or that is refused, costs nothing; after it was dropped it is paid anew."""
    tenant, link = the_tenant(trial)
    _priced(tenant)
    share = new_share(50 * LEAF_BYTES)
    _send(trial, link, share)
    once = status(trial, link)
    again = _send(trial, link, share)
    wrong = PutShare(share_id=share_id(share), token_start=0, tokens=b"", payload=share[:-1])
    trial.refusal("MB-R3", link, wrong, ErrorCode.ROOT_MISMATCH, what="a share cut short")
    now = status(trial, link)
    same = (now.deposit_msat, now.ingress_bytes) == (once.deposit_msat, once.ingress_bytes)
    trial.require("RI-W2", same and not again.charged_msat, "a share that is stored again, or refused, was charged")
    trial.reply(link, DropShares(payload=share_id(share)), DropSharesReply, "MB-R18")
    _send(trial, link, share)
    trial.require(
        "RI-W2", status(trial, link).deposit_msat < now.deposit_msat, "a dropped share was written for nothing"
    )


@CHECKS.on("RI-W4", "R-W23", "RI-W3")
def writing_without_a_deposit(trial: Trial) -> None:
    """A share that the deposit does not pay for is refused with the sum that is lacking, and not stored."""
    tenant = new_tenant(trial, for_writing=False)
    price = _priced(tenant)
    link = trial.link(tenant.identity)
    for size in (1, 3 * LEAF_BYTES, 40 * LEAF_BYTES):
        error = trial.refusal(
            "RI-W4", link, _request(new_share(size)), ErrorCode.PAYMENT_REQUIRED, what="writing without a deposit"
        )
        due = ingress_msat(0, size, price)
        trial.require("RI-W4", error.amount_msat == due, f"{error.amount_msat} msat are lacking, {due} would be due")
    now = status(trial, link)
    trial.require("RI-W3", (now.used_bytes, now.ingress_bytes) == (0, 0), "what was not paid for is stored or counted")
    trial.require("R-W23", now.deposit_msat == 0, "the deposit of an account that never had one")
