"""Reading over slow paths and from slow nodes: who is asked for what."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing
from transfer_fixtures import Bed, bed_of, content, read_back

from lnstore.client.files import open_client
from lnstore.client.profile import Profile
from lnstore.client.segments import full_share_bytes
from lnstore_protocol.ids import NodeAddress
from lnstore_protocol.messages import GetShare

SHARE_BYTES = 200_000
PIECE_BYTES = 8192
SEGMENTS = 8


class SlowStream(trio.abc.Stream):
    """Brings so many bytes a second."""

    def __init__(self, stream: trio.abc.Stream, bytes_per_second: float) -> None:
        self._stream = stream
        self._bytes_per_second = bytes_per_second

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(min(max_bytes or PIECE_BYTES, PIECE_BYTES))
        await trio.sleep(len(data) / self._bytes_per_second)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def read_slowly(bed: Bed, data: bytes, rates: dict[int, float], usual: float) -> tuple[int, float]:
    """Store, and read over paths of these rates, by the number of the node; shares asked for and seconds."""
    async with bed.client() as client:
        cap = (await client.put(bed.file(data))).cap
    holders = [node for node in bed.nodes if any(len(share) >= SHARE_BYTES for share in node.shares.values())]
    slow = {holders[number].port: rate for number, rate in rates.items()}

    async def open_stream(address: NodeAddress) -> trio.abc.Stream:
        return SlowStream(await bed.network.open_stream(address), slow.get(address.port, usual))

    asked = sum(node.count(GetShare) for node in bed.nodes)
    profile = Profile.load(bed.directory / "profile")
    async with open_client(profile, open_stream=open_stream) as client:
        began = trio.current_time()
        assert await read_back(client, cap) == data
        return sum(node.count(GetShare) for node in bed.nodes) - asked, trio.current_time() - began


def test_over_a_slow_path_no_more_is_asked_for_than_over_a_fast_one(tmp_path: Path) -> None:
    """Nobody is slow where everybody is: further shares would only make it slower, and each is paid for."""

    async def run() -> None:
        async with trio.open_nursery() as tasks:
            bed = bed_of(tmp_path, tasks, nodes=5, needed=3)
            asked, _ = await read_slowly(bed, content(3 * SHARE_BYTES), {}, 40_000.0)
            assert asked == 3
            tasks.cancel_scope.cancel()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0.01))


def test_a_node_that_brings_far_less_than_others_is_not_waited_for(tmp_path: Path) -> None:
    """It is never silent; but what the others bring in the same time shows that it is slow."""

    async def run() -> None:
        async with trio.open_nursery() as tasks:
            bed = bed_of(tmp_path, tasks, nodes=5, needed=3)
            slow = dict.fromkeys(range(2), 5_000.0)
            _, seconds = await read_slowly(bed, content(3 * SHARE_BYTES), slow, 500_000.0)
            assert seconds < SHARE_BYTES / 5_000 / 4
            tasks.cancel_scope.cancel()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0.01))


@pytest.mark.parametrize("known", [True, False])
def test_a_silent_node_is_waited_for_once_and_not_in_every_segment(tmp_path: Path, known: bool) -> None:
    """Its shares are not even asked for any more, whether the catalog or only the ranking says where they are."""

    async def run() -> None:
        async with trio.open_nursery() as tasks:
            bed = bed_of(tmp_path, tasks, nodes=5, needed=3)
            data = content(SEGMENTS * 3 * full_share_bytes(3, 5))
            async with bed.client() as client:
                cap = (await client.put(bed.file(data))).cap
                if not known:
                    client.catalog.remove_file(1)
            silent = bed.nodes[2]
            silent.fault = lambda r: "stall" if isinstance(r, GetShare) else None
            async with bed.client() as client:
                assert await read_back(client, cap) == data
            # Segments that were under way when it became known; the first one comes in three parts.
            assert silent.count(GetShare) <= SEGMENTS // 2 + 2
            tasks.cancel_scope.cancel()

    trio.run(run)
