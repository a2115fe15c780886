"""The adapter on a network that fails on demand: outcomes stay honest, repetition stays harmless."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
import trio

from lnstore.lightning import core
from lnstore.lightning.channels import ensure_channel
from lnstore.lightning.core import CoreLightning
from lnstore.lightning.simulated.faults import KINDS, MOMENTS
from lnstore.ports import InvoiceStatus, LightningRefused, LightningUnavailable, Outcome, Payment
from lnstore_protocol.ids import Msat
from tests.unit.lightning.conftest import Alice, eventually, open_channel

if TYPE_CHECKING:
    from lnstore.lightning.simulated.control import SimulatedNetwork


async def restarted(alice: Alice, name: str) -> None:
    await alice.network.start_node(name)

    async def usable() -> bool:
        return all(channel.usable for channel in await alice.a.channels(alice.b_id))

    await eventually(usable)


async def test_held_payment_is_pending_until_it_completes(alice: Alice) -> None:
    """A payment that hangs is PENDING for everyone who asks, is not sent twice, and settles when it is let go."""
    await alice.network.fault("hold_payment", alice.a_name)
    invoice = await alice.invoice(3000)
    ends: list[Payment] = []

    async def pay() -> None:
        ends.append(await alice.pay(invoice))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pay)

        async def pending() -> bool:
            return (await alice.a.payment(invoice.bolt11)).outcome is Outcome.PENDING

        await eventually(pending)
        assert (await alice.pay(invoice)).outcome is Outcome.PENDING
        (channel,) = (await alice.a.call("listpeerchannels"))["channels"]
        assert [htlc["amount_msat"] for htlc in channel["htlcs"]] == [3000]
        assert await alice.network.release(alice.a_name) == 1
    assert ends[0].outcome is Outcome.SETTLED
    assert await alice.balance() == 1_000_000_000 - 3000


async def test_held_payment_that_fails_may_be_paid_again(alice: Alice) -> None:
    """A payment that hangs and then fails is FAILED, gives everything back, and can be tried again."""
    await alice.network.fault("hold_payment", alice.a_name)
    invoice = await alice.invoice(3000)
    before = await alice.balance()

    async def fail() -> None:
        async def held() -> bool:
            return await alice.network.release(alice.a_name, "fail") == 1

        await eventually(held)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        payment = await alice.pay(invoice)
    assert payment.outcome is Outcome.FAILED
    assert await alice.balance() == before
    assert (await alice.pay(invoice)).outcome is Outcome.SETTLED


async def test_payment_that_outlasts_its_call(alice: Alice, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that ends before its payment says PENDING, and the payment goes on without it."""
    monkeypatch.setattr(core, "MARGIN_SECONDS", -0.9)
    await alice.network.fault("hold_payment", alice.a_name)
    invoice = await alice.invoice()
    assert (await alice.pay(invoice)).outcome is Outcome.PENDING
    await alice.network.release(alice.a_name)

    async def settled() -> bool:
        return (await alice.a.payment(invoice.bolt11)).outcome is Outcome.SETTLED

    await eventually(settled)


async def test_refused_by_the_payee(alice: Alice) -> None:
    """A payment that the payee refuses is FAILED with 203, and the next attempt is a new one."""
    await alice.network.fault("fail_payment", alice.a_name)
    invoice = await alice.invoice()
    payment = await alice.pay(invoice)
    assert payment.outcome is Outcome.FAILED
    assert "203" in payment.reason
    assert (await alice.pay(invoice)).outcome is Outcome.SETTLED
    assert len((await alice.a.call("listpays", bolt11=invoice.bolt11))["pays"]) == 2


@pytest.mark.parametrize(
    ("moment", "afterwards"),
    [
        ("payment-unsent", Outcome.FAILED),
        ("payment-sent", Outcome.SETTLED),
        ("payment-settled", Outcome.SETTLED),
    ],
)
async def test_payer_dies(alice: Alice, moment: str, afterwards: Outcome) -> None:
    """Wherever the payer dies, pay() says UNKNOWN, and after the restart the truth; in the end it is paid once."""
    invoice = await alice.invoice(3000)
    before = await alice.balance()
    await alice.network.fault("crash", alice.a_name, command=moment)
    assert (await alice.pay(invoice)).outcome is Outcome.UNKNOWN
    await restarted(alice, alice.a_name)

    async def known() -> bool:
        return (await alice.a.payment(invoice.bolt11)).outcome is afterwards

    await eventually(known)
    assert (await alice.pay(invoice)).outcome is Outcome.SETTLED
    assert await alice.balance() == before - 3000


async def test_payer_dies_between_recording_and_sending(alice: Alice) -> None:
    """What lightningd recorded but never sent is PENDING at first, then FAILED and unpayable; nothing was paid."""
    invoice = await alice.invoice(3000)
    await alice.network.fault("crash", alice.a_name, command="payment-recorded")
    assert (await alice.pay(invoice)).outcome is Outcome.UNKNOWN
    await restarted(alice, alice.a_name)
    patient = CoreLightning(alice.network.socket(alice.a_name))
    assert (await patient.payment(invoice.bolt11)).outcome is Outcome.PENDING
    assert (await patient.pay(invoice.bolt11, max_fee_msat=Msat(0), retry_for_seconds=1)).outcome is Outcome.PENDING
    lost = await alice.pay(invoice)
    assert lost.outcome is Outcome.FAILED
    assert lost.unpayable
    with pytest.raises(LightningRefused) as caught:
        await alice.a.call("xpay", invstring=invoice.bolt11)
    assert caught.value.code == -3
    assert await alice.balance() == 1_000_000_000


async def test_a_payment_in_a_channel_is_never_taken_for_lost(alice: Alice) -> None:
    """However old a pending payment is, an HTLC that carries its hash keeps it PENDING."""
    await alice.network.fault("hold_payment", alice.a_name)
    invoice = await alice.invoice()
    with trio.move_on_after(0.2):
        await alice.pay(invoice)
    payment = await alice.a.payment(invoice.bolt11)
    assert payment.outcome is Outcome.PENDING
    assert not payment.unpayable


async def test_payee_dies_with_a_payment_in_flight(lone_alice: Alice) -> None:
    """A payee that dies with the payment on its way keeps it PENDING; back again, it is paid, and told of once."""
    alice = lone_alice
    await alice.network.settings(payment_seconds=0.2)
    invoice = await alice.invoice()
    ends: list[Payment] = []

    async def pay() -> None:
        ends.append(await alice.pay(invoice))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pay)

        async def pending() -> bool:
            return (await alice.a.payment(invoice.bolt11)).outcome is Outcome.PENDING

        await eventually(pending)
        await alice.network.crash_node(alice.b_name)
        await trio.sleep(0.05)
        assert await pending()
        await restarted(alice, alice.b_name)
    assert ends[0].outcome is Outcome.SETTLED
    paid = await alice.b.next_paid(0, timeout_seconds=0)
    assert paid is not None
    assert paid.label == invoice.label
    assert await alice.b.next_paid(1, timeout_seconds=0) is None


async def test_invoice_survives_the_daemon(alice: Alice) -> None:
    """A daemon that dies with the invoice stored and nobody told gives the same invoice to the next call."""
    preimage = os.urandom(32)
    await alice.network.fault("crash", alice.b_name, command="invoice-created")
    with pytest.raises(LightningUnavailable):
        await alice.invoice(preimage=preimage)
    await restarted(alice, alice.b_name)
    invoice = await alice.invoice(preimage=preimage)
    assert invoice == await alice.b.find_invoice(preimage.hex())


async def test_disk_full(alice: Alice) -> None:
    """A daemon that cannot write its database is gone without an answer, and without the invoice."""
    await alice.network.fault("disk_full", alice.b_name)
    preimage = os.urandom(32)
    with pytest.raises(LightningUnavailable):
        await alice.invoice(preimage=preimage)
    with pytest.raises(LightningUnavailable, match="start it"):
        await alice.b.info()
    await restarted(alice, alice.b_name)
    assert await alice.b.find_invoice(preimage.hex()) is None
    assert (await alice.invoice(preimage=preimage)).status is InvoiceStatus.UNPAID


async def test_peers_apart(alice: Alice) -> None:
    """Peers that cannot reach each other fail payments with 205, and heal when the fault is cleared."""
    invoice = await alice.invoice()
    await alice.network.fault("peer_down", alice.a_name, peer=alice.b_name)
    (channel,) = await alice.a.channels()
    assert not channel.connected
    assert not channel.usable
    payment = await alice.pay(invoice)
    assert payment.outcome is Outcome.FAILED
    assert "205" in payment.reason
    place = (await alice.b.info()).addresses[0]
    with pytest.raises(LightningRefused) as caught:
        await alice.a.connect(alice.b_id, *place)
    assert caught.value.code == 401
    await alice.network.clear_faults("peer_down")
    assert (await alice.pay(invoice)).outcome is Outcome.SETTLED


async def test_capacity_exhausted(alice: Alice) -> None:
    """A drained channel says so, and refuses with 205."""
    invoice = await alice.invoice()
    await alice.network.fault("capacity_exhausted", alice.a_name)
    assert (await alice.a.channels())[0].spendable_msat == 0
    payment = await alice.pay(invoice)
    assert payment.outcome is Outcome.FAILED
    assert "205" in payment.reason
    await alice.network.clear_faults(node=alice.a_name)
    assert (await alice.pay(invoice)).outcome is Outcome.SETTLED


async def test_late_answers(alice: Alice) -> None:
    """A delay holds up one command of one node and no other."""
    await alice.network.fault("delay", alice.b_name, command="getinfo", seconds=0.1)
    started = time.monotonic()
    await alice.b.call("listfunds")
    await alice.a.info()
    assert time.monotonic() - started < 0.1
    await alice.b.info()
    assert time.monotonic() - started >= 0.1


async def test_expiry_by_the_clock(lone_alice: Alice) -> None:
    """The clock can be set forward: what expires, expires, and whoever waits for it is told."""
    alice = lone_alice
    invoice = await alice.invoice(expiry=86_400)

    async def wait() -> None:
        with pytest.raises(LightningRefused) as caught:
            await alice.b.call("waitinvoice", label=invoice.label)
        assert caught.value.code == 903

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(0.02)
        await alice.network.advance_clock(86_402)
    payment = await alice.pay(invoice)
    assert payment.outcome is Outcome.FAILED
    assert "207" in payment.reason


async def test_blocks_withheld(network: SimulatedNetwork) -> None:
    """Without blocks a channel stays unusable; ensure_channel gives up in time and finds it again later."""
    a, b = (CoreLightning(network.socket(name)) for name in ("alice", "bob"))
    await network.fund("alice", 2_000_000)
    await network.fault("withhold_blocks")
    info = await b.info()
    said: list[str] = []
    with pytest.raises(LightningUnavailable, match="AWAITING_LOCKIN"):
        await ensure_channel(
            a,
            info.lightning_id,
            *info.addresses[0],
            amount_sat=100_000,
            progress=said.append,
            timeout_seconds=0.3,
        )
    opening, waiting = said[1:]
    assert opening == "opening a channel of 100,000 sat"
    assert waiting.startswith("waiting for the channel: CHANNELD_AWAITING_LOCKIN (Funding needs 1 more confirmation")
    await network.clear_faults()
    await open_channel(network, a, b, 100_000)
    assert len(await a.channels()) == 1


async def test_daemon_dies_while_opening(network: SimulatedNetwork) -> None:
    """A daemon that dies with the channel funded and nobody told does not fund a second one."""
    a, b = (CoreLightning(network.socket(name)) for name in ("alice", "bob"))
    await network.fund("alice", 2_000_000)
    await network.fault("crash", "alice", command="channel-funded")
    with pytest.raises(LightningUnavailable):
        await open_channel(network, a, b, 100_000)
    await network.start_node("alice")
    await open_channel(network, a, b, 100_000)
    assert len(await a.channels()) == 1


async def test_faults_that_make_no_sense(alice: Alice) -> None:
    """The control socket refuses faults it does not know, or that lack something, and says what there is."""
    network = alice.network
    wrong: list[tuple[str, dict[str, str]]] = [
        ("nosuch", {}),
        ("hold_payment", {}),
        ("hold_payment", {"node": "nobody"}),
        ("peer_down", {"node": alice.a_name}),
        ("crash", {"node": alice.a_name, "command": "whenever"}),
        ("delay", {"node": alice.a_name}),
    ]
    for kind, params in wrong:
        with pytest.raises(LightningRefused) as caught:
            await network.call("fault", kind=kind, **params)
        assert caught.value.code == -32602
    assert all(KINDS.values())
    assert all(MOMENTS.values())
    assert not any(fault.get("node") == alice.a_name for fault in (await network.status())["faults"])
