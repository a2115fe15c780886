"""After a recovery: what happened at a node since the backup, taken from what the node says and shown to its owner.

The backup may be older than the last payments, puts and removals. What the node says of the account is entered into
our own books as payments of nothing, so that rent goes on from there, and each difference is told: a node could claim a
larger capacity than was ever paid for. Token indices go on above all that can have been revealed since the backup,
whatever the node says, so that no nonce is revealed twice (R-R17); those passed over cost a token of each share. Once
they have cost all that a share has, renewal makes new ones from our own next index on (client/proof_index.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lnstore.client.accounts import agreement_of, standing
from lnstore.client.catalog import NodeEntry
from lnstore.client.money_errors import NodeUntrusted
from lnstore.client.purse import Purse
from lnstore.client.wallet_entries import Verdict
from lnstore.ports import Outcome
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import NodeId, ShareId
from lnstore_protocol.messages import (
    MAX_IDS,
    SAMPLE_SHARES,
    AccountStatusReply,
    InvoicePurpose,
    ListShares,
    ListSharesReply,
)
from lnstore_protocol.receipts import NO_SAMPLE
from lnstore_protocol.replies import read_share_list
from lnstore_protocol.terms import period_at, period_start

NONCES_PER_PERIOD = 4
"""How many nonces a client reveals for one period at the most: as many as a node answers (MA-R25)."""

UNKNOWN_RECOVERIES = 8
"""How many recoveries there may have been since the backup, each of which passed over indices, and was lost in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """What was different at a node: sentences for its owner, and shares that the backup knows and the node has not."""

    node: NodeEntry
    differences: tuple[str, ...]
    missing: tuple[ShareId, ...]
    unknown_shares: int


async def adopt(purse: Purse, node: NodeEntry, *, backed_up_at: int) -> Adopted:
    """Bring the recovered catalog up to what the node says. AccountMissing, NodeUntrusted, NodeError."""
    agreement, status = await standing(purse, node)
    listed = await _listed(purse, node)
    ours = {share.share_id for share in purse.catalog.shares_at(node.node_id)}
    missing = tuple(sorted(ours - listed))
    period_seconds = agreement.terms.terms.period_seconds
    since = max(purse.clock.now() - backed_up_at, 0) // period_seconds + 2
    ours_latest = purse.wallet.standing(node.node_id, anchor_at=agreement.anchor_at).latest_proof
    passed_over = since * NONCES_PER_PERIOD
    most = ours_latest + passed_over * (1 + UNKNOWN_RECOVERIES)
    if status.token_index > most:
        raise NodeUntrusted(
            f"{node.petname} wants proof number {status.token_index}, and no more than {most} can have been made; "
            "nothing was taken from it. Ask its operator"
        )
    floor = ours_latest + passed_over
    if status.token_index > floor:  # paid after a recovery that was not backed up, which may have asked for more
        floor = status.token_index + passed_over
    differences = await purse.write(lambda: _enter(purse, node, status, floor=floor, missing=missing))
    known = ours | purse.catalog.given_up_at(node.node_id)
    return Adopted(node=node, differences=differences, missing=missing, unknown_shares=len(listed - known))


def _enter(
    purse: Purse, node: NodeEntry, status: AccountStatusReply, *, floor: int, missing: tuple[ShareId, ...]
) -> tuple[str, ...]:
    """Enter the differences in one transaction; what they are."""
    agreement = agreement_of(purse, node)
    now = purse.clock.now()
    told: list[str] = []
    with purse.catalog.transaction() as db:
        ours = purse.wallet.standing(node.node_id, anchor_at=agreement.anchor_at)
        seconds = agreement.terms.terms.period_seconds
        rented_bytes = ours.rented.in_period(period_at(agreement.anchor_at, seconds, now))
        if status.paid_until_at > ours.paid_until_at or status.token_index > ours.next_proof:
            told.append(f"paid until {status.paid_until_at}, the backup knows of {ours.paid_until_at}")
            unpaid = period_at(agreement.anchor_at, seconds, ours.paid_until_at)
            # Not each index that the node is ahead by was a proof: earlier recoveries passed over some.
            before = min(status.token_index - ours.next_proof, status.next_period - unpaid)
            for left in range(max(before, 1)):  # one for each proof since, the last one for the last period
                start = period_start(agreement.anchor_at, seconds, status.next_period - 1 - left)
                _nothing_paid(
                    db,
                    node.node_id,
                    InvoicePurpose.RENT,
                    index=status.next_period - 1 - left,
                    token_index=max(status.token_index, ours.next_proof + 1) - 1 - left,
                    times=(start, start + seconds),
                    capacity_bytes=status.capacity_bytes,
                    sampled=min(status.shares, SAMPLE_SHARES) if before > 0 else 0,
                    now=now,
                )
        if status.capacity_bytes != rented_bytes:
            told.append(f"{status.capacity_bytes} bytes are rented, the backup knows of {rented_bytes}")
        if status.capacity_bytes > rented_bytes:
            _nothing_paid(
                db,
                node.node_id,
                InvoicePurpose.CAPACITY,
                index=status.growth_index - 1,
                token_index=None,
                times=(now, status.paid_until_at),
                capacity_bytes=status.capacity_bytes - rented_bytes,
                now=now,
            )
        # An abandoned challenge uses its index up; the next proof has the one after it.
        db.execute(
            "INSERT INTO challenges (node_id, token_index, period, expected, shares, revealed_at, state) "
            "VALUES (?, ?, ?, x'', 0, ?, ?) ON CONFLICT DO NOTHING",
            (bytes(node.node_id), floor - 1, status.next_period, now, Verdict.ABANDONED.value),
        )
        db.executemany(
            "DELETE FROM shares WHERE node_id = ? AND share_id = ?",
            [(bytes(node.node_id), bytes(share_id)) for share_id in missing],
        )
    return tuple(told)


def _nothing_paid(
    db: Any,
    node_id: NodeId,
    purpose: InvoicePurpose,
    *,
    index: int,
    token_index: int | None,
    times: tuple[int, int],
    capacity_bytes: int,
    now: int,
    sampled: int = 0,
) -> None:
    """A settled payment of 0 msat, which stands for what the backup does not know."""
    db.execute(
        "INSERT INTO payments (node_id, purpose, idx, bolt11, payment_hash, amount_msat, fee_msat, state, from_at, "
        "until_at, capacity_bytes, shares, sampled, token_index, sample_hash, created_at, settled_at) "
        "VALUES (?, ?, ?, '', ?, 0, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            bytes(node_id),
            int(purpose),
            index,
            bytes(32),
            Outcome.SETTLED.value,
            *times,
            capacity_bytes,
            sampled,
            sampled,
            token_index,
            bytes(NO_SAMPLE),
            now,
            now,
        ),
    )


async def _listed(purse: Purse, node: NodeEntry) -> set[ShareId]:
    """All shares that the node lists as ours."""
    found: set[ShareId] = set()
    after: ShareId | None = None
    while True:
        reply = await purse.ask(node, ListShares(limit=MAX_IDS, after=after), ListSharesReply)
        try:
            listed = read_share_list(reply.payload, limit=MAX_IDS, after=after)
        except RemoteProtocolError as exc:
            raise NodeUntrusted(f"{node.petname} does not list your shares in order: {exc}") from exc
        found.update(share_id for share_id, *_ in listed)
        if len(listed) < MAX_IDS:
            return found
        after = listed[-1][0]
