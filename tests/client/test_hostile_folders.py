"""Strangers' trees, names made for terminals, and more files with one content than a process may open."""

from __future__ import annotations

import itertools
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
import trio
from transfer_fixtures import Bed, bed_of, content

from lnstore.cli.put_folder import tell_problems
from lnstore.client.files import Client, Coding, cap_of
from lnstore.client.folder_get import get_folder
from lnstore.client.folder_put import put_folder
from lnstore.client.naming import find_stored
from lnstore.client.sink import SinkError
from lnstore.client.source import Source
from lnstore.client.walk import Problem
from lnstore.errors import LnstoreError
from lnstore_protocol.caps import ReadCap
from lnstore_protocol.manifest import TREE
from lnstore_protocol.trees import Entry, Head, Kind, Object, encode

CODING = Coding(2, 3, 3)
TOP = Entry(Kind.DIRECTORY, b"", 0o755, 1, 0, 0, 0, b"")


def file(path: bytes, size: int = 0, offset: int = 0) -> Entry:
    return Entry(Kind.FILE, path, 0o6777, 1, size, 0, offset, b"")


async def strangers_tree(client: Client, *items: Object | Entry, instead: tuple[bytes, bytes] = (b"", b"")) -> ReadCap:
    """A tree that no writer of ours makes, with other bytes `instead` of some, stored as one."""
    data = b"".join(encode(item) for item in (Head(1), *items)).replace(*instead)
    source = Source(BytesIO(data), label="tree", size=len(data))
    return (await client.store(source, f"tree {len(client.catalog.files())}", CODING, None, kind=TREE)).cap


async def read(client: Client, cap: ReadCap, target: Path) -> None:
    async with find_stored(client, cap.to_text()) as stored:
        assert stored.tree is not None
        await get_folder(client, stored.tree, target)


LINK = Entry(Kind.SYMLINK, b"link", 0o777, 1, 0, 0, 0, b"..")


@pytest.mark.parametrize(
    ("entries", "instead"),
    [
        ([file(b"**/outside")], (b"**", b"..")),
        ([file(b"*outside")], (b"*", b"/")),
        ([LINK, file(b"link/outside")], (b"*", b"*")),
        ([Entry(Kind.DIRECTORY, b"**", 0o777, 1, 0, 0, 0, b"")], (b"**", b"..")),
        ([Entry(Kind.DIRECTORY, b"a", 0o777, 1, 0, 0, 0, b""), file(b"a/**/**/outside")], (b"**", b"..")),
    ],
    ids=["upwards", "absolute", "through a link", "a directory upwards", "upwards within"],
)
async def test_a_strangers_tree_that_leads_out_is_refused_and_nothing_written(
    tmp_path: Path, nursery: trio.Nursery, entries: list[Entry], instead: tuple[bytes, bytes]
) -> None:  # F-R22
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    place = tmp_path / "place"
    place.mkdir()
    async with bed.client() as client:
        cap = await strangers_tree(client, TOP, *entries, instead=instead)
        with pytest.raises(LnstoreError):
            await read(client, cap, place / "copy")
    assert list(place.iterdir()) == []
    assert not (tmp_path / "outside").exists()


async def test_links_out_of_a_folder_are_made_and_nothing_behind_them_is_touched(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """Neither mode, time nor content; the set-user-id bits that the tree asks for are not set."""
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    outside.chmod(0o600)
    before = outside.stat()
    async with bed.client() as client:
        link = Entry(Kind.SYMLINK, b"link", 0o777, 5, 0, 0, 0, os.fsencode(outside))
        cap = await strangers_tree(client, TOP, file(b"a"), link)
        await read(client, cap, tmp_path / "copy")
    assert (tmp_path / "copy" / "link").readlink() == outside
    after = outside.stat()
    assert (after.st_mode, after.st_mtime_ns, outside.read_bytes()) == (before.st_mode, before.st_mtime_ns, b"mine")
    assert stat.S_IMODE((tmp_path / "copy" / "a").stat().st_mode) == 0o777


@contextmanager
def few_descriptors(more: int) -> Iterator[None]:
    """So many more than are open may be opened."""
    was = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = {int(path.name) for path in Path("/proc/self/fd").iterdir()}
    first = next(
        number for number in itertools.count(more) if number - len({fd for fd in taken if fd < number}) >= more
    )
    resource.setrlimit(resource.RLIMIT_NOFILE, (first, was[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, was)


async def many_files_of(bed: Bed, tmp_path: Path, entries: list[Entry]) -> bytes:
    """What a stranger's tree over one object gives for its files, read with few descriptors."""
    async with bed.client() as client:
        await client.put(bed.file(content(300_000), "object"))
        whole = client.catalog.named("object")
        cap = await strangers_tree(client, TOP, Object(cap_of(whole), 300_000), *entries)
        with few_descriptors(40):
            await read(client, cap, tmp_path / "copy")
    return b"".join((tmp_path / "copy" / os.fsdecode(entry.path)).read_bytes() for entry in entries)


async def test_more_copies_than_a_process_may_open_are_written(tmp_path: Path, nursery: trio.Nursery) -> None:
    """Names of one inode and files found by content share their bytes; those of other lengths there are apart."""
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    sizes = [200_000 if number % 10 else 100_000 for number in range(100)]
    entries = [file(f"{number:03}".encode(), size, 50_000) for number, size in enumerate(sizes)]
    data = content(300_000)
    assert await many_files_of(bed, tmp_path, entries) == b"".join(data[50_000 : 50_000 + size] for size in sizes)


async def test_a_tree_that_would_take_all_descriptors_fails_and_leaves_nothing(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    entries = [file(f"{number:03}".encode(), 200_000, number) for number in range(100)]
    with pytest.raises(SinkError, match="Too many open files"):
        await many_files_of(bed, tmp_path, entries)
    assert not [path for path in tmp_path.iterdir() if "copy" in path.name]


async def test_copies_of_a_sparse_file_are_sparse(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    (tmp_path / "folder").mkdir()
    for name in ("one", "two"):
        with (tmp_path / "folder" / name).open("wb") as sparse:
            sparse.write(b"begin")
            sparse.truncate(8_000_000)
    async with bed.client() as client:
        stored = await put_folder(client, tmp_path / "folder", coding=CODING, dedupe=True)
        assert (stored.sent_bytes, stored.same_files) == (8_000_000, 1)
        await read(client, stored.cap, tmp_path / "copy")
    for name in ("one", "two"):
        copy = tmp_path / "copy" / name
        assert copy.read_bytes() == (tmp_path / "folder" / name).read_bytes()
        assert copy.stat().st_blocks * 512 < 4_000_000


def test_a_name_does_not_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    tell_problems([Problem(b"\x1b]0;owned\x07\nerror: all is lost", "is gone")])
    assert capsys.readouterr().err == "warning: \\x1b]0;owned\\x07\\nerror: all is lost: is gone\n"
