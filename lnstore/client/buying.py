"""Renting capacity and adding to the deposit: asked for, checked against our own computation, paid, credited.

Both are targets, not amounts ("have 20 GiB", "have 20,000 msat"), so that the same command again pays nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lnstore.client.accounts import (
    open_account,
    wait_until_credited,
)
from lnstore.client.agreements import CLOCK_TOLERANCE_SECONDS, agreements_of, prices_of, unsigned
from lnstore.client.capacity import find_out
from lnstore.client.catalog import NodeEntry
from lnstore.client.ending import shrink
from lnstore.client.given import accept
from lnstore.client.money_errors import CapacityUnfit, InvoiceFault, InvoiceRefused, PaymentOpen
from lnstore.client.node_channels import channel_as_agreed
from lnstore.client.node_errors import NodeRefused
from lnstore.client.payments import check_affordable, pay_invoice, resolve_open, resume
from lnstore.client.purse import Purse
from lnstore.client.receipts import collect_if_needed
from lnstore.client.wallet_entries import Offer, PaymentEntry
from lnstore.sizes import human_bytes
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import (
    AccountStatusReply,
    AddCapacity,
    AddCapacityReply,
    InvoicePurpose,
    InvoiceReply,
    RequestInvoice,
)
from lnstore_protocol.prices import PriceNotAgreed, Prices
from lnstore_protocol.terms import Agreement, Terms, period_at, period_start, rent_msat

GROWTH_INVOICE_SECONDS = 3600
"""A node repeats its reply to the same request for as long as the invoice in it stands."""

SMALLEST_INVOICE_MSAT = 1
"""Lightning has no invoice over nothing: a node that rents out for nothing still asks for this much."""

MIB = 1 << 20

ROUNDS = 4
"""A growth or deposit that an interrupted run asked for is finished first; then what is still lacking is asked for.

A new account may have to ask for a part first (first_part).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What `buy` did: how the account stands, and the payments that it made or finished."""

    node: NodeEntry
    agreement: Agreement
    opened: bool
    status: AccountStatusReply
    payments: tuple[PaymentEntry, ...]
    receipt_warnings: tuple[str, ...] = ()
    """What is wrong with the node's receipts, a sentence each."""

    @property
    def paid_msat(self) -> Msat:
        """All that was paid, fees included."""
        return Msat(sum(entry.amount_msat + (entry.fee_msat or 0) for entry in self.payments))


def check_growth(  # MA-R15, R-R8, R-R9
    reply: InvoiceReply, *, prices: Prices, current_bytes: int, wanted_bytes: int, now: int, petname: str
) -> Msat:
    """The most that this growth may cost, computed by ourselves; InvoiceRefused when it is not what was asked for.

    It must cover exactly the added bytes, from about now (a repeated reply: from when it was first asked for) until no
    later than the end of the next period.
    """
    added = wanted_bytes - current_bytes
    if reply.capacity_bytes != added:
        raise InvoiceRefused(
            InvoiceFault.WRONG_CAPACITY,
            f"{petname} wants to be paid for {reply.capacity_bytes} bytes where {added} were asked for; nothing was "
            "paid. Ask its operator",
        )
    current = max(period_at(prices.anchor_at, prices.period_seconds, now), 0)
    latest = period_start(prices.anchor_at, prices.period_seconds, current + 2)
    earliest = max(now - GROWTH_INVOICE_SECONDS - CLOCK_TOLERANCE_SECONDS, prices.anchor_at - CLOCK_TOLERANCE_SECONDS)
    if not earliest <= reply.from_at <= now + CLOCK_TOLERANCE_SECONDS or not reply.from_at < reply.until_at <= latest:
        raise InvoiceRefused(
            InvoiceFault.WRONG_PERIOD,
            f"{petname} wants to be paid for other times than from now to the end of the period; nothing was paid. "
            "Check that this machine's clock is right, else ask the node's operator",
        )
    try:
        rent = prices.growth_msat(added, reply.from_at, reply.until_at)
    except PriceNotAgreed as exc:
        raise unsigned(exc, petname) from exc
    return Msat(max(rent, SMALLEST_INVOICE_MSAT))


async def buy(  # R-R25
    purse: Purse,
    node: NodeEntry,
    capacity_bytes: int,
    *,
    deposit_msat: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Purchase:
    """Have `capacity_bytes` rented at the node, and a deposit of at least `deposit_msat` for reading.

    Opens the account if there is none, and a channel as the node's terms ask for (channel_as_agreed). Whatever an
    interrupted run left open is finished first. TermsRefused, CapacityUnfit, InvoiceRefused, PaymentFailed: nothing
    was paid; PaymentOpen, NotCredited: run it again.
    """
    tell = progress or (lambda _: None)
    await resolve_open(purse)
    agreement, status, opened = await open_account(purse, node)
    node = purse.catalog.node(node.node_id)
    newest = agreements_of(purse, node, agreement)[-1]
    terms = newest.terms.terms
    if not terms.minimum_capacity_bytes <= capacity_bytes <= terms.maximum_capacity_bytes:
        raise CapacityUnfit(
            f"{node.petname} rents out {terms.minimum_capacity_bytes} to {terms.maximum_capacity_bytes} bytes to an "
            f"account; {capacity_bytes} were asked for"
        )
    expected = _expected_msat(status, newest, capacity_bytes, deposit_msat, now=purse.clock.now())
    check_affordable(purse, node, expected)
    if deposit_msat or (terms.price_msat_per_gib_month and not status.free):
        await channel_as_agreed(purse, node, terms, capacity_bytes, progress=progress)
    deal = _Deal(purse, node, agreement)
    payments: list[PaymentEntry] = []
    await deal.regain(status, capacity_bytes)
    await purse.write(find_out, purse.catalog, node.node_id, agreement, status)
    if status.shrink_to_bytes is not None and status.shrink_to_bytes < capacity_bytes:
        tell(f"taking back the smaller capacity that is planned at {node.petname}")
        await shrink(purse, node, min(capacity_bytes, status.capacity_bytes))
    step_bytes = capacity_bytes
    for _ in range(ROUNDS):
        if status.capacity_bytes >= capacity_bytes:
            break
        tell(f"renting {human_bytes(step_bytes)} at {node.petname}")
        try:
            paid, status = await deal.grow(status, step_bytes)
        except NodeRefused as refused:
            if step_bytes != capacity_bytes:
                raise
            step_bytes = first_part(refused, terms, capacity_bytes)
            tell(f"{node.petname} rents {step_bytes} bytes to an account that never paid; the rest once those are paid")
            continue
        payments.append(paid)
        step_bytes = capacity_bytes
    for _ in range(ROUNDS):
        if status.deposit_msat >= deposit_msat:
            break
        tell(f"adding to the deposit at {node.petname}")
        paid, status = await deal.add_deposit(status, Msat(deposit_msat - status.deposit_msat))
        payments.append(paid)
    if status.capacity_bytes < capacity_bytes or status.deposit_msat < deposit_msat:
        raise PaymentOpen(
            f"{node.petname} credited what was paid and still shows {status.capacity_bytes} bytes and a deposit of "
            f"{status.deposit_msat} msat; look at `lnstore rent status`, then ask its operator"
        )
    return Purchase(
        node=node,
        agreement=agreement,
        opened=opened,
        status=status,
        payments=tuple(payments),
        receipt_warnings=await collect_if_needed(purse, node),
    )


def first_part(refused: NodeRefused, terms: Terms, wanted_bytes: int) -> int:  # MA-R31
    """What a node rents at first to an account that never paid, in whole MiB; the refusal itself where that is no way.

    CapacityUnfit when it is less than the terms allow.
    """
    most = refused.error.capacity_bytes
    if refused.code is not ErrorCode.CAPACITY_REFUSED or most is None or not 0 < most < wanted_bytes:
        raise refused
    if most < terms.minimum_capacity_bytes:
        raise CapacityUnfit(
            f"{refused}; but no account there has fewer than {terms.minimum_capacity_bytes} bytes, so that it "
            "has no room for you now: ask its operator, or rent elsewhere (lnstore rent quote SIZE)"
        ) from refused
    return max(most // MIB * MIB, terms.minimum_capacity_bytes)


def _expected_msat(
    status: AccountStatusReply, agreement: Agreement, capacity_bytes: int, deposit_msat: int, *, now: int
) -> int:
    """About what is still to be paid for this purchase: the rest of the present period, and what the deposit lacks."""
    terms = agreement.terms.terms
    period = max(period_at(agreement.anchor_at, terms.period_seconds, now), 0)
    left_seconds = period_start(agreement.anchor_at, terms.period_seconds, period + 1) - now
    added = 0 if status.free else max(capacity_bytes - status.capacity_bytes, 0)
    rent = rent_msat(added, left_seconds, terms.price_msat_per_gib_month)
    return rent + max(deposit_msat - status.deposit_msat, 0)


@dataclass(frozen=True, slots=True)
class _Deal:
    """One node and our agreement with it."""

    purse: Purse
    node: NodeEntry
    agreement: Agreement

    # MA-W3
    async def grow(self, status: AccountStatusReply, wanted_bytes: int) -> tuple[PaymentEntry, AccountStatusReply]:
        """Growth number `status.growth_index`, paid and credited."""
        index = status.growth_index
        paid = await self._begun(InvoicePurpose.CAPACITY, index)
        if paid is None:
            request = AddCapacity(growth_index=index, capacity_bytes=wanted_bytes)
            reply = await self.purse.ask(self.node, request, AddCapacityReply)
            limit = check_growth(
                reply,
                prices=prices_of(self.purse, self.node, self.agreement, status),
                current_bytes=status.capacity_bytes,
                wanted_bytes=wanted_bytes,
                now=self.purse.clock.now(),
                petname=self.node.petname,
            )
            offer = self._offer(InvoicePurpose.CAPACITY, index, reply)
            if reply.amount_msat:
                paid = await pay_invoice(self.purse, self.node, offer, limit_msat=limit)
            else:
                paid = await accept(self.purse, self.node, offer, reply)
        return paid, await wait_until_credited(self.purse, self.node, paid, lambda new: new.growth_index > index)

    async def add_deposit(
        self, status: AccountStatusReply, amount_msat: Msat
    ) -> tuple[PaymentEntry, AccountStatusReply]:
        """Deposit number `status.deposit_index`, paid and credited."""
        index = status.deposit_index
        paid = await self._begun(InvoicePurpose.DEPOSIT, index)
        if paid is None:
            request = RequestInvoice(purpose=InvoicePurpose.DEPOSIT, deposit_index=index, amount_msat=amount_msat)
            reply = await self.purse.ask(self.node, request, InvoiceReply)
            paid = await pay_invoice(
                self.purse, self.node, self._offer(InvoicePurpose.DEPOSIT, index, reply), limit_msat=amount_msat
            )
        return paid, await wait_until_credited(self.purse, self.node, paid, lambda new: new.deposit_index > index)

    async def regain(self, status: AccountStatusReply, wanted_bytes: int) -> None:  # RA-R7
        """Write down a growth at no price whose answer was lost: the node has it, our own books do not."""
        ours = self.purse.wallet.standing(self.node.node_id, anchor_at=self.agreement.anchor_at)
        prices = prices_of(self.purse, self.node, self.agreement)
        price = 0 if status.free else prices.for_traffic(self.purse.clock.now()).price_msat_per_gib_month
        if price or not ours.rented.in_the_end < status.capacity_bytes <= wanted_bytes or not status.growth_index:
            return
        index = status.growth_index - 1
        request = AddCapacity(growth_index=index, capacity_bytes=status.capacity_bytes)
        try:
            reply = await self.purse.ask(self.node, request, AddCapacityReply)
        except NodeRefused as refused:
            if refused.code is ErrorCode.PERIOD_REFUSED:
                return  # that growth was paid for, or another agreement's
            raise
        if not reply.amount_msat and reply.capacity_bytes == status.capacity_bytes - ours.rented.in_the_end:
            await accept(self.purse, self.node, self._offer(InvoicePurpose.CAPACITY, index, reply), reply)

    async def _begun(self, purpose: InvoicePurpose, index: int) -> PaymentEntry | None:
        """The settled payment that an interrupted run began for this index; what is begun is never asked for anew."""
        begun = self.purse.wallet.find(self.node.node_id, purpose, index, since_at=self.agreement.anchor_at)
        return await resume(self.purse, self.node, begun) if begun is not None and begun.open else begun

    def _offer(self, purpose: InvoicePurpose, index: int, reply: InvoiceReply) -> Offer:
        return Offer(
            node_id=self.node.node_id,
            purpose=purpose,
            index=index,
            bolt11=reply.bolt11,
            amount_msat=reply.amount_msat,
            from_at=reply.from_at,
            until_at=reply.until_at,
            capacity_bytes=reply.capacity_bytes if purpose is InvoicePurpose.CAPACITY else 0,
        )
