"""`check`: what is there of each file, on how many nodes, and what would be lost if which nodes vanished."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from lnstore.client.catalog import MANIFEST_SEGMENT, FileEntry, NodeEntry, ShareEntry
from lnstore.client.diagnosis import Diagnosis
from lnstore.client.faults import Fault
from lnstore.client.looking import Depth, look
from lnstore.client.losses import Loss, Losses
from lnstore.client.purse import Purse
from lnstore.client.survival import Impact, Layout, Layouts, Weakest, impacts, weakest
from lnstore.client.tasks import each
from lnstore.errors import LnstoreError
from lnstore_protocol.ids import NodeId, ShareId

NODES_AT_ONCE = 8

_NOT_THERE = frozenset({Fault.SHARE_GONE, Fault.NOT_LISTED, Fault.ADMITS_LOSS})
"""What is lost in these ways the node does not even say to hold."""


@dataclass(frozen=True, slots=True)
class FileHealth:
    """A file as the last look at its nodes left it.

    `shares` are in the catalog, `found` of them are said to be there, `healthy` are not known to be lost or damaged, on
    `nodes` different nodes. `unanswered` are at nodes that did not answer: neither there nor lost. `missing` shares
    would bring every segment to all n. `spare` is how many more shares of its worst segment may go; below 0 the file
    cannot be read now. `layouts` is where its healthy shares lie.
    """

    file: FileEntry
    shares: int
    found: int
    healthy: int
    nodes: tuple[NodeId, ...]
    lost: tuple[Loss, ...]
    unanswered: int
    missing: int
    spare: int
    layouts: Layouts

    @property
    def sound(self) -> bool:
        """Whether nothing is known to be lost, and what did not answer is not needed to read it."""
        return not self.lost and self.spare >= 0


@dataclass(frozen=True)
class Checked:
    """What was found, by file and by node; `silent` are nodes that could not be asked, and why."""

    depth: Depth
    files: tuple[FileHealth, ...]
    nodes: tuple[Diagnosis, ...]
    silent: tuple[tuple[NodeEntry, LnstoreError], ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is lost."""
        return all(health.sound for health in self.files)

    @cached_property
    def weakest(self) -> dict[str, Weakest]:
        """By name, the smallest sets of nodes that each file hangs on."""
        known: dict[Layouts, Weakest] = {}
        for health in self.files:
            if health.layouts not in known:
                known[health.layouts] = weakest(health.layouts)
        return {health.file.name: known[health.layouts] for health in self.files}

    @cached_property
    def by_node(self) -> list[Impact]:
        """What happens to all files if one node vanishes, for each node that holds something healthy."""
        nodes = sorted({node for health in self.files for node in health.nodes})
        return impacts(self._layouts, ([node] for node in nodes))

    @cached_property
    def fewest(self) -> list[Impact]:
        """The smallest sets of nodes that take something readable with them when they vanish, the worst ones first."""
        found = [one for one in self.weakest.values() if one.size]
        least = min((one.size for one in found), default=0)
        sets = dict.fromkeys(nodes for one in found if one.size == least for nodes in one.sets)
        return sorted(impacts(self._layouts, sets), key=lambda impact: (-len(impact.lost), impact.nodes))

    @property
    def _layouts(self) -> dict[str, Layouts]:
        return {health.file.name: health.layouts for health in self.files}


async def check(
    purse: Purse,
    *,
    file_id: int | None = None,
    depth: Depth = Depth.AUDITED,
    progress: Callable[[str], None] | None = None,
) -> Checked:
    """Look at every node that should hold a share of the file (None: of any file), at all nodes at once."""
    files = [file for file in purse.catalog.files() if file_id in (None, file.file_id)]
    wanted: dict[NodeId, list[ShareId]] = {}
    for file in files:
        for share in purse.catalog.shares_of(file.file_id):
            wanted.setdefault(share.node_id, []).append(share.share_id)
    found: dict[NodeId, Diagnosis] = {}
    silent: dict[NodeId, LnstoreError] = {}

    async def ask(node: NodeEntry) -> None:
        if progress is not None:
            progress(_DOING[depth].format(node=node.petname))
        try:
            ids = None if file_id is None else wanted[node.node_id]
            found[node.node_id] = await look(purse, node, ids, depth)
        except LnstoreError as exc:
            silent[node.node_id] = exc

    nodes = [node for node in purse.catalog.nodes() if node.node_id in wanted]
    await each(ask, nodes, at_once=NODES_AT_ONCE)
    return Checked(
        depth,
        tuple(healths(purse, files, silent)),
        tuple(found[node.node_id] for node in nodes if node.node_id in found),
        tuple((node, silent[node.node_id]) for node in nodes if node.node_id in silent),
    )


def healths(purse: Purse, files: Iterable[FileEntry], away: Iterable[NodeId] = ()) -> list[FileHealth]:
    """How files stand by what the catalog knows; shares at nodes that are `away` are neither there nor lost."""
    lost: dict[int, list[Loss]] = {}
    for loss in Losses(purse.catalog).all():
        lost.setdefault(loss.share.file_id, []).append(loss)
    gone = frozenset(away)
    return [_health(file, purse.catalog.shares_of(file.file_id), lost.get(file.file_id, []), gone) for file in files]


def files_below(purse: Purse, spare: int, away: Iterable[NodeId] = ()) -> list[FileHealth]:
    """The complete files of which fewer than `spare` further shares of some segment may be lost, the worst ones first.

    By what the catalog knows from checks, proofs and audits; nobody is asked. Shares at nodes that are `away` do not
    count, and shares beyond a file's own n - k are not asked for.
    """
    files = [file for file in purse.catalog.files() if file.complete]
    below = [
        health
        for health in healths(purse, files, away)
        if health.spare < min(spare, health.file.total - health.file.needed)
    ]
    return sorted(below, key=lambda health: (health.spare, health.file.name))


def _health(file: FileEntry, rows: list[ShareEntry], lost: list[Loss], away: frozenset[NodeId]) -> FileHealth:
    faults = {(loss.share.node_id, loss.share.share_id): loss.fault for loss in lost}
    there: dict[int, dict[int, set[NodeId]]] = {row.segment: {} for row in rows}
    found = healthy = 0
    for row in rows:
        fault = faults.get((row.node_id, row.share_id))
        if row.node_id in away:
            continue
        found += fault not in _NOT_THERE
        if fault is None:
            healthy += 1
            # The manifest's copies are one share at many nodes; a segment's shares are told apart by their numbers.
            number = 0 if row.segment == MANIFEST_SEGMENT else row.number
            there[row.segment].setdefault(number, set()).add(row.node_id)
    layouts = frozenset(
        Layout.of(1, 1, holders) if segment == MANIFEST_SEGMENT else Layout.of(file.needed, file.total, holders)
        for segment, holders in there.items()
    )
    return FileHealth(
        file=file,
        shares=len(rows),
        found=found,
        healthy=healthy,
        nodes=tuple(sorted(frozenset().union(*(layout.nodes for layout in layouts)))),
        lost=tuple(lost),
        unanswered=sum(row.node_id in away for row in rows),
        missing=sum(file.total - len(holders) for segment, holders in there.items() if segment != MANIFEST_SEGMENT),
        spare=_spare(file, there),
        layouts=layouts,
    )


def _spare(file: FileEntry, there: dict[int, dict[int, set[NodeId]]]) -> int:
    """How many more shares of the worst segment, or copies of the manifest, may go."""
    return min(
        (
            len(holders.get(0, ())) - 1 if segment == MANIFEST_SEGMENT else len(holders) - file.needed
            for segment, holders in there.items()
        ),
        default=0,
    )


_DOING = {
    Depth.ASKED: "asking {node} what it holds",
    Depth.AUDITED: "asking {node} for a piece of every share",
    Depth.READ: "reading every share at {node}",
}
