"""What processes cost: CPU time, peak memory, and how much of the machine others took meanwhile. Linux, from /proc."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

Roles = Mapping[str, Sequence[int]]
"""The processes of a system, by what they are in it: {"client": [pid], "nodes": [pid, …]}."""

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
SHORTEST_JUDGED_SECONDS = 0.4
"""/proc/stat counts in steps of 10 ms: in less time than this it cannot tell what others used."""

KERNEL_THREADS = 2
"""The process that Linux's kernel threads are children of."""

_SCHEDULER_CLOCK = 2  # CPUCLOCK_SCHED of the kernel's posix-timers.h


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads, ended ones too, in nanosecond steps; 0 when it has gone."""
    try:
        return time.clock_gettime(~pid << 3 | _SCHEDULER_CLOCK)
    except OSError:
        return 0.0


def memory_bytes(pid: int, *, peak: bool) -> int:
    """Resident memory of a process, at its highest since `reset_peak` or now; 0 when it has gone."""
    wanted = "VmHWM:" if peak else "VmRSS:"
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(wanted):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def reset_peak(pid: int) -> bool:
    """Let the peak begin anew; False where the kernel does not allow that, and the peak is since the start."""
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def two_cores() -> list[int]:
    """Keep this process, and so all it starts, on the same two cores; which ones."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)
    return cores


def _ended_children_seconds() -> float:
    """CPU time of this process's children that have ended: commands that were run."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _kernel_seconds() -> dict[int, float]:
    """CPU time so far of each of the kernel's threads, where they can be seen."""
    try:
        if Path(f"/proc/{KERNEL_THREADS}/comm").read_text().strip() != "kthreadd":
            return {}
    except OSError:
        return {}
    return {pid: cpu_seconds(pid) for pid in children_of(KERNEL_THREADS)}


def _core_ticks() -> tuple[int, int, int]:
    """Of the cores this process may use: (all, idle, stolen by the host) ticks since the start."""
    cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    total = idle = stolen = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *numbers = line.split()
        if name in cores:
            ticks = [int(n) for n in numbers[:8]]
            total, idle, stolen = total + sum(ticks), idle + ticks[3] + ticks[4], stolen + ticks[7]
    return total, idle, stolen


@dataclass(slots=True)
class Meter:
    """Between enter and exit: CPU seconds and peak memory by role, and what disturbed.

    `others` is the share of the cores' time that processes of nobody here took, `load` the load average before. CPU of
    the roles, of this process ("driver"), of commands it ran, and of the kernel's own threads, which write to the disk.
    """

    roles: Roles
    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)
    others: float = 0.0
    stolen: float = 0.0
    load: float = 0.0
    _began: float = 0.0
    _before: dict[int, float] = field(default_factory=dict)
    _ended: float = 0.0
    _kernel: dict[int, float] = field(default_factory=dict)
    _ticks: tuple[int, int, int] = (0, 0, 0)

    def __enter__(self) -> Self:
        self.load = os.getloadavg()[0]
        pids = [pid for group in self.roles.values() for pid in group]
        for pid in pids:
            reset_peak(pid)
        self._before = {pid: cpu_seconds(pid) for pid in [*pids, os.getpid()]}
        self._ended = _ended_children_seconds()
        self._kernel = _kernel_seconds()
        self._ticks = _core_ticks()
        self._began = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._began
        total, idle, stolen = (after - before for after, before in zip(_core_ticks(), self._ticks, strict=True))
        groups = {**self.roles, "driver": [os.getpid()]}
        self.cpu = {role: sum(cpu_seconds(p) - self._before[p] for p in pids) for role, pids in groups.items()}
        self.cpu["commands"] = _ended_children_seconds() - self._ended
        self.cpu["kernel"] = sum(cpu - self._kernel.get(pid, 0.0) for pid, cpu in _kernel_seconds().items())
        self.peak = {role: max((memory_bytes(p, peak=True) for p in ps), default=0) for role, ps in self.roles.items()}
        if self.seconds >= SHORTEST_JUDGED_SECONDS and total:
            ours = sum(self.cpu.values()) * TICKS_PER_SECOND
            self.others = max(0.0, (total - idle - stolen - ours) / total)
            self.stolen = stolen / total


def children_of(parent: int) -> set[int]:
    """All processes below `parent`."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(text.rpartition(")")[2].split()[1])
    found: set[int] = set()
    todo = [parent]
    while todo:
        above = todo.pop()
        below = {pid for pid, its_parent in parents.items() if its_parent == above}
        found |= below
        todo.extend(below)
    return found
