"""Files are renamed and given up: the catalog and the nodes agree, also with nodes away."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from transfer_fixtures import bed_of, content, read_back

from lnstore.client.catalog import CatalogError
from lnstore.client.catalog_changes import remove, rename
from lnstore.client.download import FileUnreadable
from lnstore_protocol.caps import VerifyCap, parse_cap


async def test_a_removed_file_is_gone_from_the_catalog_and_from_every_node(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """Its shares are dropped, another file's stay, and its name can be used again."""
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    kept, gone = content(100_000), content(200_001)
    async with bed.client() as client:
        stored = await client.put(bed.file(gone, "gone"))
        other = await client.put(bed.file(kept, "kept"))
        held = {node.port: set(node.shares) for node in bed.nodes}
        removed = await remove(client, ["gone"])
        assert removed.names == ["gone"]
        assert removed.unreached == []
        assert removed.freed_bytes > len(gone) * 3 // 2
        assert [file.name for file in client.ls()] == ["kept"]
        for node in bed.nodes:
            assert set(node.shares) < held[node.port]
            assert len(node.shares) == len(held[node.port]) - 2  # a share of the one segment, and the manifest
        with pytest.raises(FileUnreadable):
            await read_back(client, stored.cap)
        assert await read_back(client, other.cap) == kept
        again = await client.put(bed.file(gone, "gone"))
        assert await read_back(client, again.cap) == gone


async def test_a_node_that_is_away_is_named_and_its_shares_stay_given_up(tmp_path: Path, nursery: trio.Nursery) -> None:
    """It is told later, since the catalog remembers what was given up there."""
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    async with bed.client() as client:
        await client.put(bed.file(content(50_000), "gone"))
    away = bed.nodes[1]
    away.down = True
    async with bed.client() as client:
        removed = await remove(client, ["gone"])
        (unreached,) = removed.unreached
        assert unreached.address.port == away.port
        assert len(client.catalog.given_up_at(unreached.node_id)) == len(away.shares) == 2


async def test_with_one_unknown_name_nothing_is_removed(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    async with bed.client() as client:
        await client.put(bed.file(content(10), "here"))
        with pytest.raises(CatalogError, match="no file 'there' in your catalog"):
            await remove(client, ["here", "there"])
        assert [file.name for file in client.ls()] == ["here"]


async def test_a_renamed_file_reads_the_same_and_takes_no_other_files_name(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    async with bed.client() as client:
        stored = await client.put(bed.file(content(10), "one"))
        await client.put(bed.file(content(20), "two"))
        with pytest.raises(CatalogError, match="already something called 'two'"):
            rename(client, "one", "two")
        rename(client, "one", "line\nbreak")
        assert [file.name for file in client.ls()] == ["line\nbreak", "two"]
        assert await read_back(client, stored.cap) == content(10)


async def test_an_incomplete_file_keeps_the_name_that_continues_it(tmp_path: Path, nursery: trio.Nursery) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    async with bed.client() as client:
        client.catalog.begin_file(
            name="half", file_key=bytes(32), needed=2, total=3, happy=3, source=None, now=client.clock.now()
        )
        with pytest.raises(CatalogError, match="not stored completely"):
            rename(client, "half", "whole")


async def test_the_verify_capability_names_the_same_manifest_and_reads_nothing(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    bed = bed_of(tmp_path, nursery, nodes=3, needed=2)
    async with bed.client() as client:
        cap = (await client.put(bed.file(content(10), "one"))).cap
    parsed = parse_cap(cap.verify_cap().to_text())
    assert isinstance(parsed, VerifyCap)
    assert parsed.manifest_id == cap.manifest_id
    assert cap.file_key not in parsed.verify_key
