"""`put --dedupe`: what is stored is not sent again, and stays until its last name is removed, whatever is killed."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from io import BytesIO
from pathlib import Path

import pytest
import trio
from cheats import Scene
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from money_world import FragileCatalog, Killed
from node_street import PERIOD, open_street
from tiny_node import no_fault
from transfer_fixtures import Bed, bed_of, content, read_back

from lnstore.client.catalog import CatalogError
from lnstore.client.catalog_changes import forget, remove, rename
from lnstore.client.checking import check
from lnstore.client.contents import Content, ContentHasher, content_key
from lnstore.client.faults import Fault
from lnstore.client.files import Client, Coding, cap_of
from lnstore.client.folder_catalog import FolderCatalog
from lnstore.client.folder_get import get_folder
from lnstore.client.folder_plan import plan_folder
from lnstore.client.folder_put import put_folder
from lnstore.client.keeping import Keep
from lnstore.client.losses import Losses
from lnstore.client.naming import find_stored
from lnstore.client.pool import open_pool
from lnstore.client.profile import Profile
from lnstore.client.rent import pay_rent
from lnstore.client.repair import repair
from lnstore.client.source import SourceError
from lnstore.client.standing import standings
from lnstore_protocol.messages import HaveShares, PutShare

CODING = Coding(2, 3, 3)


def sent(bed: Bed) -> int:
    """How many shares were sent since the last time."""
    count: int = sum(node.count(PutShare) for node in bed.nodes)
    for node in bed.nodes:
        node.requests.clear()
    return count


def holds_what_the_catalog_says(bed: Bed, client: Client) -> None:
    """Each node: all shares of each complete file, and nothing but what some file needs or was given up."""
    for node in bed.nodes:
        node_id = node.address.node_id
        ours = {share.share_id for share in client.catalog.shares_at(node_id)}
        assert ours <= set(node.shares)
        assert not ours & client.catalog.given_up_at(node_id)


# --- one file ---------------------------------------------------------------------------------------------------------


async def test_a_stored_content_gets_another_name_and_nothing_is_sent(tmp_path: Path) -> None:
    """Also when it was put without --dedupe, from a stream, and under a name that an interrupted put has."""
    data = content(300_000)
    async with trio.open_nursery() as tasks:
        bed = bed_of(tmp_path, tasks, nodes=3, needed=2, happy=3)
        async with bed.client() as client:
            first = await client.put(BytesIO(data), name="streamed")
        bed.nodes[0].fault = lambda request: "die" if isinstance(request, PutShare) else None
        async with bed.client() as client:
            with pytest.raises(Exception, match="could not be stored"):
                await client.put(bed.file(data, "again"))
        bed.nodes[0].fault = no_fault
        sent(bed)
        async with bed.client() as client:
            again = await client.put(bed.file(data, "again"), dedupe=True)
            assert not sent(bed)
            assert (again.same_as, again.cap, again.missing_shares) == ("streamed", first.cap, 0)
            assert sum(node.found_shares for node in again.nodes.values()) == 3 * 2
            assert [file.name for file in client.ls()] == ["again", "streamed"]
            holds_what_the_catalog_says(bed, client)
            assert {len(node.shares) for node in bed.nodes} == {2}  # what the interrupted put had stored is dropped
            other = await client.put(bed.file(data[:-1] + b"!", "other"), dedupe=True)
            assert other.same_as is None
            assert sent(bed) == 6
            with pytest.raises(CatalogError, match="already a file called 'again'"):
                await client.put(bed.file(data, "again"), dedupe=True)
            with pytest.raises(SourceError, match="only once"):
                await client.put(BytesIO(data), name="third", dedupe=True)
            assert await read_back(client, again.cap) == data
        tasks.cancel_scope.cancel()


async def test_removing_one_name_leaves_the_content_to_the_other(tmp_path: Path) -> None:
    async with trio.open_nursery() as tasks:
        bed = bed_of(tmp_path, tasks, nodes=3, needed=2, happy=3)
        async with bed.client() as client:
            await client.put(bed.file(content(9000), "one"))
            stored = await client.put(bed.file(content(9000), "two"), dedupe=True)
            assert (await remove(client, ["one"])).freed_bytes == 0
            holds_what_the_catalog_says(bed, client)
            assert await read_back(client, stored.cap) == content(9000)
            third = await client.put(bed.file(content(9000), "three"), dedupe=True)
            assert third.same_as == "two"
            await remove(client, ["two", "three"])
            assert not any(node.shares for node in bed.nodes)
            assert client.catalog.rows("SELECT * FROM contents") == []
            anew = await client.put(bed.file(content(9000), "four"), dedupe=True)
            assert anew.same_as is None
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("harm", ["away", "lost", "noted", "coding"])
async def test_what_is_not_sound_or_coded_otherwise_is_stored_anew(tmp_path: Path, harm: str) -> None:
    """A node is away; it lost a share, or is known to have; or the new put asks for another coding."""
    async with trio.open_nursery() as tasks:
        bed = bed_of(tmp_path, tasks, nodes=4, needed=2, happy=3)
        async with bed.client() as client:
            first = await client.put(bed.file(content(9000), "one"), total=3)
            file = client.catalog.named("one")
            share = next(share for share in client.catalog.shares_of(file.file_id) if share.segment == 0)
            holder = next(node for node in bed.nodes if node.address.node_id == share.node_id)
            if harm == "lost":
                del holder.shares[share.share_id]
            elif harm == "noted":
                Losses(client.catalog).note(share.node_id, [share.share_id], Fault.SHARE_GONE, 1)
            holder.fault = (lambda m: "die" if isinstance(m, HaveShares) else None) if harm == "away" else no_fault
            total = 4 if harm == "coding" else 3
            again = await client.put(bed.file(content(9000), "two"), total=total, dedupe=True)
            assert again.same_as is None
            assert again.cap != first.cap
        tasks.cancel_scope.cancel()


def test_the_hash_is_secret_and_of_the_whole() -> None:
    """Another account's differs; so does that of other bytes; pieces make no difference."""
    first, second = ContentHasher(content_key(b"a" * 32)), ContentHasher(content_key(b"b" * 32))
    for piece in (b"one", b"two"):
        first.update(memoryview(piece))
        second.update(memoryview(b"onetwo" if piece == b"one" else b""))
    mine, other = first.end(), second.end()
    assert (mine.size_bytes, mine.offset) == (other.size_bytes, other.offset) == (6, 0)
    assert mine.digest != other.digest
    first.update(memoryview(b"onetwo"))
    assert first.end() == Content(mine.digest, 6, 6)
    assert mine.digest.hex() not in repr(mine)


class Told:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.said: list[tuple[int | None, list[tuple[int, int]]]] = []

    def start(self, total_bytes: int | None) -> None:
        self.said.append((total_bytes, []))

    def advance(self, bytes_done: int, shares_done: int) -> None:
        self.said[-1][1].append((bytes_done, shares_done))


async def test_progress_tells_of_the_comparison_then_of_what_is_sent_and_within_a_large_file_of_a_folder(
    tmp_path: Path,
) -> None:
    """Each ends where it said it would, and never goes back."""
    async with trio.open_nursery() as tasks:
        bed = bed_of(tmp_path, tasks, nodes=3, needed=2, happy=3)
        large = 30_000_000
        async with bed.client() as client:
            told = Told()
            (tmp_path / "things").mkdir()
            for name, size in (("large", large), ("small", 3000), ("small too", 5000)):
                (tmp_path / "things" / name).write_bytes(content(size))
            await put_folder(client, tmp_path / "things", coding=CODING, progress=told, dedupe=True)
            await client.put(tmp_path / "things" / "large", progress=told, dedupe=True)
            async with find_stored(client, "things") as found:
                assert found.tree is not None
                await get_folder(client, found.tree, tmp_path / "back", progress=told)
        totals = [total for total, _ in told.said]
        assert totals == [large + 8000, large + 8000, large, large + 8000]
        for total, steps in told.said:
            assert steps == sorted(steps)
            assert steps[-1][0] == total
        sending, reading = told.said[1][1], told.said[3][1]
        assert sending[-1][1] >= 3 * 5  # four segments, one pack
        assert len(reading) > 4  # within the large file
        tasks.cancel_scope.cancel()


# --- folders ----------------------------------------------------------------------------------------------------------


def a_folder(at: Path) -> Path:
    at.mkdir()
    for number in range(5):
        (at / f"{number}").write_bytes(content(3000, seed=number))
    (at / "copy of 1").write_bytes(content(3000, seed=1))
    (at / "large").write_bytes(content(4_500_000, seed=9))
    (at / "empty").touch()
    return at


async def test_moved_and_copied_files_of_folders_are_not_sent_again(tmp_path: Path) -> None:
    """Within one put, under other names and in other folders, and what lies by itself; all come back."""
    async with trio.open_nursery() as tasks:
        bed = bed_of(tmp_path, tasks, nodes=3, needed=2, happy=3)
        async with bed.client() as client:
            await client.put(bed.file(content(4_500_000, seed=9), "by itself"))
            folder = a_folder(tmp_path / "things")
            stored = await put_folder(client, folder, coding=CODING, dedupe=True)
            assert (stored.sent_bytes, stored.same_files) == (15_000, 2)
            (folder / "4").rename(folder / "moved")
            (tmp_path / "elsewhere").mkdir()
            (folder / "large").rename(tmp_path / "elsewhere" / "giant")
            for target in ("things", "elsewhere"):
                (tmp_path / target / "new").write_bytes(content(100, seed=77))
                plan = await plan_folder(client, tmp_path / target, dedupe=CODING)
                stored = await put_folder(client, tmp_path / target, coding=CODING, dedupe=True)
                assert plan.sent_bytes == stored.sent_bytes == (100 if target == "things" else 0)
            by_itself = await client.put(tmp_path / "elsewhere" / "giant", dedupe=True)
            assert by_itself.same_as is not None
            await remove(client, ["by itself", "giant"])
            await forget(client, "things", Keep(last=1))
            holds_what_the_catalog_says(bed, client)
            for name in ("things", "elsewhere"):
                async with find_stored(client, name) as found:
                    assert found.tree is not None
                    await get_folder(client, found.tree, tmp_path / f"{name} back")
                for path in (tmp_path / name).iterdir():
                    assert (tmp_path / f"{name} back" / path.name).read_bytes() == path.read_bytes()
            await remove(client, ["things", "elsewhere"])
            assert not any(node.shares for node in bed.nodes)
        tasks.cancel_scope.cancel()


async def test_a_copy_whose_first_changes_before_it_is_sent_is_sent_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was hashed is what is stored under each name."""
    async with trio.open_nursery() as tasks:
        bed = bed_of(tmp_path, tasks, nodes=3, needed=2, happy=3)
        folder = tmp_path / "things"
        folder.mkdir()
        for name in ("a", "b"):
            (folder / name).write_bytes(b"the same")
        async with bed.client() as client:
            store = client.store

            async def first_changes(*args: object, **kwargs: object) -> object:
                monkeypatch.undo()
                (folder / "a").write_bytes(b"not any more")
                return await store(*args, **kwargs)  # type: ignore[arg-type]

            monkeypatch.setattr(client, "store", first_changes)
            await put_folder(client, folder, coding=CODING, dedupe=True)
            async with find_stored(client, "things") as found:
                assert found.tree is not None
                await get_folder(client, found.tree, tmp_path / "back")
        assert (tmp_path / "back" / "a").read_bytes() == b"not any more"
        assert (tmp_path / "back" / "b").read_bytes() == b"the same"
        tasks.cancel_scope.cancel()


# --- what happens to shares happens to each name ----------------------------------------------------------------------


async def test_a_lost_share_is_lost_and_repaired_once_for_all_names_and_proven_once(tmp_path: Path) -> None:
    """check, repair and rent see one content; a name removed in between changes nothing for the other."""
    async with open_street(tmp_path, 4, needed=1, happy=2) as street, street.client() as (purse, client):
        (tmp_path / "file").write_bytes(content(90_000))
        for name in ("one", "two", "three"):
            stored = await client.put(tmp_path / "file", name=name, total=2, dedupe=True)
        assert (stored.same_as, stored.missing_shares) == ("one", 0)
        share = next(s for s in purse.catalog.shares_of(client.catalog.named("two").file_id) if s.segment == 0)
        node = purse.catalog.node(share.node_id)
        house = next(house for house in street.houses if house.node_id == node.node_id)
        scene = Scene(street, house, pytest.MonkeyPatch(), purse)
        scene.change(share.share_id, lambda data: data.__setitem__(slice(None), bytes(len(data))))
        Losses(purse.catalog).note(node.node_id, [share.share_id], Fault.SHARE_DAMAGED, 1)
        assert [len(health.lost) for health in (await check(purse)).files] == [1, 1, 1]
        await remove(client, ["one"])
        fit, _ = await standings(client.pool, purse.catalog, purse.catalog.nodes())
        (done,) = await repair(purse, fit)
        assert done.sent
        assert all(health.sound for health in (await check(purse)).files)
        for name in ("two", "three"):
            assert await read_back(client, cap_of(client.catalog.named(name))) == content(90_000)
        again = await client.put(tmp_path / "file", name="four", total=2, dedupe=True)
        assert again.same_as == "two"
        street.clock.at += PERIOD
        outcomes = await pay_rent(purse)
        assert [outcome.error for outcome in outcomes] == [None] * 4
        await remove(client, ["two", "three"])
        assert await read_back(client, again.cap) == content(90_000)


async def test_what_lost_all_shares_of_a_segment_is_stored_anew(tmp_path: Path) -> None:
    """Also where the catalog has no row left to tell of it."""
    async with trio.open_nursery() as tasks:
        bed = bed_of(tmp_path, tasks, nodes=3, needed=2, happy=3)
        async with bed.client() as client:
            await client.put(bed.file(content(9000), "one"))
            with client.catalog.transaction() as db:
                db.execute("DELETE FROM shares WHERE segment = 0")
            again = await client.put(bed.file(content(9000), "two"), dedupe=True)
            assert again.same_as is None
        tasks.cancel_scope.cancel()


# --- any order, killed anywhere ---------------------------------------------------------------------------------------


@asynccontextmanager
async def fragile(bed: Bed, **dies: int) -> AsyncIterator[Client]:
    """A client whose process dies at one of its commits."""
    profile = Profile.load(bed.directory / "profile")
    async with open_pool(profile.identity, open_stream=bed.network.open_stream) as pool:
        with FragileCatalog.open(profile.directory / "catalog.db") as catalog:
            for when, commits in dies.items():
                setattr(catalog, when, commits)
            yield Client(profile, catalog, pool, bed.clock)


async def everything_is_readable(bed: Bed, client: Client, contents: dict[str, set[bytes]]) -> None:
    """Each name in the catalog gives bytes that were put under it: the last ones, or those of a put that was killed."""
    holds_what_the_catalog_says(bed, client)
    for file in client.ls():
        if file.complete:
            assert await read_back(client, cap_of(file)) in contents[file.name]
    for name in {snapshot.folder for snapshot in FolderCatalog(client.catalog).snapshots()}:
        async with find_stored(client, name) as found:
            assert found.tree is not None
            with tempfile.TemporaryDirectory() as target:
                await get_folder(client, found.tree, Path(target) / "back")
                (data,) = {p.read_bytes() for p in (Path(target) / "back").iterdir()}
                assert data in contents["folder " + name]


OPERATIONS = st.tuples(
    st.sampled_from(["put", "put", "folder", "remove", "rename"]),
    st.sampled_from(["a", "b", "c"]),
    st.integers(0, 1),
    st.sampled_from([{}, {}, {"dies_before": 0}, {"dies_after": 0}, {"dies_before": 1}, {"dies_after": 1}]),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(OPERATIONS, min_size=3, max_size=9))
def test_shared_content_outlives_each_of_its_names_but_the_last(operations: list[tuple[str, str, int, dict]]) -> None:  # type: ignore[type-arg]
    """Puts, removals and renamings of three names over two contents, killed at commits, in any order."""

    async def run(directory: Path) -> None:
        async with trio.open_nursery() as tasks:
            bed = bed_of(directory, tasks, nodes=2, needed=1, happy=2)
            names: dict[str, set[bytes]] = {}
            for what, name, seed, dies in operations:
                data = content(500 + seed, seed=seed)
                with suppress(Killed, CatalogError):
                    async with fragile(bed, **dies) as client:
                        free = client.catalog.file(name) is None and not FolderCatalog(client.catalog).snapshots(name)
                        if what == "put":
                            names |= {name: {data}} if free or not client.catalog.named(name).complete else {}
                            await client.put(bed.file(data, f"content {seed}"), name=name, dedupe=True)
                        elif what == "folder":
                            (directory / f"folder {name} {seed}").mkdir(exist_ok=True)
                            (directory / f"folder {name} {seed}" / "x").write_bytes(data)
                            (directory / f"folder {name} {seed}" / "y").write_bytes(data)
                            names["folder " + name] = {data} | (set() if free else names.get("folder " + name, set()))
                            await put_folder(
                                client,
                                directory / f"folder {name} {seed}",
                                name=name,
                                coding=Coding(1, 2, 2),
                                dedupe=True,
                            )
                            names["folder " + name] = {data}
                        elif what == "rename" and name != "c":
                            if client.catalog.file("c") is None and not FolderCatalog(client.catalog).snapshots("c"):
                                names |= {p + "c": names[p + name] for p in ("", "folder ") if p + name in names}
                            rename(client, name, "c")
                        else:
                            await remove(client, [name])
            async with bed.client() as client:
                await everything_is_readable(bed, client, names)
                left = [file.name for file in client.ls() if file.complete]
                folders = {snapshot.folder for snapshot in FolderCatalog(client.catalog).snapshots()}
                await remove(client, [*left, *folders])
                assert not [f for f in client.catalog.files() if f.folder is None and f.complete]
            tasks.cancel_scope.cancel()

    with tempfile.TemporaryDirectory() as directory:
        trio.run(run, Path(directory))
