"""`lnstore check`: whether nodes still hold what they are paid for, and what is lost if which of them vanish."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.output import (
    SECRET_TEXT,
    counted,
    json_option,
    print_json,
    printable,
    profile_option,
    progress_lines,
    run,
)
from lnstore.cli.session import load_profile, open_session

if TYPE_CHECKING:
    from lnstore.client.diagnosis import Diagnosis
    from lnstore.client.health import Checked, FileHealth
    from lnstore.client.survival import Impact
    from lnstore.errors import ExitCode
    from lnstore_protocol.ids import NodeId

NAMES_SHOWN = 3


@click.command()
@click.argument("file", metavar="[FILE|FOLDER|CAP|-]", required=False, type=SECRET_TEXT)
@click.option("--verify", is_flag=True, help="Have each share shown: a random piece of it, for nothing.")
@click.option("--download", is_flag=True, help="Read every byte of each share, paid from your deposits.")
@profile_option
@json_option
@click.pass_context
def check(
    context: click.Context,
    *,
    file: str | None,
    verify: bool,
    download: bool,
    profile: Path | None,
    as_json: bool,
) -> None:
    """Ask the nodes whether they hold the shares of FILE or FOLDER (of all), and say what hangs on which nodes.

    Without options a node's word is taken, which finds what an honest one has lost. --verify asks for a random piece of
    16 KiB of every share with its proof, and after a failed proof of rent for those pieces that it was about.
    --download reads everything. Exit code 6 when anything is lost, else 4 when a node did not answer.

    With a capability (lnsv1…, from standard input with -) the file may be anybody's: all known nodes are asked for a
    random piece of each share, 16 KiB of it, paid from your deposits.

    \b
    Example:
      lnstore check holiday.mp4
      lnstore check --verify
    """
    from lnstore.client.checking import check as carry_out
    from lnstore.client.checking import check_cap
    from lnstore.client.looking import Depth
    from lnstore.client.naming import files_called, verify_cap_of

    depth = Depth.READ if download else Depth.AUDITED if verify else Depth.ASKED

    async def work() -> tuple[Checked, dict[NodeId, str]]:
        async with open_session(load_profile(profile)) as (purse, client):
            names = {node.node_id: node.petname for node in client.catalog.nodes()}
            progress = progress_lines("check", as_json=as_json)
            cap = None if file is None else verify_cap_of(client.catalog, file)
            if cap is not None:
                return await check_cap(purse, cap, depth, progress), names
            files = None if file is None else files_called(client.catalog, file)
            return await carry_out(purse, files=files, depth=depth, progress=progress), names

    checked, names = run(work)
    if as_json:
        print_json(_json(checked, names))
    else:
        _tell(checked, names, file)
    context.exit(_exit_code(checked))


def _exit_code(checked: Checked) -> ExitCode:
    from lnstore.errors import ExitCode

    if not checked.sound:
        return ExitCode.DATA
    return ExitCode.NODE if checked.silent else ExitCode.OK


# --- for people -------------------------------------------------------------------------------------------------------


def _tell(checked: Checked, names: dict[NodeId, str], asked: str | None) -> None:
    from lnstore.client.titles import title

    titles = {health.file.name: title(health.file) for health in checked.files}
    parts: dict[str, list[FileHealth]] = {}
    for health in checked.files:
        parts.setdefault(titles[health.file.name], []).append(health)
    for name, healths in parts.items():
        click.echo(_health_sentence(name, healths))
        all_hang = [checked.weakest[health.file.name] for health in healths if health.file.complete]
        hangs = min((one for one in all_hang if one.size), key=lambda one: one.size, default=None)
        if hangs is not None:
            least = "" if hangs.exact else " or fewer"
            others = f" (or {_sets(hangs.sets[1:], names)})" if hangs.sets[1:] else ""
            click.echo(f"  lost if {hangs.size} nodes{least} vanish: {_named(hangs.sets[0], names)}{others}")
    for impact in checked.by_node:
        click.echo(f"if {_named(impact.nodes, names)} vanishes: {_impact_words(impact, titles)}")
    for impact in checked.fewest[:1]:
        if len(impact.nodes) > 1:
            words = _impact_words(impact, titles)
            click.echo(f"the fewest that lose anything: {_named(impact.nodes, names)}: {words}")
    for found in checked.nodes:
        if not found.sound:
            click.echo(found.sentence, err=True)
    for node, error in checked.silent:
        click.echo(f"{node.petname}: {error}", err=True)
    if not checked.files:
        click.echo("nothing is stored yet; store a file with: lnstore put FILE")
    elif not checked.sound:
        click.echo(f"store what is lost elsewhere with: lnstore repair {_again(asked)}", err=True)


def _again(asked: str | None) -> str:
    """The argument of the next command; not a capability, which belongs in no history of a terminal."""
    from lnstore.errors import without_secrets

    return "--all" if asked is None else asked if without_secrets(asked) == asked else "-"


def _health_sentence(title: str, parts: Sequence[FileHealth]) -> str:
    """How a file stands, or all parts of a folder together."""
    name, nodes = printable(title), len({node for health in parts for node in health.nodes})
    shares, found, healthy, lost, unanswered, missing = (
        sum(counts)
        for counts in zip(
            *((h.shares, h.found, h.healthy, len(h.lost), h.unanswered, h.missing) for h in parts), strict=True
        )
    )
    complete, spare = all(health.file.complete for health in parts), min(health.spare for health in parts)
    held = f"{healthy} of {shares} shares on {counted(nodes, 'node')}"
    more = [
        (f"{found - healthy} damaged", found > healthy),
        (f"{lost} lost", lost),
        (f"{unanswered} at nodes that do not answer", unanswered),
        (f"{missing} missing to all {parts[0].file.total} of every segment", missing),
        ("not stored completely", not complete),
    ]
    words = "".join(f", {text}" for text, shown in more if shown)
    if not complete:
        return f"{name}: {held}{words}; put it again to go on"
    if spare < 0:
        return f"{name}: cannot be read now: {held}{words}"
    return f"{name}: {held}{words}; {spare} more of a segment may be lost"


def _impact_words(impact: Impact, titles: Mapping[str, str]) -> str:
    """Parts of a folder are said once."""
    lost, below = (dict.fromkeys(titles[name] for name in names) for names in (impact.lost, impact.below))
    words = f"{_files(lost)} lost" if lost else "nothing is lost"
    return f"{words}, {counted(len(below), 'file')} below N" if below else words


def _files(names: Iterable[str]) -> str:
    known = [printable(name) for name in names]
    more = f" and {len(known) - NAMES_SHOWN} more" if len(known) > NAMES_SHOWN else ""
    return f"{', '.join(known[:NAMES_SHOWN])}{more} {'are' if len(known) > 1 else 'is'}"


def _named(nodes: Iterable[NodeId], names: dict[NodeId, str]) -> str:
    return ", ".join(names.get(node, node.hex()[:12]) for node in nodes)


def _sets(sets: Iterable[Iterable[NodeId]], names: dict[NodeId, str]) -> str:
    return "; ".join(_named(nodes, names) for nodes in sets)


# --- for programs -----------------------------------------------------------------------------------------------------


def _json(checked: Checked, names: dict[NodeId, str]) -> dict[str, Any]:
    return {
        "ok": checked.sound,
        "depth": checked.depth.value,
        "files": [_health_json(checked, health) for health in checked.files],
        "if_vanishes": [_impact_json(impact, names) for impact in checked.by_node],
        "fewest": [_impact_json(impact, names) for impact in checked.fewest],
        "nodes": [diagnosis_json(found) for found in checked.nodes],
        "silent": [{"node": node.petname, "error": str(error)} for node, error in checked.silent],
    }


def _health_json(checked: Checked, health: FileHealth) -> dict[str, Any]:
    hangs = checked.weakest[health.file.name]
    return {
        "name": health.file.name,
        "folder": health.file.folder,
        "complete": health.file.complete,
        "shares": health.shares,
        "found": health.found,
        "healthy": health.healthy,
        "nodes": list(health.nodes),
        "lost": [
            {
                "share_id": loss.share.share_id,
                "segment": loss.share.segment,
                "node_id": loss.share.node_id,
                "fault": loss.fault.value,
                "found_at": loss.found_at,
            }
            for loss in health.lost
        ],
        "unanswered": health.unanswered,
        "missing": health.missing,
        "spare": health.spare,
        "lost_without": {"nodes": hangs.size, "sets": [list(nodes) for nodes in hangs.sets], "exact": hangs.exact},
    }


def _impact_json(impact: Impact, names: dict[NodeId, str]) -> dict[str, Any]:
    return {
        "nodes": [names.get(node, node.hex()) for node in impact.nodes],
        "node_ids": list(impact.nodes),
        "lost": list(impact.lost),
        "below": list(impact.below),
    }


def diagnosis_json(found: Diagnosis) -> dict[str, Any]:
    """What was found at a node, for programs."""
    return {
        "node": found.node.petname,
        "audited": found.audited,
        "lost": [
            {"share_id": share.share_id, "fault": share.why.fault.value, "why": share.why.value} for share in found.lost
        ],
        "altered": list(found.altered),
    }
