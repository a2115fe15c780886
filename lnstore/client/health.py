"""How files stand: what is there of each, on how many nodes, and what would be lost if which nodes vanished."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from lnstore.client.catalog import MANIFEST_SEGMENT, FileEntry, NodeEntry, ShareEntry
from lnstore.client.diagnosis import Diagnosis
from lnstore.client.faults import Fault
from lnstore.client.looking import Depth
from lnstore.client.losses import Loss, Losses
from lnstore.client.purse import Purse
from lnstore.client.survival import Impact, Layout, Layouts, Weakest, impacts, weakest
from lnstore.errors import LnstoreError
from lnstore_protocol.ids import NodeId

SETS_LOOKED_AT = 10
"""Of the smallest sets of nodes that lose anything, those that most files hang on."""

Holders = dict[int, dict[int, set[NodeId]]]
"""By segment and share number, the nodes that hold it; the manifest's copies are all number 0."""

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
        """Whether nothing is known to be lost, and what did not answer is not needed to read it.

        Of a file that is looked after whatever no node shows is lost. One that is not stored yet cannot be read anyway.
        """
        readable = self.spare >= 0 or not self.file.complete
        return readable and not self.lost and not (self.file.verify_only and self.missing)


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
        nodes = sorted({node for health in self.files if health.file.complete for node in health.nodes})
        return impacts(self._layouts, ([node] for node in nodes))

    @cached_property
    def fewest(self) -> list[Impact]:
        """The smallest sets of nodes that take something readable with them when they vanish, the worst ones first."""
        found = [self.weakest[name] for name in self._layouts if self.weakest[name].size]
        least = min((one.size for one in found), default=0)
        named = Counter(nodes for one in found if one.size == least for nodes in one.sets)
        sets = [nodes for nodes, _ in named.most_common(SETS_LOOKED_AT)]
        return sorted(impacts(self._layouts, sets), key=lambda impact: (-len(impact.lost), impact.nodes))

    @property
    def _layouts(self) -> dict[str, Layouts]:
        return {health.file.name: health.layouts for health in self.files if health.file.complete}


def healths(purse: Purse, files: Iterable[FileEntry], away: Iterable[NodeId] = ()) -> list[FileHealth]:
    """How files stand by what the catalog knows; shares at nodes that are `away` are neither there nor lost."""
    lost: dict[int, list[Loss]] = {}
    for loss in Losses(purse.catalog).all():
        lost.setdefault(loss.share.file_id, []).append(loss)
    gone = frozenset(away)
    return [_health(file, purse.catalog.shares_of(file.file_id), lost.get(file.file_id, []), gone) for file in files]


def files_below(purse: Purse, spare: int, away: Iterable[NodeId] = ()) -> list[FileHealth]:
    """Files of ours of which fewer than `spare` further shares of some segment may be lost, the worst ones first.

    Complete ones, by what the catalog knows from checks, proofs and audits; nobody is asked. Shares at nodes that are
    `away` do not count, and shares beyond a file's own n - k are not asked for.
    """
    files = [file for file in purse.catalog.files() if file.complete and not file.verify_only]
    below = [
        health
        for health in healths(purse, files, away)
        if health.spare < min(spare, health.file.total - health.file.needed)
    ]
    return sorted(below, key=lambda health: (health.spare, health.file.name))


def _health(file: FileEntry, rows: list[ShareEntry], lost: list[Loss], away: frozenset[NodeId]) -> FileHealth:
    faults = {(loss.share.node_id, loss.share.share_id): loss.fault for loss in lost}
    there: Holders = {row.segment: {} for row in rows}
    found = 0
    unanswered = sum(row.node_id in away for row in rows)
    for row in rows:
        fault = faults.get((row.node_id, row.share_id))
        if row.node_id in away:
            continue
        found += fault not in _NOT_THERE
        if fault is None:
            # The manifest's copies are one share at many nodes; a segment's shares are told apart by their numbers.
            number = 0 if row.segment == MANIFEST_SEGMENT else row.number
            there[row.segment].setdefault(number, set()).add(row.node_id)
    return health_of(file, there, shares=len(rows), found=found, lost=tuple(lost), unanswered=unanswered)


def health_of(
    file: FileEntry, there: Holders, *, shares: int, found: int, lost: tuple[Loss, ...] = (), unanswered: int = 0
) -> FileHealth:
    """How a file stands whose healthy shares are `there`."""
    layouts = frozenset(
        Layout.of(1, 1, holders) if segment == MANIFEST_SEGMENT else Layout.of(file.needed, file.total, holders)
        for segment, holders in there.items()
    )
    return FileHealth(
        file=file,
        shares=shares,
        found=found,
        healthy=sum(len(nodes) for holders in there.values() for nodes in holders.values()),
        nodes=tuple(sorted(frozenset().union(*(layout.nodes for layout in layouts)))),
        lost=lost,
        unanswered=unanswered,
        missing=sum(
            max(0, file.total - len(holders)) for segment, holders in there.items() if segment != MANIFEST_SEGMENT
        ),
        spare=_spare(file, there),
        layouts=layouts,
    )


def _spare(file: FileEntry, there: Holders) -> int:
    """How many more shares of the worst segment, or copies of the manifest, may go."""
    return min(
        (
            len(holders.get(0, ())) - 1 if segment == MANIFEST_SEGMENT else len(holders) - file.needed
            for segment, holders in there.items()
        ),
        default=0,
    )
