"""What a put of a folder has to do: what is there, what of it is stored already, and what is to be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from lnstore.client.catalog import CatalogError
from lnstore.client.dedupe import sort_out
from lnstore.client.files import Client, Coding, checked_name
from lnstore.client.folder_catalog import FolderCatalog, Place
from lnstore.client.packs import Pack, plan_packs
from lnstore.client.walk import Found, Problem, Walk, walk
from lnstore_protocol.trees import Entry, Kind, encode


@dataclass(slots=True)
class Work:
    """One put of a folder: what was found, where bytes are known to be, which files are new."""

    name: str
    root: Path
    folders: FolderCatalog
    walked: Walk
    places: dict[bytes, Place]
    new: list[Found]
    same: dict[bytes, bytes]
    """Further names of one inode, by path: the path under which it is stored."""
    same_files: int = 0
    named: dict[int, int] = field(default_factory=dict)
    """Files outside of folders, by number: the number of their second name inside this one."""

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


async def prepare(client: Client, root: Path, name: str | None) -> Work:
    """What is in the folder, and which of its files look as when they were stored. SourceError, CatalogError."""
    label = checked_name((name or root.resolve().name).rstrip("/"))
    if client.catalog.file(label) is not None:
        raise CatalogError(f"there is already a file called {label!r}; give the folder another name with --name")
    folders = FolderCatalog(client.catalog)
    walked = await trio.to_thread.run_sync(walk, root, limiter=client.disk)
    seen = await trio.to_thread.run_sync(folders.seen, label, limiter=client.disk)
    work = Work(label, root, folders, walked, {}, [], {})
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


def pack_name(work: Work, pack: Pack) -> str:
    """What a pack is called in the catalog."""
    return f":pack:{pack.digest(work.root).hex()}"


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


async def plan_folder(
    client: Client, root: Path, *, name: str | None = None, dedupe: Coding | None = None
) -> FolderPlan:
    """What `put_folder` would do now, with `dedupe` in that coding; nothing is stored. SourceError, CatalogError."""
    work = await prepare(client, root, name)
    if dedupe is not None:
        work.new = (await sort_out(client, root, work.new, dedupe)).new
    packs = [pack for pack in plan_packs(work.new) if not _is_stored(client, work, pack)]
    files = [found for found in work.walked.found if found.kind is Kind.FILE]
    return FolderPlan(
        files=len(files),
        plain_bytes=sum(found.size_bytes for found in files),
        sent_bytes=sum(pack.size_bytes for pack in packs),
        objects=(*(pack.size_bytes for pack in packs), _tree_bytes(work)),
        problems=work.walked.problems,
    )


def _is_stored(client: Client, work: Work, pack: Pack) -> bool:
    """Whether an interrupted put has stored the pack already."""
    old = client.catalog.file(pack_name(work, pack))
    return old is not None and old.complete


def _tree_bytes(work: Work) -> int:
    """About the size of the tree: as if its packs were many and large."""
    size = 0
    for f in work.walked.found:
        index, offset = (1 << 16, 1 << 31) if f.size_bytes else (0, 0)
        size += len(encode(Entry(f.kind, f.path, f.mode, f.mtime_ns, f.size_bytes, index, offset, f.target)))
    return size
