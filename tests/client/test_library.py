"""`lnstore.Client` for trio programs: paths, bytes and streams in and out."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from transfer_fixtures import Bed, bed_of, content

import lnstore
from lnstore import api
from lnstore.client.files import CapInvalid
from lnstore.config import ConfigError


@pytest.fixture
def bed(tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> Bed:
    """Clients that meet the tiny nodes instead of TCP."""
    made = bed_of(tmp_path, nursery, nodes=3, needed=2)
    monkeypatch.setattr(api, "open_client", lambda profile: made.client())
    return made


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 70_001):
        yield data[at : at + 70_001]


async def test_whatever_is_put_is_read_as_a_stream_and_by_range(bed: Bed) -> None:
    data = content(1_000_000)
    async with lnstore.Client(bed.directory / "profile") as client:
        await client.put(bed.file(data, "path"))
        await client.put(data, "bytes")
        await client.put(io.BytesIO(data), "stream")
        stored = await client.put(pieces(data), "async")
        assert repr(stored.cap) not in repr(stored)
        for name in ("path", "bytes", "stream", "async", stored.cap):
            assert await client.read(name) == data
        assert await client.read("async", offset=999_990, length=500) == data[-10:]
        async with client.open("bytes", offset=10) as stream:
            assert await stream.receive_some(7) == data[10:17]
            assert b"".join([piece async for piece in stream]) == data[17:]
            assert await stream.receive_some() == b""
        assert [(item.name, item.kind, item.bytes) for item in await client.ls()] == [
            (name, "file", 1_000_000) for name in ("async", "bytes", "path", "stream")
        ]


async def test_a_reader_that_leaves_early_ends_the_transfer(bed: Bed) -> None:
    async with lnstore.Client(bed.directory / "profile") as client:
        await client.put(content(3_000_000), "data")
        with trio.fail_after(5):
            async with client.open("data") as stream:
                await stream.receive_some()
        assert await client.read("data", length=3) == content(3_000_000)[:3]


async def test_folders(bed: Bed) -> None:
    folder = bed.directory / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "file").write_bytes(b"content")
    async with lnstore.Client(bed.directory / "profile") as client:
        stored = await client.put(folder)
        assert (stored.name, stored.bytes, list(stored.problems)) == ("folder", 7, [])
        assert [(item.name, item.kind) for item in await client.ls()] == [("folder", "directory")]
        assert [(item.name, item.kind) for item in await client.ls("folder")] == [("below", "directory")]
        assert [(item.name, item.bytes) for item in await client.ls("folder/below")] == [("file", 7)]
        assert await client.read("folder/below/file", offset=3) == b"tent"
        copy = await client.get("folder", bed.directory / "copy")
        assert (copy / "below" / "file").read_bytes() == b"content"
        one = await client.get(f"{stored.cap}/below/file", bed.directory / "one")
        assert one.read_bytes() == b"content"
        client.rename("folder", "other")
        await client.remove("other")
        assert await client.ls() == []
        with pytest.raises(CapInvalid):
            await client.read("other")


async def test_a_client_is_used_in_its_block(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="in its block"):
        await lnstore.Client(tmp_path).ls()
    with pytest.raises(ConfigError):
        await lnstore.Client(tmp_path).__aenter__()
    with pytest.raises(AttributeError, match="no attribute"):
        lnstore.Server  # noqa: B018
