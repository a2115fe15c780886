"""Packs read what was planned or say so; what is kept of old snapshots is what restic would keep."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from transfer_fixtures import bed_of, content

from lnstore.client.files import Coding
from lnstore.client.folder_put import put_folder
from lnstore.client.keeping import UNLIMITED, Keep
from lnstore.client.packs import ALONE_BYTES, PACK_BYTES, MemberUnreadable, Pack, PackStream, plan_packs
from lnstore.client.source import SourceChanged
from lnstore.client.walk import Found, walk
from lnstore_protocol.trees import Kind


def found(name: bytes, size: int) -> Found:
    return Found(Kind.FILE, name, 0o644, 1, 1, (1, 1), size)


@given(st.lists(st.sampled_from([0, 1, 1000, ALONE_BYTES - 1, ALONE_BYTES, 3 * ALONE_BYTES]), max_size=60))
def test_every_file_with_bytes_is_in_one_pack_and_packs_are_bounded(sizes: list[int]) -> None:
    files = [found(b"%d" % number, size) for number, size in enumerate(sizes)]
    packs = plan_packs(files)
    assert sorted(m.path for pack in packs for m in pack.members) == sorted(f.path for f in files if f.size_bytes)
    for pack in packs:
        assert len(pack.members) == 1 or pack.size_bytes <= PACK_BYTES
        assert pack.offsets() == [sum(m.size_bytes for m in pack.members[:i]) for i in range(len(pack.members))]


def read_all(stream: PackStream) -> bytes:
    out, buffer = b"", memoryview(bytearray(1000))
    while count := stream.readinto(buffer):
        out += buffer[:count]
    return out


def only_pack(root: Path) -> Pack:
    (pack,) = plan_packs(walk(root).found)
    return pack


def replaced_by_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def replaced_by_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "grown": lambda path: path.write_bytes(b"x" * 6000),
    "shrunk": lambda path: path.write_bytes(b"x"),
    "other bytes": lambda path: path.write_bytes(b"y" * 5000),
    "gone": lambda path: path.unlink(),
    "a pipe": replaced_by_a_pipe,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_file_that_is_not_as_planned_gives_none_of_its_bytes(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    """Else one key would seal two contents when an interrupted put goes on."""
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(name.encode() * 5000)
    pack = only_pack(tmp_path)
    assert read_all(PackStream(tmp_path, pack, strict=True)) == b"a" * 5000 + b"b" * 5000 + b"c" * 5000
    change(tmp_path / "b")
    stream = PackStream(tmp_path, pack, strict=True)
    buffer = memoryview(bytearray(5000))
    assert stream.readinto(buffer) == 5000
    with pytest.raises(SourceChanged, match="b changed"):
        stream.readinto(buffer)
    assert buffer == b"a" * 5000
    stream.close()
    assert only_pack(tmp_path).digest(tmp_path) != pack.digest(tmp_path)


def test_a_link_in_a_files_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a" * 10)
    pack = only_pack(tmp_path)
    replaced_by_a_link(tmp_path / "a")
    for strict in (True, False):
        with pytest.raises(MemberUnreadable):
            read_all(PackStream(tmp_path, pack, strict=strict))


def test_a_file_that_keeps_changing_is_taken_as_it_is_at_its_planned_size(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).write_bytes(name.encode() * 100)
    pack = only_pack(tmp_path)
    (tmp_path / "a").write_bytes(b"A" * 150)
    (tmp_path / "b").write_bytes(b"B" * 50)
    stream = PackStream(tmp_path, pack, strict=False)
    assert read_all(stream) == b"A" * 100 + b"B" * 50 + bytes(50) + b"c" * 100 + b"d" * 100
    assert [member.path for member in stream.changed] == [b"a", b"b"]


async def test_a_log_that_grows_under_the_put_is_stored_and_named(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some plans that did not hold it is taken as it is; nothing of the failed plans stays behind."""
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "quiet").write_bytes(content(1000))
    log = folder / "log"
    log.write_bytes(b"line\n")
    read = PackStream._open

    def opened_while_it_grows(stream: PackStream, member: Found) -> None:
        if member.path == b"log":
            with log.open("ab") as growing:
                growing.write(b"line\n")
        read(stream, member)

    monkeypatch.setattr(PackStream, "_open", opened_while_it_grows)
    async with bed.client() as client:
        stored = await put_folder(client, folder, coding=Coding(2, 3, 3))
        assert [str(problem) for problem in stored.problems] == ["log: changed while it was read"]
        assert len(client.catalog.files()) == 2
        needed = {s.share_id for f in client.catalog.files() for s in client.catalog.shares_of(f.file_id)}
    assert set().union(*(node.shares for node in bed.nodes)) == needed


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def test_what_is_kept() -> None:
    """The newest of each day, week, month and year, counted over those that have one."""
    times = [
        at(text)
        for text in (
            "2024-12-31T23:59:59",
            "2025-01-01T00:00:00",
            "2026-10-31T12:00",
            "2026-11-22T12:00",  # a Sunday
            "2026-11-23T01:00",
            "2026-11-25T01:00",
            "2026-11-25T02:00",
        )
    ]
    assert set(Keep(last=2).kept(times)) == set(times[-2:])
    assert set(Keep(daily=2).kept(times)) == {times[6], times[4]}
    assert set(Keep(weekly=2).kept(times)) == {times[6], times[3]}
    assert set(Keep(monthly=2).kept(times)) == {times[6], times[2]}
    assert set(Keep(yearly=9).kept(times)) == {times[6], times[1], times[0]}
    assert set(Keep(last=1, yearly=2).kept(times)) == {times[6], times[1]}
    assert set(Keep(hourly=3).kept(times)) == {times[6], times[5], times[4]}
    assert set(Keep(within_seconds=3600).kept(times)) == {times[6], times[5]}
    for numbers in ({}, {"daily": -1}):
        with pytest.raises(ValueError, match="keep"):
            Keep(**numbers)


def test_the_oldest_is_kept_while_there_are_fewer_than_asked_for() -> None:
    """As restic does; each is told with what it is kept for."""
    times = [at(f"2026-11-{day:02}T{hour:02}:00") for day in (20, 21) for hour in (8, 9)]
    assert set(Keep(daily=2).kept(times)) == {times[3], times[1]}
    assert Keep(daily=3, last=1).kept(times) == {
        times[3]: ("last", "daily"),
        times[1]: ("daily",),
        times[0]: ("daily",),
    }
    assert set(Keep(monthly=UNLIMITED).kept(times)) == {times[3], times[0]}
    assert list(Keep(hourly=UNLIMITED).kept(times)) == sorted(times, reverse=True)


@given(st.lists(st.integers(0, 2_000_000_000), min_size=1), st.integers(1, 5), st.integers(0, 5))
def test_the_newest_is_always_kept_and_forgetting_twice_forgets_nothing_more(
    times: list[int], daily: int, monthly: int
) -> None:
    keep = Keep(daily=daily, monthly=monthly)
    kept = keep.kept(times)
    assert max(times) in kept
    assert keep.kept(kept) == kept
