"""What a node lost and the client then gave up is nobody's loss any more: the rest is proven, and paid for."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from node_street import PERIOD, open_street
from transfer_fixtures import content

from lnstore.client.catalog_changes import remove
from lnstore.client.checking import check
from lnstore.client.losses import Losses
from lnstore.client.money_errors import ProofFailed
from lnstore.client.rent import pay_rent


async def test_rent_is_paid_again_once_the_file_whose_share_was_lost_is_removed(tmp_path: Path) -> None:
    """At once, whether or not it was looked for what is lost; and the loss is forgotten with the file."""
    async with open_street(tmp_path, 3, needed=2, total=3) as street, street.client() as (purse, client):
        for name in ("lost", "audited", "kept"):
            await client.put(BytesIO(content(90_000, len(name))), name=name)
        for number, name in enumerate(("lost", "audited")):
            file = purse.catalog.named(name)
            row = next(row for row in purse.catalog.shares_of(file.file_id) if row.segment == 0)
            house = next(house for house in street.houses if house.node_id == row.node_id)
            house.share_path(row.share_id).unlink()
            street.clock.at += PERIOD
            outcomes = {outcome.node.node_id: outcome for outcome in await pay_rent(purse)}
            assert isinstance(outcomes.pop(row.node_id).error, ProofFailed)
            assert all(outcome.error is None for outcome in outcomes.values())
            if number:
                assert [len(health.lost) for health in (await check(purse)).files] == [1, 0]
            await remove(client, [name])
            assert all(outcome.error is None for outcome in await pay_rent(purse))
            assert Losses(purse.catalog).all() == []
            assert purse.catalog.rows("SELECT * FROM lost_shares") == []
