"""Which channels a payment takes: the fewest hops that can carry it, in several parts when one path cannot."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from lnstore.lightning.simulated import channels
from lnstore.lightning.simulated.database import Database
from lnstore.lightning.simulated.failure import RpcFailure
from lnstore.lightning.simulated.nodes import Node

MAX_PARTS = 100
_UNUSABLE = "Failed: We could not find a usable set of paths. "


@dataclass(frozen=True, slots=True)
class Hop:
    """One channel on the way, from `sender`, and what it carries, fees for the rest of the way included."""

    channel_id: str
    sender: str
    forth: bool
    amount_msat: int
    expiry: int


@dataclass(frozen=True, slots=True)
class Part:
    """One path from payer to payee."""

    hops: tuple[Hop, ...]
    amount_msat: int

    @property
    def sent_msat(self) -> int:
        """What leaves the payer."""
        return self.hops[0].amount_msat if self.hops else self.amount_msat


@dataclass(frozen=True, slots=True)
class _Edge:
    channel_id: str
    sender: str
    receiver: str
    forth: bool
    scid: str
    limit_msat: int


def fee_msat(amount_msat: int) -> int:
    """What a node takes for forwarding."""
    return channels.FEE_BASE_MSAT + amount_msat * channels.FEE_PPM // 1_000_000


def find(
    db: Database, payer: Node, payee: Node | None, payee_id: str, amount_msat: int, *, final_cltv: int, max_delay: int
) -> list[Part]:
    """The parts, which together deliver exactly `amount_msat`. RpcFailure 205 or 206, as lightningd's."""
    if payee is not None and payee.name == payer.name:
        return [Part((), amount_msat)]
    edges = _edges(db)
    own = [edge for edge in edges if edge.sender == payer.name]
    if payee is None or not (any(payee.name in {edge.sender, edge.receiver} for edge in edges)):
        raise RpcFailure(205, f"Failed: Unknown destination node {payee_id}")
    up = [edge for edge in edges if channels.usable(db, edge.sender, edge.receiver)]
    if own and not any(edge.sender == payer.name for edge in up):
        raise RpcFailure(205, _UNUSABLE + f"All {len(own)} channels to the source are disabled.")
    total = sum(edge.limit_msat for edge in own)
    left = {(edge.channel_id, edge.forth): edge.limit_msat for edge in up}
    parts: list[Part] = []
    missing = amount_msat
    while missing:
        path = _path(up, left, payer.name, payee.name, missing) or _path(up, left, payer.name, payee.name, 1)
        if path is None or len(parts) == MAX_PARTS:
            raise RpcFailure(205, _why_not(own, total, amount_msat))
        amount = min(missing, _carries(path, left))
        part = _part(path, amount, db.height + final_cltv)
        if len(path) * channels.CLTV_DELTA - channels.CLTV_DELTA + final_cltv > max_delay:
            raise RpcFailure(206, "Failed: Could not find route without excessive delays")
        for hop in part.hops:
            left[hop.channel_id, hop.forth] -= hop.amount_msat
        parts.append(part)
        missing -= amount
    return parts


def _edges(db: Database) -> list[_Edge]:
    edges = []
    for row in db.all(
        "SELECT * FROM channel WHERE state IN ('CHANNELD_NORMAL', 'CHANNELD_AWAITING_SPLICE') ORDER BY rowid"
    ):
        for sender, receiver in ((row["opener"], row["acceptor"]), (row["acceptor"], row["opener"])):
            side = channels.side(db, row, sender)
            limit = min(side.spendable, side.largest)
            if row["splicer"] == sender and row["splice_sat"] < 0:
                limit = max(limit + row["splice_sat"] * 1000, 0)  # what was spliced out cannot be paid any more
            forth = sender == row["opener"]
            scid = row["scid"] or row["opener_alias" if forth else "acceptor_alias"]
            edges.append(_Edge(row["channel_id"], sender, receiver, forth, scid, limit))
    return edges


def _path(
    edges: list[_Edge], left: dict[tuple[str, bool], int], source: str, target: str, amount_msat: int
) -> list[_Edge] | None:
    """The shortest path that carries `amount_msat`, found backwards so that fees are known at each hop."""
    needs = {target: amount_msat}
    onward: dict[str, _Edge] = {}
    queue = deque([target])
    while queue:
        receiver = queue.popleft()
        for edge in edges:
            if edge.receiver != receiver or edge.sender in needs:
                continue
            if left[edge.channel_id, edge.forth] < needs[receiver]:
                continue
            onward[edge.sender] = edge
            needs[edge.sender] = needs[receiver] + fee_msat(needs[receiver])
            queue.append(edge.sender)
    if source not in onward:
        return None
    path = [onward[source]]
    while path[-1].receiver != target:
        path.append(onward[path[-1].receiver])
    return path


def _carries(path: list[_Edge], left: dict[tuple[str, bool], int]) -> int:
    """The most that can arrive over the path."""
    amount = left[path[0].channel_id, path[0].forth]
    for edge in path[1:]:
        # The largest x with x + fee(x) <= amount, by undoing the fee and stepping back over the rounding.
        onward = (amount - channels.FEE_BASE_MSAT) * 1_000_000 // (1_000_000 + channels.FEE_PPM) + 1
        while onward > 0 and onward + fee_msat(onward) > amount:
            onward -= 1
        amount = min(onward, left[edge.channel_id, edge.forth])
    return max(amount, 1)


def _part(path: list[_Edge], amount_msat: int, expiry: int) -> Part:
    hops: list[Hop] = []
    carried = amount_msat
    for edge in reversed(path):
        hops.append(Hop(edge.channel_id, edge.sender, edge.forth, carried, expiry))
        carried += fee_msat(carried)
        expiry += channels.CLTV_DELTA
    return Part(tuple(reversed(hops)), amount_msat)


def _why_not(own: list[_Edge], total_msat: int, amount_msat: int) -> str:
    if len(own) != 1:
        return _UNUSABLE + f"Total source capacity is only {total_msat}msat (in {len(own)} channels)."
    edge = own[0]
    if edge.limit_msat < amount_msat:
        direction = 0 if edge.forth else 1
        return (
            _UNUSABLE + f"The shortest path is {edge.scid}, but {edge.scid}/{direction} "
            f"layer auto.localchans says max is {edge.limit_msat}msat"
        )
    return _UNUSABLE + "No path can carry the amount."
