"""How much one slow or silent node of five slows a put and a get.

    python -m bench.slow_nodes [--size 1GiB] [--rounds 3] [--json]

Each round puts and gets the file with all nodes well, with one that is stopped (SIGSTOP) while its connection is open,
and with one whose connection carries 1 MB/s; 4 of 5 nodes make a put happy. The peer has nothing of the kind.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from bench.data import are_equal, random_file
from bench.lnstore_side import LnstoreSystem, lnstore_system
from bench.plan import GIB, parse_size
from bench.processes import two_cores
from bench.system import BenchError, Coding
from bench.tables import text_table
from bench.targets import WITH_SLOW_NODE
from lnstore.devnet import short_directory

CODING = Coding(3, 5)
HAPPY = 4
SLOW_BYTES_PER_SECOND = 1e6
WELL, SILENT, SLOW = "all well", "one silent", "one at 1 MB/s"


async def measure(place: Path, size: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of each work by what is wrong."""
    seconds: dict[str, dict[str, list[float]]] = {work: {WELL: [], SILENT: [], SLOW: []} for work in WITH_SLOW_NODE}
    source = await trio.to_thread.run_sync(random_file, place / "source", size)
    async with lnstore_system(place / "net", CODING, capacity_bytes=2 * size) as (system, _):
        stored = await system.put([source], at_once=1)
        for number in range(rounds):
            for wrong in (WELL, SILENT, SLOW):
                # Another node every time: shares of a file are of five kinds.
                at = number % CODING.total
                slow = {str(system.net.nodes[at].running_address): SLOW_BYTES_PER_SECOND} if wrong == SLOW else {}
                await system.client.ask("pace", rates=slow)
                with _stopped(system, at if wrong == SILENT else None):
                    name = f"{wrong} {number}"
                    answer = await system.client.ask("put", files=[str(source)], names=[name], at_once=1, happy=HAPPY)
                seconds["put"][wrong].append(answer["seconds"])
                await system.client.ask("pace", rates={})
                await system.forget([name])
                await system.client.ask("pace", rates=slow)
                back = place / "back"
                with _stopped(system, at if wrong == SILENT else None):
                    seconds["get"][wrong].append(await system.get(stored.keys, [back], at_once=1))
                if not await trio.to_thread.run_sync(are_equal, source, back):
                    raise BenchError("the file came back different")
                back.unlink()
                put, get = (seconds[work][wrong][-1] for work in ("put", "get"))
                print(f"{wrong}: put {put:.2f} s, get {get:.2f} s", file=sys.stderr, flush=True)
    return seconds


@contextmanager
def _stopped(system: LnstoreSystem, number: int | None) -> Iterator[None]:
    process = None if number is None else system.net.nodes[number].process
    if process is None:
        yield
        return
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def table(size: int, seconds: dict[str, dict[str, list[float]]]) -> str:
    """Rates, and how they compare with those when all is well."""
    lines = []
    for work, by_wrong in seconds.items():
        for wrong, taken in by_wrong.items():
            median, well = statistics.median(taken), statistics.median(by_wrong[WELL])
            asked = "" if wrong == WELL else f"{WITH_SLOW_NODE[work]:.0%}"
            lines.append([work, wrong, f"{size / median / 1e6:.0f} MB/s", f"{well / median:.0%}", asked])
    return text_table(["work", "nodes", "rate", "of the undisturbed", "asked for"], lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="What one slow or silent node of five costs.")
    parser.add_argument("--size", type=parse_size, default=GIB)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    two_cores()
    place = short_directory("lnstore-slow-")
    try:
        seconds: dict[str, Any] = trio.run(measure, place, given.size, given.rounds)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(json.dumps(seconds, indent=1) if given.json else table(given.size, seconds))


if __name__ == "__main__":
    main()
