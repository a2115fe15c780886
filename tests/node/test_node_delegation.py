"""Delegates at a node: what they may do in an account's place, what is counted, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from delegation_world import certificate, chain_of, delegate_of, handed_on, present, some_bytes, usages
from node_world import GRACE, MIB, PERIOD, START_AT, Client, World

from lnstore_protocol import merkle
from lnstore_protocol.delegation import Rights, encode_chain
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, CertificateId, Msat, NodeId, ShareId
from lnstore_protocol.messages import (
    AccountState,
    AddCapacity,
    AuditShare,
    AuditShareReply,
    DropShares,
    DropSharesReply,
    GetShare,
    GetShareReply,
    HaveShares,
    HaveSharesReply,
    InvoicePurpose,
    InvoiceReply,
    ListDelegations,
    ListShares,
    ListSharesReply,
    OpenAccount,
    PresentDelegation,
    PutRecord,
    PutShare,
    PutShareReply,
    Request,
    RequestInvoice,
    RevokeDelegation,
    RevokeDelegationReply,
)
from lnstore_protocol.replies import read_share_list

HOLDER, ALICE, BOB = (Identity(bytes([number]) * 32) for number in (1, 2, 3))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def put(data: bytes, tokens: bytes = b"") -> PutShare:
    return PutShare(share_id=merkle.share_id(data), token_start=0, tokens=tokens, payload=data)


async def listed(client: Client, certificate_id: CertificateId | None = None) -> list[ShareId]:
    reply = await client.ask(ListShares(limit=100, certificate=certificate_id), ListSharesReply)
    return [share_id for share_id, _ in read_share_list(reply.payload, limit=100)]


async def revoke(client: Client, target: bytes) -> int:  # D-W4: at the one node that there is
    return (await client.ask(RevokeDelegation(target=target), RevokeDelegationReply)).certificates


async def test_a_delegate_stores_and_reads_without_an_account_and_the_holder_pays(world: World) -> None:
    """D-R7, D-R8, D-R10, D-R17."""
    chain = chain_of(HOLDER, ALICE)
    async with world.running() as node, world.client(node, HOLDER) as holder:
        await holder.rent(8 * MIB)
        await holder.deposit(10_000)
        own = await holder.put(some_bytes(MIB, 9))
        async with delegate_of(world, node, ALICE, chain) as alice:
            share_id = await alice.put(some_bytes(MIB, 1))
            read = await alice.ask(GetShare(share_id=share_id, offset=0, length=0), GetShareReply)
            assert bytes(read.payload) == some_bytes(MIB, 1)
            status = await alice.status()
            assert (status.used_bytes, status.shares, status.capacity_bytes) == (MIB, 1, 4 * MIB)
            assert (status.token_index, status.growth_index, status.deposit_index) == (0, 0, 0)
            assert await listed(alice) == [share_id]
            held = await alice.ask(HaveShares(payload=share_id + own), HaveSharesReply)
            assert held.held == b"\x80"
            audited = await alice.ask(AuditShare(share_id=share_id, leaf=3), AuditShareReply)  # D-W3
            merkle.verify_range(share_id, audited.share_bytes, 3 * 16384, audited.payload, audited.proof)
            assert await alice.refused(AuditShare(share_id=own, leaf=0)) is ErrorCode.SHARE_UNKNOWN
        await holder.until(lambda now: now.egress_bytes == MIB)
        status = await holder.status()
        assert (status.used_bytes, status.shares) == (2 * MIB, 2)
        assert (status.delegated_bytes, status.delegated_shares) == (MIB, 1)
        assert status.deposit_msat == 10_000 - 1  # 1 MiB at 1,000 msat per GiB, rounded up
        assert await listed(holder) == [own]
        (entry,) = await usages(holder)
        assert entry.signed == chain[0]
        assert (entry.usage.used_bytes, entry.usage.shares) == (MIB, 1)
        assert (entry.usage.written_bytes, entry.usage.read_bytes) == (MIB, MIB)
        assert await listed(holder, chain[0].certificate_id) == [share_id]
        assert await holder.ask(AuditShare(share_id=share_id, leaf=0), AuditShareReply)


async def test_of_a_chain_of_two_each_link_counts_and_the_one_above_may_look_after_the_one_below(world: World) -> None:
    """D-R11, D-R16: what Bob stores counts for Alice, who may have stored the rest."""
    first = chain_of(HOLDER, ALICE, levels=1, maximum_bytes=2 * MIB)
    second = handed_on(first, ALICE, BOB, maximum_bytes=2 * MIB)
    below, above = second[1].certificate_id, first[0].certificate_id
    async with world.running() as node, world.client(node, HOLDER) as holder:
        await holder.rent(8 * MIB)
        async with delegate_of(world, node, BOB, second) as bob, delegate_of(world, node, ALICE, first) as alice:
            share_id = await bob.put(some_bytes(MIB, 1))
            await alice.put(some_bytes(MIB // 2, 2))
            assert (await bob.status()).capacity_bytes == MIB + MIB // 2
            assert await bob.refused(put(some_bytes(MIB, 3))) is ErrorCode.DELEGATION_EXHAUSTED
            assert await alice.refused(put(some_bytes(MIB, 3))) is ErrorCode.DELEGATION_EXHAUSTED
            used = {entry.signed.certificate_id: entry.usage.used_bytes for entry in await usages(holder)}
            assert used == {above: MIB + MIB // 2, below: MIB}
            assert await listed(alice, below) == [share_id]
            assert await bob.refused(ListShares(limit=9, certificate=above)) is ErrorCode.DELEGATION_REFUSED
            drop = DropShares(certificate=below, payload=share_id)
            assert (await alice.ask(drop, DropSharesReply)).dropped == 1
            assert (await bob.status()).used_bytes == 0
            await alice.put(some_bytes(MIB, 3))
        assert (await holder.status()).used_bytes == MIB + MIB // 2


async def test_shares_of_holder_and_delegates_are_sets_of_their_own(world: World) -> None:
    """D-R10: nobody's put or drop touches another's lease or its tokens, though the share is the same."""
    data = some_bytes(MIB, 4)
    chain = chain_of(HOLDER, ALICE)
    async with world.running() as node, world.client(node, HOLDER) as holder:
        await holder.rent(8 * MIB)
        tokens = holder.tokens(node.address, data)
        share_id = await holder.put(data, tokens=tokens)
        async with delegate_of(world, node, ALICE, chain) as alice:
            assert await alice.refused(put(data, tokens=bytes(16))) is ErrorCode.MALFORMED
            assert (await alice.ask(put(data), PutShareReply)).used_bytes == MIB
            assert (await alice.ask(put(data), PutShareReply)).used_bytes == MIB
            assert (await holder.status()).used_bytes == 2 * MIB
            kept = await node.books.lease_tokens(holder.account_id, [share_id])
            assert kept[share_id].tokens == tokens
            assert (await alice.ask(DropShares(payload=share_id), DropSharesReply)).dropped == 1
            assert (await alice.ask(DropShares(payload=share_id), DropSharesReply)).dropped == 0
        assert await listed(holder) == [share_id]
        status = await holder.status()
        assert (status.used_bytes, status.delegated_bytes, status.delegated_shares) == (MIB, 0, 0)


async def test_the_proof_is_over_the_holders_own_shares_alone(world: World) -> None:
    """P-W7: a delegate can neither spoil the proof of rent nor push a share out of it."""
    async with world.running() as node, world.client(node, HOLDER) as holder:
        await holder.rent(8 * MIB)
        data = some_bytes(MIB, 4)
        own = await holder.put(data, tokens=holder.tokens(node.address, data))
        async with delegate_of(world, node, ALICE, chain_of(HOLDER, ALICE)) as alice:
            await alice.put(some_bytes(MIB, 5))
        request = RequestInvoice(purpose=InvoicePurpose.RENT, period=1, token_index=0, nonce=bytes(32))
        reply = await holder.ask(request, InvoiceReply)
        assert reply.shares == 1
        assert reply.sample[:32] == own
        assert len(reply.sample) == 48


_MONEY: list[Request] = [
    OpenAccount(agreement=b""),
    AddCapacity(growth_index=0, capacity_bytes=1 << 30),
    RequestInvoice(purpose=InvoicePurpose.DEPOSIT, deposit_index=0, amount_msat=Msat(1)),
    PutRecord(record=b""),
    RevokeDelegation(target=bytes(32)),
    ListDelegations(limit=1),
]


async def test_what_is_the_holders_own_to_ask_is_refused(world: World) -> None:
    """D-R7: money, agreements, records, other delegations; and rights that the certificate lacks."""
    async with world.running() as node, world.client(node, HOLDER) as holder:
        await holder.rent(8 * MIB)
        share_id = await holder.put(some_bytes(MIB, 4))
        async with delegate_of(world, node, ALICE, chain_of(HOLDER, ALICE)) as alice:
            for message in _MONEY:
                assert await alice.refused(message) is ErrorCode.DELEGATION_REFUSED
        reader = chain_of(HOLDER, ALICE, rights=Rights.READ, maximum_bytes=0)
        async with delegate_of(world, node, ALICE, reader) as alice:
            assert await alice.refused(put(b"x")) is ErrorCode.DELEGATION_REFUSED
            assert await alice.refused(DropShares(payload=share_id)) is ErrorCode.DELEGATION_REFUSED
            assert await alice.refused(GetShare(share_id=share_id, offset=0, length=0)) is ErrorCode.PAYMENT_REQUIRED
        writer = chain_of(HOLDER, ALICE, rights=Rights.WRITE, maximum_read_bytes=0)
        async with delegate_of(world, node, ALICE, writer) as alice:
            assert (await alice.status()).deposit_msat == 0
            assert await alice.refused(GetShare(share_id=share_id, offset=0, length=0)) is ErrorCode.DELEGATION_REFUSED


async def test_chains_that_do_not_hold_here_are_refused_and_change_nothing(world: World) -> None:
    """D-R4, D-R5, D-R6."""
    async with world.running() as node, world.client(node, HOLDER) as holder, world.client(node, ALICE) as alice:

        async def refused(chain: object) -> ErrorCode:
            return await alice.refused(PresentDelegation(chain=encode_chain(chain)))  # type: ignore[arg-type]

        good = chain_of(HOLDER, ALICE)
        assert await refused(good) is ErrorCode.NO_ACCOUNT
        await holder.rent(8 * MIB)
        elsewhere = chain_of(HOLDER, ALICE, nodes=bytes(NodeId(bytes(32))))
        assert await refused(chain_of(HOLDER, BOB)) is ErrorCode.DELEGATION_REFUSED
        assert await refused(elsewhere) is ErrorCode.DELEGATION_REFUSED
        assert await refused(chain_of(HOLDER, ALICE, expires_at=START_AT)) is ErrorCode.DELEGATION_ENDED
        assert await alice.refused(PresentDelegation(chain=b"")) is ErrorCode.MALFORMED
        assert await alice.refused(ListShares(limit=1)) is ErrorCode.NO_ACCOUNT
        await present(alice, good)
        await present(alice, good)
        assert await refused(chain_of(HOLDER, ALICE, levels=1)) is ErrorCode.DELEGATION_REFUSED
        assert await listed(alice) == []


async def test_a_certificate_counts_below_one_other_certificate_only(world: World) -> None:
    """D-R6: else what is stored under it would be counted at two."""
    one, two = (chain_of(HOLDER, ALICE, levels=1, maximum_bytes=size * MIB) for size in (2, 3))
    async with world.running() as node, world.client(node, HOLDER) as holder:
        await holder.rent(8 * MIB)
        chain = handed_on(one, ALICE, BOB)
        async with delegate_of(world, node, BOB, chain), world.client(node, BOB) as bob:
            other = encode_chain((*two, chain[1]))
            assert await bob.refused(PresentDelegation(chain=other)) is ErrorCode.DELEGATION_REFUSED


async def test_a_revocation_holds_at_once_for_open_connections_and_for_those_below_and_over_a_restart(
    world: World,
) -> None:
    """D-R13, D-R14, D-R15."""
    first = chain_of(HOLDER, ALICE, levels=1)
    second = handed_on(first, ALICE, BOB)
    async with world.running() as node, world.client(node, HOLDER) as holder:
        await holder.rent(8 * MIB)
        async with delegate_of(world, node, ALICE, first) as alice, delegate_of(world, node, BOB, second) as bob:
            share_id = await bob.put(some_bytes(MIB, 1))
            assert await revoke(holder, first[0].certificate_id) == 2
            assert await revoke(holder, first[0].certificate_id) == 0
            for delegate in (alice, bob):
                assert await delegate.refused(put(some_bytes(MIB, 2))) is ErrorCode.DELEGATION_ENDED
                assert await delegate.refused(ListShares(limit=1)) is ErrorCode.DELEGATION_ENDED
                assert (
                    await delegate.refused(GetShare(share_id=share_id, offset=0, length=0))
                    is ErrorCode.DELEGATION_ENDED
                )
        assert {entry.usage.revoked_at for entry in await usages(holder)} == {START_AT}
    async with world.running() as node, world.client(node, HOLDER) as holder, world.client(node, BOB) as bob:
        assert await bob.refused(PresentDelegation(chain=encode_chain(second))) is ErrorCode.DELEGATION_ENDED
        assert (await holder.status()).delegated_bytes == MIB
        assert await listed(holder, second[1].certificate_id) == [share_id]
        drop = DropShares(certificate=second[1].certificate_id, payload=share_id)
        assert (await holder.ask(drop, DropSharesReply)).dropped == 1
        assert (await holder.status()).used_bytes == 0


async def test_a_key_can_be_revoked_before_anything_was_presented(world: World) -> None:
    """D-R15: by its certificate's id or by the key, for all that it may still come with."""
    one, two = chain_of(HOLDER, ALICE), chain_of(HOLDER, BOB)
    further = chain_of(HOLDER, BOB, maximum_bytes=MIB)
    below = handed_on(chain_of(HOLDER, BOB, levels=1), BOB, ALICE)
    async with world.running() as node, world.client(node, HOLDER) as holder:
        await holder.rent(8 * MIB)
        assert await revoke(holder, one[0].certificate_id) == 0
        assert await revoke(holder, BOB.public_key) == 0
        assert await holder.refused(RevokeDelegation(target=b"short")) is ErrorCode.MALFORMED
        for who, chain in ((ALICE, one), (BOB, two), (BOB, further), (ALICE, below)):
            async with world.client(node, who) as client:
                message = PresentDelegation(chain=encode_chain(chain))
                assert await client.refused(message) is ErrorCode.DELEGATION_ENDED
        assert await usages(holder) == []


async def test_nobody_else_revokes_or_lists(world: World) -> None:
    """D-R15, D-R16: another account's certificates are none of mine."""
    chain = chain_of(HOLDER, ALICE)
    async with world.running() as node, world.client(node, HOLDER) as holder, world.client(node, BOB) as other:
        await holder.rent(4 * MIB)
        await other.rent(4 * MIB)
        async with delegate_of(world, node, ALICE, chain) as alice:
            assert await revoke(other, chain[0].certificate_id) == 0
            assert await revoke(other, ALICE.public_key) == 0
            await alice.put(some_bytes(MIB, 1))
            named = ListShares(limit=1, certificate=chain[0].certificate_id)
            assert await other.refused(named) is ErrorCode.DELEGATION_REFUSED
            assert await usages(other) == []


async def test_a_delegation_that_expires_during_a_transfer_adds_nothing(world: World) -> None:
    """D-R13: the share's last byte comes after the end."""
    async with world.running() as node, world.client(node, HOLDER) as holder:
        await holder.rent(8 * MIB)
        async with delegate_of(world, node, ALICE, chain_of(HOLDER, ALICE, expires_at=START_AT + 10)) as alice:
            request_id, chunks = alice.connection.send_request(put(some_bytes(MIB, 1)))
            pieces = [bytes(chunk) for chunk in chunks]
            for piece in pieces[:-1]:
                await alice.stream.send_all(piece)
            world.clock.time = START_AT + 10
            await alice.stream.send_all(pieces[-1])
            reply = await alice.receive(request_id)
            assert getattr(reply, "code", None) is ErrorCode.DELEGATION_ENDED
        assert (await holder.status()).used_bytes == 0


async def test_a_revocation_between_the_bytes_and_the_lease_wins(world: World) -> None:
    """D-R13: the step that adds the lease looks again, whatever was allowed when the share came."""
    chain = chain_of(HOLDER, ALICE)
    async with world.running() as node, world.client(node, HOLDER) as holder:
        await holder.rent(8 * MIB)
        async with delegate_of(world, node, ALICE, chain) as alice:
            limiter = node.node.context.workers.uploads
            tokens, limiter.total_tokens = limiter.total_tokens, 1
            await limiter.acquire_on_behalf_of("the test")
            request_id = await alice.send(put(some_bytes(MIB, 1)))
            while not limiter.statistics().tasks_waiting:  # noqa: ASYNC110 - the upload has passed its early check
                await trio.sleep(0.001)
            assert await revoke(holder, chain[0].certificate_id) == 1
            limiter.release_on_behalf_of("the test")
            limiter.total_tokens = tokens
            assert getattr(await alice.receive(request_id), "code", None) is ErrorCode.DELEGATION_ENDED
        assert (await holder.status()).used_bytes == 0


async def test_reading_is_bounded_per_certificate_and_for_all_below_it(world: World) -> None:
    """D-R12: with the holder's deposit full."""
    first = chain_of(HOLDER, ALICE, levels=1, maximum_read_bytes=3 * MIB)
    second = handed_on(first, ALICE, BOB, maximum_read_bytes=2 * MIB)
    async with world.running() as node, world.client(node, HOLDER) as holder:
        await holder.rent(8 * MIB)
        await holder.deposit(1_000_000)
        share_id = await holder.put(some_bytes(MIB, 1))
        get = GetShare(share_id=share_id, offset=0, length=0)
        async with delegate_of(world, node, BOB, second) as bob:
            for _ in range(2):
                await bob.ask(get, GetShareReply)
            assert await bob.refused(get) is ErrorCode.DELEGATION_EXHAUSTED
        with trio.fail_after(10):
            while {entry.usage.read_bytes for entry in await usages(holder)} != {2 * MIB}:  # noqa: ASYNC110
                await trio.sleep(0.005)
        async with delegate_of(world, node, ALICE, first) as alice:
            await alice.ask(get, GetShareReply)
            assert await alice.refused(get) is ErrorCode.DELEGATION_EXHAUSTED
        await holder.ask(get, GetShareReply)


async def test_the_lapse_of_the_account_ends_what_its_delegates_stored(world: World) -> None:
    """And a holder that comes back finds its delegates' limits unused; what was revoked stays so."""
    chain, revoked = chain_of(HOLDER, ALICE), chain_of(HOLDER, BOB)
    async with world.running() as node, world.client(node, HOLDER) as holder:
        await holder.rent(8 * MIB)
        await revoke(holder, BOB.public_key)
        async with delegate_of(world, node, ALICE, chain) as alice:
            await alice.put(some_bytes(MIB, 1))
            world.clock.time = START_AT + PERIOD
            await node.bill()
            assert await alice.refused(put(some_bytes(MIB, 2))) is ErrorCode.IN_GRACE
            world.clock.time = START_AT + PERIOD + GRACE
            await node.bill()
            assert (await alice.status()).state is AccountState.LAPSED
            assert await alice.refused(put(some_bytes(MIB, 2))) is ErrorCode.LAPSED
            assert await alice.refused(ListShares(limit=1)) is ErrorCode.LAPSED
            with trio.fail_after(10):
                while (await holder.status()).used_bytes:  # noqa: ASYNC110 - the sweeper is waited for
                    await trio.sleep(0.005)
        async with world.client(node, ALICE) as alice:
            assert await alice.refused(PresentDelegation(chain=encode_chain(chain))) is ErrorCode.LAPSED
        await holder.rent(8 * MIB)
        async with delegate_of(world, node, ALICE, chain) as alice, world.client(node, BOB) as bob:
            assert (await alice.status()).used_bytes == 0
            await alice.put(some_bytes(MIB, 3))
            assert await bob.refused(PresentDelegation(chain=encode_chain(revoked))) is ErrorCode.DELEGATION_ENDED


async def test_concurrent_connections_of_one_delegate_do_not_exceed_its_limit(world: World) -> None:
    """D-R11, in the transaction: of twelve puts at once on three connections four fit."""
    chain = chain_of(HOLDER, ALICE, maximum_bytes=MIB)
    accepted: list[ShareId] = []

    async def store(client: Client, number: int) -> None:
        data = some_bytes(MIB // 4, number)
        reply = await client.receive(await client.send(put(data)))
        if isinstance(reply, PutShareReply):
            accepted.append(merkle.share_id(data))
        else:
            assert getattr(reply, "code", None) is ErrorCode.DELEGATION_EXHAUSTED

    async with world.running() as node, world.client(node, HOLDER) as holder:
        await holder.rent(8 * MIB)
        async with (
            delegate_of(world, node, ALICE, chain) as one,
            delegate_of(world, node, ALICE, chain) as two,
            delegate_of(world, node, ALICE, chain) as three,
        ):
            for turn in range(4):
                async with trio.open_nursery() as nursery:
                    for at, client in enumerate((one, two, three)):
                        nursery.start_soon(store, client, 3 * turn + at)
        assert len(accepted) == 4
        status = await holder.status()
        assert (status.used_bytes, status.delegated_bytes, status.shares) == (MIB, MIB, 4)
        assert await listed(holder, chain[0].certificate_id) == sorted(accepted)


async def test_an_account_of_ones_own_and_a_delegation_are_kept_apart(world: World) -> None:
    """D-R3: what a delegate hands on is of the account that the certificate names, not of its own."""
    async with world.running() as node, world.client(node, HOLDER) as holder, world.client(node, ALICE) as alice:
        await holder.rent(4 * MIB)
        await alice.rent(4 * MIB)
        await alice.put(some_bytes(MIB, 7))
        chain = chain_of(HOLDER, ALICE, levels=1)
        handed = certificate(ALICE, BOB, account_id=AccountId(HOLDER.public_key), maximum_bytes=MIB).sign(ALICE)
        async with world.client(node, BOB) as bob:
            assert await bob.refused(PresentDelegation(chain=encode_chain((handed,)))) is ErrorCode.DELEGATION_REFUSED
        async with delegate_of(world, node, ALICE, chain) as acting:
            assert await listed(acting) == []
            await acting.put(some_bytes(MIB, 8))
        assert len(await listed(alice)) == 1
        assert (await alice.status()).used_bytes == MIB
