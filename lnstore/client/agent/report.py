"""The status page: what is known of a profile's storage without asking anybody, whether or not the agent runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lnstore.client.agent.jobs import AUDIT, RENT, job_name, jobs_of
from lnstore.client.agent.lacking import files_lacking
from lnstore.client.agent.lock import running
from lnstore.client.agent.schedule import Planned, Run, plan
from lnstore.client.agent.store import AgentStore, Alert
from lnstore.client.backup import last_backup
from lnstore.client.budgets import BudgetUse, all_budgets
from lnstore.client.health import FileHealth
from lnstore.client.losses import Losses
from lnstore.client.purse import Purse
from lnstore.client.rent_status import RentStatus, as_known
from lnstore.client.scores import Score, Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """A node with an account, by our own books; the runs are the last ones of its jobs, None before the first."""

    rent: RentStatus
    score: Score
    lost: int
    rent_run: Run | None
    audit_run: Run | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All of it, as of `now`. `agent` is the process number of the agent that is at work, None without one."""

    now: int
    agent: str | None
    nodes: tuple[NodeReport, ...]
    below: tuple[FileHealth, ...]
    """Files that can spare fewer losses than `repair_below`, by what is known; the worst first."""
    last_backup_at: int | None
    budgets: tuple[BudgetUse, ...]
    planned: tuple[Planned, ...]
    runs: Mapping[str, Run]
    alerts: tuple[Alert, ...]


def report(purse: Purse, directory: Path) -> Report:
    """Blocking and short; asks no node and no daemon."""
    catalog, now = purse.catalog, purse.clock.now()
    store, scores = AgentStore(catalog), Scores(catalog)
    runs, backup, lost = store.runs(), last_backup(catalog), Losses(catalog).all()
    return Report(
        now=now,
        agent=running(directory),
        nodes=tuple(
            NodeReport(
                rent=as_known(purse, node),
                score=scores.score(node.node_id, now),
                lost=sum(loss.share.node_id == node.node_id for loss in lost),
                rent_run=runs.get(job_name(RENT, node.node_id)),
                audit_run=runs.get(job_name(AUDIT, node.node_id)),
            )
            for node in catalog.nodes()
            if node.agreement is not None
        ),
        below=tuple(files_lacking(purse)),
        last_backup_at=None if backup is None else backup.created_at,
        budgets=tuple(all_budgets(catalog, purse.budgets, now)),
        planned=tuple(plan(jobs_of(catalog, purse.config.agent), runs, bytes(purse.account_id), now)),
        runs=runs,
        alerts=tuple(alert for alert in store.alerts() if alert.closed_at is None),
    )
