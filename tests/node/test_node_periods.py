"""Stages and warnings, renting less, leaving: what a node does at the end of a period, and around crashes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from node_world import GRACE, MIB, PERIOD, START_AT, Client, RunningNode, World, eventually, some_bytes

from lnstore_protocol import merkle
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.messages import (
    AccountStage,
    AccountState,
    AddCapacity,
    AddCapacityReply,
    GetShare,
    InvoiceReply,
    Leave,
    LeaveReply,
    PutShare,
    PutShareReply,
    ShrinkCapacity,
    ShrinkCapacityReply,
)
from lnstore_protocol.terms import GIB, MONTH_SECONDS, refund_msat, rent_msat

PRICE = 50_000_000


async def _shrink(client: Client, capacity_bytes: int) -> tuple[int, int, int]:
    reply = await client.ask(ShrinkCapacity(capacity_bytes=capacity_bytes), ShrinkCapacityReply)
    return reply.capacity_bytes, reply.next_capacity_bytes, reply.from_period


async def _invoice(client: Client, node: RunningNode) -> InvoiceReply:
    return await client.ask(client.rent_request(node.address, await client.status()), InvoiceReply)


async def _put(client: Client, asked: PutShare) -> None:
    await client.ask(asked, PutShareReply)


def _rent(capacity_bytes: int) -> int:
    return rent_msat(capacity_bytes, PERIOD, PRICE)


def put(size: int) -> PutShare:
    data = some_bytes(size)
    return PutShare(share_id=merkle.share_id(data), token_start=0, tokens=b"", payload=data)


async def test_the_status_says_what_comes_next_and_when_that_is_warned_of(world: World) -> None:  # RP-W1, RP-W2
    async with world.running() as node, world.client(node) as client:
        await client.open_account()
        status = await client.status()
        assert (status.next_stage, status.next_stage_at, status.warning_at) == (None, None, None)
        await client.rent(8 * MIB)
        end = START_AT + PERIOD
        for at, stage, comes_at, warned_at in (
            (START_AT, AccountStage.DUE, end - 250, end - 625),
            (end - 250, AccountStage.GRACE, end, end - 125),
            (end, AccountStage.LAPSED, end + GRACE, end + GRACE // 2),
            (end + GRACE, None, None, None),
        ):
            world.clock.time = at
            await node.bill()
            status = await client.status()
            assert (status.next_stage, status.next_stage_at, status.warning_at) == (stage, comes_at, warned_at)
        assert status.state is AccountState.LAPSED, "and nothing is left of it"


# RP-W3, RP-W4, RP-R2
async def test_a_smaller_capacity_is_charged_from_the_next_period_on(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        assert await client.refused(ShrinkCapacity(capacity_bytes=MIB)) is ErrorCode.NO_ACCOUNT
        await client.open_account()
        assert await client.refused(ShrinkCapacity(capacity_bytes=MIB)) is ErrorCode.CAPACITY_REFUSED
        await client.rent(8 * MIB)
        await _put(client, put(2 * MIB))
        for wrong, code in (
            (0, ErrorCode.CAPACITY_REFUSED),
            (1023, ErrorCode.CAPACITY_REFUSED),
            (8 * MIB + 1, ErrorCode.CAPACITY_REFUSED),
            (2 * MIB - 1, ErrorCode.CAPACITY_IN_USE),
        ):
            assert await client.refused(ShrinkCapacity(capacity_bytes=wrong)) is code
        for _again in range(2):
            assert await _shrink(client, 3 * MIB) == (8 * MIB, 3 * MIB, 1)
        status = await client.status()
        assert (status.capacity_bytes, status.shrink_to_bytes, status.shrink_period) == (8 * MIB, 3 * MIB, 1)
        assert await client.refused(put(2 * MIB)) is ErrorCode.CAPACITY_EXCEEDED
        await _put(client, put(MIB))
        reply = await _invoice(client, node)
        assert (reply.capacity_bytes, reply.amount_msat) == (3 * MIB, _rent(3 * MIB))
        assert world.daemon.pay(reply.bolt11)
        status = await client.until(lambda now: now.next_period == 2)
        assert (status.capacity_bytes, status.shrink_to_bytes) == (3 * MIB, None)


async def test_a_period_that_begins_unpaid_begins_with_the_smaller_capacity(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        await _shrink(client, 3 * MIB)
        world.clock.time = START_AT + PERIOD - 1
        await node.bill()
        assert (await client.status()).capacity_bytes == 8 * MIB
        world.clock.time += 1
        await node.bill()
        status = await client.status()
        assert (status.state, status.capacity_bytes, status.shrink_to_bytes) == (AccountState.GRACE, 3 * MIB, None)
        assert (await _invoice(client, node)).amount_msat == _rent(3 * MIB)


# R-W17, MA-R25
async def test_a_rent_invoice_that_was_made_before_is_not_contradicted(world: World) -> None:
    """The shrink is for the period after that; a further attempt at the first one costs what it cost."""
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        asked = client.rent_request(node.address, await client.status())
        first = await client.ask(asked, InvoiceReply)
        assert await _shrink(client, 3 * MIB) == (8 * MIB, 3 * MIB, 2)
        assert await client.ask(asked, InvoiceReply) == first
        again = replace(asked, token_index=1, nonce=client.nonce(node.address, 1))
        second = await client.ask(again, InvoiceReply)
        assert (second.capacity_bytes, second.amount_msat) == (8 * MIB, _rent(8 * MIB))
        assert world.daemon.pay(second.bolt11)
        status = await client.until(lambda now: now.next_period == 2)
        assert (status.capacity_bytes, status.shrink_to_bytes) == (8 * MIB, 3 * MIB)
        world.clock.time = START_AT + PERIOD
        assert (await _invoice(client, node)).amount_msat == _rent(3 * MIB)
        assert (await client.status()).capacity_bytes == 3 * MIB


async def test_growth_waits_for_a_shrink_or_for_its_being_taken_back(world: World) -> None:  # RP-W5
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        await _shrink(client, 3 * MIB)
        grow = AddCapacity(growth_index=1, capacity_bytes=9 * MIB)
        assert await client.refused(grow) is ErrorCode.SHRINK_PLANNED
        assert await _shrink(client, 8 * MIB) == (8 * MIB, 8 * MIB, 0)
        assert (await client.ask(grow, AddCapacityReply)).capacity_bytes == MIB
        assert (await _invoice(client, node)).amount_msat == _rent(8 * MIB)


async def test_an_unpaid_growth_is_withdrawn_before_a_shrink_and_a_paid_one_refuses_it(world: World) -> None:  # RP-R3
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        grow = AddCapacity(growth_index=1, capacity_bytes=9 * MIB)
        growth = await client.ask(grow, AddCapacityReply)
        await _shrink(client, 3 * MIB)
        assert not world.daemon.pay(growth.bolt11)
        await _shrink(client, 8 * MIB)
        growth = await client.ask(grow, AddCapacityReply)
        world.daemon.hang("after paid")  # the node does not hear of it yet
        assert world.daemon.pay(growth.bolt11)
        assert await client.refused(ShrinkCapacity(capacity_bytes=3 * MIB)) is ErrorCode.PERIOD_REFUSED
        node.kill()
    world.daemon.recover()
    async with world.running() as node, world.client(node, client.identity) as client:
        await client.until(lambda now: now.capacity_bytes == 9 * MIB)
        assert await _shrink(client, 3 * MIB) == (9 * MIB, 3 * MIB, 1)


async def test_a_node_that_dies_keeps_what_was_planned(world: World) -> None:
    identity = Identity.generate()
    async with world.running() as node, world.client(node, identity) as client:
        await client.rent(8 * MIB)
        await _shrink(client, 3 * MIB)
        world.daemon.hang("before create")  # the plan of the invoice made the capacity smaller
        await client.send(client.rent_request(node.address, await client.status()))
        await world.daemon.hanging.wait()
        node.kill()
    world.daemon.recover()
    async with world.running() as node, world.client(node, identity) as client:
        status = await client.status()
        assert (status.capacity_bytes, status.shrink_to_bytes) == (3 * MIB, None)
        reply = await _invoice(client, node)
        assert reply.amount_msat == _rent(3 * MIB)
        assert world.daemon.pay(reply.bolt11)
        await client.until(lambda now: now.next_period == 2)


@pytest.mark.parametrize("permille", [0, 333, 1000])
async def test_who_leaves_gets_back_what_the_terms_say(tmp_path: Path, permille: int) -> None:  # RP-W7, RP-W8, RP-R5
    world = World(tmp_path, refund_permille=permille)
    identity = Identity.generate()
    async with world.running() as node, world.client(node, identity) as client:
        assert await client.refused(Leave()) is ErrorCode.NO_ACCOUNT
        await client.rent(8 * MIB)
        await client.deposit(1000)
        reply = await _invoice(client, node)
        assert world.daemon.pay(reply.bolt11)
        await client.until(lambda now: now.next_period == 2)
        asked = put(1000)
        await _put(client, asked)
        world.clock.time += 123
        left = await client.ask(Leave(), LeaveReply)
        due = refund_msat(8 * MIB, 2 * PERIOD - 123, PRICE, permille)
        assert (left.left_at, left.refund_msat, left.deposit_msat) == (world.clock.time, due, 1000 + due)
        await eventually(lambda: world.shares.size(asked.share_id) is None)
        world.clock.time += 50
        assert await client.ask(Leave(), LeaveReply) == left
        assert await client.refused(ShrinkCapacity(capacity_bytes=MIB)) is ErrorCode.LAPSED
        node.kill()
    async with world.running() as node, world.client(node, identity) as client:
        assert await client.ask(Leave(), LeaveReply) == left
        status = await client.status()
        assert (status.state, status.capacity_bytes, status.shares) == (AccountState.LAPSED, 0, 0)
        await client.rent(4 * MIB)
        assert (await client.status()).deposit_msat == left.deposit_msat
        assert sum((await node.books.balances()).values()) == 0


async def test_nothing_comes_back_of_what_was_not_taken(tmp_path: Path) -> None:  # RP-W8
    """Freed and charged again: of the present period only what growth paid for, of the next one all of it."""
    world = World(tmp_path, refund_permille=1000)
    async with world.running() as node, world.client(node) as client, world.client(node) as other:
        for one in (client, other):
            await one.rent(8 * MIB)
            await node.books.set_free(one.account_id, world.clock.now(), free=True)
        world.clock.time += 2 * PERIOD + 100
        for one in (client, other):
            await node.books.set_free(one.account_id, world.clock.now(), free=False)
        assert (await other.ask(Leave(), LeaveReply)).refund_msat == 0
        await client.rent(10 * MIB)
        reply = await _invoice(client, node)
        assert world.daemon.pay(reply.bolt11)
        await client.until(lambda now: now.next_period == 4)
        world.clock.time += 200
        left = await client.ask(Leave(), LeaveReply)
        grown, next_one = 2 * MIB * (PERIOD - 300), 10 * MIB * PERIOD
        assert left.refund_msat == (grown + next_one) * PRICE // (GIB * MONTH_SECONDS)
        assert sum((await node.books.balances()).values()) == 0


async def test_who_lapsed_cannot_leave(world: World) -> None:  # RP-R5
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        world.clock.time = START_AT + PERIOD + GRACE
        await node.bill()
        assert await client.refused(Leave()) is ErrorCode.LAPSED


async def test_what_is_paid_after_leaving_becomes_deposit(world: World) -> None:  # R-W16
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        reply = await _invoice(client, node)
        await client.ask(Leave(), LeaveReply)
        assert world.daemon.pay(reply.bolt11)
        status = await client.until(lambda now: now.deposit_msat == reply.amount_msat)
        assert (status.state, status.capacity_bytes) == (AccountState.LAPSED, 0)


async def test_a_share_that_somebody_else_leases_outlives_who_left(world: World) -> None:
    async with world.running() as node, world.client(node) as client, world.client(node) as other:
        asked, alone = put(1000), put(1001)
        for one in (client, other):
            await one.rent(8 * MIB)
            await _put(one, asked)
        await _put(client, alone)
        await client.ask(Leave(), LeaveReply)
        await eventually(lambda: world.shares.size(alone.share_id) is None)
        assert world.shares.size(asked.share_id) == 1000
        assert await client.refused(GetShare(share_id=alone.share_id, offset=0, length=0)) is ErrorCode.SHARE_UNKNOWN
