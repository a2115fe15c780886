"""What the agent remembers in the catalog: each job's last run, and the alerts that are open.

A run and its alerts are one transaction. An alert stays until its job no longer gives it, and then until the hook was
told so; the hook is told of each opening and closing at least once, and twice only if the agent is killed just then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from lnstore.client.agent.schedule import Run
from lnstore.client.catalog import Catalog


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that needs a person: the text says what, and what to do. `closed_at` is None while it does."""

    job: str
    subject: str
    text: str
    opened_at: int
    closed_at: int | None
    told: bool

    @property
    def state(self) -> str:
        """As the hook is told."""
        return "opened" if self.closed_at is None else "closed"


class AgentStore:
    """Short and blocking; what writes waits for the disk."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def runs(self) -> dict[str, Run]:
        """The last run of each job."""
        rows = self._catalog.rows(
            "SELECT job, runs, last_at, last_ok_at, failures, failing_since, unanswered_since, result FROM agent_jobs"
        )
        return {row[0]: Run(*row[1:]) for row in rows}

    def note(
        self,
        job: str,
        *,
        at: int,
        ok: bool,
        unanswered: bool = False,
        result: str,
        alerts: Mapping[str, str],
        now: int,
    ) -> None:
        """A run that began at `at` and is over: these alerts of the job are open, and its others are closed."""
        before = self.runs().get(job)
        since = None if ok else before.failing_since if before and before.failing_since is not None else at
        silent = None if not unanswered else before.unanswered_since if before else None
        if unanswered and silent is None:
            silent = at
        last_ok_at = at if ok else before.last_ok_at if before else None
        with self._catalog.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO agent_jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    job,
                    1 + (before.runs if before else 0),
                    at,
                    last_ok_at,
                    0 if ok else 1 + (before.failures if before else 0),
                    since,
                    silent,
                    result,
                ),
            )
            self.open_alerts(job, alerts, now)

    def open_alerts(self, job: str, alerts: Mapping[str, str], now: int) -> None:
        """These alerts of the job are open from now on if they were not, and its others are closed."""
        with self._catalog.transaction() as db:
            for subject, text in alerts.items():
                db.execute(
                    "INSERT INTO agent_alerts (job, subject, text, opened_at) VALUES (?, ?, ?, ?) "
                    "ON CONFLICT DO UPDATE SET text = excluded.text, closed_at = NULL, "
                    "opened_at = iif(closed_at IS NULL, opened_at, excluded.opened_at)",
                    (job, subject, text, now),
                )
            for (subject,) in db.execute(
                "SELECT subject FROM agent_alerts WHERE job = ? AND closed_at IS NULL", (job,)
            ).fetchall():
                if subject not in alerts:
                    db.execute(
                        "UPDATE agent_alerts SET closed_at = ? WHERE job = ? AND subject = ?", (now, job, subject)
                    )

    def keep_only(self, jobs: Collection[str], now: int) -> None:
        """Forget the runs and end the alerts of what is no job any more, such as those of a node that was removed."""
        known = {*self.runs(), *(alert.job for alert in self.alerts() if alert.closed_at is None)}
        for job in sorted(known - set(jobs)):
            with self._catalog.transaction() as db:
                db.execute("DELETE FROM agent_jobs WHERE job = ?", (job,))
                self.open_alerts(job, {}, now)

    def alerts(self) -> list[Alert]:
        """Those that are open, and those whose end the hook was not told of, oldest first."""
        rows = self._catalog.rows(
            "SELECT job, subject, text, opened_at, closed_at, told FROM agent_alerts ORDER BY opened_at, job, subject"
        )
        return [_alert(row) for row in rows]

    def told(self, alert: Alert) -> None:
        """The hook was told of the alert as it is here, or there is none to tell."""
        where = "job = ? AND subject = ? AND opened_at = ? AND closed_at IS ?"
        key = (alert.job, alert.subject, alert.opened_at, alert.closed_at)
        with self._catalog.transaction() as db:
            if alert.closed_at is None:
                db.execute(f"UPDATE agent_alerts SET told = 'opened' WHERE {where}", key)  # noqa: S608 -- our own
            else:
                db.execute(f"DELETE FROM agent_alerts WHERE {where}", key)  # noqa: S608 -- our own


def to_tell(alert: Alert) -> bool:
    """Whether the hook is to be run for it: what it was never told of it need not hear the end of."""
    return alert.told == (alert.closed_at is not None)


def _alert(row: tuple[Any, ...]) -> Alert:
    job, subject, text, opened_at, closed_at, told = row
    return Alert(job=job, subject=subject, text=text, opened_at=opened_at, closed_at=closed_at, told=told == "opened")
