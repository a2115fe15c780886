"""Channels to nodes from the client's side: what each policy does, warnings, top-ups, closing, peers that go away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from money_world import GIB, PERIOD, HonestNode, SetClock, World, make_world
from test_money_simulated import purse, simulated

from lnstore.client.buying import buy
from lnstore.client.catalog import NodeEntry
from lnstore.client.channel_watch import NodeSupply, channel_warnings, list_channels, supplies
from lnstore.client.node_channels import close_channels, make_ready, open_channel, top_up_channel
from lnstore.client.nodes import add_node
from lnstore.client.purse import Purse
from lnstore.client.rent import pay_rent
from lnstore.lightning.channel_changes import ChannelBusy
from lnstore.lightning.channels import FeeTooHigh
from lnstore.lightning.core import CoreLightning
from lnstore.lightning.simulated.control import SimulatedNetwork
from lnstore.lightning.supply import Phase, Supply
from lnstore.ports import LightningUnavailable
from lnstore_protocol.ids import Msat, NodeAddress
from lnstore_protocol.messages import ChannelInfo, OpenAccount
from lnstore_protocol.terms import ChannelPolicy

LARGE = 1 << 40
DEAR = 20_000
"""1 TiB for 20,480 sat a month, so that six months fill a channel of 100,000 sat."""


async def supply_of(purse: Purse) -> NodeSupply:
    (one,) = supplies(purse, await list_channels(purse))
    return one


# --- what the terms ask for, with Lightning in memory -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "capacity_bytes", "channels"),
    [
        (ChannelPolicy.ANY, LARGE, 0),
        (ChannelPolicy.PREFERRED, 20 * GIB, 0),
        (ChannelPolicy.PREFERRED, LARGE, 1),
        (ChannelPolicy.REQUIRED, 20 * GIB, 1),
    ],
)
async def test_renting_opens_the_channel_that_the_terms_ask_for(
    tmp_path: Path, policy: ChannelPolicy, capacity_bytes: int, channels: int
) -> None:
    world = await make_world(tmp_path, channel_policy=policy, price_msat_per_gib_month=DEAR)
    await add_node(world.purse, world.node.address)
    await buy(world.purse, world.entry, capacity_bytes)
    assert len(world.lightning.open_channels) == channels


@pytest.mark.parametrize(
    ("policy", "first", "said"),
    [
        (ChannelPolicy.ANY, False, []),  # paid over routes: the node is told nothing
        (ChannelPolicy.REQUIRED, False, [ChannelInfo]),  # the account was there before the channel
        (ChannelPolicy.ANY, True, [ChannelInfo, OpenAccount]),
    ],
)
async def test_a_node_is_told_our_lightning_id_only_where_a_channel_shows_it(  # V-W7
    tmp_path: Path, policy: ChannelPolicy, *, first: bool, said: list[type[object]]
) -> None:
    world = await make_world(tmp_path, channel_policy=policy)
    node = await add_node(world.purse, world.node.address)
    if first:
        await open_channel(world.purse, node)
    await buy(world.purse, world.entry, GIB)
    ours = (await world.lightning.info()).lightning_id
    telling = [one for one in world.node.asked if isinstance(one, ChannelInfo | OpenAccount) and one.lightning_id]
    assert [type(one) for one in telling] == said
    assert {one.lightning_id for one in telling} <= {ours}


async def test_a_channel_that_is_only_preferred_does_not_keep_anyone_from_renting(tmp_path: Path) -> None:
    """Its fee is too high, so the rent goes over routes, and the client says why."""
    world = await make_world(tmp_path, channel_policy=ChannelPolicy.PREFERRED, price_msat_per_gib_month=DEAR)
    world.lightning.opening_sat = 50_000
    await add_node(world.purse, world.node.address)
    said: list[str] = []
    await buy(world.purse, world.entry, LARGE, progress=said.append)
    assert world.lightning.open_channels == []
    assert any("maximum_opening_percent" in text for text in said)


async def test_a_channel_that_is_required_and_too_dear_keeps_one_from_renting(tmp_path: Path) -> None:
    world = await make_world(tmp_path, channel_policy=ChannelPolicy.REQUIRED)
    world.lightning.opening_sat = 5001
    await add_node(world.purse, world.node.address)
    with pytest.raises(FeeTooHigh, match="5,001 sat"):
        await buy(world.purse, world.entry, GIB)
    assert world.received_msat() == 0
    assert world.lightning.open_channels == []
    generous = replace(world.purse, config=replace(world.purse.config, maximum_opening_percent=6))
    await buy(generous, world.entry, GIB)
    assert len(world.lightning.open_channels) == 1


async def test_a_channel_that_cannot_pay_the_rent_is_not_enough(tmp_path: Path) -> None:
    """The one there is has a sat left: a second one is opened; then the two are enough."""
    world = await make_world(tmp_path, channel_policy=ChannelPolicy.REQUIRED)
    await add_node(world.purse, world.node.address)
    await open_channel(world.purse, world.entry)
    (poor,) = world.lightning.open_channels
    world.lightning.open_channels = [replace(poor, spendable_msat=Msat(1000))]
    for _ in range(2):
        await buy(world.purse, world.entry, 20 * GIB)
    assert len(world.lightning.open_channels) == 2


async def test_a_channel_that_another_call_is_funding_is_waited_for(world: World) -> None:
    """It is listed without an id first; no second one is opened, and giving up says so."""
    await add_node(world.purse, world.node.address)
    await open_channel(world.purse, world.entry)
    (channel,) = world.lightning.open_channels
    world.lightning.open_channels = [replace(channel, state="OPENINGD", channel_id="", short_channel_id=None)]
    with pytest.raises(LightningUnavailable, match="OPENINGD"):
        await open_channel(world.purse, world.entry, timeout_seconds=0.05)
    assert len(world.lightning.open_channels) == 1


WARNINGS: list[tuple[dict[str, Any], Phase, str]] = [
    ({}, Phase.OPEN, ""),
    ({"spendable_msat": 119_999}, Phase.OPEN, "only 2 more periods"),
    ({"spendable_msat": 79_999}, Phase.OPEN, "only 1 more period;"),
    ({"spendable_msat": 39_999}, Phase.OPEN, "cannot pay the next rent of 40,000 msat"),
    ({"spendable_msat": 39_999, "splicing": True}, Phase.OPEN, ""),
    ({"connected": False}, Phase.OPEN, "is not connected"),
    ({"state": "CHANNELD_AWAITING_LOCKIN"}, Phase.OPENING, ""),
    ({"state": "CLOSINGD_COMPLETE", "closed_by_us": True}, Phase.CLOSING, "is being closed by you"),
    ({"state": "AWAITING_UNILATERAL"}, Phase.CLOSING, "is being closed;"),
    ({"state": "ONCHAIN", "closed_by_us": False}, Phase.CLOSED, "was closed by alice; open another one"),
]


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await make_world(tmp_path)


@pytest.mark.parametrize(("changes", "phase", "said"), WARNINGS)
async def test_warnings_say_what_is_wrong_and_what_to_do(
    world: World, changes: dict[str, Any], phase: Phase, said: str
) -> None:
    await add_node(world.purse, world.node.address, "alice")
    await open_channel(world.purse, world.entry)
    await buy(world.purse, world.entry, 20 * GIB)
    (channel,) = world.lightning.open_channels
    world.lightning.open_channels = [replace(channel, **changes)]
    one = await supply_of(world.purse)
    assert one.phase is phase
    assert (said in one.warning) if said else not one.warning
    assert await channel_warnings(world.purse) == ({world.node.node_id: one.warning} if said else {})
    if phase is not Phase.OPEN:
        assert one.periods_left == 0


async def test_a_required_channel_that_is_gone_is_missed(tmp_path: Path) -> None:
    world = await make_world(tmp_path, channel_policy=ChannelPolicy.REQUIRED)
    await add_node(world.purse, world.node.address)
    await buy(world.purse, world.entry, 20 * GIB)
    world.lightning.open_channels = []
    one = await supply_of(world.purse)
    assert (one.phase, one.supply) == (None, Supply.TOP_UP)
    assert "only over a direct channel" in one.warning


# --- on the simulated network -----------------------------------------------------------------------------------------


class Town:
    """A client that rents 1 TiB (2,048 sat a month) at a node that keeps FLOWS' rules."""

    def __init__(self, network: SimulatedNetwork, made: Purse, node: HonestNode, clock: SetClock) -> None:
        self.network = network
        self.purse = made
        self.clock = clock
        self.node = node

    @property
    def entry(self) -> NodeEntry:
        return self.purse.catalog.node(self.node.node_id)


@asynccontextmanager
async def town(directory: Path, **config: Any) -> AsyncIterator[Town]:
    clock = SetClock()
    async with simulated(directory) as network:
        node = await HonestNode(CoreLightning(network.socket("node")), clock, minimum_channel_sat=30_000).start()
        node.places = [f"{host}:{port}" for host, port in (await node.lightning.info()).addresses]

        async def dial(address: NodeAddress) -> HonestNode:
            return node

        made = purse(directory, network, clock, dial)
        made = replace(made, config=replace(made.config, **config))
        found = Town(network, made, node, clock)
        await add_node(made, node.address, "alice")
        await open_channel(made, found.entry, capacity_bytes=1 << 40)
        await buy(made, found.entry, 1 << 40)
        yield found
        made.catalog.close()


async def test_a_channel_that_runs_dry_is_topped_up_by_itself_if_so_configured(tmp_path: Path) -> None:
    """Six periods fit; when nothing is left `rent pay` adds the node's smallest channel, and paying goes on."""
    async with town(tmp_path, automatic_top_up=True) as place:
        one = await supply_of(place.purse)
        assert one.periods_left is not None
        assert one.periods_left >= 6
        await place.network.drain("client", "node")
        assert (await supply_of(place.purse)).supply is Supply.TOP_UP
        place.clock.at += PERIOD
        said: list[str] = []
        await make_ready(place.purse, [place.entry], progress=said.append)
        (outcome,) = await pay_rent(place.purse)
        assert outcome.error is None
        assert [paid.amount_msat for paid in outcome.paid] == [2_048_000]
        assert any("splicing" in text for text in said)
        assert await top_up_channel(place.purse, place.entry) is None
        assert await channel_warnings(place.purse) == {}


async def test_without_that_setting_it_is_only_said(tmp_path: Path) -> None:
    async with town(tmp_path) as place:
        await place.network.drain("client", "node")
        await make_ready(place.purse, [place.entry])
        (warning,) = (await channel_warnings(place.purse)).values()
        assert "lnstore channel top-up alice" in warning
        assert len(await list_channels(place.purse)) == 1


async def test_a_top_up_that_was_interrupted_is_not_repeated(tmp_path: Path) -> None:
    """The client dies while the splice waits for its block: the next run waits for that splice, and adds nothing."""
    async with town(tmp_path) as place:
        await place.network.drain("client", "node")
        await place.network.fault("withhold_blocks")
        with pytest.raises(LightningUnavailable):
            await top_up_channel(place.purse, place.entry, timeout_seconds=0.3)
        with pytest.raises(ChannelBusy):
            await top_up_channel(place.purse, place.entry, amount_sat=50_000)
        await place.network.clear_faults()
        assert await top_up_channel(place.purse, place.entry) is None
        (one,) = await list_channels(place.purse)
        assert one.periods_left is not None
        assert one.periods_left >= 6


async def test_a_node_that_was_away_is_called_before_rent_is_paid(tmp_path: Path) -> None:
    """Its daemon is back at its place, and nobody has called it yet: `rent pay` does."""
    async with town(tmp_path) as place:
        await place.network.fault("peer_down", "client", peer="node")
        (warning,) = (await channel_warnings(place.purse)).values()
        assert "not connected" in warning
        place.clock.at += PERIOD
        await place.network.clear_faults()
        await make_ready(place.purse, [place.entry])
        (outcome,) = await pay_rent(place.purse)
        assert outcome.error is None


@pytest.mark.parametrize("mutual", [True, False])
async def test_closing_says_how(tmp_path: Path, mutual: bool) -> None:
    """Together when the node is there, alone when it is not; afterwards the account says so; again closes nothing."""
    async with town(tmp_path) as place:
        if not mutual:
            await place.network.crash_node("node")
        ((channel, closing),) = await close_channels(place.purse, place.entry, unilateral_after_seconds=1)
        assert (closing.mutual, len(closing.txid)) == (mutual, 64)
        assert channel.to_us_msat > 0
        assert await close_channels(place.purse, place.entry, unilateral_after_seconds=1) == []
        (warning,) = (await channel_warnings(place.purse)).values()
        assert "closed by you" in warning
