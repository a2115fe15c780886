"""What files lack, found in the catalog and stored again: shares that nodes lost, and such as never found a node.

What is lost counts at its old node until another one has acknowledged it; that and the end at the old node are one
transaction of the catalog (mending.py). Only what is missing moves. Files of others that are looked after by their
verify capability are repaired by what their nodes serve instead (caring.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from itertools import chain, groupby

import trio

from lnstore.client.catalog import MANIFEST_SEGMENT, FileEntry, ShareEntry
from lnstore.client.losses import Losses
from lnstore.client.mending import Mender, Repaired, Unreadable, Wanted
from lnstore.client.purse import Purse
from lnstore.client.scores import Happening, Scores
from lnstore.client.standing import Fit
from lnstore.client.tasks import ByteBudget, each
from lnstore.client.wallet_entries import Verdict
from lnstore_protocol import manifest as manifests
from lnstore_protocol.caps import verify_key
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import NodeId

SEGMENTS_AT_ONCE = 8
HELD_BYTES = 48 * 1024 * 1024
"""Of shares that are read and made; of one segment, if that takes more."""

Progress = Callable[[str], None]


async def repair(
    purse: Purse,
    fit: Sequence[Fit],
    *,
    files: Collection[FileEntry] | None = None,
    away: Collection[NodeId] = frozenset(),
    doubtful: Collection[NodeId] = frozenset(),
    progress: Progress | None = None,
) -> list[Repaired]:
    """Store what the catalog knows to be lost or missing (of these files, or of all) at the `fit` nodes, by file.

    What lies at a node that is `away` for good is taken for lost, too. What cannot be repaired is in the result with
    its reason, and stays what it was. Files that are only looked after are left out.
    """
    gone = frozenset(away)
    asked = purse.catalog.files() if files is None else files
    own = {file.file_id: file for file in asked if not file.verify_only}
    losses = {
        (loss.share.node_id, loss.share.share_id)
        for loss in Losses(purse.catalog).all()
        if files is None or loss.share.file_id in own
    }
    work: list[tuple[FileEntry, list[Wanted]]] = []
    mender = Mender(purse, [one for one in fit if one.node.node_id not in gone], doubtful)
    for file in own.values():
        rows = purse.catalog.shares_of(file.file_id)
        lost = [row for row in rows if (row.node_id, row.share_id) in losses or row.node_id in gone]
        wanted = [Wanted.of(row) for row in lost]
        if file.complete:
            there = [row for row in rows if row not in lost]
            wanted += await _missing(mender, file, rows, there)
        if wanted:
            work.append((file, wanted))
    await mender.find([want.share_id for _, wanted in work for want in wanted])
    done = await _all_segments(purse, mender, work, progress)
    await purse.write(_settle, purse, {node_id for node_id, _ in losses})
    return done


async def _all_segments(
    purse: Purse, mender: Mender, work: Sequence[tuple[FileEntry, Sequence[Wanted]]], progress: Progress | None
) -> list[Repaired]:
    """Repair several segments at once; such as are part of several files one by one, so that none is sent twice."""
    segments = [
        (file, segment, list(group))
        for file, wanted in work
        for segment, group in groupby(sorted(wanted, key=_in_order), key=lambda want: want.segment)
    ]
    files = Counter(share_id for _, _, wanted in segments for share_id in {want.share_id for want in wanted})
    one_by_one, memory = trio.Lock(), ByteBudget(HELD_BYTES)
    stored, count = 0, sum(len(wanted) for _, _, wanted in segments)

    async def carry_out(one: tuple[FileEntry, int, list[Wanted]]) -> list[Repaired]:
        nonlocal stored
        file, segment, wanted = one
        several = any(files[want.share_id] > 1 for want in wanted)
        async with one_by_one if several else nullcontext():
            shares = (1 if segment == MANIFEST_SEGMENT else file.needed) + len(wanted)
            taken = await memory.take(shares * wanted[0].size_bytes)
            try:
                done = await _segment(purse, mender, file, segment, wanted)
            finally:
                memory.give(taken)
        stored += sum(one.to is not None for one in done)
        if progress is not None:
            progress(f"{stored} of {count} shares are stored again")
        return done

    return list(chain.from_iterable(await each(carry_out, segments, at_once=SEGMENTS_AT_ONCE)))


def _in_order(want: Wanted) -> tuple[int, int]:
    return want.segment, want.number


async def _missing(
    mender: Mender, file: FileEntry, rows: Sequence[ShareEntry], there: Sequence[ShareEntry]
) -> list[Wanted]:
    """The shares of a complete file that no node ever got, as many as there are nodes for them now.

    Their ids are in the manifest; without it there are none.
    """
    holders: dict[int, dict[int, NodeId]] = {}
    for row in rows:
        if row.segment != MANIFEST_SEGMENT:
            holders.setdefault(row.segment, {})[row.number] = row.node_id
    places = {segment: mender.places_besides(known.values()) for segment, known in holders.items()}
    if not any(len(known) < file.total and places[segment] for segment, known in holders.items()):
        return []
    for row in there:
        if row.segment == MANIFEST_SEGMENT:
            data, _ = await mender.read(row)
            if data is not None:
                absent = _absent(file, bytes(data), holders)
                return [want for known in absent for want in known[: places[known[0].segment]]]
    return []


def _absent(file: FileEntry, blob: bytes, holders: Mapping[int, Mapping[int, NodeId]]) -> list[list[Wanted]]:
    """By segment that lacks any, what nobody holds."""
    try:
        part = manifests.decode_verify(blob, verify_key(file.file_key))
    except RemoteProtocolError:
        return []
    found = [
        [
            Wanted(share_id, segment, number, shares.share_bytes, None)
            for number, share_id in enumerate(shares.share_ids)
            if number not in holders.get(segment, ())
        ]
        for segment, shares in enumerate(part.segments)
    ]
    return [wanted for wanted in found if wanted and wanted[0].segment in holders]


async def _segment(
    purse: Purse, mender: Mender, file: FileEntry, segment: int, wanted: Sequence[Wanted]
) -> list[Repaired]:
    """Repair what is lacking of one segment (or of the manifest's copies)."""
    rows = [row for row in purse.catalog.shares_of(file.file_id) if row.segment == segment]
    known = {(row.node_id, row.share_id) for row in rows}
    # What another file's turn has moved is lost no more.
    wanted = [want for want in wanted if want.at is None or (want.at, want.share_id) in known]
    lacking = {(want.at, want.share_id) for want in wanted}
    others = [row for row in rows if (row.node_id, row.share_id) not in lacking]
    needed = 1 if segment == MANIFEST_SEGMENT else file.needed
    try:
        made = await mender.rebuild(needed, file.total, others, wanted)
    except Unreadable as exc:
        return [Repaired(file, want, None, str(exc), sent=False) for want in wanted]
    holding = {row.node_id for row in rows}
    done = []
    for want in wanted:
        one = await mender.store(file, want, made[want.number], holding)
        if one.to is None and want.segment == MANIFEST_SEGMENT and len({row.node_id for row in others}) >= file.total:
            # The manifest lies at every other node that may be used; the copy that was lost is not needed.
            await purse.write(Losses(purse.catalog).dispensed, want.share_id, want.at)
            continue
        done.append(one)
    return done


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
