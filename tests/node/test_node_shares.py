"""Putting, reading, listing and dropping shares, and what is refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from node_world import MIB, Client, World, eventually, some_bytes

from lnstore.books.sql import SqlBooks
from lnstore.ports import SMALL_SHARE_BYTES, Shares, StorageFull
from lnstore.storage import FileShares, NodeShares
from lnstore_protocol import merkle
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import (
    LEAF_BYTES,
    MAX_SHARE_BYTES,
    AuditShare,
    AuditShareReply,
    Buffer,
    DropShares,
    DropSharesReply,
    GetShare,
    GetShareReply,
    HaveShares,
    HaveSharesReply,
    ListShares,
    ListSharesReply,
    PutShare,
    PutShareReply,
)

DEPOSIT_MSAT = 100_000


async def _renter(client: Client, capacity: int = 64 * MIB) -> Client:
    await client.rent(capacity)
    await client.deposit(DEPOSIT_MSAT)
    return client


@pytest.mark.parametrize("size", [1, LEAF_BYTES, LEAF_BYTES + 1, 1_000_001, MAX_SHARE_BYTES])
async def test_a_share_comes_back_as_it_was_put(world: World, size: int) -> None:
    async with world.running() as node, world.client(node) as client:
        await _renter(client)
        data = some_bytes(size)
        share_id = await client.put(data)
        assert (await client.status()).used_bytes == size
        reply = await client.ask(GetShare(share_id=share_id, offset=0, length=0), GetShareReply)
        assert bytes(reply.payload) == data
        assert (reply.offset, reply.share_bytes, reply.proof) == (0, size, b"")


async def test_a_range_comes_as_whole_leaves_with_a_proof(world: World) -> None:  # MB-W2
    async with world.running() as node, world.client(node) as client:
        await _renter(client)
        data = some_bytes(10 * LEAF_BYTES + 77)
        share_id = await client.put(data)
        for offset, length, first, last in (
            (0, 1, 0, 0),
            (LEAF_BYTES - 1, 2, 0, 1),
            (5 * LEAF_BYTES, 0, 5, 10),
            (10 * LEAF_BYTES + 76, 1, 10, 10),
        ):
            reply = await client.ask(GetShare(share_id=share_id, offset=offset, length=length), GetShareReply)
            start, end = merkle.leaf_span(len(data), first, last)
            assert (reply.offset, bytes(reply.payload)) == (start, data[start:end])
            merkle.verify_range(share_id, reply.share_bytes, reply.offset, reply.payload, reply.proof)
        for offset, length in ((0, len(data) + 1), (len(data), 0), (len(data), 1)):
            bad = GetShare(share_id=share_id, offset=offset, length=length)
            assert await client.refused(bad) is ErrorCode.RANGE_INVALID
        unknown = GetShare(share_id=ShareId(bytes(32)), offset=0, length=0)
        assert await client.refused(unknown) is ErrorCode.SHARE_UNKNOWN


async def test_bytes_with_another_root_are_refused_and_leave_nothing(world: World) -> None:  # MB-R3
    async with world.running() as node, world.client(node) as client:
        await _renter(client)
        data = some_bytes(3 * LEAF_BYTES)
        forged = PutShare(share_id=merkle.share_id(data), token_start=0, tokens=b"", payload=data[:-1] + b"!")
        assert await client.refused(forged) is ErrorCode.ROOT_MISMATCH
        assert list(world.shares.share_ids()) == []
        assert (await client.status()).used_bytes == 0


async def test_malformed_puts_are_refused(world: World) -> None:  # MB-R2
    async with world.running() as node, world.client(node) as client:
        await _renter(client)
        share_id = merkle.share_id(b"x")
        empty = PutShare(share_id=share_id, token_start=0, tokens=b"", payload=b"")
        half_token = PutShare(share_id=share_id, token_start=0, tokens=b"x" * 15, payload=b"x")
        assert await client.refused(empty) is ErrorCode.MALFORMED
        assert await client.refused(half_token) is ErrorCode.MALFORMED


async def test_a_full_account_can_renew_the_tokens_of_what_it_holds(world: World) -> None:
    """MB-R5: the same share again takes no more room, and its tokens are the new ones."""
    async with world.running() as node, world.client(node) as client:
        await _renter(client, 4 * MIB)
        data = some_bytes(4 * MIB)
        share_id = await client.put(data, tokens=bytes(16))
        assert await client.put(data, token_start=7, tokens=b"\1" * 16) == share_id
        assert (await client.status()).used_bytes == 4 * MIB
        leases = await node.books.lease_tokens(client.account_id, [share_id])
        assert (leases[share_id].token_start, leases[share_id].tokens) == (7, b"\1" * 16)
        other = PutShare(share_id=merkle.share_id(b"x"), token_start=0, tokens=b"", payload=b"x")
        assert await client.refused(other) is ErrorCode.CAPACITY_EXCEEDED


async def test_writing_needs_an_account_and_capacity(world: World) -> None:  # MB-R1, MB-R2
    async with world.running() as node, world.client(node) as client:
        data = some_bytes(2048)
        put = PutShare(share_id=merkle.share_id(data), token_start=0, tokens=b"", payload=data)
        assert await client.refused(put) is ErrorCode.NO_ACCOUNT
        await client.open_account()
        assert await client.refused(put) is ErrorCode.CAPACITY_EXCEEDED
        await client.rent(3000)
        await client.ask(put, PutShareReply)
        other = some_bytes(1000)
        too_much = PutShare(share_id=merkle.share_id(other), token_start=0, tokens=b"", payload=other)
        assert await client.refused(too_much) is ErrorCode.CAPACITY_EXCEEDED
        assert len(list(world.shares.share_ids())) == 1


async def test_puts_at_once_that_do_not_fit_together_leave_no_file_behind(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.rent(3 * MIB)
        puts = []
        for _ in range(6):
            data = some_bytes(MIB)
            puts.append(
                await client.send(PutShare(share_id=merkle.share_id(data), token_start=0, tokens=b"", payload=data))
            )
        replies = [await client.receive(request_id) for request_id in puts]
        assert sum(isinstance(reply, PutShareReply) for reply in replies) == 3
        assert len(list(world.shares.share_ids())) == 3
        assert (await client.status()).used_bytes == 3 * MIB


async def test_putting_again_costs_nothing_and_replaces_tokens(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await _renter(client)
        data = some_bytes(5000)
        share_id = await client.put(data, tokens=b"a" * 32)
        await client.put(data, token_start=2, tokens=b"b" * 16)
        assert (await client.status()).used_bytes == 5000
        lease = (await node.books.lease_tokens(client.account_id, [share_id]))[share_id]
        assert (lease.token_start, lease.tokens) == (2, b"b" * 16)


# MB-R6, MB-R12, MB-R13, MB-R15, MB-W3, V-R2
async def test_have_and_list_speak_only_of_the_accounts_own_leases(world: World) -> None:
    async with world.running() as node, world.client(node) as one, world.client(node) as two:
        await _renter(one)
        await _renter(two)
        mine = sorted([await one.put(some_bytes(100 + i)) for i in range(9)])
        theirs = await two.put(some_bytes(50))
        asked = b"".join([*mine[:4], theirs, bytes(32), *mine[4:]])
        reply = await one.ask(HaveShares(payload=asked), HaveSharesReply)
        assert reply.held == bytes([0b11110011, 0b11100000])
        listed = bytes((await one.ask(ListShares(limit=5), ListSharesReply)).payload)
        assert [ShareId(listed[at : at + 32]) for at in range(0, len(listed), 36)] == mine[:5]
        rest = bytes((await one.ask(ListShares(limit=5, after=mine[4]), ListSharesReply)).payload)
        assert [rest[at : at + 32] for at in range(0, len(rest), 36)] == mine[5:]
        assert sorted(int.from_bytes((listed + rest)[at + 32 : at + 36]) for at in range(0, 9 * 36, 36)) == list(
            range(100, 109)
        )
        assert await one.refused(HaveShares(payload=b"x" * 33)) is ErrorCode.MALFORMED
        for limit in (0, 16_385):
            assert await one.refused(ListShares(limit=limit)) is ErrorCode.TOO_LARGE


async def test_dropped_shares_are_free_at_once_and_swept_soon(world: World) -> None:  # MB-R18
    async with world.running() as node, world.client(node) as one, world.client(node) as two:
        await _renter(one)
        await _renter(two)
        kept, dropped, shared = some_bytes(100), some_bytes(200), some_bytes(300)
        for data in (kept, dropped, shared):
            await one.put(data)
        await two.put(shared)
        ids = merkle.share_id(dropped) + merkle.share_id(shared) + bytes(32)
        reply = await one.ask(DropShares(payload=ids), DropSharesReply)
        assert (reply.dropped, reply.used_bytes) == (2, 100)
        await eventually(lambda: world.shares.size(merkle.share_id(dropped)) is None)
        assert world.shares.size(merkle.share_id(shared)) == 300
        assert (await one.ask(DropShares(payload=ids), DropSharesReply)).dropped == 0


async def test_a_leaf_of_an_own_share_is_shown_with_its_path(world: World) -> None:  # MB-R21
    async with world.running() as node, world.client(node) as client, world.client(node) as other:
        await _renter(client)
        await other.open_account()
        data = some_bytes(3 * LEAF_BYTES + 5)
        share_id = await client.put(data)
        for leaf in range(4):
            reply = await client.ask(AuditShare(share_id=share_id, leaf=leaf), AuditShareReply)
            merkle.verify_range(share_id, reply.share_bytes, leaf * LEAF_BYTES, reply.payload, reply.proof)
        assert await client.refused(AuditShare(share_id=share_id, leaf=4)) is ErrorCode.RANGE_INVALID
        assert await other.refused(AuditShare(share_id=share_id, leaf=0)) is ErrorCode.SHARE_UNKNOWN


async def test_any_account_reads_any_share_from_its_own_deposit(world: World) -> None:  # MB-R8, MB-R9, R-W22
    async with world.running() as node, world.client(node) as owner, world.client(node) as reader:
        await _renter(owner)
        share_id = await owner.put(some_bytes(MAX_SHARE_BYTES))
        get = GetShare(share_id=share_id, offset=0, length=0)
        assert await reader.refused(get) is ErrorCode.NO_ACCOUNT
        await reader.open_account()
        assert await reader.refused(get) is ErrorCode.PAYMENT_REQUIRED
        await reader.deposit(10)
        await reader.ask(get, GetShareReply)
        await reader.ask(get, GetShareReply)
        assert await reader.refused(get) is ErrorCode.PAYMENT_REQUIRED
        assert (await owner.status()).deposit_msat == DEPOSIT_MSAT


async def test_a_share_whose_file_is_gone_is_unknown_and_can_be_put_again(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await _renter(client)
        data = some_bytes(5000)
        share_id = await client.put(data)
        world.shares.delete(share_id)
        get = GetShare(share_id=share_id, offset=0, length=0)
        assert await client.refused(get) is ErrorCode.SHARE_UNKNOWN
        await client.put(data)
        await client.ask(get, GetShareReply)


class DecayedShares(FileShares):
    """A disk that gives nothing back for the reason `errno`."""

    errno = errno.EIO

    def read(self, share_id: ShareId, offset: int, length: int) -> bytes:
        raise OSError(self.errno, os.strerror(self.errno))


async def test_a_share_that_the_disk_does_not_give_back_is_admitted_to_be_lost(world: World) -> None:
    """Not so when it is for want of something else, such as descriptors, that it cannot be read now."""
    world.shares = DecayedShares(world.directory / "shares")
    async with world.running() as node, world.client(node) as client:
        await _renter(client)
        audit = AuditShare(share_id=await client.put(some_bytes(5000)), leaf=0)
        assert await client.refused(audit) is ErrorCode.SHARE_UNKNOWN
        world.shares.errno = errno.EMFILE
        assert await client.refused(audit) is ErrorCode.STORAGE_FULL


class FullShares(FileShares):
    """A disk without room for shares above 1,000 bytes."""

    def put(self, share_id: ShareId, data: Buffer, hashes: Sequence[bytes] | None = None) -> None:
        if len(data) > 1000:
            raise StorageFull("there is no room left")
        super().put(share_id, data, hashes)


async def test_a_full_disk_is_told_and_the_node_goes_on(world: World) -> None:
    world.shares = FullShares(world.directory / "shares")
    async with world.running() as node, world.client(node) as client:
        await _renter(client)
        data = some_bytes(2000)
        put = PutShare(share_id=merkle.share_id(data), token_start=0, tokens=b"", payload=data)
        assert await client.refused(put) is ErrorCode.STORAGE_FULL
        assert (await client.status()).used_bytes == 0
        await client.put(some_bytes(900))


class ForgetfulShares(FileShares):
    """A disk whose sweeper is always just quicker: each share is swept `times` times before its lease."""

    def __init__(self, directory: Path, times: int) -> None:
        super().__init__(directory)
        self.times = times

    def put(self, share_id: ShareId, data: Buffer, hashes: Sequence[bytes] | None = None) -> None:
        super().put(share_id, data, hashes)
        if self.times:
            self.times -= 1
            self.delete(share_id)


async def test_a_share_swept_before_its_lease_is_written_again(world: World) -> None:
    world.shares = ForgetfulShares(world.directory / "shares", times=2)
    async with world.running() as node, world.client(node) as client:
        await _renter(client)
        size = SMALL_SHARE_BYTES + 1  # a smaller one is stored in the transaction of its lease: nothing comes between
        share_id = await client.put(some_bytes(size))
        assert world.shares.size(share_id) == size


async def test_a_share_that_is_swept_again_and_again_is_refused(world: World) -> None:
    world.shares = ForgetfulShares(world.directory / "shares", times=3)
    async with world.running() as node, world.client(node) as client:
        await _renter(client)
        data = some_bytes(SMALL_SHARE_BYTES + 1)
        put = PutShare(share_id=merkle.share_id(data), token_start=0, tokens=b"", payload=data)
        assert await client.refused(put) is ErrorCode.STORAGE_FULL
        assert (await client.status()).used_bytes == 0


@pytest.mark.parametrize("size", [100, SMALL_SHARE_BYTES, SMALL_SHARE_BYTES + 1])
async def test_a_node_serves_its_small_shares_as_its_large_ones(world: World, size: int) -> None:
    """Put, again, read, audited, dropped, swept: with the storage that a node really has."""
    shares = await trio.to_thread.run_sync(NodeShares, world.directory / "shares")
    world.shares = shares
    async with world.running() as node, world.client(node) as client:
        await _renter(client)
        data = some_bytes(size)
        share_id = await client.put(data)
        assert await client.put(data) == share_id
        assert (await client.status()).used_bytes == size
        assert bytes((await client.ask(GetShare(share_id=share_id, offset=0, length=0), GetShareReply)).payload) == data
        leaf = await client.ask(AuditShare(share_id=share_id, leaf=0), AuditShareReply)
        merkle.verify_range(share_id, size, 0, leaf.payload, leaf.proof)
        await client.ask(DropShares(payload=share_id), DropSharesReply)
        await node.node.sweeper.sweep()
        assert list(shares.share_ids()) == []
    shares.close()


async def test_small_shares_that_arrive_together_share_their_commits(world: World) -> None:
    shares = await trio.to_thread.run_sync(NodeShares, world.directory / "shares")
    world.shares = shares
    async with world.running() as node, world.client(node) as client:
        await _renter(client)
        books = node.books
        assert isinstance(books, SqlBooks)
        before = books.commits
        blobs = [some_bytes(100 + number) for number in range(40)]
        puts = [PutShare(share_id=merkle.share_id(data), token_start=0, tokens=b"", payload=data) for data in blobs]
        for request_id in [await client.send(put) for put in puts]:
            assert isinstance(await client.receive(request_id), PutShareReply)
        assert (await client.status()).shares == 40
        assert len(list(shares.share_ids())) == 40
        assert books.commits - before < 40
    shares.close()


async def test_of_small_shares_that_are_refused_nothing_is_stored(world: World) -> None:
    shares = await trio.to_thread.run_sync(NodeShares, world.directory / "shares")
    world.shares = shares
    async with world.running() as node, world.client(node) as client:
        await _renter(client)
        wrong = PutShare(share_id=merkle.share_id(b"x"), token_start=0, tokens=b"", payload=b"y")
        assert await client.refused(wrong) is ErrorCode.ROOT_MISMATCH
        async with world.client(node) as stranger:
            right = PutShare(share_id=merkle.share_id(b"x"), token_start=0, tokens=b"", payload=b"x")
            for put in (right, wrong):
                assert await stranger.refused(put) is ErrorCode.NO_ACCOUNT
        assert list(shares.share_ids()) == []
    shares.close()


async def test_orphans_of_a_crash_are_found_and_leased_shares_stay(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await _renter(client)
        kept = await client.put(some_bytes(100))
        orphans = [some_bytes(200 + i) for i in range(5)]
        await trio.to_thread.run_sync(_put_all, world.shares, orphans)
        assert await node.node.sweeper.scan_orphans() == 5
        assert list(world.shares.share_ids()) == [kept]


def _put_all(shares: Shares, blobs: Sequence[bytes]) -> None:
    for data in blobs:
        shares.put(merkle.share_id(data), data)


class CountingShares(FileShares):
    """A disk that counts what is read of the shares themselves."""

    read_bytes = 0

    def read(self, share_id: ShareId, offset: int, length: int) -> bytes:
        self.read_bytes += length
        return super().read(share_id, offset, length)


async def test_an_audit_reads_a_leaf_and_not_the_share(world: World) -> None:  # MB-R21, MB-R22
    """Also when the hashes beside the share have decayed and the share has not: then it reads it all, once."""
    disk = CountingShares(world.directory / "shares")
    world.shares = disk
    data = some_bytes(4 * MIB)
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        share_id = await client.put(data)
        for leaf in (0, 77, 255):
            reply = await client.ask(AuditShare(share_id=share_id, leaf=leaf), AuditShareReply)
            merkle.verify_range(share_id, len(data), leaf * LEAF_BYTES, reply.payload, reply.proof)
        assert disk.read_bytes == 3 * LEAF_BYTES
        (path,) = world.directory.glob(f"shares/*/*/{share_id.hex()}")
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.seek(len(data))
            file.write(bytes(32))
        reply = await client.ask(AuditShare(share_id=share_id, leaf=77), AuditShareReply)
        merkle.verify_range(share_id, len(data), 77 * LEAF_BYTES, reply.payload, reply.proof)
        assert disk.read_bytes == 4 * LEAF_BYTES + len(data)
        await client.deposit(100_000)
        part = await client.ask(GetShare(share_id=share_id, offset=2 * MIB, length=MIB), GetShareReply)
        merkle.verify_range(share_id, len(data), part.offset, part.payload, part.proof)
