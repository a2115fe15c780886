"""Proof-locked rent: an honest node is paid and its preimage is the proof; every other node is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from money_world import GIB, PERIOD, SECRET, START, Killed, World, make_world

from lnstore.client.accounts import open_account
from lnstore.client.audit import HowLost, find_lost
from lnstore.client.buying import buy
from lnstore.client.channel_watch import list_channels
from lnstore.client.faults import Fault
from lnstore.client.money_errors import (
    AccountMissing,
    InvoiceFault,
    InvoiceLost,
    InvoiceRefused,
    NodeUntrusted,
    PaymentOpen,
    ProofFailed,
    TokensUsedUp,
)
from lnstore.client.node_channels import open_channel
from lnstore.client.node_errors import NodeRefused
from lnstore.client.nodes import add_node
from lnstore.client.rent import RentOutcome, RentPaid, pay_rent
from lnstore.client.rent_status import rent_status
from lnstore.errors import LnstoreError
from lnstore.ports import Outcome, Payment
from lnstore_protocol import proofs
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import (
    AccountState,
    AccountStatusReply,
    AuditShareReply,
    ErrorReply,
    InvoiceReply,
    ListSharesReply,
    RequestInvoice,
)

Tamper = Callable[[Any], Any]


@pytest.fixture
async def world(tmp_path: Path) -> World:
    """A client that rents 20 GiB and has shares there; its second period has just begun."""
    made = await make_world(tmp_path)
    await add_node(made.purse, made.node.address, "alice")
    await buy(made.purse, made.entry, 20 * GIB)
    made.store(shares=7)
    made.clock.at = START + PERIOD
    return made


async def pay(world: World, **options: Any) -> RentOutcome:
    (outcome,) = await pay_rent(world.purse, **options)
    return outcome


async def pay_one(world: World) -> RentPaid:
    outcome = await pay(world)
    assert outcome.error is None
    (paid,) = outcome.paid
    return paid


async def refusal(world: World) -> LnstoreError:
    """Why the rent was not paid; nothing has left the client."""
    before = world.received_msat()
    outcome = await pay(world)
    assert outcome.error is not None
    assert outcome.paid == ()
    assert world.received_msat() == before
    return outcome.error


def nonces(world: World) -> list[bytes]:
    return [m.nonce for m in world.node.asked if isinstance(m, RequestInvoice) and m.nonce is not None]


# --- an honest node -------------------------------------------------------------------------------------------------


async def test_rent_is_paid_and_its_preimage_is_the_fold_over_our_shares(world: World) -> None:
    paid = await pay_one(world)
    assert (paid.period, paid.amount_msat, paid.sampled, paid.shares, paid.verified) == (1, 40_000, 7, 7, True)
    assert (paid.from_at, paid.until_at) == (START + PERIOD, START + 2 * PERIOD)
    nonce = proofs.audit_nonce(proofs.audit_key(SECRET), world.node.node_id, 0)
    shares = {share_id: data for share_id, (data, _) in world.node.shares.items()}
    answers = [(i, proofs.answer(nonce, i, shares[i])) for i in proofs.select_sample(nonce, shares)]
    assert paid.preimage == proofs.fold(nonce, answers)
    assert paid.preimage.hex() not in repr(paid)


async def test_nothing_is_paid_before_it_is_due_nor_twice(world: World) -> None:  # R-R7
    await pay_one(world)
    assert (await pay(world)).paid == ()
    assert world.received_msat() == 80_000


async def test_the_next_period_can_be_paid_ahead_and_no_further(world: World) -> None:  # R-W21
    assert [paid.period for paid in (await pay(world, ahead=1)).paid] == [1, 2]
    assert (await pay(world, ahead=1)).paid == ()
    with pytest.raises(ValueError, match="ahead"):
        await pay_rent(world.purse, ahead=2)


async def test_missed_periods_are_paid_one_after_the_other(world: World) -> None:
    world.clock.at += 2 * PERIOD
    assert [paid.period for paid in (await pay(world)).paid] == [1, 2, 3]
    assert len(set(nonces(world))) == 3


async def test_an_account_without_shares_is_paid_without_a_proof(tmp_path: Path) -> None:
    world = await make_world(tmp_path)
    await add_node(world.purse, world.node.address)
    await buy(world.purse, world.entry, GIB)
    world.clock.at = START + PERIOD
    paid = await pay_one(world)
    assert (paid.sampled, paid.verified, paid.amount_msat) == (0, False, 2000)


async def test_an_account_without_capacity_owes_nothing(tmp_path: Path) -> None:
    world = await make_world(tmp_path)
    await add_node(world.purse, world.node.address)
    await open_account(world.purse, world.entry)
    world.clock.at += 5 * PERIOD
    outcome = await pay(world)
    assert (outcome.paid, outcome.error) == ((), None)


async def test_more_shares_than_a_sample_are_proven_by_512_of_them(world: World) -> None:
    world.store(shares=600, size=700)
    paid = await pay_one(world)
    assert (paid.sampled, paid.shares) == (512, 607)


async def test_shares_that_only_the_node_knows_of_do_no_harm(world: World) -> None:
    """An upload was interrupted, or the catalog restored from an older copy: nothing of it is dropped."""
    share_ids = world.store(shares=2)
    world.forget(share_ids[0])
    assert (await pay_one(world)).sampled == 9
    assert share_ids[0] in world.node.shares


async def test_a_node_that_missed_a_drop_is_told_again_before_its_proof(world: World) -> None:  # P-R12
    """The file was removed while the node could not be reached."""
    share_ids = world.store(shares=2)
    world.purse.catalog.remove_file(world.purse.catalog.files()[-1].file_id)
    assert (await pay_one(world)).sampled == 7
    assert not set(share_ids) & world.node.shares.keys()


async def test_a_node_cannot_put_shares_it_was_told_to_drop_in_the_place_of_others(world: World) -> None:
    """A share that we no longer pay for, small, with a genuine token, would push a lost one out of the sample."""
    (kept,) = world.store(shares=1)
    hidden = world.node.shares[kept]
    world.purse.catalog.remove_file(world.purse.catalog.files()[-1].file_id)

    def tamper(reply: Any) -> Any:
        world.node.shares[kept] = hidden
        return reply

    world.node.tamper = tamper
    error = await refusal(world)
    assert isinstance(error, ProofFailed)
    assert "gave up" in str(error)


async def test_a_share_stored_after_the_nonce_was_revealed_is_not_missed_in_its_proof(world: World) -> None:  # P-R8
    world.network.fates = ["fail"]
    assert (await pay(world)).error is not None
    world.store(shares=3)
    assert (await pay_one(world)).sampled == 7


async def test_a_share_dropped_after_the_nonce_was_revealed_is_not_missed_either(world: World) -> None:
    (gone,) = world.store(shares=1)
    world.node.lost.add(gone)
    error = await refusal(world)
    assert isinstance(error, ProofFailed)
    world.forget(gone)
    assert (await pay_one(world)).sampled == 7


async def test_one_node_that_fails_does_not_keep_the_others_from_being_paid(tmp_path: Path) -> None:
    world = await make_world(tmp_path, nodes=3)
    for node in world.nodes:
        await add_node(world.purse, node.address)
        await buy(world.purse, world.purse.catalog.node(node.node_id), GIB)
        world.store(shares=1, node=node)
    world.clock.at = START + PERIOD
    world.nodes[1].refuse = ErrorCode.SHUTTING_DOWN
    outcomes = {outcome.node.node_id: outcome for outcome in await pay_rent(world.purse)}
    assert [len(outcomes[node.node_id].paid) for node in world.nodes] == [1, 0, 1]
    assert isinstance(outcomes[world.nodes[1].node_id].error, NodeRefused)


# --- nodes that cheat -----------------------------------------------------------------------------------------------


def rent_reply(change: Callable[[InvoiceReply], InvoiceReply]) -> Tamper:
    return lambda reply: change(reply) if type(reply) is InvoiceReply else reply


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


async def test_an_altered_token_breaks_the_proof(world: World) -> None:  # R-R20
    world.node.tamper = rent_reply(lambda r: replace(r, sample=flipped(r.sample, 40)))
    error = await refusal(world)
    assert isinstance(error, ProofFailed)
    assert error.fault is Fault.WRONG_ANSWERS
    assert "lnstore check" in str(error)
    assert await find_lost(world.purse, world.entry) == []


# R-R20, R-R22
async def test_a_node_that_damaged_a_sector_cannot_be_paid_and_the_audit_names_the_share(world: World) -> None:
    """It computes over what it has; the preimage is another one."""
    (share_id,) = world.store(shares=1, size=1 << 20)
    data, tokens = world.node.shares[share_id]
    nonce = proofs.audit_nonce(proofs.audit_key(SECRET), world.node.node_id, 0)
    at = proofs.challenge_positions(nonce, share_id, len(data))[31] * proofs.SECTOR_BYTES
    world.node.shares[share_id] = (flipped(data, at), tokens)
    error = await refusal(world)
    assert isinstance(error, ProofFailed)
    assert error.fault is Fault.WRONG_ANSWERS
    (found,) = await find_lost(world.purse, world.entry)
    assert (found.share_id, found.why) == (share_id, HowLost.DAMAGED)


async def test_a_lost_share_that_is_left_out_of_the_sample_shows(world: World) -> None:
    (gone,) = world.store(shares=1)
    del world.node.shares[gone]
    error = await refusal(world)
    assert isinstance(error, ProofFailed)
    assert error.missing == (gone,)
    assert gone.hex()[:16] in str(error)


async def test_a_share_that_is_not_listed_shows_before_a_nonce_is_revealed(world: World) -> None:
    """MB-R17: the node's whole list is compared with the catalog once per period."""
    gone = sorted(world.node.shares)[3]
    del world.node.shares[gone]
    error = await refusal(world)
    assert isinstance(error, ProofFailed)
    assert error.missing == (gone,)
    assert nonces(world) == []


async def test_a_list_out_of_order_is_the_nodes_fault(world: World) -> None:
    def tamper(reply: Any) -> Any:
        return replace(reply, payload=bytes(reply.payload)[::-1]) if isinstance(reply, ListSharesReply) else reply

    world.node.tamper = tamper
    assert isinstance(await refusal(world), NodeUntrusted)
    assert nonces(world) == []


async def test_a_loss_that_is_admitted_is_not_paid_for(world: World) -> None:  # P-R11
    gone = world.store(shares=4)[2]
    world.node.lost.add(gone)
    error = await refusal(world)
    assert isinstance(error, ProofFailed)
    assert error.lost == (gone,)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: replace(r, sample=r.sample[:-1]),
        lambda r: replace(r, lost=b"x"),
        lambda r: replace(r, sample=r.sample[48:] + r.sample[:48]),
        lambda r: replace(r, sample=r.sample + r.sample[-48:]),
        lambda r: replace(r, sample=r.sample[:48] + r.sample),
        lambda r: replace(r, sample=b""),
        lambda r: replace(r, lost=r.sample[:32]),
    ],
)
async def test_a_proof_that_is_not_well_formed_is_none(
    world: World, change: Callable[[InvoiceReply], InvoiceReply]
) -> None:
    world.node.tamper = rent_reply(change)
    assert isinstance(await refusal(world), ProofFailed)


async def test_an_invoice_that_is_not_locked_to_the_proof_is_not_paid(world: World) -> None:
    async def other_invoice(label: str) -> str:
        invoice = await world.node.lightning.create_invoice(
            label=label, amount_msat=Msat(40_000), description="", expires_in_seconds=3600, preimage=b"p" * 32
        )
        return invoice.bolt11

    other = await other_invoice("other")
    world.node.tamper = rent_reply(lambda r: replace(r, bolt11=other))
    error = await refusal(world)
    assert isinstance(error, ProofFailed)
    assert error.fault is Fault.WRONG_ANSWERS


async def test_one_msat_more_than_the_rent_is_not_paid(world: World) -> None:
    account = world.node.open
    account.capacity_bytes += 1
    error = await refusal(world)
    assert isinstance(error, InvoiceRefused)
    assert error.fault is InvoiceFault.WRONG_CAPACITY
    world.node.tamper = rent_reply(lambda r: replace(r, capacity_bytes=20 * GIB))
    error = await refusal(world)
    assert isinstance(error, InvoiceRefused)
    assert error.fault is InvoiceFault.OVERPRICED


@pytest.mark.parametrize(
    "change",
    [
        lambda r: replace(r, from_at=r.from_at + 1),
        lambda r: replace(r, until_at=r.until_at - 1),
        lambda r: replace(r, from_at=r.from_at + PERIOD, until_at=r.until_at + PERIOD),
    ],
)
async def test_rent_for_other_times_is_not_paid(world: World, change: Callable[[InvoiceReply], InvoiceReply]) -> None:
    world.node.tamper = rent_reply(change)
    error = await refusal(world)
    assert isinstance(error, InvoiceRefused)
    assert error.fault is InvoiceFault.WRONG_PERIOD


async def test_an_expired_invoice_is_not_paid(world: World) -> None:
    world.network.fates = ["fail"]
    await pay(world)
    world.clock.at += 3600
    error = await refusal(world)
    assert isinstance(error, InvoiceRefused)
    assert error.fault is InvoiceFault.EXPIRED


def status(**changes: Any) -> Tamper:
    return lambda reply: replace(reply, **changes) if isinstance(reply, AccountStatusReply) else reply


@pytest.mark.parametrize("index", [1, 5])
async def test_no_nonce_is_revealed_before_its_turn(world: World, index: int) -> None:  # MA-R10, R-R17
    """A node that knew it early could keep the answers and throw the data away."""
    world.node.tamper = status(token_index=index)
    assert isinstance(await refusal(world), NodeUntrusted)
    assert nonces(world) == []


async def test_a_proof_that_was_paid_is_not_asked_for_again(world: World) -> None:
    await pay_one(world)
    world.clock.at += PERIOD
    world.node.tamper = status(token_index=0)
    assert isinstance(await refusal(world), NodeUntrusted)


async def test_a_period_that_was_paid_is_not_paid_again(world: World) -> None:  # R-R18
    await pay_one(world)
    await pay(world, ahead=1)
    world.clock.at += PERIOD
    world.node.tamper = status(next_period=0)
    error = await refusal(world)
    assert isinstance(error, NodeUntrusted)
    assert "paid already" in str(error)


@pytest.mark.parametrize(
    "replayed",
    [
        lambda old, new: replace(old, from_at=new.from_at, until_at=new.until_at),
        lambda old, new: replace(new, bolt11=old.bolt11),
    ],
)
async def test_an_old_proof_for_a_new_period_is_not_paid(
    world: World, replayed: Callable[[InvoiceReply, InvoiceReply], InvoiceReply]
) -> None:
    """A replay: the node sends the proof and the invoice of the period before."""
    await pay_one(world)
    old = world.node.invoices[-1].reply
    world.clock.at += PERIOD
    world.node.tamper = rent_reply(lambda new: replayed(old, new))
    assert isinstance(await refusal(world), ProofFailed)


async def test_a_lapsed_account_is_named_and_not_paid(world: World) -> None:
    world.node.open.state = AccountState.LAPSED
    error = await refusal(world)
    assert isinstance(error, AccountMissing)
    assert "lapsed" in str(error)


@pytest.mark.parametrize("heard", [False, True])
async def test_an_account_that_lapsed_with_a_nonce_revealed_begins_with_the_next_one(world: World, heard: bool) -> None:
    """What the nonce asks for may be known since, whether the node says so or not: it is never revealed again."""
    await pay_one(world)
    world.clock.at += PERIOD
    if heard:
        world.network.fates = ["fail"]
    else:
        ask = world.node.request

        async def deaf(message: Any, *, timeout_seconds: float) -> Any:
            if isinstance(message, RequestInvoice):
                raise NodeRefused(world.node.address, ErrorReply(code=ErrorCode.SHUTTING_DOWN, message=""))
            return await ask(message, timeout_seconds=timeout_seconds)

        world.node.request = deaf  # type: ignore[method-assign]
    assert (await pay(world)).error is not None
    if not heard:
        world.node.request = ask  # type: ignore[method-assign]
    world.node.open.state = AccountState.LAPSED
    world.clock.at += 3 * PERIOD
    bought = await buy(world.purse, world.entry, 20 * GIB)
    assert (bought.opened, bought.status.capacity_bytes) == (True, 20 * GIB)
    assert bought.status.token_index == 1 + heard
    assert world.purse.catalog.shares_at(world.node.node_id) == []
    world.store(shares=2)
    for _ in range(2):
        world.clock.at += PERIOD
        assert (await pay_one(world)).sampled == 2
    assert len(set(nonces(world))) == len(nonces(world)) == 3 + heard
    revealed_in_vain = proofs.audit_nonce(proofs.audit_key(SECRET), world.node.node_id, 1)
    assert (revealed_in_vain in nonces(world)) is heard


# --- interrupted ----------------------------------------------------------------------------------------------------


async def test_a_stuck_rent_payment_is_carried_on_and_counted_once(world: World) -> None:
    world.network.fates = ["hold"]
    assert isinstance((await pay(world)).error, PaymentOpen)
    world.reborn()
    assert isinstance((await pay(world)).error, PaymentOpen)
    world.lightning.release()
    world.reborn()
    await pay(world)
    assert [entry.index for entry in world.purse.wallet.payments()[1:]] == [1]
    assert len(nonces(world)) == 1
    assert world.received_msat() == 80_000


@pytest.mark.parametrize(
    "death", [{"dies_before": n} for n in range(3)] + [{"dies_after": n} for n in range(3)] + ["pay"]
)
async def test_killed_at_any_point_rent_is_paid_once(world: World, death: Any) -> None:
    """Its writes: the challenge, the intent, the outcome."""
    world.reborn()
    if death == "pay":
        world.network.fates = ["kill after"]
    else:
        for name, count in death.items():
            setattr(world.purse.catalog, name, count)
    with pytest.raises(Killed):
        await pay(world)
    world.reborn()
    await pay(world)
    assert world.received_msat() == 80_000
    (entry,) = (e for e in world.purse.wallet.payments() if e.index == 1)
    assert (entry.sampled, entry.preimage is not None) == (7, True)
    assert sha256(entry.preimage or b"").digest() == entry.payment_hash


async def test_rent_that_our_daemon_will_never_pay_is_asked_for_with_the_next_challenge(world: World) -> None:
    """In the run that finds it out, and as often as it happens; each nonce is revealed once and paid once."""
    world.network.fates = ["record", "record"]
    assert isinstance((await pay(world)).error, PaymentOpen)
    world.reborn()
    error = (await pay(world)).error
    assert isinstance(error, PaymentOpen)  # the second daemon's death, with the second challenge
    world.reborn()
    paid = await pay_one(world)
    assert (paid.period, paid.sampled, paid.verified) == (1, 7, True)
    key = proofs.audit_key(SECRET)
    assert nonces(world) == [proofs.audit_nonce(key, world.node.node_id, t) for t in range(3)]
    assert world.received_msat() == 80_000
    (status,) = await rent_status(world.purse)
    assert status.agrees
    world.clock.at += PERIOD
    assert (await pay_one(world)).period == 2
    assert nonces(world)[3] == proofs.audit_nonce(key, world.node.node_id, 3)


async def test_a_daemon_that_dies_again_and_again_is_not_asked_more_than_twice_in_a_run(world: World) -> None:
    world.network.fates = ["record"]
    await pay(world)

    class Dying(type(world.lightning)):  # type: ignore[misc]
        """Every payment it is asked for was recorded by an earlier one of its lives."""

        async def pay(self, bolt11: str, **limits: Any) -> Any:
            self.network.fates = ["record"]
            await super().pay(bolt11, **limits)
            return await self.payment(bolt11)

    world.lightning.__class__ = Dying
    asked = len(nonces(world))
    error = await refusal(world)
    assert isinstance(error, InvoiceLost)
    assert "run the command again" in str(error)
    assert len(nonces(world)) == asked + 2


async def test_rent_that_the_node_credited_before_our_daemon_said_so_is_open_and_nobody_is_blamed(world: World) -> None:
    """The payer was killed, its daemon does not answer yet, and the node is one proof further."""
    world.network.fates = ["kill after"]
    with pytest.raises(Killed):
        await pay(world)
    world.reborn()

    class Silent(type(world.lightning)):  # type: ignore[misc]
        """It answers nothing about payments."""

        async def payment(self, bolt11: str) -> Payment:
            return Payment(Outcome.UNKNOWN, reason="start it")

    talking, world.lightning.__class__ = world.lightning.__class__, Silent
    world.clock.at += PERIOD
    error = await refusal(world)
    assert isinstance(error, PaymentOpen)
    assert "start it" in str(error)
    world.lightning.__class__ = talking
    assert [paid.period for paid in (await pay(world)).paid] == [2]
    assert world.received_msat() == 120_000


async def test_growth_that_our_daemon_will_never_pay_says_when_to_ask_again(world: World) -> None:
    world.clock.at = START
    world.network.fates = ["record"]
    with pytest.raises(PaymentOpen):
        await buy(world.purse, world.entry, 21 * GIB)
    with pytest.raises(InvoiceLost, match="in 60 minutes"):
        await buy(world.purse, world.entry, 21 * GIB)
    assert world.received_msat() == 40_000


async def test_a_share_that_is_back_is_proven_under_a_new_nonce_once_an_audit_found_it(world: World) -> None:
    """A node repaired what it had lost: the answer to the old nonce stays bad, the next one is good and paid."""
    gone = next(iter(world.node.shares))
    world.node.lost.add(gone)
    for _ in range(2):
        assert isinstance(await refusal(world), ProofFailed)
        assert [one.share_id for one in await find_lost(world.purse, world.entry)] == [gone]
    world.node.lost.clear()
    assert isinstance(await refusal(world), ProofFailed)
    assert len(set(nonces(world))) == 1
    assert await find_lost(world.purse, world.entry) == []
    assert (await pay_one(world)).sampled == 7
    assert len(set(nonces(world))) == 2


# --- tokens ---------------------------------------------------------------------------------------------------------


async def test_tokens_that_run_out_are_warned_of_and_then_refused(world: World) -> None:  # P-W5
    for period in range(1, 25):
        world.clock.at = START + period * PERIOD
        outcome = await pay(world)
        assert len(outcome.paid) == 1
        assert outcome.proofs_left == 24 - period
        assert bool(outcome.warning) == (period >= 21)
    world.clock.at += PERIOD
    error = await refusal(world)
    assert isinstance(error, TokensUsedUp)
    assert len(error.shares) == 7
    assert len(nonces(world)) == 24


# --- status and audits ----------------------------------------------------------------------------------------------


async def test_the_status_shows_both_sides(world: World) -> None:  # MA-R11
    await pay_one(world)
    (row,) = await rent_status(world.purse)
    assert row.agrees
    assert (row.shares_in_catalog, row.rent_msat_per_period, row.paid_msat) == (7, 40_000, 80_000)
    assert row.next_due_at == START + 2 * PERIOD
    world.node.tamper = status(capacity_bytes=1)
    (row,) = await rent_status(world.purse)
    assert not row.agrees


async def test_the_status_of_a_node_that_does_not_answer_has_our_side(world: World) -> None:
    world.node.refuse = ErrorCode.SHUTTING_DOWN
    (row,) = await rent_status(world.purse)
    assert (row.status, row.agrees, row.ours is not None) == (None, False, True)
    assert "stopping" in row.error


async def test_channels_say_how_many_periods_they_last(world: World) -> None:
    await open_channel(world.purse, world.entry)
    (listed,) = await list_channels(world.purse)
    assert listed.periods_left == listed.channel.spendable_msat // 40_000


async def test_an_audit_finds_what_is_lost_and_only_that(world: World) -> None:
    assert await find_lost(world.purse, world.entry) == []
    gone, damaged = world.store(shares=2, size=100)
    world.node.lost.add(gone)
    data, tokens = world.node.shares[damaged]
    world.node.shares[damaged] = (flipped(data, 50), tokens)
    found = await find_lost(world.purse, world.entry)
    assert {(one.share_id, one.why) for one in found} == {(gone, HowLost.UNKNOWN), (damaged, HowLost.DAMAGED)}
    assert await find_lost(world.purse, world.entry, [gone]) == [one for one in found if one.share_id == gone]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"share_bytes": 1}, HowLost.WRONG_SIZE),
        ({"payload": b""}, HowLost.HASHES),
        ({"proof": b"x"}, HowLost.DAMAGED),
    ],
)
# MB-R23
async def test_an_audit_believes_only_the_merkle_path(world: World, change: dict[str, Any], why: HowLost) -> None:
    world.node.tamper = lambda reply: replace(reply, **change) if isinstance(reply, AuditShareReply) else reply
    assert {one.why for one in await find_lost(world.purse, world.entry)} == {why}
