"""One round of the agent: every job that is due, one after the other, each run written down; then the hook.

The profile is held against other writers only while a job runs. Whatever is killed whenever, nothing is lost: a job
that has no run written down is due again, and each may be repeated (payments are found again by their own books).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass

import trio

from lnstore.client.agent.hook import HookFailed, run_hook
from lnstore.client.agent.jobs import RENT, job_parts, jobs_of, petname_of
from lnstore.client.agent.patience import is_unanswered, patience_seconds
from lnstore.client.agent.schedule import Job, Run, plan
from lnstore.client.agent.store import AgentStore, Alert, to_tell
from lnstore.client.agent.work import OF_ALL, OF_NODES, Done
from lnstore.client.catalog import NodeEntry
from lnstore.client.files import Client
from lnstore.client.profile import Profile, ProfileBusy
from lnstore.client.purse import Purse
from lnstore.errors import LnstoreError

Session = Callable[[], AbstractAsyncContextManager[tuple[Purse, Client]]]
"""Opens a profile's books and files, without holding it against other writers."""

PROFILE = "profile"
"""What alerts that are about no job are kept under."""

WRITER_PATIENCE_SECONDS = 3.0
"""How long another process that writes is waited for before a round ends; and when a person is told of it."""

BUSY_PATIENCE_SECONDS = 6 * 3600


@dataclass(frozen=True, slots=True)
class Ran:
    """A job that was run, for whoever watches."""

    kind: str
    petname: str | None
    at: int
    ok: bool
    result: str


@dataclass(frozen=True, slots=True)
class Round:
    """What a round did, when the next job is due (None: there is none), and what needs a person."""

    ran: tuple[Ran, ...]
    next_at: int | None
    alerts: tuple[Alert, ...]
    hook_failure: str


async def work_off(profile: Profile, session: Session, tell: Callable[[Ran], None]) -> Round:
    """Run every job that is due, each once at most. ProfileBusy when another process writes with the profile."""
    done: dict[str, Ran] = {}
    async with session() as (purse, client):
        store, seed = AgentStore(purse.catalog), bytes(purse.account_id)
        while True:
            now = purse.clock.now()
            planned = plan(jobs_of(purse.catalog, profile.config.agent), store.runs(), seed, now)
            job = next((one.job for one in planned if one.at <= now and one.job.name not in done), None)
            if job is None:
                break
            try:
                done[job.name] = await _run(profile, purse, client, job)
            except ProfileBusy as exc:
                await _say_busy(profile, purse, exc, now - min(one.at for one in planned))
                raise
            tell(done[job.name])
        await purse.write(store.keep_only, {one.job.name for one in planned}, now)
        failure = await _tell_hook(profile, purse, store)
        alerts = tuple(alert for alert in store.alerts() if alert.closed_at is None)
    return Round(tuple(done.values()), min((one.at for one in planned), default=None), alerts, failure)


async def _run(profile: Profile, purse: Purse, client: Client, job: Job) -> Ran:
    kind, node_id = job_parts(job.name)
    store, at = AgentStore(purse.catalog), purse.clock.now()
    node = None if node_id is None else purse.catalog.node(node_id)
    async with _writing(profile):
        try:
            done = await (OF_ALL[kind](purse, client) if node is None else OF_NODES[kind](purse, node))
        except LnstoreError as exc:
            done = Done(str(exc), _open_alerts(store, job), exc)
        except Exception as exc:  # noqa: BLE001 - the boundary: one job's failure does not stop the others
            done = Done("", _open_alerts(store, job), _unexpected(exc))
        error, alerts = done.error, dict(done.alerts)
        unanswered = error is not None and is_unanswered(error)
        if unanswered:
            alerts = _open_alerts(store, job) | alerts
        result = done.result if error is None else str(error)
        now = purse.clock.now()
        before = store.runs().get(job.name)
        told_by_rent = unanswered and kind != RENT
        if error is not None and not told_by_rent and _failing_seconds(before, now) >= patience_seconds(error):
            alerts["failing"] = _named(result, node)
        await purse.write(
            lambda: store.note(
                job.name,
                at=at,
                ok=error is None,
                unanswered=unanswered,
                result=result,
                alerts=alerts,
                now=now,
            )
        )
    return Ran(kind, None if node is None else node.petname, at, error is None, result)


def _open_alerts(store: AgentStore, job: Job) -> dict[str, str]:
    """Those that the job gave before, which go on: what could not be looked at has not become better."""
    return {alert.subject: alert.text for alert in store.alerts() if alert.job == job.name and alert.closed_at is None}


async def _say_busy(profile: Profile, purse: Purse, busy: ProfileBusy, overdue_seconds: int) -> None:
    """A person is told once work has had to wait for long: rent is part of it."""
    if overdue_seconds >= BUSY_PATIENCE_SECONDS:
        store, now = AgentStore(purse.catalog), purse.clock.now()
        await purse.write(store.open_alerts, PROFILE, {"busy": f"the agent has to wait: {busy}"}, now)
        await _tell_hook(profile, purse, store)


def _failing_seconds(before: Run | None, now: int) -> int:
    return 0 if before is None or before.failing_since is None else now - before.failing_since


@asynccontextmanager
async def _writing(profile: Profile) -> AsyncIterator[None]:
    with ExitStack() as held:
        try:
            held.enter_context(profile.writing(0))
        except ProfileBusy:  # a command that writes is mostly done soon
            await trio.to_thread.run_sync(held.enter_context, profile.writing(WRITER_PATIENCE_SECONDS))
        yield


def _named(result: str, node: NodeEntry | None) -> str:
    """The text with the node's name, if it is about one and does not say so."""
    return result if node is None or node.petname in result else f"{node.petname}: {result}"


class Unexpected(LnstoreError):
    """A fault of lnstore itself."""


def _unexpected(error: Exception) -> Unexpected:
    """Where it happened; its text may hold what nobody should read."""
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    where = "" if innermost is None else f" in {innermost.tb_frame.f_globals['__name__']}, line {innermost.tb_lineno}"
    return Unexpected(f"{type(error).__name__}{where}; this is a fault of lnstore: please report it")


async def _tell_hook(profile: Profile, purse: Purse, store: AgentStore) -> str:
    """Run the hook for what changed; why it failed. What it was not told it is told in the next round."""
    command = profile.config.agent.hook
    for alert in store.alerts():
        if to_tell(alert) and command:
            petname = petname_of(purse.catalog, alert.job)
            try:
                await run_hook(command, alert, petname=petname, profile=profile.directory)
            except HookFailed as exc:
                return str(exc)
        if to_tell(alert) or alert.closed_at is not None:
            await purse.write(store.told, alert)
    return ""
