"""What a person calls a stored thing: a name, a folder with a path in it, or a capability, alone or with a path."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from lnstore.client.catalog import Catalog, FileEntry
from lnstore.client.files import CapInvalid, Client, cap_of, parse_read_cap
from lnstore.client.folder_catalog import FolderCatalog
from lnstore.client.folder_get import Tree, tree_of_cap, tree_of_snapshot
from lnstore_protocol.caps import READ_PREFIX, VERIFY_PREFIX, ReadCap, VerifyCap, parse_cap


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored thing. `tree` is there for a folder, and `within` is the path in it; `name` is what to call a copy."""

    name: str
    cap: ReadCap = field(repr=False)
    tree: Tree | None = None
    within: str = ""


@asynccontextmanager
async def find_stored(client: Client, text: str, *, at: int | None = None) -> AsyncIterator[Stored]:
    """What `text` names, of a folder the newest snapshot (that is not after `at`), for the length of the block.

    Raises CapInvalid, CatalogError, FileUnreadable.
    """
    folder = FolderCatalog(client.catalog).folder_of(text)
    if client.catalog.file(text) is None and folder is not None:
        name, within = folder
        snapshot = FolderCatalog(client.catalog).newest(name, at=at)
        cap = cap_of(client.catalog.by_id(snapshot.tree_file_id))
        yield Stored(within or name, cap, await tree_of_snapshot(client, snapshot), within)
        return
    if at is not None:
        raise CapInvalid(f"{text!r} is no folder of yours; only folders have snapshots")
    if client.catalog.file(text) is not None:
        yield Stored(text, read_cap_of(client.catalog, text))
        return
    written, _, within = text.partition("/")
    cap = read_cap_of(client.catalog, written)
    async with tree_of_cap(client, cap) as tree:
        if tree is None and within:
            raise CapInvalid("this capability reads a file, there is no path in it")
        yield Stored(within, cap, tree, within)


def files_called(catalog: Catalog, name: str) -> list[FileEntry]:
    """The file of this name, or what a folder of this name is made of: trees and packs. CatalogError."""
    if (file := catalog.file(name)) is not None and file.folder is None:
        return [file]
    parts = [part for part in catalog.files() if part.folder == name.rstrip("/")]
    return parts or [catalog.named(name)]


def read_cap_of(catalog: Catalog, text: str) -> ReadCap:
    """The read capability that `text` is, or that the file or (newest snapshot of the) folder of this name has.

    CapInvalid.
    """
    folders = FolderCatalog(catalog)
    if folders.snapshots(text):
        return cap_of(catalog.by_id(folders.newest(text).tree_file_id))
    if (known := catalog.file(text)) is not None:
        if not known.complete:
            raise CapInvalid(f"{text!r} was not stored completely; put it again")
        return cap_of(known)
    if text.lower().startswith(f"{READ_PREFIX}1"):
        return parse_read_cap(text)
    raise CapInvalid(
        f"there is no file {text!r} in your catalog; see lnstore ls, or give a capability ({READ_PREFIX}1…)"
    )


def verify_cap_of(catalog: Catalog, text: str) -> VerifyCap | None:
    """The verify capability that `text` is or that its read capability gives; None when it is a name. CapInvalid."""
    written = text.lower().startswith((f"{READ_PREFIX}1", f"{VERIFY_PREFIX}1"))
    if not written or catalog.file(text) is not None:
        return None
    try:
        cap = parse_cap(text)
    except ValueError as exc:
        raise CapInvalid(f"this capability cannot be used: {exc}; copy it again") from None
    return cap.verify_cap() if isinstance(cap, ReadCap) else cap
