"""Budgets: how much may leave in a calendar month (UTC), to one node and in all, and ever.

What counts is what may have left: a settled payment with its fee, and a payment of unknown outcome with the most that
routing may cost, until it is known to have failed. A payment counts in the month in which its latest attempt began,
since that is known before it is made. `check_budgets` belongs into the transaction that writes the attempt down
(Wallet.intend): then neither a crash, nor a second process, nor a retry can exceed a budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from lnstore.client.catalog import Catalog
from lnstore.client.money_errors import BudgetExceeded
from lnstore.config import ClientConfig
from lnstore.ports import Outcome
from lnstore_protocol.ids import Msat, NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """The most that may leave, in msat, fees included; None: no limit."""

    per_node_month: int | None = None
    per_month: int | None = None
    total: int | None = None

    @classmethod
    def of(cls, config: ClientConfig) -> Self:
        """Those of a profile."""
        return cls(
            per_node_month=config.budget_msat_per_node_month,
            per_month=config.budget_msat_per_month,
            total=config.budget_msat_total,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetUse:
    """How far a budget is used up. `setting` is its name in client.toml, `until_at` when it begins anew, if ever."""

    setting: str
    node_id: NodeId | None
    limit_msat: Msat
    used_msat: Msat
    until_at: int | None

    @property
    def left_msat(self) -> Msat:
        """What may still leave."""
        return Msat(max(self.limit_msat - self.used_msat, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetVerdict:
    """Whether a budget allows what is wanted: `wanted_msat` of the `left_msat` it has left."""

    setting: str
    petname: str
    wanted_msat: Msat
    left_msat: Msat

    @property
    def fits(self) -> bool:
        """Whether it does."""
        return self.wanted_msat <= self.left_msat


def month_around(now: int) -> tuple[int, int]:
    """The calendar month (UTC) of a Unix time: its first second, and the first of the next month."""
    first = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    years, month = divmod(first.month, 12)
    return int(first.timestamp()), int(first.replace(year=first.year + years, month=month + 1).timestamp())


def budgets_used(
    catalog: Catalog, budgets: Budgets, node_id: NodeId | None, now: int, *, besides: str = ""
) -> list[BudgetUse]:
    """The budgets that a payment to this node is under (None: those that hold for all nodes), as they stand.

    The payment of the invoice `besides` is not counted: it is about to be counted anew.
    """
    month = month_around(now)
    found = [
        ("budget_msat_per_node_month", node_id, budgets.per_node_month, month),
        ("budget_msat_per_month", None, budgets.per_month, month),
        ("budget_msat_total", None, budgets.total, None),
    ]
    return [
        BudgetUse(
            setting=setting,
            node_id=of,
            limit_msat=Msat(limit),
            used_msat=_used(catalog, of, span, besides),
            until_at=None if span is None else span[1],
        )
        for setting, of, limit, span in found
        if limit is not None and (of is not None or setting != "budget_msat_per_node_month")
    ]


def all_budgets(catalog: Catalog, budgets: Budgets, now: int) -> list[BudgetUse]:
    """Every budget that is set: those for all nodes, then each known node's."""
    common = budgets_used(catalog, budgets, None, now)
    nodes = [node.node_id for node in catalog.nodes()]
    return common + [use for n in nodes for use in budgets_used(catalog, budgets, n, now) if use.node_id is not None]


def verdicts(
    uses: Iterable[BudgetUse], month: Mapping[NodeId, tuple[str, int]], total_msat: int
) -> list[BudgetVerdict]:
    """What these budgets say to a plan: by node its petname and what it is paid in a month; and what is paid ever."""
    month_msat = sum(wanted for _, wanted in month.values())
    found = []
    for use in uses:
        if use.node_id is None:
            petname, wanted = "", total_msat if use.until_at is None else month_msat
        elif use.node_id in month:
            petname, wanted = month[use.node_id]
        else:
            continue
        found.append(
            BudgetVerdict(setting=use.setting, petname=petname, wanted_msat=Msat(wanted), left_msat=use.left_msat)
        )
    return found


def check_budgets(
    catalog: Catalog, budgets: Budgets, node_id: NodeId, most_msat: int, now: int, *, besides: str = ""
) -> None:  # R-R15
    """BudgetExceeded when a payment that may cost `most_msat`, fees included, is more than some budget has left."""
    for use in budgets_used(catalog, budgets, node_id, now, besides=besides):
        if use.used_msat + most_msat > use.limit_msat:
            wait = ""
            if use.until_at is not None:
                wait = f", or wait until {datetime.fromtimestamp(use.until_at, UTC):%Y-%m-%d} (UTC)"
            whom = "" if use.node_id is None else f" for {catalog.node(use.node_id).petname}"
            raise BudgetExceeded(
                f"{most_msat:,} msat, with the most that routing may cost, are more than your budget has left{whom}: "
                f"{use.left_msat:,} of {use.limit_msat:,} msat; nothing was paid. Raise {use.setting} in "
                f"client.toml{wait}"
            )


def _used(catalog: Catalog, node_id: NodeId | None, span: tuple[int, int] | None, besides: str) -> Msat:
    parameters: list[str | int | bytes]
    where, parameters = "state <> ? AND bolt11 <> ?", [Outcome.FAILED.value, besides]
    if node_id is not None:
        where, parameters = f"{where} AND node_id = ?", [*parameters, bytes(node_id)]
    if span is not None:
        where, parameters = f"{where} AND created_at >= ? AND created_at < ?", [*parameters, *span]
    ((used,),) = catalog.rows(
        f"SELECT coalesce(sum(amount_msat + coalesce(fee_msat, fee_limit_msat)), 0) FROM payments WHERE {where}",  # noqa: S608 -- our own conditions
        parameters,
    )
    return Msat(used)
