"""Over which channel an account pays, as a node's operator sees it: by what its client says, and decided by nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from delegation_world import chain_of, present
from node_world import MIB, Client, RunningNode, World
from test_node_channel_watch import CHANNEL

from lnstore.node import accounting
from lnstore.node.account_channels import Standing, beside
from lnstore.ports import Channels
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import LightningId, Msat
from lnstore_protocol.messages import ChannelInfo, ChannelInfoReply, OpenAccount, OpenAccountReply
from lnstore_protocol.terms import Agreement

OURS = LightningId(b"\x03" * 33)
MOVED = LightningId(b"\x02" + bytes(32))


async def _opened(client: Client, said: LightningId | None) -> None:
    proposal = Agreement.propose(await client.terms(), client.identity, client.clock.now())
    await client.ask(OpenAccount(agreement=proposal.encoded, lightning_id=said), OpenAccountReply)


async def _shown(world: World, node: RunningNode, client: Client) -> accounting.Overview:
    digits = client.identity.public_key.hex()
    one = await accounting.overview(node.books, digits, cast("Channels", world.daemon))
    (listed,) = await accounting.overviews(node.books, cast("Channels", world.daemon))
    assert listed == one
    return one


async def test_the_operator_sees_the_channels_of_the_peer_that_a_client_says_it_is(world: World) -> None:  # MA-R30
    """None known, told with none there, one, several, closed again; and that the daemon was not asked in vain."""
    async with world.running() as node, world.client(node) as client:
        await client.open_account()
        one = await _shown(world, node, client)
        assert one.as_json()["channel"] == "none known"
        assert one.as_json()["lightning_id"] is None
        await client.ask(ChannelInfo(lightning_id=OURS), ChannelInfoReply)
        one = await _shown(world, node, client)
        assert (one.as_json()["channel"], one.as_json()["lightning_id"]) == ("no channel", OURS.hex())
        held = replace(CHANNEL, peer=OURS, receivable_msat=Msat(400))
        world.daemon.listed = [CHANNEL, held, replace(held, state="ONCHAIN"), replace(held, state="OPENINGD")]
        figures = (await _shown(world, node, client)).as_json()
        assert figures["channel"] == "open"
        assert (figures["channel_capacity_msat"], figures["channel_receivable_msat"]) == (2_000_000, 400)
        # Who says nothing takes nothing back, and who says another id has moved there.
        await client.ask(ChannelInfo(), ChannelInfoReply)
        assert (await _shown(world, node, client)).as_json()["channel"] == "open"
        await client.ask(ChannelInfo(lightning_id=MOVED), ChannelInfoReply)
        assert (await _shown(world, node, client)).as_json()["channel"] == "no channel"
        world.daemon.up = False
        assert (await _shown(world, node, client)).as_json()["channel"] == "daemon away"


@pytest.mark.parametrize(
    ("changes", "standing"),
    [
        ({}, Standing.OPEN),
        ({"connected": False}, Standing.NOT_CONNECTED),
        ({"state": "CHANNELD_AWAITING_LOCKIN"}, Standing.OPENING),
        ({"state": "CHANNELD_SHUTTING_DOWN"}, Standing.CLOSING),
        ({"state": "CLOSED"}, Standing.NO_CHANNEL),
    ],
)
async def test_a_channel_is_shown_by_what_it_is_good_for(
    world: World, changes: dict[str, Any], standing: Standing
) -> None:
    async with world.running() as node, world.client(node) as client:
        await _opened(client, OURS)
        (account,) = await node.books.accounts()
        (held,) = beside([account], {OURS: [replace(CHANNEL, **changes)]})
        assert held.standing is standing


async def test_what_is_said_with_the_agreement_is_kept_also_when_the_account_is_there(world: World) -> None:  # MA-R3
    async with world.running() as node, world.client(node) as client:
        await _opened(client, None)
        await _opened(client, OURS)
        assert [one.lightning_id for one in await node.books.accounts()] == [OURS]
        await _opened(client, None)
        assert [one.lightning_id for one in await node.books.accounts()] == [OURS]


async def test_strangers_and_delegates_note_nothing(tmp_path: Path) -> None:  # MA-R30
    world = World(tmp_path)
    delegate = Identity(b"\x07" * 32)
    async with world.running() as node, world.client(node) as holder, world.client(node, delegate) as other:
        await other.ask(ChannelInfo(lightning_id=OURS), ChannelInfoReply)
        assert await node.books.accounts() == []
        await holder.rent(64 * MIB)
        await present(other, chain_of(holder.identity, delegate))
        await other.ask(ChannelInfo(lightning_id=OURS), ChannelInfoReply)
        assert [one.lightning_id for one in await node.books.accounts()] == [None]
