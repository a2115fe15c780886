"""Shares as files: whole or not there, whatever happens."""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lnstore.ports import StorageFull
from lnstore.storage import FileShares, NodeShares
from lnstore.storage.files import DIRECT_BYTES
from lnstore_protocol.ids import ShareId
from lnstore_protocol.merkle import leaf_hashes, share_id

SECTOR = 512


@pytest.fixture
def shares(tmp_path: Path) -> FileShares:
    return FileShares(tmp_path / "shares")


@pytest.fixture(params=[FileShares, NodeShares])
def any_shares(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[FileShares | NodeShares]:
    shares: FileShares | NodeShares = request.param(tmp_path / "shares")
    yield shares
    if isinstance(shares, NodeShares):
        shares.close()


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(data=st.binary(min_size=1, max_size=3000), offset=st.integers(0, 4000), length=st.integers(0, 4000))
def test_what_was_put_is_read_back(any_shares: FileShares | NodeShares, data: bytes, offset: int, length: int) -> None:
    which = share_id(data)
    any_shares.put(which, data)
    assert any_shares.size(which) == len(data)
    assert any_shares.read(which, offset, length) == data[offset : offset + length]


LEAF = 16384


@pytest.mark.parametrize(
    "size", [1, LEAF - 1, LEAF, LEAF + 1, LEAF + 32, 2 * LEAF, 2 * LEAF + 1, 65 * LEAF - 1, 65 * LEAF, 4 << 20]
)
def test_the_hashes_of_its_leaves_lie_behind_a_share(any_shares: FileShares | NodeShares, size: int) -> None:
    """Where a share ends is told from the file's length, and nothing behind that is taken for the share."""
    data = os.urandom(size)
    which, hashes = share_id(data), leaf_hashes(data)
    for given_hashes in (None, hashes):
        any_shares.put(which, data, given_hashes)
        assert any_shares.size(which) == size
        assert any_shares.leaf_hashes(which) == hashes
        assert any_shares.read(which, 0, size + 99) == data
        assert any_shares.read(which, size, 32) == b""
        last = (size - 1) // SECTOR
        assert any_shares.sectors(which, [last]) == data[last * SECTOR :].ljust(SECTOR, b"\0")
        with pytest.raises(ValueError, match="no sector"):
            any_shares.sectors(which, [last + 1])
    assert sum(map(len, hashes)) <= 8192
    with pytest.raises(KeyError):
        any_shares.leaf_hashes(ShareId(bytes(32)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(data=st.binary(min_size=1, max_size=3000), picks=st.lists(st.integers(0, 10**6), max_size=40))
def test_sectors_come_in_the_order_asked_the_last_one_padded(
    any_shares: FileShares | NodeShares, data: bytes, picks: list[int]
) -> None:
    which = share_id(data)
    any_shares.put(which, data)
    count = -(-len(data) // SECTOR)
    padded = data.ljust(count * SECTOR, b"\0")
    indexes = [pick % count for pick in picks]
    expected = b"".join(padded[index * SECTOR : (index + 1) * SECTOR] for index in indexes)
    assert any_shares.sectors(which, indexes) == expected
    with pytest.raises(ValueError, match="no sector"):
        any_shares.sectors(which, [count])


def test_any_buffer_is_taken(any_shares: FileShares | NodeShares) -> None:
    data = random.Random(1).randbytes(100_000)
    for kind in (bytes, bytearray, memoryview):
        which = ShareId(os.urandom(32))
        any_shares.put(which, kind(data))
        assert any_shares.read(which, 0, 200_000) == data


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("more", [0, 5000])
def test_a_large_share_is_written_wherever_it_lies_in_memory(shares: FileShares, start: int, more: int) -> None:
    """Whole blocks from whole pages go to the disk past the cache, everything else the usual way."""
    memory = mmap.mmap(-1, DIRECT_BYTES + more + start)
    memory.write(random.Random(more).randbytes(len(memory)))
    data = memoryview(memory)[start:]
    shares.put(share_id(data), data)
    assert shares.size(share_id(data)) == len(data)
    assert shares.read(share_id(data), 0, len(data)) == data
    assert shares.leaf_hashes(share_id(data)) == leaf_hashes(data)


def test_what_is_not_there_is_said_not_to_be_there(any_shares: FileShares | NodeShares) -> None:
    nothing = ShareId(bytes(32))
    with pytest.raises(KeyError):
        any_shares.read(nothing, 0, 1)
    with pytest.raises(KeyError):
        any_shares.sectors(nothing, [0])
    assert any_shares.size(nothing) is None
    any_shares.delete(nothing)
    assert list(any_shares.share_ids()) == []


def test_putting_again_mends_a_decayed_share(shares: FileShares, tmp_path: Path) -> None:
    data = b"good" * 100
    which = share_id(data)
    shares.put(which, data)
    (file,) = files(tmp_path)
    file.write_bytes(b"bad")
    shares.put(which, data)
    assert shares.read(which, 0, 1000) == data


def test_shares_are_listed_until_they_are_deleted(shares: FileShares, tmp_path: Path) -> None:
    ids = {ShareId(os.urandom(32)) for _ in range(300)}
    for which in ids:
        shares.put(which, b"x")
    (tmp_path / "shares" / "ab").mkdir(exist_ok=True)
    (tmp_path / "shares" / "lost+found").mkdir()
    assert set(shares.share_ids()) == ids
    gone = set(list(ids)[:100])
    for which in gone:
        shares.delete(which)
    assert set(FileShares(tmp_path / "shares").share_ids()) == ids - gone
    assert files(tmp_path / "shares" / "tmp") == []


def test_free_space_is_the_file_systems(shares: FileShares, tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    assert abs(shares.free_bytes() - disk.f_bavail * disk.f_frsize) < 1 << 30


def test_many_threads_may_put_the_same_share(shares: FileShares, tmp_path: Path) -> None:
    data = random.Random(2).randbytes(200_000)
    which = share_id(data)
    threads = [threading.Thread(target=shares.put, args=(which, data)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shares.read(which, 0, 300_000) == data
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["write", "fsync", "rename", "open"])
def test_a_full_disk_is_said_to_be_full_and_nothing_is_left(
    shares: FileShares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    def full(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(number, "full")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StorageFull, match="no room"):
        shares.put(ShareId(bytes(32)), b"data")
    monkeypatch.undo()
    assert files(tmp_path) == []


def test_another_failure_of_the_disk_is_not_called_full(
    shares: FileShares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        shares.put(ShareId(bytes(32)), b"data")
    assert files(tmp_path) == []


# --- crashes --------------------------------------------------------------------------------------------------------

_CALLS = ("open", "write", "fsync", "rename", "makedirs", "close")


class Crash(BaseException):
    """The process ends here: nothing below may run any more."""


def crashing(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """From system call number `step` on, every call that could change the disk raises."""
    count = itertools.count()

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            if next(count) >= step:
                raise Crash
            return call(*args, **kwargs)

        return run

    for name in (*_CALLS, "unlink"):
        monkeypatch.setattr(os, name, wrapped(getattr(os, name)))


def steps_of_a_put() -> Iterator[int]:
    return iter(range(25))


def test_a_crash_at_any_step_leaves_the_whole_share_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random.Random(3).randbytes(10_000)
    which = share_id(data)
    seen: set[tuple[bool, bool]] = set()
    for step in steps_of_a_put():
        directory = tmp_path / str(step)
        shares = FileShares(directory)
        with monkeypatch.context() as patch:
            crashing(patch, step)
            try:
                shares.put(which, data)
                acknowledged = True
            except Crash:
                acknowledged = False
        after = FileShares(directory)
        visible = after.size(which) is not None
        if visible:
            assert after.read(which, 0, 20_000) == data
        assert visible or not acknowledged
        assert files(directory / "tmp") == [], "leftovers are cleared at the start"
        after.put(which, data)
        assert after.read(which, 0, 20_000) == data
        seen.add((visible, acknowledged))
    assert seen == {(False, False), (True, False), (True, True)}


def test_a_name_appears_only_after_its_bytes_and_its_folders_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of system calls is what a power cut tests; here it is read off."""
    shares = FileShares(tmp_path / "shares")
    log: list[str] = []
    names: dict[int, str] = {}
    root = str(tmp_path / "shares")

    def short(path: str) -> str:
        return "temporary" if Path(path).parent.name == "tmp" else path.removeprefix(root) or "/"

    def record(name: str, note: Callable[..., str]) -> None:
        call = getattr(os, name)

        def run(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            if name == "open":
                names[result] = short(args[0])
            elif note(*args):
                log.append(f"{name} {note(*args)}")
            return result

        monkeypatch.setattr(os, name, run)

    record("open", lambda *_: "")
    record("write", lambda fd, _data: names[fd])
    record("fsync", lambda fd: names[fd])
    record("makedirs", short)
    record("rename", lambda _source, target: short(target))
    first, second = ShareId(b"\xab" * 32), ShareId(b"\xab" * 31 + b"\0")
    shares.put(first, b"data")
    assert log == [
        "write temporary",
        "fsync temporary",
        "makedirs /ab",
        "fsync /",
        "makedirs /ab/a",
        "fsync /ab",
        f"rename /ab/a/{first}",
        "fsync /ab/a",
    ]
    log.clear()
    shares.put(second, b"data")
    assert log == ["write temporary", "fsync temporary", f"rename /ab/a/{second}", "fsync /ab/a"]


_PUTTER = """
import os, random, sys, threading
from pathlib import Path
from lnstore.storage import NodeShares
from lnstore_protocol.merkle import share_id

shares = NodeShares(Path(sys.argv[1]))

def put(seed):
    chance = random.Random(seed)
    while True:
        data = chance.randbytes(chance.choice([1, 5_000, 300_000, 600_000]))
        which = share_id(data)
        shares.put(which, data)
        os.write(1, f"{which}\\n".encode())

for number in range(3):
    threading.Thread(target=put, args=(f"{sys.argv[2]}-{number}",)).start()
"""


def test_killed_in_the_middle_of_puts_every_visible_share_is_whole_and_every_acknowledged_one_there(  # MB-R4
    tmp_path: Path,
) -> None:
    directory = tmp_path / "shares"
    chance = random.Random(4)
    acknowledged: set[ShareId] = set()
    for round_ in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", _PUTTER, str(directory), str(round_)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        with child, child.stdout as lines:
            for _ in range(chance.randrange(1, 40)):
                acknowledged.add(ShareId.from_hex(lines.readline().strip()))
            child.send_signal(signal.SIGKILL)
            acknowledged.update(ShareId.from_hex(line.strip()) for line in lines if line.endswith("\n"))
    shares = NodeShares(directory)
    visible = set(shares.share_ids())
    assert acknowledged <= visible
    for which in visible:
        assert share_id(shares.read(which, 0, 1 << 22)) == which
    shares.close()
    assert files(directory / "tmp") == []
    large = set(FileShares(directory).share_ids())
    assert 0 < len(large) < len(visible)
    assert len(files(directory)) == len(large) + 1, "nothing else lies about"
