"""`put --dry-run`: what it says is what the put then takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import pytest
import trio
from node_street import open_street
from node_world import MIB
from transfer_fixtures import bed_of, content

from lnstore.cli.dry_run import print_plan
from lnstore.client.buying import buy
from lnstore.client.files import Client, Coding
from lnstore.client.folder_plan import FolderPlan, plan_folder
from lnstore.client.folder_put import put_folder
from lnstore.client.purse import Purse
from lnstore.client.put_cost import cost_of
from lnstore.client.standing import TooFewNodes
from lnstore.ports import Lightning
from lnstore_protocol.messages import PutShare

CODING = Coding(2, 3, 3)


def purse_of(client: Client) -> Purse:
    """Nothing is paid in a dry run: there is no daemon."""
    return Purse.of(client.profile, client.catalog, cast("Lightning", None), client.pool.dial, client.clock)


async def test_it_counts_the_shares_and_bytes_that_a_put_of_a_folder_sends(tmp_path: Path) -> None:
    """New, changed, and after an interrupted put: what is stored already is not counted."""
    folder = tmp_path / "things"
    folder.mkdir()
    (folder / "large").write_bytes(content(5_000_000))
    for number in range(20):
        (folder / f"{number}").write_bytes(content(3000 + number))
    (folder / "empty").touch()
    (folder / "link").symlink_to("large")
    async with trio.open_nursery() as tasks:
        bed = bed_of(tmp_path, tasks, nodes=3, needed=2, happy=3)
        for _ in range(2):
            for node in bed.nodes:
                node.requests.clear()
            async with bed.client() as client:
                plan = await plan_folder(client, folder)
                cost = await cost_of(purse_of(client), client, plan.objects, CODING)
                assert not sum(node.count(PutShare) for node in bed.nodes)
                before = max(node.used_bytes for node in bed.nodes)
                stored = await put_folder(client, folder, coding=CODING)
            assert cost.shares == sum(node.count(PutShare) for node in bed.nodes)
            assert plan.sent_bytes == stored.sent_bytes
            used = max(node.used_bytes for node in bed.nodes) - before
            assert used <= cost.bytes_per_node <= used + 8192
            assert cost.short == 0
            (folder / "3").write_bytes(b"other")
        tasks.cancel_scope.cancel()


async def test_what_it_says_to_rent_is_enough_and_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """8 MiB are rented at each of three nodes; the file takes more, and a budget says whether it may."""
    file = tmp_path / "film"
    file.write_bytes(content(20 * MIB))
    coding = Coding(1, 2, 2)
    async with open_street(tmp_path, 2, needed=1, happy=2) as street, street.client() as (purse, client):
        config = dataclasses.replace(purse.config, budget_msat_per_month=1, budget_msat_per_node_month=10**12)
        cost = await cost_of(dataclasses.replace(purse, config=config), client, [20 * MIB], coding)
        assert [node.rent_bytes for node in cost.nodes] == [13 * MIB, 13 * MIB]
        assert (cost.shares, cost.manifests, cost.short) == (2 * 6 + 2, 2, 0)  # segments of 4 MiB
        with pytest.raises(TooFewNodes):
            await client.put(file, needed=1, total=2, happy=2)
        price = (await cost_of(purse, client, [], coding)).rent_msat_per_month
        assert price == 0
        assert [(v.setting, v.fits) for v in cost.budgets] == [
            ("budget_msat_per_month", False),
            ("budget_msat_per_node_month", True),
            ("budget_msat_per_node_month", True),
        ]
        assert cost.budgets[0].wanted_msat == cost.rent_msat_per_month + cost.ingress_msat
        assert cost.rent_msat_per_month > 0
        plan = FolderPlan(files=1, plain_bytes=20 * MIB, sent_bytes=20 * MIB, objects=(20 * MIB,), problems=())
        print_plan(plan, cost, coding)
        said = capsys.readouterr().out
        assert "n0: 8.0 MiB are free, 13.0 MiB more are needed; " in said
        assert "lnstore rent buy n0 21MiB" in said
        assert "are more than the 0 left of budget_msat_per_month" in said
        for node in cost.nodes:
            entry = purse.catalog.find_node(node.petname)
            await buy(purse, entry, node.capacity_bytes + node.rent_bytes)
        assert not any(node.rent_bytes for node in (await cost_of(purse, client, [20 * MIB], coding)).nodes)
        await client.put(file, needed=1, total=2, happy=2)


async def test_nodes_that_are_missing_are_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with trio.open_nursery() as tasks:
        bed = bed_of(tmp_path, tasks, nodes=3, needed=2, happy=3)
        bed.nodes[0].down = True
        async with bed.client() as client:
            cost = await cost_of(purse_of(client), client, [1000], CODING)
        assert (cost.short, len(cost.nodes), len(cost.unfit)) == (1, 2, 1)
        plan = FolderPlan(files=1, plain_bytes=1000, sent_bytes=1000, objects=(1000,), problems=())
        print_plan(plan, cost, CODING)
        said = capsys.readouterr()
        assert "1 nodes are missing" in said.err
        assert "more rent a month: nothing" in said.out
        tasks.cancel_scope.cancel()
