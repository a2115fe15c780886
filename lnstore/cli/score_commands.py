"""`lnstore nodes show` and `nodes readmit`: what is held against a node, and taking it back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.output import human_msat, human_time, json_option, print_json, profile_option, run
from lnstore.cli.session import chosen_nodes, load_profile, open_purse

if TYPE_CHECKING:
    from lnstore.client.catalog import NodeEntry
    from lnstore.client.scores import Score

PRICES_SHOWN = 5


@click.command()
@click.argument("node", metavar="NODE")
@profile_option
@json_option
def show(node: str, profile: Path | None, as_json: bool) -> None:
    """What is held for and against NODE: its score, and the proofs, audits, hours and prices that it is made of.

    100 is the best. Each fault and each rise of the rent takes from it, half as much after 90 days, and each percent of
    the last 30 days' hours in which it did not answer takes a point. Below 80 other nodes are preferred for new shares,
    below 50 the node is suspended: it gets none, and is paid for what it holds as long as it proves it. One that
    deceives again a week or more after that is excluded until you readmit it.

    \b
    Example:
      lnstore nodes show alice
    """
    from lnstore.client.losses import Losses
    from lnstore.client.scores import Scores
    from lnstore.clock import clock_for

    loaded = load_profile(profile)
    with loaded.open_catalog() as catalog:
        entry = catalog.find_node(node)
        score = Scores(catalog).score(entry.node_id, clock_for(loaded.config.clock_file).now())
        lost = len(Losses(catalog).at(entry.node_id))
        shares = len(catalog.shares_at(entry.node_id))
    if as_json:
        print_json(_json(entry, score, shares, lost))
    else:
        _tell(entry, score, shares, lost)


@click.command()
@click.argument("node", metavar="NODE")
@profile_option
@json_option
def readmit(node: str, profile: Path | None, as_json: bool) -> None:
    """Hold nothing against NODE any more that was found so far, also if it is excluded. Uptime and prices still count.

    \b
    Example:
      lnstore nodes readmit alice
    """
    from lnstore.client.scores import Scores

    async def work() -> tuple[NodeEntry, Score]:
        async with open_purse(profile) as purse:
            (entry,) = chosen_nodes(purse.catalog, (node,), everything=False)
            scores, now = Scores(purse.catalog), purse.clock.now()
            await purse.write(scores.readmit, entry.node_id, now)
            return entry, scores.score(entry.node_id, now)

    entry, score = run(work)
    if as_json:
        print_json({"ok": True, "node": entry.petname, "score": score.value, "stand": score.stand})
    else:
        click.echo(f"{entry.petname}: {score.sentence}")


def _tell(entry: NodeEntry, score: Score, shares: int, lost: int) -> None:
    from lnstore.client.scores import Happening

    click.echo(f"{entry.petname}: {score.sentence}")
    counts = ", ".join(f"{score.count(kind)} {kind.value.replace('_', ' ')}" for kind in Happening)
    click.echo(f"{counts}; {shares} shares there, {lost} of them lost")
    for part in score.parts:
        when = "last 30 days" if part.at is None else human_time(part.at)
        click.echo(f"  {when}: it {part.words}; -{part.points:.0f} now{'' if part.at is None else ', fading'}")
    if score.excluded:
        click.echo(
            f"  take that back with: lnstore nodes readmit {entry.petname}, or leave: nodes retire {entry.petname}"
        )
    if score.uptime.hours:
        click.echo(f"answered in {score.uptime.percent} % of the {score.uptime.hours} hours in which it was asked")
    for price in score.prices[-PRICES_SHOWN:]:
        click.echo(
            f"  {human_time(price.seen_at)}: {human_msat(price.rent_msat_per_gib_month)} per GiB-month, reading "
            f"{human_msat(price.egress_msat_per_gib)} and writing {human_msat(price.ingress_msat_per_gib)} per GiB"
        )
    if entry.retiring:
        click.echo(f"it is retiring; go on with: lnstore nodes retire {entry.petname}")


def _json(entry: NodeEntry, score: Score, shares: int, lost: int) -> dict[str, Any]:
    from lnstore.client.faults import FAULTS
    from lnstore.client.scores import Happening

    return {
        "node": entry.petname,
        "node_id": entry.node_id,
        "address": str(entry.address),
        "score": score.value,
        "stand": score.stand,
        "suspended": score.suspended,
        "excluded_at": score.excluded_at,
        "retiring": entry.retiring,
        "shares": shares,
        "lost": lost,
        "parts": [
            {
                "points": round(part.points, 1),
                "why": part.words,
                "at": part.at,
                "fault": part.fault.value if part.fault else None,
            }
            for part in score.parts
        ],
        "uptime": {"hours": score.uptime.hours, "percent": score.uptime.percent},
        "prices": [asdict(price) for price in score.prices],
        "last": {kind.value: score.last(kind) for kind in Happening},
        "events": [
            {
                "at": event.at,
                "happening": event.happening.value,
                "fault": event.fault.value if event.fault else None,
                "penalty": FAULTS[event.fault].penalty if event.fault else 0,
                "shares": event.shares,
            }
            for event in score.events
        ],
    }
