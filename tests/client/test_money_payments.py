"""Paying once: whatever the daemon, the node or this process does in between."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from money_world import START, Killed, World, make_world

from lnstore.client.catalog import Catalog, CatalogError
from lnstore.client.money_errors import InvoiceFault, InvoiceRefused, PaymentFailed, PaymentOpen
from lnstore.client.nodes import add_node
from lnstore.client.payments import ATTEMPT_SECONDS, pay_invoice, resolve_open, resume
from lnstore.client.wallet_entries import Offer, PaymentEntry
from lnstore.ports import Outcome
from lnstore_protocol.ids import LightningId, Msat
from lnstore_protocol.messages import InvoicePurpose


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = await make_world(tmp_path)
    await add_node(made.purse, made.node.address)
    return made


def preimage_of(label: str) -> bytes:
    return sha256(label.encode()).digest()


async def offer(world: World, *, index: int = 0, amount: int = 5000, seconds: int = 3600, label: str = "one") -> Offer:
    invoice = await world.node.lightning.create_invoice(
        label=label, amount_msat=Msat(amount), description="", expires_in_seconds=seconds, preimage=preimage_of(label)
    )
    return Offer(
        node_id=world.node.node_id,
        purpose=InvoicePurpose.DEPOSIT,
        index=index,
        bolt11=invoice.bolt11,
        amount_msat=Msat(amount),
        from_at=START,
        until_at=START,
        capacity_bytes=0,
    )


async def pay(world: World, wanted: Offer, *, limit: int = 5000) -> PaymentEntry:
    return await pay_invoice(world.purse, world.entry, wanted, limit_msat=Msat(limit))


async def test_a_payment_is_settled_with_its_fee_and_its_preimage(world: World) -> None:
    world.lightning.fee_msat = 30
    entry = await pay(world, await offer(world))
    assert (entry.state, entry.amount_msat, entry.fee_msat) == (Outcome.SETTLED, 5000, 30)
    assert entry.preimage == preimage_of("one")
    assert world.purse.wallet.balances()["lightning"] == -5030


@pytest.mark.parametrize("fate", ["hold", "lose", "drop"])
async def test_a_payment_of_unknown_outcome_stays_open(world: World, fate: str) -> None:  # R-W13
    world.network.fates = [fate]
    with pytest.raises(PaymentOpen, match="run the command again"):
        await pay(world, await offer(world))
    assert len(await resolve_open(world.purse)) == (fate != "lose")


async def test_a_held_payment_that_settles_later_is_found_by_the_next_command(world: World) -> None:
    world.network.fates = ["hold"]
    with pytest.raises(PaymentOpen, match="on its way"):
        await pay(world, await offer(world))
    (entry,) = await resolve_open(world.reborn())
    assert entry.state is Outcome.PENDING
    with pytest.raises(PaymentOpen):
        await resume(world.purse, world.entry, entry)
    world.lightning.release()
    assert await resolve_open(world.purse) == []
    assert world.purse.wallet.balances()["lightning"] == -5000


async def test_an_interrupted_attempt_is_not_taken_for_failed_before_its_time_is_up(world: World) -> None:
    """The daemon lists no payment yet; it may still start one that a dead caller asked for."""
    world.network.fates = ["drop"]
    with pytest.raises(PaymentOpen):
        await pay(world, await offer(world))
    world.clock.at += ATTEMPT_SECONDS - 1
    assert [entry.state for entry in await resolve_open(world.purse)] == [Outcome.UNKNOWN]
    world.clock.at += 1
    assert await resolve_open(world.purse) == []
    assert [entry.state for entry in world.purse.wallet.payments()] == [Outcome.FAILED]


async def test_an_open_payment_is_carried_on_by_its_own_invoice(world: World) -> None:
    world.network.fates = ["drop"]
    with pytest.raises(PaymentOpen):
        await pay(world, await offer(world))
    (entry,) = await resolve_open(world.purse)
    assert (await resume(world.purse, world.entry, entry)).state is Outcome.SETTLED
    assert world.received_msat() == 5000


async def test_a_failing_retry_does_not_close_what_an_earlier_attempt_may_still_pay(world: World) -> None:
    world.network.fates = ["drop", "fail"]
    with pytest.raises(PaymentOpen):
        await pay(world, await offer(world))
    (entry,) = await resolve_open(world.purse)
    with pytest.raises(PaymentFailed):
        await resume(world.purse, world.entry, entry)
    assert len(world.purse.wallet.open_payments()) == 1


async def test_an_expired_open_payment_is_not_tried_again(world: World) -> None:
    world.network.fates = ["drop"]
    with pytest.raises(PaymentOpen):
        await pay(world, await offer(world, seconds=60))
    world.clock.at += 61
    (entry,) = await resolve_open(world.purse)
    with pytest.raises(PaymentOpen):
        await resume(world.purse, world.entry, entry)
    assert world.lightning.sent == []


async def test_a_failed_payment_is_closed_and_says_what_to_do(world: World) -> None:
    world.network.fates = ["fail"]
    wanted = await offer(world)
    with pytest.raises(PaymentFailed, match="lnstore channel open"):
        await pay(world, wanted)
    assert await resolve_open(world.purse) == []
    assert (await pay(world, wanted)).state is Outcome.SETTLED


async def test_a_route_that_costs_more_than_allowed_is_not_taken(world: World) -> None:  # R-R15
    world.lightning.fee_msat = 1001
    with pytest.raises(PaymentFailed, match="expensive"):
        await pay(world, await offer(world))


@pytest.mark.parametrize("moment", ["kill before", "kill after"])
async def test_a_process_killed_while_paying_finds_the_payment_again(world: World, moment: str) -> None:  # R-W12
    wanted = await offer(world)
    world.network.fates = [moment]
    with pytest.raises(Killed):
        await pay(world, wanted)
    world.reborn()
    for entry in await resolve_open(world.purse):
        await resume(world.purse, world.entry, entry)
    assert world.received_msat() == 5000
    with pytest.raises(InvoiceRefused, match="already paid"):
        await pay(world, wanted)
    assert world.received_msat() == 5000


async def test_what_is_refused_leaves_no_trace(world: World) -> None:  # R-R10
    """An invoice that must not be paid is not written down as a payment either."""
    for wanted, limit, fault in (
        (await offer(world), 4999, InvoiceFault.OVERPRICED),
        (replace(await offer(world), bolt11="lnbcrt1rubbish"), 5000, InvoiceFault.UNREADABLE),
        (await offer(world, seconds=10, label="two"), 5000, InvoiceFault.EXPIRED),
    ):
        with pytest.raises(InvoiceRefused) as refused:
            await pay(world, wanted, limit=limit)
        assert refused.value.fault is fault
    assert world.purse.wallet.payments() == []
    assert world.received_msat() == 0


async def test_only_the_lightning_key_that_the_node_proved_is_paid(world: World) -> None:
    stranger = world.network.daemon(99)
    invoice = await stranger.create_invoice(
        label="x", amount_msat=Msat(5000), description="", expires_in_seconds=3600, preimage=bytes(32)
    )
    with pytest.raises(InvoiceRefused) as refused:
        await pay(world, replace(await offer(world), bolt11=invoice.bolt11))
    assert refused.value.fault is InvoiceFault.WRONG_PAYEE
    assert LightningId(stranger.lightning_id).hex() in str(refused.value)


async def test_a_catalog_of_another_network_pays_nothing(world: World) -> None:
    wanted = await offer(world)
    world.network.name = "bitcoin"
    with pytest.raises(InvoiceRefused) as refused:
        await pay(world, wanted)
    assert refused.value.fault is InvoiceFault.WRONG_NETWORK


def test_a_node_that_is_not_known_is_an_error_with_advice(tmp_path: Path) -> None:
    with Catalog.open(tmp_path / "c.db") as catalog, pytest.raises(CatalogError, match="nodes add"):
        catalog.find_node("alice")
