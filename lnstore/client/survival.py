"""What is lost if which nodes vanish, computed from where the healthy shares of files lie. Pure.

A segment is lost once fewer than k of its share numbers are left. The smallest sets of nodes that bring this about are
searched by size, up to TRIES sets of a file; where that is not enough a greedy choice stands in for them, which loses
the file too, but may not be the smallest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

from lnstore_protocol.ids import NodeId

TRIES = 20_000
"""Sets of nodes that are looked at for one file."""

SETS_NAMED = 5


@dataclass(frozen=True, slots=True)
class Layout:
    """Where one segment is: by share number, the nodes that hold it. Any `needed` numbers give it back, of `total`."""

    needed: int
    total: int
    holders: frozenset[tuple[int, frozenset[NodeId]]]

    @classmethod
    def of(cls, needed: int, total: int, holders: Mapping[int, Collection[NodeId]]) -> Layout:
        """The layout of these holders; numbers that nobody holds do not count."""
        return cls(needed, total, frozenset((number, frozenset(nodes)) for number, nodes in holders.items() if nodes))

    def left(self, gone: Collection[NodeId] = ()) -> int:
        """How many share numbers are left without these nodes."""
        without = frozenset(gone)
        return sum(not nodes <= without for _, nodes in self.holders)

    def is_lost(self, gone: Collection[NodeId] = ()) -> bool:
        """Whether the segment cannot be put together without these nodes."""
        return self.left(gone) < self.needed

    @property
    def nodes(self) -> frozenset[NodeId]:
        """All that hold something of it."""
        return frozenset(node for _, nodes in self.holders for node in nodes)


Layouts = frozenset[Layout]
"""Of one file; segments that lie alike are one."""


@dataclass(frozen=True, slots=True)
class Weakest:
    """The smallest sets of nodes whose vanishing loses a file, some of them. `exact`: there is no smaller one."""

    size: int
    sets: tuple[tuple[NodeId, ...], ...]
    exact: bool


@dataclass(frozen=True, slots=True)
class Impact:
    """What happens if these nodes vanish, by the names of files.

    Those that are `lost` cannot be read then, those `below` have fewer shares than they should.
    """

    nodes: tuple[NodeId, ...]
    lost: tuple[str, ...]
    below: tuple[str, ...]


def weakest(layouts: Layouts, *, tries: int = TRIES) -> Weakest:
    """Which nodes a file hangs on."""
    if not layouts or any(layout.is_lost() for layout in layouts):
        return Weakest(0, ((),), exact=True)
    least = {layout: _at_least(layout) for layout in layouts}
    found: dict[tuple[NodeId, ...], None] = {}
    for size in range(min(least.values()), len(_all_nodes(layouts)) + 1):
        for layout in sorted(layouts, key=lambda layout: (least[layout], sorted(layout.nodes))):
            if least[layout] > size:
                break
            for nodes in combinations(_by_weight(layout), size):
                tries -= 1
                if layout.is_lost(nodes):
                    found[tuple(sorted(nodes))] = None
                if len(found) == SETS_NAMED:
                    return Weakest(size, tuple(found), exact=True)
                if tries <= 0:
                    return _greedy(layouts) if not found else Weakest(size, tuple(found), exact=True)
        if found:
            return Weakest(size, tuple(found), exact=True)
    return Weakest(0, ((),), exact=True)


def impacts(files: Mapping[str, Layouts], sets: Iterable[Iterable[NodeId]]) -> list[Impact]:
    """What vanishes with each of these sets of nodes. Files that are lost already are not counted again."""
    readable = [name for name, layouts in files.items() if not any(layout.is_lost() for layout in layouts)]
    names: dict[Layout, list[int]] = {}
    short: set[int] = set()
    for at, name in enumerate(readable):
        for layout in files[name]:
            names.setdefault(layout, []).append(at)
            if layout.left() < layout.total:
                short.add(at)
    held: dict[NodeId, list[Layout]] = {}
    for layout in names:
        for node in layout.nodes:
            held.setdefault(node, []).append(layout)

    def impact(gone: frozenset[NodeId]) -> Impact:
        lost: set[int] = set()
        below = set(short)
        for layout in {layout for node in gone for layout in held.get(node, ())}:
            left = layout.left(gone)
            if left < layout.needed:
                lost.update(names[layout])
            elif left < layout.total:
                below.update(names[layout])
        lost_names, below_names = (tuple(readable[at] for at in sorted(found)) for found in (lost, below - lost))
        return Impact(tuple(sorted(gone)), lost_names, below_names)

    return [impact(frozenset(nodes)) for nodes in sets]


def _all_nodes(layouts: Layouts) -> frozenset[NodeId]:
    return frozenset().union(*(layout.nodes for layout in layouts))


def _by_weight(layout: Layout) -> list[NodeId]:
    """The nodes that hold most first."""
    weights = Counter(node for _, nodes in layout.holders for node in nodes)
    return sorted(weights, key=lambda node: (-weights[node], node))


def _at_least(layout: Layout) -> int:
    """So many nodes must vanish at least: exact where no node holds two numbers, or no number is held twice."""
    weights = sorted(Counter(node for _, nodes in layout.holders for node in nodes).values(), reverse=True)
    copies = sorted(len(nodes) for _, nodes in layout.holders)
    numbers = len(layout.holders) - layout.needed + 1
    by_copies = -(-sum(copies[:numbers]) // weights[0])
    by_weight = next(size for size in range(1, len(weights) + 1) if sum(weights[:size]) >= numbers)
    return max(by_copies, by_weight)


def _greedy(layouts: Layouts) -> Weakest:
    """Some set that loses the file: the node that takes most, then the next; of the segment where they are fewest."""
    best: tuple[NodeId, ...] | None = None
    for layout in layouts:
        gone: list[NodeId] = []
        while not layout.is_lost(gone):
            gone.append(min(layout.nodes - set(gone), key=lambda node: (layout.left([*gone, node]), node)))
        if best is None or len(gone) < len(best):
            best = tuple(sorted(gone))
    return Weakest(len(best or ()), (best or (),), exact=False)
