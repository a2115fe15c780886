"""Storing a folder: what changed since its last snapshot travels in packs, then a tree says where everything is.

Nothing is a snapshot before its tree and all packs are stored. An interrupted put leaves packs behind that the same
command finds by their plan and does not send again; those that no longer fit are removed with the next snapshot.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

import trio

from lnstore.client.contents import Content, ContentHasher, Contents, Stored, content_key
from lnstore.client.dedupe import Finder, sort_out
from lnstore.client.files import Client, Coding
from lnstore.client.folder_catalog import Place, Snapshot
from lnstore.client.folder_plan import Work, pack_name, prepare
from lnstore.client.packs import MemberUnreadable, Pack, PackStream, plan_packs
from lnstore.client.progress import NoProgress, Progress, ProgressSum
from lnstore.client.removal import drop_shares
from lnstore.client.source import Source, SourceChanged
from lnstore.client.tree_cache import TreeCache
from lnstore.client.tree_writing import tree_items
from lnstore.client.upload import PutResult
from lnstore.client.walk import Found, Problem, look_again
from lnstore_protocol.caps import ReadCap
from lnstore_protocol.manifest import TREE
from lnstore_protocol.trees import Entry, Head, Kind, Object

STRICT_TRIES = 3
"""How often a pack is planned anew because a file in it changed; after that files are taken as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderStored:
    """A stored folder.

    `sent_bytes` of its `plain_bytes` were not known from the last snapshot, nor (those of `same_files`) by content;
    `problems` says what is not stored, or not as it was at one moment.
    """

    snapshot: Snapshot
    cap: ReadCap = field(repr=False)
    files: int
    sent_bytes: int
    seconds: float
    missing_shares: int
    same_files: int
    problems: Sequence[Problem]


async def put_folder(
    client: Client,
    root: Path,
    *,
    name: str | None = None,
    coding: Coding,
    progress: Progress | None = None,
    dedupe: bool = False,
) -> FolderStored:
    """Store `root` as a new snapshot of the folder `name` (default: its own name).

    With `dedupe` new files are read first, and those not sent whose content is stored already. Raises what Client.put
    raises; what is stored until then is kept for the next try.
    """
    began = trio.current_time()
    with client.profile.writing():
        work = await prepare(client, root, name)
        outer = progress or NoProgress()
        copies = await _use_stored(client, work, coding, outer) if dedupe else []
        packs = plan_packs(work.new)
        told = ProgressSum(outer, sum(pack.size_bytes for pack in packs))
        missing = 0
        for pack in packs:
            missing += await _put_pack(client, work, pack, coding, told)
        # Their firsts are stored now, unless they changed meanwhile.
        for pack in plan_packs(await _use_copies(client, work, coding, copies)):
            missing += await _put_pack(client, work, pack, coding, told)
        taken_at = client.clock.now()
        stored = await _put_tree(client, work, coding, taken_at)
        tree_file = client.catalog.named(stored.name)
        unneeded = await trio.to_thread.run_sync(
            lambda: work.folders.add_snapshot(
                folder=work.name,
                tree_file_id=tree_file.file_id,
                taken_at=taken_at,
                entries=len(work.walked.found),
                plain_bytes=sum(found.size_bytes for found in work.walked.found),
                packs={place.file_id for place in work.places.values()},
                seen=((found, work.places[found.path]) for found in work.walked.found if found.path in work.places),
            ),
            limiter=client.disk,
        )
        await drop_shares(client.pool, client.catalog, unneeded)
    return FolderStored(
        snapshot=work.folders.newest(work.name),
        cap=stored.cap,
        files=sum(found.kind is Kind.FILE for found in work.walked.found),
        sent_bytes=told.done_bytes,
        seconds=trio.current_time() - began,
        missing_shares=missing + stored.missing_shares,
        same_files=work.same_files,
        problems=work.walked.problems,
    )


# --- what is stored already -------------------------------------------------------------------------------------------


async def _use_stored(client: Client, work: Work, coding: Coding, progress: Progress) -> list[tuple[Found, Content]]:
    """Look for the new files by content; those that are copies of one that is to be sent are told with it."""
    sorted_out = await sort_out(client, work.root, work.new, coding, progress)
    work.new = sorted_out.new
    for path, stored in sorted_out.stored.items():
        await _place(client, work, path, stored)
    return sorted_out.copies


async def _use_copies(
    client: Client, work: Work, coding: Coding, copies: Sequence[tuple[Found, Content]]
) -> list[Found]:
    """The copies whose content is stored have a place by that; the others."""
    finder = Finder(client, coding)
    left = []
    for found, content in copies:
        stored = await finder.find(content)
        if stored is None:
            left.append(found)
        else:
            await _place(client, work, found.path, stored)
    return left


async def _place(client: Client, work: Work, path: bytes, stored: Stored) -> None:
    file = stored.file
    if file.folder is None and file.file_id not in work.named:
        # It may be removed by its own name: what snapshots need is a part of a folder.
        again, _ = await trio.to_thread.run_sync(
            lambda: Contents(client.catalog).name_again(
                file, f":same:{secrets.token_hex(16)}", now=client.clock.now(), folder=work.name
            ),
            limiter=client.disk,
        )
        work.named[file.file_id] = again.file_id
    work.places[path] = Place(work.named.get(file.file_id, file.file_id), stored.offset)
    work.same_files += 1


# --- packs ------------------------------------------------------------------------------------------------------------


async def _put_pack(client: Client, work: Work, pack: Pack, coding: Coding, told: ProgressSum) -> int:
    """Store a pack, or find it stored; how many of its shares found no node."""
    tries = 0
    key = content_key(client.profile.account_secret)
    while pack.members:
        tries += 1
        strict = tries <= STRICT_TRIES
        name = pack_name(work, pack)
        old = client.catalog.file(name)
        if old is not None and old.complete:
            work.stored(pack, old.file_id)
            told.add(pack.size_bytes)
            return 0
        stream = PackStream(work.root, pack, strict=strict, hasher=ContentHasher(key))
        state = pack.state(work.root) if strict else None
        source = Source(stream, label=str(work.root), state=state, size=pack.size_bytes, contents=stream.contents.copy)
        try:
            stored = await client.store(source, name, coding, told, folder=work.name)
        except SourceChanged:
            pack = await trio.to_thread.run_sync(_again, work, pack, limiter=client.disk)
        except MemberUnreadable as exc:
            work.leave_out(exc.member, f"cannot be read: {exc.reason}")
            pack = Pack(tuple(member for member in pack.members if member is not exc.member))
        else:
            work.walked.problems.extend(Problem(m.path, "changed while it was read") for m in stream.changed)
            work.stored(pack, client.catalog.named(name).file_id)
            told.add(pack.size_bytes)
            return stored.missing_shares
        finally:
            stream.close()
    return 0


def _again(work: Work, pack: Pack) -> Pack:
    """The same files as they look now."""
    members = []
    for member in pack.members:
        now = look_again(work.root, member.path)
        if now is None:
            work.leave_out(member, "is gone")
        else:
            if now != member:
                work.looks_now(member, now)
            if now.size_bytes:
                members.append(now)
    return Pack(tuple(members))


# --- the tree ---------------------------------------------------------------------------------------------------------


async def _put_tree(client: Client, work: Work, coding: Coding, taken_at: int) -> PutResult:
    """Store the tree and keep a copy of it."""
    cache = TreeCache(client.profile.directory)
    work.places.update({path: work.places[first] for path, first in work.same.items() if first in work.places})
    part = await trio.to_thread.run_sync(cache.write, _items(client, work, taken_at), limiter=client.disk)
    with FileIO(part, "rb") as tree:
        source = Source(tree, label="the folder's tree", size=part.stat().st_size)
        name = f":tree:{secrets.token_hex(16)}"
        stored = await client.store(source, name, coding, None, folder=work.name, kind=TREE)
    cache.keep(client.catalog.named(name).file_id, part)
    return stored


def _items(client: Client, work: Work, taken_at: int) -> Iterator[Head | Object | Entry]:
    def placed() -> Iterator[tuple[Entry, Place | None]]:
        for found in work.walked.found:
            place = work.places.get(found.path)
            size = found.size_bytes if place else 0
            yield Entry(found.kind, found.path, found.mode, found.mtime_ns, size, target=found.target), place

    return tree_items(client.catalog, taken_at, placed())
