"""A node that dies between any two steps continues where it was: nothing is lost, nothing is credited twice."""

from __future__ import annotations

import pytest
from node_world import HELLO, MIB, Client, World, eventually, some_bytes

from lnstore_protocol import merkle
from lnstore_protocol.identity import Identity
from lnstore_protocol.messages import (
    AddCapacity,
    AddCapacityReply,
    InvoicePurpose,
    InvoiceReply,
    PutShare,
    RequestInvoice,
)

GROW = AddCapacity(growth_index=0, capacity_bytes=8 * MIB)


@pytest.mark.parametrize("where", ["before create", "after create"])
async def test_a_crash_between_plan_and_invoice_leads_to_one_invoice(world: World, where: str) -> None:  # R-W14
    identity = Identity.generate()
    async with world.running() as node, world.client(node, identity) as client:
        await client.open_account()
        world.daemon.hang(where)
        await client.send(GROW)
        await world.daemon.hanging.wait()
        planned = await node.books.planned_invoice(client.account_id, InvoicePurpose.CAPACITY, 0)
        assert planned is not None
        assert planned.bolt11 is None
        node.kill()
    world.daemon.recover()
    async with world.running() as node, world.client(node, identity) as client:
        reply = await client.ask(GROW, AddCapacityReply)
        assert world.daemon.created == 1
        assert world.daemon.pay(reply.bolt11)
        await client.until(lambda now: now.capacity_bytes == 8 * MIB)


async def test_a_rent_proof_survives_a_crash_before_its_invoice(world: World) -> None:
    identity = Identity.generate()
    async with world.running() as node, world.client(node, identity) as client:
        await client.rent(8 * MIB)
        share_id = await client.put(b"x" * 1000)
        ask = client.rent_request(node.address, await client.status())
        world.daemon.hang("before create")
        await client.send(ask)
        await world.daemon.hanging.wait()
        node.kill()
    world.daemon.recover()
    world.shares.delete(share_id)  # a second proof could not be made
    async with world.running() as node, world.client(node, identity) as client:
        reply = await client.ask(ask, InvoiceReply)
        assert (reply.shares, reply.lost) == (1, b"")
        assert reply.sample[:32] == share_id


async def test_a_payment_is_credited_once_though_the_node_died_before_the_credit(world: World) -> None:  # R-W15
    identity = Identity.generate()
    async with world.running() as node, world.client(node, identity) as client:
        await client.open_account()
        reply = await client.ask(GROW, AddCapacityReply)
        world.daemon.hang("after paid")
        assert world.daemon.pay(reply.bolt11)
        await world.daemon.hanging.wait()
        assert (await client.status()).capacity_bytes == 0
        node.kill()
    world.daemon.recover()
    for _ in range(2):
        async with world.running() as node, world.client(node, identity) as client:
            await client.until(lambda now: now.capacity_bytes == 8 * MIB)
            balances = await node.books.balances()
            assert sum(balances.values()) == 0
            assert balances["lightning"] == reply.amount_msat
            assert await node.books.pay_index() == 1


async def test_payments_made_while_the_node_was_away_are_credited_in_order(world: World) -> None:
    identity = Identity.generate()
    async with world.running() as node, world.client(node, identity) as client:
        await client.open_account()
        growth = await client.ask(GROW, AddCapacityReply)
        deposit = await client.ask(
            RequestInvoice(purpose=InvoicePurpose.DEPOSIT, deposit_index=0, amount_msat=growth.amount_msat),
            InvoiceReply,
        )
    await world.daemon.create_invoice(
        label="somebody else's",
        amount_msat=growth.amount_msat,
        description="",
        expires_in_seconds=60,
        preimage=b"p" * 32,
    )
    for bolt11 in (deposit.bolt11, world.daemon.invoices["somebody else's"].bolt11, growth.bolt11):
        assert world.daemon.pay(bolt11)
    async with world.running() as node, world.client(node, identity) as client:
        await node.node.collector.wait_caught_up()
        status = await client.status()
        assert (status.capacity_bytes, status.deposit_msat) == (8 * MIB, growth.amount_msat)
        assert await node.books.pay_index() == 3
        assert (await node.books.balances())["lightning"] == 2 * growth.amount_msat


async def test_the_collector_outlives_its_daemon(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.open_account()
        reply = await client.ask(GROW, AddCapacityReply)
        world.daemon.take_down()
        await eventually(lambda: not node.node.collector.is_caught_up)
        assert world.daemon.pay(reply.bolt11)
        world.daemon.up = True
        await client.until(lambda now: now.capacity_bytes == 8 * MIB)


async def test_holds_of_a_crash_are_charged_in_full_at_the_next_start(world: World) -> None:  # R-W25
    identity = Identity.generate()
    async with world.running() as node, world.client(node, identity) as client:
        await client.open_account()
        await client.deposit(1000)
        await node.books.hold_egress(client.account_id, 64 * MIB, world.clock.now())
    async with world.running() as node, world.client(node, identity) as client:
        assert (await client.status()).deposit_msat == 1000 - 63
        assert sum((await node.books.balances()).values()) == 0


async def test_a_client_that_vanishes_mid_upload_leaves_nothing(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        async with await Client.connect(node.address, client.identity) as vanishing:
            await _send_half_a_share(vanishing)
            await eventually(lambda: node.node.context.incoming.used_bytes == 4 * MIB)
        await eventually(lambda: node.node.connections == 1)
        assert node.node.context.incoming.used_bytes == 0
        assert list(world.shares.share_ids()) == []
        assert list((world.directory / "shares" / "tmp").iterdir()) == []
        assert (await client.status()).used_bytes == 0


async def _send_half_a_share(client: Client) -> None:
    await client.send(HELLO)
    data = some_bytes(4 * MIB)
    _, chunks = client.connection.send_request(
        PutShare(share_id=merkle.share_id(data), token_start=0, tokens=b"", payload=data)
    )
    for number, chunk in enumerate(chunks):
        if number == 8:
            break
        await client.stream.send_all(chunk)
