"""Results as text: the tables of docs/benchmarks.md and of the terminal, made from the JSON alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.measure import MOVING, UPKEEP
from bench.plan import MIB, size_text
from bench.targets import (
    CLIENT_PEAK_BYTES,
    COMMAND_SECONDS,
    FIRST_BYTE_SECONDS,
    FOLDER,
    NODE_CROWDED_BYTES,
    NODE_IDLE_BYTES,
    PUT_TIMES_THE_FIRST,
    SLOWEST_TO_MEDIAN,
    START_SECONDS,
    Target,
    target_of,
)

Row = Mapping[str, Any]
Results = Mapping[str, Any]
OURS = "lnstore"
_KEY = ("name", "coding", "file_bytes", "files", "at_once", "dead")
NONE = "-"


def key_of(row: Row) -> tuple[Any, ...]:
    """What makes rows of two systems, or of two runs, the same work."""
    return tuple(row[field] for field in _KEY)


def title(row: Row) -> str:
    """The work in words, without its erasure code."""
    if row["name"].startswith("command: "):
        return f"`{row['name'].removeprefix('command: ')}`, whole process"
    size = size_text(row["file_bytes"])
    if row["name"].endswith(" folder"):
        return f"{row['name']} of {row['files']:,} files of {size}"
    files = f"{row['files']} files of {size}" if row["files"] > 1 else size
    at_once = (", one by one" if row["at_once"] == 1 else f", {row['at_once']} at once") if row["files"] > 1 else ""
    return f"{row['name']} {files}{at_once}" + (f", {row['dead']} nodes dead" if row["dead"] else "")


def figure(row: Row) -> str:
    """The median in the unit that suits the work, and the spread; * where others disturbed."""
    if row["files_per_s"] is not None:
        text = f"{row['files_per_s']:.0f} /s"
    elif row["mb_per_s"] is not None and row["file_bytes"] > MIB:
        text = f"{row['mb_per_s']:.0f} MB/s"
    else:
        text = (
            f"{row['seconds_median'] * 1e3:.1f} ms" if row["seconds_median"] < 1 else f"{row['seconds_median']:.2f} s"
        )
    spread = f" ± {row['spread'] / 2:.0%}" if len(row["seconds"]) > 1 else ""
    return text + spread + ("*" if row["noisy"] else "")


def ratio(row: Row, other: Row) -> float:
    """How many times as fast `row` is, by the file where there are several."""
    return float(other["seconds_median"] / other["files"] / (row["seconds_median"] / row["files"]))


def _held_against(results: Results, row: Row) -> Row | None:
    """The first peer's row for the same work.

    For a folder its fastest for small files each on its own; for an audit, which it has none of, its verifying.
    """
    peers = _peers(results)
    there = [other for other in results["rows"] if peers and other["system"] == peers[0]]
    if row["name"] == "put folder":
        alike = [r for r in there if (r["name"], r["coding"]) == ("put", row["coding"]) and r["files"] > 1]
        return max(alike, key=lambda r: float(r["files_per_s"]), default=None)
    like = key_of({**row, "name": "verify by download"} if row["name"] == "verify by audit" else row)
    return next((other for other in there if key_of(other) == like), None)


def _target(results: Results, row: Row) -> Target | None:
    code = results["machine"].get("erasure_code", "zfec")
    return FOLDER if (row["name"], row["coding"]) == ("put folder", "3-of-5") else target_of(row, erasure_code=code)


def limit_of(results: Results, row: Row) -> float | None:
    """The computed limit in MB/s for a transfer of a large file."""
    if row["mb_per_s"] is None or row["files"] > 1 or row["file_bytes"] < 100 * MIB:
        return None
    work = "get, worst shares" if row["dead"] else row["name"]
    return float(results["limits"][row["coding"]][work]["mb_per_s"])


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned so that it can be read as it is."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(header))]
    drawn = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines]
    drawn.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(drawn)


def speed_table(results: Results) -> str:
    """Every work: lnstore, each peer, the ratio to the first peer, the target, the limit."""
    peers = _peers(results)
    others = {(row["system"], key_of(row)): row for row in results["rows"]}
    lines = []
    for row in _ours(results):
        line = [row["coding"], title(row), figure(row)]
        first = _held_against(results, row)
        for peer in peers:
            there = others.get((peer, key_of(row)))
            line.append(figure(there) if there else NONE)
        if peers:
            line.append(f"{ratio(row, first):.2f}" if first else NONE)
        target = _target(results, row)
        line.append(NONE if target is None else f"{target.at_least:g}" + (f" / {target.goal:g}" if target.goal else ""))
        limit = limit_of(results, row)
        line.append(NONE if limit is None else f"{limit:.0f} MB/s")
        line.append(NONE if limit is None else f"{row['mb_per_s'] / limit:.0%}")
        lines.append(line)
    header = ["code", "work", OURS, *peers, *(["ratio"] if peers else []), "target / goal", "limit", "of it"]
    return text_table(header, lines)


def cost_table(results: Results) -> str:
    """CPU seconds per GiB of plaintext (or per 1,000 files) and peak memory, by system."""
    lines = []
    for row in sorted(results["rows"], key=lambda r: list(map(key_of, results["rows"])).index(key_of(r))):
        if row["name"] not in MOVING | UPKEEP or not row["cpu_seconds"]:
            continue
        unit = 1000 / row["files"] if row["files"] > 1 else 2**30 / row["file_bytes"]
        cpu, peak = row["cpu_seconds"], row["peak_bytes"]
        lines.append(
            [
                row["coding"],
                title(row),
                row["system"],
                f"{cpu['client'] * unit:.2f}",
                f"{cpu['nodes'] * unit:.2f}",
                f"{cpu['driver'] * unit:.2f}",
                f"{peak['client'] / MIB:.0f}",
                f"{peak['nodes'] / MIB:.0f}",
                f"{max(row['others_share']):.0%}",
                f"{max(row['load_average']):.1f}",
            ]
        )
    header = ["code", "work", "system", "client CPU s", "nodes CPU s", "driver CPU s"]
    header += ["client peak MiB", "node peak MiB", "others' CPU", "load average"]
    return text_table(header, lines)


def limit_table(results: Results) -> str:
    """The limit, step by step: CPU seconds per GB of plaintext."""
    lines = []
    for coding, works in results["limits"].items():
        for work in ("put", "get", "get, worst shares"):
            limit = works[work]
            steps = ", ".join(f"{step} {seconds:.2f}" for step, seconds in limit["steps"].items())
            by_cpu, by_disk = f"{limit['cpu_mb_per_s']:.0f}", f"{limit['disk_mb_per_s']:.0f}"
            lines.append([coding, work, by_cpu, by_disk, f"{sum(limit['steps'].values()):.2f}", steps])
    header = ["code", "work", "by CPU, MB/s", "by disk, MB/s", "CPU s per GB", "of which"]
    return text_table(header, lines)


def other_lines(results: Results) -> list[str]:
    """Idle memory, and what the simulated Lightning network costs: not part of any transfer."""
    lines = []
    for coding, systems in results["idle_bytes"].items():
        memory = "; ".join(
            f"{name}: client {roles['client'] / MIB:.0f} MiB, node {roles['nodes'] / MIB:.0f} MiB"
            for name, roles in systems.items()
        )
        lines.append(f"Memory with open connections, idle, {coding}: {memory}.")
    for coding, costs in results["lightning"].items():
        nodes = len(costs["channel_seconds"])
        text = (
            f"Lightning (simulated), {coding}, outside of the figures above: opening a channel "
            f"{_mean_ms(costs['channel_seconds'])}, an account with capacity and deposit "
            f"{_mean_ms(costs['account_seconds'])}, per node of {nodes}"
        )
        if "rent_seconds" in costs:
            text += (
                f"; a month's rent at all {costs['rent_payments']} nodes, {costs['rent_shares_proven']} shares proven, "
                f"{costs['rent_seconds'] * 1e3:.0f} ms"
            )
        lines.append(text + ".")
    return lines


def missed(results: Results) -> list[str]:
    """One sentence for each target that this run did not reach."""
    found = []
    for row in _ours(results):
        what = f"{row['coding']} {title(row)}"
        target, there = _target(results, row), _held_against(results, row)
        if target and there and ratio(row, there) < target.at_least:
            found.append(f"{what}: {ratio(row, there):.2f} times {there['system']}, {target.at_least:g} are asked for")
        seconds = COMMAND_SECONDS.get(row["name"])
        if row["name"] == "first byte":
            seconds = FIRST_BYTE_SECONDS
        if seconds and row["seconds_median"] > seconds:
            found.append(f"{what}: {row['seconds_median'] * 1e3:.0f} ms, {seconds * 1e3:.0f} are asked for")
        peak = row["peak_bytes"].get("client", 0)
        if peak > CLIENT_PEAK_BYTES:
            asked = CLIENT_PEAK_BYTES // MIB
            found.append(f"{what}: the client takes {peak / MIB:.0f} MiB, {asked} are asked for")
    for coding, systems in results["idle_bytes"].items():
        idle = systems[OURS]["nodes"]
        if idle > NODE_IDLE_BYTES:
            asked = NODE_IDLE_BYTES // MIB
            found.append(f"{coding} an idle node takes {idle / MIB:.0f} MiB, {asked} are asked for")
    return [*found, *_missed_by_nodes(results.get("node", {}))]


def node_table(results: Results) -> str:
    """A node with ever more accounts and leases, and with connections that all send; "" where it was not measured."""
    node = results.get("node", {})
    if not node:
        return ""
    lines = [
        [
            f"{scale['accounts']:,}",
            f"{scale['leases']:,}",
            f"{scale['put_seconds'] * 1e3:.1f} ms",
            f"{scale['times_the_first']:.2f}",
            f"{scale['start_seconds']:.2f} s",
            f"{scale['start_cpu_seconds']:.2f} s",
        ]
        for scale in node["scales"]
    ]
    header = ["accounts", "leases", "put of 10 KiB", "times the first", "start-up", "of it CPU"]
    crowd = node["connections"]
    return (
        f"{text_table(header, lines)}\n\n{crowd['connections']} connections that all send shares of 256 KiB: the node "
        f"takes {crowd['node_peak_bytes'] / MIB:.0f} MiB at the most and stores {crowd['mb_per_s']:.0f} MB/s; the "
        f"slowest connection got {crowd['shares_slowest']} shares through, the median one {crowd['shares_median']:g}."
    )


def _missed_by_nodes(node: Mapping[str, Any]) -> list[str]:
    if not node:
        return []
    found, crowd = [], node["connections"]
    for scale in node["scales"]:
        what = f"a node with {scale['accounts']:,} accounts and {scale['leases']:,} leases"
        if scale["start_seconds"] > START_SECONDS:
            found.append(f"{what} starts within {scale['start_seconds']:.2f} s, {START_SECONDS:g} are asked for")
        if scale["times_the_first"] > PUT_TIMES_THE_FIRST:
            found.append(f"{what}: a put takes {scale['times_the_first']:.2f} times the first's")
    if crowd["node_peak_bytes"] > NODE_CROWDED_BYTES:
        asked = NODE_CROWDED_BYTES // MIB
        found.append(f"a crowded node takes {crowd['node_peak_bytes'] / MIB:.0f} MiB, {asked} are asked for")
    if crowd["shares_slowest"] < SLOWEST_TO_MEDIAN * crowd["shares_median"]:
        found.append(
            f"a connection got {crowd['shares_slowest']} shares through, the median {crowd['shares_median']:g}"
        )
    return found


def comparison(results: Results, baseline: Results) -> str:
    """This run against the baseline; beside lnstore's change the peer's, which shows what the machine did."""
    before = {(row["system"], key_of(row)): row for row in baseline["rows"]}
    lines = []
    for row in results["rows"]:
        then = before.get((row["system"], key_of(row)))
        if then is not None:
            change = f"{ratio(row, then):.2f}"
            lines.append([row["coding"], title(row), row["system"], figure(then), figure(row), change])
    return text_table(["code", "work", "system", "baseline", "now", "times as fast"], lines)


def _ours(results: Results) -> list[Row]:
    return [row for row in results["rows"] if row["system"] == OURS]


def _peers(results: Results) -> list[str]:
    return list(dict.fromkeys(row["system"] for row in results["rows"] if row["system"] != OURS))


def _mean_ms(seconds: Sequence[float]) -> str:
    return f"{sum(seconds) / len(seconds) * 1e3:.0f} ms"
