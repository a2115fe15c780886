"""What retiring a node will move, where to, and what it costs, before anything is moved."""

from __future__ import annotations

from dataclasses import dataclass

from lnstore.client.accounts import account_status
from lnstore.client.budgets import BudgetVerdict, all_budgets, verdicts
from lnstore.client.catalog import MANIFEST_SEGMENT, NodeEntry
from lnstore.client.ending import Parting, plan_leave
from lnstore.client.money_errors import AccountMissing
from lnstore.client.placement import MANIFEST_RANK, Placement, placement_seed
from lnstore.client.purse import Purse
from lnstore.client.put_cost import lacking_bytes, month_msat, terms_of
from lnstore.client.retiring import Held, held_at
from lnstore.client.standing import Fit, Unfit
from lnstore.client.targets import Targets
from lnstore.errors import LnstoreError
from lnstore_protocol.ids import Msat, NodeId
from lnstore_protocol.messages import AccountState
from lnstore_protocol.terms import traffic_msat


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one node would get. `rent_bytes` are lacking there, whole MiB, and cost `rent_msat_per_month`."""

    node_id: NodeId
    petname: str
    shares: int
    share_bytes: int
    free_bytes: int
    capacity_bytes: int
    rent_bytes: int
    rent_msat_per_month: Msat
    ingress_msat: Msat


@dataclass(frozen=True, slots=True, kw_only=True)
class RetirePlan:
    """All shares at a node: those to be moved, `superfluous` ones, and those `stuck` for want of another node.

    `rebuilt` shares are put together from others, since the node lost them or does not answer (`problem`). Reading them
    and the rest takes up to `read_msat` from deposits, `deposit_msat` of which is at the node itself.
    """

    node: NodeEntry
    shares: int
    share_bytes: int
    superfluous: int
    stuck: int
    rebuilt: int
    problem: str
    loads: tuple[Load, ...]
    unfit: tuple[Unfit, ...]
    read_msat: Msat
    deposit_msat: Msat
    ingress_msat: Msat
    rent_msat_per_month: Msat
    budgets: tuple[BudgetVerdict, ...]
    parting: Parting | None


async def plan_retire(purse: Purse, node: NodeEntry, targets: Targets) -> RetirePlan:
    """What `retiring.retire` would do now; only the node itself is asked, how the account stands there."""
    problem, deposit_msat = "", Msat(0)
    try:
        status = await account_status(purse, node)
        deposit_msat = Msat(0) if status is None else status.deposit_msat
        if status is None or status.state is AccountState.LAPSED:
            problem = "there is no account of yours any more, nor anything stored"
    except LnstoreError as exc:
        problem = str(exc)
    held = list(held_at(purse.catalog, node.node_id))
    rebuilt = [one for one in held if problem or one.is_lost]
    work = _Work(purse, [one for one in targets.fit if one.node.node_id != node.node_id], targets.doubtful)
    for one in held:
        work.place(one)
    loads = tuple(work.load(one) for one in work.fit if work.shares[one.node.node_id])
    by_node = {load.node_id: (load.petname, load.rent_msat_per_month + load.ingress_msat) for load in loads}
    uses = all_budgets(purse.catalog, purse.budgets, purse.clock.now())
    return RetirePlan(
        node=node,
        shares=len(held),
        share_bytes=sum(one.row.size_bytes for one in held),
        superfluous=work.superfluous,
        stuck=work.stuck,
        rebuilt=len(rebuilt),
        problem=problem,
        loads=loads,
        unfit=targets.unfit,
        read_msat=_reading(purse, node, held, rebuilt),
        deposit_msat=deposit_msat,
        ingress_msat=Msat(sum(load.ingress_msat for load in loads)),
        rent_msat_per_month=Msat(sum(load.rent_msat_per_month for load in loads)),
        budgets=tuple(verdicts(uses, by_node, sum(wanted for _, wanted in by_node.values()))),
        parting=await _parting(purse, node),
    )


class _Work:
    """Places shares as retiring would, first where there is room, then where there could be."""

    def __init__(self, purse: Purse, fit: list[Fit], doubtful: frozenset[NodeId]) -> None:
        self.fit = fit
        self.shares = {one.node.node_id: 0 for one in fit}
        self.superfluous = 0
        self.stuck = 0
        self._purse = purse
        self._doubtful = doubtful
        self._bytes = dict.fromkeys(self.shares, 0)

    def place(self, held: Held) -> None:
        """Find a node for a share."""
        size = held.row.size_bytes
        free = {one.node.node_id: one.free_bytes - self._bytes[one.node.node_id] for one in self.fit}
        node_id = self._choose(held, free)
        if node_id is None and held.is_superfluous:
            self.superfluous += 1
            return
        if node_id is None:
            node_id = self._choose(held, dict.fromkeys(free, size))
        if node_id is None:
            self.stuck += 1
            return
        self.shares[node_id] += 1
        self._bytes[node_id] += size

    def load(self, one: Fit) -> Load:
        """What this node would get."""
        share_bytes = self._bytes[one.node.node_id]
        rent_bytes = lacking_bytes(one, share_bytes)
        return Load(
            node_id=one.node.node_id,
            petname=one.node.petname,
            shares=self.shares[one.node.node_id],
            share_bytes=share_bytes,
            free_bytes=one.free_bytes,
            capacity_bytes=one.capacity_bytes,
            rent_bytes=rent_bytes,
            rent_msat_per_month=month_msat(self._purse, one, rent_bytes),
            ingress_msat=one.writing.due_msat(share_bytes, self._purse.clock.now()),
        )

    def _choose(self, held: Held, free: dict[NodeId, int]) -> NodeId | None:
        placement = Placement(placement_seed(held.file.file_key), free, doubtful=self._doubtful)
        rank = MANIFEST_RANK if held.row.segment == MANIFEST_SEGMENT else held.row.segment
        return placement.choose(rank, held.row.size_bytes, held.holding)


def _reading(purse: Purse, node: NodeEntry, held: list[Held], rebuilt: list[Held]) -> Msat:
    """The most that reading takes: each share once at the node, or as many others as give it back, at their dearest."""
    here = _egress(purse, node)
    dearest = max(
        (_egress(purse, other) for other in purse.catalog.nodes() if other.node_id != node.node_id), default=0
    )
    anew = {one.row.share_id for one in rebuilt}
    return Msat(
        sum(
            traffic_msat(one.row.size_bytes, dearest) * (1 if one.row.segment == MANIFEST_SEGMENT else one.file.needed)
            if one.row.share_id in anew
            else traffic_msat(one.row.size_bytes, here)
            for one in held
        )
    )


def _egress(purse: Purse, node: NodeEntry) -> int:
    terms = terms_of(purse, node)
    return 0 if terms is None else terms.egress_msat_per_gib


async def _parting(purse: Purse, node: NodeEntry) -> Parting | None:
    """What leaving gives back; None without an account."""
    try:
        return await plan_leave(purse, node)
    except AccountMissing:
        return None
