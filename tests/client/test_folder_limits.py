"""Folders at the limits: as deep as a path goes, more than a disk takes, alike in all but spelling, closed to us."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import pytest
import trio
from test_hostile_folders import CODING, TOP, file, read, strangers_tree
from transfer_fixtures import bed_of

from lnstore.client import folder_get
from lnstore.client.folder_put import put_folder
from lnstore.client.restore import remove_tree
from lnstore.client.sink import SinkError
from lnstore.client.walk import walk
from lnstore_protocol.trees import MAX_PATH_BYTES, Entry, Kind

NOBODY = 65_534
DEEPER_THAN_STACKS = sys.getrecursionlimit() + 50


def directory(path: bytes, mode: int = 0o755) -> Entry:
    return Entry(Kind.DIRECTORY, path, mode, 1)


@pytest.mark.parametrize("fits", [True, False])
async def test_a_strangers_tree_may_be_nested_deeper_than_any_stack(
    tmp_path: Path, nursery: trio.Nursery, fits: bool
) -> None:
    """It is written whole, or where paths become too long for the system refused without a trace."""
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    names = [b"d"] * DEEPER_THAN_STACKS
    if not fits:
        names += [b"l" * 255] * ((MAX_PATH_BYTES - 2 * len(names)) // 256) + [b"l" * 200]
    try:
        async with bed.client() as client:
            cap = await strangers_tree(
                client, TOP, *map(directory, accumulate(names, lambda path, name: path + b"/" + name))
            )
            if fits:
                await read(client, cap, place / "copy")
                assert len(walk(place / "copy").found) == 1 + len(names)
            else:
                with pytest.raises(SinkError, match="File name too long"):
                    await read(client, cap, place / "copy")
                assert list(place.iterdir()) == []
    finally:
        remove_tree(os.fsencode(place))


async def test_a_tree_of_more_than_the_disk_takes_is_refused_before_anything_is_made(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    (tmp_path / "place").mkdir()
    monkeypatch.setattr(folder_get, "entries_possible", lambda _: 100)
    async with bed.client() as client:
        names = [b"%03d" % number for number in range(100)]
        cap = await strangers_tree(client, TOP, *map(file, names[:99]))
        await read(client, cap, tmp_path / "place" / "fits")
        cap = await strangers_tree(client, TOP, *map(file, names))
        with pytest.raises(SinkError, match="more than the 100 files and folders"):
            await read(client, cap, tmp_path / "place" / "copy")
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["fits"]


async def test_names_that_differ_only_in_spelling_stay_apart(tmp_path: Path, nursery: trio.Nursery) -> None:
    """By normalisation, case and look; a file system that takes two of them for one says so."""
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    folder = tmp_path / "folder"
    folder.mkdir()
    names = [
        *(unicodedata.normalize(form, "Ångström ﬁ") for form in ("NFC", "NFD", "NFKC")),
        "a",
        "A",
        "\u0430",
        "a\u200b",
    ]
    assert len(set(names)) == len(names)
    for name in names:
        (folder / name).write_text(name)
    async with bed.client() as client:
        stored = await put_folder(client, folder, coding=CODING)
        await read(client, stored.cap, tmp_path / "copy")
    assert {path.name: path.read_text() for path in (tmp_path / "copy").iterdir()} == {name: name for name in names}


@contextmanager
def somebody_else(folder: Path) -> Iterator[None]:
    """Not the superuser, who may read everything; the owner of the folder."""
    if os.geteuid():
        yield
        return
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_may_not_be_read_is_named_and_the_rest_is_found() -> None:
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        for name in ("closed", "names only", "open"):
            (place / name).mkdir()
            (place / name / "file").write_text("x")
        with somebody_else(place):
            (place / "closed").chmod(0)
            (place / "names only").chmod(0o400)
            walked = walk(place)
            (place / "closed").chmod(0o700)
            (place / "names only").chmod(0o700)
    finally:
        shutil.rmtree(place)
    assert [str(problem) for problem in walked.problems] == [
        "closed: cannot be read: Permission denied",
        "names only/file: cannot be looked at: Permission denied",
    ]
    assert [found.path for found in walked.found] == [b"", b"closed", b"names only", b"open", b"open/file"]
