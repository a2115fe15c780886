"""A Lightning daemon that goes away, or cannot be used: told once, looked at again, and nothing else stops."""

from __future__ import annotations

import io
from typing import Any

import pytest
import trio
from node_world import MIB, PERIOD, START_AT, World, eventually

from lnstore import logs
from lnstore.node import binding as binding_module
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.messages import AccountState, ChannelInfo, ChannelInfoReply, GetShare, GetShareReply

LOST = "lightning daemon cannot be used"
BACK = "lightning daemon answers"


def told(log: io.StringIO) -> list[str]:
    """What the log said of the daemon so far, as LOST and BACK."""
    return [what for line in log.getvalue().splitlines() for what in (LOST, BACK) if what in line]


@pytest.mark.parametrize(
    "change", [{"up": False}, {"version": "v24.08"}, {"synced": False}, {"network": "bitcoin"}, {"lightning_id": b""}]
)
async def test_a_node_whose_daemon_cannot_be_used_serves_what_is_paid_for(
    world: World, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads and writes for its clients, makes no invoice, evicts nobody, says so once, and goes on by itself."""
    monkeypatch.setattr(binding_module, "HEALTH_SECONDS", 0.01)
    monkeypatch.setattr(binding_module, "BACKOFF_SECONDS", (0.01, 0.02))
    if "lightning_id" in change:
        change = {"lightning_id": type(world.daemon.lightning_id)(b"\x03" * 33)}
    log = io.StringIO()
    logs.configure("info", log)
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        await client.deposit(1000)
        share_id = await client.put(b"x" * 100)
        before = {name: getattr(world.daemon, name) for name in change}
        for name, value in change.items():
            setattr(world.daemon, name, value)
        await eventually(lambda: told(log) == [BACK, LOST])
        assert (await client.ask(GetShare(share_id=share_id, offset=0, length=0), GetShareReply)).payload == b"x" * 100
        await client.put(b"y" * 100)
        for message in (ChannelInfo(), client.rent_request(node.address, await client.status())):
            assert await client.refused(message) is ErrorCode.LIGHTNING_UNAVAILABLE
        world.clock.time = START_AT + PERIOD
        await node.node.billing.step()
        assert (await client.status()).state is AccountState.ACTIVE
        await trio.sleep(0.1)  # some looks later
        assert told(log) == [BACK, LOST]
        for name, value in before.items():
            setattr(world.daemon, name, value)
        await eventually(lambda: told(log) == [BACK, LOST, BACK])
        await client.ask(ChannelInfo(), ChannelInfoReply)
        await node.node.collector.wait_caught_up()
        assert node.node.collector.is_caught_up


async def test_a_daemon_that_fails_a_request_is_looked_at_at_once(world: World) -> None:
    """A client's request tells of the failure before the node's own next look does."""
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        confirmed = node.node.context.binding.confirmed
        assert confirmed.is_set()
        world.daemon.up = False  # nobody who waits at the daemon hears of it
        ask = client.rent_request(node.address, await client.status())
        assert await client.refused(ask) is ErrorCode.LIGHTNING_UNAVAILABLE
        assert not node.node.context.binding.confirmed.is_set()
        world.daemon.up = True
        await node.node.context.binding.confirmed.wait()
