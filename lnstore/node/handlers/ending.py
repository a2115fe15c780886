"""shrink_capacity and leave: a client rents less, or nothing any more."""

from __future__ import annotations

from lnstore.node import invoicing
from lnstore.node.context import RequestContext
from lnstore.node.errors import Refusal
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import InvoicePurpose, Leave, LeaveReply, ShrinkCapacity, ShrinkCapacityReply
from lnstore_protocol.terms import Agreement, period_at


async def shrink_capacity(request: RequestContext, message: ShrinkCapacity) -> ShrinkCapacityReply:  # RP-R2, RP-R3
    """Plan a smaller capacity from the next period on, or take that back."""
    node = request.node
    async with node.account_locks.holding(request.account_id):
        now = node.clock.now()
        account = await request.account()
        least = max(Agreement.decode(account.last_agreement).terms.terms.minimum_capacity_bytes, 1)
        if not least <= message.capacity_bytes <= account.capacity_bytes:
            raise Refusal(
                ErrorCode.CAPACITY_REFUSED,
                f"the account has {account.capacity_bytes} bytes, and no account here has fewer than {least}",
            )
        # Growth that was asked for before would be paid for a capacity that is none any more.
        growth = await node.books.planned_invoice(request.account_id, InvoicePurpose.CAPACITY, account.growth_index)
        if growth is not None and not growth.credited:
            await invoicing.withdraw(node, growth)
        account = await node.books.shrink(request.account_id, message.capacity_bytes, now)
        request.log.info(
            "capacity shrinks",
            account=request.account_id,
            capacity_bytes=account.capacity_bytes,
            shrink_to_bytes=account.shrink_to_bytes,
            shrink_period=account.shrink_period,
        )
        current = max(period_at(account.anchor_at, account.period_seconds, now), 0)
        return ShrinkCapacityReply(
            capacity_bytes=account.capacity_bytes,
            next_capacity_bytes=account.writable_bytes,
            from_period=current if account.shrink_period is None else account.shrink_period,
        )


async def leave(request: RequestContext, _message: Leave) -> LeaveReply:  # RP-R5
    """End the account: its leases, its capacity and what is paid ahead. Asked again, the answer is the same."""
    node = request.node
    async with node.account_locks.holding(request.account_id):
        account = await request.account(even_lapsed=True)
        terms = Agreement.decode(account.last_agreement).terms.terms
        account = await node.books.leave(request.account_id, node.clock.now(), refund_permille=terms.refund_permille)
        node.sweep_wanted.set()
        request.log.info("account left", account=request.account_id, refund_msat=account.refund_msat)
        return LeaveReply(
            left_at=account.left_at or 0,
            refund_msat=account.refund_msat or Msat(0),
            deposit_msat=account.deposit_msat,
        )
