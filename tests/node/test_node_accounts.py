"""hello, terms, accounts, growth, deposits, records, peers: what a node answers and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import trio
from node_world import GRACE, HELLO, MIB, PERIOD, START_AT, Client, World, eventually

from lnstore.ports import InvoiceStatus
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, Msat, NodeAddress, NodeId
from lnstore_protocol.messages import (
    AccountState,
    AccountStatus,
    AddCapacity,
    AddCapacityReply,
    ChannelInfo,
    ChannelInfoReply,
    GetRecord,
    GetRecordReply,
    GetTerms,
    Hello,
    HelloReply,
    InvoicePurpose,
    InvoiceReply,
    ListPeers,
    ListPeersReply,
    OpenAccount,
    OpenAccountReply,
    PutRecord,
    PutRecordReply,
    RequestInvoice,
)
from lnstore_protocol.terms import Agreement, Record, binding_text, rent_msat


async def test_hello_binds_the_lightning_key_to_the_node(world: World) -> None:  # M-W11
    async with world.running() as node, await Client.connect(node.address, Identity.generate()) as client:
        reply = await client.ask(HELLO, HelloReply)
        assert (reply.version_major, reply.version_minor, reply.network) == (1, 0, "regtest")
        assert reply.lightning_id == world.daemon.lightning_id
        text = binding_text(node.address.node_id, reply.lightning_id)
        assert reply.lightning_signature == await world.daemon.sign_message(text)
        assert reply.now_at == START_AT


# M-R9, M-W10
async def test_nothing_is_answered_before_hello_but_requests_may_follow_it_unanswered(world: World) -> None:
    async with world.running() as node, await Client.connect(node.address, Identity.generate()) as client:
        assert await client.refused(GetTerms()) is ErrorCode.HELLO_REQUIRED
        first = await client.send(HELLO)
        assert await client.terms()
        assert isinstance(await client.receive(first), HelloReply)


# M-R10, M-R11, M-R13, M-R18
async def test_hello_of_another_version_or_with_an_unknown_demand_is_refused(world: World) -> None:
    async with world.running() as node, await Client.connect(node.address, Identity.generate()) as client:
        other = Hello(version_major=2, version_minor=0, features=b"")
        assert await client.refused(other) is ErrorCode.UNSUPPORTED_VERSION
        demand = Hello(version_major=1, version_minor=0, features=b"\x04")
        assert await client.refused(demand) is ErrorCode.UNKNOWN_FEATURE
        assert await client.refused(GetTerms()) is ErrorCode.HELLO_REQUIRED
        offer = Hello(version_major=1, version_minor=9, features=b"\x02\x00")
        await client.ask(offer, HelloReply)


# MA-W1, MA-R1
async def test_terms_are_the_configured_prices_and_stay_until_half_their_time_is_over(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        signed = await client.terms()
        terms = signed.terms
        assert (terms.period_seconds, terms.grace_seconds) == (PERIOD, GRACE)
        assert (terms.price_msat_per_gib_month, terms.egress_msat_per_gib) == (50_000_000, 1000)
        assert (terms.minimum_capacity_bytes, terms.maximum_capacity_bytes) == (1024, 10 << 40)
        assert terms.valid_until_at == START_AT + 7 * 86_400
        world.clock.time += 3 * 86_400
        assert (await client.terms()).encoded == signed.encoded
        world.clock.time += 86_400
        assert (await client.terms()).terms.valid_from_at == world.clock.time


async def test_an_account_is_opened_once_and_then_keeps_its_agreement(world: World) -> None:  # MA-R3
    async with world.running() as node, world.client(node) as client:
        assert await client.refused(AccountStatus()) is ErrorCode.NO_ACCOUNT
        agreement = await client.open_account()
        assert agreement.countersigned
        assert agreement.account_id == client.account_id
        world.clock.time += 30
        assert (await client.open_account()).encoded == agreement.encoded
        status = await client.status()
        assert (status.state, status.capacity_bytes, status.next_period) == (AccountState.ACTIVE, 0, 0)
        assert status.agreement == agreement.encoded


async def test_old_terms_are_taken_up_while_they_are_valid_and_not_after(world: World) -> None:  # MA-R4
    async with world.running() as node, world.client(node) as client:
        terms = await client.terms()
        world.clock.time = terms.terms.valid_until_at + 1
        late = OpenAccount(agreement=Agreement.propose(terms, client.identity, world.clock.now()).encoded)
        assert await client.refused(late) is ErrorCode.TERMS_CHANGED
        world.clock.time = terms.terms.valid_until_at
        in_time = OpenAccount(agreement=Agreement.propose(terms, client.identity, world.clock.now()).encoded)
        await client.ask(in_time, OpenAccountReply)


# MA-R4, MA-R5
async def test_an_agreement_of_another_account_another_node_or_another_time_is_refused(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        terms = await client.terms()
        other = OpenAccount(agreement=Agreement.propose(terms, Identity.generate(), START_AT).encoded)
        assert await client.refused(other) is ErrorCode.BAD_SIGNATURE
        for skew in (-601, 601):
            skewed = OpenAccount(agreement=Agreement.propose(terms, client.identity, START_AT + skew).encoded)
            assert await client.refused(skewed) is ErrorCode.ACCOUNT_REFUSED
        stranger = Identity.generate()
        foreign = replace(terms.terms, node_id=NodeId(stranger.public_key)).sign(stranger)
        elsewhere = OpenAccount(agreement=Agreement.propose(foreign, client.identity, START_AT).encoded)
        assert await client.refused(elsewhere) is ErrorCode.TERMS_CHANGED
        damaged = bytearray(Agreement.propose(terms, client.identity, START_AT).encoded)
        damaged[-1] ^= 1
        assert await client.refused(OpenAccount(agreement=bytes(damaged))) is ErrorCode.BAD_SIGNATURE


async def test_capacity_is_charged_to_the_end_of_the_period_and_there_once_paid(world: World) -> None:  # R-W8
    async with world.running() as node, world.client(node) as client:
        await client.open_account()
        world.clock.time += 400
        reply = await client.ask(AddCapacity(growth_index=0, capacity_bytes=8 * MIB), AddCapacityReply)
        assert (reply.from_at, reply.until_at) == (START_AT + 400, START_AT + PERIOD)
        assert reply.amount_msat == rent_msat(8 * MIB, 600, 50_000_000)
        assert reply.capacity_bytes == 8 * MIB
        assert (await client.status()).capacity_bytes == 0
        assert world.daemon.pay(reply.bolt11)
        status = await client.until(lambda now: now.capacity_bytes)
        assert (status.capacity_bytes, status.growth_index, status.next_period) == (8 * MIB, 1, 1)
        more = await client.ask(AddCapacity(growth_index=1, capacity_bytes=9 * MIB), AddCapacityReply)
        assert more.amount_msat == rent_msat(MIB, 600, 50_000_000)


async def test_growth_after_a_rent_invoice_pays_for_that_period_too(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        await client.ask(client.rent_request(node.address, await client.status()), InvoiceReply)
        reply = await client.ask(AddCapacity(growth_index=1, capacity_bytes=9 * MIB), AddCapacityReply)
        assert reply.until_at == START_AT + 2 * PERIOD


async def test_growth_is_refused_out_of_order_or_outside_the_limits(world: World) -> None:  # MA-R12
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        for message, code in (
            (AddCapacity(growth_index=0, capacity_bytes=9 * MIB), ErrorCode.PERIOD_REFUSED),
            (AddCapacity(growth_index=2, capacity_bytes=9 * MIB), ErrorCode.PERIOD_REFUSED),
            (AddCapacity(growth_index=1, capacity_bytes=8 * MIB), ErrorCode.CAPACITY_REFUSED),
            (AddCapacity(growth_index=1, capacity_bytes=11 << 40), ErrorCode.CAPACITY_REFUSED),
            (AddCapacity(growth_index=1, capacity_bytes=101 << 30), ErrorCode.CAPACITY_REFUSED),
        ):
            assert await client.refused(message) is code, message


async def test_what_all_accounts_rent_together_stays_within_the_node(tmp_path: Path) -> None:  # R-W11
    world = World(tmp_path, unpaid_growth_percent=200)  # newcomers may have it all
    async with world.running() as node, world.client(node) as one, world.client(node) as two:
        await one.rent(60 << 30)
        await two.open_account()
        too_much = AddCapacity(growth_index=0, capacity_bytes=41 << 30)
        assert await two.refused(too_much) is ErrorCode.CAPACITY_REFUSED
        await two.rent(40 << 30)


# MA-R13, MA-R14
async def test_the_same_growth_gives_the_same_invoice_and_another_one_withdraws_it(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.open_account()
        ask = AddCapacity(growth_index=0, capacity_bytes=8 * MIB)
        first = await client.ask(ask, AddCapacityReply)
        assert await client.ask(ask, AddCapacityReply) == first
        other = await client.ask(AddCapacity(growth_index=0, capacity_bytes=4 * MIB), AddCapacityReply)
        assert not world.daemon.pay(first.bolt11)
        assert world.daemon.pay(other.bolt11)
        assert (await client.until(lambda now: now.capacity_bytes)).capacity_bytes == 4 * MIB


async def test_an_expired_growth_invoice_is_replaced(world: World) -> None:  # R-W9
    async with world.running() as node, world.client(node) as client:
        await client.open_account()
        ask = AddCapacity(growth_index=0, capacity_bytes=8 * MIB)
        first = await client.ask(ask, AddCapacityReply)
        world.clock.time += 3600
        second = await client.ask(ask, AddCapacityReply)
        assert second.bolt11 != first.bolt11
        assert second.from_at == world.clock.time


async def test_a_growth_that_was_just_paid_is_not_replaced(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.open_account()
        first = await client.ask(AddCapacity(growth_index=0, capacity_bytes=8 * MIB), AddCapacityReply)
        world.daemon.hang("after paid")
        assert world.daemon.pay(first.bolt11)
        await world.daemon.hanging.wait()
        other = AddCapacity(growth_index=0, capacity_bytes=4 * MIB)
        assert await client.refused(other) is ErrorCode.PERIOD_REFUSED


async def test_a_deposit_is_counted_and_an_overpayment_goes_to_it(world: World) -> None:  # MA-R19, R-W16
    async with world.running() as node, world.client(node) as client:
        await client.open_account()
        await client.deposit(5000)
        ask = RequestInvoice(purpose=InvoicePurpose.DEPOSIT, deposit_index=1, amount_msat=Msat(700))
        reply = await client.ask(ask, InvoiceReply)
        assert await client.ask(ask, InvoiceReply) == reply
        assert world.daemon.pay(reply.bolt11, received_msat=900)
        status = await client.until(lambda now: now.deposit_index == 2)
        assert status.deposit_msat == 5900
        assert await client.refused(ask) is ErrorCode.PERIOD_REFUSED
        for amount in (None, 0, 10**13):
            wrong = RequestInvoice(
                purpose=InvoicePurpose.DEPOSIT,
                deposit_index=2,
                amount_msat=None if amount is None else Msat(amount),
            )
            assert await client.refused(wrong) is ErrorCode.MALFORMED
        assert await client.refused(RequestInvoice(purpose=InvoicePurpose.CAPACITY)) is ErrorCode.MALFORMED


async def test_records_are_kept_newest_first_and_read_by_anybody(world: World) -> None:  # MB-R25, MB-R26, MB-R28
    async with world.running() as node, world.client(node) as client, world.client(node) as reader:
        mine = AccountId(client.identity.public_key)

        def record(sequence: int, value: bytes, owner: Identity = client.identity) -> PutRecord:
            name = AccountId(owner.public_key)
            return PutRecord(
                record=Record(account_id=name, name=b"catalog", sequence=sequence, value=value).sign(owner)
            )

        assert await client.refused(record(1, b"one")) is ErrorCode.NO_ACCOUNT
        await client.open_account()
        await client.ask(record(1, b"one"), PutRecordReply)
        await client.ask(record(2, b"two"), PutRecordReply)
        assert await client.refused(record(1, b"one")) is ErrorCode.RECORD_STALE
        assert await client.refused(record(3, b"x", reader.identity)) is ErrorCode.BAD_SIGNATURE
        got = await reader.ask(GetRecord(account_id=mine, name=b"catalog"), GetRecordReply)
        assert Record.decode(got.record).value == b"two"
        assert await reader.refused(GetRecord(account_id=mine, name=b"other")) is ErrorCode.RECORD_UNKNOWN


async def test_channel_info_and_peers_say_where_to_go(world: World) -> None:  # MA-R22, MB-R31
    friend = NodeAddress(NodeId(Identity.generate().public_key), "::1", 7460)
    toml = (world.directory / "node.toml").read_text().replace("peers = []", f'peers = ["{friend}"]')
    (world.directory / "node.toml").write_text(toml)
    async with world.running() as node, world.client(node) as client:
        info = await client.ask(ChannelInfo(), ChannelInfoReply)
        assert info.addresses == ["127.0.0.1:9735", "[::1]:9736"]
        assert (info.lightning_id, info.minimum_sat) == (world.daemon.lightning_id, 100_000)
        assert (await client.ask(ListPeers(), ListPeersReply)).peers == [str(friend)]


async def test_without_its_daemon_a_node_reads_and_says_what_it_cannot_do(world: World) -> None:  # MA-R22
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        identity, share_id = client.identity, await client.put(b"x" * 100)
    world.daemon.take_down()
    async with world.running() as node, world.client(node, identity) as client:
        await client.terms()
        assert (await client.status()).used_bytes == 100
        for message in (
            ChannelInfo(),
            AddCapacity(growth_index=1, capacity_bytes=9 * MIB),
            client.rent_request(node.address, await client.status()),
        ):
            assert await client.refused(message) is ErrorCode.LIGHTNING_UNAVAILABLE
        await client.put(b"y" * 100)
        assert share_id
        world.daemon.up = True
        await node.node.context.binding.confirmed.wait()
        await client.ask(ChannelInfo(), ChannelInfoReply)


async def test_a_new_node_waits_for_its_daemon_before_it_tells_its_address(world: World) -> None:
    world.daemon.take_down()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_bring_up_when_asked, world)
        async with world.running() as node, world.client(node) as client:
            await client.terms()


async def _bring_up_when_asked(world: World) -> None:
    await eventually(lambda: world.daemon.refused > 0)
    world.daemon.up = True


async def test_another_daemon_than_the_one_the_books_belong_to_is_not_used(world: World) -> None:
    async with world.running() as node, world.client(node) as client:
        await client.open_account()
        identity = client.identity
    world.daemon.lightning_id = type(world.daemon.lightning_id)(b"\x03" * 33)
    async with world.running() as node, world.client(node, identity) as client:
        grow = AddCapacity(growth_index=0, capacity_bytes=8 * MIB)
        assert await client.refused(grow) is ErrorCode.LIGHTNING_UNAVAILABLE
        assert not [i for i in world.daemon.invoices.values() if i.status is InvoiceStatus.UNPAID]
