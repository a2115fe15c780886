"""Which nodes may be written to: how the account stands at each, and how much room there is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import trio

from lnstore.client.catalog import Catalog, NodeEntry
from lnstore.client.ingress import NO_PRICE, Writing
from lnstore.client.node_errors import NodeError, NodeRefused
from lnstore.client.pace import SLOW_FACTOR
from lnstore.client.pool import NodePool
from lnstore.client.proof_index import next_index
from lnstore.client.scores import Score
from lnstore.client.tasks import open_tasks
from lnstore.errors import ExitCode, LnstoreError
from lnstore.sizes import human_bytes
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import NodeId
from lnstore_protocol.messages import AccountState, AccountStatus, AccountStatusReply

STATUS_SECONDS = 20.0
LATE_SECONDS = 2.0
"""For a put that has enough nodes, whoever has not answered by then is late, or after four times what the last of them
took: connecting to a distant node takes some round trips."""


class TooFewNodes(LnstoreError):
    """Too few nodes can be written to; the text says why, node by node, and what to do."""

    exit_code: ClassVar[ExitCode] = ExitCode.NODE


@dataclass(frozen=True, slots=True)
class Fit:
    """A node that may be written to. `token_index` is the next proof's, where storage tokens begin.

    `delegated`: the room is another's, by a delegation; what is stored there has no tokens (spec 05a).
    """

    node: NodeEntry
    free_bytes: int
    capacity_bytes: int
    token_index: int
    delegated: bool = False
    writing: Writing = NO_PRICE

    def writable_bytes(self, now: int) -> int:
        """How much may be written there, by the room and by the deposit."""
        paid = self.writing.affordable_bytes(now)
        return self.free_bytes if paid is None else min(self.free_bytes, paid)

    def more(self, size: str) -> str:
        """How to come to more room there."""
        if self.delegated:
            return "ask the account's holder for a larger delegation"
        return f"rent more with: lnstore rent buy {self.node.petname} {size}"


@dataclass(frozen=True, slots=True)
class Unfit:
    """A node that may not, and why, with what to do."""

    node: NodeEntry
    reason: str


async def standings(
    pool: NodePool, catalog: Catalog, nodes: Iterable[NodeEntry], *, enough: int | None = None
) -> tuple[list[Fit], list[Unfit]]:
    """Ask all nodes at once how the account stands there; late ones are not waited for once so many may be written."""
    fit: list[Fit] = []
    unfit: list[Unfit] = []
    late = {node.node_id: node for node in nodes}
    began = trio.current_time()

    async def ask(node: NodeEntry) -> None:
        await judge(node)
        late.pop(node.node_id)
        if len(fit) == enough:
            took = trio.current_time() - began
            tasks.cancel_scope.deadline = began + max(LATE_SECONDS, took * SLOW_FACTOR)

    async def judge(node: NodeEntry) -> None:
        try:
            status: AccountStatusReply = await pool.request(
                node.address, AccountStatus(), timeout_seconds=STATUS_SECONDS
            )
        except NodeRefused as exc:
            rent = f"rent space with: lnstore rent buy {node.petname} SIZE"
            no_account = exc.code in (ErrorCode.NO_ACCOUNT, ErrorCode.LAPSED)
            unfit.append(Unfit(node, f"there is no account; {rent}" if no_account else exc.reason))
        except NodeError as exc:
            unfit.append(Unfit(node, exc.reason))
        else:
            reason = _BLOCKED if status.blocked else _UNFIT_STATES.get(status.state)  # RA-R1
            if reason is None:
                # What is planned for the next period bounds what is written in this one (05d).
                capacity = status.capacity_bytes if status.shrink_to_bytes is None else status.shrink_to_bytes
                most = capacity if status.quota_bytes is None else min(capacity, status.quota_bytes)
                free = max(0, most - status.used_bytes)
                delegated = pool.is_delegate_at(node.node_id)
                writing = NO_PRICE if delegated else Writing.of(node, status, pool.account_id)
                index = 0 if delegated else next_index(catalog, node, said=status.token_index)
                fit.append(Fit(node, free, capacity, index, delegated, writing))
            elif pool.is_delegate_at(node.node_id):
                unfit.append(Unfit(node, "the account's rent is overdue; ask its holder"))
            else:
                unfit.append(Unfit(node, reason.format(node=node.petname)))

    async with open_tasks() as tasks:
        for node in list(late.values()):
            tasks.start_soon(ask, node)
            await trio.lowlevel.checkpoint()
    unfit += [Unfit(node, LATE) for node in late.values()]
    return sorted(fit, key=lambda f: f.node.node_id), sorted(unfit, key=lambda u: u.node.petname)


_BLOCKED = "its operator has blocked your account; read what is there before it lapses, and store it anew elsewhere"
_UNFIT_STATES = {
    AccountState.GRACE: "the rent is overdue and nothing can be written; pay it with: lnstore rent pay {node}",
    AccountState.LAPSED: "the account has lapsed; rent space anew with: lnstore rent buy {node} SIZE",
}


LATE = "it did not answer when the others had; try again later"
RETIRING = "its shares are moved away; take that back with: lnstore nodes retire {node} --cancel"


def trusted(
    fit: Sequence[Fit], unfit: Sequence[Unfit], scores: Mapping[NodeId, Score]
) -> tuple[list[Fit], list[Unfit]]:
    """The same without the suspended and the retiring nodes, which hold what they hold and get nothing new."""
    retiring = [one for one in fit if one.node.retiring]
    fit = [one for one in fit if not one.node.retiring]
    suspended = [one for one in fit if one.node.node_id in scores and scores[one.node.node_id].suspended]
    reasons = [
        Unfit(
            one.node,
            f"{scores[one.node.node_id].sentence}; see: lnstore nodes show {one.node.petname}",
        )
        for one in suspended
    ]
    reasons += [Unfit(one.node, RETIRING.format(node=one.node.petname)) for one in retiring]
    return [one for one in fit if one not in suspended], [*unfit, *reasons]


def paid_for(
    fit: Sequence[Fit], unfit: Sequence[Unfit], demand_bytes: int, now: int
) -> tuple[list[Fit], list[Unfit]]:  # RI-R1
    """The same without the nodes where the deposit does not pay for writing so much."""
    lacking = [(one, one.writing.due_msat(demand_bytes, now)) for one in fit]
    lacking = [(one, due) for one, due in lacking if due > one.writing.deposit_msat]
    reasons = [
        Unfit(
            one.node,
            f"writing {human_bytes(demand_bytes)} costs {due:,} msat there, and your deposit has "
            f"{one.writing.deposit_msat:,}; add to it with: lnstore rent buy {one.node.petname} "
            f"{rent_size(one.capacity_bytes)} --deposit {due}",
        )
        for one, due in lacking
    ]
    poor = [one for one, _ in lacking]
    return [one for one in fit if one not in poor], [*unfit, *reasons]


def check_enough(fit: Sequence[Fit], unfit: Sequence[Unfit], happy: int) -> None:
    """TooFewNodes when fewer than `happy` nodes can be written to."""
    if len(fit) >= happy:
        return
    reasons = [f"  {u.node.petname}: {u.reason}" for u in unfit]
    known = "" if fit or unfit else "; add nodes with: lnstore nodes add lnstore://…"
    raise TooFewNodes(
        "\n".join([f"{happy} nodes are needed to store on, {len(fit)} can be written to{known}", *reasons])
    )


def check_room(fit: Sequence[Fit], demand_bytes: int, happy: int) -> None:
    """TooFewNodes when fewer than `happy` nodes have `demand_bytes` left; says what to rent where."""
    short = [f for f in fit if f.free_bytes < demand_bytes]
    if len(fit) - len(short) >= happy:
        return
    lines = [
        f"  {f.node.petname}: {human_bytes(f.free_bytes)} are free; "
        f"{f.more(rent_size(f.capacity_bytes + demand_bytes - f.free_bytes))}"
        for f in short
    ]
    what = f"the file needs {human_bytes(demand_bytes)} at each of {happy} nodes or more, which are not rented:"
    raise TooFewNodes("\n".join([what, *lines]))


def rent_size(total_bytes: int) -> str:
    """A capacity to rent, rounded up to whole MiB, or GiB where that is no more than an eighth above."""
    mib = -(-total_bytes // (1 << 20))
    gib = -(-mib // 1024)
    return f"{gib}GiB" if gib * 1024 * 8 <= mib * 9 else f"{mib}MiB"
