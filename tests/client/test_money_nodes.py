"""Getting to know nodes: who they are, where they are paid, and what their terms are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from money_world import START, HonestNode, World, make_world

from lnstore.client.accounts import open_account
from lnstore.client.catalog import CatalogError
from lnstore.client.channel_watch import list_channels
from lnstore.client.money_errors import NodeUntrusted, TermsRefused
from lnstore.client.node_channels import open_channel
from lnstore.client.node_errors import NodeUnreachable
from lnstore.client.nodes import PetnameInvalid, add_node, list_nodes
from lnstore.lightning.reconnecting import parse_place
from lnstore_protocol.ids import LightningId, Msat, NodeAddress
from lnstore_protocol.messages import OpenAccountReply, TermsReply
from lnstore_protocol.terms import SignedTerms


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await make_world(tmp_path, nodes=2)


async def test_a_node_is_remembered_with_its_lightning_key_and_terms(world: World) -> None:
    node = await add_node(world.purse, world.node.address, "alice")
    assert (node.petname, node.lightning_id) == ("alice", world.node.lightning_id)
    assert node.terms is not None
    assert SignedTerms.decode(node.terms).terms.price_msat_per_gib_month == 2000
    assert world.purse.catalog.find_node("alice") == node
    assert world.purse.catalog.find_node(node.node_id.hex()[:6]) == node
    assert world.purse.catalog.find_node(str(node.address)) == node


async def test_a_node_without_a_petname_goes_by_the_beginning_of_its_id(world: World) -> None:
    node = await add_node(world.purse, world.node.address)
    assert node.petname == node.node_id.hex()[:8]


async def test_adding_a_node_again_keeps_its_petname(world: World) -> None:
    await add_node(world.purse, world.node.address, "alice")
    assert (await add_node(world.purse, world.node.address)).petname == "alice"


async def test_two_nodes_cannot_have_one_petname(world: World) -> None:
    await add_node(world.purse, world.node.address, "alice")
    with pytest.raises(CatalogError, match="alice"):
        await add_node(world.purse, world.nodes[1].address, "alice")


@pytest.mark.parametrize("petname", ["", "a b", "x" * 65, "a/b", "lnstore://x", "a\n"])
async def test_a_petname_must_be_something_to_type(world: World, petname: str) -> None:
    with pytest.raises(PetnameInvalid):
        await add_node(world.purse, world.node.address, petname)


@pytest.mark.parametrize("forged", ["", "rubbish", "of another text"])
async def test_a_lightning_key_that_is_not_proven_is_not_believed(world: World, forged: str) -> None:
    node = world.node
    signature = await node.lightning.sign_message("of another text") if forged == "of another text" else forged
    node.hello = replace(node.hello, lightning_signature=signature)
    with pytest.raises(NodeUntrusted, match="does not prove"):
        await add_node(world.purse, node.address)
    assert world.purse.catalog.nodes() == []


async def test_a_node_cannot_name_another_ones_lightning_key(world: World) -> None:  # M-R14
    node, other = world.nodes
    node.hello = replace(
        node.hello, lightning_id=other.lightning_id, lightning_signature=other.hello.lightning_signature
    )
    with pytest.raises(NodeUntrusted):
        await add_node(world.purse, node.address)


async def test_a_node_on_another_network_is_not_added(world: World) -> None:  # M-R15
    world.node.hello = replace(world.node.hello, network="bitcoin")
    with pytest.raises(NodeUntrusted, match="bitcoin"):
        await add_node(world.purse, world.node.address)


async def test_terms_for_another_lightning_key_are_not_believed(tmp_path: Path) -> None:
    world = await make_world(tmp_path, lightning_id=LightningId(b"\x03" * 33))
    with pytest.raises(NodeUntrusted, match="another Lightning key"):
        await add_node(world.purse, world.node.address)


async def test_terms_that_were_altered_are_not_believed(world: World) -> None:  # MA-R2
    world.node.tamper = lambda reply: (
        TermsReply(terms=reply.terms[:-1] + bytes([reply.terms[-1] ^ 1])) if isinstance(reply, TermsReply) else reply
    )
    with pytest.raises(NodeUntrusted, match="terms"):
        await add_node(world.purse, world.node.address)


async def test_terms_of_another_node_are_not_believed(world: World) -> None:  # R-R3
    node, other = world.nodes
    node.tamper = lambda reply: (
        TermsReply(terms=other._terms().sign(other.identity).encoded) if isinstance(reply, TermsReply) else reply
    )
    with pytest.raises(NodeUntrusted, match="another node"):
        await add_node(world.purse, node.address)


@pytest.mark.parametrize(("start", "end"), [(START - 100, START - 1), (START + 601, START + 9999)])
async def test_terms_that_are_not_valid_now_are_refused(tmp_path: Path, start: int, end: int) -> None:  # R-R4
    world = await make_world(tmp_path, valid_from_at=start, valid_until_at=end)
    with pytest.raises(TermsRefused, match="not valid now"):
        await add_node(world.purse, world.node.address)


@pytest.mark.parametrize(
    ("terms", "setting"),
    [
        ({"price_msat_per_gib_month": 20_001}, "maximum_msat_per_gib_month"),
        ({"egress_msat_per_gib": 10_001}, "maximum_msat_per_gib_read"),
        ({"ingress_msat_per_gib": 1}, "maximum_msat_per_gib_written"),
    ],
)
async def test_an_account_is_not_opened_above_the_profiles_limits(  # R-R5
    tmp_path: Path, terms: dict[str, Any], setting: str
) -> None:
    world = await make_world(tmp_path, **terms)
    await add_node(world.purse, world.node.address)
    with pytest.raises(TermsRefused, match=setting):
        await open_account(world.purse, world.entry)
    assert world.node.account is None


async def test_an_account_is_opened_once_and_found_again(world: World) -> None:
    await add_node(world.purse, world.node.address)
    agreement, status, opened = await open_account(world.purse, world.entry)
    assert opened
    assert (status.capacity_bytes, status.paid_until_at) == (0, agreement.anchor_at)
    world.clock.at += 100
    again, _, opened = await open_account(world.purse, world.entry)
    assert (again, opened) == (agreement, False)
    assert world.entry.agreement == agreement.encoded


async def test_an_agreement_that_the_node_altered_is_not_believed(world: World) -> None:  # MA-R7
    await add_node(world.purse, world.node.address)

    def alter(reply: Any) -> Any:
        if not isinstance(reply, OpenAccountReply):
            return reply
        middle = len(reply.agreement) // 2
        changed = bytearray(reply.agreement)
        changed[middle] ^= 1
        return OpenAccountReply(agreement=bytes(changed))

    world.node.tamper = alter
    with pytest.raises(NodeUntrusted):
        await open_account(world.purse, world.entry)
    assert world.entry.agreement is None


async def test_the_list_says_who_answers_and_who_does_not(world: World) -> None:
    for node in world.nodes:
        await add_node(world.purse, node.address)
        world.clock.at += 1
    reachable = world.purse.dial

    async def dial(address: NodeAddress) -> Any:
        if address == world.nodes[1].address:
            raise NodeUnreachable(address, "cannot be reached")
        return await reachable(address)

    first, second = await list_nodes(replace(world.purse, dial=dial))
    assert (first.reachable, first.affordable, first.status) == (True, True, None)
    assert (second.reachable, "cannot be reached" in second.problem) == (False, True)
    assert second.terms is not None


# --- channels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:9735", ("127.0.0.1", 9735)),
        ("[::1]:9735", ("::1", 9735)),
        ("example.org", None),
        ("example.org:0", None),
        (":9735", None),
    ],
)
def test_places_of_daemons_are_read(text: str, place: tuple[str, int] | None) -> None:  # MA-R24
    assert parse_place(text) == place


async def test_a_channel_is_opened_once_with_at_least_the_nodes_minimum(world: World) -> None:
    await add_node(world.purse, world.node.address)
    for _ in range(2):
        channel = await open_channel(world.purse, world.entry)
    assert channel.capacity_msat >= 100_000_000
    (listed,) = await list_channels(world.purse)
    assert listed.node == world.entry
    assert listed.periods_left is None


async def test_a_node_that_names_another_lightning_key_gets_no_channel(world: World) -> None:  # MA-R23, R-R24
    await add_node(world.purse, world.node.address)
    world.node.lightning_id = LightningId(b"\x03" * 33)
    with pytest.raises(NodeUntrusted, match="nodes add"):
        await open_channel(world.purse, world.entry)


async def test_a_node_that_says_no_place_gets_no_channel(world: World) -> None:
    await add_node(world.purse, world.node.address)
    world.node.places = ["nowhere"]
    with pytest.raises(NodeUntrusted, match="where"):
        await open_channel(world.purse, world.entry)


async def test_the_list_warns_of_a_node_whose_clock_is_another(world: World) -> None:
    """M-R16: 600 seconds are tolerated."""
    node = await add_node(world.purse, world.node.address)
    for apart, warns in ((600, False), (601, True)):
        world.node.hello = replace(world.node.hello, now_at=world.clock.now() - apart)
        (listed,) = await list_nodes(world.purse)
        assert (listed.node.node_id, listed.reachable) == (node.node_id, True)
        assert ("601 seconds apart" in listed.problem) is warns


async def test_channels_to_strangers_are_listed_without_a_node(world: World) -> None:
    stranger: HonestNode = world.nodes[1]
    await world.lightning.open_channel(stranger.lightning_id, amount_sat=50_000, push_msat=Msat(0), announce=True)
    (listed,) = await list_channels(world.purse)
    assert listed.node is None
