"""A friend with a verify capability alone looks after a file: checks it, repairs it, pays for it, cannot read it."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from money_world import Killed
from node_street import PERIOD, open_street
from transfer_fixtures import content, read_back

from lnstore.client.caring import cared_for
from lnstore.client.catalog import Catalog
from lnstore.client.catalog_changes import remove
from lnstore.client.checking import check, check_cap
from lnstore.client.download import FileUnreadable
from lnstore.client.faults import Fault
from lnstore.client.files import CapInvalid, cap_of
from lnstore.client.looking import Depth
from lnstore.client.losses import Losses
from lnstore.client.profile import init_profile
from lnstore.client.rent import pay_rent
from lnstore.client.repairing import repair_cap, repair_files
from lnstore.client.targets import find_targets
from lnstore_protocol.caps import VerifyCap
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import PutShare


async def test_a_friend_repairs_what_is_missing_and_only_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when killed before the catalog heard of it; later losses of the friend's own share are repaired as well."""
    async with open_street(tmp_path, 5, needed=2, total=3) as street:
        data = content(300_000)
        async with street.client() as (purse, client):
            cap = (await client.put(BytesIO(data), name="file")).cap
            rows = [row for row in purse.catalog.shares_of(1) if row.segment == 0]
        owner, verify_cap = street.profile, cap.verify_cap()
        houses = {house.node_id: house for house in street.houses}
        street.profile = init_profile(tmp_path / "friend", needed=2, happy=2, total=3, maximum_msat_per_gib_month=10**9)
        await street.settle_in()
        sent: list[ShareId] = []

        async def count(true: Any, request: Any, message: PutShare) -> Any:
            sent.append(message.share_id)
            return await true(request, message)

        for house in street.houses:
            street.cheat(monkeypatch, house, PutShare, count)
        async with street.client() as (purse, client):
            whole = await check_cap(purse, verify_cap, Depth.READ)
            assert whole.sound
            assert (whole.files[0].missing, whole.files[0].spare, len(whole.files[0].nodes)) == (0, 1, 5)
            assert await repair_cap(purse, await find_targets(client), verify_cap) == []
            assert purse.catalog.files() == []
            houses[rows[0].node_id].share_path(rows[0].share_id).unlink()
            lacking = await check_cap(purse, verify_cap, Depth.AUDITED)
            assert not lacking.sound
            assert (lacking.files[0].missing, lacking.files[0].spare) == (1, 0)

            def dies(*_: Any) -> None:
                raise Killed

            with monkeypatch.context() as patch:
                patch.setattr(Catalog, "add_shares", dies)
                with pytest.raises(Killed):
                    await repair_cap(purse, await find_targets(client), verify_cap)
        async with street.client() as (purse, client):
            (one,) = await repair_cap(purse, await find_targets(client), verify_cap)
            assert one.to is not None
            assert one.to.node_id not in {row.node_id for row in rows[1:]}
            assert sent == [rows[0].share_id]
            assert (await check_cap(purse, verify_cap, Depth.READ)).sound
            file = cared_for(purse, verify_cap)
            assert file is not None
            assert [(row.node_id, row.share_id) for row in purse.catalog.shares_of(file.file_id)] == [
                (one.to.node_id, rows[0].share_id)
            ]
            with pytest.raises(CapInvalid, match="cannot be read"):
                cap_of(file)
            street.clock.at += PERIOD
            assert all(outcome.error is None for outcome in await pay_rent(purse))

            # The friend's own share is lost: found by the audit of one's own shares, moved on from there.
            houses[one.to.node_id].share_path(rows[0].share_id).unlink()
            checked = await check(purse)
            assert (checked.sound, checked.files[0].missing) == (False, 1)
            assert [loss.fault for loss in Losses(purse.catalog).all()] == [Fault.SHARE_GONE]
            (again,) = await repair_files(purse, await find_targets(client))
            assert again.to is not None
            assert again.share.at == one.to.node_id
            assert again.to.node_id != one.to.node_id
            assert Losses(purse.catalog).all() == []
            assert (await check(purse)).sound
            await remove(client, [file.name])
            assert purse.catalog.files() == []
        street.profile = owner
        async with street.client() as (_, client):
            assert await read_back(client, cap) == data


async def test_what_a_capability_cannot_open_or_find_is_told(tmp_path: Path) -> None:
    async with open_street(tmp_path, 2, needed=1) as street, street.client() as (purse, client):
        cap = (await client.put(BytesIO(b"x"), name="file")).cap
        with pytest.raises(FileUnreadable, match="no node gave the file's manifest"):
            await check_cap(purse, VerifyCap(bytes(32), ShareId(bytes(32))), Depth.ASKED)
        own = await check_cap(purse, cap.verify_cap(), Depth.ASKED)
        assert (own.files[0].file.name, own.sound) == ("file", True)
        with pytest.raises(FileUnreadable, match="no manifest that it opens"):
            await remove_and_check(purse, client, VerifyCap(bytes(32), cap.manifest_id))


async def remove_and_check(purse: Any, client: Any, cap: VerifyCap) -> None:
    """The file is another's once the catalog forgot it; its shares are still there."""
    purse.catalog.remove_file(client.catalog.named("file").file_id)
    await check_cap(purse, cap, Depth.ASKED)
