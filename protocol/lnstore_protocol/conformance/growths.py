"""Checks of 05, growth: windows, amounts, refusals, credit."""

from __future__ import annotations

from typing import Final

from lnstore_protocol.conformance.tenant import (
    NO_PAYER,
    Tenant,
    grow,
    growth,
    judge_invoice,
    new_tenant,
    open_account,
    status,
    wanted_capacity,
)
from lnstore_protocol.conformance.trial import Checks, Trial
from lnstore_protocol.conformance.verdict import Skipped
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.messages import AddCapacity, AddCapacityReply, ErrorReply
from lnstore_protocol.terms import period_at, period_start

CHECKS = Checks()
CAPACITY_REFUSED: Final = ErrorCode.CAPACITY_REFUSED
GROWTH_EXPIRY_SECONDS = 3600
SLACK_SECONDS = 5
"""What passes between the node's look at its clock and ours."""


def _capacities(tenant: Tenant) -> list[int]:
    """A few that the terms allow."""
    least, most = tenant.terms.minimum_capacity_bytes, tenant.terms.maximum_capacity_bytes
    return sorted({max(1, least), min(most, least + 1), min(most, max(least, (1 << 30) + 12345))})


@CHECKS.on("R-W8", "R-W2", "R-W9", "R-R8", "R-R9", "MA-R13")
def growth_offers(trial: Trial) -> None:
    """A growth costs exactly the added bytes until the end of the period, payable for an hour at most."""
    for capacity in _capacities(open_account(trial)):
        tenant = open_account(trial)
        link = trial.link(tenant.identity)
        if status(trial, link).capacity_bytes:
            raise Skipped("this node gives capacity for nothing")
        request = AddCapacity(growth_index=status(trial, link).growth_index, capacity_bytes=capacity)
        reply = link.ask(request)
        if isinstance(reply, ErrorReply) and reply.code is CAPACITY_REFUSED:
            continue  # it may not have that much left
        first = growth(trial, link, tenant, capacity)
        anchor, period = tenant.agreement.anchor_at, tenant.terms.period_seconds
        first_end = period_start(anchor, period, max(0, period_at(anchor, period, first.from_at)) + 1)
        until = max(status(trial, link).paid_until_at, first_end)
        trial.require("R-W8", first.until_at == until, f"a first growth until {first.until_at} instead of {until}")
        invoice = judge_invoice(trial, first, first.amount_msat)
        long = invoice.expiry_seconds <= GROWTH_EXPIRY_SECONDS + SLACK_SECONDS
        trial.require("R-W9", long, f"the invoice can be paid for {invoice.expiry_seconds} s")
        again = trial.reply(link, request, AddCapacityReply, "MA-R13")
        trial.require("MA-R13", again == first, "the same request gave another reply")


@CHECKS.on("MA-R12")
def growth_refusals(trial: Trial) -> None:
    """A growth with a wrong index, that is none, or outside the terms is refused."""
    tenant = open_account(trial)
    link = trial.link(tenant.identity)
    now, terms = status(trial, link), tenant.terms
    enough = max(now.capacity_bytes + 1, terms.minimum_capacity_bytes)
    for index in {0, 1, now.growth_index + 1, now.growth_index + 9} - {now.growth_index}:
        request = AddCapacity(growth_index=index, capacity_bytes=enough)
        what = f"growth number {index}, where {now.growth_index} is next"
        trial.refusal("MA-R12", link, request, ErrorCode.PERIOD_REFUSED, what=what)
    for capacity in (0, now.capacity_bytes, terms.minimum_capacity_bytes - 1, terms.maximum_capacity_bytes + 1):
        if capacity >= 0:
            request = AddCapacity(growth_index=now.growth_index, capacity_bytes=capacity)
            trial.refusal("MA-R12", link, request, CAPACITY_REFUSED, what=f"a growth to {capacity} bytes")
    request = AddCapacity(growth_index=now.growth_index, capacity_bytes=(1 << 63) - 1)
    trial.refusal("MA-R12", link, request, CAPACITY_REFUSED, what="a growth to 2^63-1 bytes")


@CHECKS.on("MA-R14", "MA-R13")
def replaced_growth(trial: Trial) -> None:
    """Asking the same growth for another capacity gives another invoice, and the former can no longer be paid."""
    tenant = open_account(trial)
    link = trial.link(tenant.identity)
    if status(trial, link).capacity_bytes:
        raise Skipped("this node gives capacity for nothing")
    capacity = wanted_capacity(trial)
    former = growth(trial, link, tenant, capacity)
    other = capacity + 1 if capacity < tenant.terms.maximum_capacity_bytes else capacity - 1
    latter = growth(trial, link, tenant, other)
    trial.require("MA-R13", latter.bolt11 != former.bolt11, "another capacity gave the same invoice")
    if trial.bench.tools.payer is None:
        raise Skipped(NO_PAYER)
    paid = trial.bench.tools.payer.pay(former.bolt11)
    trial.require("MA-R14", not paid, "an invoice that was replaced could still be paid")


@CHECKS.on("R-W10", "R-W15", "R-W8")
def growth_is_credited_once(trial: Trial) -> None:
    """A paid growth raises the capacity by what was paid for; a second one is charged until the same end."""
    tenant = new_tenant(trial)
    link = trial.link(tenant.identity)
    first = status(trial, link)
    if not first.growth_index:
        raise Skipped("this node gives capacity for nothing")
    step = min(1 << 20, tenant.terms.maximum_capacity_bytes - first.capacity_bytes)
    if step <= 0:
        raise Skipped("the account has the most that the terms allow")
    offer = growth(trial, link, tenant, first.capacity_bytes + step)
    same = offer.until_at == first.paid_until_at
    trial.require("R-W8", same, f"a second growth until {offer.until_at} instead of {first.paid_until_at}")
    second = grow(trial, link, tenant, first.capacity_bytes + step)
    trial.require("R-W10", second.paid_until_at == first.paid_until_at, "a second growth moved the end of what is paid")
    again = status(trial, trial.link(tenant.identity))
    total = first.capacity_bytes + step
    trial.require("R-W15", again.capacity_bytes == total, f"{again.capacity_bytes} bytes of {total} paid for")


@CHECKS.on("R-R16")
def unpaid_growth_gives_nothing(trial: Trial) -> None:
    """A growth that nobody paid gives no capacity."""
    tenant = open_account(trial)
    link = trial.link(tenant.identity)
    before = status(trial, link).capacity_bytes
    if before:
        raise Skipped("this node gives capacity for nothing")
    growth(trial, link, tenant, wanted_capacity(trial))
    after = status(trial, link).capacity_bytes
    trial.require("R-R16", after == before, f"{after} bytes of capacity that nobody paid for")


@CHECKS.on("R-W11", "MA-W9")
def more_than_there_is(trial: Trial) -> None:
    """No account is offered the most that terms allow once the node has less left; what it can have instead it gets."""
    tenant = open_account(trial)
    link = trial.link(tenant.identity)
    most = tenant.terms.maximum_capacity_bytes
    request = AddCapacity(growth_index=status(trial, link).growth_index, capacity_bytes=most)
    reply = link.ask(request)
    if isinstance(reply, ErrorReply):
        refused = reply.code in (CAPACITY_REFUSED, ErrorCode.LIGHTNING_UNAVAILABLE)
        trial.require("R-W11", refused, f"a growth to all there is was answered {reply.code.name}")
        if reply.capacity_bytes is not None and reply.capacity_bytes >= tenant.terms.minimum_capacity_bytes:
            less = reply.capacity_bytes < most and reply.code is CAPACITY_REFUSED
            trial.require("MA-W9", less, f"{most} bytes are refused as {reply.code.name}, for {reply.capacity_bytes}")
            part = AddCapacity(growth_index=request.growth_index, capacity_bytes=reply.capacity_bytes)
            trial.reply(link, part, AddCapacityReply, "MA-W9")
        return
    # What was offered is reserved for as long as it can be paid: ask for little instead.
    link.ask(AddCapacity(growth_index=request.growth_index, capacity_bytes=max(1, tenant.terms.minimum_capacity_bytes)))
    raise Skipped("the node has room for the most that its terms allow; how much it has in all is not known")
