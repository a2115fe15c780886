"""`just bench`: measure, print, compare, record. `--help` lists the arguments."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio

from bench import report
from bench.machine import describe
from bench.plan import FULL, PARTS, QUICK, Plan, parse_coding, parse_size
from bench.processes import two_cores
from bench.repetitions import Results
from bench.suite import run
from bench.system import BenchError
from bench.tables import comparison, missed, node_table, other_lines, speed_table
from bench.tahoe_install import tahoe_version
from bench.tahoe_side import Transport
from lnstore.devnet import short_directory
from lnstore.errors import LnstoreError

PEERS = {
    "tahoe": (Transport.FOOLSCAP,),
    "tahoe-http": (Transport.HTTP,),
    "tahoe-both": (Transport.FOOLSCAP, Transport.HTTP),
}
FORMAT = 1
"""Of the JSON; another number when fields change their meaning."""


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="just bench",
        description="Measure lnstore on this machine, all processes on the same two cores, and what limits it.",
        epilog="Example: just bench --quick --peer tahoe --compare",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few minutes instead of half an hour, without folder and crowd"
    )
    parser.add_argument("--peer", choices=PEERS, help="measure Tahoe-LAFS side by side (tahoe: over Foolscap)")
    parser.add_argument("--sizes", type=_list(parse_size), metavar="1MiB,…", help="file sizes to transfer")
    parser.add_argument("--codings", type=_list(parse_coding), metavar="3-of-5,…", help="erasure codes")
    parser.add_argument("--parts", type=_list(_part), metavar="PART,…", help=f"what to measure: {', '.join(PARTS)}")
    parser.add_argument("--small-files", type=int, metavar="N", help="how many files of 10 KiB")
    parser.add_argument("--folder-files", type=int, metavar="N", help="how many of them in a folder stored at once")
    parser.add_argument("--repetitions", type=int, metavar="N", help="of every transfer")
    parser.add_argument("--output", type=Path, default=report.LATEST, help="where the JSON goes")
    parser.add_argument(
        "--record", action="store_true", help="make this run the baseline, and remake docs/benchmarks.md"
    )
    parser.add_argument("--compare", action="store_true", help="print ratios to the recorded baseline")
    help_from = "use these results, measure nothing; several are parts of one run"
    parser.add_argument("--from", dest="sources", type=Path, nargs="+", metavar="JSON", help=help_from)
    return parser.parse_args(arguments)


def _list(parse: Any) -> Any:
    def parse_all(text: str) -> tuple[Any, ...]:
        try:
            return tuple(parse(part) for part in text.split(","))
        except ValueError as exc:
            raise argparse.ArgumentTypeError(str(exc)) from exc

    return parse_all


def _part(text: str) -> str:
    if text not in PARTS:
        raise ValueError(f"there is no part {text!r}; known are {', '.join(PARTS)}")
    return text


def _plan(arguments: argparse.Namespace) -> Plan:
    given = {
        name: getattr(arguments, name)
        for name in ("sizes", "codings", "parts", "small_files", "folder_files", "repetitions")
    }
    plan = replace(QUICK if arguments.quick else FULL, **{k: v for k, v in given.items() if v is not None})
    if arguments.sizes is not None:
        plan = replace(plan, first_byte_size=max(plan.sizes), dead_size=min(plan.dead_size, max(plan.sizes)))
    return plan


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure and keep the results, also those of a run that was ended early."""
    plan = _plan(arguments)
    peers = PEERS[arguments.peer] if arguments.peer else ()
    cores = two_cores()
    # Installers leave bytecode behind; what is started here finds it too, instead of compiling at each start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    place = short_directory("lnstore-bench-")
    machine = describe(place, cores)
    measured = Results()
    began_at = datetime.now(UTC)
    complete = False
    try:
        trio.run(run, plan, place, peers, len(cores), measured)
        complete = True
    finally:
        shutil.rmtree(place, ignore_errors=True)
        results = {
            "format": FORMAT,
            "began_at": began_at.isoformat(timespec="seconds"),
            "minutes": round((datetime.now(UTC) - began_at).total_seconds() / 60, 1),
            "complete": complete,
            "runs": 1,
            "plan": asdict(plan),
            "machine": machine | ({"tahoe-lafs": tahoe_version()} if peers else {}),
            **asdict(measured),
        }
        report.write(results, arguments.output)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; the exit code."""
    asked = _arguments(arguments)
    results: dict[str, Any] = {}
    try:
        results = report.together([*map(report.read, asked.sources)]) if asked.sources else _measure(asked)
    except* (BenchError, LnstoreError) as group:
        for error in _flat(group):
            print(f"error: {error}", file=sys.stderr)
    if not results:
        return 1
    print(speed_table(results), node_table(results), *other_lines(results), sep="\n")
    for text in missed(results):
        print(f"missed: {text}")
    if asked.compare:
        if not report.BASELINE.exists():
            print("error: there is no baseline yet; record one with: just bench --peer tahoe --record", file=sys.stderr)
            return 1
        print(comparison(results, report.read(report.BASELINE)))
    if asked.record:
        report.write(results, report.BASELINE)
        report.remake_document(results)
    return 0


def _flat(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The errors in a group of groups."""
    return [
        error
        for part in group.exceptions
        for error in (_flat(part) if isinstance(part, BaseExceptionGroup) else [part])
    ]


if __name__ == "__main__":
    sys.exit(main())
