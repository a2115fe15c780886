"""Checks of 05d: which stage is told to come next, renting less, leaving."""

from __future__ import annotations

import os
from typing import Final

from lnstore_protocol import stages
from lnstore_protocol.conformance.node_link import NodeLink
from lnstore_protocol.conformance.tenant import NO_PAYER, Tenant, growth, new_share, new_tenant, put, status
from lnstore_protocol.conformance.trial import Checks, Trial
from lnstore_protocol.conformance.verdict import Failed, Skipped
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.merkle import share_id
from lnstore_protocol.messages import (
    MAX_SHARE_BYTES,
    AccountStage,
    AccountState,
    AccountStatusReply,
    AddCapacity,
    InvoicePurpose,
    InvoiceReply,
    Leave,
    LeaveReply,
    PutShare,
    RequestInvoice,
    ShrinkCapacity,
    ShrinkCapacityReply,
)
from lnstore_protocol.prices import PaidFor, Prices
from lnstore_protocol.terms import period_at, rent_msat

CHECKS = Checks()
MIB: Final = 1 << 20


def _tenant(trial: Trial) -> tuple[Tenant, NodeLink, AccountStatusReply]:
    tenant = new_tenant(trial)
    link = trial.link(tenant.identity)
    return tenant, link, status(trial, link)


def _smaller(tenant: Tenant, standing: AccountStatusReply) -> int:
    """A capacity below the present one that the terms allow; Skipped where there is none."""
    least = max(tenant.terms.minimum_capacity_bytes, 1)
    if not tenant.terms.price_msat_per_gib_month:
        raise Skipped("rent is free at this node: there is no period to wait for")
    if least >= standing.capacity_bytes:
        raise Skipped("the account has the least that the terms allow: rent more with --capacity")
    return max(least, min(standing.capacity_bytes // 2, MIB))


def _shrunk(trial: Trial, link: NodeLink, capacity_bytes: int) -> ShrinkCapacityReply:
    return trial.reply(link, ShrinkCapacity(capacity_bytes=capacity_bytes), ShrinkCapacityReply, "RP-R2")


@CHECKS.on("RP-W1", "RP-W2")
def what_comes_is_told(trial: Trial) -> None:
    """Which stage comes next, when, and from when on that is warned of, is what the formulas give."""
    tenant, _, now = _tenant(trial)
    length, grace = tenant.terms.period_seconds, tenant.terms.grace_seconds
    at = Prices.of([tenant.agreement]).owed_at(now.capacity_bytes, now.paid_until_at)
    told = (now.next_stage, now.next_stage_at, now.warning_at)
    if at is None:
        trial.require("RP-W2", told == (None, None, None), "a stage is to come for an account that owes nothing")
        trial.reached.add("RP-W1")
        return
    rent = stages.due(owes=True, now=now.now_at, paid_until_at=at, period_seconds=length, grace_seconds=grace)
    stage = stages.NEXT_STAGE[AccountStage.ACTIVE, rent]
    coming = stages.next_transition(stage, owes=True, paid_until_at=at, period_seconds=length, grace_seconds=grace)
    trial.require("RP-W2", None not in told, "it is not told which stage comes next, when, and when that is warned of")
    if coming is not None:
        computed = (coming.stage, coming.at, coming.warning_at)
        trial.require("RP-W1", told == computed, f"next comes {told} by the node, {computed} by the formulas")


@CHECKS.on("RP-R2")
def shrink_refusals(trial: Trial) -> None:
    """What is no smaller capacity that the terms allow, or does not hold what is stored, is refused."""
    trial.refusal("RP-R2", trial.link(), ShrinkCapacity(capacity_bytes=1), ErrorCode.NO_ACCOUNT)
    tenant, link, standing = _tenant(trial)
    least = tenant.terms.minimum_capacity_bytes
    for capacity in {0, least - 1, standing.capacity_bytes + 1} - {-1}:
        request, what = ShrinkCapacity(capacity_bytes=capacity), f"a smaller capacity of {capacity} bytes"
        trial.refusal("RP-R2", link, request, ErrorCode.CAPACITY_REFUSED, what=what)
    size = max(least, 1) + 1
    if size <= min(MAX_SHARE_BYTES, standing.capacity_bytes):
        put(trial, link, tenant, new_share(size))
        request = ShrinkCapacity(capacity_bytes=size - 1)
        trial.refusal("RP-R2", link, request, ErrorCode.CAPACITY_IN_USE, what="one that does not hold what is stored")


@CHECKS.on("RP-W3", "RP-W4", "RP-W5")
def a_smaller_capacity_is_planned(trial: Trial) -> None:
    """It holds from the first period on that is not paid, begun or asked for, and bounds what is written at once."""
    tenant, link, standing = _tenant(trial)
    less, whole = _smaller(tenant, standing), standing.capacity_bytes
    anchor, length = tenant.agreement.anchor_at, tenant.terms.period_seconds
    period = max(standing.next_period, max(period_at(anchor, length, trial.bench.now()), 0) + 1)
    planned = _shrunk(trial, link, less)
    said = (planned.capacity_bytes, planned.next_capacity_bytes, planned.from_period)
    trial.require("RP-W3", said == (whole, less, period), f"{said} instead of {(whole, less, period)}")
    trial.require("RP-W3", _shrunk(trial, link, less) == planned, "the same request gave another reply")
    growing = AddCapacity(growth_index=standing.growth_index, capacity_bytes=whole + 1)
    trial.refusal("RP-W5", link, growing, ErrorCode.SHRINK_PLANNED, what="a growth while less is planned")
    if less < min(MAX_SHARE_BYTES, whole):
        share = new_share(less + 1)
        request = PutShare(share_id=share_id(share), token_start=0, tokens=b"", payload=share)
        what = "a share that does not fit into what is planned"
        trial.refusal("RP-W5", link, request, ErrorCode.CAPACITY_EXCEEDED, what=what)
    back = _shrunk(trial, link, whole)
    trial.require("RP-W3", back.next_capacity_bytes == whole, "the present capacity did not take the plan back")
    _shrunk(trial, link, less)
    if period != standing.next_period:
        return
    t = standing.token_index
    asked = RequestInvoice(purpose=InvoicePurpose.RENT, period=period, token_index=t, nonce=os.urandom(32))
    reply = trial.reply(link, asked, InvoiceReply, "RP-W4")
    due = rent_msat(less, length, tenant.terms.price_msat_per_gib_month)
    charged = (reply.capacity_bytes, reply.amount_msat)
    trial.require("RP-W4", charged == (less, due), f"rent of {charged} (bytes, msat) instead of {(less, due)}")
    now = status(trial, link).capacity_bytes
    trial.require("RP-W4", now == less, f"{now} bytes once the rent for {less} was asked for")


@CHECKS.on("RP-R3")
def a_growth_that_a_shrink_follows(trial: Trial) -> None:
    """The invoice of an unpaid growth can no longer be paid once a smaller capacity is planned."""
    tenant, link, standing = _tenant(trial)
    less = _smaller(tenant, standing)
    if standing.capacity_bytes >= tenant.terms.maximum_capacity_bytes:
        raise Skipped("the account has the most that the terms allow")
    offer = growth(trial, link, tenant, min(standing.capacity_bytes + MIB, tenant.terms.maximum_capacity_bytes))
    _shrunk(trial, link, less)
    if trial.bench.tools.payer is None:
        raise Skipped(NO_PAYER)
    paid = trial.bench.tools.payer.pay(offer.bolt11)
    trial.require("RP-R3", not paid, "a growth could still be paid after a smaller capacity was planned")


@CHECKS.on("RP-R5", "RP-W7", "RP-W8")
def leaving(trial: Trial) -> None:
    """Who leaves has nothing any more but the deposit, with what the terms give back, once, however often it asks."""
    trial.refusal("RP-R5", trial.link(), Leave(), ErrorCode.NO_ACCOUNT)
    tenant, link, _ = _tenant(trial)
    put(trial, link, tenant, new_share(1000))
    before = status(trial, link)
    left = trial.reply(link, Leave(), LeaveReply, "RP-W7")
    paid = [PaidFor(before.capacity_bytes, before.anchor_at, before.paid_until_at)]
    permille = tenant.terms.refund_permille
    due = Prices.of([tenant.agreement]).refund_msat(
        before.capacity_bytes, left.left_at, before.paid_until_at, permille, paid
    )
    trial.require("RP-W8", left.refund_msat == due, f"{left.refund_msat} msat given back, {due} are due")
    deposit = before.deposit_msat + due
    trial.require("RP-W8", left.deposit_msat == deposit, f"a deposit of {left.deposit_msat} msat instead of {deposit}")
    after = status(trial, link)
    has = (after.state.name, after.capacity_bytes)
    trial.require("RP-W7", has == (AccountState.LAPSED.name, 0), f"an account that left has {has}")
    emptied = Failed("RP-W7", f"an account that left has {after.shares} leases, and keeps them")
    trial.until(lambda: None if status(trial, link).shares else True, emptied)  # many may take a while
    trial.require("RP-W8", after.deposit_msat == deposit, f"{after.deposit_msat} msat of deposit instead of {deposit}")
    again = trial.reply(trial.link(tenant.identity), Leave(), LeaveReply, "RP-W8")
    trial.require("RP-W8", again == left, "asked again, another reply was given")
