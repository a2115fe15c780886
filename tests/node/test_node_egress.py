"""Reading is paid in steps from the deposit, whoever reads how many things at once, and every msat is accounted for."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel
from node_world import MIB, Client, RunningNode, World, eventually, some_bytes

from lnstore.node.egress import Reader
from lnstore.node.errors import Refusal
from lnstore.ports import Account
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.messages import GetShare, GetShareReply

GIB = 1 << 30


async def _reader(world: World, node: RunningNode, client: Client, deposit_msat: int) -> Account:
    await client.open_account()
    await client.deposit(deposit_msat)
    account = await node.books.account(client.account_id)
    assert account is not None
    return account


async def _deposit(node: RunningNode, account: Account) -> int:
    now = await node.books.account(account.account_id)
    assert now is not None
    return now.deposit_msat


async def test_a_step_is_held_and_the_rest_comes_back_when_it_is_settled(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        account = await _reader(world, node, client, 1000)
        egress = node.node.context.egress
        async with egress.reading(Reader(account.account_id), 10 * MIB):
            assert await _deposit(node, account) == 1000 - 63  # 64 MiB at 1000 msat per GiB
        async with egress.reading(Reader(account.account_id), 10 * MIB):
            assert await _deposit(node, account) == 1000 - 63
        await egress.settle(Reader(account.account_id))
        assert await _deposit(node, account) == 1000 - 20
        assert sum((await node.books.balances()).values()) == 0


async def test_concurrent_readers_share_a_hold_and_together_pay_for_what_they_read(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        account = await _reader(world, node, client, 1000)
        egress = node.node.context.egress

        async def read() -> None:
            for _ in range(5):
                async with egress.reading(Reader(account.account_id), 4 * MIB):
                    await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(read)
        await egress.settle(Reader(account.account_id))
        # 160 MiB in three holds, each rounded up by less than one msat.
        assert 1000 * 160 * MIB / GIB <= 1000 - await _deposit(node, account) < 1000 * 160 * MIB / GIB + 3


async def test_a_small_deposit_is_used_to_its_last_msat(world: World) -> None:  # R-W23, R-W24
    async with world.running() as node, world.client(node) as client:
        account = await _reader(world, node, client, 10)  # 10.24 MiB
        egress = node.node.context.egress
        for _ in range(10):
            async with egress.reading(Reader(account.account_id), MIB):
                pass
        with pytest.raises(Refusal) as refused:
            await egress.reading(Reader(account.account_id), MIB).__aenter__()
        assert refused.value.code is ErrorCode.PAYMENT_REQUIRED
        assert refused.value.amount_msat == 1
        assert await _deposit(node, account) == 0


async def test_a_read_that_fails_is_not_charged(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        account = await _reader(world, node, client, 100)
        egress = node.node.context.egress
        with pytest.raises(ZeroDivisionError):
            async with egress.reading(Reader(account.account_id), 10 * MIB):
                _ = 1 // 0
        await egress.settle(Reader(account.account_id))
        assert await _deposit(node, account) == 100


async def test_closing_the_connection_and_stopping_the_node_settle(world: World) -> None:
    async with world.running() as node, world.client(node) as watcher:
        async with world.client(node) as client:
            await client.rent(8 * MIB)
            await client.deposit(1000)
            share_id = await client.put(some_bytes(4 * MIB))
            await client.ask(GetShare(share_id=share_id, offset=0, length=0), GetShareReply)
            assert (await client.status()).deposit_msat == 1000 - 63
            account, identity = await node.books.account(client.account_id), client.identity
            assert account is not None
        await watcher.open_account()
        await eventually(lambda: node.node.connections == 1)
        with trio.fail_after(10):
            while await _deposit(node, account) != 1000 - 4:  # noqa: ASYNC110 - the books are asked
                await trio.sleep(0.005)
        async with world.client(node, identity) as client:
            await client.ask(GetShare(share_id=share_id, offset=0, length=0), GetShareReply)
    async with world.running() as node, world.client(node, identity) as client:
        status = await client.status()
        assert (status.deposit_msat, status.egress_bytes) == (1000 - 8, 8 * MIB)


async def test_at_a_price_of_nothing_reading_needs_no_deposit(world: World) -> None:
    toml = world.directory / "node.toml"
    toml.write_text(toml.read_text().replace("egress_msat_per_gib = 1000", "egress_msat_per_gib = 0"))
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        share_id = await client.put(some_bytes(MIB))
        await client.ask(GetShare(share_id=share_id, offset=0, length=0), GetShareReply)
        await node.node.context.egress.settle(Reader(client.account_id))
        assert (await client.status()).egress_bytes == MIB
