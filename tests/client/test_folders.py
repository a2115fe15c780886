"""A folder comes back as it was; a second put sends what changed; nothing in a tree reaches beyond its folder."""

from __future__ import annotations

import os
import shutil
import stat
from io import BytesIO
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_node import no_fault
from transfer_fixtures import Bed, bed_of, content

from lnstore.client import packs
from lnstore.client.catalog import CatalogError
from lnstore.client.catalog_changes import forget, rename
from lnstore.client.download import FileUnreadable
from lnstore.client.files import CapInvalid, Client, Coding
from lnstore.client.folder_catalog import FolderCatalog
from lnstore.client.folder_get import FolderRead, get_entry, get_folder
from lnstore.client.folder_plan import plan_folder
from lnstore.client.folder_put import FolderStored, put_folder
from lnstore.client.keeping import Keep
from lnstore.client.naming import find_stored, read_cap_of
from lnstore.client.sink import SinkError, StreamSink
from lnstore.client.source import SourceError
from lnstore.client.tree_cache import TreeCache
from lnstore.client.upload import PutFailed
from lnstore_protocol.messages import PutShare, Request

CODING = Coding(2, 3, 3)


def a_folder(at: Path) -> Path:
    """Small and large, empty, deep and oddly named things, links and times."""
    at.mkdir()
    (at / "large").write_bytes(content(5_000_000))
    (at / "empty").touch()
    (at / "empty folder").mkdir()
    (at / "süß").mkdir()
    for number in range(40):
        (at / "süß" / f"{number}").write_bytes(content(3000 + number))
    (at / "line\nbreak").write_text("x")
    Path(os.fsdecode(os.fsencode(at) + b"/not \xff text")).write_text("y")
    deep = at.joinpath(*"abcdefgh")
    deep.mkdir(parents=True)
    (deep / "deep").write_text("z")
    (at / "absolute").symlink_to("/etc/passwd")
    (at / "dangling").symlink_to("nowhere/at all")
    (at / "up").symlink_to("../..")
    os.link(at / "large", at / "same inode")
    (at / "script").write_text("#!/bin/sh\n")
    (at / "script").chmod(0o750)
    (at / "a.txt").write_text("sorts between a and a/b in bytes")
    os.utime(at / "empty", ns=(1, 1_234_567_890_123_456_789))
    os.utime(at / "süß", ns=(1, 1_000_000_000_000_000_001))
    return at


def picture(at: Path) -> dict[str, object]:
    """Everything that is kept of a folder."""
    found: dict[str, object] = {}
    for path in [at, *sorted(at.rglob("*"))]:
        status = path.lstat()
        if path.is_symlink():
            what: object = path.readlink()
        else:
            what = (stat.S_IMODE(status.st_mode), path.read_bytes() if path.is_file() else None)
        found[str(path.relative_to(at))] = (stat.S_IFMT(status.st_mode), status.st_mtime_ns, what)
    return found


async def read_folder(client: Client, name: str, target: Path, *, at: int | None = None) -> FolderRead:
    async with find_stored(client, name, at=at) as stored:
        assert stored.tree is not None
        return await get_folder(client, stored.tree, target, within=stored.within)


async def put(bed: Bed, folder: Path, name: str = "things") -> FolderStored:
    async with bed.client() as client:
        return await put_folder(client, folder, name=name, coding=CODING)


def breaks_after(bed: Bed, *, shares: int) -> None:
    """The first node's connection ends at every further share."""
    left = [shares]

    def fault(request: Request) -> str | None:
        if not isinstance(request, PutShare):
            return None
        left[0] -= 1
        return "die" if left[0] < 0 else None

    bed.nodes[0].fault = fault


def sent_shares(bed: Bed) -> int:
    return sum(isinstance(request, PutShare) for node in bed.nodes for request in node.requests)


async def test_a_folder_comes_back_as_it_was_also_by_capability_alone(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Names, bytes, modes, times, links; packed, so that forty files cost two packs and not forty manifests."""
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    folder = a_folder(tmp_path / "folder")
    stored = await put(bed, folder)
    assert stored.problems == []
    assert stored.files == 48
    async with bed.client() as client:
        assert len(FolderCatalog(client.catalog).files_of(stored.snapshot)) == 3  # the tree, the large one, the others
        assert stored.sent_bytes < stored.snapshot.plain_bytes  # one inode travels once
        assert stored.snapshot.plain_bytes > 10_000_000
        read = await read_folder(client, "things", tmp_path / "copy")
        assert read.files == 48
    assert picture(tmp_path / "copy") == picture(folder)
    shutil.rmtree(TreeCache(bed.directory / "profile").path(0).parent, ignore_errors=True)
    async with bed.client() as client:
        await read_folder(client, stored.cap.to_text(), tmp_path / "by cap")
    assert picture(tmp_path / "by cap") == picture(folder)


async def test_one_file_and_its_ranges_are_read_without_the_pack(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    folder = a_folder(tmp_path / "folder")
    await put(bed, folder)
    async with bed.client() as client:
        for name in ("things/süß/7", "things/a/b/c/d/e/f/g/h/deep", "things/empty", "things/same inode"):
            out = BytesIO()
            async with find_stored(client, name) as stored:
                assert stored.tree is not None
                await get_entry(client, stored.tree, stored.within, StreamSink(out))
            assert out.getvalue() == (folder / name.removeprefix("things/")).read_bytes()
        async with find_stored(client, "things/süß/7") as stored:
            assert stored.tree is not None
            out = BytesIO()
            result = await get_entry(client, stored.tree, stored.within, StreamSink(out), offset=1000, length=50)
            assert out.getvalue() == (folder / "süß" / "7").read_bytes()[1000:1050]
            assert result.bytes == 50
            with pytest.raises(FileUnreadable, match="there is nothing at"):
                await get_entry(client, stored.tree, stored.within, StreamSink(BytesIO()), offset=4000)
            for wrong in ("süß", "up", "missing"):
                with pytest.raises(FileUnreadable, match="is no file in this folder"):
                    await get_entry(client, stored.tree, wrong, StreamSink(BytesIO()))
        await read_folder(client, "things/süß", tmp_path / "part")
    assert picture(tmp_path / "part") == picture(folder / "süß")


async def test_a_second_put_sends_what_changed_and_both_snapshots_can_be_read(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    folder = a_folder(tmp_path / "folder")
    first = await put(bed, folder)
    before = picture(folder)
    for node in bed.nodes:
        node.requests.clear()
    (folder / "süß" / "7").write_bytes(b"changed")
    (folder / "süß" / "8").unlink()
    (folder / "new").write_bytes(b"new")
    bed.clock.advance(86_400)
    async with bed.client() as client:
        plan = await plan_folder(client, folder, name="things")
    assert (plan.sent_bytes, plan.objects[0], len(plan.objects)) == (10, 10, 2)
    second = await put(bed, folder)
    assert second.sent_bytes == 10
    assert sent_shares(bed) == 3 * 4  # a pack and a tree: one segment each, and their manifests
    async with bed.client() as client:
        await read_folder(client, "things", tmp_path / "now")
        await read_folder(client, "things", tmp_path / "then", at=first.snapshot.taken_at)
        with pytest.raises(CatalogError, match="oldest snapshot"):
            await read_folder(client, "things", tmp_path / "never", at=first.snapshot.taken_at - 1)
    assert picture(tmp_path / "now") == picture(folder)
    assert picture(tmp_path / "then") == before
    third = await put(bed, folder)
    assert third.sent_bytes == 0


async def test_an_interrupted_put_goes_on_and_sends_no_share_twice(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packs that are stored are found by their plan; what no longer fits is given up with the next snapshot."""
    monkeypatch.setattr(packs, "PACK_BYTES", 40_000)
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    folder = a_folder(tmp_path / "folder")
    breaks_after(bed, shares=4)
    with pytest.raises(PutFailed):
        await put(bed, folder)
    bed.nodes[0].fault = no_fault
    async with bed.client() as client:
        assert FolderCatalog(client.catalog).snapshots() == []
    held = {node.port: set(node.shares) for node in bed.nodes}
    for node in bed.nodes:
        node.requests.clear()
    await put(bed, folder)
    again = [
        r.share_id for n in bed.nodes for r in n.requests if isinstance(r, PutShare) and r.share_id in held[n.port]
    ]
    assert again == []
    async with bed.client() as client:
        await read_folder(client, "things", tmp_path / "copy")
        assert all(file.complete for file in client.catalog.files())
    assert picture(tmp_path / "copy") == picture(folder)


async def test_what_an_interrupted_put_left_is_removed_once_it_no_longer_fits(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(content(10_000))
    breaks_after(bed, shares=1)
    with pytest.raises(PutFailed):
        await put(bed, folder)
    bed.nodes[0].fault = no_fault
    (folder / "file").write_bytes(content(10_001))
    stored = await put(bed, folder)
    async with bed.client() as client:
        files = client.catalog.files()
        assert {f.file_id for f in files} == {
            f.file_id for f in FolderCatalog(client.catalog).files_of(stored.snapshot)
        }
        needed = {share.share_id for file in files for share in client.catalog.shares_of(file.file_id)}
    assert set().union(*(node.shares for node in bed.nodes)) == needed


async def test_snapshots_are_forgotten_and_only_what_nothing_needs_is_dropped(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "same").write_bytes(content(100_000))
    for day in range(5):
        (folder / "daily").write_bytes(content(50_000 + day))
        await put(bed, folder)
        bed.clock.advance(86_400)
    async with bed.client() as client:
        would = await forget(client, "things", Keep(daily=2), pretend=True)
        assert [len(would.gone), len(FolderCatalog(client.catalog).snapshots("things"))] == [3, 5]
        done = await forget(client, "things", Keep(daily=2))
        assert done == would
        assert done.removed.freed_bytes > 3 * 50_000
        assert [reasons for _, reasons in done.kept] == [("daily",), ("daily",)]
        assert len(FolderCatalog(client.catalog).snapshots("things")) == 2
        await read_folder(client, "things", tmp_path / "copy")
        needed = {s.share_id for f in client.catalog.files() for s in client.catalog.shares_of(f.file_id)}
        assert set().union(*(node.shares for node in bed.nodes)) == needed
        oldest, newest = FolderCatalog(client.catalog).snapshots("things")
        assert (await forget(client, "things", newest.taken_at - 1)).gone == [oldest]
        with pytest.raises(CatalogError, match="newer"):
            await forget(client, "things", oldest.taken_at)
        assert (await forget(client, "things", newest.taken_at)).gone == [newest]
        assert client.catalog.files() == []
    assert picture(tmp_path / "copy") == picture(folder)
    assert [node.shares for node in bed.nodes] == [{}, {}, {}]


async def test_names_are_shared_by_files_and_folders(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    folder = tmp_path / "folder"
    folder.mkdir()
    await put(bed, folder)
    async with bed.client() as client:
        with pytest.raises(CatalogError, match="already a folder"):
            await client.put(bed.file(b"x", "things"))
        await client.put(bed.file(b"x", "file"))
        with pytest.raises(CatalogError, match="already a file"):
            await put_folder(client, folder, name="file", coding=CODING)
        for old, new in (("things", "file"), ("file", "things")):
            with pytest.raises(CatalogError, match="already something"):
                rename(client, old, new)
        rename(client, "things", "other")
        assert client.ls()[0].name == "file"
        assert len(client.ls()) == 1
    assert (await put(bed, folder, "other")).sent_bytes == 0
    async with bed.client() as client:
        assert len(FolderCatalog(client.catalog).snapshots("other")) == 2
        for nothing in ("things", "things/x", "nothing"):
            with pytest.raises(CapInvalid):
                read_cap_of(client.catalog, nothing)
        with pytest.raises(CapInvalid, match="no path in it"):
            async with find_stored(client, f"{read_cap_of(client.catalog, 'file').to_text()}/x"):
                pass
        with pytest.raises(CapInvalid, match="only folders have snapshots"):
            async with find_stored(client, "file", at=0):
                pass


async def test_a_folder_is_written_whole_or_not_at_all_and_over_nothing(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    folder = a_folder(tmp_path / "folder")
    await put(bed, folder)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "taken")
    (tmp_path / "empty").mkdir()
    async with bed.client() as client:
        for taken in ("taken", "link", "taken/file"):
            with pytest.raises(SinkError, match="exists already"):
                await read_folder(client, "things", tmp_path / taken)
        await read_folder(client, "things", tmp_path / "empty")
        assert picture(tmp_path / "empty") == picture(folder)
        for node in bed.nodes[:2]:
            node.shares.clear()
        with pytest.raises(FileUnreadable):
            await read_folder(client, "things", tmp_path / "half")
    assert not (tmp_path / "half").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


async def test_what_cannot_be_stored_is_named_and_the_rest_is_stored(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(b"x")
    os.mkfifo(folder / "pipe")
    stored = await put(bed, folder)
    assert [str(problem) for problem in stored.problems] == ["pipe: is no file, folder or link, and is left out"]
    with pytest.raises(SourceError, match="cannot be read"):
        await put(bed, tmp_path / "missing")
    async with bed.client() as client:
        await read_folder(client, "things", tmp_path / "copy")
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["file"]


async def test_set_user_id_bits_are_stored_and_not_given_back(tmp_path: Path, nursery: trio.Nursery) -> None:  # F-R23
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "su").write_bytes(b"x")
    (folder / "su").chmod(0o4755)
    await put(bed, folder)
    async with bed.client() as client:
        await read_folder(client, "things", tmp_path / "copy")
    assert stat.S_IMODE((tmp_path / "copy" / "su").stat().st_mode) == 0o755


async def test_a_sparse_file_comes_back_sparse(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    folder = tmp_path / "folder"
    folder.mkdir()
    with (folder / "sparse").open("wb") as file:
        file.seek(6_000_000)
        file.write(b"end")
        file.truncate(8_000_000)
    await put(bed, folder)
    async with bed.client() as client:
        await read_folder(client, "things", tmp_path / "copy")
    assert (tmp_path / "copy" / "sparse").read_bytes() == (folder / "sparse").read_bytes()
    assert (tmp_path / "copy" / "sparse").stat().st_blocks * 512 < 4_000_000


NAMES = (
    st.binary(min_size=1, max_size=8)
    .filter(lambda name: b"/" not in name and b"\0" not in name)
    .filter(lambda name: name not in {b".", b".."})
)
FOLDERS = st.recursive(
    st.binary(max_size=300), lambda inner: st.dictionaries(NAMES, inner, max_size=5), max_leaves=12
).filter(lambda made: isinstance(made, dict))


def make(at: bytes, made: bytes | dict[bytes, object]) -> None:
    if isinstance(made, bytes):
        Path(os.fsdecode(at)).write_bytes(made)
        return
    Path(os.fsdecode(at)).mkdir()
    for name, inner in made.items():
        make(at + b"/" + name, inner)  # type: ignore[arg-type]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=FOLDERS, after=FOLDERS)
def test_any_folder_comes_back(
    tmp_path_factory: pytest.TempPathFactory, before: dict[bytes, object], after: dict[bytes, object]
) -> None:
    """Whatever a folder holds, and whatever it held before."""
    place = tmp_path_factory.mktemp("any")

    async def work() -> None:
        async with trio.open_nursery() as tasks:
            bed = bed_of(place, tasks, nodes=2, needed=1)
            for which, made in (("before", before), ("after", after)):
                shutil.rmtree(place / "folder", ignore_errors=True)
                make(os.fsencode(place / "folder"), made)
                async with bed.client() as client:
                    await put_folder(client, place / "folder", coding=Coding(1, 2, 2))
                    await read_folder(client, "folder", place / which)
                assert picture(place / which) == picture(place / "folder")
            tasks.cancel_scope.cancel()

    trio.run(work)
