"""One writer, many callers: writes that wait at the same time share one transaction and so one fsync.

Rules that this file keeps: a caller gets its own result or its own error, after the commit and never before; a write
that fails undoes itself (a savepoint) and leaves its neighbours alone; when the commit fails, all of its callers get
that error. A caller that is cancelled before its write was begun withdraws it; after that it waits for the outcome,
so that nobody is ever cancelled without knowing. Whoever finds nobody writing writes for all that wait, once, and
then hands on: there is no task that could die alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import outcome
import trio
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from lnstore.books.errors import translated
from lnstore.ports import StorageFull

WRITES_PER_COMMIT = 512
WRITES_WAITING = 4096
"""Writes begun or waiting at once; further callers wait outside."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Together = Callable[[Connection, Sequence[Item]], Sequence[Result | Exception]]
"""Does the work of several callers at once: a result or an error for each, in order."""


@dataclass(slots=True, eq=False)
class _Write:
    """A caller's work, where it waits, and what came of it."""

    together: Together[Any, Any]
    item: Any
    task: trio.lowlevel.Task = field(default_factory=trio.lowlevel.current_task)
    result: Any = field(default_factory=lambda: RuntimeError("the write was not attempted"))


class Writer:
    """The only way to write to the database of `connection`, which it owns."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._room = trio.CapacityLimiter(WRITES_WAITING)
        self._thread = trio.CapacityLimiter(1)
        self._waiting: list[_Write] = []
        self._writing = False
        self.commits = 0

    async def write(self, work: Callable[[Connection], Result]) -> Result:
        """What `work` returns, committed; its exception otherwise, its changes undone."""
        return await self.write_together(_alone, cast("Callable[[Connection], Any]", work))

    async def write_together(self, together: Together[Item, Result], item: Item) -> Result:
        """As `write`, by work that serves all the items that wait at the same time."""
        async with self._room:
            write = _Write(together, item)
            self._waiting.append(write)
            if not self._writing or await self._wait(write):
                self._writing = True
                await self._write_all(write)
        if isinstance(write.result, Exception):
            raise write.result
        return cast("Result", write.result)

    async def _wait(self, write: _Write) -> bool:
        """Wait until `write` is done (False) or it is this caller's turn to write for all (True)."""

        def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
            if write not in self._waiting:
                return trio.lowlevel.Abort.FAILED
            self._waiting.remove(write)
            return trio.lowlevel.Abort.SUCCEEDED

        return bool(await trio.lowlevel.wait_task_rescheduled(abort))

    async def _write_all(self, mine: _Write) -> None:
        batch, self._waiting = self._waiting[:WRITES_PER_COMMIT], self._waiting[WRITES_PER_COMMIT:]
        try:
            # Bounded by the database's busy timeout.
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._commit, batch, limiter=self._thread)
        finally:
            for write in batch:
                if write is not mine:
                    trio.lowlevel.reschedule(write.task, outcome.Value(False))  # noqa: FBT003  (see _wait)
            if self._waiting:
                trio.lowlevel.reschedule(self._waiting[0].task, outcome.Value(True))  # noqa: FBT003  (see _wait)
            else:
                self._writing = False

    def _commit(self, batch: list[_Write]) -> None:
        kinds: dict[Together[Any, Any], list[_Write]] = {}
        for write in batch:
            kinds.setdefault(write.together, []).append(write)
        try:
            with self._connection.begin():
                for together, writes in kinds.items():
                    results = together(self._connection, [write.item for write in writes])
                    for write, result in zip(writes, results, strict=True):
                        write.result = result
        except SQLAlchemyError as exc:
            for write in batch:
                write.result = translated(exc)
        except (OSError, StorageFull) as exc:
            for write in batch:
                write.result = exc
        else:
            self.commits += 1


def _alone(connection: Connection, works: Sequence[Callable[[Connection], Any]]) -> list[Any]:
    """Each work in a savepoint of its own."""
    return [_attempt(connection, work) for work in works]


def _attempt(connection: Connection, work: Callable[[Connection], Any]) -> Any:
    try:
        with connection.begin_nested():
            return work(connection)
    except IntegrityError as exc:
        return exc
    except SQLAlchemyError:
        # SQLite may have undone the whole transaction (disk full, I/O error): nothing more may be written in it.
        raise
    except Exception as exc:  # noqa: BLE001  (each caller gets its own error, whatever it is)
        return exc
