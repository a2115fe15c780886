"""Small shares in one file: many with one sync, whole or not there, room given back."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lnstore.ports import SMALL_SHARE_BYTES, StorageFull
from lnstore.storage.shares import SMALL_FILE, NodeShares
from lnstore.storage.small import DELETIONS_PER_SHRINK, PAGE_BYTES, SmallShares
from lnstore_protocol.ids import ShareId
from lnstore_protocol.merkle import share_id


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallShares]:
    shares = SmallShares(str(tmp_path / SMALL_FILE))
    yield shares
    shares.close()


def blobs(count: int, size: int = 100) -> list[tuple[ShareId, bytes]]:
    return [(share_id(data), data) for data in (os.urandom(size) for _ in range(count))]


def test_what_goes_in_together_is_there_and_stays_there(small: SmallShares, tmp_path: Path) -> None:
    shares = blobs(300)
    small.put(shares)
    small.put(shares[:5])
    again = SmallShares(str(tmp_path / SMALL_FILE))  # as after a crash: the first one was not closed
    assert {which: again.read(which) for which, _ in shares} == dict(shares)
    assert set(again.share_ids()) == set(dict(shares))
    again.close()


def test_all_of_a_commit_or_nothing(small: SmallShares) -> None:
    shares = blobs(3)
    with pytest.raises(OSError, match=r"small\.db"):
        small.put([*shares, (shares[0][0], "not bytes")])  # type: ignore[list-item]
    assert list(small.share_ids()) == []


def test_a_full_disk_is_said_to_be_full_and_what_was_there_stays(small: SmallShares) -> None:
    shares = blobs(4, 5_000)
    small.put(shares)
    small._writing.execute("PRAGMA max_page_count = 10")
    with pytest.raises(StorageFull, match="no room"):
        small.put(blobs(30, 5_000))
    assert set(small.share_ids()) == set(dict(shares))


def test_putting_again_mends_decayed_bytes(tmp_path: Path) -> None:
    shares = NodeShares(tmp_path)
    [(which, data)] = blobs(1)
    shares.put(which, data)
    with sqlite3.connect(tmp_path / SMALL_FILE) as outside:
        outside.execute("UPDATE shares SET bytes = x'00'")
    outside.close()
    assert shares.size(which) == 1
    shares.put_small([(which, data)])
    assert shares.read(which, 0, 1000) == data
    shares.close()


def test_where_a_share_lies_depends_on_its_size_alone(tmp_path: Path) -> None:
    shares = NodeShares(tmp_path)
    [little] = blobs(1, SMALL_SHARE_BYTES)
    [large] = blobs(1, SMALL_SHARE_BYTES + 1)
    for which, data in (little, large):
        shares.put(which, data)
    assert [path.name for path in tmp_path.glob("*/*/*")] == [large[0].hex()]
    assert set(shares.share_ids()) == {little[0], large[0]}
    for which, _ in (little, large):
        shares.delete(which)
    assert set(shares.share_ids()) == set()
    assert list(tmp_path.glob("*/*/*")) == []
    assert shares.free_bytes() > 0
    shares.close()


def test_room_of_deleted_shares_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / SMALL_FILE
    small = SmallShares(str(path))
    shares = blobs(DELETIONS_PER_SHRINK, 8_000)
    small.put(shares)
    for which, _ in shares:
        small.delete(which)
    small.close()
    assert path.stat().st_size < 100_000


def test_a_file_that_is_no_store_is_told_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / SMALL_FILE
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(OSError, match=r"small\.db: file is not a database"):
        SmallShares(str(path))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), flips=st.sampled_from([1, 10, 100]))
def test_flipped_bits_in_the_file_give_other_bytes_or_an_error_of_the_disk(
    tmp_path_factory: pytest.TempPathFactory, seed: int, flips: int
) -> None:
    """Whatever they hit, also the pages that say where shares are."""
    path, random = tmp_path_factory.mktemp("flips") / SMALL_FILE, Random(seed)
    shares = [blob for size in (40, 1000, 3000, 15_000) for blob in blobs(8, size)]
    small = SmallShares(str(path))
    small.put(shares)
    small.close()
    data = bytearray(path.read_bytes())
    for _ in range(flips):
        data[random.randrange(PAGE_BYTES, len(data))] ^= 1 << random.randrange(
            8
        )  # behind the page that describes the file
    path.write_bytes(data)
    small = SmallShares(str(path))
    for which, wanted in shares:
        with suppress(OSError, StorageFull):
            if small.read(which) != wanted:
                small.put([(which, wanted)])
    with suppress(OSError):
        assert all(len(which) == ShareId.SIZE for which in small.share_ids())
    small.close()


def test_it_is_nobody_elses_to_read(small: SmallShares, tmp_path: Path) -> None:
    small.put(blobs(1))
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
