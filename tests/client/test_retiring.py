"""Everything off a node: elsewhere first, gone on with after any crash, and told where something has to stay."""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from money_world import FragileCatalog, Killed
from node_street import PERIOD, House, Street, open_street
from transfer_fixtures import content, read_back

from lnstore.client.checking import check
from lnstore.client.files import Client
from lnstore.client.health import files_below
from lnstore.client.looking import Depth
from lnstore.client.purse import Purse
from lnstore.client.rent import pay_rent
from lnstore.client.retire_plan import plan_retire
from lnstore.client.retiring import Retired, mark, retire
from lnstore.client.targets import find_targets
from lnstore_protocol.caps import ReadCap
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import PutShare


async def stored(client: Client, count: int) -> dict[ReadCap, bytes]:
    files = {}
    for number in range(count):
        data = content(60_000 + number, number)
        files[(await client.put(BytesIO(data), name=f"file{number}")).cap] = data
    return files


def busiest(street: Street, purse: Purse) -> House:
    return max(street.houses, key=lambda house: len(purse.catalog.shares_at(house.node_id)))


async def carry_out(street: Street, purse: Purse, client: Client, house: House) -> Retired:
    await purse.write(lambda: mark(purse.catalog, house.node_id, retiring=True))
    return await retire(purse, street.entry(purse, house), await find_targets(client))


async def test_killed_at_every_commit_it_goes_on_sends_nothing_twice_and_ends_the_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each crash every file has at least as many shares as before; the plan says what is moved in the end."""
    async with open_street(tmp_path, 5, needed=2, total=3) as street:
        sent: list[ShareId] = []

        async def count(true: Any, request: Any, message: PutShare) -> Any:
            sent.append(message.share_id)
            return await true(request, message)

        async with street.client() as (purse, client):
            files = await stored(client, 2)
            house = busiest(street, purse)
            segments = [row for row in purse.catalog.shares_at(house.node_id) if row.segment >= 0]
            plan = await plan_retire(purse, street.entry(purse, house), await find_targets(client))
            assert (plan.shares, plan.superfluous, plan.stuck) == (len(segments) + 2, 2, 0)
            assert sum(load.shares for load in plan.loads) == len(segments)
            assert plan.read_msat > 0
            assert plan.parting is not None
            assert not street.entry(purse, house).retiring
        for each in street.houses:
            street.cheat(monkeypatch, each, PutShare, count)
        retired, crashes = None, 0
        while retired is None:
            async with street.client() as (purse, client):
                assert isinstance(purse.catalog, FragileCatalog)
                purse.catalog.dies_before, purse.catalog.dies_after = (
                    (crashes // 2, None) if crashes % 2 else (None, crashes // 2)
                )
                try:
                    retired = await carry_out(street, purse, client, house)
                except Killed:
                    crashes += 1
            async with street.client() as (purse, _):
                rows = [row for file in purse.catalog.files() for row in purse.catalog.shares_of(file.file_id)]
                numbers = Counter((row.file_id, row.segment) for row in rows)
                assert all(count >= 3 for count in numbers.values())
                assert not files_below(purse, 1)
        assert crashes > 4
        assert retired.is_over
        assert sorted(sent) == sorted({row.share_id for row in segments})
        async with street.client() as (purse, client):
            assert street.entry(purse, house).agreement is None
            assert not street.entry(purse, house).retiring
            assert purse.catalog.shares_at(house.node_id) == []
            checked = await check(purse, depth=Depth.READ)
            assert checked.sound
            assert all(health.missing == 0 for health in checked.files)
            street.clock.at += PERIOD
            assert all(outcome.error is None for outcome in await pay_rent(purse))
        await street.stop(house)
        async with street.client() as (_, client):
            for cap, data in files.items():
                assert await read_back(client, cap) == data


async def test_a_node_that_is_gone_is_retired_by_the_others_and_is_not_paid(tmp_path: Path) -> None:
    async with open_street(tmp_path, 4, needed=2, total=3) as street:
        async with street.client() as (purse, client):
            files = await stored(client, 1)
            house = busiest(street, purse)
            await street.stop(house)
            assert [health.spare for health in files_below(purse, 1, [house.node_id])] == [0]
            plan = await plan_retire(purse, street.entry(purse, house), await find_targets(client))
            assert plan.problem
            assert plan.rebuilt == plan.shares
            retired = await carry_out(street, purse, client, house)
            assert (retired.is_over, retired.stuck) == (False, ())
            assert "retire it again once it answers" in retired.why_not_left
            checked = await check(purse, depth=Depth.READ)
            assert (checked.sound, checked.silent) == (True, ())
            street.clock.at += PERIOD
            assert [outcome.error for outcome in await pay_rent(purse)] == [None] * 3
            for cap, data in files.items():
                assert await read_back(client, cap) == data
        await street.start(house)
        async with street.client() as (purse, client):
            assert (await carry_out(street, purse, client, house)).is_over


async def test_what_has_no_other_node_stays_with_its_account(tmp_path: Path) -> None:
    """Each other node holds something of the segment already."""
    async with open_street(tmp_path, 3, needed=2, total=3) as street, street.client() as (purse, client):
        await stored(client, 1)
        house = busiest(street, purse)
        plan = await plan_retire(purse, street.entry(purse, house), await find_targets(client))
        assert (plan.stuck, plan.superfluous, plan.loads) == (2, 0, ())
        retired = await carry_out(street, purse, client, house)
        assert not retired.is_over
        assert {move.reason for move in retired.stuck} == {"no other node has room for it; rent more, or add a node"}
        assert "2 shares are still there" in retired.why_not_left
        assert street.entry(purse, house).agreement is not None
        assert (await check(purse)).sound
        street.clock.at += PERIOD
        assert [outcome.error for outcome in await pay_rent(purse)] == [None] * 3
        targets = await find_targets(client)
        assert house.node_id not in {one.node.node_id for one in targets.fit}
        assert any("--cancel" in one.reason for one in targets.unfit)
        mark(purse.catalog, house.node_id, retiring=False)
        assert len((await find_targets(client)).fit) == 3
