"""`lnstore rent agree`: look at a change of prices that a node announced, and sign it; how such a change is shown."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.output import human_msat, human_time, json_option, print_json, profile_option, run, table
from lnstore.cli.session import chosen_nodes, open_purse
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from lnstore.client.agreements import Change
    from lnstore.client.renewing import Comparison
    from lnstore_protocol.terms import Agreement, Terms


@click.command()
@click.argument("nodes", metavar="NODE…", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Sign without being asked, if the prices are within your limits.")
@profile_option
@json_option
def agree(nodes: tuple[str, ...], yes: bool, profile: Path | None, as_json: bool) -> None:
    """Look at the change of prices that NODE has announced, and sign it once you say so.

    Until you sign, what you agreed before holds up to the period the change begins with, and no rent is taken after
    that. Nothing is signed beyond the limits in client.toml, nor with --json unless --yes is given.

    \b
    Example:
      lnstore rent agree alice
    """
    from lnstore.client.renewing import check_change, find_change, sign_change

    async def look() -> list[tuple[str, Comparison | None]]:
        async with open_purse(profile) as purse:
            found = []
            for node in chosen_nodes(purse.catalog, nodes, everything=False):
                compared = await find_change(purse, node)
                if compared is not None and not as_json:
                    show(compared)
                if compared is not None and (yes or not as_json):
                    check_change(purse, compared.change)
                found.append((node.petname, compared))
            return found

    async def sign(change: Change) -> Agreement:
        async with open_purse(profile) as purse:
            return await sign_change(purse, change)

    for petname, compared in run(look):
        if compared is None:
            if as_json:
                print_json({"node": petname, "change": None, "signed": False})
            else:
                click.echo(f"{petname} has announced no change; there is nothing to sign")
            continue
        wanted = yes or (not as_json and click.confirm(f"sign these prices of {petname}?"))
        if wanted:
            run(partial(sign, compared.change))
        if as_json:
            print_json({"node": petname, "change": change_json(compared.change), "signed": wanted})
        elif wanted:
            click.echo(f"{petname}: signed; these prices hold from {human_time(compared.change.from_at)} on")
        else:
            click.echo(f"{petname}: nothing was signed")


def show(compared: Comparison) -> None:
    """The two price lists side by side, and what that makes of the account's rent."""
    change = compared.change
    before, after = change.before.terms.terms, change.after.terms
    table(
        f"{change.node.petname}: prices from {human_time(change.from_at)} on (period {change.from_period}), to be "
        f"signed by {human_time(change.sign_by_at)}",
        ["", "now", "then"],
        [
            [
                f"rent of your {human_bytes(compared.capacity_bytes)} per period",
                human_msat(compared.rent_before_msat),
                human_msat(compared.rent_after_msat),
            ],
            *(
                [what, human_msat(getattr(before, name)), human_msat(getattr(after, name))]
                for name, what in (
                    ("price_msat_per_gib_month", "rent per GiB and 30 days"),
                    ("egress_msat_per_gib", "reading a GiB"),
                    ("ingress_msat_per_gib", "writing a GiB"),
                )
            ),
            ["pinned to", pin(before) or "nothing", pin(after) or "nothing"],
            ["prices hold for", f"{before.price_periods} periods", f"{after.price_periods} periods"],
        ],
    )


def pin(terms: Terms) -> str:
    """What the rent is pinned to, for people; empty for nothing."""
    return f"{terms.fiat_per_tib_month} {terms.fiat_currency} per TiB and month" if terms.fiat_currency else ""


def change_sentence(change: Change) -> str:
    """What a person is told of a change that is not signed."""
    name = change.node.petname
    if change.fault:
        return (
            f"{name}: announces a change of prices that it may not make ({change.fault}); it is not signed. Ask its "
            "operator"
        )
    before, after = change.before.terms.terms, change.after.terms
    return (
        f"{name}: rent per GiB and month changes from {human_msat(before.price_msat_per_gib_month)} to "
        f"{human_msat(after.price_msat_per_gib_month)} at {human_time(change.from_at)}; sign it before "
        f"(without, the account ends at {human_time(change.sign_by_at)}) with: lnstore rent agree {name}"
    )


def change_json(change: Change | None) -> dict[str, Any] | None:
    """What --json shows of a change that is not signed."""
    if change is None:
        return None
    shown: dict[str, Any] = {
        "from_period": change.from_period,
        "from_at": change.from_at,
        "sign_by_at": change.sign_by_at,
        "announced_at": change.announced_at,
        "fault": change.fault,
        "price_periods": change.after.terms.price_periods,
        "fiat_currency": change.after.terms.fiat_currency,
        "fiat_per_tib_month": change.after.terms.fiat_per_tib_month,
    }
    for name in ("price_msat_per_gib_month", "egress_msat_per_gib", "ingress_msat_per_gib"):
        shown[f"{name}_before"] = getattr(change.before.terms.terms, name)
        shown[name] = getattr(change.after.terms, name)
    return shown
