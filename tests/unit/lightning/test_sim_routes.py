"""Payments over several hops and in several parts."""

from __future__ import annotations

import pytest

from lnstore.lightning.core import CoreLightning
from lnstore.ports import LightningRefused, Outcome
from lnstore_protocol.ids import Msat
from tests.unit.lightning.conftest import Alice, eventually, open_channel


async def third(alice: Alice) -> CoreLightning:
    """Carol, to whom Bob has a channel and Alice has none."""
    carol = CoreLightning(await alice.network.add_node(f"carol-{alice.a_name}"))
    await alice.network.fund(alice.b_name, 5_000_000)
    await open_channel(alice.network, alice.b, carol, 500_000)
    return carol


async def test_two_hops_cost_a_fee(alice: Alice) -> None:
    """A payment through Bob costs Bob's fee (1 msat and 10 ppm), which Bob keeps."""
    carol = await third(alice)
    before = sum(channel.to_us_msat for channel in await alice.b.channels())
    reply = await carol.call("invoice", amount_msat=1_000_000, label="x", description="x")
    payment = await alice.a.pay(reply["bolt11"], max_fee_msat=Msat(5000), retry_for_seconds=1)
    assert payment.outcome is Outcome.SETTLED
    assert (payment.amount_msat, payment.sent_msat) == (1_000_000, 1_000_011)
    after = sum(channel.to_us_msat for channel in await alice.b.channels())
    assert after == before + 11


@pytest.mark.parametrize(("limits", "words"), [({"maxfee": 0}, "excessive cost"), ({"maxdelay": 12}, "delays")])
async def test_fee_and_delay_limits(alice: Alice, limits: dict[str, float], words: str) -> None:
    """A route that costs or takes more than allowed is 206, and nothing is sent."""
    carol = await third(alice)
    reply = await carol.call("invoice", amount_msat=1000, label="x", description="x")
    with pytest.raises(LightningRefused, match=words) as caught:
        await alice.a.call("xpay", invstring=reply["bolt11"], **limits)
    assert caught.value.code == 206
    assert await alice.a.call("listpays", bolt11=reply["bolt11"]) == {"pays": []}


async def test_parts_over_two_channels(alice: Alice) -> None:
    """What one channel cannot carry goes over two."""
    info = await alice.b.info()
    await alice.a.open_channel(info.lightning_id, amount_sat=1_000_000, push_msat=Msat(0), announce=True)

    async def both() -> bool:
        return [channel.usable for channel in await alice.a.channels()] == [True, True]

    await eventually(both)
    spendable = sum(channel.spendable_msat for channel in await alice.a.channels())
    invoice = await alice.invoice(1_500_000_000)
    reply = await alice.a.call("xpay", invstring=invoice.bolt11)
    assert reply["successful_parts"] == 2
    assert (await alice.a.payment(invoice.bolt11)).sent_msat == 1_500_000_000
    rest = await alice.invoice(spendable - 1_500_000_000)
    assert (await alice.pay(rest)).outcome is Outcome.SETTLED
    too_much = await alice.invoice(1)
    assert (await alice.pay(too_much)).outcome is Outcome.FAILED


async def test_paying_oneself(alice: Alice) -> None:
    """An invoice of one's own is paid without moving anything."""
    reply = await alice.a.call("invoice", amount_msat=1000, label="mine", description="x")
    payment = await alice.a.pay(reply["bolt11"], max_fee_msat=Msat(0), retry_for_seconds=1)
    assert payment.outcome is Outcome.SETTLED
    assert await alice.balance() == 1_000_000_000


async def test_both_ways(alice: Alice) -> None:
    """What was received can be spent, but for the reserve of one per cent."""
    await alice.pay(await alice.invoice(100_000_000))
    (channel,) = await alice.b.channels()
    assert channel.spendable_msat == 90_000_000
    reply = await alice.a.call("invoice", amount_msat=90_000_000, label="back", description="x")
    payment = await alice.b.pay(reply["bolt11"], max_fee_msat=Msat(0), retry_for_seconds=1)
    assert payment.outcome is Outcome.SETTLED
    assert await alice.balance() == 990_000_000
