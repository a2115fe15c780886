"""Rent: the proof that is the preimage, the account's states over time, and nobody evicted unfairly."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from node_world import GRACE, MIB, PERIOD, START_AT, Client, RunningNode, World, eventually, some_bytes

from lnstore_protocol import merkle, proofs
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import (
    TOKEN_BYTES,
    AccountState,
    AddCapacity,
    AddCapacityReply,
    GetShare,
    GetShareReply,
    InvoicePurpose,
    InvoiceReply,
    PutShare,
    RequestInvoice,
)
from lnstore_protocol.terms import rent_msat


def _sampled(reply: InvoiceReply) -> list[tuple[ShareId, bytes]]:
    step = 32 + TOKEN_BYTES
    return [
        (ShareId(reply.sample[at : at + 32]), reply.sample[at + 32 : at + step])
        for at in range(0, len(reply.sample), step)
    ]


def _payment_hash(world: World, reply: InvoiceReply) -> bytes:
    return next(bytes(i.payment_hash) for i in world.daemon.invoices.values() if i.bolt11 == reply.bolt11)


async def _put_some(client: Client, node: RunningNode, count: int) -> dict[ShareId, bytes]:
    blobs = [some_bytes(700 + 511 * i) for i in range(count)]
    return {await client.put(data, tokens=client.tokens(node.address, data)): data for data in blobs}


async def _pay_rent(client: Client, node: RunningNode) -> InvoiceReply:
    status = await client.status()
    reply = await client.ask(client.rent_request(node.address, status), InvoiceReply)
    assert client.daemon.pay(reply.bolt11)
    await client.until(lambda now: now.token_index == status.token_index + 1)
    return reply


# P-W11, R-W17
async def test_the_preimage_is_what_the_client_computes_from_its_tokens_and_from_its_shares(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.rent(64 * MIB)
        shares = await _put_some(client, node, 7)
        for t in range(2):
            reply = await _pay_rent(client, node)
            nonce = client.nonce(node.address, t)
            assert (reply.shares, reply.lost) == (7, b"")
            assert reply.amount_msat == rent_msat(64 * MIB, PERIOD, 50_000_000)
            assert (reply.from_at, reply.until_at) == (START_AT + (t + 1) * PERIOD, START_AT + (t + 2) * PERIOD)
            sample = _sampled(reply)
            assert proofs.check_sample(nonce, shares, [share_id for share_id, _ in sample], []) == []
            key = proofs.token_key(client.identity.seed)
            at = node.address.node_id
            unmasked = [(share_id, proofs.unmask(token, key, at, share_id, t)) for share_id, token in sample]
            computed = [(share_id, proofs.answer(nonce, share_id, shares[share_id])) for share_id, _ in sample]
            assert unmasked == computed
            assert hashlib.sha256(proofs.fold(nonce, computed)).digest() == _payment_hash(world, reply)
            world.clock.time += PERIOD
        status = await client.status()
        assert (status.token_index, status.paid_until_at) == (2, START_AT + 3 * PERIOD)


async def test_the_same_request_gives_the_same_reply_without_a_second_read(world: World) -> None:  # MA-R18
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        shares = await _put_some(client, node, 3)
        ask = client.rent_request(node.address, await client.status())
        at_once = [await client.send(ask), await client.send(ask)]
        first = await client.receive(at_once[0])
        assert await client.receive(at_once[1]) == first
        for share_id in shares:
            world.shares.delete(share_id)
        assert await client.ask(ask, InvoiceReply) == first
        other = replace(ask, nonce=bytes(32))
        assert await client.refused(other) is ErrorCode.NONCE_MISMATCH
        assert isinstance(first, InvoiceReply)
        assert world.daemon.pay(first.bolt11)
        await client.until(lambda now: now.token_index == 1)
        assert await client.ask(ask, InvoiceReply) == first


async def test_lost_and_shortened_shares_are_admitted_and_left_out(world: World) -> None:  # P-W9
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        shares = await _put_some(client, node, 5)
        gone, short = list(shares)[:2]
        world.shares.delete(gone)
        path = next(world.directory.glob(f"shares/*/*/{short.hex()}"))
        path.write_bytes(shares[short][:-1])
        reply = await client.ask(client.rent_request(node.address, await client.status()), InvoiceReply)
        lost = {ShareId(reply.lost[at : at + 32]) for at in range(0, len(reply.lost), 32)}
        assert lost == {gone, short}
        sample = [share_id for share_id, _ in _sampled(reply)]
        assert set(sample) == set(shares) - lost
        assert proofs.check_sample(client.nonce(node.address, 0), shares, sample, lost) == []


async def test_damaged_bytes_give_another_preimage(world: World) -> None:  # P-W8
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        data = some_bytes(900)
        share_id = await client.put(data, tokens=client.tokens(node.address, data))
        path = next(world.directory.glob(f"shares/*/*/{share_id.hex()}"))
        path.write_bytes(bytes(len(data)))
        reply = await client.ask(client.rent_request(node.address, await client.status()), InvoiceReply)
        nonce = client.nonce(node.address, 0)
        honest = proofs.fold(nonce, [(share_id, proofs.answer(nonce, share_id, data))])
        assert hashlib.sha256(honest).digest() != _payment_hash(world, reply)


async def test_a_share_without_a_token_for_the_index_is_sampled_with_zeros(world: World) -> None:  # P-W10
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        await client.put(b"later", token_start=1, tokens=b"t" * 16)
        await client.put(b"never")
        reply = await client.ask(client.rent_request(node.address, await client.status()), InvoiceReply)
        assert [token for _, token in _sampled(reply)] == [bytes(16), bytes(16)]


async def test_without_shares_the_rent_invoice_is_a_plain_one(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        reply = await _pay_rent(client, node)
        assert (reply.shares, reply.sample, reply.lost) == (0, b"", b"")


# MA-R16, MA-R17, R-W18, P-R7
async def test_rent_is_refused_for_other_periods_tokens_and_accounts(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.open_account()
        ask = client.rent_request(node.address, await client.status())
        assert await client.refused(ask) is ErrorCode.PERIOD_REFUSED  # nothing rented
        await client.rent(8 * MIB)
        ask = client.rent_request(node.address, await client.status())
        assert ask.period == 1
        for wrong in (replace(ask, period=0), replace(ask, period=2)):
            assert await client.refused(wrong) is ErrorCode.PERIOD_REFUSED
        for broken in (replace(ask, nonce=b"short"), RequestInvoice(purpose=InvoicePurpose.RENT)):
            assert await client.refused(broken) is ErrorCode.MALFORMED
        await _pay_rent(client, node)
        early = client.rent_request(node.address, await client.status())
        assert await client.refused(early) is ErrorCode.PERIOD_REFUSED
        world.clock.time += PERIOD
        assert await client.refused(replace(early, token_index=0)) is ErrorCode.PERIOD_REFUSED  # used up
        await client.ask(early, InvoiceReply)


async def test_unpaid_rent_stops_writing_then_ends_the_account(world: World) -> None:  # R-W3, R-W6
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        await client.deposit(1000)
        data = some_bytes(1000)
        share_id = await client.put(data)
        world.clock.time = START_AT + PERIOD
        await node.bill()
        assert (await client.status()).state is AccountState.GRACE
        more = PutShare(share_id=merkle.share_id(b"x"), token_start=0, tokens=b"", payload=b"x")
        assert await client.refused(more) is ErrorCode.IN_GRACE
        grow = AddCapacity(growth_index=1, capacity_bytes=9 * MIB)
        assert await client.refused(grow) is ErrorCode.IN_GRACE
        await client.ask(GetShare(share_id=share_id, offset=0, length=0), GetShareReply)
        world.clock.time = START_AT + PERIOD + GRACE - 1
        await node.bill()
        assert (await client.status()).state is AccountState.GRACE
        world.clock.time += 1
        await node.bill()
        assert (await client.status()).state is AccountState.LAPSED
        assert await client.refused(more) is ErrorCode.LAPSED
        await eventually(lambda: world.shares.size(share_id) is None)
        assert await client.refused(client.rent_request(node.address, await client.status())) is ErrorCode.LAPSED


async def test_paying_in_grace_restores_the_account(world: World) -> None:  # R-W20
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        world.clock.time = START_AT + PERIOD + GRACE // 2
        await node.bill()
        assert (await client.status()).state is AccountState.GRACE
        await _pay_rent(client, node)
        await node.bill()
        status = await client.status()
        assert status.state is AccountState.ACTIVE
        assert status.paid_until_at == START_AT + 2 * PERIOD
        await client.put(b"x")


async def test_a_lapsed_account_is_opened_anew_and_pays_rent_again(world: World) -> None:  # R-W7, MA-R8
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        await _pay_rent(client, node)
        world.clock.time = START_AT + 2 * PERIOD + GRACE
        await node.bill()
        assert (await client.status()).state is AccountState.LAPSED
        await client.rent(4 * MIB)
        status = await client.status()
        assert (status.state, status.anchor_at, status.next_period) == (AccountState.ACTIVE, world.clock.time, 1)
        await _pay_rent(client, node)


@pytest.mark.parametrize("away", ["node", "daemon"])
async def test_nobody_is_evicted_for_the_absence_of_node_or_daemon(world: World, away: str) -> None:  # R-W5
    """What could not be paid in the meantime may be paid for as long as the absence lasted, within grace."""
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        identity, share_id = client.identity, await client.put(b"kept")
        if away == "daemon":
            world.daemon.take_down()
            await eventually(lambda: not node.node.collector.is_caught_up)
            world.clock.time += 2 * PERIOD
            world.daemon.up = True
            await node.bill()
            assert (await client.status()).state is AccountState.ACTIVE
    if away == "node":
        world.clock.time += 2 * PERIOD
    async with world.running() as node, world.client(node, identity) as client:
        await node.bill()
        assert (await client.status()).state is AccountState.ACTIVE
        await _pay_rent(client, node)
        await _pay_rent(client, node)
        world.clock.time += GRACE
        await node.bill()
        assert (await client.status()).state is AccountState.ACTIVE
        assert world.shares.size(share_id) == 4


async def test_after_an_absence_an_expired_rent_invoice_can_be_had_again(world: World) -> None:  # R-W19
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        ask = client.rent_request(node.address, await client.status())
        old = await client.ask(ask, InvoiceReply)
        identity = client.identity
    world.clock.time += 2 * PERIOD
    assert not world.daemon.pay(old.bolt11)
    async with world.running() as node, world.client(node, identity) as client:
        await node.node.collector.wait_caught_up()
        again = await client.ask(ask, InvoiceReply)
        assert again.bolt11 != old.bolt11
        assert world.daemon.pay(again.bolt11)
        await client.until(lambda now: now.token_index == 1)


async def test_a_service_that_fails_is_started_again(world: World) -> None:
    """A disk that is full for a moment stops neither the collector nor the node."""
    async with world.running() as node, world.client(node) as client:
        await client.open_account()
        reply = await client.ask(AddCapacity(growth_index=0, capacity_bytes=8 * MIB), AddCapacityReply)
        blocked = world.directory / "seen"
        blocked.unlink(missing_ok=True)
        blocked.mkdir()
        (blocked / "in the way").touch()
        world.clock.time += 120
        with pytest.raises(OSError, match="seen"):
            await node.bill()
        assert world.daemon.pay(reply.bolt11)
        await client.until(lambda now: now.capacity_bytes == 8 * MIB)
        (blocked / "in the way").unlink()
        blocked.rmdir()
        await eventually(blocked.exists)


async def test_accounts_are_not_moved_while_payments_are_unknown(world: World) -> None:  # R-W5
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        world.daemon.take_down()
        await eventually(lambda: not node.node.collector.is_caught_up)
        world.clock.time += PERIOD
        await node.node.billing.step()
        assert (await client.status()).state is AccountState.ACTIVE
