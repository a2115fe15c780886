"""When the agent's jobs are due: properties of a pure function."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lnstore.client.agent.schedule import (
    JITTER_PERCENT,
    RETRY_FIRST_SECONDS,
    RETRY_MOST_SECONDS,
    Job,
    Run,
    due_at,
    plan,
    wait_seconds,
)

NOW = 1_800_000_000
DAY = 86_400
SEED = b"somebody"

names = st.text(st.sampled_from("abc/"), min_size=1, max_size=6)
jobs = st.builds(Job, name=names, every_seconds=st.integers(1, 90 * DAY), rank=st.integers(0, 5))
runs = st.builds(
    Run,
    runs=st.integers(1, 10_000),
    last_at=st.integers(NOW - 400 * DAY, NOW + 400 * DAY),
    last_ok_at=st.none(),
    failures=st.integers(0, 500),
    failing_since=st.none(),
    unanswered_since=st.none(),
    result=st.just(""),
)


@given(jobs, runs, st.binary(max_size=32))
def test_a_job_is_due_once_in_an_interval_and_never_later_than_one_from_now(job: Job, run: Run, seed: bytes) -> None:
    """Whatever the clock did; a little earlier by the jitter, and the same whenever it is asked."""
    at = due_at(job, run, seed, NOW)
    assert at == due_at(job, run, seed, NOW)
    assert at <= NOW + job.every_seconds
    if run.last_at > NOW:
        assert at == NOW
    else:
        wait = wait_seconds(job, run.failures)
        assert max(wait * (100 - JITTER_PERCENT) // 100, 1) <= at - run.last_at <= wait


@given(jobs, st.integers(0, 500))
def test_after_failures_it_is_tried_sooner_and_then_less_and_less_often(job: Job, failures: int) -> None:
    assert wait_seconds(job, 0) == job.every_seconds
    assert wait_seconds(job, 1) == min(RETRY_FIRST_SECONDS, job.every_seconds)
    assert wait_seconds(job, failures + 1) <= min(wait_seconds(job, failures + 2), RETRY_MOST_SECONDS)
    assert wait_seconds(job, failures) <= job.every_seconds


@given(st.lists(jobs, max_size=8, unique_by=lambda job: job.name), st.data())
def test_what_is_due_comes_first_by_rank_and_the_rest_by_time(made: list[Job], data: st.DataObject) -> None:
    past = {job.name: data.draw(runs) for job in made if data.draw(st.booleans())}
    planned = plan(made, past, SEED, NOW)
    assert sorted(one.job.name for one in planned) == sorted(job.name for job in made)
    due = [one for one in planned if one.at <= NOW]
    later = planned[len(due) :]
    assert [one.job.rank for one in due] == sorted(one.job.rank for one in due)
    assert [one.at for one in later] == sorted(one.at for one in later)
    assert all(one.at > NOW for one in later)


@given(jobs, st.integers(1, 400 * DAY), st.binary(max_size=8))
def test_a_machine_that_slept_catches_up_once(job: Job, slept: int, seed: bytes) -> None:
    """However many runs it missed: after the one that is due now the next is an interval away."""
    before = Run(3, NOW, NOW, 0, None, None, "")
    now = NOW + slept
    if due_at(job, before, seed, now) <= now:
        after = replace(before, runs=4, last_at=now)
        assert due_at(job, after, seed, now) > now


def test_what_happened_since_the_last_run_makes_a_job_due_at_once() -> None:
    run = Run(1, NOW - DAY, NOW - DAY, 0, None, None, "")
    job = Job("repair", 10 * DAY, 0, wanted_at=NOW - 5)
    assert due_at(job, run, SEED, NOW) == NOW - 5
    seen_to = replace(run, last_at=NOW - 4)
    assert due_at(job, seen_to, SEED, NOW) > NOW + DAY


def test_two_agents_do_not_come_at_the_same_time() -> None:
    """The jitter is another for each profile, job and run, and spreads over all of its range."""
    run = Run(1, NOW, NOW, 0, None, None, "")
    job = Job("rent/alice", DAY, 0)
    others = {due_at(job, run, bytes([number]), NOW) for number in range(100)}
    assert len(others) > 90
    assert max(others) - min(others) > DAY * JITTER_PERCENT // 100 * 9 // 10
    assert due_at(job, replace(run, runs=2), SEED, NOW) != due_at(job, run, SEED, NOW)
