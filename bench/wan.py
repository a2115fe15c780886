"""A file over a long path: how busy a put and a get keep a link of 100 Mbit/s, 50 ms there and back, 1 % loss.

    python -m bench.wan [--size 64MiB] [--round-trip-ms 50] [--loss 0.01] [--mbit 100] [--json]

Nodes are at one end, the client at the other. Where the system has no network namespaces or tun devices for its users,
it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import trio

from bench.data import are_equal, random_file
from bench.lnstore_side import lnstore_system
from bench.path import NEAR, Direction, LongPath
from bench.plan import MIB, parse_size
from bench.system import BenchError, Coding
from bench.targets import BUSY_SHARE
from lnstore.devnet import short_directory

CODING = Coding(3, 5)
_INSIDE = "LNSTORE_BENCH_WAN"
_OWN_NAMESPACES = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--net"]
_TRY = f"{' '.join(_OWN_NAMESPACES)} ip tuntap add dev try mode tun".split()


async def measure(place: Path, size: int, path: LongPath, bits_per_second: float) -> dict[str, Any]:
    """A put and a get through the path: seconds, and the share of the link that the bytes of shares took."""
    source = await trio.to_thread.run_sync(random_file, place / "source", size)
    async with lnstore_system(
        place / "net",
        CODING,
        capacity_bytes=4 * size,
        listen_host=NEAR,
        client_prefix=["nsenter", f"--net={path.far_namespace}"],
    ) as (system, _):
        began = _state(path.to_near)
        stored = await system.put([source], at_once=1)
        put = _row(stored.seconds, size * CODING.total / CODING.needed, bits_per_second, path.to_near, began)
        began = _state(path.to_far)
        back = place / "back"
        seconds = await system.get(stored.keys, [back], at_once=1)
        get = _row(seconds, size, bits_per_second, path.to_far, began)
        if not await trio.to_thread.run_sync(are_equal, source, back):
            raise BenchError("the file came back different")
    return {"put": put, "get": get}


def _state(way: Direction) -> tuple[float, int, int, int]:
    return time.monotonic(), way.carried_bytes, way.lost_packets, way.dropped_packets


def _row(
    seconds: float, moved: float, bits_per_second: float, way: Direction, began: tuple[float, int, int, int]
) -> dict[str, Any]:
    began_at, carried, lost, dropped = began
    passed = time.monotonic() - began_at
    return {
        "seconds": round(seconds, 2),
        "busy": round(moved * 8 / seconds / bits_per_second, 3),
        "carried": round((way.carried_bytes - carried) * 8 / passed / bits_per_second, 3),
        "lost_packets": way.lost_packets - lost,
        "dropped_packets": way.dropped_packets - dropped,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="How busy a transfer keeps a long path.")
    parser.add_argument("--size", type=parse_size, default=64 * MIB)
    parser.add_argument("--round-trip-ms", type=float, default=50)
    parser.add_argument("--loss", type=float, default=0.01)
    parser.add_argument("--mbit", type=float, default=100)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if _INSIDE not in os.environ:
        tried = subprocess.run(_TRY, capture_output=True, text=True, check=False)
        if tried.returncode:
            print(f"SKIPPED: no network namespace with a tun device here: {tried.stderr.strip()}", file=sys.stderr)
            return
        command = [*_OWN_NAMESPACES, sys.executable, "-m", "bench.wan", *sys.argv[1:]]
        sys.exit(subprocess.run(command, env={**os.environ, _INSIDE: "1"}, check=False).returncode)
    path = LongPath(round_trip_seconds=given.round_trip_ms / 1e3, loss=given.loss, bits_per_second=given.mbit * 1e6)
    place = short_directory("lnstore-wan-")
    try:
        results = trio.run(measure, place, given.size, path, given.mbit * 1e6)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if given.json:
        print(json.dumps(results, indent=1))
        return
    print(f"{given.mbit:g} Mbit/s, {given.round_trip_ms:g} ms there and back, {given.loss:.1%} lost:")
    for work, row in results.items():
        verdict = "reached" if row["busy"] >= BUSY_SHARE else "missed"
        print(
            f"{work}: {row['busy']:.0%} busy with shares ({BUSY_SHARE:.0%} asked for: {verdict}), {row['seconds']} s; "
            f"carried {row['carried']:.0%}, lost {row['lost_packets']} packets, dropped {row['dropped_packets']}"
        )


if __name__ == "__main__":
    main()
