"""A node's word that it has a share is no share: repair has it shown before it counts on it."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from money_world import Killed
from node_street import House, Street, open_street
from transfer_fixtures import content, read_back

from lnstore.client.checking import check
from lnstore.client.faults import Fault
from lnstore.client.files import Client
from lnstore.client.losses import Losses
from lnstore.client.purse import Purse
from lnstore.client.repair import repair
from lnstore.client.standing import standings
from lnstore_protocol.ids import ShareId


def lose(street: Street, purse: Purse, house: House, share_id: ShareId) -> None:
    house.share_path(share_id).unlink()
    Losses(purse.catalog).note(house.node_id, [share_id], Fault.SHARE_GONE, street.clock.now())


def holder(street: Street, purse: Purse, share_id: ShareId) -> House:
    (row,) = [row for row in purse.catalog.shares_of(1) if row.share_id == share_id]
    return next(house for house in street.houses if house.node_id == row.node_id)


async def repair_all(purse: Purse, client: Client) -> list[bool]:
    fit, _ = await standings(client.pool, purse.catalog, purse.catalog.nodes())
    return [one.sent for one in await repair(purse, fit)]


async def test_a_share_does_not_go_back_to_a_node_that_lost_it_on_its_word(tmp_path: Path) -> None:
    """It still has the lease, until it is told that the share was given up there."""
    async with open_street(tmp_path, 4, needed=2, total=3) as street:
        data = content(90_000, 1)
        async with street.client() as (purse, client):
            cap = (await client.put(BytesIO(data), name="file")).cap
            share_id = next(share.share_id for share in purse.catalog.shares_of(1) if share.segment == 0)
            first = holder(street, purse, share_id)
            for _ in range(2):
                lose(street, purse, holder(street, purse, share_id), share_id)
                assert await repair_all(purse, client) == [True]
            assert holder(street, purse, share_id) is first  # the only node that holds nothing else of the segment
            assert all(health.sound for health in (await check(purse)).files)
            assert await read_back(client, cap) == data


async def test_what_an_interrupted_repair_stored_and_the_node_lost_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_street(tmp_path, 4, needed=2, total=3) as street:
        async with street.client() as (purse, client):
            await client.put(BytesIO(content(90_000, 2)), name="file")
            share_id = next(share.share_id for share in purse.catalog.shares_of(1) if share.segment == 0)
            lose(street, purse, holder(street, purse, share_id), share_id)

            def dies(*_: Any) -> None:
                raise Killed

            with monkeypatch.context() as patch:
                patch.setattr(Losses, "moved", dies)
                with pytest.raises(Killed):
                    await repair_all(purse, client)
        (there,) = [house for house in street.houses if house.share_path(share_id).exists()]
        there.share_path(share_id).unlink()
        async with street.client() as (purse, client):
            assert await repair_all(purse, client) == [True]
            assert holder(street, purse, share_id) is there
            assert all(health.sound for health in (await check(purse)).files)
