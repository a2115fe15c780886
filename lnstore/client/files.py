"""Files of a profile: put, get and ls, as the command line and the demonstration use them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import trio

from lnstore.client.catalog import Catalog, CatalogError, FileEntry, NodeEntry
from lnstore.client.contacts import Contacts
from lnstore.client.contents import content_key
from lnstore.client.dedupe import name_stored
from lnstore.client.delegation_store import delegation_for
from lnstore.client.download import Download, FileUnreadable, GetResult
from lnstore.client.encode import TokenKeys
from lnstore.client.erasure import MAX_TOTAL
from lnstore.client.fetch import PATIENCE_SECONDS
from lnstore.client.folder_catalog import FolderCatalog
from lnstore.client.pool import NodePool, open_pool
from lnstore.client.profile import Profile
from lnstore.client.progress import Progress
from lnstore.client.remembered import remembered_manifest
from lnstore.client.removal import drop_shares
from lnstore.client.scores import Score, Scores
from lnstore.client.segments import demand_bytes
from lnstore.client.sink import FileSink, Sink, StreamSink, Writable
from lnstore.client.source import Readable, Source, SourceChanged, SourceError
from lnstore.client.standing import Fit, TooFewNodes, check_enough, check_room, paid_for, trusted
from lnstore.client.standing_cache import Standings
from lnstore.client.transport import CONNECT_SECONDS, OpenStream, open_tcp
from lnstore.client.upload import SHARE_SECONDS, PutResult, Upload
from lnstore.clock import clock_for
from lnstore.errors import ExitCode, LnstoreError
from lnstore.memory import reuse_freed_memory
from lnstore.ports import Clock
from lnstore_protocol import caps
from lnstore_protocol.caps import ReadCap
from lnstore_protocol.delegation import encode_chain
from lnstore_protocol.ids import NodeId, ShareId
from lnstore_protocol.manifest import PLAIN_FILE


class CapInvalid(LnstoreError):
    """The capability cannot be used to read."""

    exit_code: ClassVar[ExitCode] = ExitCode.DATA


class CodingInvalid(LnstoreError):
    """These numbers of shares make no erasure code."""

    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class Coding:
    """Any `needed` of `total` shares give a segment back; a put succeeds with `happy` of them. CodingInvalid."""

    needed: int
    total: int
    happy: int

    def __post_init__(self) -> None:
        if not 1 <= self.needed <= self.happy <= self.total <= MAX_TOTAL:
            given = f"--needed {self.needed}, --happy {self.happy}, --total {self.total}"
            raise CodingInvalid(f"1 ≤ needed ≤ happy ≤ total ≤ {MAX_TOTAL} must hold; these are {given}")


class Client:
    """The files of one profile. Its catalog and pool may be shared with what pays for them.

    `share_seconds` bounds one share on its way to a node, `patience_seconds` when a reader asks somebody else as well.
    """

    def __init__(
        self,
        profile: Profile,
        catalog: Catalog,
        pool: NodePool,
        clock: Clock,
        *,
        share_seconds: float = SHARE_SECONDS,
        patience_seconds: tuple[float, float] = PATIENCE_SECONDS,
    ) -> None:
        self.profile = profile
        self.catalog = catalog
        self.pool = pool
        self.clock = clock
        self._share_seconds = share_seconds
        self._patience_seconds = patience_seconds
        self.disk = trio.CapacityLimiter(1)
        self.standings = Standings(pool, catalog)

    # --- put --------------------------------------------------------------------------------------------------------

    async def put(
        self,
        source: Path | Readable,
        *,
        name: str | None = None,
        needed: int | None = None,
        total: int | None = None,
        happy: int | None = None,
        progress: Progress | None = None,
        dedupe: bool = False,
    ) -> PutResult:
        """Store a file, or a stream under a name; the profile's coding unless told otherwise.

        An interrupted put of the same unchanged file is continued. With `dedupe` a file is read first, and only named
        again where the same content is stored already. Raises TooFewNodes, PutFailed, SourceError,
        CatalogError (the name is taken), CodingInvalid, ProfileBusy.
        """
        config = self.profile.config
        coding = Coding(needed or config.needed, total or config.total, happy or config.happy)
        with self.profile.writing():
            label = checked_name(name or (source.name if isinstance(source, Path) else ""))
            if FolderCatalog(self.catalog).snapshots(label):
                raise CatalogError(
                    f"there is already a folder called {label!r}; give the file another name with --name"
                )
            if dedupe and not isinstance(source, Path):
                raise SourceError(
                    "a stream can be read only once and so not be compared first; put it without --dedupe"
                )
            if (
                dedupe
                and isinstance(source, Path)
                and (same := await name_stored(self, source, label, coding, progress))
            ):
                return same
            with _opened(source) as opened:
                opened.hash_with(content_key(self.profile.account_secret))
                return await self.store(opened, label, coding, progress)

    async def store(  # F-W1
        self,
        source: Source,
        name: str,
        coding: Coding,
        progress: Progress | None,
        *,
        folder: str | None = None,
        kind: int = PLAIN_FILE,
    ) -> PutResult:
        """Store a source under a name that is free, or that a put of just this source was interrupted under.

        The profile is held for writing meanwhile. `folder` and `kind` say of which folder it is a part.
        """
        needed, total, happy = coding.needed, coding.total, coding.happy
        await self._clear_away(source, name, coding)
        file = self._interrupted(source, name, coding)
        resumed = file is not None
        nodes = self.catalog.nodes()
        scores = Scores(self.catalog).all([node.node_id for node in nodes], self.clock.now())
        fit = await self._fit(nodes, scores, coding, None if resumed else source.size)
        if file is None:
            file = await trio.to_thread.run_sync(
                lambda: self.catalog.begin_file(
                    name=name,
                    file_key=secrets.token_bytes(caps.KEY_BYTES),
                    needed=needed,
                    total=total,
                    happy=happy,
                    source=source.state,
                    now=self.clock.now(),
                    folder=folder,
                ),
                limiter=self.disk,
            )
        upload = Upload(
            self.pool,
            self.catalog,
            file=file,
            happy=happy,
            fit=fit,
            keys=TokenKeys.of(self.profile.account_secret),
            resumed=resumed,
            kind=kind,
            doubtful=[node_id for node_id, score in scores.items() if score.doubtful],
            clock=self.clock,
            progress=progress,
            share_seconds=self._share_seconds,
        )
        try:
            stored = await upload.run(source)
        except BaseException as exc:
            self.standings.doubt()
            if isinstance(exc, SourceChanged):
                self.catalog.not_resumable(file.file_id)
            raise
        for node_id, tally in stored.nodes.items():
            self.standings.wrote(node_id, tally.share_bytes, tally.charged_msat)
            if tally.fault is not None:
                self.standings.doubt()
        return stored

    async def _fit(
        self, nodes: Sequence[NodeEntry], scores: Mapping[NodeId, Score], coding: Coding, new_bytes: int | None
    ) -> list[Fit]:
        """Where a file may be stored, with room for `new_bytes` if it is known what that takes. TooFewNodes."""
        if new_bytes is None:  # the room is found out about as it is taken
            self.standings.doubt()
        while True:
            known = self.standings.is_fresh
            fit, unfit = trusted(*await self.standings.ask(nodes, enough=coding.happy), scores)
            check_enough(fit, unfit, coding.happy)
            try:
                if new_bytes is not None:
                    each = demand_bytes(new_bytes, coding.needed, coding.total, len(fit))
                    check_room(fit, each, coding.happy)
                    fit, unfit = paid_for(fit, unfit, each, self.clock.now())
                    check_enough(fit, unfit, coding.happy)
            except TooFewNodes:
                if not known:
                    raise
                self.standings.doubt()
            else:
                return fit

    async def _clear_away(self, source: Source, name: str, coding: Coding) -> None:
        """Make way under this name for a put that cannot be continued: give back what it had stored."""
        old = self.catalog.file(name)
        if old is None:
            return
        if old.complete:
            raise CatalogError(f"there is already a file called {name!r}; give this one another name with --name")
        if self._interrupted(source, name, coding) is not None:
            return
        unneeded = await trio.to_thread.run_sync(self.catalog.remove_file, old.file_id, limiter=self.disk)
        await drop_shares(self.pool, self.catalog, unneeded)

    def _interrupted(self, source: Source, name: str, coding: Coding) -> FileEntry | None:
        if source.state is None:
            return None
        return self.catalog.interrupted(source.state, name=name, needed=coding.needed, total=coding.total)

    # --- get and ls -------------------------------------------------------------------------------------------------

    async def get(
        self,
        cap: str | ReadCap,
        sink: Path | Writable,
        *,
        progress: Progress | None = None,
        offset: int = 0,
        length: int | None = None,
    ) -> GetResult:
        """Read a file, or `length` bytes of it from `offset` on, to a path or a stream.

        A path has the whole or, after an error, what it had before. Raises CapInvalid, FileUnreadable, SinkError.
        """
        output: Sink = FileSink(sink) if isinstance(sink, Path) else StreamSink(sink)
        parsed = parse_read_cap(cap) if isinstance(cap, str) else cap
        return await self.download(parsed, progress).run(output, offset=offset, length=length)

    def download(self, cap: ReadCap, progress: Progress | None = None) -> Download:
        """A transfer of a file from all nodes that are known, those first that are known to hold it. FileUnreadable."""
        nodes = self.catalog.nodes()
        if not nodes:
            raise FileUnreadable("no node is known to read from; add one with: lnstore nodes add lnstore://…")
        known: dict[ShareId, list[NodeId]] = {}
        file = self.catalog.by_manifest(cap.manifest_id)
        shares = self.catalog.shares_of(file.file_id) if file else []
        for entry in shares:
            known.setdefault(entry.share_id, []).append(entry.node_id)
        return Download(
            self.pool,
            cap,
            addresses={n.node_id: n.address for n in nodes},
            known=known,
            manifest=remembered_manifest(file, shares, cap) if file else None,
            progress=progress,
            share_seconds=self._share_seconds,
            patience_seconds=self._patience_seconds,
        )

    def ls(self) -> list[FileEntry]:
        """All files of the profile that are no part of a folder, complete or not, by name."""
        return [file for file in self.catalog.files() if file.folder is None]


@asynccontextmanager
async def open_client(
    profile: Profile,
    *,
    open_stream: OpenStream = open_tcp,
    connect_seconds: float = CONNECT_SECONDS,
    share_seconds: float = SHARE_SECONDS,
    patience_seconds: tuple[float, float] = PATIENCE_SECONDS,
) -> AsyncIterator[Client]:
    """A client with its own catalog and connections, closed at the end of the block."""
    reuse_freed_memory()
    with profile.open_catalog() as catalog:

        def chain_for(node_id: NodeId) -> bytes | None:
            entry = delegation_for(catalog, node_id)
            return None if entry is None else encode_chain(entry.chain)

        clock = clock_for(profile.config.clock_file)
        contacts = Contacts(catalog, clock)
        try:
            async with open_pool(
                profile.identity,
                connect_seconds=connect_seconds,
                open_stream=open_stream,
                chain_for=chain_for,
                note_contact=contacts.note,
            ) as pool:
                yield Client(
                    profile,
                    catalog,
                    pool,
                    clock,
                    share_seconds=share_seconds,
                    patience_seconds=patience_seconds,
                )
        finally:
            contacts.flush()


def cap_of(file: FileEntry) -> ReadCap:
    """The capability that reads a complete file; ValueError for one that is not, CapInvalid for another's file."""
    if file.verify_only:
        raise CapInvalid(f"{file.name} is somebody else's file that you look after; it cannot be read")
    if file.manifest_id is None:
        raise ValueError(f"{file.name} is not stored completely")
    return ReadCap(file.file_key, file.manifest_id)


def parse_read_cap(text: str) -> ReadCap:
    """The read capability in `text`; CapInvalid says what is wrong with it, without repeating it."""
    try:
        cap = caps.parse_cap(text)
    except ValueError as exc:
        raise CapInvalid(f"this capability cannot be used: {exc}; copy it again") from None
    if not isinstance(cap, ReadCap):
        raise CapInvalid(f"this capability only verifies; reading takes the one that begins with {caps.READ_PREFIX}1")
    return cap


def _opened(source: Path | Readable) -> Source:
    return Source.open(source) if isinstance(source, Path) else Source(source, label="the input")


def checked_name(name: str) -> str:
    """`name` if a file or folder can be called so; CatalogError."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise CatalogError("the file's name is not valid text; give it another name with --name") from None
    if not name:
        raise CatalogError("a stream has no name; give it one with --name")
    return name
