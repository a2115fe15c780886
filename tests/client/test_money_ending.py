"""Renting less and leaving: what the client asks for, remembers, pays after that, and believes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from money_world import GIB, PERIOD, START, FragileCatalog, Killed, World, make_world

from lnstore.client.buying import buy
from lnstore.client.capacity import Rented, Shrink, rented
from lnstore.client.ending import Left, Shrunk, leave, plan_leave, shrink
from lnstore.client.money_errors import (
    AccountMissing,
    CapacityUnfit,
    InvoiceFault,
    InvoiceRefused,
    NodeUntrusted,
    PaymentOpen,
)
from lnstore.client.node_errors import NodeRefused
from lnstore.client.nodes import add_node
from lnstore.client.rent import pay_rent
from lnstore.client.rent_status import RentStatus, rent_status
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.messages import AccountStage, ErrorReply, LeaveReply, ShrinkCapacity, ShrinkCapacityReply
from lnstore_protocol.terms import refund_msat

DAY = 86_400


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = await make_world(tmp_path, refund_permille=500)
    await add_node(made.purse, made.node.address)
    await buy(made.purse, made.entry, 20 * GIB)
    return made


async def _status(world: World) -> RentStatus:
    (status,) = await rent_status(world.purse)
    return status


async def _rent(world: World, *, ahead: int = 0) -> list[int]:
    (outcome,) = await pay_rent(world.purse, ahead=ahead)
    if outcome.error is not None:
        raise outcome.error
    return [paid.amount_msat for paid in outcome.paid]


# --- renting less -----------------------------------------------------------------------------------------------------


async def test_from_the_next_period_on_the_smaller_capacity_is_paid(world: World) -> None:  # RP-R4
    for _again in range(2):
        done = await shrink(world.purse, world.entry, 5 * GIB)
        assert (done.capacity_bytes, done.next_capacity_bytes, done.from_period) == (20 * GIB, 5 * GIB, 1)
        assert (done.from_at, done.rent_msat) == (START + PERIOD, 10_000)
    status = await _status(world)
    assert (status.agrees, status.rent_msat_per_period) == (True, 10_000)
    assert await _rent(world, ahead=1) == [10_000]
    assert (await _status(world)).agrees


async def test_a_node_that_goes_on_charging_the_larger_capacity_is_not_paid(world: World) -> None:
    await shrink(world.purse, world.entry, 5 * GIB)
    world.node.open.shrink = None
    with pytest.raises(InvoiceRefused) as refused:
        await _rent(world, ahead=1)
    assert refused.value.fault is InvoiceFault.WRONG_CAPACITY
    assert not (await _status(world)).agrees


async def test_rent_that_was_asked_for_before_is_paid_as_it_was(world: World) -> None:
    """Its invoice stands, the shrink is for the period after."""
    world.network.fates = ["hold"]
    (outcome,) = await pay_rent(world.purse, ahead=1)
    assert outcome.error is not None
    done = await shrink(world.purse, world.entry, 5 * GIB)
    assert done.from_period == 2
    world.lightning.release()
    await _rent(world, ahead=1)
    world.clock.at += PERIOD
    assert await _rent(world, ahead=1) == [10_000]
    assert (await _status(world)).agrees


async def test_renting_more_takes_a_planned_shrink_back(world: World) -> None:
    await shrink(world.purse, world.entry, 5 * GIB)
    kept = await buy(world.purse, world.entry, 4 * GIB)
    assert (kept.payments, kept.status.shrink_to_bytes) == ((), 5 * GIB), "it has that much in any case"
    back = await buy(world.purse, world.entry, 8 * GIB)
    assert back.payments == (), "nothing is paid for what is rented still"
    assert world.node.open.shrink == (8 * GIB, 1)
    more = await buy(world.purse, world.entry, 30 * GIB)
    assert len(more.payments) == 1
    assert await _rent(world, ahead=1) == [60_000]
    assert (await _status(world)).agrees


async def test_capacities_that_cannot_be_come_to_are_refused_without_asking(world: World) -> None:
    world.store(shares=3)
    for wrong in (21 * GIB, 1, 100_000):
        with pytest.raises(CapacityUnfit):
            await shrink(world.purse, world.entry, wrong)
    assert not any(isinstance(asked, ShrinkCapacity) for asked in world.node.asked)


async def test_what_the_node_refuses_is_forgotten(world: World) -> None:
    def refuse(reply: Any) -> Any:
        if isinstance(reply, ShrinkCapacityReply):
            raise NodeRefused(world.node.address, ErrorReply(code=ErrorCode.CAPACITY_REFUSED, message="no"))
        return reply

    world.node.tamper = refuse
    with pytest.raises(NodeRefused):
        await shrink(world.purse, world.entry, 5 * GIB)
    world.node.open.shrink = None
    assert await _rent(world, ahead=1) == [40_000]


@pytest.mark.parametrize("changes", [{"next_capacity_bytes": 6 * GIB}, {"from_period": 3}])
async def test_a_node_that_arranges_something_else_is_named(world: World, changes: dict[str, int]) -> None:
    def tamper(reply: Any) -> Any:
        return replace(reply, **changes) if isinstance(reply, ShrinkCapacityReply) else reply

    world.node.tamper = tamper
    with pytest.raises(NodeUntrusted):
        await shrink(world.purse, world.entry, 5 * GIB)


async def _until_it_lives(world: World, work: Callable[[], Awaitable[Any]], *, after: bool) -> list[Any]:
    """Do it with a death at each of its commits in turn, then once more, for each of them anew."""
    results = []
    for commit in range(20):
        purse = world.reborn()
        assert isinstance(purse.catalog, FragileCatalog)
        if after:
            purse.catalog.dies_after = commit
        else:
            purse.catalog.dies_before = commit
        try:
            results.append(await work())
        except Killed:
            world.reborn()
            results.append(await work())
        else:
            world.reborn()
            return results
    raise AssertionError("it has no end")


@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_write_a_shrink_is_found_out_and_paid_as_it_is(
    world: World, *, after: bool
) -> None:  # RP-W6
    async def work() -> Shrunk:
        return await shrink(world.purse, world.entry, 5 * GIB)

    for done in await _until_it_lives(world, work, after=after):
        assert done.next_capacity_bytes == 5 * GIB
    assert await _rent(world, ahead=1) == [10_000]
    assert (await _status(world)).agrees


@pytest.mark.parametrize("begun", [False, True])
async def test_a_shrink_whose_answer_was_lost_is_found_in_the_status(world: World, *, begun: bool) -> None:
    purse = world.reborn()
    assert isinstance(purse.catalog, FragileCatalog)
    purse.catalog.dies_before = 1  # the first commit writes down what is asked for
    with pytest.raises(Killed):
        await shrink(purse, world.entry, 5 * GIB)
    world.reborn()
    if begun:
        world.clock.at += PERIOD
        account = world.node.open
        account.capacity_bytes, account.shrink = 5 * GIB, None
    status = await _status(world)
    assert status.agrees
    assert await _rent(world, ahead=1) == ([10_000, 10_000] if begun else [10_000])


async def test_a_shrink_that_never_arrived_is_forgotten(world: World) -> None:
    purse = world.reborn()
    assert isinstance(purse.catalog, FragileCatalog)
    purse.catalog.dies_after = 0
    with pytest.raises(Killed):
        await shrink(purse, world.entry, 5 * GIB)
    world.reborn()
    assert (await _status(world)).agrees
    assert await _rent(world, ahead=1) == [40_000]


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 10), st.integers(0, 3)), max_size=8),
    st.integers(0, 12),
)
def test_what_is_rented_is_what_the_last_thing_that_begun_by_then_made_it(
    events: list[tuple[bool, int, int]], period: int
) -> None:
    """Against a model that knows when each shrink begins and takes a growth only after it has begun."""
    growths: list[tuple[int, int]] = []
    shrinks: list[Shrink] = []
    capacity_in = [0] * 13  # what each period is charged on
    now = 0
    for grows, size, later in events:
        if grows:
            now = max([now, *(one.from_period or 0 for one in shrinks)])
            growths.append((len(growths), size))
            capacity_in[now:] = [capacity_in[now] + size] * (13 - now)
        elif capacity_in[now] > size:
            begins = max([now + 1, *(one.from_period or 0 for one in shrinks if one.growths == len(growths))])
            begins = min(begins + later, 12)
            shrinks.append(Shrink(len(shrinks), size, len(growths), begins))
            capacity_in[begins:] = [size] * (13 - begins)
    ours = rented(growths, shrinks)
    if period >= max([now, *((one.from_period or 0) - 1 for one in shrinks)]):  # all before is paid
        assert ours.in_period(12) == ours.in_the_end == capacity_in[12]
        assert ours.in_period(period) == capacity_in[period]
    assert rented([], []) == Rented(0)


# --- leaving ----------------------------------------------------------------------------------------------------------


async def test_leaving_gives_back_by_rule_and_forgets_what_was_there(world: World) -> None:  # RP-R6
    world.store(shares=3)
    world.clock.at += 10 * DAY
    due = refund_msat(20 * GIB, PERIOD - 10 * DAY, 2000, 500)
    planned = await plan_leave(world.purse, world.entry)
    assert (planned.refund_msat, planned.shares, planned.paid_until_at) == (due, 3, START + PERIOD)
    left = await leave(world.purse, world.entry)
    assert (left.refund_msat, left.due_msat, left.deposit_msat) == (due, due, due)
    assert world.purse.catalog.shares_at(world.node.node_id) == []
    assert await pay_rent(world.purse) == [], "there is nothing to pay for any more"
    with pytest.raises(AccountMissing):
        await leave(world.purse, world.entry)
    anew = await buy(world.purse, world.entry, 2 * GIB)
    assert (anew.opened, anew.status.capacity_bytes) == (True, 2 * GIB)


@pytest.mark.parametrize("changes", [{"refund_msat": 1}, {"left_at": START + PERIOD}])
async def test_a_node_that_gives_back_less_is_named(world: World, changes: dict[str, Any]) -> None:
    def tamper(reply: Any) -> Any:
        return replace(reply, **changes) if isinstance(reply, LeaveReply) else reply

    world.node.tamper = tamper
    with pytest.raises(NodeUntrusted, match="gave back"):
        await leave(world.purse, world.entry)
    assert world.entry.agreement is None


@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_write_leaving_is_done_once(tmp_path: Path, *, after: bool) -> None:
    for commit in range(3):
        (tmp_path / str(commit)).mkdir()
        world = await make_world(tmp_path / str(commit), refund_permille=500)
        await add_node(world.purse, world.node.address)
        await buy(world.purse, world.entry, 20 * GIB)
        purse = world.reborn()
        assert isinstance(purse.catalog, FragileCatalog)
        if after:
            purse.catalog.dies_after = commit
        else:
            purse.catalog.dies_before = commit
        left: Left | None = None
        try:
            left = await leave(purse, world.entry)
        except Killed:
            world.reborn()
            if world.entry.agreement is not None:
                left = await leave(world.purse, world.entry)
        assert left is None or left.refund_msat == 20_000
        assert world.node.open.deposit_msat == 20_000
        assert world.entry.agreement is None


async def test_nobody_leaves_while_a_payment_is_under_way(world: World) -> None:  # RP-W9
    world.network.fates = ["hold"]
    (outcome,) = await pay_rent(world.purse, ahead=1)
    assert outcome.error is not None
    with pytest.raises(PaymentOpen):
        await leave(world.purse, world.entry)


# --- warnings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "stage", "warned", "says"),
    [
        (0, AccountStage.ACTIVE, False, ""),
        (20, AccountStage.ACTIVE, True, "rent is due from"),
        (23, AccountStage.DUE, False, "rent is due; from"),
        (27, AccountStage.DUE, True, "rent is due; from"),
        (30, AccountStage.GRACE, False, "rent is overdue"),
        (34, AccountStage.GRACE, True, "rent is overdue"),
        (37, AccountStage.LAPSED, True, "has lapsed"),
    ],
)
async def test_a_person_is_warned_by_our_own_books(
    world: World, day: int, stage: AccountStage, says: str, *, warned: bool
) -> None:  # R-R7, RP-R1
    """The node says nothing of stages here, and is still thought active."""
    world.clock.at += day * DAY
    status = await _status(world)
    assert status.outlook is not None
    assert (status.outlook.stage, status.outlook.warned) == (stage, warned)
    assert (says in status.warning) if says else not status.warning


async def test_rent_is_paid_once_it_is_due_and_not_before(world: World) -> None:
    world.clock.at += 23 * DAY - 1
    assert await _rent(world) == []
    world.clock.at += 1
    assert await _rent(world) == [40_000]
    assert not (await _status(world)).warning
