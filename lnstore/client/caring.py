"""Files of others, checked and repaired by their verify capability alone, with accounts and nodes of one's own.

The manifest's verify part names all shares; who holds them is found by asking every known node for a leaf of each,
which any account may read from its deposit. What no node shows is coded anew from any k others, ciphertext as it is,
and stored under the own account: it is in the own catalog from then on, in a file that `rm` gives up and that cannot be
read. A run that was interrupted goes on: what a node took before the catalog heard of it is found and counted.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from lnstore.client.catalog import MANIFEST_SEGMENT, Catalog, FileEntry, NodeEntry, ShareEntry
from lnstore.client.download import FileUnreadable
from lnstore.client.health import FileHealth, Holders, health_of
from lnstore.client.looking import Depth
from lnstore.client.losses import Losses
from lnstore.client.mending import Mender, Repaired, Unreadable, Wanted
from lnstore.client.node_errors import NodeRefused
from lnstore.client.purse import Purse
from lnstore.client.renewal import READS_AT_ONCE
from lnstore.client.standing import Fit
from lnstore.client.tasks import each
from lnstore.errors import LnstoreError
from lnstore_protocol import manifest as manifests
from lnstore_protocol.caps import VerifyCap
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.ids import NodeId, ShareId
from lnstore_protocol.manifest import VerifyPart
from lnstore_protocol.merkle import leaf_count
from lnstore_protocol.messages import LEAF_BYTES, GetShare, GetShareReply
from lnstore_protocol.replies import check_range

NODES_AT_ONCE = 8
NAME_DIGITS = 16

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Probe:
    """A share to ask for. With k = 1 all numbers of a segment are one share, asked for once as number 0."""

    segment: int
    number: int
    share_id: ShareId
    size_bytes: int


@dataclass(slots=True)
class Survey:
    """What the known nodes hold of a file: `seen` is who showed what, `damaged` how often it was something else."""

    cap: VerifyCap
    part: VerifyPart
    manifest: bytes = field(repr=False)
    seen: Holders = field(default_factory=dict)
    damaged: int = 0
    silent: dict[NodeId, LnstoreError] = field(default_factory=dict)

    def probes(self) -> Iterator[Probe]:
        """All shares to ask for, the manifest first."""
        yield Probe(MANIFEST_SEGMENT, 0, self.cap.manifest_id, len(self.manifest))
        for segment, shares in enumerate(self.part.segments):
            ids = shares.share_ids if self.part.needed > 1 else shares.share_ids[:1]
            for number, share_id in enumerate(ids):
                yield Probe(segment, number, share_id, shares.share_bytes)

    def holders(self, segment: int) -> dict[int, set[NodeId]]:
        """By number, the nodes that hold it; equal shares are numbered by node."""
        seen = self.seen.get(segment, {})
        if segment == MANIFEST_SEGMENT or self.part.needed > 1:
            return seen
        return {number: {node_id} for number, node_id in enumerate(sorted(seen.get(0, ())))}

    def health(self, file: FileEntry) -> FileHealth:
        """How the file stands by this."""
        segments = range(len(self.part.segments))
        there = {segment: self.holders(segment) for segment in (MANIFEST_SEGMENT, *segments)}
        healthy = sum(len(nodes) for holders in there.values() for nodes in holders.values())
        copies = len(there[MANIFEST_SEGMENT].get(0, ()))
        shares = max(healthy, self.part.total * len(segments) + copies)
        return health_of(file, there, shares=shares, found=healthy + self.damaged)


def cared_for(purse: Purse, cap: VerifyCap, part: VerifyPart | None = None) -> FileEntry | None:
    """The catalog's file of this capability, one's own or one that is looked after; with `part` as it would be."""
    known = next((file for file in purse.catalog.files() if file.manifest_id == cap.manifest_id), None)
    if known is not None or part is None:
        return known
    return FileEntry(
        file_id=0,
        name=f"care-{cap.manifest_id.hex()[:NAME_DIGITS]}",
        file_key=cap.verify_key,
        manifest_id=cap.manifest_id,
        file_bytes=part.size_bytes,
        needed=part.needed,
        total=part.total,
        happy=part.needed,
        created_at=purse.clock.now(),
        complete=True,
        verify_only=True,
    )


def cap_in_care(file: FileEntry) -> VerifyCap:
    """The capability of a file that is looked after."""
    if not file.verify_only or file.manifest_id is None:
        raise ValueError(f"{file.name} is a file of one's own")
    return VerifyCap(file.file_key, file.manifest_id)


# --- looking ----------------------------------------------------------------------------------------------------------


async def survey(purse: Purse, cap: VerifyCap, depth: Depth, progress: Progress | None = None) -> Survey:
    """Ask all known nodes for all shares: for a random leaf of each, or with Depth.READ for every byte.

    FileUnreadable when no node gives the manifest, or it is none under this key.
    """
    nodes = purse.catalog.nodes()
    blob = await _manifest(purse, cap, nodes)
    try:
        part = manifests.decode_verify(blob, cap.verify_key)
    except RemoteProtocolError as exc:
        raise FileUnreadable(f"what the capability names is no manifest that it opens: {exc}") from exc
    found = Survey(cap, part, blob)

    async def ask(node: NodeEntry) -> None:
        if progress is not None:
            progress(f"asking {node.petname} for the shares of a file that is looked after")

        async def probe(one: Probe) -> None:
            await _probe(purse, node, one, found, whole=depth is Depth.READ)

        try:
            await each(probe, list(found.probes()), at_once=READS_AT_ONCE)
        except LnstoreError as exc:
            found.silent[node.node_id] = exc
            for holders in found.seen.values():
                for nodes_seen in holders.values():
                    nodes_seen.discard(node.node_id)

    await each(ask, nodes, at_once=NODES_AT_ONCE)
    return found


async def _manifest(purse: Purse, cap: VerifyCap, nodes: Sequence[NodeEntry]) -> bytes:  # F-R7
    reasons = []
    for node in nodes:
        try:
            reply = await purse.ask(node, GetShare(share_id=cap.manifest_id, offset=0, length=0), GetShareReply)
            await purse.write(check_range, reply, cap.manifest_id, 0, 0)
        except (LnstoreError, RemoteProtocolError) as exc:
            reasons.append(f"{node.petname}: {exc}")
        else:
            return bytes(reply.payload)
    known = "" if nodes else " no node is known; add one with: lnstore nodes add lnstore://…"
    raise FileUnreadable("\n  ".join([f"no node gave the file's manifest:{known}", *reasons]))


async def _probe(purse: Purse, node: NodeEntry, one: Probe, found: Survey, *, whole: bool) -> None:
    """Whether the node shows the share; errors other than that it does not are raised."""
    offset, length = 0, 0
    if not whole:
        offset, length = secrets.randbelow(leaf_count(one.size_bytes)) * LEAF_BYTES, 1
    try:
        reply = await purse.ask(node, GetShare(share_id=one.share_id, offset=offset, length=length), GetShareReply)
        await purse.write(check_range, reply, one.share_id, offset, length)
    except NodeRefused as refused:
        if refused.code not in {ErrorCode.SHARE_UNKNOWN, ErrorCode.RANGE_INVALID}:
            raise
    except RemoteProtocolError:
        found.damaged += 1
    else:
        found.seen.setdefault(one.segment, {}).setdefault(one.number, set()).add(node.node_id)


# --- repairing --------------------------------------------------------------------------------------------------------


async def care(
    purse: Purse,
    fit: Sequence[Fit],
    found: Survey,
    *,
    doubtful: Collection[NodeId] = frozenset(),
    progress: Progress | None = None,
) -> list[Repaired]:
    """Store what no node showed in a survey, once each, at `fit` nodes that hold nothing else of its segment.

    What cannot be repaired is in the result with its reason. What lies at nodes that did not answer counts as missing,
    unless it is our own.
    """
    file = cared_for(purse, found.cap, found.part)
    assert file is not None  # noqa: S101 - there is a verify part
    mender = Mender(purse, fit, doubtful)
    await mender.find([probe.share_id for probe in found.probes()])
    done: list[Repaired] = []
    for segment in (MANIFEST_SEGMENT, *range(len(found.part.segments))):
        work = _Segment(purse, found, file, segment)
        wanted, adopted = work.missing(), work.unknown(mender)
        if (wanted or adopted) and not file.file_id:
            file = await purse.write(_begin, purse.catalog, file)
        done += await work.carry_out(mender, file, wanted, adopted)
        await purse.write(work.give_up_superfluous, wanted)
        if progress is not None:
            progress(f"{sum(one.to is not None for one in done)} shares are stored again")
    return done


class _Segment:
    """What is to be done about one segment, or the manifest's copies."""

    def __init__(self, purse: Purse, found: Survey, file: FileEntry, segment: int) -> None:
        self._catalog = purse.catalog
        self._segment = segment
        self._total = found.part.total
        self._holders = found.holders(segment)
        if segment == MANIFEST_SEGMENT:
            self._needed, self._size_bytes = 1, len(found.manifest)
            self._ids: tuple[ShareId, ...] = (found.cap.manifest_id,) * self._total
            copies = sorted(self._holders.get(0, ()))
            self._holders = {number: {node_id} for number, node_id in enumerate(copies)}
        else:
            shares = found.part.segments[segment]
            self._needed, self._size_bytes, self._ids = found.part.needed, shares.share_bytes, shares.share_ids
        shown = {(node_id, self._id(number)) for number, nodes in self._holders.items() for node_id in nodes}
        rows = purse.catalog.shares_of(file.file_id) if file.file_id else []
        self._rows = [row for row in rows if row.segment == segment]
        hidden = [row for row in self._rows if (row.node_id, row.share_id) not in shown]
        self._unheard = [row for row in hidden if row.node_id in found.silent]
        self._unshown = [row for row in hidden if row.node_id not in found.silent]

    def missing(self) -> list[Wanted]:
        """What no node shows; each with the node that holds it no more by the catalog, if there is one."""
        numbers = [number for number in range(self._total) if number not in self._holders]
        if self._needed == 1:  # equal shares: any of ours stands for any number
            numbers = numbers[: max(0, len(numbers) - len(self._unheard))]
            ours = dict(zip(numbers, (row.node_id for row in self._unshown), strict=False))
        else:
            unheard = {row.number for row in self._unheard}
            numbers = [number for number in numbers if number not in unheard]
            ours = {row.number: row.node_id for row in self._unshown}
        return [self._wanted(number, ours.get(number)) for number in numbers]

    def unknown(self, mender: Mender) -> list[tuple[Wanted, NodeId]]:
        """What nodes show and say to hold for us, and the catalog does not know."""
        ours = {(row.node_id, row.share_id) for row in self._rows}
        return [
            (self._wanted(number, None), node_id)
            for number, nodes in self._holders.items()
            for node_id in sorted(nodes)
            if (node_id, self._id(number)) not in ours and mender.holds(node_id, self._id(number))
        ]

    async def carry_out(
        self, mender: Mender, file: FileEntry, wanted: Sequence[Wanted], adopted: Sequence[tuple[Wanted, NodeId]]
    ) -> list[Repaired]:
        """Count what is unknown, and store what is missing."""
        others = [
            self._row(file, number, node_id) for number, nodes in self._holders.items() for node_id in sorted(nodes)
        ]
        holding = {row.node_id for row in (*others, *self._unheard, *self._unshown)}
        done: list[Repaired] = []
        for want, node_id in adopted:
            data, reason = await mender.read(self._row(file, want.number, node_id))
            if data is None:
                done.append(Repaired(file, want, None, reason, sent=False))
            else:
                done.append(await mender.store(file, want, data, holding - {node_id}))
        try:
            made = await mender.rebuild(self._needed, self._total, others, wanted) if wanted else {}
        except Unreadable as exc:
            return done + [Repaired(file, want, None, str(exc), sent=False) for want in wanted]
        return done + [await mender.store(file, want, made[want.number], holding) for want in wanted]

    def give_up_superfluous(self, wanted: Sequence[Wanted]) -> None:
        """What our nodes show no more and others do is expected there no more. Waits for the disk."""
        used = {(want.at, want.share_id) for want in wanted}
        for row in self._unshown:
            if (row.node_id, row.share_id) not in used:
                Losses(self._catalog).dispensed(row.share_id, row.node_id)

    def _id(self, number: int) -> ShareId:
        return self._ids[number % self._total]  # there may be more copies of a manifest than shares of a segment

    def _wanted(self, number: int, at: NodeId | None) -> Wanted:
        return Wanted(self._id(number), self._segment, number, self._size_bytes, at)

    def _row(self, file: FileEntry, number: int, node_id: NodeId) -> ShareEntry:
        return ShareEntry(
            node_id=node_id,
            share_id=self._id(number),
            file_id=file.file_id,
            segment=self._segment,
            number=number,
            size_bytes=self._size_bytes,
            token_end=0,
        )


def _begin(catalog: Catalog, file: FileEntry) -> FileEntry:
    """The file in the catalog, so that shares can be counted for it. Waits for the disk."""
    with catalog.transaction() as db:
        file_id = db.execute(
            "INSERT INTO files (name, file_key, manifest_id, file_bytes, needed, total, happy, created_at, complete, "
            "verify_only) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, 1)",
            (
                file.name,
                file.file_key,
                bytes(file.manifest_id or b""),
                file.file_bytes,
                file.needed,
                file.total,
                file.happy,
                file.created_at,
            ),
        ).lastrowid
    return catalog.by_id(int(file_id or 0))
