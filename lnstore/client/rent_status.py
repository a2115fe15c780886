"""How accounts stand: what the nodes say of them, held against our own books."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lnstore.client.accounts import account_status, agreement_of
from lnstore.client.agreements import Change, announced_change, learn, prices_of
from lnstore.client.capacity import find_out
from lnstore.client.catalog import NodeEntry
from lnstore.client.payments import resolve_open
from lnstore.client.purse import Purse
from lnstore.client.tasks import each
from lnstore.client.wallet_entries import Standing
from lnstore.client.warnings import Outlook, known_until, outlook, sentence
from lnstore.errors import LnstoreError
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import AccountState, AccountStatusReply
from lnstore_protocol.terms import Agreement, period_at

NODES_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RentStatus:
    """An account as both sides see it. The node's part is None when it does not answer (`error` says why)."""

    node: NodeEntry
    agreement: Agreement | None
    status: AccountStatusReply | None
    ours: Standing | None
    shares_in_catalog: int
    bytes_in_catalog: int
    rent_msat_per_period: Msat
    next_due_at: int | None
    paid_msat: Msat
    fees_msat: Msat
    deposited_msat: Msat
    proofs_passed: int
    proofs_failed: int
    change: Change | None
    error: str
    outlook: Outlook | None

    @property
    def warning(self) -> str:  # R-R7, RP-R1
        """What a person is to be warned of, empty when it is nothing."""
        return "" if self.outlook is None else sentence(self.node.petname, self.outlook)

    @property
    def at_no_price(self) -> bool:
        """Whether the account pays no rent, by its agreement or by the operator's doing."""
        owed = self.ours is None or self.ours.rented.capacity_bytes == 0 or self.rent_msat_per_period > 0
        return not owed or (self.status is not None and bool(self.status.free))

    @property
    def differences(self) -> tuple[str, ...]:  # MA-R11
        """Which of the node's numbers are not those of our own books, by name; none when either side has none."""
        status, ours = self.status, self.ours
        if status is None or ours is None:
            return ()
        # Who pays nothing is carried on by the node through periods that nobody asked for.
        paid_until = (
            status.paid_until_at >= ours.paid_until_at
            if self.at_no_price
            else status.paid_until_at == ours.paid_until_at
        )
        held = {
            "capacity": status.capacity_bytes in (ours.rented.capacity_bytes, ours.rented.in_the_end)
            and will_have(status) == ours.rented.in_the_end,
            "paid until": paid_until,
            "proof index": ours.next_proof <= status.token_index <= ours.latest_proof,
            # It may hold more: interrupted uploads.
            "shares": status.shares >= self.shares_in_catalog,
            "used": status.used_bytes >= self.bytes_in_catalog,
            "proofs passed": status.proofs_passed in (None, self.proofs_passed),
        }
        return tuple(name for name, same in held.items() if not same)

    @property
    def agrees(self) -> bool:
        """Whether the node has said how the account stands, and its numbers are those of our own books."""
        return self.status is not None and self.ours is not None and not self.differences


async def rent_status(purse: Purse, nodes: Sequence[NodeEntry] | None = None) -> list[RentStatus]:
    """How the accounts at these nodes (all known ones) stand, in the node's numbers and in our own."""
    await resolve_open(purse)

    async def look(node: NodeEntry) -> RentStatus:
        try:
            status, error = await account_status(purse, node), ""
            if status is not None and node.agreement is not None:
                first = agreement_of(purse, node)
                await purse.write(find_out, purse.catalog, node.node_id, first, status)
                if status.state is not AccountState.LAPSED:
                    await learn(purse, node, first, status)
        except LnstoreError as exc:
            status, error = None, str(exc)
        return as_known(purse, node, status, error)

    return await each(look, list(purse.catalog.nodes() if nodes is None else nodes), at_once=NODES_AT_ONCE)


def as_known(purse: Purse, node: NodeEntry, status: AccountStatusReply | None = None, error: str = "") -> RentStatus:
    """How the account stands by what the node said, and by our own books alone if it said nothing."""
    agreement = agreement_of(purse, node) if node.agreement is not None else None
    ours = purse.wallet.standing(node.node_id, anchor_at=agreement.anchor_at) if agreement else None
    spent = [row for row in purse.wallet.spending() if row.node_id == node.node_id]
    sizes = {share.share_id: share.size_bytes for share in purse.catalog.shares_at(node.node_id)}
    passed, failed = purse.wallet.proofs(node.node_id)
    rent, due_at, coming = Msat(0), None, None
    if agreement is not None and ours is not None:
        prices = prices_of(purse, node, agreement)
        coming = outlook(agreement, prices_of(purse, node, agreement, status), ours, status, purse.clock.now())
        paid_until_at = known_until(ours, status)
        unpaid = period_at(agreement.anchor_at, prices.period_seconds, paid_until_at)
        free = status is not None and bool(status.free)
        rent = Msat(0) if free else prices.rent_msat(ours.rented.in_period(unpaid), unpaid)
        lapsed = status is not None and status.state is AccountState.LAPSED
        due_at = None if lapsed or free else prices.owed_at(ours.rented.in_period(unpaid), paid_until_at)
    return RentStatus(
        node=node,
        agreement=agreement,
        status=status,
        ours=ours,
        shares_in_catalog=len(sizes),
        bytes_in_catalog=sum(sizes.values()),
        rent_msat_per_period=rent,
        next_due_at=due_at,
        paid_msat=Msat(sum(row.rent_msat + row.capacity_msat + row.deposit_msat for row in spent)),
        fees_msat=Msat(sum(row.fees_msat for row in spent)),
        deposited_msat=Msat(sum(row.deposit_msat for row in spent)),
        proofs_passed=passed,
        proofs_failed=failed,
        change=None if agreement is None or status is None else announced_change(purse, node, agreement, status),
        error=error,
        outlook=coming,
    )


def will_have(status: AccountStatusReply) -> int:
    """The capacity that the node says an account will have once a planned shrink has begun."""
    return status.capacity_bytes if status.shrink_to_bytes is None else status.shrink_to_bytes
