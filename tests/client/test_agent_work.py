"""What the agent's jobs say of what they found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agent_world import DAY, AgentWorld, open_agent_world
from money_world import PERIOD, START

from lnstore.client.agent.store import AgentStore, Alert
from lnstore.client.node_errors import NodeUnreachable
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import AccountStatusReply, AuditShare
from lnstore_protocol.stages import due_seconds


def alert(world: AgentWorld, job: str) -> Alert:
    (found,) = [one for one in AgentStore(world.catalog).alerts() if one.job.startswith(job)]
    return found


async def test_a_channel_that_was_closed_is_told_of(tmp_path: Path) -> None:
    async with open_agent_world(tmp_path, 1, total=1) as world:
        channel_id = await world.lightning.open_channel(
            world.nodes[0].lightning_id, amount_sat=100_000, push_msat=Msat(0), announce=False
        )
        assert (await world.round()).alerts == ()
        await world.lightning.close_channel(channel_id, unilateral_timeout_seconds=1)
        await world.live(START + DAY)
        assert "open another one with: lnstore channel open n0" in alert(world, "channels").text


async def test_numbers_that_are_not_ours_are_told_of(tmp_path: Path) -> None:
    """By name, with the command that compares them; they end with the difference."""
    async with open_agent_world(tmp_path, 1, total=1) as world:
        node = world.nodes[0]
        node.tamper = lambda reply: replace(reply, shares=0) if isinstance(reply, AccountStatusReply) else reply
        await world.round()
        assert alert(world, "rent").text == (
            "n0: the node's numbers differ from your own books (shares); compare them with: lnstore rent status"
        )
        node.tamper = lambda reply: reply
        await world.live(START + DAY)
        assert AgentStore(world.catalog).alerts() == []


async def test_a_node_that_answered_falsely_and_then_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not paid, and looked at as soon as it answers."""
    async with open_agent_world(tmp_path, 2, needed=1) as world:
        await world.round()
        node = world.nodes[0]
        node.shares = {share_id: (bytes(len(data)), tokens) for share_id, (data, tokens) in node.shares.items()}
        true = node.request

        async def request(message: Any, *, timeout_seconds: float) -> Any:
            if isinstance(message, AuditShare):
                raise NodeUnreachable(node.address, "is gone again")
            return await true(message, timeout_seconds=timeout_seconds)

        monkeypatch.setattr(node, "request", request)
        world.clock.at = START + PERIOD - due_seconds(PERIOD) + 1
        await world.round()
        said = {one.subject: one.text for one in AgentStore(world.catalog).alerts() if one.job.startswith("rent/")}
        assert "nothing was paid" in said["failing"]
        assert said["diagnosis"] == "n0 could not be audited: is gone again"
        assert world.rents(node) == []
        monkeypatch.setattr(node, "request", true)
        await world.live(world.clock.at + DAY)
        said = {one.subject: one.text for one in AgentStore(world.catalog).alerts()}
        assert "lost" in said["loss"]
