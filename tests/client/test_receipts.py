"""Receipts at the client: fetched after every payment, held against its own books, acknowledged, kept, exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from money_world import GIB, PERIOD, START, HonestNode, World, make_world

from lnstore.client.accounts import open_account
from lnstore.client.buying import buy
from lnstore.client.nodes import add_node
from lnstore.client.receipts import bundle_lines, collect, kept, something_to_do
from lnstore.client.rent import pay_rent
from lnstore.errors import LnstoreError
from lnstore_protocol.bundles import HEADER, BundleCheck
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, Msat
from lnstore_protocol.messages import GetReceipts, GetReceiptsReply, InvoicePurpose, PutReceipts
from lnstore_protocol.receipts import Acknowledgement, Receipt, receipt_hash


@pytest.fixture
async def world(tmp_path: Path) -> World:
    """A client that has bought capacity and has shares; its second period has just begun."""
    made = await make_world(tmp_path)
    await add_node(made.purse, made.node.address, "alice")
    await buy(made.purse, made.entry, 20 * GIB, deposit_msat=5000)
    made.store(shares=7)
    made.clock.at = START + PERIOD
    return made


async def pay(world: World) -> tuple[str, ...]:
    """What is warned of after the rent that is due was paid."""
    (outcome,) = await pay_rent(world.purse)
    assert outcome.error is None
    assert len(outcome.paid) == 1
    return outcome.receipt_warnings


def asked(world: World, kind: type[Any]) -> int:
    return sum(isinstance(message, kind) for message in world.node.asked)


async def test_every_payment_ends_with_a_receipt_that_both_have_signed(world: World) -> None:
    assert await pay(world) == ()
    receipts = kept(world.purse.catalog, world.node.node_id)
    assert [one.receipt.purpose for one in receipts] == [
        InvoicePurpose.CAPACITY,
        InvoicePurpose.DEPOSIT,
        InvoicePurpose.RENT,
    ]
    assert all(one.acknowledged and not one.faults for one in receipts)
    rent = receipts[2]
    assert (rent.receipt.sampled, rent.receipt.index) == (7, 1)
    word = Acknowledgement.decode(world.node.words[2])
    assert (word.receipt_hash, word.verified_shares) == (receipt_hash(rent.encoded), 7)
    assert word.account_id == world.purse.account_id


async def test_nothing_is_asked_where_nothing_is_lacking(world: World) -> None:
    before = asked(world, GetReceipts), asked(world, PutReceipts)
    await pay(world)
    for _ in range(3):
        await pay_rent(world.purse)
    assert (asked(world, GetReceipts), asked(world, PutReceipts)) == (before[0] + 1, before[1] + 1)
    assert not something_to_do(world.purse.catalog, world.node.node_id)


async def test_what_was_cut_short_is_made_up_for(world: World) -> None:
    """A connection that breaks before, between or after the two requests; a process that dies after any of them."""
    for kind in (GetReceipts, PutReceipts):
        original = world.node.request

        async def breaking(message: Any, *, timeout_seconds: float, kind: type[Any] = kind) -> Any:
            if isinstance(message, kind):
                raise LnstoreError("the connection broke")
            return await HonestNode.request(world.node, message, timeout_seconds=timeout_seconds)

        world.node.request = breaking  # type: ignore[method-assign]  # a broken connection
        (warning,) = await pay(world)
        assert "the connection broke" in warning
        world.node.request = original  # type: ignore[method-assign]
        world.clock.at += PERIOD
        world.reborn()
    assert (await collect(world.purse, world.entry)).warnings == ()
    receipts = kept(world.purse.catalog, world.node.node_id)
    assert [one.receipt.number for one in receipts] == [0, 1, 2, 3]
    assert all(one.acknowledged for one in receipts)
    assert [world.node.words[number] for number in range(4)] == [one.acknowledgement for one in receipts]


async def test_more_receipts_than_fit_into_a_reply_are_all_fetched(world: World) -> None:
    deposit = world.node.receipts[1]
    world.node.receipts += [replace(deposit, number=number) for number in range(2, 150)]
    found = await collect(world.purse, world.entry)
    assert found.new == 148
    assert asked(world, GetReceipts) == 1 + 3
    assert len(kept(world.purse.catalog, world.node.node_id)) == 150


Forge = Any


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (lambda r: replace(r, amount_msat=Msat(39_999), received_msat=Msat(39_999)), "amount msat 39999"),
        (lambda r: replace(r, received_msat=Msat(40_001)), "became deposit"),
        (lambda r: replace(r, deposited_msat=r.received_msat), "came too late"),
        (lambda r: replace(r, sampled=6), "sampled 6, your own books 7"),
        (lambda r: replace(r, shares=8), "shares 8, your own books 7"),
        (lambda r: replace(r, sample_hash=type(r.sample_hash)(bytes(32))), "sample"),
        (lambda r: replace(r, token_index=1), "token index 1"),
        (lambda r: replace(r, index=2), "not those of period 2"),
        (lambda r: replace(r, capacity_bytes=GIB), "where 2000 msat are due"),
        (lambda r: replace(r, payment_hash=type(r.payment_hash)(bytes(32))), "your own books do not have"),
        (lambda r: replace(r, agreement_hash=type(r.agreement_hash)(bytes(32))), "its agreement is not there"),
        (lambda r: replace(r, received_msat=Msat(39_999), deposited_msat=Msat(39_999)), "arrived of the 40000"),
    ],
)
async def test_a_receipt_of_something_else_is_named_kept_and_not_acknowledged(  # RC-R7, RC-W3
    world: World, forge: Forge, said: str
) -> None:
    world.node.forge = lambda receipt: forge(receipt) if receipt.purpose is InvoicePurpose.RENT else receipt
    warnings = await pay(world)
    assert said in warnings[0]
    assert warnings[0].startswith("receipt 2 of alice is wrong: ")
    assert 2 not in world.node.words
    evidence = kept(world.purse.catalog, world.node.node_id)[2]
    assert evidence.faults
    assert Receipt.decode(evidence.encoded) == evidence.receipt
    assert (await collect(world.purse, world.entry)).warnings[0] == warnings[0]


def other_account(receipt: Receipt) -> Receipt:
    return replace(receipt, account_id=AccountId(Identity(bytes(32)).public_key))


@pytest.mark.parametrize(
    ("forge", "tamper", "said"),
    [
        (other_account, None, "another receipt in the place of number 2"),
        (lambda r: replace(r, number=1), None, "another receipt in the place of number 2"),
        (None, lambda reply: replace(reply, payload=b""), "and gives only 2"),
        (None, lambda reply: replace(reply, payload=reply.payload[:-1]), "cut short"),
        (None, lambda reply: replace(reply, payload=reply.payload[:-1] + b"\0"), "signature of the receipt"),
    ],
)
async def test_a_node_that_gives_no_receipt_is_named(world: World, forge: Forge, tamper: Any, said: str) -> None:
    """The rent is paid all the same, and nothing false is kept."""
    if forge is not None:
        world.node.forge = forge
    if tamper is not None:
        world.node.tamper = lambda reply: tamper(reply) if isinstance(reply, GetReceiptsReply) else reply
    (warning,) = await pay(world)
    assert said in warning
    assert len(kept(world.purse.catalog, world.node.node_id)) == 2


async def test_a_node_that_refuses_is_named_and_so_are_the_payments_without_receipt(world: World) -> None:
    world.node.receipts = world.node.receipts[:1]
    await pay(world)
    world.clock.at += 601
    found = await collect(world.purse, world.entry)
    assert any("gives no receipt for 1 of your payments" in warning for warning in found.warnings)
    world.node.refuse = ErrorCode.UNKNOWN_MESSAGE
    assert "does not give its receipts" in (await collect(world.purse, world.entry)).warnings[0]


async def test_receipts_go_on_over_a_lapse_and_are_judged_by_the_agreement_of_their_time(world: World) -> None:
    await pay(world)
    world.clock.at += 3 * PERIOD
    account = world.node.open
    account.state = type(account.state).LAPSED
    await open_account(world.purse, world.entry)
    bought = await buy(world.purse, world.entry, 10 * GIB)
    assert bought.receipt_warnings == ()
    assert [one.faults for one in kept(world.purse.catalog, world.node.node_id)] == [()] * 4


async def test_a_bundle_holds_all_that_a_stranger_needs_and_no_secret(world: World) -> None:  # RC-W4
    await pay(world)
    lines = [HEADER, *bundle_lines(world.purse.catalog, world.node.node_id)]
    check = BundleCheck()
    check.feed(lines)
    check.finish()
    assert check.findings == []
    (series,) = check.series
    assert (series.receipts, series.proofs, series.acknowledged, series.preimages) == (3, 1, 3, 3)
    assert (series.covered_from_at, series.covered_until_at) == (START, START + 2 * PERIOD)
    assert world.purse.account_secret.hex() not in "".join(lines)
