"""Reading a file back: its manifest, then segment after segment, some ahead, verified, decoded only where needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import trio

from lnstore.client.decode import PlaintextWriter, SegmentPlan, plan_read
from lnstore.client.erasure import ErasureCode
from lnstore.client.fetch import (
    PATIENCE_SECONDS,
    SHARE_SECONDS,
    Fetched,
    Fetcher,
    NodeTally,
    SharePart,
    ShareUnavailable,
)
from lnstore.client.placement import MANIFEST_RANK, placement_seed
from lnstore.client.pool import NodePool
from lnstore.client.progress import NoProgress, Progress
from lnstore.client.sink import Sink
from lnstore.client.tasks import open_tasks
from lnstore.errors import ExitCode, LnstoreError
from lnstore_protocol import manifest as manifests
from lnstore_protocol.caps import ReadCap
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import NodeAddress, NodeId, ShareId
from lnstore_protocol.manifest import Manifest

AHEAD_BYTES = 48 * 1024 * 1024
"""Ciphertext of segments under way: fetched, being fetched, or waiting to be written."""

AHEAD_SEGMENTS = (2, 8)
"""The least and the most segments under way."""


class FileUnreadable(LnstoreError):
    """The file cannot be put together; the text says which nodes failed and why."""

    exit_code: ClassVar[ExitCode] = ExitCode.DATA


@dataclass(frozen=True, slots=True, kw_only=True)
class GetResult:
    """What a get did. `decoded_segments` had to be computed from parity; `nodes` is what each node gave or why not."""

    bytes: int
    seconds: float
    decoded_segments: int
    nodes: Mapping[NodeId, NodeTally]


@dataclass(slots=True)
class _Segment:
    """A planned segment on its way: its shares once `arrived`."""

    plan: SegmentPlan
    arrived: trio.Event
    stripes: list[dict[int, Fetched]]


class Download:
    """One get. Every name and address it may use is given; nothing is read from the catalog here."""

    def __init__(
        self,
        pool: NodePool,
        cap: ReadCap,
        *,
        addresses: Mapping[NodeId, NodeAddress],
        known: Mapping[ShareId, Sequence[NodeId]],
        manifest: Manifest | None = None,
        progress: Progress | None = None,
        share_seconds: float = SHARE_SECONDS,
        patience_seconds: tuple[float, float] = PATIENCE_SECONDS,
    ) -> None:
        self._cap = cap
        self._progress = progress or NoProgress()
        self._fetcher = Fetcher(
            pool,
            addresses,
            seed=placement_seed(cap.file_key),
            known=known,
            share_seconds=share_seconds,
            patience_seconds=patience_seconds,
        )
        self._threads = trio.CapacityLimiter(1)
        self._manifest = manifest
        self._decoded: set[int] = set()
        self._shares_done = 0

    async def manifest(self) -> Manifest:  # F-R7
        """The file's manifest, asked for once; FileUnreadable when no node has it or it is not one."""
        if self._manifest is not None:
            return self._manifest
        try:
            fetched = await self._fetcher.copy(self._cap.manifest_id, MANIFEST_RANK, SharePart(0, 0, None))
        except ShareUnavailable as exc:
            raise FileUnreadable("\n  ".join(["no node gave the file's manifest:", *exc.reasons])) from None
        try:
            self._manifest = manifests.decode(bytes(fetched.data), self._cap.file_key)
        except RemoteProtocolError as exc:
            raise FileUnreadable(f"what the capability names is no readable manifest: {exc}") from exc
        finally:
            self._fetcher.release(fetched)
        return self._manifest

    async def run(self, sink: Sink, *, offset: int = 0, length: int | None = None) -> GetResult:
        """Read `length` bytes (None: to the end) from `offset` on into `sink`, and commit or discard it.

        FileUnreadable, also when `offset` lies beyond the end; SinkError.
        """
        began = trio.current_time()
        try:
            manifest = await self.manifest()
            length = _length(manifest, offset, length)
            self._shares_done = 0
            self._progress.start(length)
            writer = PlaintextWriter(self._cap.file_key, manifest.file_bytes, offset, length, sink.write)
            await self._transfer(manifest, plan_read(manifest, offset, length), writer, sink)
        except BaseException:
            sink.discard()
            raise
        return GetResult(
            bytes=length,
            seconds=trio.current_time() - began,
            decoded_segments=len(self._decoded),
            nodes=self._fetcher.tallies,
        )

    async def _transfer(
        self, manifest: Manifest, plans: list[SegmentPlan], writer: PlaintextWriter, sink: Sink
    ) -> None:
        """Fetch and write; the end is in one step with the last segment's writing."""
        code = ErasureCode(manifest.needed, manifest.total)
        ahead = _ahead(manifest)
        permits = trio.Semaphore(ahead)
        send, receive = trio.open_memory_channel[_Segment](ahead)

        async def fetch_all(tasks: trio.Nursery) -> None:
            async with send:
                for plan in plans:
                    await permits.acquire()
                    segment = _Segment(plan, trio.Event(), [])
                    tasks.start_soon(self._fetch, segment, manifest)
                    await send.send(segment)

        async with open_tasks() as tasks:
            tasks.start_soon(fetch_all, tasks)
            async for segment in receive:
                await segment.arrived.wait()
                commit = sink.commit if segment.plan is plans[-1] else None
                await self._write(segment, code, writer, commit)
                self._progress.advance(writer.written_bytes, self._shares_done)
                permits.release()
        if not plans:
            await trio.to_thread.run_sync(sink.commit, limiter=self._threads)

    async def _fetch(self, segment: _Segment, manifest: Manifest) -> None:
        plan = segment.plan
        stripes: list[dict[int, Fetched]] = [{} for _ in plan.stripes]

        async def fetch(index: int) -> None:
            stripes[index] = await self._fetcher.stripe(plan.number, plan.segment, manifest.needed, plan.stripes[index])
            self._shares_done += len(stripes[index])

        try:
            async with open_tasks() as tasks:
                for index in range(len(plan.stripes)):
                    tasks.start_soon(fetch, index)
        except ShareUnavailable as exc:
            what = f"segment {plan.number + 1} of {len(manifest.segments)} cannot be put together:"
            advice = f"any {manifest.needed} of its {manifest.total} shares would do; try again once more nodes answer"
            raise FileUnreadable("\n  ".join([what, *exc.reasons, advice])) from None
        segment.stripes = stripes
        segment.arrived.set()

    async def _write(
        self, segment: _Segment, code: ErasureCode, writer: PlaintextWriter, commit: Callable[[], None] | None
    ) -> None:
        plan = segment.plan
        lacking = [
            sum(share not in got for share in stripe.wanted)
            for stripe, got in zip(plan.stripes, segment.stripes, strict=True)
        ]
        if any(lacking):
            self._decoded.add(plan.number)
        try:
            await trio.to_thread.run_sync(
                _write_segment, plan, segment.stripes, code, writer, commit, limiter=self._threads
            )
        except RemoteProtocolError as exc:
            # The shares are the ones the manifest names, so it is the manifest or the key that is wrong.
            raise FileUnreadable(f"segment {plan.number + 1} does not decrypt: {exc}") from exc
        finally:
            for got in segment.stripes:
                for fetched in got.values():
                    self._fetcher.release(fetched)


def _length(manifest: Manifest, offset: int, length: int | None) -> int:
    if not 0 <= offset <= manifest.file_bytes:
        raise FileUnreadable(f"the file has {manifest.file_bytes} bytes; there is nothing at {offset}")
    left = manifest.file_bytes - offset
    return left if length is None else min(length, left)


def _ahead(manifest: Manifest) -> int:  # F-R12
    segment_bytes = manifest.segments[0].share_bytes * manifest.needed
    least, most = AHEAD_SEGMENTS
    return min(max(AHEAD_BYTES // segment_bytes, least), most)


def _write_segment(
    plan: SegmentPlan,
    stripes: list[dict[int, Fetched]],
    code: ErasureCode,
    writer: PlaintextWriter,
    commit: Callable[[], None] | None,
) -> None:
    """Decode what is missing, then decrypt and write in order, and `commit` if it is the last. Blocking."""
    shares: dict[int, tuple[int, memoryview]] = {}
    for stripe, got in zip(plan.stripes, stripes, strict=True):
        for share in stripe.wanted:
            if share in got:
                shares[share] = (stripe.start, got[share].data)
        lacking = [share for share in stripe.wanted if share not in got]
        if lacking:
            out = [memoryview(bytearray(stripe.end - stripe.start)) for _ in lacking]
            code.decode({share: fetched.data for share, fetched in got.items()}, lacking, out)
            shares.update((share, (stripe.start, data)) for share, data in zip(lacking, out, strict=True))
    for piece in plan.pieces:
        start, data = shares[piece.number]
        writer.feed(data[piece.start - start : piece.end - start])
    if commit is not None:
        commit()
