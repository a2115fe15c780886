"""The order of measuring: every repetition of a work is done by each system in turn, then the next repetition."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import trio

from bench import crowd
from bench.data import are_equal, random_file, random_files
from bench.limit import limits, unit_costs
from bench.lnstore_side import STORED_NAME, LnstoreSystem, lnstore_system
from bench.measure import Series, Work
from bench.plan import AT_ONCE, KIB, SMALL_FILE_BYTES, Plan
from bench.processes import memory_bytes
from bench.repetitions import Repetitions, Results, metered, say
from bench.system import BenchError, Coding, System
from bench.tahoe_side import Transport, tahoe_system

CAPACITY_FACTOR = 3
"""So many times what the largest file takes at a node is rented."""

CAPACITY_MARGIN_BYTES = 64 << 20
COMMAND_SECONDS = 120


async def run(plan: Plan, place: Path, peers: Sequence[Transport], cores: int, results: Results) -> None:
    """Measure everything planned in the directory `place`; `results` have what was measured so far. BenchError."""
    for coding in plan.codings:
        async with _systems(plan, place / str(coding), coding, peers, results) as systems:
            coded = _Coded(plan, coding, folder=place / "files", systems=systems, results=results, cores=cores)
            await coded.run()
    if "crowd" in plan.parts:
        say("a node's accounts, leases and connections")
        results.node = await crowd.measure(place / "crowd")


@asynccontextmanager
async def _systems(
    plan: Plan, place: Path, coding: Coding, peers: Sequence[Transport], results: Results
) -> AsyncIterator[list[System]]:
    """All running: first lnstore, then the peers."""
    capacity = CAPACITY_FACTOR * (plan.largest // coding.needed) + CAPACITY_MARGIN_BYTES
    try:
        async with AsyncExitStack() as stack:
            say(f"{coding}: starting lnstore")
            ours, joining = await stack.enter_async_context(
                lnstore_system(place / "lnstore", coding, capacity_bytes=capacity)
            )
            results.lightning[str(coding)] = {
                "channel_seconds": [round(s, 4) for s in joining["channel"]],
                "account_seconds": [round(s, 4) for s in joining["account"]],
            }
            systems: list[System] = [ours]
            for transport in peers:
                say(f"{coding}: starting Tahoe-LAFS ({transport.value})")
                there = place / transport.name.lower()
                there.mkdir()
                systems.append(await stack.enter_async_context(tahoe_system(there, coding, transport)))
            yield systems
    finally:
        await trio.to_thread.run_sync(lambda: shutil.rmtree(place, ignore_errors=True))


class _Coded:
    """Everything measured at one erasure code."""

    def __init__(
        self, plan: Plan, coding: Coding, *, folder: Path, systems: list[System], results: Results, cores: int
    ) -> None:
        self._plan = plan
        self._coding = coding
        self._folder = folder
        self._systems = systems
        self._results = results
        self._cores = cores
        self._steps = Repetitions(folder, systems, results)
        self._costs: list[dict[str, float]] = []

    async def run(self) -> None:
        self._folder.mkdir(exist_ok=True)
        self._note_idle()
        await self._note_costs()
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "transfers": self._transfers,
            "first-byte": self._first_byte,
            "small": self._small_files,
            "folder": self._folder_of_files,
            "commands": self._commands,
            "rent": self._rent,
            "upkeep": self._upkeep,
            "dead": self._dead,
        }
        for name, measure in parts.items():
            if name in self._plan.parts:
                await measure()
        await self._note_costs()

    def _note_idle(self) -> None:
        """Memory of systems whose connections are open and that do nothing yet."""
        self._results.idle_bytes[str(self._coding)] = {
            system.name: {
                role: max(memory_bytes(pid, peak=False) for pid in pids) for role, pids in system.roles().items()
            }
            for system in self._systems
        }

    async def _note_costs(self) -> None:
        """Measure what the limit is made of once more; the limit is that of the medians."""
        self._costs.append(await trio.to_thread.run_sync(unit_costs, self._folder, self._coding))
        costs = {step: statistics.median(c[step] for c in self._costs) for step in self._costs[0]}
        self._results.limits[str(self._coding)] = {
            "unit_seconds_per_gb": {step: round(cost, 4) for step, cost in costs.items()},
            **{
                work: {"mb_per_s": round(limit.mb_per_s, 1), **_rounded(asdict(limit))}
                for work, limit in limits(costs, self._coding, self._cores).items()
            },
        }

    # --- parts ------------------------------------------------------------------------------------------------------

    async def _transfers(self) -> None:
        for size in self._plan.sizes:
            puts = self._steps.series(Work("put", str(self._coding), size))
            gets = self._steps.series(Work("get", str(self._coding), size))
            for repetition in range(self._plan.repetitions_of(size)):
                source = await self._steps.make(size)
                for at in self._steps.turns(repetition):
                    keys = await self._steps.put(puts[at], self._systems[at], [source], 1)
                    await self._steps.get(gets[at], self._systems[at], keys, [source], 1)
                    await self._systems[at].forget(keys)
            await self._note_costs()
            self._steps.record(puts, gets)

    async def _small_files(self) -> None:
        count = self._plan.small_files
        for at_once in AT_ONCE:
            work = Work("put", str(self._coding), SMALL_FILE_BYTES, count, at_once)
            puts = self._steps.series(work)
            gets = self._steps.series(Work("get", str(self._coding), SMALL_FILE_BYTES, count, at_once))
            for repetition in range(self._plan.repetitions_of(SMALL_FILE_BYTES)):
                folder = self._folder / "small"
                sources = await trio.to_thread.run_sync(random_files, folder, count, SMALL_FILE_BYTES)
                for at in self._steps.turns(repetition):
                    keys = await self._steps.put(puts[at], self._systems[at], sources, at_once)
                    await self._steps.get(gets[at], self._systems[at], keys, sources, at_once)
                    await self._systems[at].forget(keys)
                shutil.rmtree(folder)
            self._steps.record(puts, gets)

    async def _folder_of_files(self) -> None:
        """Many small files in one put; lnstore alone, held against the peer's rate for files each on its own."""
        ours, count = self._systems[0], self._plan.folder_files
        assert isinstance(ours, LnstoreSystem)
        works = [Work(f"{work} folder", str(self._coding), SMALL_FILE_BYTES, count) for work in ("put", "get")]
        puts, gets = (Series(work, ours.name) for work in works)
        for repetition in range(self._plan.repetitions_of(SMALL_FILE_BYTES)):
            folder, back, name = self._folder / "many", self._folder / "many-back", f"folder{repetition}"
            sources = await trio.to_thread.run_sync(random_files, folder, count, SMALL_FILE_BYTES)
            with await metered(ours) as meter:
                seconds = await ours.put_folder(folder, name)
            puts.add(seconds, meter)
            with await metered(ours) as meter:
                seconds = await ours.get_folder(name, back)
            gets.add(seconds, meter)
            gets.compared_equal = all(are_equal(source, back / source.name) for source in sources)
            if not gets.compared_equal:
                raise BenchError("a folder came back different")
            for used in (folder, back):
                await trio.to_thread.run_sync(shutil.rmtree, used)
        self._steps.record([puts, gets])

    async def _first_byte(self) -> None:
        size = self._plan.first_byte_size
        series = self._steps.series(Work("first byte", str(self._coding), size))
        source = await self._steps.make(size)
        stored = [await system.put([source], at_once=1) for system in self._systems]
        for repetition in range(self._plan.repetitions_of(1 << 20)):
            for at in self._steps.turns(repetition):
                with await metered(self._systems[at]) as meter:
                    seconds = await self._systems[at].first_byte(stored[at].keys[0])
                series[at].add(seconds, meter)
        for at, system in enumerate(self._systems):
            await system.forget(stored[at].keys)
        self._steps.record(series)

    async def _commands(self) -> None:
        """Whole processes: from their start to their end."""
        small = await trio.to_thread.run_sync(random_file, self._folder / "one-kib", KIB)
        series: dict[tuple[int, str], Series] = {}
        for repetition in range(self._plan.command_repetitions):
            for at in self._steps.turns(repetition):
                system = self._systems[at]
                for name, command in system.commands(small).items():
                    began = time.perf_counter()
                    with await metered(system) as meter:
                        began = time.perf_counter()
                        await trio.to_thread.run_sync(_run_command, command)
                        seconds = time.perf_counter() - began
                    work = Work(f"command: {name}", str(self._coding), 0)
                    series.setdefault((at, name), Series(work, system.name)).add(seconds, meter)
                if isinstance(system, LnstoreSystem):
                    await system.forget([STORED_NAME])
                small.write_bytes(os.urandom(KIB))
        small.unlink()
        self._steps.record(list(series.values()))

    async def _rent(self) -> None:
        """A month's rent at every node, while a file lies there; lnstore alone."""
        ours = self._systems[0]
        assert isinstance(ours, LnstoreSystem)
        stored = await ours.put([await self._steps.make(self._plan.dead_size)], at_once=1)
        with await metered(ours) as meter:
            answer = await ours.pay_rent()
        self._results.lightning[str(self._coding)] |= {
            "rent_seconds": round(answer["seconds"], 4),
            "rent_payments": answer["payments"],
            "rent_shares_proven": answer["shares_proven"],
            "rent_cpu_seconds": {role: round(cpu, 4) for role, cpu in meter.cpu.items()},
        }
        await ours.forget(stored.keys)

    async def _upkeep(self) -> None:
        """A file verified, one of its shares lost at one node, found and stored again."""
        size, ours = self._plan.dead_size, self._systems[0]
        assert isinstance(ours, LnstoreSystem)
        verifies, repairs = (
            self._steps.series(Work(name, str(self._coding), size)) for name in ("verify by download", "repair")
        )
        audits = Series(Work("verify by audit", str(self._coding), size), ours.name)
        for repetition in range(self._plan.repetitions_of(size)):
            source = await self._steps.make(size)
            for at in self._steps.turns(repetition):
                system = self._systems[at]
                (key,) = (await system.put([source], at_once=1)).keys
                await self._steps.timed(verifies[at], system, system.verify, key)
                if system is ours:
                    await self._steps.timed(audits, ours, ours.audit, key)
                await system.lose(key, repetition % self._coding.total)
                await self._steps.timed(repairs[at], system, system.repair, key)
                await system.verify(key)
                await system.forget([key])
        self._steps.record(verifies, [audits], repairs)

    async def _dead(self) -> None:
        """Reading with as few nodes as suffice; the first repetition finds out that the others are gone."""
        size = self._plan.dead_size
        dead = self._coding.total - self._coding.needed
        source = await self._steps.make(size)
        stored = [await system.put([source], at_once=1) for system in self._systems]
        gets = self._steps.series(Work("get", str(self._coding), size, dead=dead))
        for system in self._systems:
            await system.kill_nodes(dead)
        for repetition in range(self._plan.repetitions_of(size)):
            for at in self._steps.turns(repetition):
                await self._steps.get(gets[at], self._systems[at], stored[at].keys, [source], 1)
        self._steps.record(gets)


def _run_command(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS)
    if done.returncode:
        raise BenchError(f"{Path(command[0]).name} {command[1]} failed: {done.stderr.strip()[-300:]}")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return round(value, 4) if isinstance(value, float) else value
