"""Transfers against real nodes in this process: their sessions, books and share files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from io import BytesIO
from pathlib import Path

import pytest
import trio
from node_world import MIB, RunningNode, World
from transfer_fixtures import content, read_back

from lnstore.client.download import FileUnreadable
from lnstore.client.files import Client, open_client
from lnstore.client.profile import Profile, init_profile
from lnstore.client.standing import standings
from lnstore.client.upload import PutFailed
from lnstore.ports import StorageFull
from lnstore.storage.files import FileShares
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import Buffer


class Grid:
    """Nodes at which one profile has an account, capacity and a deposit."""

    def __init__(self, directory: Path, count: int, *, needed: int, happy: int | None = None) -> None:
        self.worlds = [World(directory / f"n{i}") for i in range(count)]
        self.running: list[RunningNode] = []
        self.profile: Profile = init_profile(directory / "profile", needed=needed, happy=happy or needed, total=count)
        self.directory = directory

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Sequence[RunningNode]]:
        """All nodes run; the catalog knows where."""
        async with AsyncExitStack() as stack:
            self.running = [await stack.enter_async_context(world.running()) for world in self.worlds]
            with self.profile.open_catalog() as catalog:
                for i, node in enumerate(self.running):
                    catalog.add_node(node.address, petname=f"n{i}", lightning_id=None, added_at=i)
            yield self.running

    async def rent(self, capacity_bytes: int = 64 * MIB, *, deposit_msat: int = 1_000_000) -> None:
        for world, node in zip(self.worlds, self.running, strict=True):
            async with world.client(node, self.profile.identity) as client:
                await client.rent(capacity_bytes)
                if deposit_msat:
                    await client.deposit(deposit_msat)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        async with open_client(self.profile) as client:
            yield client

    def share_files(self, world: World) -> list[Path]:
        return [p for p in (world.directory / "shares").rglob("*") if p.is_file()]


async def test_a_file_survives_the_loss_of_two_of_five_nodes(tmp_path: Path) -> None:
    grid = Grid(tmp_path, 5, needed=3)
    data = content(13 * MIB)
    async with grid.up() as nodes:
        await grid.rent()
        async with grid.client() as client:
            result = await client.put(BytesIO(data), name="f")
            assert (result.missing_shares, result.segments) == (0, 2)
            assert await read_back(client, result.cap) == data
        nodes[0].kill()
        nodes[3].kill()
        async with grid.client() as client:
            assert await read_back(client, result.cap) == data
            middle = len(data) // 2
            assert await read_back(client, result.cap, offset=middle, length=99) == data[middle : middle + 99]
        nodes[1].kill()
        async with grid.client() as client:
            with pytest.raises(FileUnreadable, match="cannot be reached"):
                await client.get(result.cap, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("cut", [False, True])
async def test_share_files_altered_or_cut_on_a_nodes_disk_are_noticed(tmp_path: Path, cut: bool) -> None:
    grid = Grid(tmp_path, 3, needed=1)
    data = content(100_000)
    async with grid.up():
        await grid.rent()
        async with grid.client() as client:
            result = await client.put(BytesIO(data), name="f")
        for world in grid.worlds[:2]:
            for path in grid.share_files(world):
                stored = path.read_bytes()
                path.chmod(0o600)
                path.write_bytes(stored[: len(stored) // 2] if cut else bytes([stored[0] ^ 1]) + stored[1:])
        async with grid.client() as client:
            assert await read_back(client, result.cap) == data


class FullDisk(FileShares):
    """A disk on which nothing has room any more."""

    def put(self, share_id: ShareId, data: Buffer, hashes: Sequence[bytes] | None = None) -> None:
        raise StorageFull("no space left on device")


async def test_a_full_disk_at_one_node_is_survived_and_named(tmp_path: Path) -> None:
    grid = Grid(tmp_path, 3, needed=2)
    grid.worlds[1].shares = FullDisk(grid.worlds[1].directory / "shares")
    async with grid.up():
        await grid.rent()
        async with grid.client() as client:
            result = await client.put(BytesIO(b"hello"), name="f")
            assert result.missing_shares == 1
            [fault] = [t.fault for t in result.nodes.values() if t.fault]
            assert "disk is full" in fault
            assert await read_back(client, result.cap) == b"hello"


async def test_a_stream_that_outgrows_the_capacity_fails_and_a_larger_rent_lets_it_in(tmp_path: Path) -> None:
    """What the failed attempt had stored is given back by the next put of that name."""
    grid = Grid(tmp_path, 2, needed=1, happy=2)
    data = content(6 * MIB)
    async with grid.up():
        await grid.rent(5 * MIB)
        async with grid.client() as client:
            with pytest.raises(PutFailed, match=r"segment [12] reached 0 nodes(.|\n)*lnstore rent buy n0"):
                await client.put(BytesIO(data), name="f")
        await grid.rent(7 * MIB, deposit_msat=0)
        async with grid.client() as client:
            result = await client.put(BytesIO(data), name="f")
            assert await read_back(client, result.cap) == data


async def test_without_a_deposit_reading_says_that_the_node_wants_one(tmp_path: Path) -> None:
    grid = Grid(tmp_path, 1, needed=1)
    async with grid.up():
        await grid.rent(deposit_msat=0)
        async with grid.client() as client:
            result = await client.put(BytesIO(b"hello"), name="f")
            with pytest.raises(FileUnreadable, match="Pay first"):
                await client.get(result.cap, BytesIO())


async def test_a_put_continues_after_the_nodes_were_restarted_mid_way(tmp_path: Path) -> None:
    grid = Grid(tmp_path, 2, needed=1, happy=2)
    path = tmp_path / "input"
    path.write_bytes(content(13 * MIB))
    async with grid.up() as nodes:
        await grid.rent()
        async with grid.client() as client, trio.open_nursery() as tasks:

            async def put() -> None:
                with pytest.raises(PutFailed, match="the same command continues"):
                    await client.put(path)

            async def kill_early() -> None:
                while not await nodes[1].books.leased_ids(grid.profile.account_id):  # noqa: ASYNC110 - the books are asked
                    await trio.sleep(0.002)
                nodes[1].kill()

            tasks.start_soon(put)
            tasks.start_soon(kill_early)
    async with grid.up(), grid.client() as client:
        result = await client.put(path)
        found = sum(t.found_shares for t in result.nodes.values())
        sent = sum(t.shares for t in result.nodes.values())
        assert found > 0
        assert found + sent == 2 * (result.segments + 1)
        assert await read_back(client, result.cap) == path.read_bytes()


async def test_puts_that_follow_one_another_ask_once_how_the_account_stands(tmp_path: Path) -> None:
    """Less what was written since; and anew when a node was lost, and before room is said to be short."""
    grid = Grid(tmp_path, 3, needed=2)
    async with grid.up() as nodes:
        await grid.rent(1 * MIB)
        async with grid.client() as client:
            source, known = tmp_path / "small", client.catalog.nodes()
            before, _ = await client.standings.ask(known)
            source.write_bytes(content(1000))
            first = await client.put(source, name="first")
            after, _ = await client.standings.ask(known)
            written = [first.nodes[one.node.node_id].share_bytes for one in before]
            assert [one.free_bytes for one in after] == [
                one.free_bytes - count for one, count in zip(before, written, strict=True)
            ]
            true, _ = await standings(client.pool, client.catalog, known)
            assert after == true
            await grid.rent(4 * MIB)
            assert (await client.standings.ask(known))[0] == true, "not asked again so soon"
            (tmp_path / "large").write_bytes(content(3 * MIB))
            await client.put(tmp_path / "large")
            for node in nodes[1:]:
                node.kill()
            with pytest.raises(PutFailed):
                await client.put(source)
            assert len((await client.standings.ask(known))[1]) == 2
