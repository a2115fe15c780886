"""A node that cheats is not paid; the client says which and why, finds what is lost, and stores it elsewhere."""

from __future__ import annotations

import itertools
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import trio
from cheats import CHEATS, Cheat, Scene
from money_world import Killed
from node_street import PERIOD, Street, open_street
from transfer_fixtures import content, read_back

from lnstore.client import repair as repairing
from lnstore.client.catalog import ShareEntry
from lnstore.client.checking import check
from lnstore.client.diagnosis import diagnose
from lnstore.client.faults import Fault
from lnstore.client.losses import Losses
from lnstore.client.purse import Purse
from lnstore.client.rent import RentOutcome, pay_rent
from lnstore.client.repair import repair
from lnstore.client.scores import Happening, Scores, fault_of
from lnstore.client.standing import standings, trusted
from lnstore_protocol.caps import ReadCap
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import PutShare

FILES = 5


async def stored(street: Street) -> dict[ReadCap, bytes]:
    """Five files, so ten shares at each node that holds all of them."""
    files = {}
    async with street.client() as (_, client):
        for number in range(FILES):
            data = content(90_000 + number, number)
            result = await client.put(BytesIO(data), name=f"file{number}")
            files[result.cap] = data
    return files


def rows_of(purse: Purse) -> list[ShareEntry]:
    return [row for file in purse.catalog.files() for row in purse.catalog.shares_of(file.file_id)]


async def next_period(street: Street, purse: Purse) -> dict[str, RentOutcome]:
    street.clock.at += PERIOD
    return {outcome.node.petname: outcome for outcome in await pay_rent(purse)}


@pytest.mark.parametrize("cheat", CHEATS)
async def test_a_cheat_is_not_paid_named_found_and_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheat: Cheat
) -> None:
    """R-R20, R-R22: and the honest nodes are paid all the same; the file is whole again without the cheat."""
    async with open_street(tmp_path, 3, needed=1, total=2) as street:
        files = await stored(street)
        async with street.client() as (purse, client):
            assert all(outcome.error is None for outcome in (await next_period(street, purse)).values())
            held = {house: len(purse.catalog.shares_at(house.node_id)) for house in street.houses}
            house = max(street.houses, key=held.__getitem__)
            scene = Scene(street, house, monkeypatch, purse)
            entry = street.entry(purse, house)
            await cheat.setup(scene)
            before = sum(i.received_msat or 0 for i in house.lightning.invoices.values())
            outcomes = await next_period(street, purse)
            cheated = outcomes.pop(entry.petname)
            assert cheated.paid == ()
            assert cheated.error is not None
            assert fault_of(cheated.error) is cheat.fault
            assert "nothing was paid" in str(cheated.error)
            assert sum(i.received_msat or 0 for i in house.lightning.invoices.values()) == before
            assert all(other.error is None and len(other.paid) == 1 for other in outcomes.values())

            found = await diagnose(purse, entry)
            score = Scores(purse.catalog).score(house.node_id, street.clock.now())
            assert score.value < 100
            assert bool(found.lost) is cheat.lost
            faults = [event.fault for event in score.events if event.happening is Happening.AUDIT_FAILED]
            assert faults == ([] if cheat.found is None else [cheat.found])
            if cheat.lost:
                assert [one.share_id for one in found.lost] == [scene.largest]

            nodes = purse.catalog.nodes()
            scores = Scores(purse.catalog).all([node.node_id for node in nodes], street.clock.now())
            fit, _ = trusted(*await standings(client.pool, purse.catalog, nodes), scores)
            done = await repair(purse, [one for one in fit if one.node.node_id != house.node_id])
            assert all(one.to is not None and one.sent for one in done)
            assert bool(done) is cheat.lost
            assert Losses(purse.catalog).all() == []
        await street.stop(house)
        async with street.client() as (_, client):
            for cap, data in files.items():
                assert await read_back(client, cap) == data


async def test_after_repair_the_node_is_paid_for_what_it_still_holds(tmp_path: Path) -> None:
    """R-R21: what was repaired elsewhere is expected there no more."""
    async with open_street(tmp_path, 5, needed=2, total=4) as street:
        files = await stored(street)
        async with street.client() as (purse, client):
            house = max(street.houses, key=lambda one: len(purse.catalog.shares_at(one.node_id)))
            scene = Scene(street, house, pytest.MonkeyPatch(), purse)
            entry, victim = street.entry(purse, house), scene.largest
            scene.change(victim, lambda data: data.__setitem__(slice(None), bytes(len(data))))
            error = (await next_period(street, purse))[entry.petname].error
            assert error is not None
            checked = await check(purse)
            assert [loss.share.share_id for health in checked.files for loss in health.lost] == [victim]
            assert sorted(health.spare for health in checked.files) == [1, 2, 2, 2, 2]
            fit, _ = await standings(client.pool, purse.catalog, purse.catalog.nodes())
            (done,) = await repair(purse, fit)
            assert done.to is not None
            segment = [s for s in purse.catalog.shares_of(done.file.file_id) if s.segment == done.share.segment]
            assert len({share.node_id for share in segment}) == len(segment) == 4
            (outcome,) = await pay_rent(purse, [entry])
            assert (outcome.error, len(outcome.paid), outcome.paid[0].verified) == (None, 1, True)
            assert all(health.sound for health in (await check(purse)).files)
            assert all(one.error is None for one in (await next_period(street, purse)).values())
            for cap, data in files.items():
                assert await read_back(client, cap) == data


@pytest.mark.parametrize("where", ["before the share is sent", "before the catalog knows", "after the catalog knows"])
async def test_a_repair_that_is_killed_goes_on_and_sends_no_share_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Two shares are lost; the process dies at one. What is acknowledged and not known is found by asking."""
    async with open_street(tmp_path, 4, needed=2, total=3) as street:
        files = await stored(street)
        sent: list[ShareId] = []

        async def count(true: Any, request: Any, message: PutShare) -> Any:
            sent.append(message.share_id)
            return await true(request, message)

        async with street.client() as (purse, client):
            segments = [share for share in purse.catalog.shares_of(1) if share.segment == 0]
            segments += [share for share in purse.catalog.shares_of(2) if share.segment == 0]
            lost = [segments[0], segments[3]]
            for share in lost:
                Losses(purse.catalog).note(share.node_id, [share.share_id], Fault.SHARE_GONE, street.clock.now())
            for house in street.houses:
                street.cheat(monkeypatch, house, PutShare, count)
            moves = itertools.count(1)
            moved = Losses.moved

            def dies(self: Losses, *args: Any) -> None:
                move = next(moves)
                if move == 2 and where == "before the catalog knows":
                    raise Killed
                moved(self, *args)
                if move == 2 and where == "after the catalog knows":
                    raise Killed
                if where == "before the share is sent":
                    raise Killed

            fit, _ = await standings(client.pool, purse.catalog, purse.catalog.nodes())
            with monkeypatch.context() as patch:
                patch.setattr(Losses, "moved", dies)
                if where == "before the share is sent":
                    patch.setattr(repairing, "SEGMENTS_AT_ONCE", 1)
                with pytest.raises(Killed):
                    await repair(purse, fit)
        async with street.client() as (purse, client):
            fit, _ = await standings(client.pool, purse.catalog, purse.catalog.nodes())
            done = await repair(purse, fit)
            left = {"before the share is sent": 1, "before the catalog knows": 1, "after the catalog knows": 0}[where]
            assert [one.to is not None for one in done] == [True] * left
            assert sorted(sent) == sorted(share.share_id for share in lost)
            assert Losses(purse.catalog).all() == []
            assert all(health.sound for health in (await check(purse)).files)
            assert all(one.error is None for one in (await next_period(street, purse)).values())
            for cap, data in files.items():
                assert await read_back(client, cap) == data


async def test_several_segments_are_repaired_at_once_and_one_of_two_files_but_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as the bound of memory allows; what two files have in common is one share and goes to one node."""
    async with open_street(tmp_path, 4, needed=2, total=3) as street:
        files = await stored(street)
        sent: list[ShareId] = []
        under_way = most = 0
        several = trio.Event()

        async def count(true: Any, request: Any, message: PutShare) -> Any:
            nonlocal under_way, most
            sent.append(message.share_id)
            under_way += 1
            most = max(most, under_way)
            if under_way > 1:
                several.set()
            with trio.move_on_after(5):
                await several.wait()
            reply = await true(request, message)
            under_way -= 1
            return reply

        async with street.client() as (purse, client):
            same = tmp_path / "same"
            same.write_bytes(files[next(iter(files))])
            await client.put(same, name="again", dedupe=True)
            lost = {
                share.share_id: share
                for file in purse.catalog.files()
                for share in purse.catalog.shares_of(file.file_id)
                if (share.segment, share.number) == (0, 0)
            }
            assert len(purse.catalog.files()) == len(lost) + 1
            for share in lost.values():
                Losses(purse.catalog).note(share.node_id, [share.share_id], Fault.SHARE_GONE, street.clock.now())
            for house in street.houses:
                street.cheat(monkeypatch, house, PutShare, count)
            fit, _ = await standings(client.pool, purse.catalog, purse.catalog.nodes())
            done = await repair(purse, fit)
            assert all(one.to is not None for one in done)
            assert sorted(sent) == sorted(lost)
            assert most > 1
            sent.clear()
            monkeypatch.setattr(repairing, "HELD_BYTES", 1)
            most = 0
            for share_id in lost:
                (row,) = {row.node_id for row in rows_of(purse) if row.share_id == share_id}
                Losses(purse.catalog).note(row, [share_id], Fault.SHARE_GONE, street.clock.now())
            assert all(one.to is not None for one in await repair(purse, fit))
            assert (sorted(sent), most) == (sorted(lost), 1)
            for cap, data in files.items():
                assert await read_back(client, cap) == data


async def test_what_cannot_be_repaired_stays_a_loss_with_its_reason(tmp_path: Path) -> None:
    """No node is left that holds nothing else of the segment; and where too little is left, nothing is made up."""
    async with open_street(tmp_path, 3, needed=2, total=3) as street:
        await stored(street)
        async with street.client() as (purse, client):
            fit, _ = await standings(client.pool, purse.catalog, purse.catalog.nodes())
            segment = [share for share in purse.catalog.shares_of(1) if share.segment == 0]
            losses = Losses(purse.catalog)
            losses.note(segment[0].node_id, [segment[0].share_id], Fault.SHARE_GONE, street.clock.now())
            others = [one for one in fit if one.node.node_id != segment[0].node_id]
            (one,) = await repair(purse, others, files=[purse.catalog.by_id(1)])
            assert one.to is None
            assert "rent more, or add a node" in one.reason
            losses.note(segment[1].node_id, [segment[1].share_id], Fault.SHARE_GONE, street.clock.now())
            done = await repair(purse, fit, files=[purse.catalog.by_id(1)])
            assert [one.to for one in done] == [None, None]
            assert "2 other shares are needed, 1 can be read" in done[0].reason
            assert len(losses.all()) == 2
            assert [health.spare for health in (await check(purse, files=[purse.catalog.by_id(1)])).files] == [1]
            assert losses.all() == []
