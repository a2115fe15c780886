"""Clients that cheat, one test each, over the simulated Lightning network: what the node loses is what spec 07 says.

At the end of each the node's ledger has exactly what left the payer's channel (cheat_world.a_town).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cheat_world import CheatWorld, a_town
from node_world import GRACE, MIB, PERIOD, Client, RunningNode, eventually, some_bytes

from lnstore.node.limits import GROWTH_EXPIRY_SECONDS, MAXIMUM_RENT_ATTEMPTS, STRANGER_GROWTH_EXPIRY_SECONDS
from lnstore.storage.files import FileShares
from lnstore_protocol import merkle, proofs, receipts
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import Digest, ShareId
from lnstore_protocol.messages import (
    AccountState,
    AddCapacity,
    AddCapacityReply,
    AuditShare,
    AuditShareReply,
    ErrorReply,
    InvoicePurpose,
    InvoiceReply,
    PutReceipts,
    PutShare,
    RequestInvoice,
)

Town = tuple[CheatWorld, RunningNode]


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    async with a_town(tmp_path) as town:
        yield town


def put(data: bytes) -> PutShare:
    return PutShare(share_id=merkle.share_id(data), token_start=0, tokens=b"", payload=data)


def rent_request(client: Client, node: RunningNode, period: int, token_index: int) -> RequestInvoice:
    return RequestInvoice(
        purpose=InvoicePurpose.RENT,
        period=period,
        token_index=token_index,
        nonce=client.nonce(node.address, token_index),
    )


async def test_who_never_pays_gets_an_invoice_and_nothing_else(town: Town) -> None:
    """Costs the node: rows for a day, an invoice, and the asked capacity set aside for 15 minutes."""
    world, node = town
    async with world.client(node) as client:
        await client.open_account()
        reply = await world.growth(client, 8 * MIB)
        assert await client.refused(put(b"x")) is ErrorCode.CAPACITY_EXCEEDED
        assert await node.books.rented_bytes(world.clock.now()) == 8 * MIB
        world.set_time(world.started_at + STRANGER_GROWTH_EXPIRY_SECONDS)
        assert await node.books.rented_bytes(world.clock.now()) == 0
        world.set_time(world.started_at + 86_460)
        assert await node.node.strangers.step() == 1
        assert await client.refused(put(b"x")) is ErrorCode.NO_ACCOUNT
        assert not await world.paid(reply.bolt11)
        assert await node.books.accounts() == []


async def test_who_stops_paying_is_kept_through_grace_and_swept(town: Town) -> None:
    """Costs the node: the storage of one grace."""
    world, node = town
    async with world.client(node) as client:
        await world.renting(client, 8 * MIB)
        share_id = await client.put(some_bytes(5000))
        earned = await world.balances(node, client.account_id)
        await world.overdue(node)
        assert await client.refused(put(b"x")) is ErrorCode.IN_GRACE
        await world.overdue(node, seconds=GRACE)
        assert (await client.status()).state is AccountState.LAPSED
        await eventually(lambda: world.shares.size(share_id) is None)
        assert await node.books.rented_bytes(world.clock.now()) == 0
        assert await world.balances(node, client.account_id) == earned


async def test_who_pays_late_pays_for_the_whole_period(town: Town) -> None:  # R-W17, R-W20
    """In the last second of grace, for the period that began long ago. Costs the node: nothing."""
    world, node = town
    async with world.client(node) as client:
        before = await world.renting(client, 8 * MIB)
        await client.put(some_bytes(5000))
        await world.overdue(node, seconds=GRACE - 60)
        assert (await client.status()).state is AccountState.GRACE
        reply = await world.rent(client, node)
        assert (reply.from_at, reply.until_at) == (before.paid_until_at, before.paid_until_at + PERIOD)
        assert await world.paid(reply.bolt11)
        after = await client.until(lambda now: now.state is AccountState.ACTIVE)
        assert after.paid_until_at == before.paid_until_at + PERIOD
        assert (await world.balances(node, client.account_id))["rent"] == reply.amount_msat
        await client.put(b"x")


async def test_an_expired_invoice_takes_no_payment(town: Town) -> None:
    """Of a growth, a deposit and rent, each tried when its time is over. Costs the node: nothing."""
    world, node = town
    async with world.client(node) as client:
        await world.renting(client, 8 * MIB)
        late = [(await world.deposit(client, 5000)).bolt11, (await world.growth(client, 9 * MIB)).bolt11]
        rent = await world.rent(client, node)
        before = await world.balances(node)
        world.set_time(world.started_at + GROWTH_EXPIRY_SECONDS + 60)  # the daemon counts from when it made them
        assert not any([await world.paid(bolt11) for bolt11 in late])
        assert not await world.paid(rent.bolt11)  # the end of grace is long past
        await node.bill()
        assert (await client.status()).state is AccountState.LAPSED
        assert await world.balances(node) == before


async def test_a_growth_paid_after_the_lapse_becomes_a_deposit(town: Town) -> None:  # R-W16
    """Asked for while all was well, paid when there is no account any more. Costs the node: nothing."""
    world, node = town
    async with world.client(node) as client:
        await world.renting(client, 8 * MIB)
        reply = await world.growth(client, 16 * MIB)
        await world.overdue(node, seconds=GRACE)
        assert (await client.status()).state is AccountState.LAPSED
        assert await world.paid(reply.bolt11)
        status = await client.until(lambda now: now.deposit_msat)
        assert (status.state, status.capacity_bytes) == (AccountState.LAPSED, 0)
        assert status.deposit_msat == reply.amount_msat
        await client.open_account()  # R-W7: the deposit, and indices that were not used
        again = await client.status()
        assert (again.deposit_msat, again.growth_index) == (reply.amount_msat, 2)


async def test_one_purchase_can_not_be_paid_twice(town: Town) -> None:  # R-W15, MA-R14
    """With the invoice it replaced, and the same again. Costs the node: nothing."""
    world, node = town
    async with world.client(node) as client:
        await world.renting(client, 8 * MIB)
        old = await world.growth(client, 9 * MIB)
        new = await world.growth(client, 10 * MIB)
        assert not await world.paid(old.bolt11)
        before = await world.spent_msat()
        for _ in range(2):
            assert await world.paid(new.bolt11)  # the second time it is settled already
        status = await client.until(lambda now: now.capacity_bytes == 10 * MIB)
        assert await world.spent_msat() == before + new.amount_msat
        assert (status.growth_index, status.deposit_msat) == (2, 0)


async def test_the_known_preimage_is_no_receipt(town: Town) -> None:  # R-R16
    """The client computes the preimage before it pays, and claims to have paid. Costs the node: one proof.

    Nothing in the protocol takes a preimage. What it can claim with (the next period, a signed acknowledgement of a
    receipt) is judged by what the node's own daemon received.
    """
    world, node = town
    async with world.client(node) as client:
        await world.renting(client, 8 * MIB)
        data = some_bytes(20_000)
        await client.put(data, tokens=client.tokens(node.address, data))
        status = await client.status()
        reply = await world.rent(client, node)
        nonce = client.nonce(node.address, 0)
        answer = proofs.answer(nonce, merkle.share_id(data), data)
        preimage = proofs.fold(nonce, [(merkle.share_id(data), answer)])
        decoded = await world.payer.decode(reply.bolt11)
        assert proofs.payment_hash(preimage) == decoded.payment_hash  # it has what a payer gets
        assert await client.refused(rent_request(client, node, status.next_period + 1, 1)) is ErrorCode.PERIOD_REFUSED
        word = receipts.Acknowledgement(
            account_id=client.account_id,
            node_id=node.address.node_id,
            number=1,  # 0 is the first growth's
            receipt_hash=Digest(bytes(32)),
            verified_shares=1,
            at=world.clock.now(),
        )
        claim = PutReceipts(payload=receipts.join([word.sign(client.identity)]))
        assert await client.refused(claim) is ErrorCode.RECORD_UNKNOWN
        await world.overdue(node, periods=1)
        assert (await client.status()).paid_until_at == status.paid_until_at
        assert await client.refused(put(b"x")) is ErrorCode.IN_GRACE
        await world.overdue(node, seconds=GRACE)
        assert (await client.status()).state is AccountState.LAPSED
        assert "rent" not in await world.balances(node, client.account_id)


class CountingShares(FileShares):
    """A disk that counts the sectors read for proofs."""

    proofs = 0

    def sectors(self, share_id: ShareId, indexes: object) -> bytes:
        self.proofs += 1
        return super().sectors(share_id, indexes)  # type: ignore[arg-type]


async def test_proofs_without_paying_are_four_of_a_period(tmp_path: Path) -> None:  # MA-R18, MA-R25
    """However often it asks. Costs the node: four proofs a period that it was paid for before, and four invoices."""
    async with a_town(tmp_path) as (world, node):
        disk = CountingShares(world.directory / "shares")
        node.node.context.shares = disk
        async with world.client(node) as client:
            await world.renting(client, 8 * MIB)
            data = some_bytes(20_000)
            await client.put(data)
            period = (await client.status()).next_period
            refused = 0
            for token_index in range(MAXIMUM_RENT_ATTEMPTS + 5):
                for _again in range(3):
                    request = rent_request(client, node, period, token_index)
                    reply = await client.receive(await client.send(request))
                    refused += isinstance(reply, ErrorReply) and reply.code is ErrorCode.RATE_LIMITED
            assert disk.proofs == MAXIMUM_RENT_ATTEMPTS
            assert refused == 3 * 5
            invoices = (await world.payee.call("listinvoices"))["invoices"]
            assert sum(one["status"] == "unpaid" for one in invoices) == 1  # all but the last are withdrawn
            last = rent_request(client, node, period, MAXIMUM_RENT_ATTEMPTS - 1)
            assert await world.paid((await client.ask(last, InvoiceReply)).bolt11)
            await client.until(lambda now: now.next_period == period + 1)


async def test_a_flood_of_add_capacity_makes_one_invoice_at_a_time_and_few_in_all(tmp_path: Path) -> None:
    """S-W1, S-W2. Costs the node: 100 invoices at once and one each 10 seconds; one reservation."""
    async with a_town(tmp_path, rate_limit_percent=10) as (world, node), world.client(node) as client:
        await world.renting(client, 8 * MIB)
        made, limited = [], 0
        for kib in range(14):
            request = AddCapacity(growth_index=1, capacity_bytes=9 * MIB + kib * 1024)
            reply = await client.receive(await client.send(request))
            if isinstance(reply, AddCapacityReply):
                made.append(reply)
            elif isinstance(reply, ErrorReply) and reply.code is ErrorCode.RATE_LIMITED:
                limited += 1
                break
        assert (len(made), limited) == (9, 1)  # 10 of 10 %, one of them for the first growth
        assert await node.books.rented_bytes(world.clock.now()) == 8 * MIB + made[-1].capacity_bytes
        invoices = (await world.payee.call("listinvoices"))["invoices"]
        assert sum(one["status"] == "unpaid" for one in invoices) == 1
        assert [await world.paid(reply.bolt11) for reply in made] == [False] * 8 + [True]


async def test_a_flood_of_audits_is_told_to_wait(tmp_path: Path) -> None:  # MB-R22, S-W2
    """Costs the node: 1,000 leaves at once and 100 a second, whatever is rented."""
    async with a_town(tmp_path, rate_limit_percent=1) as (world, node), world.client(node) as client:
        await world.renting(client, 8 * MIB)
        share_id = await client.put(some_bytes(50_000))
        audit, shown = AuditShare(share_id=share_id, leaf=1), 0
        while isinstance(reply := await client.receive(await client.send(audit)), AuditShareReply):
            shown += 1
        assert isinstance(reply, ErrorReply)
        assert (reply.code, reply.retry_after_seconds) == (ErrorCode.RATE_LIMITED, 1)
        assert 10 <= shown <= 14  # 1 % of the usual
