"""`just profile put|get FILE`: where the time of a transfer goes, step by step, and in which functions."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from bench.data import random_file
from bench.lnstore_side import LnstoreSystem, lnstore_system
from bench.plan import GIB, parse_coding, parse_size
from bench.processes import two_cores
from bench.sampling import RATE, Samples, sampling
from bench.steps import MAIN, STEPS, WORKERS, ask_for_snapshot
from bench.system import BenchError, Coding
from bench.tables import text_table
from lnstore.devnet import short_directory

SHOWN_FUNCTIONS = 18
SMALLEST_SHOWN_SECONDS = 0.005
CLIENT, NODES = "client", "nodes"

Taken = dict[str, Any]


@dataclass(slots=True)
class Profile:
    """Seconds taken by (step, process, kind of thread): CPU and passed; and totals."""

    cpu: dict[tuple[str, str, str], float] = field(default_factory=dict)
    passed: dict[tuple[str, str, str], float] = field(default_factory=dict)
    calls: dict[tuple[str, str, str], float] = field(default_factory=dict)
    process_cpu: dict[tuple[str, str], float] = field(default_factory=dict)
    seconds: float = 0.0
    bytes: int = 0

    def add(self, role: str, before: Taken, after: Taken) -> None:
        """What one process took between two snapshots."""
        for step, threads in after["steps"].items():
            for where, values in threads.items():
                earlier = before["steps"].get(step, {}).get(where, [0.0, 0.0, 0])
                for sums, now, then in zip((self.cpu, self.passed, self.calls), values, earlier, strict=True):
                    sums[step, role, where] = sums.get((step, role, where), 0.0) + now - then
        main = after["main_cpu"] - before["main_cpu"]
        others = after["cpu"] - before["cpu"] - main
        for where, taken in ((MAIN, main), (WORKERS, others)):
            self.process_cpu[role, where] = self.process_cpu.get((role, where), 0.0) + taken


_PLACES = ((CLIENT, MAIN), (CLIENT, WORKERS), (NODES, MAIN), (NODES, WORKERS))


def step_table(profile: Profile) -> str:
    """CPU seconds per GiB by step and kind of thread; `passed` also counts what was waited for, as for the disk."""
    unit = GIB / profile.bytes
    lines = []
    left = {place: profile.process_cpu.get(place, 0.0) for place in _PLACES}
    for step in STEPS:
        cpu = {place: profile.cpu.get((step, *place), 0.0) for place in _PLACES}
        passed = sum(profile.passed.get((step, *place), 0.0) for place in _PLACES)
        calls = sum(profile.calls.get((step, *place), 0.0) for place in _PLACES)
        left = {place: left[place] - cpu[place] for place in _PLACES}
        if max(sum(cpu.values()), passed) * unit >= SMALLEST_SHOWN_SECONDS:
            lines.append(_line(step, list(cpu.values()), unit, f"{passed * unit:.2f}", f"{calls * unit:.0f}"))
    lines.append(_line("the rest", list(left.values()), unit, "", ""))
    lines.append(_line("all", [profile.process_cpu.get(place, 0.0) for place in _PLACES], unit, "", ""))
    header = ["step", *(f"{role}, {where}" for role, where in _PLACES), "sum", "passed", "calls"]
    return text_table(header, lines)


def _line(step: str, cpu: Sequence[float], unit: float, passed: str, calls: str) -> list[str]:
    return [step, *(f"{seconds * unit:.2f}" for seconds in cpu), f"{sum(cpu) * unit:.2f}", passed, calls]


def sample_table(samples: Samples, seconds_per_sample: float) -> str:
    """The functions a process is most in, in seconds per GiB: in the line itself, and with all it calls."""
    lines = [
        [f"{count * seconds_per_sample:.2f}", f"{samples.below[frame] * seconds_per_sample:.2f}", frame]
        for frame, count in samples.inside.most_common(SHOWN_FUNCTIONS)
    ]
    return text_table(["inside", "with callees", "function"], lines)


async def _transfer(system: LnstoreSystem, work: str, source: Path, repetitions: int, stored: str) -> float:
    """Seconds of so many transfers. What is stored stays: removing it would be counted too."""
    seconds = 0.0
    for _ in range(repetitions):
        if work == "put":
            seconds += (await system.put([source], at_once=1)).seconds
        else:
            copy = source.with_suffix(".copy")
            seconds += await system.get([stored], [copy], at_once=1)
            copy.unlink()
    return seconds


def _capacity(size: int, repetitions: int) -> int:
    """What is rented at each node: for every repetition, the file to read and one to warm up."""
    return (repetitions + 2) * size + GIB


async def measure_steps(work: str, source: Path, coding: Coding, repetitions: int, place: Path) -> Profile:
    """Run under stopwatches: once to warm up, then `repetitions` times."""
    size = source.stat().st_size
    profile = Profile(bytes=size * repetitions)
    capacity = _capacity(size, repetitions)
    async with lnstore_system(place, coding, capacity_bytes=capacity, stepped=True) as (system, _):
        stored = (await system.put([source], at_once=1)).keys[0]
        processes = {system.client.pid: (CLIENT, place / "client.steps")}
        for node in system.net.nodes:
            assert node.process is not None
            processes[node.process.pid] = (NODES, node.directory / "steps")
        await _transfer(system, work, source, 1, stored)
        before = {pid: ask_for_snapshot(pid, file) for pid, (_, file) in processes.items()}
        profile.seconds = await _transfer(system, work, source, repetitions, stored)
        for pid, (role, file) in processes.items():
            profile.add(role, before[pid], ask_for_snapshot(pid, file))
    return profile


async def measure_samples(
    work: str, source: Path, coding: Coding, repetitions: int, place: Path
) -> tuple[dict[str, Samples], float]:
    """Run under py-spy: the client's samples and those of one node; seconds of all repetitions."""
    size = source.stat().st_size
    async with lnstore_system(place, coding, capacity_bytes=_capacity(size, repetitions)) as (system, _):
        stored = (await system.put([source], at_once=1)).keys[0]
        await _transfer(system, work, source, 1, stored)
        node = system.net.nodes[0].process
        assert node is not None
        with (
            tempfile.TemporaryDirectory() as folder,
            sampling({CLIENT: system.client.pid, "one node": node.pid}, Path(folder)) as samples,
        ):
            await trio.sleep(1)  # py-spy has no sign to say that it is attached
            began = time.perf_counter()
            await _transfer(system, work, source, repetitions, stored)
            seconds = time.perf_counter() - began
    return samples, seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Profile, print; the exit code."""
    parser = argparse.ArgumentParser(prog="just profile", description="Where the time of a transfer goes.")
    parser.add_argument("work", choices=("put", "get"))
    parser.add_argument("file", metavar="FILE", help="a file, or a size such as 256MiB for a file of random bytes")
    parser.add_argument("--coding", type=parse_coding, default=Coding(3, 5), metavar="3-of-5")
    parser.add_argument("--repetitions", type=int, default=3, metavar="N")
    asked = parser.parse_args(arguments)
    two_cores()
    place = short_directory("lnstore-profile-")
    try:
        source = Path(asked.file)
        if not source.is_file():
            source = random_file(place / "source", parse_size(asked.file))
        common = (asked.work, source, asked.coding, asked.repetitions)
        profile = trio.run(measure_steps, *common, place / "steps")
        _print_steps(profile, asked.work, asked.coding)
        samples, seconds = trio.run(measure_samples, *common, place / "samples")
    except ValueError as exc:
        print(f"error: there is no file {asked.file}, and {exc}", file=sys.stderr)
        return 1
    except BenchError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(place, ignore_errors=True)
    for name, found in samples.items():
        how = f"{RATE} times a second for {seconds:.1f} s, threads that run or wait for a core"
        print(f"\n{name}, sampled {how}; s per GiB:\n")
        print(found.problem or sample_table(found, GIB / profile.bytes / RATE))
    return 0


def _print_steps(profile: Profile, work: str, coding: Coding) -> None:
    rate = profile.bytes / profile.seconds / 1e6
    busy = sum(profile.process_cpu.values()) / profile.seconds
    per_gib = profile.seconds * GIB / profile.bytes
    print(f"{work}, {coding}: {rate:.0f} MB/s, {per_gib:.2f} s per GiB, {busy:.2f} cores busy (stopwatches running)")
    print("CPU seconds per GiB of plaintext, by step, process and kind of thread; all nodes together:\n")
    print(step_table(profile))


if __name__ == "__main__":
    sys.exit(main())
