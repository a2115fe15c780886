"""The steps that every repetition is made of, and where what they measure is kept."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from bench.data import are_equal, random_file
from bench.measure import Series, Work
from bench.plan import size_text
from bench.processes import Meter
from bench.system import BenchError, System
from bench.tables import figure, title


@dataclass(slots=True)
class Results:
    """What was measured so far, ready for JSON."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    limits: dict[str, Any] = field(default_factory=dict)
    idle_bytes: dict[str, Any] = field(default_factory=dict)
    lightning: dict[str, Any] = field(default_factory=dict)
    node: dict[str, Any] = field(default_factory=dict)


class Repetitions:
    """Each system in turn does the same with the same files, which are in `folder`."""

    def __init__(self, folder: Path, systems: Sequence[System], results: Results) -> None:
        self._folder = folder
        self._systems = systems
        self._results = results

    def series(self, work: Work) -> list[Series]:
        """Of a work, what each system needs for it."""
        return [Series(work, system.name) for system in self._systems]

    def turns(self, repetition: int) -> list[int]:
        """Which system comes when: the order is turned round every time."""
        turns = list(range(len(self._systems)))
        return turns[::-1] if repetition % 2 else turns

    async def make(self, size: int) -> Path:
        """A file of random bytes; the one before is gone."""
        return await trio.to_thread.run_sync(random_file, self._folder / "source", size)

    async def timed(self, series: Series, system: System, work: Callable[[str], Awaitable[float]], key: str) -> None:
        """Do what says itself how long it took."""
        with await metered(system) as meter:
            seconds = await work(key)
        series.add(seconds, meter)

    async def put(self, series: Series, system: System, sources: Sequence[Path], at_once: int) -> tuple[str, ...]:
        """Store, and what each file is read by."""
        with await metered(system) as meter:
            stored = await system.put(sources, at_once=at_once)
        series.add(stored.seconds, meter)
        return stored.keys

    async def get(
        self, series: Series, system: System, keys: Sequence[str], sources: Sequence[Path], at_once: int
    ) -> None:
        """Read back, and compare with what was stored; BenchError when it differs."""
        folder = self._folder / "back"
        folder.mkdir()
        copies = [folder / source.name for source in sources]
        with await metered(system) as meter:
            seconds = await system.get(keys, copies, at_once=at_once)
        series.add(seconds, meter)
        equal = [await trio.to_thread.run_sync(are_equal, *pair) for pair in zip(sources, copies, strict=True)]
        shutil.rmtree(folder)
        series.compared_equal = all(equal) and series.compared_equal is not False
        if not series.compared_equal:
            raise BenchError(f"{system.name}: a file of {size_text(series.work.file_bytes)} came back different")

    def record(self, *groups: Sequence[Series]) -> None:
        """Into the results, and told."""
        for group in groups:
            for series in group:
                row = series.row()
                self._results.rows.append(row)
                say(f"{row['coding']} {title(row)}: {series.system} {figure(row)}")


async def metered(system: System) -> Meter:
    """To be entered right away: what others left to be written is on the disk now."""
    await trio.to_thread.run_sync(os.sync)
    return Meter(system.roles())


def say(text: str) -> None:
    """Tell how far the run is."""
    print(text, file=sys.stderr, flush=True)
