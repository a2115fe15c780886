"""Where repair stores what is missing: what found no node before, and back where it was lost if there is no other."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from transfer_fixtures import Bed, bed_of, content, read_back

from lnstore.client.caring import survey
from lnstore.client.checking import check, check_cap
from lnstore.client.files import Client
from lnstore.client.looking import Depth
from lnstore.client.losses import Losses
from lnstore.client.purse import Purse
from lnstore.client.repair import repair
from lnstore.client.repairing import repair_cap, repair_files
from lnstore.client.standing import standings
from lnstore.client.targets import Targets, find_targets
from lnstore.client.upload import PutFailed
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.messages import ErrorReply, PutShare, Request


def purse_of(bed: Bed, client: Client) -> Purse:
    return Purse.of(bed.profile, client.catalog, None, client.pool.dial, client.clock)  # type: ignore[arg-type]  # no money


async def test_what_found_no_node_is_stored_once_there_is_one(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=4, needed=2, happy=2)
    bed.nodes[0].down = bed.nodes[1].down = True
    data = content(50_000)
    async with bed.client() as client:
        put = await client.put(bed.file(data))
        purse = purse_of(bed, client)
        before = await check(purse)
        assert (before.sound, before.files[0].missing, before.files[0].spare) == (True, 2, 0)
        assert await repair(purse, (await standings(client.pool, client.catalog, client.catalog.nodes()))[0]) == []
    bed.nodes[0].down = False
    async with bed.client() as client:
        purse = purse_of(bed, client)
        done = await repair_files(purse, await find_targets(client))
        assert [(one.share.at, one.to is not None) for one in done] == [(None, True)], "one for each node there is"
        assert bed.nodes[0].count(PutShare) == 1
        after = await check(purse, depth=Depth.READ)
        assert (after.files[0].missing, after.files[0].spare) == (1, 1)
        bed.nodes[2].down = True
        bed.nodes[2].fault = lambda _: "die"
        assert await read_back(client, put.cap) == data


async def test_what_is_not_stored_yet_is_neither_lost_nor_repaired(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2, happy=3)

    def refuses(request: Request) -> ErrorReply | None:
        return ErrorReply(code=ErrorCode.INTERNAL, message="") if isinstance(request, PutShare) else None

    for number in (2, 3):
        for node in bed.nodes[:number]:
            node.fault = refuses
        async with bed.client() as client:
            with pytest.raises(PutFailed):
                await client.put(bed.file(content(20_000), f"file{number}"))
            purse = purse_of(bed, client)
            checked = await check(purse)
            assert checked.sound
            assert checked.by_node == checked.fewest == []
            assert [health.file.complete for health in checked.files] == [False] * (number - 1)
            assert await repair_files(purse, await find_targets(client)) == []


async def test_a_share_goes_back_where_it_was_lost_if_there_is_no_other_node(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """It has to be shown there then; a node that keeps nothing is told, and the loss stays one."""
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    node = bed.nodes[1]
    async with bed.client() as client:
        await client.put(bed.file(content(50_000)))
        purse = purse_of(bed, client)
        kept = dict(node.shares)
        node.shares.clear()
        assert not (await check(purse, depth=Depth.ASKED)).sound
        fit = (await standings(client.pool, client.catalog, client.catalog.nodes()))[0]

        def forgets(request: Request) -> None:
            node.shares.clear()

        node.fault = forgets
        done = await repair(purse, fit)
        assert [one.to for one in done] == [None, None]
        assert all(one.reason.endswith("n1 lost it again") for one in done)
        assert len(Losses(purse.catalog).all()) == 2
        node.fault = lambda _: None
        done = await repair(purse, fit)
        assert [one.to is not None and one.to.petname for one in done] == ["n1", "n1"]
        assert node.shares == kept
        assert Losses(purse.catalog).all() == []
        assert (await check(purse, depth=Depth.READ)).files[0].missing == 0


async def test_of_equal_shares_only_as_many_are_stored_as_are_missing(tmp_path: Path, nursery: trio.Nursery) -> None:
    """With k = 1 all shares of a segment are one; who looks after the file counts the nodes that hold it."""
    bed = bed_of(tmp_path, nursery, nodes=5, needed=1)
    bed = Bed(tmp_path / "of three", bed.network, 1, 3, 3)
    async with bed.client() as client:
        cap = (await client.put(bed.file(content(20_000)))).cap.verify_cap()
        rows = [row for row in client.catalog.shares_of(1) if row.segment == 0]
    bed = Bed(tmp_path / "helper", bed.network, 1, 3, 3)
    async with bed.client() as client:
        for number in (0, 1):
            holder = next(node for node in bed.nodes if node.identity.public_key == rows[number].node_id)
            del holder.shares[bytes(rows[number].share_id)]
        purse = purse_of(bed, client)
        lacking = await check_cap(purse, cap, Depth.ASKED)
        assert (lacking.files[0].missing, lacking.files[0].spare) == (2, 0)
        done = await repair_cap(purse, await find_targets(client), cap)
        assert sum(one.sent for one in done) == 2
        assert (await check_cap(purse, cap, Depth.READ)).files[0].missing == 0
        assert await repair_cap(purse, await find_targets(client), cap) == []


async def test_a_cared_for_file_whose_manifest_is_gone_is_told_with_the_others(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    bed = bed_of(tmp_path, nursery, nodes=4, needed=2)
    bed = Bed(tmp_path / "of three", bed.network, 2, 3, 3)
    async with bed.client() as client:
        cap = (await client.put(bed.file(content(20_000)))).cap.verify_cap()
    bed = Bed(tmp_path / "helper", bed.network, 2, 3, 3)
    async with bed.client() as client:
        await client.put(bed.file(content(10_000), "other"))
        purse = purse_of(bed, client)
        (probe,) = [probe for probe in (await survey(purse, cap, Depth.ASKED)).probes() if probe.number == 2]
        for node in bed.nodes:
            node.shares.pop(bytes(probe.share_id), None)
        assert any(one.sent for one in await repair_cap(purse, await find_targets(client), cap))
        for node in bed.nodes:
            node.shares.pop(bytes(cap.manifest_id), None)
        checked = await check(purse, depth=Depth.ASKED)
        assert {health.file.name: health.sound for health in checked.files} == {
            f"care-{cap.manifest_id.hex()[:16]}": False,
            "other": True,
        }
        none = Targets((), (), frozenset())
        (told,) = await repair_files(purse, none)
        assert (told.to, told.share.share_id) == (None, cap.manifest_id)
        assert told.reason.startswith("no node gave the file's manifest")


async def test_a_node_that_does_not_answer_is_told_and_counts_as_gone_but_for_ones_own_share(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """What somebody else has there nobody can know; one's own share may still be there, and is paid for."""
    bed = bed_of(tmp_path, nursery, nodes=6, needed=2)
    bed = Bed(tmp_path / "of three", bed.network, 2, 3, 3)
    async with bed.client() as client:
        cap = (await client.put(bed.file(content(20_000)))).cap.verify_cap()
        row = next(row for row in client.catalog.shares_of(1) if row.segment == 0)
    at = next(number for number, node in enumerate(bed.nodes) if node.identity.public_key == row.node_id)
    bed = Bed(tmp_path / "helper", bed.network, 2, 3, 3)
    told: list[str] = []
    bed.nodes[at].down = True
    for sent in (1, 0):
        async with bed.client() as client:
            purse = purse_of(bed, client)
            targets = await find_targets(client)
            done = await repair_cap(purse, targets, cap, silent=lambda node, _: told.append(node.petname))
            assert sum(one.sent for one in done if one.share.share_id == row.share_id) == sent
            ours = next(row_ for row_ in client.catalog.shares_of(1) if row_.share_id == row.share_id)
        holder = next(node for node in bed.nodes if node.identity.public_key == ours.node_id)
        holder.down = True
    down = [f"n{number}" for number, node in enumerate(bed.nodes) if node.down]
    assert sorted(told) == sorted([f"n{at}", *down])
