"""What every Lightning daemon must do: payments, at most once, whatever dies in between."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
import trio

from lnstore.lightning.channels import ensure_channel
from lnstore.ports import Invoice, InvoiceStatus, LightningRefused, LightningUnavailable, Outcome, Payment
from lnstore_protocol.ids import Msat
from tests.contract.conftest import CHANNEL_SAT, eventually

if TYPE_CHECKING:
    from tests.contract.conftest import Pair

FEE = Msat(5000)


async def balances(pair: Pair) -> tuple[int, int]:
    """What A and B have in the channel between them, msat, once nothing is on its way."""
    found = [0, 0]

    async def at_rest() -> bool:
        # A payment is settled before both sides have committed to it: wait until they agree.
        for side, (node, peer) in enumerate(((pair.a, pair.b_id), (pair.b, pair.a_id))):
            reply = await node.call("listpeerchannels", id=peer.hex())
            normal = [entry for entry in reply["channels"] if entry["state"] == "CHANNELD_NORMAL"]
            if any(entry["htlcs"] for entry in normal):
                return False
            found[side] = sum(entry["to_us_msat"] for entry in normal)
        return sum(found) == CHANNEL_SAT * 1000

    await eventually(at_rest)
    return found[0], found[1]


async def pay(pair: Pair, invoice: Invoice) -> Payment:
    return await pair.a.pay(invoice.bolt11, max_fee_msat=FEE, retry_for_seconds=30)


async def test_payment_moves_the_amount(pair: Pair) -> None:
    """A settled payment has the chosen preimage, costs the amount, and moves it from one side to the other."""
    preimage = os.urandom(32)
    invoice = await pair.invoice(123_456, preimage=preimage)
    before = await balances(pair)
    payment = await pay(pair, invoice)
    assert payment.outcome is Outcome.SETTLED
    assert payment.preimage == preimage
    assert payment.amount_msat == payment.sent_msat == 123_456
    assert await balances(pair) == (before[0] - 123_456, before[1] + 123_456)
    assert payment == await pair.a.payment(invoice.bolt11)
    assert preimage.hex() not in repr(payment)


async def test_paying_again_pays_nothing(pair: Pair) -> None:
    """A second pay() of a settled invoice gives the first payment; the daemon's xpay says 219, its pay success."""
    invoice = await pair.invoice()
    first = await pay(pair, invoice)
    before = await balances(pair)
    assert await pay(pair, invoice) == first
    with pytest.raises(LightningRefused) as caught:
        await pair.a.call("xpay", invstring=invoice.bolt11)
    assert caught.value.code == 219
    again = await pair.a.call("pay", bolt11=invoice.bolt11)
    assert first.preimage is not None
    assert again["payment_preimage"] == first.preimage.hex()
    assert await balances(pair) == before


async def test_identical_payments_at_once(pair: Pair) -> None:
    """Of four identical xpay one succeeds and three are refused; four identical pay() settle one payment."""
    before = await balances(pair)
    invoice = await pair.invoice(7000)
    codes: list[int] = []

    async def raw() -> None:
        try:
            await pair.a.call("xpay", invstring=invoice.bolt11)
        except LightningRefused as refused:
            codes.append(refused.code)
        else:
            codes.append(0)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(raw)
    assert codes.count(0) == 1
    assert set(codes) <= {0, -3, 219}

    other = await pair.invoice(8000)
    outcomes: list[Outcome] = []

    async def adapted() -> None:
        outcomes.append((await pay(pair, other)).outcome)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(adapted)
    assert set(outcomes) <= {Outcome.SETTLED, Outcome.PENDING}
    assert Outcome.SETTLED in outcomes
    assert (await pair.a.payment(other.bolt11)).outcome is Outcome.SETTLED
    assert (await balances(pair))[1] == before[1] + 15_000


async def test_never_tried(pair: Pair) -> None:
    """An invoice that nobody tried to pay may be paid: FAILED, and nothing in the daemon's list."""
    invoice = await pair.invoice()
    assert (await pair.a.payment(invoice.bolt11)).outcome is Outcome.FAILED
    assert await pair.a.call("listpays", bolt11=invoice.bolt11) == {"pays": []}


async def test_payee_no_longer_knows_the_invoice(pair: Pair) -> None:
    """A deleted invoice is refused by its payee: 203, FAILED, and nothing moved."""
    invoice = await pair.invoice()
    await pair.b.delete_invoice(invoice.label, InvoiceStatus.UNPAID)
    before = await balances(pair)
    payment = await pay(pair, invoice)
    assert payment.outcome is Outcome.FAILED
    assert "203" in payment.reason
    assert await balances(pair) == before
    assert (await pair.a.payment(invoice.bolt11)).outcome is Outcome.FAILED


async def test_more_than_can_be_spent(pair: Pair) -> None:
    """An amount above what is spendable fails with 205 and sends nothing."""
    spendable = sum(channel.spendable_msat for channel in await pair.a.channels(pair.b_id))
    invoice = await pair.invoice(spendable + 1)
    payment = await pay(pair, invoice)
    assert payment.outcome is Outcome.FAILED
    assert "205" in payment.reason


async def test_no_route(pair: Pair) -> None:
    """A payee that nobody has a channel with is 205."""
    stranger = await pair.network.add_node("carol")
    reply = await stranger.call("invoice", amount_msat=1000, label=os.urandom(8).hex(), description="x")
    with pytest.raises(LightningRefused) as caught:
        await pair.a.call("xpay", invstring=reply["bolt11"])
    assert caught.value.code == 205
    assert (await pair.a.payment(reply["bolt11"])).outcome is Outcome.FAILED


async def test_over_two_hops(pair: Pair) -> None:
    """A payment through another node costs that node's fee, and not more than allowed."""
    mallory = await pair.network.add_node("mallory")
    info = await mallory.info()
    await pair.network.fund("bob", 2_000_000)
    await ensure_channel(pair.b, info.lightning_id, *info.addresses[0], amount_sat=500_000, timeout_seconds=60)
    await pair.network.mine(6)  # deep enough for the channels to be announced

    async def invoice() -> str:
        reply = await mallory.call("invoice", amount_msat=1_000_000, label=os.urandom(8).hex(), description="x")
        return str(reply["bolt11"])

    free = await invoice()
    costly = await invoice()
    payment = Payment(Outcome.FAILED)

    async def routed() -> bool:
        # Gossip takes a moment to tell the payer of the second channel.
        nonlocal payment
        payment = await pair.a.pay(costly, max_fee_msat=FEE, retry_for_seconds=5)
        return payment.outcome is Outcome.SETTLED

    await eventually(routed)
    assert payment.amount_msat == 1_000_000
    assert payment.sent_msat == 1_000_011
    refused = await pair.a.pay(free, max_fee_msat=Msat(0), retry_for_seconds=5)
    assert refused.outcome is Outcome.FAILED
    assert "206" in refused.reason


async def test_exactly_what_can_be_spent(pair: Pair) -> None:
    """All that is spendable can be paid in one payment; afterwards nothing is."""
    erin = await pair.network.add_node("erin")
    info = await erin.info()
    channel = await ensure_channel(
        pair.a, info.lightning_id, *info.addresses[0], amount_sat=500_000, timeout_seconds=60
    )
    # 1 % reserve, and the opener keeps the fee of a commitment transaction: the same to a sat in both.
    assert channel.spendable_msat in range(490_600_000, 490_800_000)
    reply = await erin.call(
        "invoice", amount_msat=int(channel.spendable_msat), label=os.urandom(8).hex(), description="all"
    )
    payment = await pair.a.pay(reply["bolt11"], max_fee_msat=Msat(0), retry_for_seconds=30)
    assert payment.outcome is Outcome.SETTLED

    async def empty() -> bool:
        (ours,), (theirs,) = await pair.a.channels(info.lightning_id), await erin.channels(pair.a_id)
        return ours.spendable_msat == 0 and theirs.to_us_msat > 0 and ours.to_us_msat + theirs.to_us_msat == 500_000_000

    await eventually(empty)
    (theirs,) = await erin.channels(pair.a_id)
    assert theirs.to_us_msat == channel.spendable_msat
    assert theirs.spendable_msat == channel.spendable_msat - 5_000_000
    assert theirs.receivable_msat == 0


async def test_unreachable_daemon(pair: Pair) -> None:
    """A dead daemon is LightningUnavailable, for pay() and payment() UNKNOWN; it is back after a restart."""
    invoice = await pair.invoice()
    await pair.network.crash("alice")
    try:
        with pytest.raises(LightningUnavailable, match="start it"):
            await pair.a.info()
        assert (await pair.a.payment(invoice.bolt11)).outcome is Outcome.UNKNOWN
        assert (await pay(pair, invoice)).outcome is Outcome.UNKNOWN
    finally:
        await pair.network.restart("alice")
    await pair.reconnected()
    assert (await pay(pair, invoice)).outcome is Outcome.SETTLED


async def test_payee_down_then_up(pair: Pair) -> None:
    """While the payee is down the payment fails (205) with nothing sent; once it is back it is paid, once."""
    invoice = await pair.invoice()
    start = await pair.last_pay_index()
    await pair.network.crash("bob")

    async def apart() -> bool:
        return not any(channel.connected for channel in await pair.a.channels(pair.b_id))

    try:
        await eventually(apart)
        payment = await pair.a.pay(invoice.bolt11, max_fee_msat=FEE, retry_for_seconds=1)
        assert payment.outcome is Outcome.FAILED
        assert "205" in payment.reason
    finally:
        await pair.network.restart("bob")
    await pair.reconnected()
    assert (await pay(pair, invoice)).outcome is Outcome.SETTLED
    paid = await pair.b.next_paid(start, timeout_seconds=5)
    assert paid is not None
    assert paid.label == invoice.label
    assert await pair.b.next_paid(paid.pay_index or 0, timeout_seconds=0) is None


@pytest.mark.parametrize("victim", ["alice", "bob"])
async def test_killed_while_paying(pair: Pair, victim: str) -> None:
    """Killed at any moment among many payments, payer and payee agree afterwards, and nothing is paid twice."""
    start = await pair.last_pay_index()
    before = await balances(pair)
    invoices = [await pair.invoice(1000 + number) for number in range(20)]

    async def send(invoice: Invoice) -> None:
        await pair.a.pay(invoice.bolt11, max_fee_msat=FEE, retry_for_seconds=1)

    async with trio.open_nursery() as nursery:
        for invoice in invoices:
            nursery.start_soon(send, invoice)
        await trio.sleep(random.uniform(0.005, 0.05 if pair.simulated else 0.4))
        await pair.network.crash(victim)
        await pair.network.restart(victim)
        await pair.reconnected()

    ends: dict[str, Payment] = {}

    async def all_ended() -> bool:
        ends.update({invoice.label: await pay(pair, invoice) for invoice in invoices})
        return all(payment.outcome is Outcome.SETTLED or payment.unpayable for payment in ends.values())

    await eventually(all_ended)
    # A real daemon may have recorded payments that it never sent; it does not pay those, and nobody paid them.
    invoices = [invoice for invoice in invoices if ends[invoice.label].outcome is Outcome.SETTLED]
    cursor, labels = start, []
    while (paid := await pair.b.next_paid(cursor, timeout_seconds=0)) is not None:
        cursor = paid.pay_index or 0
        labels.append(paid.label)
    assert sorted(labels) == sorted(invoice.label for invoice in invoices)
    total = sum(invoice.amount_msat for invoice in invoices)
    assert await balances(pair) == (before[0] - total, before[1] + total)
