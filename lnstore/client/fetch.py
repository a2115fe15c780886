"""Shares from nodes: where to look, whom to avoid, when to ask somebody else as well."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from lnstore.client.decode import Stripe
from lnstore.client.node_errors import NodeError, NodeRefused, NodeTimeout, name_of
from lnstore.client.pace import SLOW_FACTOR, Pace
from lnstore.client.placement import ranked
from lnstore.client.pool import NodePool
from lnstore.client.tasks import open_tasks
from lnstore_protocol import merkle
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.ids import NodeAddress, NodeId, ShareId
from lnstore_protocol.manifest import SegmentShares
from lnstore_protocol.messages import GetShare, GetShareReply

SHARE_SECONDS = 60.0
"""How long one node may take for one share."""

PATIENCE_SECONDS = (0.4, 10.0)
"""The least and the most that a node may be silent before another share is asked for as well."""

FIRST_PATIENCE_SECONDS = 2.0
"""Before it is known what shares take."""

CHECKS = 4
"""Looked at so often within the least patience."""

AVOID_SECONDS = 30.0
"""For how long a node that failed or was slow is asked only when there is no other."""

HASHING_THREADS = 2
AT_ONCE_BYTES = 64 * 1024
"""So much is verified without a worker thread, which would cost more than the work: some 20 µs."""


class ShareUnavailable(Exception):
    """For the code around: no node gave this share; one sentence per node that was asked."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class Fetched:
    """A verified range of a share. `payload` is the pool's buffer that `data` lies in."""

    data: memoryview = field(repr=False)
    payload: memoryview | bytes | bytearray = field(repr=False)
    node_id: NodeId


@dataclass(frozen=True, slots=True)
class SharePart:
    """Bytes `start` to `end` (0: all) of a share of `share_bytes` (None: any size, it is bound by the share id)."""

    start: int
    end: int
    share_bytes: int | None


@dataclass(slots=True)
class NodeTally:
    """What one node did in a transfer."""

    shares: int = 0
    payload_bytes: int = 0
    fault: str | None = None


class Fetcher:
    """Reads shares of one file. Remembers which nodes are slow or down."""

    def __init__(
        self,
        pool: NodePool,
        addresses: Mapping[NodeId, NodeAddress],
        *,
        seed: bytes,
        known: Mapping[ShareId, Sequence[NodeId]],
        share_seconds: float = SHARE_SECONDS,
        patience_seconds: tuple[float, float] = PATIENCE_SECONDS,
    ) -> None:
        self.tallies: dict[NodeId, NodeTally] = {}
        self._pool = pool
        self._addresses = addresses
        self._seed = seed
        self._known = known
        self._share_seconds = share_seconds
        least, most = patience_seconds
        self.check_seconds = least / CHECKS
        self.pace = Pace(first_seconds=FIRST_PATIENCE_SECONDS, least_seconds=least, most_seconds=most)
        self._avoid_until: dict[NodeId, float] = {}
        self._likeliest: dict[ShareId, list[NodeId]] = {}
        self._hashing = trio.CapacityLimiter(HASHING_THREADS)

    # --- one share --------------------------------------------------------------------------------------------------

    def candidates(self, share_id: ShareId, segment: int, number: int) -> list[NodeId]:
        """The nodes to ask: those known to hold the share, then the likeliest, those to be avoided last."""
        order = ranked(self._seed, segment, self._addresses)
        known = [n for n in self._known.get(share_id, ()) if n in self._addresses]
        likely = [*known, *order[number : number + 1], *order]
        self._likeliest[share_id] = likely[:1]
        return sorted(dict.fromkeys(likely), key=self.is_avoided)

    def is_doubtful(self, share_id: ShareId, candidates: Sequence[NodeId]) -> bool:
        """Whether all that are known to hold a share, or else the likeliest, are to be avoided."""
        holders = self._known.get(share_id, ()) or self._likeliest.get(share_id, ())
        return all(self.is_avoided(n) for n in holders if n in candidates)

    def is_avoided(self, node_id: NodeId) -> bool:
        """Whether this node failed or was slow a short while ago."""
        return self._avoid_until.get(node_id, -math.inf) > trio.current_time()

    def avoid(self, node_id: NodeId) -> None:
        """Ask this node only when there is no other, for a while."""
        self._avoid_until[node_id] = trio.current_time() + AVOID_SECONDS

    async def share(  # E-R3, E-R4, E-R5
        self, share_id: ShareId, nodes: Sequence[NodeId], part: SharePart, asking: Callable[[NodeId], None]
    ) -> Fetched:
        """A part of a share, verified, from the first of `nodes` that gives it; ShareUnavailable."""
        reasons = []
        for node_id in nodes:
            asking(node_id)
            try:
                return await self._from_node(node_id, share_id, part)
            except NodeRefused as exc:
                if exc.code is ErrorCode.SHARE_UNKNOWN:
                    if node_id in self._known.get(share_id, ()):
                        reasons.append(str(exc))
                    continue  # most nodes hold only one share of a segment: that is no fault
                reasons.append(self._note_fault(node_id, exc.reason))
            except NodeTimeout as exc:
                self._pool.drop(self._addresses[node_id], "was too slow")
                reasons.append(self._note_fault(node_id, exc.reason))
            except NodeError as exc:
                reasons.append(self._note_fault(node_id, exc.reason))
            except RemoteProtocolError as exc:
                reason = f"served a share that is not what it should be ({exc})"
                reasons.append(self._note_fault(node_id, reason))
        raise ShareUnavailable(reasons)

    async def _from_node(self, node_id: NodeId, share_id: ShareId, part: SharePart) -> Fetched:
        began = trio.current_time()
        reply: GetShareReply = await self._pool.request(
            self._addresses[node_id],
            GetShare(share_id=share_id, offset=part.start, length=part.end - part.start),
            timeout_seconds=self._share_seconds,
        )
        start, end = part.start, part.end or reply.share_bytes
        verify = partial(_verify, reply, share_id, part.share_bytes, start=start, end=end)
        if len(reply.payload) <= AT_ONCE_BYTES:
            verify()
        else:
            await trio.to_thread.run_sync(verify, limiter=self._hashing)
        self.pace.note(trio.current_time() - began)
        tally = self.tallies.setdefault(node_id, NodeTally())
        tally.shares += 1
        tally.payload_bytes += len(reply.payload)
        data = memoryview(reply.payload)[start - reply.offset : end - reply.offset]
        return Fetched(data, reply.payload, node_id)

    def _note_fault(self, node_id: NodeId, reason: str) -> str:
        self.avoid(node_id)
        self.tallies.setdefault(node_id, NodeTally()).fault = reason
        return f"{name_of(self._addresses[node_id])} {reason}"

    # --- several shares ---------------------------------------------------------------------------------------------

    async def stripe(self, number: int, segment: SegmentShares, needed: int, stripe: Stripe) -> dict[int, Fetched]:
        """The stripe's range of all wanted shares, or of any `needed` ones when one of those fails or is slow.

        ShareUnavailable when fewer than `needed` shares are left.
        """
        part = SharePart(stripe.start, stripe.end, segment.share_bytes)
        if needed == 1:
            return {0: await self.copy(segment.share_ids[0], number, part)}
        nodes = [self.candidates(share_id, number, i) for i, share_id in enumerate(segment.share_ids)]
        return await _Race(
            self, share_ids=segment.share_ids, nodes=nodes, part=part, needed=needed, wanted=stripe.wanted
        ).run()

    async def copy(self, share_id: ShareId, number: int, part: SharePart) -> Fetched:
        """A part of a share that many nodes have, from any of them; ShareUnavailable."""
        nodes = [[node_id] for node_id in self.candidates(share_id, number, 0)]
        got = await _Race(self, share_ids=[share_id] * len(nodes), nodes=nodes, part=part, needed=1, wanted=(0,)).run()
        return next(iter(got.values()))

    def heard(self, node_id: NodeId) -> tuple[int, float]:
        """As NodePool.heard."""
        return self._pool.heard(self._addresses[node_id])

    def release(self, fetched: Fetched) -> None:
        """Its content is used up."""
        fetched.data.release()
        self._pool.buffers.give(fetched.payload)


@dataclass(slots=True)
class _Asked:
    """Who is asked for a share, since when, and what their connection had brought by then."""

    node_id: NodeId
    since: float
    received_bytes: int
    rate: float | None = None
    """Bytes a second until the share was there; None before."""


class _Race:
    """Shares of one segment under way: what is there, what is asked for, what can still be asked for."""

    def __init__(
        self,
        fetcher: Fetcher,
        *,
        share_ids: Sequence[ShareId],
        nodes: Sequence[Sequence[NodeId]],
        part: SharePart,
        needed: int,
        wanted: Sequence[int],
    ) -> None:
        self._fetcher = fetcher
        self._share_ids = share_ids
        self._nodes = nodes
        self._part = part
        self._needed = needed
        self._wanted = wanted
        self._got: dict[int, Fetched] = {}
        self._running: set[int] = set()
        self._asked: dict[int, _Asked] = {}
        self._slow: set[int] = set()
        self._reasons: dict[str, None] = {}
        avoided = {i for i, candidates in enumerate(nodes) if fetcher.is_doubtful(share_ids[i], candidates)}
        self._any_will_do = not avoided.isdisjoint(wanted)
        self._untried = sorted(range(len(share_ids)), key=lambda i: (i in avoided, i not in wanted, i))
        self._results, self._arrivals = trio.open_memory_channel[tuple[int, Fetched | ShareUnavailable]](len(share_ids))

    @property
    def _is_enough(self) -> bool:
        return len(self._got) >= self._needed or all(share in self._got for share in self._wanted)

    async def run(self) -> dict[int, Fetched]:
        async with open_tasks() as tasks:
            self._launch(tasks)
            while not self._is_enough:
                if not self._running:
                    self._release(self._got)
                    raise ShareUnavailable(list(self._reasons))
                with trio.move_on_after(self._fetcher.check_seconds) as waiting:
                    share, outcome = await self._arrivals.receive()
                if not waiting.cancelled_caught:
                    self._take(share, outcome)
                self._note_slow()
                self._launch(tasks)
            tasks.cancel_scope.cancel()
        self._release(self._late_arrivals())
        return self._got

    def _launch(self, tasks: trio.Nursery) -> None:
        """Ask for as many more shares as it takes, not counting on the slow ones."""
        goal = self._needed if self._any_will_do else len(self._wanted)
        while self._untried and len(self._got) + len(self._running - self._slow) < goal:
            share = self._untried.pop(0)
            self._running.add(share)
            tasks.start_soon(self._fetch, share)

    def _take(self, share: int, outcome: Fetched | ShareUnavailable) -> None:
        self._running.discard(share)
        self._slow.discard(share)
        if isinstance(outcome, ShareUnavailable):
            self._reasons |= dict.fromkeys(outcome.reasons)
            self._any_will_do = True
            self._asked.pop(share, None)
        else:
            self._got[share] = outcome
            self._asked[share].rate = self._rate(self._asked[share])

    def _note_slow(self) -> None:
        """Find those that were silent for long, and those that bring far less than others in the same time.

        Where all bring little the path is slow, and asking for more shares would make it slower.
        """
        pace, now = self._fetcher.pace, trio.current_time()
        rates = {share: self._rate(asked) for share, asked in self._asked.items()}
        far_less = statistics.median_high(rates.values()) / SLOW_FACTOR if rates else 0.0
        for share in (self._running - self._slow) & self._asked.keys():
            asked = self._asked[share]
            silent_since = max(asked.since, self._fetcher.heard(asked.node_id)[1])
            compared = now - asked.since > min(pace.slow_seconds, FIRST_PATIENCE_SECONDS)
            if now - silent_since > pace.slow_seconds or (compared and rates[share] < far_less):
                self._any_will_do = True
                self._slow.add(share)
                self._fetcher.avoid(asked.node_id)

    def _rate(self, asked: _Asked) -> float:
        if asked.rate is not None:
            return asked.rate
        received = self._fetcher.heard(asked.node_id)[0] - asked.received_bytes
        return max(0, received) / max(trio.current_time() - asked.since, 1e-6)

    async def _fetch(self, share: int) -> None:
        outcome: Fetched | ShareUnavailable
        try:
            outcome = await self._fetcher.share(
                self._share_ids[share], self._nodes[share], self._part, partial(self._note_asked, share)
            )
        except ShareUnavailable as exc:
            outcome = exc
        self._results.send_nowait((share, outcome))

    def _note_asked(self, share: int, node_id: NodeId) -> None:
        self._asked[share] = _Asked(node_id, trio.current_time(), self._fetcher.heard(node_id)[0])

    def _late_arrivals(self) -> dict[int, Fetched]:
        late: dict[int, Fetched] = {}
        while True:
            try:
                share, outcome = self._arrivals.receive_nowait()
            except trio.WouldBlock:
                return late
            if isinstance(outcome, Fetched):
                late[share] = outcome

    def _release(self, fetched: Mapping[int, Fetched]) -> None:
        for part in fetched.values():
            self._fetcher.release(part)


# MB-R10, F-R5
def _verify(reply: GetShareReply, share_id: ShareId, share_bytes: int | None, *, start: int, end: int) -> None:
    """RemoteProtocolError unless the reply is exactly the leaves of bytes `start` to `end` (MB-R11). Blocking."""
    if share_bytes is not None and reply.share_bytes != share_bytes:
        raise RemoteProtocolError("of another size", ErrorCode.ROOT_MISMATCH)
    leaves = merkle.leaf_range(reply.share_bytes, start, end - start)
    if (reply.offset, reply.offset + len(reply.payload)) != merkle.leaf_span(reply.share_bytes, *leaves):
        raise RemoteProtocolError("not the range that was asked for", ErrorCode.RANGE_INVALID)
    merkle.verify_range(share_id, reply.share_bytes, reply.offset, reply.payload, reply.proof)
