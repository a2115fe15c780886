"""Which node gets which share: rendezvous hashing over the nodes that may be written to.

Every node has a rank for every segment of a file: the order of BLAKE3 keyed with the file's placement seed, of node id
and segment number. Share j goes to the node of rank j. So a repeated put chooses the same nodes, a reader who knows the
same nodes looks in the right place first, and each node holds data and parity shares alike. Pure and deterministic.

Source: Thaler, Ravishankar, "A Name-Based Mapping Scheme for Rendezvous" (1996).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from blake3 import blake3

from lnstore_protocol.ids import NodeId

MANIFEST_RANK = (1 << 64) - 1
"""The segment number that stands for the manifest in the ranking."""


def placement_seed(file_key: bytes) -> bytes:
    """32 bytes that order a file's nodes, and say nothing of its key."""
    return blake3(file_key, derive_key_context="lnstore placement v1").digest()


def ranked(seed: bytes, segment: int, nodes: Iterable[NodeId]) -> list[NodeId]:
    """The nodes in their order for a segment."""
    suffix = segment.to_bytes(8, "big")
    return sorted(nodes, key=lambda node: blake3(node + suffix, key=seed).digest())


class Placement:
    """The choice of nodes for one put. Knows how much room each node has left, and takes from it."""

    def __init__(
        self, seed: bytes, free_bytes: Mapping[NodeId, int], *, doubtful: Collection[NodeId] = frozenset()
    ) -> None:
        """`doubtful` nodes are chosen after all others, by their scores (scores.py)."""
        self._seed = seed
        self._doubtful = frozenset(doubtful)
        self._free = dict(free_bytes)

    @property
    def nodes(self) -> Collection[NodeId]:
        """The nodes still in use."""
        return self._free.keys()

    def choose(self, segment: int, share_bytes: int, holding: Collection[NodeId]) -> NodeId | None:  # F-W5
        """The first node in the segment's order with room and no share of it yet; None when there is none."""
        for node in sorted(ranked(self._seed, segment, self._free), key=self._doubtful.__contains__):
            if node not in holding and self._free[node] >= share_bytes:
                self._free[node] -= share_bytes
                return node
        return None

    def has_room(self, share_bytes: int, holding: Collection[NodeId]) -> bool:
        """Whether `choose` would find a node."""
        return any(free >= share_bytes and node not in holding for node, free in self._free.items())

    def give_back(self, node: NodeId, share_bytes: int) -> None:
        """A share was not stored there after all."""
        if node in self._free:
            self._free[node] += share_bytes

    def exclude(self, node: NodeId) -> None:
        """Use this node no more."""
        self._free.pop(node, None)
