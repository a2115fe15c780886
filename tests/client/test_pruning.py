"""`prune`: what forgotten snapshots left in packs is freed, all else stays readable, whatever is killed when."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import trio
from money_world import FragileCatalog, Killed
from transfer_fixtures import Bed, bed_of, content

from lnstore.cli.prune_command import describe
from lnstore.client.catalog_changes import forget, remove
from lnstore.client.files import Client, Coding
from lnstore.client.folder_catalog import FolderCatalog
from lnstore.client.folder_get import get_folder
from lnstore.client.folder_put import put_folder
from lnstore.client.keeping import Keep
from lnstore.client.naming import find_stored
from lnstore.client.pool import open_pool
from lnstore.client.profile import Profile
from lnstore.client.pruning import PRUNE_NAME, prune

CODING = Coding(2, 3, 3)
SIZE = 20_000


def write(folder: Path, numbers: range, seed: int = 0) -> None:
    for number in numbers:
        (folder / f"{number}").write_bytes(content(SIZE, seed=seed + number))


async def aged(bed: Bed, folder: Path) -> None:
    """Of the first pack of ten files three are left, in two snapshots; another folder needs one by its content."""
    folder.mkdir()
    write(folder, range(10))
    async with bed.client() as client:
        await put_folder(client, folder, name="things", coding=CODING)
        bed.clock.advance(86_400)
        for number in range(3, 10):
            (folder / f"{number}").unlink()
        write(folder, range(10, 12))
        await put_folder(client, folder, name="things", coding=CODING)
        bed.clock.advance(86_400)
        (folder / "2").unlink()
        await put_folder(client, folder, name="things", coding=CODING)
        other = folder.with_name("other")
        other.mkdir()
        shutil.copy(folder / "0", other / "copy")
        stored = await put_folder(client, other, name="other", coding=CODING, dedupe=True)
        assert stored.sent_bytes == 0
        await forget(client, "things", Keep(last=2))


async def all_can_be_read(client: Client, place: Path, folder: Path) -> None:
    """Both snapshots and the other folder, byte for byte."""
    folders = FolderCatalog(client.catalog)
    older, newest = folders.snapshots("things")
    for name, at, numbers in (
        ("things", older.taken_at, [0, 1, 10, 11, 2]),
        ("things", newest.taken_at, [0, 1, 10, 11]),
        ("other", None, [0]),
    ):
        shutil.rmtree(place, ignore_errors=True)
        async with find_stored(client, name, at=at) as stored:
            assert stored.tree is not None
            await get_folder(client, stored.tree, place)
        assert [path.read_bytes() for path in sorted(place.iterdir())] == [content(SIZE, seed=n) for n in numbers]
        assert place.stat().st_mtime_ns == folder.stat().st_mtime_ns or at != newest.taken_at


def held_is_what_is_needed(bed: Bed, client: Client) -> None:
    """No node holds what no file of the catalog needs."""
    needed = {s.share_id for f in client.catalog.files() for s in client.catalog.shares_of(f.file_id)}
    assert set().union(*(node.shares for node in bed.nodes)) == needed


async def test_what_is_needed_in_part_is_moved_and_the_rest_freed(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Also by another folder; afterwards there is nothing to do, and the next put sends nothing."""
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    folder = tmp_path / "folder"
    await aged(bed, folder)
    async with bed.client() as client:
        before = client.catalog.held_bytes()
        plan = await prune(client, pretend=True)
        assert (plan.packs, plan.pack_bytes, plan.moved_bytes) == (1, 10 * SIZE, 3 * SIZE)
        assert client.catalog.held_bytes() == before
        said = "1 pack of 195.3 KiB, of which 58.6 KiB are needed by 3 snapshots of other, things"
        assert describe(plan) == said
        assert (await prune(client, most_unused_percent=70)).packs == 0
        done = await prune(client, most_unused_percent=69)
        assert (done.packs, done.moved_bytes, list(done.snapshots)) == (1, 3 * SIZE, list(plan.snapshots))
        assert len(done.snapshots) == 3
        assert done.removed.freed_bytes == before - client.catalog.held_bytes() > 7 * SIZE
        held_is_what_is_needed(bed, client)
        await all_can_be_read(client, tmp_path / "back", folder)
        assert (await prune(client)).packs == 0
        again = await put_folder(client, folder, name="things", coding=CODING)
        assert again.sent_bytes == 0
        (folder / "moved").write_bytes(content(SIZE, seed=1))
        found = await put_folder(client, folder, name="things", coding=CODING, dedupe=True)
        assert (found.sent_bytes, found.same_files) == (0, 1)
        await remove(client, ["things", "other"])
        assert client.catalog.files() == []
        assert [node.shares for node in bed.nodes] == [{}, {}, {}]
        assert os.listdir(client.profile.directory / "trees") == []  # noqa: PTH208


COMMITS = 10
"""Giving up leftovers, two for the pack and for each of three trees, the exchange."""


@pytest.mark.parametrize(
    ("when", "commits"),
    [("dies_before", 3), ("dies_after", 4), ("dies_before", 9), ("dies_after", 9), ("dies_before", COMMITS)],
)
async def test_killed_at_any_commit_all_can_be_read_and_the_next_run_frees_it(
    tmp_path: Path, nursery: trio.Nursery, when: str, commits: int
) -> None:
    """Before the one that counts everything is as before; what was stored for it is given up by the next run."""
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    folder = tmp_path / "folder"
    await aged(bed, folder)
    profile = Profile.load(bed.directory / "profile")
    async with open_pool(profile.identity, open_stream=bed.network.open_stream) as pool:
        with FragileCatalog.open(profile.directory / "catalog.db") as catalog:
            setattr(catalog, when, commits)
            killed = False
            try:
                await prune(Client(profile, catalog, pool, bed.clock))
            except* Killed:
                killed = True
            assert killed == (commits < COMMITS)
    async with bed.client() as client:
        await all_can_be_read(client, tmp_path / "back", folder)
        await prune(client)
        await all_can_be_read(client, tmp_path / "back", folder)
        assert (await prune(client, pretend=True)).packs == 0
        snapshots = FolderCatalog(client.catalog).snapshots()
        needed = {file.name for snapshot in snapshots for file in FolderCatalog(client.catalog).files_of(snapshot)}
        assert {file.name for file in client.catalog.files()} == needed
        assert sum(name.startswith(PRUNE_NAME) for name in needed) == 4
