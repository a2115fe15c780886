"""What writing costs at a node: computed before, and checked after each share (spec 05e)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from lnstore.client.agreements import CLOCK_TOLERANCE_SECONDS, check_agreement
from lnstore.client.catalog import NodeEntry
from lnstore.client.money_errors import NodeUntrusted
from lnstore_protocol.ids import AccountId, Msat
from lnstore_protocol.messages import AccountStatusReply, PutShareReply
from lnstore_protocol.prices import Prices
from lnstore_protocol.terms import GIB, Agreement, ingress_msat, traffic_msat


@dataclass(frozen=True, slots=True)
class Writing:
    """What writing takes from the deposit at a node, which had `ingress_bytes` of us when it held `deposit_msat`.

    `prices` is None where nothing may be taken from us: free accounts, and delegations, whose holder pays.
    """

    prices: Prices | None = None
    deposit_msat: int = 0
    ingress_bytes: int = 0

    @classmethod
    def of(cls, node: NodeEntry, status: AccountStatusReply, account_id: AccountId) -> Self:
        """By the agreements that we signed: those that the node shows, and the catalog's."""
        told = {encoded for encoded in (node.agreement, status.agreement, status.renewed_agreement) if encoded}
        ours = [
            agreement
            for agreement in (_ours(node, encoded, account_id) for encoded in told)
            if agreement is not None and agreement.anchor_at == status.anchor_at
        ]
        free = bool(status.free) or not any(one.terms.terms.ingress_msat_per_gib for one in ours)
        return cls(None if free else Prices.of(ours), status.deposit_msat, status.ingress_bytes)

    def due_msat(self, count: int, now: int) -> Msat:  # RI-W1
        """What `count` bytes more cost at the most."""
        return max(ingress_msat(self.ingress_bytes, count, price) for price in self._prices(now))

    def affordable_bytes(self, now: int) -> int | None:  # RI-R1
        """How many bytes more the deposit pays for; None: any number."""
        price = max(self._prices(now))
        if not price:
            return None
        paid = traffic_msat(self.ingress_bytes, price) + self.deposit_msat
        return max(0, paid * GIB // price - self.ingress_bytes)

    def fault(self, reply: PutShareReply, size_bytes: int, now: int) -> str:  # RI-R2
        """What is wrong with what the node says that it charged for a share; empty when nothing is."""
        charged, total = reply.charged_msat, reply.ingress_bytes
        if charged is None and total is None:
            return ""
        if charged is None or total is None or total < size_bytes:
            return f"it took {charged or 0} msat for writing {size_bytes} bytes and does not say what for"
        due = [ingress_msat(total - size_bytes, size_bytes, price) for price in self._prices(now)]
        if charged in due:
            return ""
        return f"it took {charged} msat for writing {size_bytes} bytes, {max(due)} were agreed; look at its receipts"

    def after(self, count: int, charged_msat: int) -> Self:
        """The same once so many bytes are written."""
        left = max(0, self.deposit_msat - charged_msat)
        return replace(self, deposit_msat=left, ingress_bytes=self.ingress_bytes + count)

    def _prices(self, now: int) -> list[Msat]:
        """The prices that may hold now by the node's clock."""
        if self.prices is None:
            return [Msat(0)]
        around = (now - CLOCK_TOLERANCE_SECONDS, now + CLOCK_TOLERANCE_SECONDS)
        return [self.prices.for_traffic(at).ingress_msat_per_gib for at in around]


NO_PRICE = Writing()


def _ours(node: NodeEntry, encoded: bytes, account_id: AccountId) -> Agreement | None:
    """The agreement, if it is one between us and this node."""
    try:
        return check_agreement(encoded, node_id=node.node_id, account_id=account_id, petname=node.petname)
    except NodeUntrusted:
        return None
