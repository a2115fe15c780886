"""What a running node tells its operator of its channels, without being asked."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from node_world import MIB, World, eventually

from lnstore import logs
from lnstore.node import channel_watch
from lnstore.ports import Channel
from lnstore_protocol.ids import LightningId, Msat

CHANNEL = Channel(
    peer=LightningId(b"\x02" * 33),
    state="CHANNELD_NORMAL",
    connected=True,
    channel_id="11" * 32,
    short_channel_id="1x1x1",
    funding_txid="22" * 32,
    capacity_msat=Msat(1_000_000),
    to_us_msat=Msat(0),
    spendable_msat=Msat(0),
    receivable_msat=Msat(0),
    opened_by_us=False,
)


def lines_of(log: io.StringIO) -> list[str]:
    """What the watch told since the last time."""
    lines = [line for line in log.getvalue().splitlines() if "room to be paid" in line or "channel is" in line]
    log.truncate(0)
    log.seek(0)
    return lines


async def test_the_operator_is_told_once_when_room_runs_out_or_a_channel_closes(world: World) -> None:
    """Nothing while all is well; a warning with the command to give when it is not; once for each change."""
    log = io.StringIO()
    logs.configure("info", log)
    async with world.running() as node, world.client(node) as client:

        async def told(*channels: Channel) -> list[str]:
            world.daemon.listed = list(channels)
            for _ in range(3):
                await node.node.channel_watch.step()
            return lines_of(log)

        assert await told(CHANNEL) == []  # nothing is rented
        await client.rent(8 * MIB)
        room = replace(CHANNEL, receivable_msat=Msat(10**9))
        (dry,) = await told(CHANNEL)
        assert "room to be paid runs out" in dry
        assert f"lnstore node sweep {node.node.context.config.directory}" in dry
        (well,) = await told(room)
        assert "three periods or more" in well
        assert await told(room, replace(room, channel_id="33" * 32, state="CLOSINGD_COMPLETE")) == []
        closing, none = await told(replace(room, state="AWAITING_UNILATERAL", closed_by_us=False))
        assert "a channel is being closed" in closing
        assert room.peer.hex() in closing
        assert "there is no open channel" in none
        assert await told() == []


async def test_a_daemon_that_fails_the_watch_is_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch waits until the daemon can be used again, and goes on."""
    monkeypatch.setattr(channel_watch, "CHANNEL_WATCH_SECONDS", 0.01)
    log = io.StringIO()
    logs.configure("info", log)
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        await eventually(lambda: any("there is no open channel" in line for line in lines_of(log)))
        world.daemon.up = False
        await eventually(lambda: not node.node.context.binding.confirmed.is_set())
        world.daemon.listed = [replace(CHANNEL, receivable_msat=Msat(10**9))]
        world.daemon.up = True
        await eventually(lambda: any("three periods or more" in line for line in lines_of(log)))
