"""Where results go: JSON, docs/benchmarks.md and its plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.plots import charts
from bench.tables import Results, cost_table, key_of, limit_table, missed, node_table, other_lines, speed_table

_ROOT = Path(__file__).parent.parent
BASELINE = _ROOT / "bench" / "results" / "baseline.json"
LATEST = _ROOT / "bench" / "results" / "latest.json"
DOCUMENT = _ROOT / "docs" / "benchmarks.md"
PLOTS = _ROOT / "docs" / "benchmarks"


def read(path: Path) -> dict[str, Any]:
    """Recorded results."""
    results: dict[str, Any] = json.loads(path.read_text())
    return results


def together(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several runs as one, for a long one done in parts: all rows, and of what is there only once the first."""
    first, *others = runs
    whole = {**first, "runs": sum(run.get("runs", 1) for run in runs)}
    for run in others:
        known = {(row["system"], key_of(row)) for row in whole["rows"]}
        whole["rows"] = whole["rows"] + [row for row in run["rows"] if (row["system"], key_of(row)) not in known]
        whole["minutes"] += run["minutes"]
        for name in ("limits", "idle_bytes", "node"):
            whole[name] = {**run.get(name, {}), **whole.get(name, {})}
        whole["lightning"] = {
            coding: {**run["lightning"].get(coding, {}), **whole["lightning"].get(coding, {})}
            for coding in {**whole["lightning"], **run["lightning"]}
        }
    return whole


def write(results: Results, path: Path) -> None:
    """Keep results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def remake_document(results: Results) -> None:
    """docs/benchmarks.md and its plots, from results alone."""
    PLOTS.mkdir(exist_ok=True)
    drawn = charts(results)
    for name, svg in drawn.items():
        (PLOTS / name).write_text(svg)
    DOCUMENT.write_text(document(results, list(drawn)))


def document(results: Results, plots: list[str]) -> str:
    """The text of docs/benchmarks.md."""
    machine = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in results["machine"].items())
    return _DOCUMENT.format(
        date=results["began_at"][:10],
        runs="one run" if results["runs"] == 1 else f"{results['runs']} runs, each row within one of them",
        machine=machine,
        speed=speed_table(results),
        plots="\n\n".join(f"![{name.removesuffix('.svg')}](benchmarks/{name})" for name in plots),
        missed="\n".join(f"- {text}" for text in missed(results) or ["none"]),
        costs=cost_table(results),
        limit=limit_table(results),
        node=node_table(results) or "Not measured in this run.",
        others="\n".join(f"- {text}" for text in other_lines(results)),
    )


_DOCUMENT = """# Benchmarks

Made by `just bench --record` on {date}, in {runs}; do not edit. How it is measured: bench/README.md. All figures, with
the load average and the disturbance of each repetition: bench/results/baseline.json.

The machine: {machine}.

Every process of both sides runs on the same cores. lnstore is measured as shipped: each share, the catalog and each
file read back are synced to the disk before a transfer counts as done; Tahoe-LAFS never syncs. Figures are medians with
half the spread between slowest and fastest; * marks rows in which other programs or the host took more than 5 % of the
cores. Ratios hold between columns of one run; absolute figures do not travel.

## Speed

{speed}

*ratio*: how many times as fast as the first peer. *target / goal*: what that ratio must be, and should be, for
uploads with the library that computes parity here. *limit*: what the unavoidable steps below allow, none of them
waiting for another.

{plots}

## Targets missed in this run

{missed}

## What it costs

CPU seconds per GiB of plaintext, or per 1,000 small files, of all processes; peak memory of one process. The driver is
the program that speaks to Tahoe's web API; lnstore's client is a library and has none.

{costs}

## The limit

Each step measured alone, in the same run, as CPU seconds per GB of plaintext with reused buffers; both cores always
busy. The disk's limit is the rate at which several threads write and sync files of a share's size.

{limit}

## A node with many accounts, leases and connections

{node}

## Memory and Lightning

{others}
"""
