"""Files come back byte for byte from any k of n nodes, and every fault is survived or said clearly."""

from __future__ import annotations

import itertools
import random
import threading
from io import BytesIO
from pathlib import Path

import pytest
import trio
from tiny_node import TinyNode
from transfer_fixtures import Bed, bed_of, content, read_back

from lnstore.client.catalog import CatalogError
from lnstore.client.decode import FIRST_BYTES
from lnstore.client.download import AHEAD_SEGMENTS, FileUnreadable
from lnstore.client.files import CapInvalid, CodingInvalid, cap_of
from lnstore.client.segments import full_share_bytes
from lnstore.client.sink import SinkError
from lnstore.client.source import SourceError
from lnstore.client.standing import TooFewNodes
from lnstore_protocol.content import RECORD_BYTES
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.messages import (
    LEAF_BYTES,
    AccountState,
    AccountStatus,
    ErrorReply,
    GetShare,
    PutShare,
    Request,
)


def segment_plain(needed: int, total: int) -> int:
    """The largest plaintext of one segment."""
    sealed = full_share_bytes(needed, total) * needed
    return sealed - -(-sealed // (RECORD_BYTES + 16)) * 16


@pytest.mark.parametrize(
    ("needed", "total", "size"),
    [
        *((1, 1, size) for size in (0, 1, LEAF_BYTES - 16, segment_plain(1, 1), segment_plain(1, 1) + 1)),
        *((3, 5, size) for size in (0, 1, 65_536, 65_537, segment_plain(3, 5) - 1, segment_plain(3, 5) + 1)),
        *((10, 16, size) for size in (0, 9, 100_000, segment_plain(10, 16) + 1)),
    ],
)
async def test_what_is_put_is_what_is_got(
    tmp_path: Path, nursery: trio.Nursery, needed: int, total: int, size: int
) -> None:
    """Whole, from all nodes and with n-k random nodes down, and from the middle."""
    bed = bed_of(tmp_path, nursery, nodes=total, needed=needed)
    data = content(size)
    async with bed.client() as client:
        result = await client.put(bed.file(data))
        assert (result.bytes, result.missing_shares) == (size, 0)
        assert await read_back(client, result.cap.to_text()) == data
        middle = size // 2
        assert await read_back(client, result.cap, offset=middle, length=100) == data[middle : middle + 100]
    for node in random.Random(size).sample(bed.nodes, total - needed):
        node.down = True
    async with bed.client() as client:
        assert await read_back(client, result.cap) == data


async def test_every_choice_of_lost_nodes_is_survived_and_one_more_is_reported(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    bed = bed_of(tmp_path, nursery, nodes=5, needed=3)
    data = content(300_000)
    async with bed.client() as client:
        cap = (await client.put(bed.file(data))).cap
    for lost in itertools.combinations(bed.nodes, 2):
        for node in bed.nodes:
            node.down = node in lost
        async with bed.client() as client:
            out = BytesIO()
            result = await client.get(cap, out)
        assert out.getvalue() == data
        assert result.bytes == len(data)
    for node in bed.nodes[:3]:
        node.down = True
    bed.nodes[4].down = False
    async with bed.client() as client:
        with pytest.raises(FileUnreadable, match="segment 1 of 1") as failed:
            await client.get(cap, tmp_path / "out")
    assert all(f"tiny:{node.port}" in str(failed.value) for node in bed.nodes[:3])
    assert "Connection refused" in str(failed.value)


async def test_reading_parts_asks_only_for_the_leaves_that_hold_them(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=5, needed=3)
    data = content(10_000_000)
    async with bed.client() as client:
        cap = (await client.put(bed.file(data))).cap
    async with bed.client() as client:
        for node in bed.nodes:
            node.requests.clear()
        assert await read_back(client, cap, offset=5_000_000, length=1000) == data[5_000_000:5_001_000]
        asked = [r.length for node in bed.nodes for r in node.requests if isinstance(r, GetShare)]
        assert len(asked) == 1  # one part of one share; the manifest follows from the catalog
        assert max(asked) <= RECORD_BYTES + 2 * LEAF_BYTES
    holder = next(n for n in bed.nodes if any(isinstance(r, GetShare) and r.length for r in n.requests))
    holder.down = True
    async with bed.client() as client:
        assert await read_back(client, cap, offset=5_000_000, length=1000) == data[5_000_000:5_001_000]


async def test_a_range_wider_than_asked_for_is_a_fault(tmp_path: Path, nursery: trio.Nursery) -> None:
    """MB-R11: more leaves than asked for are refused, although their proof holds: they are charged by the byte."""
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    data = content(1_000_000)
    async with bed.client() as client:
        cap = (await client.put(bed.file(data))).cap
    for node in bed.nodes:
        true_get = node._get
        node._get = lambda share_id, _offset, _length, true_get=true_get: true_get(share_id, 0, 0)
    async with bed.client() as client:
        with pytest.raises(FileUnreadable, match="not the range that was asked for"):
            await read_back(client, cap, offset=500_000, length=1000)


@pytest.mark.parametrize("harm", [lambda s: s[:-1] + bytes([s[-1] ^ 1]), lambda s: s[: len(s) // 2], lambda s: s + s])
async def test_an_altered_or_cut_share_is_noticed_and_another_used(  # F-R5, MB-R10, E-R5
    tmp_path: Path, nursery: trio.Nursery, harm: object
) -> None:
    bed = bed_of(tmp_path, nursery, nodes=5, needed=3)
    data = content(200_000)
    async with bed.client() as client:
        cap = (await client.put(bed.file(data))).cap
        for node in bed.nodes[:2]:
            node.shares = {i: harm(s) if i != bytes(cap.manifest_id) else s for i, s in node.shares.items()}  # type: ignore[operator]
        out = BytesIO()
        result = await client.get(cap, out)
        assert out.getvalue() == data
        faults = [tally.fault for tally in result.nodes.values() if tally.fault]
        assert all("not what it should be" in fault or "range" in fault for fault in faults)


# F-R7
async def test_a_node_that_lies_about_the_manifest_is_passed_over(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    async with bed.client() as client:
        cap = (await client.put(bed.file(b"hello"))).cap
    other = Bed(tmp_path / "other", bed.network, 2, 3, 2)
    async with other.client() as client:
        for node in bed.nodes[:2]:
            node.shares[bytes(cap.manifest_id)] = b"something else"
        assert await read_back(client, cap) == b"hello"
        bed.nodes[2].shares[bytes(cap.manifest_id)] = b"x"
    async with other.client() as client:
        with pytest.raises(FileUnreadable, match="no node gave the file's manifest"):
            await read_back(client, cap)


async def test_the_manifest_of_a_small_file_comes_right_behind_the_share_of_each_node(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """So the node stores both in one commit."""
    bed = bed_of(tmp_path, nursery, nodes=5, needed=3)
    async with bed.client() as client:
        cap = (await client.put(bed.file(content(1_048_576)))).cap
    for node in bed.nodes:
        share, manifest = [request for request in node.requests if isinstance(request, PutShare)]
        assert share.share_id != cap.manifest_id == manifest.share_id


async def test_the_catalog_of_who_stored_a_file_reads_it_without_its_manifest(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """A file that lost the manifest everywhere is still read by who stored it."""
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    async with bed.client() as client:
        cap = (await client.put(bed.file(content(100_000)))).cap
        for node in bed.nodes:
            del node.shares[bytes(cap.manifest_id)]
        assert await read_back(client, cap) == content(100_000)


async def test_somebody_elses_cap_reads_without_a_catalog_entry(tmp_path: Path, nursery: trio.Nursery) -> None:
    """The placement is computed from the cap, and nodes that lack a share only cost a question."""
    bed = bed_of(tmp_path, nursery, nodes=7, needed=3)
    data = content(200_000)
    async with bed.client() as client:
        cap = (await client.put(bed.file(data), total=5)).cap
        assert sum(node.count(PutShare) for node in bed.nodes) == 5 + 7
    other = Bed(tmp_path / "other", bed.network, 3, 5, 3)
    async with other.client() as client:
        assert await read_back(client, cap) == data


async def test_a_node_that_dies_mid_upload_hands_its_shares_to_a_spare_one(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    bed = bed_of(tmp_path, nursery, nodes=4, needed=1)
    data = content(3 * segment_plain(1, 3))
    victim = bed.nodes[0]

    def die(request: Request) -> str | None:
        if isinstance(request, PutShare) and victim.count(PutShare):
            victim.down = True
            return "die"
        return None

    victim.fault = die
    async with bed.client() as client:
        result = await client.put(bed.file(data), total=3, happy=3)
        assert result.missing_shares == 0
        assert [t.petname for t in result.nodes.values() if t.fault] == ["n0"]
        assert await read_back(client, result.cap) == data


async def test_without_a_spare_node_the_put_succeeds_while_enough_are_happy(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    bed.nodes[1].fault = lambda r: "die" if isinstance(r, PutShare) else None
    async with bed.client() as client:
        result = await client.put(bed.file(b"hello"))
        assert result.missing_shares == 1
        assert await read_back(client, result.cap) == b"hello"


async def test_a_full_node_is_given_up_with_what_to_rent(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    bed.nodes[1].fault = lambda r: (
        ErrorReply(code=ErrorCode.CAPACITY_EXCEEDED, message="") if isinstance(r, PutShare) else None
    )
    async with bed.client() as client:
        result = await client.put(bed.file(b"hello"))
    [fault] = [t.fault for t in result.nodes.values() if t.fault]
    assert "lnstore rent buy n1" in fault


async def test_a_node_that_stops_answering_mid_upload_is_given_up(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    bed.nodes[1].fault = lambda r: "stall" if isinstance(r, PutShare) else None
    async with bed.client(share_seconds=0.2) as client:
        result = await client.put(bed.file(b"hello"))
        assert result.missing_shares == 1


async def test_a_node_that_dies_mid_download_is_replaced(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=1)
    data = content(4 * segment_plain(1, 3))
    async with bed.client() as client:
        cap = (await client.put(bed.file(data))).cap

    def dying(node: TinyNode) -> None:
        def die(request: Request) -> str | None:
            if isinstance(request, GetShare) and node.count(GetShare) >= 1:
                node.down = True
                return "die"
            return None

        node.fault = die

    dying(bed.nodes[0])
    dying(bed.nodes[1])
    async with bed.client() as client:
        assert await read_back(client, cap) == data


async def test_a_silent_node_is_raced_and_then_avoided(tmp_path: Path, nursery: trio.Nursery) -> None:
    """One wait for the first share; later segments do not wait for that node any more."""
    bed = bed_of(tmp_path, nursery, nodes=2, needed=1)
    data = content(9 * segment_plain(1, 2))
    async with bed.client() as client:
        cap = (await client.put(bed.file(data))).cap
    silent = bed.nodes[0]
    silent.requests.clear()
    silent.fault = lambda r: "stall" if isinstance(r, GetShare) else None
    async with bed.client() as client:
        assert await read_back(client, cap) == data
    assert silent.count(GetShare) <= 1 + AHEAD_SEGMENTS[1]


async def test_a_failed_get_leaves_neither_a_partial_file_nor_harms_the_old_one(  # F-R17
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    bed = bed_of(tmp_path, nursery, nodes=2, needed=1)
    async with bed.client() as client:
        cap = (await client.put(bed.file(content(3 * segment_plain(1, 2))))).cap
        last = client.catalog.shares_of(1)[-1].share_id
        for node in bed.nodes:
            del node.shares[bytes(last)]
        target = tmp_path / "out" / "file"
        target.parent.mkdir()
        target.write_bytes(b"old")
        with pytest.raises(FileUnreadable):
            await client.get(cap, target)
        assert [p.read_bytes() for p in target.parent.iterdir()] == [b"old"]
        with pytest.raises(SinkError, match="cannot be written"):
            await client.get(cap, tmp_path / "no" / "such" / "folder")
        with pytest.raises(SinkError, match="is a directory"):
            await client.get(cap, tmp_path)


async def test_a_get_to_a_file_replaces_it_at_the_end(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=1, needed=1)
    async with bed.client() as client:
        cap = (await client.put(bed.file(b"new"))).cap
        (tmp_path / "target").write_bytes(b"old content")
        result = await client.get(cap, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"new"
    assert result.bytes == 3


async def test_caps_that_cannot_read_are_refused_without_asking_anybody(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=1, needed=1)
    async with bed.client() as client:
        cap = (await client.put(bed.file(b"x"))).cap
        text = cap.to_text()
        wrong = text[:20] + ("q" if text[20] != "q" else "p") + text[21:]
        before = len(bed.nodes[0].requests)
        for bad, said in ((wrong, "letter"), (text[:-1], "characters"), (cap.verify_cap().to_text(), "only verifies")):
            with pytest.raises(CapInvalid, match=said) as refused:
                await client.get(bad, BytesIO())
            assert bad not in str(refused.value)
        assert len(bed.nodes[0].requests) == before
        with pytest.raises(FileUnreadable, match="nothing at 2"):
            await client.get(cap, BytesIO(), offset=2)


async def test_too_few_nodes_are_named_with_what_to_do_about_each(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=5, needed=3)
    down, late, stranger, other_key, _ = bed.nodes
    down.down = True
    late.state = AccountState.GRACE
    stranger.fault = lambda r: (
        ErrorReply(code=ErrorCode.NO_ACCOUNT, message="") if isinstance(r, AccountStatus) else None
    )
    other_key.identity = TinyNode(0).identity
    async with bed.client() as client:
        with pytest.raises(TooFewNodes, match="3 nodes are needed to store on, 1 can be written to") as refused:
            await client.put(bed.file(b"x"))
        assert client.ls() == []
    for said in ("n0: cannot be reached", "lnstore rent pay n1", "lnstore rent buy n2", "n3: did not prove"):
        assert said in str(refused.value)


async def test_too_little_rented_capacity_is_said_before_anything_is_sent(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    for node in bed.nodes:
        node.capacity_bytes = 100_000
    async with bed.client() as client:
        with pytest.raises(TooFewNodes, match=r"lnstore rent buy n0 1MiB"):
            await client.put(bed.file(content(300_000)))
        assert sum(node.count(PutShare) for node in bed.nodes) == 0


async def test_a_name_is_used_once_and_a_stream_needs_one(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=1, needed=1)
    async with bed.client() as client:
        await client.put(bed.file(b"x"))
        with pytest.raises(CatalogError, match="--name"):
            await client.put(bed.file(b"x"))
        with pytest.raises(CatalogError, match="--name"):
            await client.put(BytesIO(b"x"))
        result = await client.put(BytesIO(b"from a pipe"), name="piped")
        assert await read_back(client, result.cap) == b"from a pipe"
        assert [(f.name, f.complete) for f in client.ls()] == [("piped", True), ("report.bin", True)]
        assert cap_of(client.ls()[0]) == result.cap


async def test_a_coding_that_is_none_is_refused(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=1, needed=1)
    async with bed.client() as client:
        with pytest.raises(CodingInvalid, match="--needed 3, --happy 1, --total 5"):
            await client.put(bed.file(b"x"), needed=3, total=5)


@pytest.mark.parametrize("make", ["missing", "directory"])
async def test_an_unreadable_input_is_said_before_any_node_is_asked(
    tmp_path: Path, nursery: trio.Nursery, make: str
) -> None:
    bed = bed_of(tmp_path, nursery, nodes=1, needed=1)
    path = tmp_path / "input"
    if make == "directory":
        path.mkdir()
    async with bed.client() as client:
        with pytest.raises(SourceError, match=r"cannot be read: No such file|is a directory"):
            await client.put(path)
    assert bed.nodes[0].requests == []


async def test_an_upload_holds_only_a_few_segments_however_long_the_input(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """With nodes that never answer, reading stops once the buffers are full."""
    bed = bed_of(tmp_path, nursery, nodes=1, needed=1)
    bed.nodes[0].fault = lambda r: "stall" if isinstance(r, PutShare) else None
    read = 0

    class Endless:
        def readinto(self, buffer: memoryview) -> int:
            nonlocal read
            read += len(buffer)
            return len(buffer)

    async with bed.client() as client:
        with trio.move_on_after(0.5):
            await client.put(Endless(), name="endless")
    assert bed.nodes[0].count(PutShare) <= 4
    assert read <= 4 * (4 << 20) + (2 << 20)


async def test_a_download_fetches_only_a_few_segments_ahead_of_a_slow_output(  # F-R12
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    bed = bed_of(tmp_path, nursery, nodes=1, needed=1)
    async with bed.client() as client:
        cap = (await client.put(bed.file(content(12 * segment_plain(1, 1))))).cap
    gate = threading.Event()

    class Stuck:
        def write(self, data: memoryview) -> int:
            gate.wait()
            return len(data)

        def flush(self) -> None:
            pass

    async with bed.client() as client, trio.open_nursery() as tasks:
        tasks.start_soon(client.get, cap, Stuck())
        with trio.move_on_after(0.5):
            await trio.sleep_forever()
        assert 1 <= bed.nodes[0].count(GetShare) <= AHEAD_SEGMENTS[1]
        gate.set()
    assert bed.nodes[0].count(GetShare) == 12 + len(FIRST_BYTES)  # the first segment comes in parts
