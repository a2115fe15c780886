"""The library for trio programs: `lnstore.Client` stores and reads files and folders of a profile.

    import lnstore, trio

    async def main():
        async with lnstore.Client() as client:
            stored = await client.put("photos.tar")
            async with client.open(stored.cap) as stream:
                async for piece in stream:
                    ...

    trio.run(main)

Nodes, channels and rent are looked after on the command line. Errors derive from lnstore.errors.LnstoreError.
"""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from lnstore.client import catalog_changes
from lnstore.client.files import Client as Files
from lnstore.client.files import Coding, open_client
from lnstore.client.folder_catalog import FolderCatalog
from lnstore.client.folder_get import get_entry, get_folder
from lnstore.client.folder_put import put_folder
from lnstore.client.naming import find_stored
from lnstore.client.profile import Profile, default_directory
from lnstore.client.progress import Progress
from lnstore.client.sink import Sink
from lnstore.client.source import Readable
from lnstore.client.streams import ChannelSink, FileStream, StreamSource
from lnstore.client.tasks import open_tasks
from lnstore_protocol.trees import Kind, order


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored. `cap` is the secret text that reads it; `problems` says what in a folder is not as it was."""

    name: str
    cap: str = field(repr=False)
    bytes: int
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """Something stored: `kind` is "file", "directory" or "symlink". `changed_at` is in Unix seconds."""

    name: str
    kind: str
    bytes: int
    changed_at: float
    complete: bool = True


class Client:
    """A profile, open for work: `async with lnstore.Client(directory) as client`.

    `profile` defaults to $LNSTORE_HOME, else to the platform's data directory, as on the command line. ProfileError.
    """

    def __init__(self, profile: str | os.PathLike[str] | None = None) -> None:
        self._directory = default_directory() if profile is None else Path(profile).expanduser()
        self._stack = AsyncExitStack()
        self._files: Files | None = None

    async def __aenter__(self) -> Self:
        self._files = await self._stack.enter_async_context(open_client(Profile.load(self._directory)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._files = None
        return await self._stack.__aexit__(kind, error, trace)

    # --- storing ----------------------------------------------------------------------------------------------------

    async def put(
        self,
        source: str | os.PathLike[str] | bytes | Readable | AsyncIterable[bytes],
        name: str | None = None,
        *,
        needed: int | None = None,
        total: int | None = None,
        happy: int | None = None,
        progress: Progress | None = None,
        dedupe: bool = False,
    ) -> Stored:
        """Store a path (a file or a folder), bytes, a binary stream, or an async stream of bytes.

        All but a path need a `name`. The coding defaults to the profile's. With `dedupe` a path is read first, and what
        is stored already with the same content is not sent again. Raises what the command line reports:
        SourceError, TooFewNodes, PutFailed, CatalogError, CodingInvalid, ProfileBusy.
        """
        files = self._opened
        readable: Path | Readable
        match source:
            case str() | os.PathLike():
                readable = Path(source)
                if readable.is_dir():
                    config = files.profile.config
                    coding = Coding(needed or config.needed, total or config.total, happy or config.happy)
                    made = await put_folder(files, readable, name=name, coding=coding, progress=progress, dedupe=dedupe)
                    problems = [str(problem) for problem in made.problems]
                    return Stored(made.snapshot.folder, made.cap.to_text(), made.snapshot.plain_bytes, problems)
            case bytes():
                readable = io.BytesIO(source)
            case AsyncIterable():
                readable = StreamSource(source)
            case _:
                readable = source
        result = await files.put(
            readable, name=name, needed=needed, total=total, happy=happy, progress=progress, dedupe=dedupe
        )
        return Stored(result.name, result.cap.to_text(), result.bytes)

    # --- reading ----------------------------------------------------------------------------------------------------

    async def get(
        self,
        name: str,
        target: str | os.PathLike[str],
        *,
        at: int | None = None,
        progress: Progress | None = None,
    ) -> Path:
        """Write a stored file or folder to `target`, which appears once it is whole; its path.

        `name` is a name, FOLDER/PATH, or a capability, alone or with a path behind it. Raises CapInvalid, CatalogError,
        FileUnreadable, SinkError.
        """
        path = Path(target)
        async with find_stored(self._opened, name, at=at) as stored:
            if stored.tree is None:
                await self._opened.get(stored.cap, path, progress=progress)
            elif stored.tree.find(stored.within).kind is Kind.DIRECTORY:
                await get_folder(self._opened, stored.tree, path, within=stored.within, progress=progress)
            else:
                await get_entry(self._opened, stored.tree, stored.within, path, progress=progress)
        return path

    @asynccontextmanager
    async def open(
        self, name: str, *, offset: int = 0, length: int | None = None, at: int | None = None
    ) -> AsyncIterator[FileStream]:
        """A stored file, or `length` bytes of it from `offset` on, as a stream; as `get` raises, out of this block."""
        send, receive = trio.open_memory_channel[bytes](1)
        async with open_tasks() as tasks, receive:

            async def feed() -> None:
                with send:  # without a checkpoint, at which the reader's leaving would take the place of an error
                    await self._feed(name, ChannelSink(send), offset=offset, length=length, at=at)

            tasks.start_soon(feed)
            yield FileStream(receive)
            tasks.cancel_scope.cancel()

    async def read(self, name: str, *, offset: int = 0, length: int | None = None, at: int | None = None) -> bytes:
        """The bytes of a stored file, or of a range of it, in memory."""
        async with self.open(name, offset=offset, length=length, at=at) as stream:
            return b"".join([piece async for piece in stream])

    async def _feed(self, name: str, sink: Sink, *, offset: int, length: int | None, at: int | None) -> None:
        async with find_stored(self._opened, name, at=at) as stored:
            if stored.tree is None:
                await self._opened.download(stored.cap).run(sink, offset=offset, length=length)
            else:
                await get_entry(self._opened, stored.tree, stored.within, sink, offset=offset, length=length)

    # --- the catalog ------------------------------------------------------------------------------------------------

    async def ls(self, folder: str | None = None, *, at: int | None = None) -> list[Item]:
        """What is stored, or what is in a folder, one level deep, with names relative to it; a file lists itself."""
        if folder is None:
            return self._all()
        async with find_stored(self._opened, folder, at=at) as stored:
            if stored.tree is None:
                manifest = await self._opened.download(stored.cap).manifest()
                known = self._opened.catalog.file(folder)
                return [Item(folder, "file", manifest.file_bytes, known.created_at if known else 0)]
            first = stored.tree.find(stored.within)
            depth = len(order(first.path)) + 1
            below = [entry for entry in stored.tree.entries(stored.within) if len(order(entry.path)) == depth]
            return [
                Item(
                    os.fsdecode(order(entry.path)[-1]), entry.kind.name.lower(), entry.size_bytes, entry.mtime_ns / 1e9
                )
                for entry in (below if first.kind is Kind.DIRECTORY else [first])
            ]

    def _all(self) -> list[Item]:
        files = [
            Item(file.name, "file", file.file_bytes or 0, file.created_at, file.complete) for file in self._opened.ls()
        ]
        newest = {shot.folder: shot for shot in FolderCatalog(self._opened.catalog).snapshots()}
        folders = [Item(name, "directory", shot.plain_bytes, shot.taken_at) for name, shot in newest.items()]
        return sorted([*files, *folders], key=lambda item: item.name)

    async def remove(self, *names: str) -> None:
        """Give up files, and folders with all their snapshots; if one is neither, CatalogError and nothing."""
        await catalog_changes.remove(self._opened, names)

    def rename(self, old: str, new: str) -> None:
        """Give a file or folder another name; CatalogError."""
        catalog_changes.rename(self._opened, old, new)

    @property
    def _opened(self) -> Files:
        if self._files is None:
            raise RuntimeError("use the client in its block: async with lnstore.Client() as client")
        return self._files
