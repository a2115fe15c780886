"""`lnstore demo`: the whole job on one file, with a network that lives only that long."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from lnstore.cli.output import json_option, lightning_option, print_json, run, unless_terminated


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--nodes", type=click.IntRange(1, 100), default=5, show_default=True, help="Storage nodes to start.")
@click.option("--needed", type=click.IntRange(1, 100), default=3, show_default=True, help="Shares that suffice.")
@click.option(
    "--happy", type=click.IntRange(1, 100), help="Nodes a put must reach (default 4, or as many as there are)."
)
@click.option("--periods", type=click.IntRange(0, 24), default=3, show_default=True, help="Months of rent to pay.")
@lightning_option
@json_option
def demo(file: Path, as_json: bool, **settings: Any) -> None:
    """Store FILE on paid nodes, let months pass and pay rent, kill nodes, read it back, compare.

    FILE may be - for standard input. The money is play money; nothing is left running, and nothing is kept. Exit code
    0 means that the bytes are equal and the ledgers add up to 0.

    \b
    Examples:
      lnstore demo holiday.mp4
      tar c photos | lnstore demo - --nodes 10 --needed 3 --periods 12 --json
    """
    from lnstore.cli.demo import DemoFailedError, DemoPlan, run_demo
    from lnstore.cli.demo_report import report
    from lnstore.devnet import LightningKind, short_directory

    nodes, needed = settings["nodes"], settings["needed"]
    happy = settings["happy"] if settings["happy"] is not None else max(needed, min(nodes, 4))
    if not needed <= happy <= nodes:
        raise click.UsageError("--needed must be at most --happy, and --happy at most --nodes")
    if str(file) != "-" and not file.is_file():
        raise click.BadParameter(
            f"{file} is not a file that can be read" if file.exists() else f"there is no file {file}", param_hint="FILE"
        )
    plan = DemoPlan(
        source=None if str(file) == "-" else file,
        stdin=sys.stdin.buffer,
        nodes=nodes,
        needed=needed,
        happy=happy,
        periods=settings["periods"],
        kind=LightningKind(settings["lightning"]),
    )
    place = short_directory("lnstore-demo-")
    try:
        result = run(lambda: unless_terminated(lambda: run_demo(plan, place, quiet=as_json)))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if as_json:
        print_json(result.summary())
    else:
        report(plan, result)
    if not result.ok:
        raise DemoFailedError(result.fault())
