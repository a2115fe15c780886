"""Lives of an agent: a year of nodes that die, forget, overcharge and raise prices; kills between any two steps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from agent_world import DAY, AgentWorld, KeepingNode, open_agent_world
from money_world import PERIOD, START, Killed

from lnstore.client.agent.report import report
from lnstore.client.agent.store import AgentStore
from lnstore.client.catalog import MANIFEST_SEGMENT
from lnstore.client.losses import Losses
from lnstore.client.renewing import find_change, sign_change
from lnstore.client.retiring import mark
from lnstore.config import AgentConfig
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import AccountStatusReply, InvoiceReply
from lnstore_protocol.stages import due_seconds

SELDOM = AgentConfig(rent_every=3 * DAY, audit_every=30 * DAY, repair_every=60 * DAY, backup_every=90 * DAY)
"""So that a year is short for a test."""


def open_alerts(world: AgentWorld) -> set[str]:
    return {alert.subject for alert in AgentStore(world.catalog).alerts() if alert.closed_at is None}


def check_paid(node: KeepingNode, periods: int) -> list[str]:
    """Each period once and in order, the first one with the capacity."""
    return [f"rent/{period}" for period in range(1, periods + 1)]


async def test_a_year(tmp_path: Path) -> None:
    """Rent is never paid twice, never late and never for what is not proven; what needs a person is told and ends."""
    async with open_agent_world(tmp_path, 3, agent=SELDOM) as world:
        honest, dying, forgetful = world.nodes

        async def live(days: int) -> set[str]:
            """Until so many days since the start; an honest node that answers is never unpaid meanwhile."""
            while world.clock.at < START + days * DAY:
                await world.live(min(world.clock.at + 3 * DAY, START + days * DAY))
                assert honest.open.paid_until_at > world.clock.at
            return open_alerts(world)

        assert await live(50) == set()
        dying.away = True
        assert await live(58) == {"failing", "account"}  # the node does not answer, and its rent is due
        dying.away = False
        assert await live(62) == set()
        assert dying.open.paid_until_at > world.clock.at
        forgetful.forget()
        before = world.rents(forgetful)
        assert "failing" not in await live(95)
        assert Losses(world.catalog).all() == []  # what it lost lies elsewhere
        assert len(world.rents(forgetful)) == len(before) + 1  # late, and only once nothing of what is lost is left
        dying.tamper = greedy
        assert await live(122) >= {"failing"}
        dying.tamper = lambda reply: reply
        assert await live(300) == set()
        honest.tamper = partial(dearer, honest, world.clock.at)
        assert await live(304) == {"prices"}
        async with world.session() as (purse, _):
            found = await find_change(purse, purse.catalog.find_node("n0"))
            assert found is not None
            await sign_change(purse, found.change)
        honest.tamper = lambda reply: reply
        assert await live(365) == set()
        for node in world.nodes:
            assert world.rents(node) == check_paid(node, 12)
            assert node.open.paid_until_at == START + 13 * PERIOD
        assert max(run.failures for run in AgentStore(world.catalog).runs().values()) == 0


def dearer(node: KeepingNode, announced_at: int, reply: Any) -> Any:
    """Other prices, for a period after this year."""
    if not isinstance(reply, AccountStatusReply):
        return reply
    terms = replace(node.agreed, price_msat_per_gib_month=Msat(3000), valid_until_at=START + 20 * PERIOD)
    encoded = terms.sign(node.identity).encoded
    return replace(reply, announced_terms=encoded, announced_period=13, announced_at=announced_at)


def greedy(reply: Any) -> Any:
    """An invoice that says less than it asks for."""
    return replace(reply, amount_msat=Msat(reply.amount_msat + 1)) if isinstance(reply, InvoiceReply) else reply


async def test_a_laptop_that_slept_catches_up_once(tmp_path: Path) -> None:
    """Three weeks asleep: each job runs once, and the rent that fell due meanwhile is paid once."""
    async with open_agent_world(tmp_path, 2) as world:
        await world.round()
        world.clock.at = START + PERIOD + 9 * DAY
        world.ran.clear()
        await world.round()
        assert sorted({(ran.kind, ran.petname) for ran in world.ran}, key=str) == sorted(
            ((ran.kind, ran.petname) for ran in world.ran), key=str
        )
        assert [world.rents(node) for node in world.nodes] == [["rent/1"], ["rent/1"]]
        world.ran.clear()
        again = await world.round()
        assert (again.ran, world.ran) == ((), [])


async def test_killed_between_any_two_steps_it_pays_once(tmp_path: Path) -> None:
    """One period for each commit of a round: there the process dies, before the commit or just after it."""
    async with open_agent_world(tmp_path, 1, total=1) as world:
        await world.round()
        periods, survived, commit = 0, 0, 0
        while survived < 2:
            periods += 1
            world.clock.at = START + periods * PERIOD - due_seconds(PERIOD) + 1
            for strike in ("dies_before", "dies_after"):
                setattr(world.catalog, strike, commit)
                try:
                    await world.round()
                    survived += 1
                except Killed:
                    pass
                world.reborn()
                world.clock.at += 1
            done = await world.round()
            assert done.alerts == ()
            assert world.rents(world.nodes[0]) == check_paid(world.nodes[0], periods)
            commit += 1
        assert commit > 8


async def test_an_unknown_payment_is_waited_for_and_never_made_anew(tmp_path: Path) -> None:
    """The daemon dies while it pays, then the payment hangs; nothing else is paid for that period."""
    async with open_agent_world(tmp_path, 1, total=1) as world:
        await world.round()
        world.clock.at = START + PERIOD - due_seconds(PERIOD) + 1
        world.network.fates.append("hold")
        await world.round()
        await world.live(world.clock.at + DAY // 2)
        assert len(world.lightning.sent) == 3  # capacity, deposit, and one payment of rent
        assert open_alerts(world) == {"failing"}
        world.lightning.release()
        await world.live(world.clock.at + DAY)
        assert (open_alerts(world), world.rents(world.nodes[0])) == (set(), ["rent/1"])
        assert len(world.lightning.sent) == 3


async def test_budgets_bind_the_agent(tmp_path: Path) -> None:
    """Nothing is paid beyond one; a person is told at once and what to do, and the page says so."""
    async with open_agent_world(tmp_path, 1, total=1) as world:
        spent = sum(sent.amount_msat for sent in world.lightning.sent)
        world.profile.config = replace(world.profile.config, budget_msat_total=spent + 500)
        world.clock.at = START + PERIOD - due_seconds(PERIOD) + 1
        count = len(world.lightning.sent)
        done = await world.round()
        (alert,) = done.alerts
        assert "Raise budget_msat_total in client.toml" in alert.text
        async with world.session() as (purse, _):
            page = report(purse, world.profile.directory)
        assert page.alerts == done.alerts
        assert [(use.setting, use.left_msat) for use in page.budgets] == [("budget_msat_total", 500)]
        world.profile.config = replace(world.profile.config, budget_msat_total=None)
        assert len(world.lightning.sent) == count
        await world.live(world.clock.at + DAY)
        assert (open_alerts(world), world.rents(world.nodes[0])) == (set(), ["rent/1"])


async def test_what_a_node_held_that_is_gone_is_stored_elsewhere(tmp_path: Path) -> None:
    """After days without an answer while others answer; not when it is our own network that is gone."""
    settings = replace(SELDOM, gone_after=2 * DAY, repair_every=DAY)
    async with open_agent_world(tmp_path, 3, agent=settings) as world:
        lost = world.nodes[2]
        await world.round()
        for node in world.nodes:
            node.away = True
        await world.live(START + 9 * DAY)
        held = {share.file_id for share in world.catalog.shares_at(lost.node_id)}
        assert held == {file.file_id for file in world.catalog.files()}
        for node in world.nodes[:2]:
            node.away = False
        await world.live(START + 11 * DAY)
        (gone,) = [alert for alert in AgentStore(world.catalog).alerts() if alert.job == "repair"]
        assert gone.text.startswith("n2 has not answered since 2027-01-1")
        # Of a file that lies at the other two, a further copy of the manifest is all it had; backups are made anew.
        files = {file.file_id for file in world.catalog.files() if file.folder is None}
        left = [share for share in world.catalog.shares_at(lost.node_id) if share.file_id in files]
        assert {share.segment for share in left} <= {MANIFEST_SEGMENT}
        lost.away = False
        await world.live(START + 35 * DAY)
        assert open_alerts(world) == set()
        assert [world.rents(node) for node in world.nodes] == [["rent/1"]] * 3


async def test_a_node_that_is_to_be_retired_is_left_once_others_have_room(tmp_path: Path) -> None:
    """What `nodes retire` began goes on by itself; afterwards there is nothing to be done at the node."""
    async with open_agent_world(tmp_path, 3) as world:
        await world.round()
        away, leaving = world.nodes[1:]
        for node in world.nodes[:2]:
            node.away = True
        mark(world.catalog, leaving.node_id, retiring=True)
        done = await world.round()
        (stuck,) = [alert for alert in done.alerts if alert.job == "retire"]
        assert "find no other node" in stuck.text
        assert "lnstore nodes retire n2 --dry-run" in stuck.text
        for node in world.nodes[:2]:
            node.away = False
        await world.live(world.clock.at + 2 * DAY)
        assert (open_alerts(world), away.open.capacity_bytes) == (set(), 8 << 20)
        assert world.catalog.node(leaving.node_id).agreement is None
        assert leaving.shares == {}
        assert not [job for job in AgentStore(world.catalog).runs() if leaving.node_id.hex() in job or job == "retire"]


async def test_one_job_that_fails_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a fault of lnstore itself; its text, which may hold anything, is not shown."""
    async with open_agent_world(tmp_path, 2) as world:
        true = world.nodes[0].request

        async def broken(message: Any, *, timeout_seconds: float) -> Any:
            if type(message).__name__ == "AuditShare":
                raise KeyError("a secret")
            return await true(message, timeout_seconds=timeout_seconds)

        monkeypatch.setattr(world.nodes[0], "request", broken)
        done = await world.round()
        failed = [ran for ran in world.ran if not ran.ok]
        assert [(ran.kind, ran.petname) for ran in failed] == [("audit", "n0")]
        assert "secret" not in failed[0].result
        assert "KeyError in test_agent_life, line" in failed[0].result
        assert [alert.text for alert in done.alerts] == [f"n0: {failed[0].result}"]
        assert {ran.kind for ran in world.ran if ran.ok} == {"channels", "tokens", "rent", "audit", "repair", "backup"}
