"""Any n - k losses lose nothing, and all that is lost is told: nodes gone, wiped, corrupted, stalled; repairs between.

What the client says is held against what the nodes truly have. Time is jumped over, so that a stalled node costs none.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tiny_node import TinyNode, no_fault
from transfer_fixtures import Bed, bed_of, content, read_back

from lnstore.client.catalog import MANIFEST_SEGMENT, ShareEntry
from lnstore.client.checking import check
from lnstore.client.download import FileUnreadable
from lnstore.client.files import Client
from lnstore.client.health import Checked
from lnstore.client.looking import Depth
from lnstore.client.purse import Purse
from lnstore.client.repair import repair
from lnstore.client.standing import standings
from lnstore.client.survival import Layout
from lnstore_protocol import merkle
from lnstore_protocol.caps import ReadCap
from lnstore_protocol.ids import NodeId

NEEDED, TOTAL, NODES = 2, 4, 7
TOLERATED = TOTAL - NEEDED


def gone(node: TinyNode) -> None:
    node.down = True
    node.fault = lambda _: "die"


def stalled(node: TinyNode) -> None:
    node.fault = lambda _: "stall"


def wiped(node: TinyNode) -> None:
    node.shares.clear()


def corrupted(node: TinyNode) -> None:
    for share_id, share in node.shares.items():
        node.shares[share_id] = bytes(byte ^ 1 for byte in share)


Loss = Callable[[TinyNode], None]
strikes = st.lists(st.tuples(st.sampled_from([gone, stalled, wiped, corrupted]), st.integers(0, NODES - 1)), max_size=3)


@dataclass
class Scene:
    """The file, and which nodes were struck since it was whole."""

    bed: Bed
    cap: ReadCap
    data: bytes
    struck: set[int] = field(default_factory=set)

    def answers(self, node: TinyNode) -> bool:
        return node.fault is no_fault

    def node_of(self, row: ShareEntry) -> TinyNode:
        nodes: list[TinyNode] = self.bed.nodes
        return next(node for node in nodes if node.identity.public_key == row.node_id)

    def is_there(self, row: ShareEntry) -> bool:
        """Whether its node would give this share, and truly this one."""
        node = self.node_of(row)
        share = node.shares.get(bytes(row.share_id))
        return self.answers(node) and share is not None and merkle.share_id(share) == row.share_id

    def spare(self, rows: list[ShareEntry]) -> int:
        """How many more of its worst segment may go, in truth."""
        there = [row for row in rows if self.is_there(row)]
        counts = {segment: len({row.number for row in there if row.segment == segment}) for segment in (0, 1)}
        copies = sum(row.segment == MANIFEST_SEGMENT for row in there)
        return min(copies - 1, *(count - NEEDED for segment, count in counts.items() if self.has(rows, segment)))

    @staticmethod
    def has(rows: list[ShareEntry], segment: int) -> bool:
        return any(row.segment == segment for row in rows)

    def purse(self, client: Client) -> Purse:
        return Purse.of(self.bed.profile, client.catalog, None, client.pool.dial, client.clock)  # type: ignore[arg-type]  # nothing is paid


async def look(scene: Scene) -> None:
    """What a check says is true, and the file is read or its reader is told."""
    async with scene.bed.client() as client:
        checked = await check(scene.purse(client), depth=Depth.READ)
        assert_true(scene, client, checked)
        (health,) = checked.files
        if len(scene.struck) <= TOLERATED:
            assert health.spare >= 0
        if health.spare >= 0:
            assert await read_back(client, scene.cap) == scene.data
        else:
            assert not checked.sound
            with pytest.raises(FileUnreadable):
                await read_back(client, scene.cap)


def assert_true(scene: Scene, client: Client, checked: Checked) -> None:
    (health,) = checked.files
    rows = client.catalog.shares_of(health.file.file_id)
    answering = [row for row in rows if scene.answers(scene.node_of(row))]
    lost = {(row.node_id, row.share_id) for row in answering if not scene.is_there(row)}
    assert {(loss.share.node_id, loss.share.share_id) for loss in health.lost} >= lost
    assert {node.node_id for node, _ in checked.silent} == {row.node_id for row in rows} - {
        row.node_id for row in answering
    }
    assert health.healthy == len(answering) - len(lost)
    assert health.unanswered == len(rows) - len(answering)
    assert health.spare == scene.spare(rows)
    assert checked.sound == (not health.lost and health.spare >= 0)
    hangs_on = checked.weakest[health.file.name]
    for nodes in hangs_on.sets:
        assert any(layout.is_lost(nodes) for layout in health.layouts)
    assert hangs_on.size > health.spare or hangs_on.size == 0


async def mend(scene: Scene) -> None:
    """Repair what is lost and what lies at nodes that do not answer; whole again, or what is not is told."""
    async with scene.bed.client() as client:
        purse = scene.purse(client)
        checked = await check(purse, depth=Depth.READ)
        (file,) = client.catalog.files()
        before = client.catalog.shares_of(file.file_id)
        wanting = {(row.node_id, row.share_id) for row in before if not scene.is_there(row)}
        fit, _ = await standings(client.pool, client.catalog, client.catalog.nodes())
        away = [node.node_id for node, _ in checked.silent]
        done = await repair(purse, fit, away=away)
        rows = client.catalog.shares_of(file.file_id)
        still = {(row.node_id, row.share_id) for row in rows if not scene.is_there(row)}
        told = {(one.share.at, one.share.share_id) for one in done if one.to is None}
        assert still == told, "what is not repaired is told, and nothing else"
        assert all(one.reason for one in done if one.to is None)
        assert {(one.share.at, one.share.share_id) for one in done} <= wanting
        assert scene.spare(rows) >= scene.spare(before)
        for segment in {row.segment for row in rows if row.segment != MANIFEST_SEGMENT}:
            where = [row.node_id for row in rows if row.segment == segment and scene.is_there(row)]
            assert len(where) == len(set(where)), "no node holds two shares of a segment"
        if not still:
            assert all(layout.left() == layout.total for layout in layouts_of(rows))
            scene.struck = {
                at for at, node in enumerate(scene.bed.nodes) if node.fault is not no_fault and at in scene.struck
            }
            scene.struck -= {at for at, node in enumerate(scene.bed.nodes) if NodeId(node.identity.public_key) in away}


def layouts_of(rows: list[ShareEntry]) -> list[Layout]:
    segments = {row.segment for row in rows if row.segment != MANIFEST_SEGMENT}
    return [
        Layout.of(NEEDED, TOTAL, {row.number: {row.node_id} for row in rows if row.segment == segment})
        for segment in segments
    ]


async def live(directory: Path, rounds: list[tuple[list[tuple[Loss, int]], bool]]) -> None:
    async with trio.open_nursery() as tasks:
        bed = Bed(directory, bed_of(directory / "bed", tasks, nodes=NODES, needed=NEEDED).network, NEEDED, TOTAL, TOTAL)
        data = content(70_000)
        async with bed.client() as client:
            scene = Scene(bed, (await client.put(BytesIO(data), name="file")).cap, data)
        for losses, mends in rounds:
            for loss, at in losses:
                loss(bed.nodes[at])
                scene.struck.add(at)
            await look(scene)
            if mends:
                await mend(scene)
                await look(scene)
        tasks.cancel_scope.cancel()


@given(st.lists(st.tuples(strikes, st.booleans()), min_size=1, max_size=4))
@example(
    [([(gone, 0), (stalled, 1)], True), ([(wiped, 2), (corrupted, 3)], True), ([(wiped, 4), (corrupted, 5)], True)]
)
@example([([(gone, 0), (gone, 1), (gone, 2)], True), ([(wiped, 3), (wiped, 4)], True), ([(stalled, 5)], False)])
@example([([(wiped, at) for at in range(NODES)], True)])
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_n_minus_k_losses_lose_nothing_and_more_are_told(rounds: list[tuple[list[tuple[Loss, int]], bool]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(live, Path(directory), rounds, clock=clock)
