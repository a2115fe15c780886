"""Storing a file: encode segment after segment, a few under way, every share to a node of its own.

A node that fails, or is much slower than the others (stragglers.py), is given up for the rest of the put; its shares go
to a node that holds none of their segment, or count as missing. A segment with fewer than `happy` nodes ends the put.
Acknowledged shares go to the catalog in batches, so what the catalog has is always a subset of what the nodes have; a
second run of the same put encodes again with the same key, asks every node what it holds already, and sends only the
rest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import trio

from lnstore.client.acks import AckRecorder
from lnstore.client.catalog import MANIFEST_SEGMENT, Catalog, FileEntry, ShareEntry
from lnstore.client.encode import CodedSegment, FilledSegment, SegmentBuffer, SegmentFiller, TokenKeys, code_segment
from lnstore.client.erasure import ErasureCode
from lnstore.client.node_errors import NodeError, NodeRefused, NodeTimeout
from lnstore.client.placement import MANIFEST_RANK, Placement, placement_seed
from lnstore.client.pool import NodePool
from lnstore.client.progress import NoProgress, Progress
from lnstore.client.segments import MAX_CODED_BYTES, SegmentSize, full_share_bytes, segment_size
from lnstore.client.source import Source, SourceError
from lnstore.client.standing import Fit
from lnstore.client.stragglers import Stragglers
from lnstore.client.tasks import open_tasks
from lnstore.errors import ExitCode, LnstoreError
from lnstore.ports import Clock
from lnstore.sizes import human_bytes
from lnstore_protocol import content, merkle
from lnstore_protocol import manifest as manifests
from lnstore_protocol.caps import ReadCap
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.ids import NodeId, ShareId
from lnstore_protocol.manifest import Manifest, SegmentShares
from lnstore_protocol.messages import (
    MAX_SHARE_BYTES,
    TOKEN_BYTES,
    TOKENS_PER_SHARE,
    HaveShares,
    HaveSharesReply,
    PutShare,
    PutShareReply,
)
from lnstore_protocol.replies import read_held

SHARE_SECONDS = 120.0
"""How long one node may take for one share; after that it is given up."""

QUESTION_SECONDS = 30.0
BUFFER_BYTES = 2 * MAX_CODED_BYTES
"""Of segments under way, encoded or being sent."""

BUFFERS = (2, 4)
"""The least and the most segments under way."""

CODING_THREADS = 2
AT_ONCE_BYTES = 512 * 1024
"""The tokens of shares up to this size are made without a worker thread, which would cost more than the work."""

SHORT_BYTES = 16 * 1024
"""Up to this size they take no time to speak of."""

CODED_AT_ONCE_BYTES = 4 * 1024 * 1024
"""So are the shares of a segment that are so many bytes together: 1 ms."""


class PutFailed(LnstoreError):
    """The file could not be stored as asked; the text says what was, node by node, and that a second run goes on."""

    exit_code: ClassVar[ExitCode] = ExitCode.DATA


class _SegmentUnhappy(Exception):
    """For the put around it: a segment did not reach enough nodes."""


@dataclass(slots=True)
class NodeShares:
    """What a node took in a put: sent now, or found there from an earlier run; and why it was given up, if it was."""

    petname: str
    shares: int = 0
    share_bytes: int = 0
    charged_msat: int = 0
    found_shares: int = 0
    fault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PutResult:
    """A stored file. `missing_shares` of `total` per segment found no node; `cap` is the secret that reads the file."""

    name: str
    cap: ReadCap = field(repr=False)
    bytes: int
    seconds: float
    needed: int
    total: int
    segments: int
    missing_shares: int
    nodes: Mapping[NodeId, NodeShares]
    same_as: str | None = None
    """The name of the file, or folder, whose content was named again; nothing was sent then."""


@dataclass(slots=True)
class _SegmentSend:
    """The shares of one segment (or the manifest's copies) on their way, and which node holds which by now."""

    number: int
    size: SegmentSize
    shares: Sequence[memoryview] = field(repr=False)
    share_ids: Sequence[ShareId]
    holders: dict[int, NodeId] = field(default_factory=dict)
    taken: set[NodeId] = field(default_factory=set)
    """Nodes that have, get, or failed to take one of these shares."""


class Upload:
    """One put of one source into one (new or interrupted) file of the catalog."""

    def __init__(
        self,
        pool: NodePool,
        catalog: Catalog,
        *,
        file: FileEntry,
        happy: int,
        fit: Sequence[Fit],
        keys: TokenKeys,
        resumed: bool,
        kind: int = manifests.PLAIN_FILE,
        doubtful: Collection[NodeId] = frozenset(),
        clock: Clock,
        progress: Progress | None = None,
        share_seconds: float = SHARE_SECONDS,
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._file = file
        self._happy = happy
        self._fit = {f.node.node_id: f for f in fit}
        self._keys = keys
        self._resumed = resumed
        self._kind = kind
        self._progress = progress or NoProgress()
        self._share_seconds = share_seconds
        self._stragglers = Stragglers(share_seconds)
        self._code = ErasureCode(file.needed, file.total)
        self._placement = Placement(
            placement_seed(file.file_key), {n: f.free_bytes for n, f in self._fit.items()}, doubtful=doubtful
        )
        self._nodes = {n: NodeShares(f.node.petname) for n, f in self._fit.items()}
        self._segments: dict[int, SegmentShares] = {}
        self._failure: _SegmentUnhappy | SourceError | PutFailed | None = None
        self._placed = trio.Semaphore(0)
        self._token_turn = trio.Lock()
        self._asked: dict[NodeId, trio.Event] = {}
        """By node, whether the share that was placed there last has its tokens, and so is on its way."""
        self._missing = 0
        self._bytes_done = 0
        self._shares_done = 0
        self._reading = trio.CapacityLimiter(1)
        self._coding = trio.CapacityLimiter(CODING_THREADS)
        self._acks = AckRecorder(catalog)
        self._token_ends = _token_ends(catalog.shares_of(file.file_id)) if resumed else {}
        self._share_bytes = full_share_bytes(file.needed, file.total)
        most = BUFFER_BYTES // (self._share_bytes * (file.total if file.needed > 1 else 1))
        self._buffers_left = min(max(most, BUFFERS[0]), BUFFERS[1])
        self._buffers, self._free_buffers = trio.open_memory_channel[SegmentBuffer](self._buffers_left)

    async def run(self, source: Source) -> PutResult:
        """Store the source; the file is complete in the catalog afterwards. PutFailed, SourceError."""
        began = trio.current_time()
        self._progress.start(source.size)
        if source.size is not None:  # a small file takes small buffers
            first = segment_size(content.ciphertext_bytes(source.size), self._file.needed)
            self._share_bytes = min(self._share_bytes, first.share_bytes)
        filler = SegmentFiller(source, self._file.file_key)
        try:
            async with open_tasks() as tasks:
                tasks.start_soon(self._acks.run)
                async with self._acks.open(), self._stragglers.watching():
                    manifest_id = await self._send_all(filler)
            await self._acks.complete(
                self._file.file_id,
                manifest_id=manifest_id,
                file_bytes=filler.plain_bytes,
                contents=source.contents(),
            )
        except _SegmentUnhappy as exc:
            raise PutFailed(self._failure_text(str(exc), resumable=source.state is not None)) from None
        finally:
            self._acks.flush()
        return PutResult(
            name=self._file.name,
            cap=ReadCap(self._file.file_key, manifest_id),
            bytes=filler.plain_bytes,
            seconds=trio.current_time() - began,
            needed=self._file.needed,
            total=self._file.total,
            segments=len(self._segments),
            missing_shares=self._missing,
            nodes=self._nodes,
        )

    # --- segments ---------------------------------------------------------------------------------------------------

    async def _send_all(self, filler: SegmentFiller) -> ShareId:
        """Send all segments, and the manifest as soon as every share id is known; the manifest's id.

        After a failure what is under way is still brought to its end: what nodes acknowledge is then known, and can
        be continued from or given back.
        """
        started = 0
        manifest_id: ShareId | None = None
        async with open_tasks() as tasks:
            while not filler.is_done and self._failure is None:
                buffer = await self._next_buffer()
                try:
                    filled = await trio.to_thread.run_sync(filler.fill, buffer, limiter=self._reading)
                except SourceError as exc:
                    self._failure = exc
                    break
                if filled.size.share_bytes * self._file.total <= CODED_AT_ONCE_BYTES:
                    tasks.start_soon(self._send_coded, filled, code_segment(filled, self._code))
                else:
                    tasks.start_soon(self._send_segment, filled)
                started += 1
            if self._failure is None:
                for _ in range(started):
                    await self._placed.acquire()
                manifest_id = await self._send_manifest(filler.plain_bytes)
        if self._failure is not None or manifest_id is None:
            raise self._failure or AssertionError("a put without a failure has a manifest")
        return manifest_id

    async def _next_buffer(self) -> SegmentBuffer:
        """A free buffer, a new one while there may be more."""
        try:
            return self._free_buffers.receive_nowait()
        except trio.WouldBlock:
            if not self._buffers_left:
                return await self._free_buffers.receive()
        self._buffers_left -= 1
        if self._share_bytes > MAX_SHARE_BYTES // 4:
            self._pool.buffers.clear()  # what earlier reads left would come on top of these
        return SegmentBuffer(self._file.needed, self._file.total, self._share_bytes)

    async def _send_segment(self, filled: FilledSegment) -> None:
        coded = await trio.to_thread.run_sync(code_segment, filled, self._code, limiter=self._coding)
        await self._send_coded(filled, coded)

    async def _send_coded(self, filled: FilledSegment, coded: CodedSegment) -> None:
        self._segments[coded.number] = SegmentShares(coded.size.size_bytes, coded.size.share_bytes, coded.share_ids)
        sending = _SegmentSend(coded.number, coded.size, coded.shares, coded.share_ids)
        await self._send(sending, self._file.total)
        self._missing += self._file.total - len(sending.holders)
        self._bytes_done += filled.plain_bytes
        self._progress.advance(self._bytes_done, self._shares_done)
        self._buffers.send_nowait(filled.buffer)

    async def _send_manifest(self, file_bytes: int) -> ShareId | None:  # F-W7
        segments = tuple(self._segments[number] for number in sorted(self._segments))
        manifest = Manifest(self._file.needed, self._file.total, file_bytes, segments, self._kind)
        try:
            blob = manifests.encode(manifest, self._file.file_key)
        except ValueError as exc:
            self._failure = PutFailed(f"{self._file.name} is too large for one file: {exc}")
            return None
        manifest_id = merkle.share_id(blob)
        copies = len(self._placement.nodes)
        sending = _SegmentSend(
            MANIFEST_SEGMENT, SegmentSize(len(blob), len(blob)), (memoryview(blob),) * copies, (manifest_id,) * copies
        )
        await self._send(sending, copies)
        return manifest_id

    async def _send(self, sending: _SegmentSend, total: int) -> None:
        """Store one share each on `total` nodes, or as many as there are; below `happy` the put has failed."""
        if self._resumed:
            await self._find(sending)
        rank = MANIFEST_RANK if sending.number == MANIFEST_SEGMENT else sending.number
        left = [number for number in range(total) if number not in sending.holders]
        sending.taken.update(sending.holders.values())
        async with open_tasks() as tasks:
            for number in left:
                node_id = self._placement.choose(rank, sending.size.share_bytes, sending.taken)
                if node_id is None:
                    self._note_full(sending.taken)
                    break
                sending.taken.add(node_id)
                if sending.number != MANIFEST_SEGMENT:
                    self._asked[node_id] = trio.Event()
                tasks.start_soon(self._send_share, sending, number, node_id)
            if sending.number != MANIFEST_SEGMENT:
                self._placed.release()
        if len(sending.holders) < self._happy:
            what = "the manifest" if sending.number == MANIFEST_SEGMENT else f"segment {sending.number + 1}"
            unhappy = _SegmentUnhappy(f"{what} reached {len(sending.holders)} nodes, {self._happy} are needed")
            self._failure = self._failure or unhappy

    async def _send_share(self, sending: _SegmentSend, number: int, node_id: NodeId) -> None:
        """Store a share at its node, or at another one when that fails."""
        share_bytes = sending.size.share_bytes
        rank = MANIFEST_RANK if sending.number == MANIFEST_SEGMENT else sending.number
        chosen: NodeId | None = node_id
        while chosen is not None and not await self._put(sending, number, chosen):
            self._placement.give_back(chosen, share_bytes)
            chosen = self._placement.choose(rank, share_bytes, sending.taken)
            if chosen is not None:
                sending.taken.add(chosen)

    async def _put(self, sending: _SegmentSend, number: int, node_id: NodeId) -> bool:
        """Store a share at a node; False when the node is given up."""
        standing = self._fit[node_id]
        share, share_id = sending.shares[number], sending.share_ids[number]
        asked = self._asked.get(node_id)
        if asked is not None and sending.number == MANIFEST_SEGMENT:
            await asked.wait()  # it comes right behind the share of a small file, so that they are stored together
        tokens = b"" if standing.delegated else await self._tokens(share, share_id, standing)  # D-R10
        if asked is not None:
            asked.set()
        message = PutShare(share_id=share_id, token_start=standing.token_index, tokens=tokens, payload=share)
        try:
            with self._stragglers.waiting(node_id, partial(self._is_dispensable, sending)) as wait:
                reply: PutShareReply = await self._pool.request(
                    standing.node.address, message, timeout_seconds=self._share_seconds
                )
        except NodeError as exc:
            self._give_up(node_id, exc)
            return False
        if wait.cancelled_caught:
            self._give_up(node_id, NodeTimeout(standing.node.address, self._stragglers.slowness))
            return False
        tally = self._nodes[node_id]
        tally.shares += 1
        tally.share_bytes += len(share)
        tally.charged_msat += reply.charged_msat or 0
        if fault := standing.writing.fault(reply, len(share), self._clock.now()):
            self._placement.exclude(node_id)
            tally.fault = tally.fault or fault
        await self._hold(sending, number, node_id, standing.token_index + len(tokens) // TOKEN_BYTES)
        return True

    async def _tokens(self, share: memoryview, share_id: ShareId, standing: Fit) -> bytes:
        make = partial(self._keys.tokens, share, share_id, standing.node.node_id, standing.token_index)
        if len(share) > AT_ONCE_BYTES:
            return await trio.to_thread.run_sync(make, limiter=self._coding)
        if len(share) <= SHORT_BYTES:
            return make()
        async with self._token_turn:  # the first share is on its way while the next one's tokens are made
            return make()

    async def _hold(self, sending: _SegmentSend, number: int, node_id: NodeId, token_end: int) -> None:
        """A node has a share: note it, and have it written to the catalog."""
        sending.holders[number] = node_id
        self._shares_done += 1
        await self._acks.add(
            ShareEntry(
                node_id=node_id,
                share_id=sending.share_ids[number],
                file_id=self._file.file_id,
                segment=sending.number,
                number=number,
                size_bytes=sending.size.share_bytes,
                token_end=token_end,
            )
        )

    def _is_dispensable(self, sending: _SegmentSend) -> bool:
        """Whether these shares can do without one more node: another takes its place, or there are enough."""
        if len(self._placement.nodes) <= self._happy:
            return False
        spare = self._placement.has_room(sending.size.share_bytes, sending.taken)
        return spare or len(sending.holders) >= self._happy

    def _give_up(self, node_id: NodeId, error: NodeError) -> None:
        if node_id not in self._placement.nodes:
            return  # for an earlier fault, which ended this wait as well
        self._placement.exclude(node_id)
        self._stragglers.give_up(node_id)
        tally = self._nodes[node_id]
        if tally.fault is None:
            tally.fault = error.reason
            if isinstance(error, NodeRefused) and error.code is ErrorCode.CAPACITY_EXCEEDED:
                tally.fault += f" Rent more with: lnstore rent buy {tally.petname} SIZE"
        if isinstance(error, NodeTimeout):
            self._pool.drop(self._fit[node_id].node.address, "was too slow")

    def _note_full(self, taken: set[NodeId]) -> None:
        """No node was left for a share: those still in use have no room for it."""
        for node_id in self._placement.nodes:
            tally = self._nodes[node_id]
            if node_id not in taken and tally.fault is None:
                tally.fault = f"no room for another share; {self._fit[node_id].more('SIZE')}"

    # --- a second run -----------------------------------------------------------------------------------------------

    async def _find(self, sending: _SegmentSend) -> None:
        """Ask every node which of these shares it holds from an earlier run; one share per node counts."""
        payload = b"".join(sending.share_ids)
        held: dict[NodeId, list[int]] = {}

        async def ask(node_id: NodeId) -> None:
            try:
                reply: HaveSharesReply = await self._pool.request(
                    self._fit[node_id].node.address, HaveShares(payload=payload), timeout_seconds=QUESTION_SECONDS
                )
                bits = read_held(reply.held, len(sending.share_ids))  # MB-R14
            except NodeError as exc:
                self._give_up(node_id, exc)
                return
            except RemoteProtocolError as exc:
                self._give_up(node_id, NodeError(self._fit[node_id].node.address, f"broke the protocol: {exc}"))
                return
            held[node_id] = [number for number, there in enumerate(bits) if there]

        async with open_tasks() as tasks:
            for node_id in list(self._placement.nodes):
                tasks.start_soon(ask, node_id)
        for node_id, numbers in sorted(held.items()):
            number = next((n for n in numbers if n not in sending.holders), None)
            if number is not None:
                self._nodes[node_id].found_shares += 1
                # What is not in the catalog was sent with tokens from an unknown index on: 0 at the least.
                unknown = 0 if self._fit[node_id].delegated else TOKENS_PER_SHARE
                token_end = self._token_ends.get(node_id, unknown)
                await self._hold(sending, number, node_id, token_end)

    # --- what went wrong ---------------------------------------------------------------------------------------------

    def _failure_text(self, what: str, *, resumable: bool) -> str:
        lines = [f"{self._file.name} could not be stored: {what}"]
        for tally in sorted(self._nodes.values(), key=lambda tally: tally.petname):
            stored = f"  {tally.petname}: {tally.shares + tally.found_shares} shares stored"
            lines.append(f"{stored}; {tally.fault}" if tally.fault else f"{stored} ({human_bytes(tally.share_bytes)})")
        lines.append(_AGAIN if resumable else _ANEW)
        return "\n".join(lines)


_AGAIN = "what is stored is kept: the same command continues and sends only what is missing"
_ANEW = "standard input cannot be read twice: put it again in full; what was stored is given back then"


def _token_ends(entries: Sequence[ShareEntry]) -> dict[NodeId, int]:
    """By node, the earliest end of tokens in an earlier run: true or too low for any share of that run."""
    ends: dict[NodeId, int] = {}
    for entry in entries:
        ends[entry.node_id] = min(entry.token_end, ends.get(entry.node_id, entry.token_end))
    return ends
