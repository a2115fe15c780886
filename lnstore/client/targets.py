"""Where shares may be moved now: nodes that can be written to and are neither suspended nor retiring."""

from __future__ import annotations

from dataclasses import dataclass

from lnstore.client.files import Client
from lnstore.client.scores import Scores
from lnstore.client.standing import Fit, Unfit, standings, trusted
from lnstore_protocol.ids import NodeId


@dataclass(frozen=True, slots=True)
class Targets:
    """The nodes; those that are `doubtful` get shares when no other has room. `unfit` says why others get none."""

    fit: tuple[Fit, ...]
    unfit: tuple[Unfit, ...]
    doubtful: frozenset[NodeId]


async def find_targets(client: Client) -> Targets:
    """Ask all known nodes at once how the account stands there."""
    nodes = client.catalog.nodes()
    scores = Scores(client.catalog).all([node.node_id for node in nodes], client.clock.now())
    fit, unfit = trusted(*await standings(client.pool, client.catalog, nodes), scores)
    doubtful = frozenset(node_id for node_id, score in scores.items() if score.doubtful)
    return Targets(tuple(fit), tuple(unfit), doubtful)
