"""Where the figures of `python -m bench.lightning` go: JSON, and docs/benchmarks-lightning.md made from it alone."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent
RECORDED = _ROOT / "bench" / "results" / "lightning.json"
DOCUMENT = _ROOT / "docs" / "benchmarks-lightning.md"

FORMAT = 1
"""Of the JSON; another number when fields change their meaning."""

WORK = {
    "channel_open": "open a channel, from `fundchannel` until it can pay; a block comes within {block_seconds} s",
    "payment_one": "pay an invoice over a direct channel, one at a time",
    "payment_many": "the same, {parallel} at once",
    "rent": "pay rent over {shares} shares: ask, compute and compare the proof, pay, be credited",
    "account_invoices": "{accounts:,} accounts, a rent invoice for each, each on a new connection, {parallel} at once",
    "account_payments": "{accounts:,} accounts, their rents paid while the node is away, {parallel} at once",
    "account_credits": "{accounts:,} accounts, all credited when it is back",
}
"""The rows, by the name they have in the JSON."""


def row(seconds_each: Sequence[float], seconds_in_all: float) -> dict[str, Any]:
    """What is kept of one kind of work: how long each took, and all together."""
    return {"seconds": [round(one, 4) for one in seconds_each], "seconds_in_all": round(seconds_in_all, 3)}


def quantile(seconds: Sequence[float], part: float) -> float:
    """The smallest time within which this part of them was done."""
    return sorted(seconds)[max(0, math.ceil(part * len(seconds)) - 1)]


def time_of(seconds: float) -> str:
    """`83 ms`, `1.20 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _cells(found: dict[str, Any]) -> tuple[str, str, str, str]:
    """How many, p50, p99, and how many a second."""
    seconds: list[float] = found["seconds"]
    count = found.get("count", len(seconds))
    per_second = count / found["seconds_in_all"]
    rate = f"{per_second:.0f}" if per_second >= 10 else f"{per_second:.1f}"
    if not seconds:
        return f"{count:,}", "-", "-", rate
    return f"{count:,}", time_of(statistics.median(seconds)), time_of(quantile(seconds, 0.99)), rate


def table(results: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    head = ("work", "how many", "p50", "p99", "a second")
    rows = [
        (WORK[name].format(**results["sizes"]), *_cells(results["rows"][name]))
        for name in WORK
        if name in results["rows"]
    ]
    widths = [max(len(line[column]) for line in (head, *rows)) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in (head, *rows)
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def document(results: dict[str, Any]) -> str:
    """The text of docs/benchmarks-lightning.md."""
    return _DOCUMENT.format(
        date=results["began_at"][:10],
        lightning=results["lightning"],
        bitcoin=results["bitcoin"],
        machine=", ".join(f"{name.replace('_', ' ')} {value}" for name, value in results["machine"].items()),
        load=results["load_average"],
        table=table(results),
    )


def read(path: Path) -> dict[str, Any]:
    """Recorded results."""
    results: dict[str, Any] = json.loads(path.read_text())
    return results


def write(results: dict[str, Any], path: Path) -> None:
    """Keep results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, ensure_ascii=False) + "\n")


_DOCUMENT = """# Benchmarks with real Core Lightning

Made by `just bench-lightning --record` on {date}; do not edit. How it is measured: bench/README.md. Every single time:
bench/results/lightning.json.

Core Lightning {lightning}, {bitcoin}, on a private regtest chain; bitcoind, two lightningds, the storage node and the
clients share the same cores, and each commits to the same disk. Over the internet a payment takes as long again as the
messages between the two daemons are on their way.

The machine: {machine}; load average in the end {load}.

{table}
"""
