"""A client beside nodes that take money for writing: deposits, and what a node says that it charged."""

from __future__ import annotations

import dataclasses
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from books_world import ANCHOR, GIB, NODE, PERIOD, agreement
from hypothesis import given
from hypothesis import strategies as st
from node_street import open_street
from node_world import MIB
from transfer_fixtures import content

from lnstore.cli.dry_run import print_plan
from lnstore.client.buying import buy
from lnstore.client.faults import Fault
from lnstore.client.files import Coding
from lnstore.client.folder_plan import FolderPlan
from lnstore.client.ingress import NO_PRICE, Writing
from lnstore.client.losses import Losses
from lnstore.client.put_cost import cost_of
from lnstore.client.repair import repair
from lnstore.client.standing import TooFewNodes, standings
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import PutShare, PutShareReply
from lnstore_protocol.prices import Prices
from lnstore_protocol.terms import Agreement, ingress_msat, traffic_msat

PRICE = 20_000_000
"""msat per GiB: 8 MiB cost more than the street's deposits of 100,000 msat."""
TWO = Coding(1, 2, 2)


def plan(size: int) -> FolderPlan:
    return FolderPlan(files=1, plain_bytes=size, sent_bytes=size, objects=(size,), problems=())


async def test_a_put_is_begun_where_the_deposit_pays_for_it_and_costs_what_was_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """RI-R1: the text says what to add, that is enough, and what the put took is the price of its bytes."""
    file = tmp_path / "film"
    file.write_bytes(content(6 * MIB))
    async with (
        open_street(tmp_path, 2, needed=1, happy=2, ingress_msat_per_gib=PRICE) as street,
        street.client() as (purse, client),
    ):
        with pytest.raises(TooFewNodes, match=r"writing 6\.0 MiB costs 117,\d+ msat there, and your deposit has 100,"):
            await client.put(file)
        cost = await cost_of(purse, client, [6 * MIB], TWO)
        print_plan(plan(6 * MIB), cost, TWO)
        due = cost.nodes[0].ingress_msat
        assert f"lnstore rent buy n0 8MiB --deposit {due}" in capsys.readouterr().out
        for house in street.houses:
            entry = street.entry(purse, house)
            await buy(purse, entry, 8 * MIB, deposit_msat=due)
        stored = await client.put(file)
        fit, _ = await standings(client.pool, purse.catalog, purse.catalog.nodes())
        for one in fit:
            took = stored.nodes[one.node.node_id]
            assert (took.fault, took.share_bytes) == (None, one.writing.ingress_bytes)
            assert took.charged_msat == due - one.writing.deposit_msat == traffic_msat(took.share_bytes, PRICE)


async def test_a_node_that_takes_another_sum_gets_no_more_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RI-R2: by 1 msat, in a put and in a repair; what it has counts as stored."""
    async with (
        open_street(tmp_path, 4, needed=2, happy=2, total=3, ingress_msat_per_gib=PRICE) as street,
        street.client() as (purse, client),
    ):
        await client.put(BytesIO(content(90_000)), name="file")
        rows = [row for row in purse.catalog.shares_of(1) if row.segment == 0]
        (greedy,) = [one for one in street.houses if one.node_id not in {row.node_id for row in rows}]
        loser = next(one for one in street.houses if one.node_id == rows[0].node_id)
        loser.share_path(rows[0].share_id).unlink()
        Losses(purse.catalog).note(loser.node_id, [rows[0].share_id], Fault.SHARE_GONE, street.clock.now())

        async def take_more(true: Any, request: Any, message: Any) -> Any:
            reply = await true(request, message)
            return dataclasses.replace(reply, charged_msat=(reply.charged_msat or 0) + 1)

        street.cheat(monkeypatch, greedy, PutShare, take_more)
        fit, _ = await standings(client.pool, purse.catalog, purse.catalog.nodes())
        (done,) = await repair(purse, fit)
        assert done.to is not None
        assert (done.to.node_id, done.sent) == (greedy.node_id, True)
        assert "msat for writing" in done.reason
        stored = await client.put(BytesIO(content(5 * MIB)), name="another", needed=1, total=4, happy=3)
        assert [at.fault is not None for at in stored.nodes.values()].count(True) == 1
        assert "were agreed" in (stored.nodes[greedy.node_id].fault or "")
        assert stored.nodes[greedy.node_id].shares > 0


# --- the client's arithmetic ------------------------------------------------------------------------------------------


def writing(deposit_msat: int = 1_000, ingress_bytes: int = 0, *prices: int) -> Writing:
    """With these prices, from one period to the next."""
    client = Identity.generate()
    agreements = [
        agreement(client, ANCHOR, ingress_msat_per_gib=Msat(price)) if not number else _later(client, price, number)
        for number, price in enumerate(prices)
    ]
    return Writing(Prices.of(agreements), deposit_msat, ingress_bytes)


def _later(client: Identity, price: int, period: int) -> Agreement:
    terms = agreement(client, ANCHOR, ingress_msat_per_gib=Msat(price)).terms
    return Agreement.propose(terms, client, ANCHOR, from_period=period).countersign(NODE)


@given(
    deposit=st.integers(0, 10**7),
    before=st.integers(0, 1 << 45),
    price=st.integers(1, 1 << 36),
    size=st.integers(1, 1 << 40),
)
def test_what_the_deposit_pays_for_is_what_the_node_would_take(
    deposit: int, before: int, price: int, size: int
) -> None:
    now = writing(deposit, before, price)
    most = now.affordable_bytes(ANCHOR)
    assert most is not None
    assert now.due_msat(most, ANCHOR) <= deposit < now.due_msat(most + 1, ANCHOR)
    due = ingress_msat(before, size, price)
    charged = PutShareReply(used_bytes=0, charged_msat=due or None, ingress_bytes=before + size if due else None)
    assert now.fault(charged, size, ANCHOR) == ""
    if due:
        wrong = dataclasses.replace(charged, charged_msat=Msat(due + 1))
        assert f"it took {due + 1} msat" in now.fault(wrong, size, ANCHOR)
    after = now.after(size, due)
    assert after.due_msat(size, ANCHOR) == ingress_msat(before + size, size, price)


@pytest.mark.parametrize(
    "reply",
    [
        PutShareReply(used_bytes=1, charged_msat=Msat(1)),
        PutShareReply(used_bytes=1, ingress_bytes=100),
        PutShareReply(used_bytes=1, charged_msat=Msat(0), ingress_bytes=99),
        PutShareReply(used_bytes=1, charged_msat=Msat(1), ingress_bytes=100),
    ],
)
def test_what_was_not_agreed_may_not_be_taken(reply: PutShareReply) -> None:
    """A free account, a delegation, and a charge that does not say what for."""
    assert "it took" in NO_PRICE.fault(reply, 100, ANCHOR)
    assert NO_PRICE.affordable_bytes(ANCHOR) is None


def test_near_a_change_of_prices_either_is_right() -> None:
    """Our clock and the node's may be 600 seconds apart."""
    now = writing(1_000, 0, 100 * GIB, 200 * GIB)
    cheap, dear = (PutShareReply(used_bytes=1, charged_msat=Msat(due), ingress_bytes=1) for due in (100, 200))
    for at, right in ((-601, (cheap,)), (-600, (cheap, dear)), (599, (cheap, dear)), (600, (dear,))):
        found = tuple(reply for reply in (cheap, dear) if not now.fault(reply, 1, ANCHOR + PERIOD + at))
        assert found == right
    assert now.due_msat(1, ANCHOR + PERIOD - 600) == 200
