"""How commands show budgets: what of them is used up, and what is left."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from lnstore.cli.output import human_time

if TYPE_CHECKING:
    from lnstore.client.budgets import BudgetUse, BudgetVerdict


def print_budgets(uses: Iterable[BudgetUse], petnames: dict[bytes, str]) -> None:
    """One line for each budget."""
    for use in uses:
        whose = "" if use.node_id is None else f"{petnames.get(use.node_id, use.node_id.hex()[:8])}: "
        until = "" if use.until_at is None else f" until {human_time(use.until_at)}"
        click.echo(
            f"{whose}budget{until}: {use.used_msat:,} of {use.limit_msat:,} msat used, {use.left_msat:,} left "
            f"({use.setting})"
        )


def print_verdicts(verdicts: Iterable[BudgetVerdict]) -> None:
    """One line for each: whether what is planned fits."""
    for verdict in verdicts:
        whose = f"{verdict.petname}: " if verdict.petname else ""
        word = "within" if verdict.fits else "more than"
        click.echo(
            f"{whose}{verdict.wanted_msat:,} msat are {word} the {verdict.left_msat:,} left of {verdict.setting}"
        )


def verdicts_json(verdicts: Iterable[BudgetVerdict]) -> list[dict[str, Any]]:
    """The same as --json shows it."""
    from dataclasses import asdict

    return [{**asdict(verdict), "fits": verdict.fits} for verdict in verdicts]


def budgets_json(uses: Iterable[BudgetUse], node_id: bytes | None = None) -> list[dict[str, Any]]:
    """Those that hold for payments to this node (None: to all nodes), as --json shows them."""
    return [
        {
            "setting": use.setting,
            "limit_msat": use.limit_msat,
            "used_msat": use.used_msat,
            "left_msat": use.left_msat,
            "until_at": use.until_at,
        }
        for use in uses
        if use.node_id is None or use.node_id == node_id
    ]
