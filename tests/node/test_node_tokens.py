"""put_tokens at a node: whose tokens it replaces, when, and what the proof comes with afterwards."""

from __future__ import annotations

from dataclasses import replace

from node_world import GRACE, MIB, PERIOD, START_AT, Client, RunningNode, World, some_bytes

from lnstore_protocol import merkle, proofs
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import TOKEN_INDICES, AccountState, InvoiceReply, PutTokens, PutTokensReply
from lnstore_protocol.proofs import join_token_tables, read_sample
from lnstore_protocol.replies import read_held


def table(client: Client, node: RunningNode, data: bytes, start: int, count: int) -> bytes:
    seed = client.identity.seed
    keys = proofs.audit_key(seed), proofs.token_key(seed)
    return proofs.make_tokens(data, merkle.share_id(data), *keys, node.address.node_id, start, count)


async def renew(client: Client, node: RunningNode, datas: list[bytes], start: int, count: int) -> list[bool]:
    tables = [(merkle.share_id(data), table(client, node, data, start, count)) for data in datas]
    request = PutTokens(token_start=start, count=count, payload=join_token_tables(tables))
    return read_held((await client.ask(request, PutTokensReply)).stored, len(datas))


async def sampled(client: Client, node: RunningNode) -> tuple[InvoiceReply, dict[ShareId, bytes]]:
    reply = await client.ask(client.rent_request(node.address, await client.status()), InvoiceReply)
    return reply, dict(read_sample(reply.sample, reply.lost)[0])


async def test_tokens_are_replaced_for_leased_shares_only_and_the_proof_comes_with_them(world: World) -> None:
    """MB-R35: a share of nobody, and one of another account, get none."""
    ours, others, nobodys = some_bytes(900), some_bytes(40_000), some_bytes(10)
    async with world.running() as node, world.client(node) as client, world.client(node) as other:
        await client.rent(8 * MIB)
        await other.rent(8 * MIB)
        await other.put(others, tokens=other.tokens(node.address, others))
        share_id = await client.put(ours, tokens=b"")
        assert await renew(client, node, [others, ours, nobodys], 0, 24) == [False, True, False]
        assert (await client.status()).shares == 1
        _, tokens = await sampled(client, node)
        assert tokens == {share_id: table(client, node, ours, 0, 1)}
        _, tokens = await sampled(other, node)
        assert tokens == {merkle.share_id(others): table(other, node, others, 0, 1)}


async def test_a_late_copy_of_an_older_request_changes_nothing(world: World) -> None:
    """MB-R35: tokens of the same index that reach further stay; those that reach as far are replaced."""
    data = some_bytes(5000)
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        share_id = await client.put(data, tokens=bytes(16 * 20))
        for start, count in ((0, 24), (0, 3), (0, 23)):
            assert await renew(client, node, [data], start, count) == [True]
        lease = (await node.books.lease_tokens(client.account_id, [share_id]))[share_id]
        assert (lease.token_start, lease.tokens) == (0, table(client, node, data, 0, 24))


async def test_tokens_of_a_later_index_are_proven_with_and_give_way_to_sooner_ones(world: World) -> None:
    """MB-R34, MB-R35: the client may have passed over indices; what begins sooner, or reaches further, is kept."""
    data = some_bytes(300)
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        share_id = await client.put(data, tokens=client.tokens(node.address, data, count=24))
        for start, count, kept in ((40, 24, 40), (33, 2, 33), (34, 1, 34), (34, 24, 34), (33, 24, 33), (35, 21, 33)):
            assert await renew(client, node, [data], start, count) == [True]
            lease = (await node.books.lease_tokens(client.account_id, [share_id]))[share_id]
            assert lease.token_start == kept
        status = await client.status()
        asked = replace(client.rent_request(node.address, status), token_index=33, nonce=client.nonce(node.address, 33))
        reply = await client.ask(asked, InvoiceReply)
        assert dict(read_sample(reply.sample, reply.lost)[0]) == {share_id: table(client, node, data, 33, 1)}
        assert world.daemon.pay(reply.bolt11)
        await client.until(lambda now: now.token_index == 34)


async def test_tokens_are_taken_in_grace_and_not_from_a_lapsed_account(world: World) -> None:
    """MB-R34, MB-R1."""
    data = some_bytes(300)
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        share_id = await client.put(data, tokens=b"")
        world.clock.time = START_AT + PERIOD
        await node.bill()
        assert (await client.status()).state is AccountState.GRACE
        assert await renew(client, node, [data], 0, 24) == [True]
        world.clock.time += GRACE
        await node.bill()
        request = PutTokens(token_start=0, count=1, payload=share_id + bytes(16))
        assert await client.refused(request) is ErrorCode.LAPSED


async def test_what_is_no_table_is_malformed_and_strangers_have_no_account(world: World) -> None:
    """MB-R34."""
    async with world.running() as node, world.client(node) as client:
        request = PutTokens(token_start=0, count=1, payload=bytes(48))
        assert await client.refused(request) is ErrorCode.NO_ACCOUNT
        await client.rent(8 * MIB)
        for start, count, size in (
            (0, 0, 32),
            (0, 25, 432),
            (0, 1, 0),
            (0, 1, 47),
            (0, 1, 1025 * 48),
            (TOKEN_INDICES, 1, 48),
            (TOKEN_INDICES - 23, 24, 416),
            ((1 << 63) - 1, 1, 48),
        ):
            request = PutTokens(token_start=start, count=count, payload=bytes(size))
            assert await client.refused(request) is ErrorCode.MALFORMED


async def test_tokens_that_were_acknowledged_are_there_after_a_crash(world: World) -> None:
    """MB-R37."""
    data = some_bytes(2000)
    async with world.running() as node, world.client(node) as client:
        identity = client.identity
        await client.rent(8 * MIB)
        share_id = await client.put(data, tokens=b"")
        assert await renew(client, node, [data], 0, 24) == [True]
        node.kill()
    async with world.running() as node, world.client(node, identity) as client:
        _, tokens = await sampled(client, node)
        assert tokens == {share_id: table(client, node, data, 0, 1)}
