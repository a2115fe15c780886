"""Renting capacity and deposits: checked against our own computation, credited, and never paid twice."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from money_world import GIB, PERIOD, START, FragileCatalog, Killed, World, make_world

from lnstore.client.buying import Purchase, buy, check_growth
from lnstore.client.money_errors import (
    AccountMissing,
    CapacityUnfit,
    InvoiceFault,
    InvoiceRefused,
    NotCredited,
    PaymentFailed,
    PaymentOpen,
    TermsRefused,
)
from lnstore.client.node_errors import ConnectionLost
from lnstore.client.nodes import add_node
from lnstore.client.payments import ATTEMPT_SECONDS
from lnstore.client.quote import Offered, capacity_for, quote
from lnstore.client.rent import pay_rent
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import LightningId, Msat, NodeAddress, NodeId
from lnstore_protocol.messages import AddCapacity, AddCapacityReply, InvoiceReply
from lnstore_protocol.prices import Prices
from lnstore_protocol.terms import MONTH_SECONDS, Agreement, ChannelPolicy, Terms, rent_msat


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = await make_world(tmp_path)
    await add_node(made.purse, made.node.address)
    return made


async def test_capacity_and_deposit_are_paid_and_credited(world: World) -> None:
    bought = await buy(world.purse, world.entry, 20 * GIB, deposit_msat=7000)
    assert bought.opened
    assert (bought.status.capacity_bytes, bought.status.deposit_msat) == (20 * GIB, 7000)
    assert [entry.amount_msat for entry in bought.payments] == [40_000, 7000]
    assert world.received_msat() == bought.paid_msat == 47_000
    balances = world.purse.wallet.balances()
    node = world.node.node_id.hex()
    assert balances == {f"capacity:{node}": 40_000, f"deposit:{node}": 7000, "lightning": -47_000}


async def test_the_same_command_again_pays_nothing(world: World) -> None:
    await buy(world.purse, world.entry, 20 * GIB, deposit_msat=7000)
    again = await buy(world.purse, world.entry, 20 * GIB, deposit_msat=7000)
    assert (again.opened, again.payments) == (False, ())


async def test_growth_in_the_middle_of_a_period_costs_its_part(world: World) -> None:
    await buy(world.purse, world.entry, 20 * GIB)
    world.clock.at += PERIOD // 2
    grown = await buy(world.purse, world.entry, 30 * GIB)
    assert [entry.amount_msat for entry in grown.payments] == [10_000]


async def test_capacity_outside_the_terms_is_refused_before_anything_is_paid(world: World) -> None:
    with pytest.raises(CapacityUnfit):
        await buy(world.purse, world.entry, 1)
    assert world.received_msat() == 0


async def test_prices_raised_above_a_lowered_limit_are_not_paid(world: World) -> None:
    await buy(world.purse, world.entry, GIB)
    lowered = replace(world.purse, config=replace(world.purse.config, maximum_msat_per_gib_month=1999))
    with pytest.raises(TermsRefused, match="maximum_msat_per_gib_month"):
        await buy(lowered, world.entry, 2 * GIB)


async def test_a_channel_is_opened_where_the_terms_require_one(tmp_path: Path) -> None:  # R-R25
    world = await make_world(tmp_path, channel_policy=ChannelPolicy.REQUIRED)
    await add_node(world.purse, world.node.address)
    await buy(world.purse, world.entry, GIB)
    (channel,) = world.lightning.open_channels
    assert channel.peer == world.node.lightning_id


def altered(**changes: Any) -> Any:
    def tamper(reply: Any) -> Any:
        return replace(reply, **changes) if isinstance(reply, AddCapacityReply) else reply

    return tamper


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"amount_msat": 40_001}, InvoiceFault.AMOUNT_DIFFERS),
        ({"capacity_bytes": 19 * GIB}, InvoiceFault.WRONG_CAPACITY),
        ({"capacity_bytes": 21 * GIB}, InvoiceFault.WRONG_CAPACITY),
        ({"until_at": START + 2 * PERIOD + 1}, InvoiceFault.WRONG_PERIOD),
        ({"until_at": START}, InvoiceFault.WRONG_PERIOD),
        ({"from_at": START - 5000}, InvoiceFault.WRONG_PERIOD),
        ({"from_at": START + 601}, InvoiceFault.WRONG_PERIOD),
        ({"from_at": START + 600}, InvoiceFault.OVERPRICED),
        ({"bolt11": "lnrubbish"}, InvoiceFault.UNREADABLE),
    ],
)
async def test_an_altered_offer_is_not_paid(world: World, changes: dict[str, Any], fault: InvoiceFault) -> None:
    world.node.tamper = altered(**changes)
    with pytest.raises(InvoiceRefused) as refused:
        await buy(world.purse, world.entry, 20 * GIB)
    assert refused.value.fault is fault
    assert world.received_msat() == 0
    assert world.purse.wallet.payments() == []


async def test_a_deposit_of_another_amount_than_asked_for_is_not_paid(world: World) -> None:
    world.node.tamper = lambda reply: (
        replace(reply, amount_msat=Msat(6999))
        if isinstance(reply, InvoiceReply) and not reply.capacity_bytes
        else reply
    )
    with pytest.raises(InvoiceRefused) as refused:
        await buy(world.purse, world.entry, GIB, deposit_msat=7000)
    assert refused.value.fault is InvoiceFault.AMOUNT_DIFFERS


async def test_a_connection_lost_between_invoice_and_credit_loses_no_money(world: World) -> None:
    """The node goes away once the invoice is sent, and is back a little later."""
    dial = world.purse.dial
    failures = itertools.count()

    async def flaky(address: NodeAddress) -> Any:
        asked = any(isinstance(message, AddCapacity) for message in world.node.asked)
        if asked and next(failures) < 3:
            raise ConnectionLost(address, "closed the connection")
        return await dial(address)

    bought = await buy(replace(world.purse, dial=flaky), world.entry, 20 * GIB)
    assert bought.status.capacity_bytes == 20 * GIB
    assert world.received_msat() == 40_000


async def test_what_the_node_does_not_credit_is_not_paid_again(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.node.credits = False
    for _ in range(2):
        with pytest.raises(NotCredited, match="not paid again"):
            await buy(world.purse, world.entry, 20 * GIB)
    assert sum(isinstance(message, AddCapacity) for message in world.node.asked) == 1
    world.node.credits = True
    assert (await buy(world.purse, world.entry, 20 * GIB)).status.capacity_bytes == 20 * GIB
    assert world.received_msat() == 40_000


async def test_a_stuck_payment_is_neither_asked_for_nor_paid_again(world: World) -> None:  # MA-W3
    world.network.fates = ["hold"]
    for _ in range(3):
        with pytest.raises(PaymentOpen):
            await buy(world.reborn(), world.entry, 20 * GIB)
        world.clock.at += ATTEMPT_SECONDS
    assert sum(isinstance(message, AddCapacity) for message in world.node.asked) == 1
    world.lightning.release()
    bought = await buy(world.reborn(), world.entry, 20 * GIB)
    assert bought.status.capacity_bytes == 20 * GIB
    assert world.received_msat() == 40_000


async def test_after_a_failed_payment_the_command_can_be_repeated(world: World) -> None:
    world.network.fates = ["fail"]
    with pytest.raises(PaymentFailed):
        await buy(world.purse, world.entry, 20 * GIB)
    world.clock.at += 1200
    await buy(world.purse, world.entry, 20 * GIB)
    assert world.received_msat() == 40_000


async def test_rent_without_an_account_says_how_to_get_one(world: World) -> None:
    (outcome,) = await pay_rent(world.purse, [world.entry])
    assert isinstance(outcome.error, AccountMissing)
    assert "lnstore rent buy" in str(outcome.error)


# --- killed anywhere ------------------------------------------------------------------------------------------------


async def run(world: World) -> Purchase:
    return await buy(world.purse, world.entry, 20 * GIB, deposit_msat=7000)


async def test_killed_before_or_after_any_write_or_payment_it_pays_exactly_once(tmp_path: Path) -> None:
    """Every point between two writes: die there, start anew, and look at what was paid."""
    rehearsal = await make_world(tmp_path)
    await add_node(rehearsal.purse, rehearsal.node.address)
    FragileCatalog.commits = 0
    await run(rehearsal)
    commits = FragileCatalog.commits
    assert commits >= 5
    deaths: list[dict[str, Any]] = [{"dies_before": n} for n in range(commits)]
    deaths += [{"dies_after": n} for n in range(commits)]
    deaths += [{"fates": fates} for fates in (["kill before"], ["kill after"], ["", "kill before"], ["", "kill after"])]
    for number, death in enumerate(deaths):
        directory = tmp_path / str(number)
        directory.mkdir()
        world = await make_world(directory)
        await add_node(world.purse, world.node.address)
        world.network.fates = death.pop("fates", [])
        for name, count in death.items():
            setattr(world.purse.catalog, name, count)
        with pytest.raises(Killed):
            await run(world)
        world.reborn()
        await run(world)
        assert world.received_msat() == 47_000, death
        assert -world.purse.wallet.balances()["lightning"] == 47_000, death
        assert world.purse.wallet.open_payments() == []
        world.purse.catalog.close()
    rehearsal.purse.catalog.close()


@given(fates=st.lists(st.sampled_from(["", "fail", "hold", "lose", "drop", "kill before", "kill after"]), max_size=6))
@settings(max_examples=25, deadline=None)
def test_whatever_becomes_of_its_payments_a_purchase_ends_paid_once(fates: list[str]) -> None:
    """Any sequence of failures, losses and deaths, each followed by the same command in a new process."""

    async def scenario(directory: Path) -> None:
        world = await make_world(directory)
        await add_node(world.purse, world.node.address)
        world.network.fates = list(fates)
        for _ in range(len(fates) + 1):
            try:
                await run(world)
            except (Killed, PaymentFailed, PaymentOpen):
                world.lightning.release()
                world.clock.at += 7
            world.reborn()
        await run(world)
        assert world.received_msat() == 47_000
        assert -world.purse.wallet.balances()["lightning"] == 47_000
        world.purse.catalog.close()

    with tempfile.TemporaryDirectory() as directory:
        trio.run(scenario, Path(directory))


# --- decisions and quotes -------------------------------------------------------------------------------------------


def terms(**values: Any) -> Terms:
    given: dict[str, Any] = {
        "node_id": NodeId(Identity(b"n" * 32).public_key),
        "lightning_id": LightningId(b"\x02" * 33),
        "network": "regtest",
        "price_msat_per_gib_month": Msat(2000),
        "egress_msat_per_gib": Msat(1000),
        "ingress_msat_per_gib": Msat(0),
        "period_seconds": PERIOD,
        "grace_seconds": 60,
        "minimum_capacity_bytes": 1 << 20,
        "maximum_capacity_bytes": 1 << 40,
        "channel_policy": ChannelPolicy.ANY,
        "minimum_channel_sat": 1,
        "valid_from_at": START,
        "valid_until_at": START + 60,
        "price_periods": 12,
    }
    return Terms(**(given | values))


def agreement(period: int) -> Agreement:
    signed = terms(period_seconds=period).sign(Identity(b"n" * 32))
    return Agreement.propose(signed, Identity(b"c" * 32), START)


@given(
    st.integers(1, 1 << 40),
    st.integers(60, PERIOD),
    st.integers(-(10**4), 10**7),
    st.integers(-(10**4), 10**4),
    st.integers(-(10**7), 10**7),
)
def test_no_growth_costs_more_than_its_bytes_until_the_end_of_the_next_period(
    added: int, period: int, elapsed: int, shift: int, length: int
) -> None:
    now = START + elapsed
    reply = InvoiceReply(
        bolt11="", amount_msat=Msat(0), from_at=now + shift, until_at=now + shift + length, capacity_bytes=added
    )
    limit = Msat(0)
    with contextlib.suppress(InvoiceRefused):
        limit = check_growth(
            reply, prices=Prices.of([agreement(period)]), current_bytes=0, wanted_bytes=added, now=now, petname="node"
        )
    if not limit:
        return
    assert limit <= max(rent_msat(added, 2 * period + 4200, 2000), 1)
    assert limit == max(rent_msat(added, length, 2000), 1)


async def test_a_quote_adds_up(world: World) -> None:
    node = world.entry
    dear = Offered(node=node, terms=terms(price_msat_per_gib_month=Msat(4000)))
    quoted = quote(20 * GIB, 3, [dear, Offered(node=node, terms=terms())], channel_periods=6, coding=None)
    assert [row.rent_msat for row in quoted.rows] == [120_000, 240_000]
    assert quoted.total_msat == 360_000
    assert quoted.read_once_msat == 40_000
    assert all(row.chosen and row.periods == 3 for row in quoted.rows)


async def test_a_quote_counts_the_periods_that_are_paid_whatever_their_length(world: World) -> None:
    offer = Offered(node=world.entry, terms=terms(period_seconds=7 * 86_400))
    (row,) = quote(GIB, 1, [offer], channel_periods=6, coding=None).rows
    assert row.periods == 5
    assert row.rent_msat == 5 * rent_msat(GIB, 7 * 86_400, 2000)
    assert row.rent_msat >= rent_msat(GIB, MONTH_SECONDS, 2000)


@given(st.integers(0, 1 << 43), st.integers(1, 16), st.integers(0, 16))
def test_the_capacity_for_a_file_covers_its_part_and_grows_with_it(size: int, needed: int, more: int) -> None:
    capacity = capacity_for(size, needed, needed + more)
    assert capacity % (1 << 20) == 0
    assert capacity >= size / needed
    assert capacity <= size / needed * 1.01 + (2 << 20) + 0.0001 * size * (needed + more)
