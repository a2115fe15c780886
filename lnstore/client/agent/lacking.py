"""What files lack by what is known, and which nodes are gone for good as far as anybody can tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lnstore.client.agent.jobs import RENT, job_parts
from lnstore.client.agent.schedule import Run
from lnstore.client.backup import FOLDER
from lnstore.client.health import FileHealth, files_below
from lnstore.client.purse import Purse
from lnstore_protocol.ids import NodeId

TRIES = 10
"""A machine that slept for weeks and tried once has seen nothing."""


def gone_nodes(runs: Mapping[str, Run], after_seconds: int, now: int) -> dict[NodeId, int]:
    """Those that did not answer for so long, and since when. `after_seconds` 0: none is ever gone.

    While no other node has answered since then it may be our own network that is gone.
    """
    rents = {node_id: run for name, run in runs.items() for kind, node_id in [job_parts(name)] if kind == RENT}
    answered_at = max((run.last_at for run in rents.values() if run.unanswered_since is None), default=0)
    return {
        node_id: run.unanswered_since
        for node_id, run in rents.items()
        if node_id is not None
        and run.unanswered_since is not None
        and 0 < after_seconds <= now - run.unanswered_since
        and run.unanswered_since < answered_at
        and run.failures >= TRIES
    }


def files_lacking(purse: Purse, away: Iterable[NodeId] = ()) -> list[FileHealth]:
    """Files that can spare fewer losses than the profile wants, the worst first.

    Without backups of the catalog: the next one takes the place of one that lacks something.
    """
    below = files_below(purse, purse.config.agent.repair_below, away)
    return [health for health in below if health.file.folder != FOLDER]
