"""Storage tokens near their end, made anew: each share is read once, and its next tokens are put beside it.

A token is a function of account, node, share and index, so old and new tables agree wherever both have an entry. The
catalog counts on the new ones only after the node said that they are on its disk: whatever is killed in between, the
proof at the present index can be answered, and a second run reads only what is left. The present index is the one that
the next proof is asked for with: nonces passed over since (a recovery, a proof in vain) put it past the node's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import trio

from lnstore.client.accounts import agreement_of, standing
from lnstore.client.catalog import NodeEntry, ShareEntry
from lnstore.client.encode import TokenKeys
from lnstore.client.money_errors import NodeUntrusted
from lnstore.client.node_errors import NodeRefused
from lnstore.client.proof import named
from lnstore.client.purse import Purse
from lnstore.client.tasks import open_tasks
from lnstore.client.wallet_entries import Standing
from lnstore.errors import ExitCode, LnstoreError
from lnstore.sizes import human_bytes
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.ids import Msat, ShareId
from lnstore_protocol.messages import TOKENS_PER_SHARE, Buffer, GetShare, GetShareReply, PutTokens, PutTokensReply
from lnstore_protocol.proofs import join_token_tables
from lnstore_protocol.replies import check_range, read_held
from lnstore_protocol.terms import traffic_msat

RENEW_BELOW = 4
"""With fewer proofs left than this a share gets new tokens."""

READS_AT_ONCE = 4
TABLES_PER_REQUEST = 64
"""So many shares are read between two steps that a crash does not undo."""


class RenewalFailed(LnstoreError):
    """Some shares at a node got no new tokens; those that did are kept, and a second run goes on."""

    exit_code = ExitCode.DATA

    def __init__(self, message: str, *, shares: Sequence[ShareId] = ()) -> None:
        super().__init__(message)
        self.shares = tuple(shares)


@dataclass(frozen=True, slots=True)
class RenewalPlan:
    """What renewing takes at a node: the shares, each once, their bytes, and the egress that is charged for them."""

    node: NodeEntry
    token_start: int
    shares: tuple[ShareEntry, ...]
    share_bytes: int
    cost_msat: Msat
    deposit_msat: Msat
    capacity_bytes: int

    @property
    def sentence(self) -> str:
        """What it will cost, for whoever pays."""
        return (
            f"{self.node.petname}: {len(self.shares)} shares get new tokens, which takes reading "
            f"{human_bytes(self.share_bytes)} for {self.cost_msat:,} msat of your deposit there "
            f"({self.deposit_msat:,} msat)"
        )


async def plan_renewal(purse: Purse, node: NodeEntry, *, below: int = RENEW_BELOW) -> RenewalPlan:  # P-W5, MB-W5
    """What has fewer than `below` proofs left at this node. AccountMissing, NodeUntrusted (its index is not ours)."""
    agreement, status = await standing(purse, node)
    ours = purse.wallet.standing(node.node_id, anchor_at=agreement.anchor_at)
    if not ours.next_proof <= status.token_index <= ours.latest_proof:
        raise NodeUntrusted(
            f"{node.petname} counts {status.token_index} proofs, your own books {ours.next_proof}; tokens for other "
            "indices would be of no use. See lnstore rent pay"
        )
    due = {
        share.share_id: share
        for share in _ending(purse, node, ours, below)
        if share.token_end < ours.latest_proof + TOKENS_PER_SHARE
    }
    price = agreement.terms.terms.egress_msat_per_gib
    return RenewalPlan(
        node=node,
        token_start=ours.latest_proof,
        shares=tuple(due.values()),
        share_bytes=sum(share.size_bytes for share in due.values()),
        cost_msat=Msat(sum(traffic_msat(share.size_bytes, price) for share in due.values())),
        deposit_msat=status.deposit_msat,
        capacity_bytes=status.capacity_bytes,
    )


def renewal_due(purse: Purse, node: NodeEntry, *, below: int = RENEW_BELOW) -> bool:
    """Whether there is something to plan by our own books, which asks nobody."""
    first = agreement_of(purse, node)
    return bool(_ending(purse, node, purse.wallet.standing(node.node_id, anchor_at=first.anchor_at), below))


def _ending(purse: Purse, node: NodeEntry, ours: Standing, below: int) -> list[ShareEntry]:
    """The shares with fewer than `below` proofs left, once for each file that needs them."""
    return [share for share in purse.catalog.shares_at(node.node_id) if share.token_end - ours.latest_proof < below]


async def renew(purse: Purse, plan: RenewalPlan, *, progress: Callable[[str], None] | None = None) -> int:
    """Carry a plan out; how many shares have new tokens. RenewalFailed names those that the node could not show."""
    if plan.cost_msat > plan.deposit_msat:
        raise RenewalFailed(
            f"{plan.sentence}, which is too little. Add to it with: lnstore rent buy {plan.node.petname} "
            f"{plan.capacity_bytes} --deposit {plan.cost_msat}"
        )
    keys = TokenKeys.of(purse.account_secret)
    renewed = 0
    failed: list[ShareId] = []
    for at in range(0, len(plan.shares), TABLES_PER_REQUEST):
        batch = plan.shares[at : at + TABLES_PER_REQUEST]
        tables = await _tables(purse, plan, batch, keys)
        stored = await _put(purse, plan, tables) if tables else []
        renewed += len(stored)
        failed += [share.share_id for share in batch if share.share_id not in stored]
        if progress is not None:
            progress(f"{renewed} of {len(plan.shares)} shares at {plan.node.petname} have new tokens")
    if failed:
        raise RenewalFailed(
            f"{plan.node.petname} could not show {named(failed)}, so they got no new tokens; repair them with: "
            "lnstore repair --all",
            shares=failed,
        )
    return renewed


async def renew_due(purse: Purse, nodes: Sequence[NodeEntry] | None = None, *, progress: Callable[[str], None]) -> None:
    """Before rent is paid: renew what is due at these nodes (all with an account); what fails is told, not raised."""
    for node in purse.catalog.nodes() if nodes is None else nodes:
        if node.agreement is None:
            continue
        try:
            plan = await plan_renewal(purse, node)
            if plan.shares:
                progress(plan.sentence)
                await renew(purse, plan, progress=progress)
        except LnstoreError as exc:
            progress(f"storage tokens at {node.petname} were not renewed: {exc}")


async def _tables(
    purse: Purse, plan: RenewalPlan, shares: Iterable[ShareEntry], keys: TokenKeys
) -> dict[ShareId, bytes]:
    """New tokens of the shares that the node can show; a share's bytes are held only while its tokens are made."""
    tables: dict[ShareId, bytes] = {}
    reading = trio.Semaphore(READS_AT_ONCE)

    async def read(share: ShareEntry) -> None:
        try:
            data = await read_whole(purse, plan.node, share)
        finally:
            reading.release()
        if data is not None:
            tables[share.share_id] = await purse.write(
                keys.tokens, memoryview(data), share.share_id, plan.node.node_id, plan.token_start
            )

    async with open_tasks() as tasks:
        for share in shares:
            await reading.acquire()
            tasks.start_soon(read, share)
    return tables


async def read_whole(purse: Purse, node: NodeEntry, share: ShareEntry) -> Buffer | None:  # P-W6
    """A share's bytes, verified; None when the node does not hold it or shows something else."""
    try:
        reply = await purse.ask(node, GetShare(share_id=share.share_id, offset=0, length=0), GetShareReply)
        await purse.write(check_range, reply, share.share_id, 0, 0)
    except NodeRefused as refused:
        if refused.code is ErrorCode.SHARE_UNKNOWN:
            return None
        raise
    except RemoteProtocolError:
        return None
    return reply.payload


async def _put(purse: Purse, plan: RenewalPlan, tables: dict[ShareId, bytes]) -> set[ShareId]:  # MB-R38, MB-R39
    """Send the tables; the shares whose tokens the node has now, which the catalog knows then too."""
    request = PutTokens(token_start=plan.token_start, count=TOKENS_PER_SHARE, payload=join_token_tables(tables.items()))
    reply = await purse.ask(plan.node, request, PutTokensReply)
    try:
        bits = read_held(reply.stored, len(tables))
    except RemoteProtocolError as exc:
        raise NodeUntrusted(f"{plan.node.petname} does not say which tokens it took: {exc}") from exc
    stored = {share_id for share_id, is_stored in zip(tables, bits, strict=True) if is_stored}
    await purse.write(purse.catalog.tokens_renewed, plan.node.node_id, stored, plan.token_start + TOKENS_PER_SHARE)
    return stored
