"""Accounts that never paid at a running node: their places, their growth, their removal."""

from __future__ import annotations

from pathlib import Path

import trio
from delegation_world import chain_of
from node_world import MIB, RunningNode, World, eventually

from lnstore.node.strangers import network_key
from lnstore_protocol.delegation import encode_chain
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import (
    AddCapacity,
    AddCapacityReply,
    ErrorReply,
    InvoicePurpose,
    InvoiceReply,
    OpenAccount,
    PresentDelegation,
    PresentDelegationReply,
    RequestInvoice,
    RevokeDelegation,
    RevokeDelegationReply,
)
from lnstore_protocol.terms import Agreement

DAY = 86_400


def growth(mib: int) -> AddCapacity:
    return AddCapacity(growth_index=0, capacity_bytes=mib * MIB)


async def remove(world: World, node: RunningNode, after_seconds: int) -> int:
    world.clock.time += after_seconds
    return await node.node.strangers.step()


async def test_ten_thousand_accounts_find_few_places_and_are_gone_in_a_day(tmp_path: Path) -> None:
    """S-W3: all but a few are refused, an hour later newcomers have places again, and nothing is left of them.

    Sixty stand for ten thousand: after the places are used up one is refused as the other.
    """
    world = World(tmp_path, unpaid_accounts=20, unpaid_accounts_per_address=15)
    async with world.running() as node, world.client(node) as honest:
        await honest.rent(MIB)
        terms = await honest.terms()
        refused = 0
        for _ in range(60):
            async with world.client(node) as client:
                proposal = Agreement.propose(terms, client.identity, world.clock.now())
                reply = await client.receive(await client.send(OpenAccount(agreement=proposal.encoded)))
                refused += isinstance(reply, ErrorReply) and reply.code is ErrorCode.RATE_LIMITED
        assert refused == 45
        assert await remove(world, node, 3600) == 0  # there are places for other addresses
        assert await remove(world, node, DAY - 3600) == 15
        assert [account.account_id for account in await node.books.accounts()] == [honest.account_id]
        await honest.status()


async def test_when_all_places_are_taken_an_hour_is_enough(tmp_path: Path) -> None:
    world = World(tmp_path, unpaid_accounts=3)
    async with world.running() as node:
        for _ in range(3):
            async with world.client(node) as client:
                await client.open_account()
        async with world.client(node) as client:
            terms = await client.terms()
            assert terms.terms.node_id == node.address.node_id
            assert await remove(world, node, 3599) == 0
            assert await remove(world, node, 1) == 3
            await client.rent(MIB)


async def test_it_is_told_when_and_the_account_can_come_back(world: World) -> None:  # S-W3, S-W4
    """With an unpaid invoice that its daemon still knows: it is withdrawn first, and the same label made again."""
    identity = Identity.generate()
    async with world.running() as node, world.client(node, identity) as client:
        await client.open_account()
        assert (await client.status()).removed_at == world.clock.time + DAY
        old = await client.ask(growth(1), AddCapacityReply)
        assert await remove(world, node, DAY - 1) == 0
        world.daemon.take_down()
        assert await remove(world, node, 1) == 0  # who knows what was paid
        world.daemon.up = True
        await eventually(node.node.context.binding.confirmed.is_set)
        assert await node.node.strangers.step() == 1
        assert world.daemon.invoices == {}
        assert not world.daemon.pay(old.bolt11)
        new = await client.rent(MIB)
        assert new.bolt11 != old.bolt11
        assert (await client.status()).removed_at is None
        assert await remove(world, node, 9 * DAY) == 0


async def test_a_payment_that_comes_as_the_account_goes_is_credited(world: World) -> None:  # S-W4, R-W15
    async with world.running() as node, world.client(node) as client:
        await client.open_account()
        reply = await client.ask(
            RequestInvoice(purpose=InvoicePurpose.DEPOSIT, deposit_index=0, amount_msat=Msat(5000)), InvoiceReply
        )
        world.daemon.hang("after paid")  # the node does not learn of it yet
        assert world.daemon.pay(reply.bolt11)
        with trio.fail_after(20):
            await world.daemon.hanging.wait()
        assert await remove(world, node, 2 * DAY) == 0
        node.kill()
    world.daemon.recover()
    async with world.running() as node, world.client(node, client.identity) as client:
        assert (await client.until(lambda now: now.deposit_msat)).deposit_msat == 5000


async def test_a_flood_of_growth_leaves_room_for_who_pays(tmp_path: Path) -> None:
    """S-W1: a hundred free accounts ask for all there is; one that paid, and a newcomer elsewhere, still rent."""
    world = World(tmp_path, capacity="64MiB", unpaid_accounts_per_address=100, unpaid_growth_percent=50)
    async with world.running() as node, world.client(node) as honest:
        await honest.rent(4 * MIB)
        crowd = [Identity.generate() for _ in range(30)]
        granted = 0
        for identity in crowd:
            async with world.client(node, identity) as client:
                await client.open_account()
                for mib in (60, 5):
                    reply = await client.receive(await client.send(growth(mib)))
                    granted += isinstance(reply, AddCapacityReply)
        assert granted == 3  # 15 of 60 free MiB
        status = await honest.status()
        reply = await honest.ask(
            AddCapacity(growth_index=status.growth_index, capacity_bytes=32 * MIB), AddCapacityReply
        )
        assert world.daemon.pay(reply.bolt11)
        await honest.until(lambda now: now.capacity_bytes == 32 * MIB)
        # What the crowd held is free as soon as it can not be paid any more.
        world.clock.time += 900
        async with world.client(node) as newcomer:
            await newcomer.rent(8 * MIB)


async def test_growth_of_a_stranger_is_refused_with_what_it_may_have(tmp_path: Path) -> None:  # MA-R12
    world = World(tmp_path, capacity="64MiB", unpaid_growth_percent=50)
    async with world.running() as node, world.client(node) as client:
        await client.open_account()
        assert await client.refused(growth(17)) is ErrorCode.CAPACITY_REFUSED
        reply = await client.rent(16 * MIB)
        assert reply.until_at > reply.from_at
        status = await client.status()
        whole = AddCapacity(growth_index=status.growth_index, capacity_bytes=64 * MIB)
        assert isinstance(await client.receive(await client.send(whole)), AddCapacityReply)


async def test_nothing_is_delegated_before_something_is_paid(world: World) -> None:
    """S-W3, D-R9, D-R15: an account that may be removed has no certificates, and no revocations to forget with it."""
    alice = Identity.generate()
    async with world.running() as node, world.client(node) as holder:
        await holder.open_account()
        chain = chain_of(holder.identity, alice)
        target = RevokeDelegation(target=alice.public_key)
        assert await holder.refused(target) is ErrorCode.DELEGATION_REFUSED
        async with world.client(node, alice) as delegate:
            presented = PresentDelegation(chain=encode_chain(chain))
            assert await delegate.refused(presented) is ErrorCode.DELEGATION_REFUSED
            await holder.deposit(1000)
            await delegate.ask(presented, PresentDelegationReply)
        assert (await holder.ask(target, RevokeDelegationReply)).certificates == 1


def test_the_books_know_an_address_only_by_the_nodes_key() -> None:
    one, two = Identity(bytes(32)), Identity(b"\x01" * 32)
    assert network_key(one, b"a") == network_key(one, b"a") != network_key(two, b"a")
    assert network_key(one, b"a") != network_key(one, b"b")
