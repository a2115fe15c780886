"""Comparing nodes: who would be chosen, what that costs together, and why somebody is out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from money_world import GIB, START, World, make_world

from lnstore.cli.quote_command import print_quote
from lnstore.client.budgets import BudgetUse
from lnstore.client.buying import buy
from lnstore.client.catalog import NodeEntry
from lnstore.client.comparing import offers
from lnstore.client.faults import Fault
from lnstore.client.nodes import add_node
from lnstore.client.quote import Offered, budget_verdicts, capacity_for, quote
from lnstore.client.scores import Happening, Scores
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import LightningId, Msat, NodeAddress, NodeId
from lnstore_protocol.terms import ChannelPolicy, Terms

NAMES = ["anna", "bert", "carl", "dora", "emil", "fred"]


async def street(directory: Path, **config: int) -> World:
    """Six nodes: bert is dearer, carl doubtful; dora suspended, emil over the limit, fred unreachable."""
    world = await make_world(directory, nodes=6, config=dict(config))
    world.nodes[1].terms = {"price_msat_per_gib_month": 3000}
    world.nodes[4].terms = {"price_msat_per_gib_month": 20_001}
    for node, name in zip(world.nodes, NAMES, strict=True):
        await add_node(world.purse, node.address, name)
    scores = Scores(world.purse.catalog)
    for number, fault in ((2, Fault.SHARE_GONE), (3, Fault.WRONG_ANSWERS)):
        node_id = world.nodes[number].node_id
        scores.note(node_id, Happening.AUDIT_FAILED, "audit", now=START, fault=fault, shares=1)
    world.nodes[5].refuse = ErrorCode.INTERNAL
    return world


async def test_nodes_stand_in_the_order_in_which_they_would_be_chosen(tmp_path: Path) -> None:
    world = await street(tmp_path)
    quoted = quote(20 * GIB, 3, await offers(world.purse), channel_periods=6, coding=None)
    rows = {row.petname: row for row in quoted.rows}
    assert [row.petname for row in quoted.rows] == ["anna", "bert", "carl", "fred", "emil", "dora"]
    assert [row.petname for row in quoted.chosen] == ["anna", "bert", "carl"]
    assert rows["dora"].out == "suspended"
    assert rows["emil"].out == ("over your limit: emil asks 20001 msat for rent per GiB and month, you allow 20000")
    assert rows["fred"].out.startswith("unreachable: ")
    assert rows["fred"].latency_seconds is None
    assert rows["anna"].latency_seconds is not None
    assert [rows[name].score for name in NAMES[:4]] == [100, 100, 70, 40]
    assert quoted.total_msat == 3 * (40_000 + 60_000 + 40_000)
    assert quoted.month_msat == quoted.total_msat // 3


async def test_files_coded_k_of_n_lie_on_the_best_n_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each holds a third of them; too few nodes, shared machines and budgets are told of."""
    world = await street(tmp_path, budget_msat_per_month=150_000, budget_msat_total=10**9)
    quoted = quote(60 * GIB, 12, await offers(world.purse), channel_periods=6, coding=(3, 5))
    assert quoted.capacity_bytes == capacity_for(60 * GIB, 3, 5)
    assert 20 * GIB < quoted.capacity_bytes < 20 * GIB + 100 * (1 << 20)
    assert quoted.wanted == 5
    assert [row.petname for row in quoted.chosen] == ["anna", "bert", "carl"]
    assert quoted.same == ("anna, bert, carl answer at one host and may fail together",)
    uses = [
        BudgetUse(setting="month", node_id=None, limit_msat=Msat(9), used_msat=Msat(8), until_at=START + 1),
        BudgetUse(setting="node", node_id=world.nodes[0].node_id, limit_msat=Msat(9), used_msat=Msat(8), until_at=1),
        BudgetUse(
            setting="of another", node_id=world.nodes[3].node_id, limit_msat=Msat(9), used_msat=Msat(8), until_at=1
        ),
        BudgetUse(setting="ever", node_id=None, limit_msat=Msat(10**9), used_msat=Msat(0), until_at=None),
    ]
    verdicts = budget_verdicts(quoted, uses)
    rent = quoted.rows[0].rent_msat_per_month
    assert [(v.setting, v.petname, v.wanted_msat, v.fits) for v in verdicts] == [
        ("month", "", quoted.month_msat, False),
        ("node", "anna", rent, False),
        ("ever", "", quoted.total_msat, True),
    ]
    print_quote(quoted, verdicts)
    said = capsys.readouterr()
    assert "any 3 of 5 shares: 20.0 GiB a node, for 12 months" in said.out
    assert "3 node keys, 3 Lightning keys, 1 hosts" in said.out
    assert f"anna: {rent:,} msat are more than the 1 left of node" in said.out
    assert "only 3 of 5 nodes" in said.err
    assert "may fail together" in said.err


async def test_where_there_is_an_account_its_prices_count_and_what_is_free_is_shown(tmp_path: Path) -> None:
    world = await street(tmp_path)
    await buy(world.purse, world.entry, GIB)
    world.nodes[0].terms = {"price_msat_per_gib_month": 9000}
    world.nodes[1].terms["channel_policy"] = ChannelPolicy.ANY
    rows = {offer.node.petname: offer for offer in await offers(world.purse)}
    assert rows["anna"].terms.price_msat_per_gib_month == 2000
    assert rows["anna"].free_bytes == GIB
    assert rows["bert"].free_bytes is None
    assert rows["anna"].channel in {"", "open"}


@pytest.mark.parametrize("size", [1, 1 << 50])
async def test_who_rents_out_less_or_more_is_out(tmp_path: Path, size: int) -> None:
    world = await street(tmp_path)
    quoted = quote(size, 1, await offers(world.purse), channel_periods=6, coding=None)
    assert not quoted.chosen
    assert quoted.rows[0].out.startswith(("no room: it rents out ", "unreachable"))
    assert (quoted.total_msat, quoted.read_once_msat) == (0, 0)


# --- for all nodes ----------------------------------------------------------------------------------------------------


def offered(number: int, price: int, out: str, *, doubtful: bool) -> Offered:
    node_id, lightning_id = NodeId(bytes([number]) * 32), LightningId(b"\x02" + bytes([number % 3]) * 32)
    node = NodeEntry(
        node_id=node_id,
        address=NodeAddress(node_id, f"host{number % 4}", 1),
        petname=f"n{number}",
        lightning_id=lightning_id,
        terms=None,
        agreement=None,
        invitation=None,
        added_at=0,
    )
    terms = Terms(
        node_id=node_id,
        lightning_id=lightning_id,
        network="regtest",
        price_msat_per_gib_month=Msat(price),
        egress_msat_per_gib=Msat(price // 2),
        ingress_msat_per_gib=Msat(price // 3),
        period_seconds=30 * 86_400,
        grace_seconds=86_400,
        minimum_capacity_bytes=0,
        maximum_capacity_bytes=1 << 60,
        channel_policy=ChannelPolicy.ANY,
        minimum_channel_sat=100_000,
        valid_from_at=0,
        valid_until_at=1,
        price_periods=12,
    )
    return Offered(node=node, terms=terms, doubtful=doubtful, out=out)


@given(
    st.lists(st.tuples(st.integers(0, 5000), st.sampled_from(["", "", "suspended"]), st.booleans()), max_size=12),
    st.integers(1, 5),
    st.integers(0, 5),
    st.integers(0, 1 << 42),
)
def test_the_chosen_are_different_usable_and_the_first(
    nodes: list[tuple[int, str, bool]], needed: int, more: int, size: int
) -> None:
    every = [offered(n, price, out, doubtful=doubtful) for n, (price, out, doubtful) in enumerate(nodes)]
    total = needed + more
    quoted = quote(size, 2, every, channel_periods=6, coding=(needed, total))
    usable = [offer for offer in every if not offer.out]
    chosen = quoted.chosen
    assert len({row.node_id for row in chosen}) == len(chosen) == min(total, len(usable))
    assert quoted.rows[: len(chosen)] == chosen
    assert not any(row.out for row in chosen)
    assert sorted(row.node_id for row in quoted.rows) == sorted(offer.node.node_id for offer in every)
    assert quoted.total_msat == sum(row.rent_msat for row in chosen)
    assert quoted.write_once_msat == sum(row.write_once_msat for row in chosen)
    assert quoted.read_once_msat <= sum(row.read_once_msat for row in chosen)
    trusted = [offer for offer in usable if not offer.doubtful]
    if len(trusted) >= total:
        names = {offer.node.node_id for offer in trusted}
        assert {row.node_id for row in chosen} <= names
        assert quoted.total_msat <= sum(sorted(row.rent_msat for row in quoted.rows if row.node_id in names)[-total:])
    assert quoted == quote(size, 2, [dataclasses.replace(o) for o in every], channel_periods=6, coding=(needed, total))
