"""What every Lightning daemon must do: payments that are in flight, for as long as somebody holds them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from lnstore.ports import Invoice, InvoiceStatus, LightningRefused, Outcome, Payment
from lnstore_protocol.ids import Msat
from tests.contract.conftest import eventually

if TYPE_CHECKING:
    from tests.contract.conftest import Pair

FEE = Msat(0)


async def pay(pair: Pair, invoice: Invoice) -> Payment:
    return await pair.a.pay(invoice.bolt11, max_fee_msat=FEE, retry_for_seconds=10)


@asynccontextmanager
async def in_flight(pair: Pair, invoice: Invoice, ends: list[Payment]) -> AsyncIterator[None]:
    """A payment of the invoice that Bob has got and not answered until the block ends; its end goes to `ends`."""
    async with trio.open_nursery() as nursery, pair.network.holding():

        async def send() -> None:
            ends.append(await pay(pair, invoice))

        nursery.start_soon(send)

        async def arrived() -> bool:
            reply = await pair.b.call("listpeerchannels", id=pair.a_id.hex())
            hashes = {htlc["payment_hash"] for entry in reply["channels"] for htlc in entry.get("htlcs", [])}
            return invoice.payment_hash.hex() in hashes

        await eventually(arrived)
        yield


async def settled(pair: Pair, invoice: Invoice) -> None:
    async def known() -> bool:
        return (await pair.a.payment(invoice.bolt11)).outcome is Outcome.SETTLED

    await eventually(known)


async def paid_after(pair: Pair, cursor: int) -> list[str]:
    """The labels of what Bob got after this pay index."""
    labels = []
    while (paid := await pair.b.next_paid(cursor, timeout_seconds=0)) is not None:
        cursor = paid.pay_index or 0
        labels.append(paid.label)
    return labels


async def test_pending_while_it_is_held(pair: Pair) -> None:
    """PENDING for who asks and for who pays again; the daemon's xpay and pay say -3; settled, once, when let go."""
    start = await pair.last_pay_index()
    preimage = os.urandom(32)
    invoice = await pair.invoice(4000, preimage=preimage)
    ends: list[Payment] = []
    async with in_flight(pair, invoice, ends):
        assert (await pair.a.payment(invoice.bolt11)).outcome is Outcome.PENDING
        assert (await pay(pair, invoice)).outcome is Outcome.PENDING
        for again in (pair.a.call("xpay", invstring=invoice.bolt11), pair.a.call("pay", bolt11=invoice.bolt11)):
            with pytest.raises(LightningRefused) as caught:
                await again
            assert caught.value.code == -3
        assert ends == []
    assert [payment.preimage for payment in ends] == [preimage]
    assert await paid_after(pair, start) == [invoice.label]


async def test_held_and_then_refused(pair: Pair) -> None:
    """An invoice that is deleted while its payment is held, or that expires meanwhile, is 203: FAILED, nothing paid."""
    start = await pair.last_pay_index()
    deleted, expiring = await pair.invoice(4000), await pair.invoice(4000, expiry=3)
    ends: list[Payment] = []
    async with in_flight(pair, deleted, ends):
        assert await pair.b.delete_invoice(deleted.label, InvoiceStatus.UNPAID)
    async with in_flight(pair, expiring, ends):

        async def expired() -> bool:
            found = await pair.b.find_invoice(expiring.label)
            return found is not None and found.status is InvoiceStatus.EXPIRED

        await eventually(expired)
    assert [payment.outcome for payment in ends] == [Outcome.FAILED, Outcome.FAILED]
    assert ["203" in payment.reason for payment in ends] == [True, True], ends
    assert await paid_after(pair, start) == []


@pytest.mark.parametrize("victim", ["alice", "bob"])
async def test_killed_in_flight(pair: Pair, victim: str) -> None:
    """Payer or payee killed with the payment on its way: never FAILED, settled in the end, paid and told of once."""
    start = await pair.last_pay_index()
    invoice = await pair.invoice(4000)
    ends: list[Payment] = []
    async with in_flight(pair, invoice, ends):
        await pair.network.crash(victim)
        if victim == "alice":
            assert (await pair.a.payment(invoice.bolt11)).outcome is Outcome.UNKNOWN
        await pair.network.restart(victim)
        # Bob's restart may have let it go.
        assert (await pair.a.payment(invoice.bolt11)).outcome in {Outcome.PENDING, Outcome.SETTLED}
    await settled(pair, invoice)
    await pair.reconnected()
    assert (await pay(pair, invoice)).outcome is Outcome.SETTLED
    assert {payment.outcome for payment in ends} <= {Outcome.UNKNOWN, Outcome.PENDING, Outcome.SETTLED}
    assert await paid_after(pair, start) == [invoice.label]


async def test_an_impossible_delay(pair: Pair) -> None:
    """A delay limit below what the last hop asks for is 206, and nothing is sent."""
    invoice = await pair.invoice()
    with pytest.raises(LightningRefused) as caught:
        await pair.a.call("xpay", invstring=invoice.bolt11, maxdelay=1)
    assert caught.value.code == 206
    assert "excessive delays" in caught.value.message
    assert (await pair.a.payment(invoice.bolt11)).outcome is Outcome.FAILED
