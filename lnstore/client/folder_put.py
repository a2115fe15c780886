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

from lnstore.client.catalog import CatalogError
from lnstore.client.files import Client, Coding, checked_name
from lnstore.client.folder_catalog import FolderCatalog, Place, Snapshot
from lnstore.client.packs import MemberUnreadable, Pack, PackStream, plan_packs
from lnstore.client.progress import NoProgress, Progress
from lnstore.client.removal import drop_shares
from lnstore.client.source import Source, SourceChanged
from lnstore.client.tree_cache import TreeCache
from lnstore.client.upload import PutResult
from lnstore.client.walk import Found, Problem, Walk, look_again, walk
from lnstore_protocol.caps import ReadCap
from lnstore_protocol.manifest import TREE
from lnstore_protocol.trees import Entry, Head, Kind, Object, encode

STRICT_TRIES = 3
"""How often a pack is planned anew because a file in it changed; after that files are taken as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderStored:
    """A stored folder.

    `sent_bytes` of its `plain_bytes` were not known from the last snapshot; `problems` says what is not stored, or not
    as it was at one moment.
    """

    snapshot: Snapshot
    cap: ReadCap = field(repr=False)
    files: int
    sent_bytes: int
    seconds: float
    missing_shares: int
    problems: Sequence[Problem]


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderPlan:
    """What a put would do: its files, all their bytes, and those of them that would be sent.

    `objects` are the sizes of what is stored for that, one behind the other: packs, and about the size of a tree.
    """

    files: int
    plain_bytes: int
    sent_bytes: int
    objects: tuple[int, ...]
    problems: Sequence[Problem]


async def plan_folder(client: Client, root: Path, *, name: str | None = None) -> FolderPlan:
    """What `put_folder` would do now; nothing is stored. SourceError, CatalogError."""
    work = await _prepare(client, root, name)
    packs = [pack for pack in plan_packs(work.new) if not _is_stored(client, work, pack)]
    files = [found for found in work.walked.found if found.kind is Kind.FILE]
    return FolderPlan(
        files=len(files),
        plain_bytes=sum(found.size_bytes for found in files),
        sent_bytes=sum(pack.size_bytes for pack in packs),
        objects=(*(pack.size_bytes for pack in packs), _tree_bytes(work)),
        problems=work.walked.problems,
    )


def _is_stored(client: Client, work: _Work, pack: Pack) -> bool:
    """Whether an interrupted put has stored the pack already."""
    old = client.catalog.file(_pack_name(work, pack))
    return old is not None and old.complete


def _tree_bytes(work: _Work) -> int:
    """About the size of the tree: as if its packs were many and large."""
    size = 0
    for f in work.walked.found:
        index, offset = (1 << 16, 1 << 31) if f.size_bytes else (0, 0)
        size += len(encode(Entry(f.kind, f.path, f.mode, f.mtime_ns, f.size_bytes, index, offset, f.target)))
    return size


async def put_folder(
    client: Client, root: Path, *, name: str | None = None, coding: Coding, progress: Progress | None = None
) -> FolderStored:
    """Store `root` as a new snapshot of the folder `name` (default: its own name).

    Raises what Client.put raises; what is stored until then is kept for the next try.
    """
    began = trio.current_time()
    with client.profile.writing():
        work = await _prepare(client, root, name)
        packs = plan_packs(work.new)
        told = _Sum(progress or NoProgress(), sum(pack.size_bytes for pack in packs))
        missing = 0
        for pack in packs:
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
        problems=work.walked.problems,
    )


@dataclass(slots=True)
class _Work:
    """One put of a folder: what was found, where bytes are known to be, which files are new."""

    name: str
    root: Path
    folders: FolderCatalog
    walked: Walk
    places: dict[bytes, Place]
    new: list[Found]
    same: dict[bytes, bytes]
    """Further names of one inode, by path: the path under which it is stored."""

    def stored(self, pack: Pack, file_id: int) -> None:
        """A pack's files have their place now."""
        for member, offset in zip(pack.members, pack.offsets(), strict=True):
            self.places[member.path] = Place(file_id, offset)

    def leave_out(self, member: Found, reason: str) -> None:
        """A file is not stored after all, under none of its names."""
        gone = {member.path} | {path for path, first in self.same.items() if first == member.path}
        self.walked.found[:] = [found for found in self.walked.found if found.path not in gone]
        self.walked.problems.extend(Problem(path, reason) for path in sorted(gone))

    def looks_now(self, old: Found, now: Found) -> None:
        """A file looks different from when the folder was walked."""
        at = self.walked.found.index(old)
        self.walked.found[at] = now


async def _prepare(client: Client, root: Path, name: str | None) -> _Work:
    label = checked_name((name or root.resolve().name).rstrip("/"))
    if client.catalog.file(label) is not None:
        raise CatalogError(f"there is already a file called {label!r}; give the folder another name with --name")
    folders = FolderCatalog(client.catalog)
    walked = await trio.to_thread.run_sync(walk, root, limiter=client.disk)
    seen = await trio.to_thread.run_sync(folders.seen, label, limiter=client.disk)
    work = _Work(label, root, folders, walked, {}, [], {})
    first_names: dict[tuple[int, int], bytes] = {}
    for found in walked.found:
        if found.kind is not Kind.FILE or not found.size_bytes:
            continue
        first = first_names.setdefault(found.identity, found.path)
        if first != found.path:
            work.same[found.path] = first
            continue
        before = seen.get(found.path)
        if before is not None and _looks(before[0]) == _looks(found):
            work.places[found.path] = before[1]
        else:
            work.new.append(found)
    return work


def _looks(found: Found) -> tuple[object, ...]:
    return found.size_bytes, found.mtime_ns, found.ctime_ns, found.identity


# --- packs ------------------------------------------------------------------------------------------------------------


async def _put_pack(client: Client, work: _Work, pack: Pack, coding: Coding, told: _Sum) -> int:
    """Store a pack, or find it stored; how many of its shares found no node."""
    tries = 0
    while pack.members:
        tries += 1
        strict = tries <= STRICT_TRIES
        name = _pack_name(work, pack)
        old = client.catalog.file(name)
        if old is not None and old.complete:
            work.stored(pack, old.file_id)
            told.add(pack.size_bytes)
            return 0
        stream = PackStream(work.root, pack, strict=strict)
        state = pack.state(work.root) if strict else None
        source = Source(stream, label=str(work.root), state=state, size=pack.size_bytes)
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


def _pack_name(work: _Work, pack: Pack) -> str:
    return f":pack:{pack.digest(work.root).hex()}"


def _again(work: _Work, pack: Pack) -> Pack:
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


class _Sum:
    """Progress over many packs."""

    def __init__(self, outer: Progress, total_bytes: int) -> None:
        self._outer = outer
        self._shares = self._before = 0
        self.done_bytes = 0
        outer.start(total_bytes)

    def start(self, total_bytes: int | None) -> None:  # noqa: ARG002 - the sum is known from the beginning
        """A pack begins."""
        self._before = self._shares

    def advance(self, bytes_done: int, shares_done: int) -> None:
        """So much of this pack is done."""
        self._shares = self._before + shares_done
        self._outer.advance(self.done_bytes + bytes_done, self._shares)

    def add(self, pack_bytes: int) -> None:
        """A pack is done."""
        self.done_bytes += pack_bytes
        self._outer.advance(self.done_bytes, self._shares)


# --- the tree ---------------------------------------------------------------------------------------------------------


async def _put_tree(client: Client, work: _Work, coding: Coding, taken_at: int) -> PutResult:
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


def _items(client: Client, work: _Work, taken_at: int) -> Iterator[Head | Object | Entry]:
    numbers: dict[int, int] = {}
    known = {file.file_id: file for file in client.catalog.files() if file.folder is not None}
    yield Head(taken_at)
    for found in work.walked.found:
        place = work.places.get(found.path)
        if place is not None and place.file_id not in numbers:
            file = known[place.file_id]
            if file.manifest_id is None or file.file_bytes is None:
                raise CatalogError(f"a pack of {work.name!r} is not stored completely; put the folder again")
            numbers[place.file_id] = len(numbers)
            yield Object(ReadCap(file.file_key, file.manifest_id), file.file_bytes)
        yield Entry(
            found.kind,
            found.path,
            found.mode,
            found.mtime_ns,
            size_bytes=found.size_bytes if place else 0,
            object_index=numbers[place.file_id] if place else 0,
            offset=place.offset if place else 0,
            target=found.target,
        )
