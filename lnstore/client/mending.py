"""Shares put together again or fetched, and stored at nodes that hold nothing else of their segment.

Any k other shares of a segment give a share back; coding it anew gives the very same one, under the same id, so that
capabilities and manifests stay as they are and a reader finds the share by asking. It is stored with tokens of its new
node and counts there once that acknowledged it. Nodes are asked first which of the shares they hold from a run that was
interrupted before the catalog heard of it; a share that one can show is not sent again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import trio

from lnstore.client.audit import audit_node, shows
from lnstore.client.catalog import MANIFEST_SEGMENT, FileEntry, NodeEntry, ShareEntry
from lnstore.client.encode import TokenKeys
from lnstore.client.erasure import ErasureCode
from lnstore.client.holdings import said_to_hold
from lnstore.client.losses import Losses
from lnstore.client.node_errors import NodeError, NodeTimeout, NodeUnreachable
from lnstore.client.placement import MANIFEST_RANK, Placement, placement_seed
from lnstore.client.purse import Purse
from lnstore.client.renewal import READS_AT_ONCE, read_whole
from lnstore.client.standing import Fit
from lnstore.client.tasks import each
from lnstore_protocol import merkle
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import NodeId, ShareId
from lnstore_protocol.messages import (
    MAX_IDS,
    TOKENS_PER_SHARE,
    Buffer,
    PutShare,
    PutShareReply,
    PutTokens,
    PutTokensReply,
)
from lnstore_protocol.replies import read_held

NODES_AT_ONCE = 8
NO_ROOM = "no other node has room for it; rent more, or add a node"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A share that a file lacks. `at`: the node where it counts until it lies elsewhere; None: it lies nowhere."""

    share_id: ShareId
    segment: int
    number: int
    size_bytes: int
    at: NodeId | None

    @classmethod
    def of(cls, row: ShareEntry) -> Wanted:
        """A share that has to leave its node."""
        return cls(row.share_id, row.segment, row.number, row.size_bytes, row.node_id)


@dataclass(frozen=True, slots=True)
class Repaired:
    """What became of a share: where it is now (None: nowhere else, for the reason given).

    With a node and a reason the share is there, and the node took another price than was agreed.
    `sent` is False also when the node had it already, from an interrupted run.
    """

    file: FileEntry
    share: Wanted
    to: NodeEntry | None
    reason: str
    sent: bool


class Unreadable(Exception):
    """For the code around: too few shares of a segment are left."""


class Mender:
    """One run over some files: which nodes have how much room left, and which were found not to answer."""

    def __init__(self, purse: Purse, fit: Sequence[Fit], doubtful: Collection[NodeId] = ()) -> None:
        """`doubtful` nodes get shares when no other has room."""
        self._purse = purse
        self._fit = {one.node.node_id: one for one in fit}
        self._free = {node_id: one.writable_bytes(purse.clock.now()) for node_id, one in self._fit.items()}
        self._doubtful = frozenset(doubtful)
        self._keys = TokenKeys.of(purse.account_secret)
        self._nodes = {node.node_id: node for node in purse.catalog.nodes()}
        self._avoided: set[NodeId] = set()
        self._held: dict[NodeId, frozenset[bytes]] = {}

    async def find(self, share_ids: Collection[ShareId]) -> None:
        """Ask the nodes which of these shares they hold for us, whatever the catalog knows."""
        ids = sorted(set(share_ids))

        async def ask(one: Fit) -> None:
            left, there = iter(ids), set()
            try:
                while batch := list(islice(left, MAX_IDS)):
                    held = await said_to_hold(self._purse, one.node, batch)
                    there |= {bytes(share_id) for share_id, is_held in zip(batch, held, strict=True) if is_held}
            except (NodeError, RemoteProtocolError) as exc:
                self._note(one.node.node_id, exc)
            self._held[one.node.node_id] = frozenset(there)

        await each(ask, list(self._fit.values()), at_once=NODES_AT_ONCE)

    def holds(self, node_id: NodeId, share_id: ShareId) -> bool:
        """Whether the node said in `find` that it holds this for us."""
        return bytes(share_id) in self._held.get(node_id, ())

    def places_besides(self, holding: Iterable[NodeId]) -> int:
        """How many nodes may be written to that are none of these."""
        return len(self._fit.keys() - set(holding))

    def is_avoided(self, node_id: NodeId) -> bool:
        """Whether the node did not answer in this run."""
        return node_id in self._avoided

    # --- reading ------------------------------------------------------------------------------------------------------

    async def rebuild(
        self, needed: int, total: int, others: Sequence[ShareEntry], wanted: Sequence[Wanted]
    ) -> Mapping[int, Buffer]:
        """The wanted shares of a segment by number, from `needed` of the others; Unreadable.

        A manifest is `1` of any: each copy gives all others back.
        """
        got: dict[int, Buffer] = {}
        reasons: list[str] = []
        left = list(others)
        while len(got) < needed and left:
            left.sort(key=lambda row: row.node_id in self._avoided)
            first = {row.number: row for row in reversed(left) if row.number not in got}
            asked = [row for row in left if row is first.get(row.number)][: needed - len(got)]
            left = [row for row in left if row not in asked and row.number not in got]
            for row, (data, reason) in zip(asked, await each(self.read, asked, at_once=READS_AT_ONCE), strict=True):
                if data is None:
                    reasons.append(reason)
                else:
                    got[row.number] = data
        if len(got) < needed:
            why = "; ".join(dict.fromkeys(reasons)) or "the others are lost too"
            raise Unreadable(f"{needed} other shares are needed, {len(got)} can be read: {why}")
        if needed == 1:
            whole = next(iter(got.values()))
            return {want.number: whole for want in wanted}
        numbers = [want.number for want in wanted]
        made = await trio.to_thread.run_sync(_code_again, needed, total, got, numbers, limiter=self._purse.disk)
        for share in got.values():
            self._purse.buffers.give(share)
        return made

    async def read(self, row: ShareEntry) -> tuple[Buffer | None, str]:
        """A share's bytes, verified; else None and why not."""
        node = self._nodes[row.node_id]
        try:
            data = await read_whole(self._purse, node, row)
        except NodeError as exc:
            self._note(row.node_id, exc)
            return None, str(exc)
        return data, "" if data is not None else f"{node.petname} does not hold share {row.share_id.hex()[:16]} either"

    def _note(self, node_id: NodeId, error: Exception) -> None:
        if isinstance(error, (NodeTimeout, NodeUnreachable)):
            self._avoided.add(node_id)

    # --- storing ------------------------------------------------------------------------------------------------------

    async def store(self, file: FileEntry, want: Wanted, data: Buffer, holding: set[NodeId]) -> Repaired:
        """Store a share at a node that is not `holding` anything of its segment, and have it count there.

        Where there is no such node and its own one lost it and may still be written to, that one gets it again.
        """
        if await self._purse.write(merkle.share_id, data) != want.share_id:
            return Repaired(file, want, None, "the other shares do not give it back", sent=False)
        there = await self._already_at(want, holding)
        free = {node_id: left for node_id, left in self._free.items() if node_id not in self._avoided}
        placement = Placement(placement_seed(file.file_key), free, doubtful=self._doubtful)
        rank = MANIFEST_RANK if want.segment == MANIFEST_SEGMENT else want.segment
        reason = NO_ROOM
        while True:
            held = bool(there)
            node_id = there.pop() if there else placement.choose(rank, want.size_bytes, holding)
            if node_id is None:
                return await self._restore(file, want, data, reason)
            one = self._fit[node_id]
            taken = 0 if held else want.size_bytes
            self._free[node_id] -= taken
            try:
                fault = await self._put(one, want.share_id, data, held=held)
            except (NodeError, RemoteProtocolError) as exc:
                self._free[node_id] += taken
                self._note(node_id, exc)
                reason = str(exc)
                placement.exclude(node_id)
                continue
            await self._purse.write(self._count, file, want, one)
            holding.add(node_id)
            return Repaired(file, want, one.node, fault, sent=not held)

    async def _already_at(self, want: Wanted, holding: set[NodeId]) -> list[NodeId]:
        """The node that has it from a run that was interrupted before the catalog heard of it, and shows it.

        A node that it was given up at may well have lost it: it has a lease until it is told.
        """
        for node_id, one in self._fit.items():
            given_up = self._purse.catalog.given_up_at(node_id)
            if node_id in holding or not self.holds(node_id, want.share_id) or want.share_id in given_up:
                continue
            try:
                if await shows(self._purse, one.node, want.share_id, want.size_bytes):
                    return [node_id]
            except NodeError as exc:
                self._note(node_id, exc)
        return []

    def _count(self, file: FileEntry, want: Wanted, one: Fit) -> None:
        """The share counts at its new node. Waits for the disk."""
        token_end = _token_end(one)
        if want.at is not None:
            Losses(self._purse.catalog).moved(want.share_id, want.at, one.node.node_id, token_end)
            return
        row = ShareEntry(
            node_id=one.node.node_id,
            share_id=want.share_id,
            file_id=file.file_id,
            segment=want.segment,
            number=want.number,
            size_bytes=want.size_bytes,
            token_end=token_end,
        )
        self._purse.catalog.add_shares([row])

    async def _put(self, to: Fit, share_id: ShareId, data: Buffer, *, held: bool) -> str:
        """Store it, or the tokens of what is `held`; what is wrong with what the node took, which then gets no more."""
        tokens = b""
        if not to.delegated:  # D-R10
            tokens = await self._purse.write(
                self._keys.tokens, memoryview(data), share_id, to.node.node_id, to.token_index
            )
        if held and not tokens:
            return ""
        if held:  # its tokens may be of an earlier index
            request = PutTokens(token_start=to.token_index, count=TOKENS_PER_SHARE, payload=share_id + tokens)
            reply = await self._purse.ask(to.node, request, PutTokensReply)
            if not read_held(reply.stored, 1)[0]:
                raise RemoteProtocolError(f"{to.node.petname} does not hold the share that it said to hold")
            return ""
        put = PutShare(share_id=share_id, token_start=to.token_index, tokens=tokens, payload=data)
        fault = to.writing.fault(await self._purse.ask(to.node, put, PutShareReply), len(data), self._purse.clock.now())
        if fault:
            self._avoided.add(to.node.node_id)
        return fault

    async def _restore(self, file: FileEntry, want: Wanted, data: Buffer, reason: str) -> Repaired:
        """Bring a lost share back to the node that lost it, which writes it anew and has to show it then."""
        failed = Repaired(file, want, None, reason, sent=False)
        one = None if want.at is None else self._fit.get(want.at)
        if one is None or one.node.node_id in self._avoided:
            return failed
        try:
            fault = await self._put(one, want.share_id, data, held=False)
            audit = await audit_node(self._purse, one.node, [want.share_id])
        except (NodeError, RemoteProtocolError) as exc:
            self._note(one.node.node_id, exc)
            return Repaired(file, want, None, f"{reason}; {exc}", sent=False)
        if audit.lost:
            return Repaired(file, want, None, f"{reason}; {one.node.petname} lost it again", sent=True)
        restored = Losses(self._purse.catalog).restored
        await self._purse.write(restored, want.share_id, one.node.node_id, _token_end(one))
        return Repaired(file, want, one.node, fault, sent=True)


def _token_end(one: Fit) -> int:
    """The first rent index without a token, for what is stored there now."""
    return one.token_index + (0 if one.delegated else TOKENS_PER_SHARE)


def _code_again(needed: int, total: int, got: Mapping[int, Buffer], wanted: Sequence[int]) -> dict[int, Buffer]:
    """The wanted shares of a segment from k of its shares. Blocking."""
    size = len(next(iter(got.values())))
    made = {number: memoryview(bytearray(size)) for number in wanted}
    shares = {number: memoryview(share) for number, share in got.items()}  # views that end with this call
    ErasureCode(needed, total).decode(shares, list(made), list(made.values()))
    return dict(made)
