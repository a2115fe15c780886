"""When the agent's jobs are due: pure, from the jobs, their last runs, a seed and the time.

A job is due an interval after its last run began, a little earlier by a jitter, so that the agents of many people do
not come all at once. After a failure it is tried again sooner, and then less and less often. What was missed while the
machine slept is done once. A job is never due later than an interval from now, whatever the clock did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from blake3 import blake3

JITTER_PERCENT = 20
RETRY_FIRST_SECONDS = 300
RETRY_MOST_SECONDS = 6 * 3600


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do every so often; of those that are due the one of the lowest rank comes first.

    `wanted_at`: when something happened that it should see to at once, if it did.
    """

    name: str
    every_seconds: int
    rank: int
    wanted_at: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """How a job went the last time, and since when it fails; `runs` counts all of them."""

    runs: int
    last_at: int
    last_ok_at: int | None
    failures: int
    failing_since: int | None
    unanswered_since: int | None
    result: str


@dataclass(frozen=True, slots=True)
class Planned:
    """A job and when it is due; in the past if it is overdue."""

    job: Job
    at: int


def wait_seconds(job: Job, failures: int) -> int:
    """How long after the beginning of a run the next one is due at the latest, after so many failures in a row."""
    if failures == 0:
        return job.every_seconds
    doubled = RETRY_FIRST_SECONDS << min(failures - 1, 16)
    return min(doubled, RETRY_MOST_SECONDS, job.every_seconds)


def due_at(job: Job, run: Run | None, seed: bytes, now: int) -> int:
    """When the job is due; `now` if it never ran, or if its last run lies in the future of a clock that was wrong."""
    if run is None or run.last_at > now:
        return now
    if job.wanted_at is not None and run.last_at <= job.wanted_at:
        return min(now, job.wanted_at)
    wait = wait_seconds(job, run.failures)
    # Jobs of a kind that began together stay together: one waking, one connection for a node.
    earlier = wait * JITTER_PERCENT * _draw(seed, job.name.partition("/")[0], run.runs) // (100 << 32)
    return run.last_at + max(wait - earlier, 1)


def plan(jobs: Iterable[Job], runs: Mapping[str, Run], seed: bytes, now: int) -> list[Planned]:
    """All jobs with their times: those that are due in the order of their ranks, then those to come by time."""
    planned = [Planned(job, due_at(job, runs.get(job.name), seed, now)) for job in jobs]
    return sorted(planned, key=lambda one: (max(one.at, now), one.job.rank, one.at, one.job.name))


def _draw(seed: bytes, kind: str, runs: int) -> int:
    """A number below 2^32 that looks random, the same for the same run."""
    digest = blake3(f"{kind}/{runs}".encode(), key=blake3(seed).digest()).digest(4)
    return int.from_bytes(digest, "big")
