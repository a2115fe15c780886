"""One writer, many callers: writes that wait at the same time share one transaction and so one fsync.

Rules that this file keeps: a caller gets its own result or its own error, after the commit and never before; a write
that fails undoes itself (a savepoint) and leaves its neighbours alone; when the commit fails, all of its callers get
that error. A caller that is cancelled before its write was begun withdraws it; after that it waits for the outcome,
so that nobody is ever cancelled without knowing.

The writes are done by a thread of the writer's own: what waits when it comes back from a commit is the next one, and
handing it over costs a fraction of what a worker thread for each commit does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar, cast

import trio
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from lnstore.books.errors import translated
from lnstore.ports import StorageFull

WRITES_PER_COMMIT = 512
WRITES_WAITING = 4096
"""Writes begun or waiting at once; further callers wait outside."""

GATHERING_STEPS = 4
"""Of the event loop, before a thread that rests is woken: requests of one packet follow each other at that distance."""

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
    token: trio.lowlevel.TrioToken = field(default_factory=trio.lowlevel.current_trio_token, repr=False)
    result: Any = field(default_factory=lambda: RuntimeError("the write was not attempted"))


class Writer:
    """The only way to write to the database of `connection`, which it owns until `close`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._room = trio.Semaphore(WRITES_WAITING)
        self._lock = threading.Lock()
        self._waiting: list[_Write] = []
        self._resting = True
        self._work: SimpleQueue[bool] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.commits = 0

    def close(self) -> None:
        """End the thread once nothing waits. Blocks; nothing may be written any more."""
        if self._thread is not None:
            self._work.put(False)  # noqa: FBT003  (see _run)
            self._thread.join()

    async def write(self, work: Callable[[Connection], Result]) -> Result:
        """What `work` returns, committed; its exception otherwise, its changes undone."""
        return await self.write_together(_alone, cast("Callable[[Connection], Any]", work))

    async def write_together(self, together: Together[Item, Result], item: Item) -> Result:
        """As `write`, by work that serves all the items that wait at the same time."""
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._room.acquire_nowait()
        except trio.WouldBlock:
            await self._room.acquire()
        try:
            write = _Write(together, item)
            if self._add(write):
                try:
                    for _ in range(GATHERING_STEPS):
                        await trio.lowlevel.cancel_shielded_checkpoint()
                finally:
                    self._work.put(True)  # noqa: FBT003  (see _run)
            await self._wait(write)
        finally:
            self._room.release()
        if isinstance(write.result, Exception):
            raise write.result
        return cast("Result", write.result)

    def _add(self, write: _Write) -> bool:
        """Have it written; whether the thread rests and must be woken."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="books", daemon=True)
            self._thread.start()
        with self._lock:
            self._waiting.append(write)
            resting, self._resting = self._resting, False
        return resting

    async def _wait(self, write: _Write) -> None:
        """Wait until `write` is done; bounded by the database's busy timeout."""

        def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
            with self._lock:
                if write not in self._waiting:
                    return trio.lowlevel.Abort.FAILED
                self._waiting.remove(write)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    # --- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Write whenever something waits (True comes from `_work`), until False comes."""
        while self._work.get():
            while batch := self._next():
                try:
                    self._commit(batch)
                except Exception as exc:  # noqa: BLE001  (the thread's boundary: whoever waits must be told)
                    for write in batch:
                        write.result = exc
                with suppress(trio.RunFinishedError):
                    batch[0].token.run_sync_soon(_wake, batch)

    def _next(self) -> list[_Write]:
        with self._lock:
            batch, self._waiting = self._waiting[:WRITES_PER_COMMIT], self._waiting[WRITES_PER_COMMIT:]
            self._resting = not batch
        return batch

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


def _wake(batch: Sequence[_Write]) -> None:
    for write in batch:
        trio.lowlevel.reschedule(write.task)


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
