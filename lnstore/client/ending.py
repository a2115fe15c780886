"""Renting less at a node, and leaving it: asked for, and what the node answers held against our own computation."""

from __future__ import annotations

from dataclasses import dataclass

from lnstore.client.accounts import account_status, agreement_of, standing
from lnstore.client.agreements import CLOCK_TOLERANCE_SECONDS, agreements_of, prices_of
from lnstore.client.capacity import ask_shrink, confirm_shrink, forget_shrink
from lnstore.client.catalog import NodeEntry
from lnstore.client.money_errors import CapacityUnfit, NodeUntrusted, PaymentOpen
from lnstore.client.node_errors import NodeRefused
from lnstore.client.payments import resolve_open
from lnstore.client.purse import Purse
from lnstore.client.wallet_entries import Standing
from lnstore.ports import Outcome
from lnstore.sizes import human_bytes
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import (
    AccountStatusReply,
    InvoicePurpose,
    Leave,
    LeaveReply,
    ShrinkCapacity,
    ShrinkCapacityReply,
)
from lnstore_protocol.prices import PaidFor
from lnstore_protocol.terms import Agreement, period_at, period_start, rent_msat


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """What `shrink` arranged: `next_capacity_bytes` from `from_at` on, for `rent_msat` a period."""

    node: NodeEntry
    capacity_bytes: int
    next_capacity_bytes: int
    from_period: int
    from_at: int
    rent_msat: Msat


@dataclass(frozen=True, slots=True, kw_only=True)
class Parting:
    """What leaving a node now means, by our own books: what goes, and what comes back."""

    node: NodeEntry
    capacity_bytes: int
    paid_until_at: int
    refund_permille: int
    refund_msat: Msat
    shares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """How a node ended our account: what it gave back, and what our own books say is due."""

    node: NodeEntry
    left_at: int
    refund_msat: Msat
    due_msat: Msat
    deposit_msat: Msat


# --- renting less -----------------------------------------------------------------------------------------------------


async def shrink(purse: Purse, node: NodeEntry, capacity_bytes: int) -> Shrunk:
    """Rent only `capacity_bytes` at the node from the next period on; the present capacity takes that back.

    The same again changes nothing. CapacityUnfit; PaymentOpen while growth is being paid; NodeUntrusted.
    """
    await _nothing_open(purse, node, InvoicePurpose.CAPACITY)
    agreement, status = await standing(purse, node)
    ours = purse.wallet.standing(node.node_id, anchor_at=agreement.anchor_at)
    if status.growth_index < ours.growths:
        raise PaymentOpen(
            f"{node.petname} has not credited yet what you paid for more capacity; run the command again later"
        )
    check_shrink(agreement, status, capacity_bytes, node.petname)
    asked = await purse.write(
        ask_shrink, purse.catalog, node.node_id, capacity_bytes, status.growth_index, purse.clock.now()
    )
    try:
        reply = await purse.ask(node, ShrinkCapacity(capacity_bytes=capacity_bytes), ShrinkCapacityReply)
    except NodeRefused:
        await purse.write(forget_shrink, purse.catalog, asked)
        raise
    check_shrunk(reply, agreement, ours, capacity_bytes=capacity_bytes, now=purse.clock.now(), petname=node.petname)
    await purse.write(confirm_shrink, purse.catalog, asked, reply.from_period)
    terms, prices = agreement.terms.terms, prices_of(purse, node, agreement)
    price = 0 if status.free else prices.agreed_last(reply.from_period).price_msat_per_gib_month
    return Shrunk(
        node=node,
        capacity_bytes=reply.capacity_bytes,
        next_capacity_bytes=reply.next_capacity_bytes,
        from_period=reply.from_period,
        from_at=period_start(agreement.anchor_at, terms.period_seconds, reply.from_period),
        rent_msat=rent_msat(reply.next_capacity_bytes, terms.period_seconds, price),
    )


def check_shrink(agreement: Agreement, status: AccountStatusReply, capacity_bytes: int, petname: str) -> None:
    """CapacityUnfit when the account cannot come to this capacity by shrinking."""
    least = max(agreement.terms.terms.minimum_capacity_bytes, 1)
    if capacity_bytes > status.capacity_bytes:
        raise CapacityUnfit(
            f"you rent {human_bytes(status.capacity_bytes)} at {petname}; for more: lnstore rent buy {petname} SIZE"
        )
    if capacity_bytes < least:
        raise CapacityUnfit(
            f"{petname} rents out {human_bytes(least)} or more to an account; to rent nothing: "
            f"lnstore rent leave {petname}"
        )
    if capacity_bytes < status.used_bytes:
        raise CapacityUnfit(
            f"you store {human_bytes(status.used_bytes)} at {petname}, which do not fit into "
            f"{human_bytes(capacity_bytes)}; remove files first: lnstore rm FILE"
        )


def check_shrunk(  # RP-R4
    reply: ShrinkCapacityReply, agreement: Agreement, ours: Standing, *, capacity_bytes: int, now: int, petname: str
) -> None:
    """NodeUntrusted when the node arranged something else than we asked for, or puts it off."""
    terms = agreement.terms.terms
    unpaid, present = (
        period_at(agreement.anchor_at, terms.period_seconds, at)
        for at in (ours.paid_until_at, now + CLOCK_TOLERANCE_SECONDS)
    )
    if reply.next_capacity_bytes != capacity_bytes or reply.from_period > max(unpaid, present) + 1:
        raise NodeUntrusted(
            f"{petname} was asked for {capacity_bytes} bytes from the next period on, and says "
            f"{reply.next_capacity_bytes} from period {reply.from_period} on; look at `lnstore rent status`, then ask "
            "its operator"
        )


# --- leaving ----------------------------------------------------------------------------------------------------------


async def plan_leave(purse: Purse, node: NodeEntry) -> Parting:  # RP-R6
    """What leaving the node now would mean, from our own books; nothing is asked for."""
    agreement = agreement_of(purse, node)
    ours = purse.wallet.standing(node.node_id, anchor_at=agreement.anchor_at)
    last = agreements_of(purse, node, agreement)[-1]
    now = purse.clock.now()
    return Parting(
        node=node,
        capacity_bytes=capacity_at(agreement, ours, now),
        paid_until_at=ours.paid_until_at,
        refund_permille=last.terms.terms.refund_permille,
        refund_msat=_refund_due(purse, node, agreement, now),
        shares=len({share.share_id for share in purse.catalog.shares_at(node.node_id)}),
    )


async def leave(purse: Purse, node: NodeEntry) -> Left:
    """End our account at the node, and what the catalog has there. After an interruption the same once more.

    PaymentOpen while a payment to the node is open. NodeUntrusted when it gave back less than is due: it is done then.
    """
    await _nothing_open(purse, node, *InvoicePurpose)
    agreement = agreement_of(purse, node)
    status = await account_status(purse, node)
    reply = await purse.ask(node, Leave(), LeaveReply)
    await purse.write(_forget, purse, node)
    due = _refund_due(purse, node, agreement, reply.left_at)
    left = Left(
        node=node,
        left_at=reply.left_at,
        refund_msat=reply.refund_msat,
        due_msat=Msat(0) if status is not None and status.free else due,  # nothing was taken lately
        deposit_msat=reply.deposit_msat,
    )
    if left.refund_msat < left.due_msat or left.left_at > purse.clock.now() + CLOCK_TOLERANCE_SECONDS:
        raise NodeUntrusted(
            f"{node.petname} ended the account and gave back {left.refund_msat} msat; by your own books "
            f"{left.due_msat} msat are due; ask its operator"
        )
    return left


def capacity_at(agreement: Agreement, ours: Standing, at: int) -> int:
    """What we rent at some time: a planned shrink has begun with its period, or once its rent was asked for."""
    present = period_at(agreement.anchor_at, agreement.terms.terms.period_seconds, at)
    return ours.rented.in_period(max(present, ours.asked_until - 1))


def _refund_due(purse: Purse, node: NodeEntry, agreement: Agreement, at: int) -> Msat:
    """What the terms of the last agreement give back to who leaves at `at`, by our own books."""
    ours = purse.wallet.standing(node.node_id, anchor_at=agreement.anchor_at)
    paid = [
        PaidFor(entry.capacity_bytes, entry.from_at, entry.until_at)
        for entry in purse.wallet.payments(node.node_id)
        if entry.state is Outcome.SETTLED
        and entry.purpose is not InvoicePurpose.DEPOSIT
        and entry.amount_msat
        and entry.created_at >= agreement.anchor_at
    ]
    permille = agreements_of(purse, node, agreement)[-1].terms.terms.refund_permille
    prices, until_at = prices_of(purse, node, agreement), max(ours.paid_until_at, at)
    return prices.refund_msat(capacity_at(agreement, ours, at), at, until_at, permille, paid)


async def _nothing_open(purse: Purse, node: NodeEntry, *purposes: InvoicePurpose) -> None:  # RP-W6, RP-W9
    for entry in await resolve_open(purse):
        if entry.node_id == node.node_id and entry.purpose in purposes:
            raise PaymentOpen(
                f"the outcome of a payment of {entry.amount_msat} msat to {node.petname} is not known yet; run the "
                "command again in a few minutes"
            )


def _forget(purse: Purse, node: NodeEntry) -> None:
    """What was stored at the node is gone, and there is no agreement to pay for."""
    with purse.catalog.transaction() as db:
        db.execute("DELETE FROM shares WHERE node_id = ?", (bytes(node.node_id),))
        db.execute("DELETE FROM given_up WHERE node_id = ?", (bytes(node.node_id),))
        db.execute("UPDATE nodes SET agreement = NULL, retiring = 0 WHERE node_id = ?", (bytes(node.node_id),))
