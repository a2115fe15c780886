"""Where a transfer's time goes, by step: counted in the functions that do the steps, in each thread, exactly.

`install` puts a stopwatch on every function of the table. It counts CPU time of the thread that runs the step, and time
that passes, without what nested steps take, so that nothing counts twice; of a coroutine only its own turns count. What
is left of the process's CPU time is the event loop, the handing over between threads, and the interpreter between the
steps.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import FrameType, coroutine
from typing import Any

SNAPSHOT_SIGNAL = signal.SIGUSR1
MAIN, WORKERS = "main", "workers"

STEPS: dict[str, tuple[str, ...]] = {
    "read source": ("lnstore.client.source:Source.fill",),
    "content cipher": ("lnstore_protocol.content:RecordSealer.seal_into",),
    "content decipher": ("lnstore_protocol.content:RecordOpener.open_into",),
    "erasure encode": ("lnstore.client.erasure:ErasureCode.encode",),
    "erasure decode": ("lnstore.client.erasure:ErasureCode.decode",),
    "hash": ("lnstore_protocol.merkle:leaf_hashes",),
    "tokens": ("lnstore_protocol.proofs:make_tokens",),
    "transport seal": ("lnstore_protocol.noise:CipherState.seal_into",),
    "transport open": ("lnstore_protocol.noise:CipherState.open_into",),
    "frames": (
        "lnstore_protocol.connection:Connection.next_event",
        "lnstore_protocol.connection:Connection.receive_data",
    ),
    "socket send": ("trio:SocketStream.send_all",),
    "socket receive": ("trio:SocketStream.receive_some", "trio._socket:_SocketType.recv_into"),
    "write + sync share": ("lnstore.storage.files:FileShares.put",),
    "read share": ("lnstore.storage.files:FileShares.read",),
    "books": ("lnstore.books.writer:Writer._commit",),
    "write file": ("lnstore.client.sink:FileSink.write",),
    "sync file": ("lnstore.client.sink:FileSink.commit",),
    "catalog": tuple(
        f"lnstore.client.catalog:Catalog.{name}" for name in ("begin_file", "add_shares", "complete_file", "rows")
    ),
}
"""Each step and the functions that do it, as module:attributes."""


class Stopwatches:
    """What each step has taken so far: [CPU seconds, seconds, calls] by step and kind of thread."""

    def __init__(self) -> None:
        self.taken: dict[str, dict[str, list[float]]] = {}
        self._adding = threading.Lock()
        self._local = threading.local()
        self._main = threading.main_thread().ident

    def wrap(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def timed_async(*args: Any, **kwargs: Any) -> Any:
                return await self._turns(step, function(*args, **kwargs))

            return timed_async

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = self._begin()
            try:
                return function(*args, **kwargs)
            finally:
                self._end(step, began)

        return timed

    @coroutine
    def _turns(self, step: str, awaited: Any) -> Generator[Any, Any, Any]:
        """Run a coroutine, timing each of its turns and not what happens in between."""
        resume: Callable[[], Any] = functools.partial(awaited.send, None)
        while True:
            began = self._begin()
            try:
                yielded = resume()
            except StopIteration as stop:
                return stop.value
            finally:
                self._end(step, began)
            try:
                resume = functools.partial(awaited.send, (yield yielded))
            except BaseException as exc:  # noqa: BLE001 - handed into the coroutine, which decides
                resume = functools.partial(awaited.throw, exc)

    def _begin(self) -> tuple[float, float]:
        """Open a level for what nested steps take; the clocks now."""
        if not hasattr(self._local, "nested"):
            self._local.nested = []
        self._local.nested.append([0.0, 0.0])
        return time.thread_time(), time.perf_counter()

    def _end(self, step: str, began: tuple[float, float]) -> None:
        cpu, passed = time.thread_time() - began[0], time.perf_counter() - began[1]
        nested = self._local.nested
        inner_cpu, inner_passed = nested.pop()
        if nested:
            nested[-1][0] += cpu
            nested[-1][1] += passed
        where = MAIN if threading.get_ident() == self._main else WORKERS
        with self._adding:
            sums = self.taken.setdefault(step, {}).setdefault(where, [0.0, 0.0, 0])
            sums[0] += cpu - inner_cpu
            sums[1] += passed - inner_passed
            sums[2] += 1


def install(snapshot: Path) -> None:
    """Time every step of this process from now on; SNAPSHOT_SIGNAL writes what was taken so far to `snapshot`.

    All modules that use the steps must have been imported. AttributeError when the table names what is no more.
    """
    watches = Stopwatches()
    for step, places in STEPS.items():
        for place in places:
            module_name, _, path = place.partition(":")
            *owners, name = path.split(".")
            owner: Any = importlib.import_module(module_name)
            for part in owners:
                owner = getattr(owner, part)
            original = getattr(owner, name)
            timed = watches.wrap(step, original)
            setattr(owner, name, timed)
            if not owners:
                _replace_imported(original, timed)
    main_clock = time.pthread_getcpuclockid(threading.main_thread().ident or 0)

    def write(_signal: int, _frame: FrameType | None) -> None:
        taken = {"steps": watches.taken, "cpu": time.process_time(), "main_cpu": time.clock_gettime(main_clock)}
        temporary = snapshot.with_suffix(".new")
        temporary.write_text(json.dumps(taken))
        temporary.replace(snapshot)

    signal.signal(SNAPSHOT_SIGNAL, write)


def _replace_imported(original: object, timed: object) -> None:
    """Modules that imported the function by its name get the timed one too."""
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith(("lnstore", "bench")):
            for name, value in list(vars(module).items()):
                if value is original:
                    setattr(module, name, timed)


def ask_for_snapshot(pid: int, snapshot: Path, deadline_seconds: float = 30.0) -> dict[str, Any]:
    """What a stepped process has taken so far; TimeoutError. Blocking."""
    snapshot.unlink(missing_ok=True)
    os.kill(pid, SNAPSHOT_SIGNAL)
    end = time.monotonic() + deadline_seconds
    while time.monotonic() < end:
        if snapshot.exists():
            taken: dict[str, Any] = json.loads(snapshot.read_text())
            return taken
        time.sleep(0.01)
    raise TimeoutError(f"process {pid} did not say what its steps took")
