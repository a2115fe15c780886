"""What a put will take, before it is begun: shares, room at each node, capacity to rent for it, prices, budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lnstore.client.agreements import agreement_at, agreements_of
from lnstore.client.budgets import BudgetVerdict, all_budgets, verdicts
from lnstore.client.catalog import NodeEntry
from lnstore.client.files import Client, Coding
from lnstore.client.purse import Purse
from lnstore.client.quote import MIB
from lnstore.client.scores import Scores
from lnstore.client.segments import demand_bytes, segment_sizes, stored_bytes
from lnstore.client.standing import Fit, Unfit, standings, trusted
from lnstore_protocol.ids import Msat
from lnstore_protocol.terms import MONTH_SECONDS, SignedTerms, Terms, rent_msat


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCost:
    """A node that would be written to, with `capacity_bytes` rented.

    `rent_bytes` are lacking there, whole MiB, and cost `rent_msat_per_month`.

    Writing takes `ingress_msat` from the deposit, which has `deposit_msat`.
    `held_by_another`: the room is a delegation's, whose holder pays.
    """

    petname: str
    write_bytes: int
    free_bytes: int
    capacity_bytes: int
    rent_bytes: int
    rent_msat_per_month: Msat
    ingress_msat: Msat
    deposit_msat: Msat
    held_by_another: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PutCost:
    """What a put takes at `total` nodes or more. `shares` are all it stores, `manifests` of them manifests.

    `short` nodes are missing even if the capacity is rented; `unfit` says why others may not be written to.
    """

    stored_bytes: int
    shares: int
    manifests: int
    bytes_per_node: int
    nodes: tuple[NodeCost, ...]
    unfit: tuple[Unfit, ...]
    short: int
    rent_msat_per_month: Msat
    ingress_msat: Msat
    budgets: tuple[BudgetVerdict, ...]


async def cost_of(purse: Purse, client: Client, objects: Sequence[int], coding: Coding) -> PutCost:
    """The cost of storing files (or packs, and a tree) of these sizes. Asks the nodes how the accounts stand."""
    scores = Scores(purse.catalog).all([node.node_id for node in purse.catalog.nodes()], purse.clock.now())
    fit, unfit = trusted(*await standings(client.pool, purse.catalog, purse.catalog.nodes()), scores)
    total = coding.total
    each = sum(demand_bytes(size, coding.needed, total, max(len(fit), coding.happy)) for size in objects)
    segments = [len(segment_sizes(size, coding.needed, total)) for size in objects]
    copies = max(len(fit), coding.happy)
    lacking = _to_rent(purse, fit, each, total)
    rows = tuple(_cost(purse, one, each, lacking=one in lacking) for one in fit)
    by_node = {
        one.node.node_id: (row.petname, row.rent_msat_per_month + row.ingress_msat)
        for one, row in zip(fit, rows, strict=True)
    }
    uses = all_budgets(purse.catalog, purse.budgets, purse.clock.now())
    return PutCost(
        stored_bytes=sum(stored_bytes(size, coding.needed, total) for size in objects),
        shares=sum(segments) * total + len(objects) * copies,
        manifests=len(objects) * copies,
        bytes_per_node=each,
        nodes=rows,
        unfit=tuple(unfit),
        short=max(coding.happy - len(fit), 0),
        rent_msat_per_month=Msat(sum(row.rent_msat_per_month for row in rows)),
        ingress_msat=Msat(sum(row.ingress_msat for row in rows)),
        budgets=tuple(verdicts(uses, by_node, sum(wanted for _, wanted in by_node.values()))),
    )


def _to_rent(purse: Purse, fit: Sequence[Fit], each_bytes: int, total: int) -> list[Fit]:
    """The nodes where capacity has to be rented for all `total` shares to find room: the cheapest of those short."""
    short = [one for one in fit if one.free_bytes < each_bytes]
    missing = total - (len(fit) - len(short))

    def price(one: Fit) -> int:
        terms = terms_of(purse, one.node)
        return 0 if terms is None else terms.price_msat_per_gib_month

    return sorted(short, key=price)[: max(missing, 0)]


def _cost(purse: Purse, one: Fit, each_bytes: int, *, lacking: bool) -> NodeCost:
    rent_bytes = lacking_bytes(one, each_bytes) if lacking else 0
    return NodeCost(
        petname=one.node.petname,
        write_bytes=each_bytes,
        free_bytes=one.free_bytes,
        capacity_bytes=one.capacity_bytes,
        rent_bytes=rent_bytes,
        rent_msat_per_month=month_msat(purse, one, rent_bytes),
        ingress_msat=one.writing.due_msat(each_bytes, purse.clock.now()),
        deposit_msat=Msat(one.writing.deposit_msat),
        held_by_another=one.delegated,
    )


def lacking_bytes(one: Fit, wanted_bytes: int) -> int:
    """What has to be rented at a node before so much can be written there, in whole MiB."""
    return -(-max(0, wanted_bytes - one.free_bytes) // MIB) * MIB


def month_msat(purse: Purse, one: Fit, rent_bytes: int) -> Msat:
    """What so many bytes more cost us in a month; at a delegation its holder pays."""
    terms = None if one.delegated else terms_of(purse, one.node)
    return Msat(0) if terms is None else rent_msat(rent_bytes, MONTH_SECONDS, terms.price_msat_per_gib_month)


def terms_of(purse: Purse, node: NodeEntry) -> Terms | None:
    """The terms that hold at a node: those agreed on, else the last that it told."""
    if (agreed := agreement_at(node)) is not None:
        return agreements_of(purse, node, agreed)[-1].terms.terms
    return None if node.terms is None else SignedTerms.decode(node.terms).terms
