"""Lost shares put together again from the others of their segment, and stored at other nodes.

Any k other shares of a segment give it back; coding it anew gives the very same share, under the same id, so that
capabilities and manifests stay as they are and a reader finds the share by asking. Each share goes to a node that holds
nothing else of its segment, with tokens of that node, and counts there once it is acknowledged: that and the end at the
old node are one transaction of the catalog. A run that was interrupted asks first who has the share already and can
show it, and sends none twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import trio

from lnstore.client.audit import shows
from lnstore.client.catalog import MANIFEST_SEGMENT, FileEntry, NodeEntry, ShareEntry
from lnstore.client.encode import TokenKeys
from lnstore.client.erasure import ErasureCode
from lnstore.client.losses import Loss, Losses
from lnstore.client.node_errors import NodeError
from lnstore.client.placement import MANIFEST_RANK, Placement, placement_seed
from lnstore.client.purse import Purse
from lnstore.client.renewal import read_whole
from lnstore.client.scores import Happening, Scores
from lnstore.client.standing import Fit
from lnstore.client.wallet import Verdict
from lnstore_protocol import merkle
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import NodeId, ShareId
from lnstore_protocol.messages import (
    TOKENS_PER_SHARE,
    HaveShares,
    HaveSharesReply,
    PutShare,
    PutShareReply,
    PutTokens,
    PutTokensReply,
)
from lnstore_protocol.replies import read_held


@dataclass(frozen=True, slots=True)
class Repaired:
    """One lost share: where it was, where it is now (None: nowhere, for the reason given)."""

    file: FileEntry
    share: ShareEntry
    to: NodeEntry | None
    reason: str
    sent: bool
    """False also when another node had it already, from an interrupted run."""


class _Unreadable(Exception):
    """For the code around: too few shares of a segment are left."""


async def repair(
    purse: Purse,
    fit: Sequence[Fit],
    *,
    file_id: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Repaired]:
    """Store every loss that the catalog knows of (of one file, or of all) at one of the `fit` nodes, by file.

    What cannot be repaired is in the result with its reason, and stays a loss.
    """
    losses = Losses(purse.catalog).all(file_id)
    files = {file.file_id: file for file in purse.catalog.files()}
    by_segment = sorted(losses, key=lambda loss: (loss.share.file_id, loss.share.segment, loss.share.number))
    work = _Repair(purse, fit)
    done: list[Repaired] = []
    for (of_file, _), group in groupby(by_segment, key=lambda loss: (loss.share.file_id, loss.share.segment)):
        done += await work.segment(files[of_file], list(group))
        if progress is not None:
            progress(f"{sum(one.to is not None for one in done)} of {len(losses)} lost shares are stored again")
    await purse.write(_settle, purse, {loss.share.node_id for loss in losses})
    return done


class _Repair:
    """One run: which nodes have how much room left."""

    def __init__(self, purse: Purse, fit: Sequence[Fit]) -> None:
        self._purse = purse
        self._fit = {one.node.node_id: one for one in fit}
        self._free = {node_id: one.free_bytes for node_id, one in self._fit.items()}
        self._keys = TokenKeys.of(purse.account_secret)
        self._nodes = {node.node_id: node for node in purse.catalog.nodes()}

    async def segment(self, file: FileEntry, losses: Sequence[Loss]) -> list[Repaired]:
        """Repair what is lost of one segment (or of the manifest's copies)."""
        segment = losses[0].share.segment
        rows = [row for row in self._purse.catalog.shares_of(file.file_id) if row.segment == segment]
        lost = {(loss.share.node_id, loss.share.share_id) for loss in losses}
        others = [row for row in rows if (row.node_id, row.share_id) not in lost]
        # A loss that another file's turn has moved is none any more.
        wanted = [row for row in rows if (row.node_id, row.share_id) in lost]
        try:
            made = await self._rebuild(file, segment, others, wanted)
        except _Unreadable as exc:
            return [Repaired(file, row, None, str(exc), sent=False) for row in wanted]
        holding = {row.node_id for row in rows}
        placement = Placement(placement_seed(file.file_key), self._free)
        rank = MANIFEST_RANK if segment == MANIFEST_SEGMENT else segment
        done = []
        for row in wanted:
            one = await self._store(file, row, made[row.share_id], placement, rank, holding)
            if one.to is not None:
                holding.add(one.to.node_id)
                self._free[one.to.node_id] -= row.size_bytes if one.sent else 0
            done.append(one)
        return done

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _rebuild(
        self, file: FileEntry, segment: int, others: Sequence[ShareEntry], wanted: Sequence[ShareEntry]
    ) -> Mapping[ShareId, bytes]:
        """The wanted shares, from as many others as it takes; each has its id, or _Unreadable."""
        needed = 1 if segment == MANIFEST_SEGMENT else file.needed
        got: dict[int, bytes] = {}
        reasons: list[str] = []
        for row in others:
            if len(got) == needed:
                break
            if row.number in got:
                continue
            node = self._nodes[row.node_id]
            try:
                data = await read_whole(self._purse, node, row)
            except NodeError as exc:
                reasons.append(str(exc))
                continue
            if data is None:
                reasons.append(f"{node.petname} does not hold share {row.share_id.hex()[:16]} either")
            else:
                got[row.number] = data
        if len(got) < needed:
            why = "; ".join(dict.fromkeys(reasons)) or "the others are lost too"
            raise _Unreadable(f"{needed} other shares are needed, {len(got)} can be read: {why}")
        if needed == 1:
            whole = next(iter(got.values()))
            return {row.share_id: whole for row in wanted}
        return await trio.to_thread.run_sync(_code_again, file, got, wanted, limiter=self._purse.disk)

    # --- storing ------------------------------------------------------------------------------------------------------

    async def _store(  # noqa: PLR0917 - what a share and its place are
        self, file: FileEntry, row: ShareEntry, data: bytes, placement: Placement, rank: int, holding: set[NodeId]
    ) -> Repaired:
        if merkle.share_id(data) != row.share_id:
            return Repaired(file, row, None, "the other shares do not give it back", sent=False)
        there = await self._already_at(row, holding)
        reason = "no other node has room for it; rent more, or add a node"
        while True:
            node_id = there or placement.choose(rank, row.size_bytes, holding)
            if node_id is None:
                return Repaired(file, row, None, reason, sent=False)
            one = self._fit[node_id]
            try:
                await self._put(one, row, data, held=there is not None)
            except (NodeError, RemoteProtocolError) as exc:
                reason = str(exc)
                placement.exclude(node_id)
                there = None
                continue
            await self._purse.write(Losses(self._purse.catalog).moved, row, node_id, one.token_index + TOKENS_PER_SHARE)
            return Repaired(file, row, one.node, "", sent=there is None)

    async def _already_at(self, row: ShareEntry, holding: set[NodeId]) -> NodeId | None:
        """The node that has it from a run that was interrupted before the catalog heard of it, and shows it.

        A node that it was given up at may well have lost it: it has a lease until it is told.
        """
        for node_id, one in self._fit.items():
            if node_id in holding:
                continue
            try:
                reply = await self._purse.ask(one.node, HaveShares(payload=row.share_id), HaveSharesReply)
                if not read_held(reply.held, 1)[0] or row.share_id in self._purse.catalog.given_up_at(node_id):
                    continue
                if await shows(self._purse, one.node, row):
                    return node_id
            except (NodeError, RemoteProtocolError):
                continue
        return None

    async def _put(self, to: Fit, row: ShareEntry, data: bytes, *, held: bool) -> None:
        tokens = await self._purse.write(
            self._keys.tokens, memoryview(data), row.share_id, to.node.node_id, to.token_index
        )
        if held:  # its tokens may be of an earlier index
            request = PutTokens(token_start=to.token_index, count=TOKENS_PER_SHARE, payload=row.share_id + tokens)
            reply = await self._purse.ask(to.node, request, PutTokensReply)
            if not read_held(reply.stored, 1)[0]:
                raise RemoteProtocolError(f"{to.node.petname} does not hold the share that it said to hold")
            return
        put = PutShare(share_id=row.share_id, token_start=to.token_index, tokens=tokens, payload=data)
        await self._purse.ask(to.node, put, PutShareReply)


def _code_again(file: FileEntry, got: Mapping[int, bytes], wanted: Sequence[ShareEntry]) -> dict[ShareId, bytes]:
    """The wanted shares of a segment from k of its shares. Blocking; holds the segment and its parity."""
    size = len(next(iter(got.values())))
    code = ErasureCode(file.needed, file.total)
    data = [bytearray(size) for _ in range(file.needed)]
    parity = [bytearray(size) for _ in range(file.total - file.needed)]
    code.decode(
        {number: memoryview(share) for number, share in got.items()},
        range(file.needed),
        [memoryview(share) for share in data],
    )
    if any(row.number >= file.needed for row in wanted):
        code.encode([memoryview(share) for share in data], [memoryview(share) for share in parity])
    shares = [*data, *parity]
    return {row.share_id: bytes(shares[row.number]) for row in wanted}


def _settle(purse: Purse, nodes: Iterable[NodeId]) -> None:
    """Where nothing lost is left, the failed proof is given up, so that the next one is asked for without the loss."""
    for node_id in nodes:
        if Losses(purse.catalog).at(node_id):
            continue
        failed = purse.wallet.failed_challenge(node_id)
        if failed is not None:
            purse.wallet.judge(node_id, failed.token_index, Verdict.ABANDONED)
        now = purse.clock.now()
        Scores(purse.catalog).note(node_id, Happening.REPAIRED, f"repaired/{now}", now=now)
