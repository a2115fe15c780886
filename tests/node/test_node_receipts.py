"""Receipts of a node: made from its books, the same for ever, and acknowledged by their client."""

from __future__ import annotations

from dataclasses import replace

from node_world import GRACE, MIB, PERIOD, START_AT, Client, RunningNode, World, some_bytes

from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import (
    AccountState,
    AddCapacity,
    AddCapacityReply,
    GetReceipts,
    GetReceiptsReply,
    InvoicePurpose,
    InvoiceReply,
    PutReceipts,
    PutReceiptsReply,
)
from lnstore_protocol.proofs import payment_hash
from lnstore_protocol.receipts import NO_SAMPLE, Acknowledgement, Receipt, join, receipt_faults, sample_hash, split
from lnstore_protocol.terms import Agreement


async def _signed(client: Client, first_number: int = 0, limit: int = 64) -> tuple[int, list[bytes]]:
    reply = await client.ask(GetReceipts(first_number=first_number, limit=limit), GetReceiptsReply)
    return reply.total, split(reply.payload)


async def _receipts(client: Client) -> list[Receipt]:
    total, signed = await _signed(client)
    assert total == len(signed)
    return [Receipt.decode(one) for one in signed]


async def _pay_rent(world: World, client: Client, node: RunningNode) -> InvoiceReply:
    before = await client.status()
    reply = await client.ask(client.rent_request(node.address, before), InvoiceReply)
    assert world.daemon.pay(reply.bolt11)
    await client.until(lambda now: now.token_index == before.token_index + 1)
    return reply


async def test_every_payment_has_a_receipt_of_what_it_did(world: World) -> None:  # RC-W1, RC-R4
    """Growth, deposit and rent with its proof, in the order in which they were credited."""
    async with world.running() as node, world.client(node) as client:
        growth = await client.rent(8 * MIB)
        await client.deposit(5000)
        for _ in range(3):
            data = some_bytes(20_000)
            await client.put(data, tokens=client.tokens(node.address, data))
        world.clock.time += 60
        rent = await _pay_rent(world, client, node)
        agreement = Agreement.decode((await client.status()).agreement)
        grown, deposited, rented = receipts = await _receipts(client)
        assert [receipt_faults(receipt, [agreement]) for receipt in receipts] == [[], [], []]
        assert [receipt.number for receipt in receipts] == [0, 1, 2]
        assert [receipt.credited_at for receipt in receipts] == [START_AT, START_AT, START_AT + 60]
        assert (grown.amount_msat, grown.received_msat, grown.deposited_msat) == (growth.amount_msat,) * 2 + (0,)
        assert (grown.purpose, grown.capacity_bytes, grown.until_at) == (
            InvoicePurpose.CAPACITY,
            8 * MIB,
            growth.until_at,
        )
        assert (deposited.received_msat, deposited.deposited_msat, deposited.sample_hash) == (5000, 5000, NO_SAMPLE)
        assert (rented.index, rented.from_at, rented.until_at) == (1, rent.from_at, rent.until_at)
        ids = [ShareId(rent.sample[at : at + 32]) for at in range(0, len(rent.sample), 48)]
        assert (rented.token_index, rented.shares, rented.sampled, rented.sample_hash) == (0, 3, 3, sample_hash(ids))
        paid = next(one for one in world.daemon.invoices.values() if one.bolt11 == rent.bolt11)
        assert rented.payment_hash == paid.payment_hash
        total, signed = await _signed(client)
        assert await _signed(client, 1, 1) == (total, signed[1:2])
        assert await _signed(client, 3) == await _signed(client, 2**63 - 1) == (3, [])


async def test_receipts_are_the_same_after_a_restart_and_go_on_over_a_lapse(world: World) -> None:  # RC-W2, RC-R3
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        first = await client.status()
        before = await _signed(client)
        identity = client.identity
    async with world.running() as node, world.client(node, identity) as client:
        assert await _signed(client) == before
        world.clock.time += PERIOD + GRACE
        await node.bill()
        assert (await client.status()).state is AccountState.LAPSED
        assert await _signed(client) == before
        await client.rent(8 * MIB)
        old, new = await _receipts(client)
        assert (old.number, new.number, new.index) == (0, 1, first.growth_index)
        agreement = Agreement.decode((await client.status()).agreement)
        assert receipt_faults(new, [agreement]) == []
        assert len(receipt_faults(old, [agreement])) == 1
        assert receipt_faults(old, [Agreement.decode(first.agreement)]) == []


async def test_what_could_not_serve_its_purpose_is_receipted_as_deposit(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.open_account()
        asked = await client.ask(AddCapacity(growth_index=0, capacity_bytes=8 * MIB), AddCapacityReply)
        world.daemon.pay(asked.bolt11, received_msat=asked.amount_msat + 7)
        await client.until(lambda now: now.deposit_msat == 7)
        late = await client.ask(AddCapacity(growth_index=1, capacity_bytes=9 * MIB), AddCapacityReply)
        world.clock.time += PERIOD + GRACE
        await node.bill()
        world.daemon.pay(late.bolt11)
        await client.until(lambda now: now.deposit_msat == 7 + late.amount_msat)
        over, unusable = await _receipts(client)
        assert (over.served, over.received_msat, over.deposited_msat) == (True, asked.amount_msat + 7, 7)
        assert (unusable.served, unusable.deposited_msat) == (False, late.amount_msat)


async def test_acknowledgements_are_kept_once_and_over_a_restart(world: World) -> None:  # RC-R6
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        await client.deposit(5000)
        _, signed = await _signed(client)
        words = [Acknowledgement.of(one, START_AT + 5).sign(client.identity) for one in signed]
        assert (await client.ask(PutReceipts(payload=join(words[1:])), PutReceiptsReply)).acknowledged == 1
        identity = client.identity
    async with world.running() as node, world.client(node, identity) as client:
        again = Acknowledgement.of(signed[1], START_AT + 9).sign(identity)
        assert (await client.ask(PutReceipts(payload=join([again])), PutReceiptsReply)).acknowledged == 1
        assert (await client.ask(PutReceipts(payload=join(words)), PutReceiptsReply)).acknowledged == 2
        _, kept = await node.books.credited(client.account_id, first_number=0, limit=64)
        assert [one.acknowledgement for one in kept] == words


async def test_acknowledgements_of_anything_else_are_refused_as_a_whole(world: World) -> None:  # RC-R5, RC-R1
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        _, (signed,) = await _signed(client)
        word = Acknowledgement.of(signed, START_AT)
        good = word.sign(client.identity)
        other = Identity.generate()
        async with world.client(node, other) as stranger:
            await stranger.open_account()
            assert await stranger.refused(PutReceipts(payload=join([good]))) is ErrorCode.BAD_SIGNATURE
        for bad, code in (
            (replace(word, number=1), ErrorCode.RECORD_UNKNOWN),
            (replace(word, receipt_hash=type(word.receipt_hash)(payment_hash(b""))), ErrorCode.RECORD_UNKNOWN),
            (replace(word, node_id=type(word.node_id)(other.public_key)), ErrorCode.BAD_SIGNATURE),
        ):
            payload = join([good, bad.sign(client.identity)])
            assert await client.refused(PutReceipts(payload=payload)) is code
        assert await client.refused(PutReceipts(payload=b"\0\5abc")) is ErrorCode.MALFORMED
        assert (await client.ask(PutReceipts(payload=b""), PutReceiptsReply)).acknowledged == 0


async def test_what_is_given_at_no_price_has_receipts_too(world: World) -> None:  # RC-W6
    """All amounts are 0, and the proof is there; a payment after that counts on."""
    async with world.running() as node, world.client(node) as client:
        agreement = await client.open_account()
        await node.books.set_free(client.account_id, world.clock.now(), free=True)
        given = await client.ask(AddCapacity(growth_index=0, capacity_bytes=8 * MIB), AddCapacityReply)
        assert given.amount_msat == 0
        data = some_bytes(20_000)
        await client.put(data, tokens=client.tokens(node.address, data))
        world.clock.time += PERIOD
        proof = await client.ask(client.rent_request(node.address, await client.status()), InvoiceReply)
        await client.deposit(5000)
        growth, rent, deposit = receipts = await _receipts(client)
        assert [one.given for one in receipts] == [True, True, False]
        assert [receipt_faults(one, [agreement]) for one in receipts] == [[], [], []]
        assert (rent.sampled, rent.payment_hash) == (1, payment_hash(proof.preimage or b""))
        assert (growth.capacity_bytes, deposit.number) == (8 * MIB, 2)
