"""Finding what is stored already by its content, before anything is sent: for one file, and for those of a folder.

What is found counts only if it is coded as asked for and sound now: no loss is known of it, and each of its segments,
as their nodes say when asked, lies on at least `happy` of them. Otherwise it is stored anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from lnstore.client.catalog import MANIFEST_SEGMENT, FileEntry, ShareEntry
from lnstore.client.contents import Content, ContentHasher, Contents, Stored, content_key
from lnstore.client.losses import Losses
from lnstore.client.node_errors import NodeError
from lnstore.client.packs import Pack, PackStream
from lnstore.client.progress import NoProgress, Progress, ProgressSum
from lnstore.client.removal import drop_shares
from lnstore.client.segments import segment_sizes
from lnstore.client.source import Source, SourceError
from lnstore.client.tasks import open_tasks
from lnstore.client.upload import NodeShares, PutResult
from lnstore.client.walk import Found
from lnstore_protocol.caps import ReadCap
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import NodeId
from lnstore_protocol.messages import MAX_IDS, HaveShares, HaveSharesReply
from lnstore_protocol.replies import read_held

if TYPE_CHECKING:
    from lnstore.client.files import Client, Coding

QUESTION_SECONDS = 30.0
READ_BYTES = 1 << 20


class Finder:
    """Looks for contents in one run; asks the nodes about each file once."""

    def __init__(self, client: Client, coding: Coding) -> None:
        self._client = client
        self._coding = coding
        self._sound: dict[int, bool] = {}

    async def find(self, content: Content, *, whole: bool = False) -> Stored | None:
        """Where the same content lies (`whole`: as all of a file); None when it has to be stored."""
        for stored in Contents(self._client.catalog).find(content):
            if whole and stored.file.file_bytes != content.size_bytes:
                continue
            if (stored.file.needed, stored.file.total) != (self._coding.needed, self._coding.total):
                continue
            if stored.file.file_id not in self._sound:
                self._sound[stored.file.file_id] = await self._is_sound(stored.file)
            if self._sound[stored.file.file_id]:
                return stored
        return None

    async def _is_sound(self, file: FileEntry) -> bool:
        catalog = self._client.catalog
        lost = {(loss.share.node_id, loss.share.share_id) for loss in Losses(catalog).all(file.file_id)}
        by_node: dict[NodeId, list[ShareEntry]] = {}
        for row in catalog.shares_of(file.file_id):
            if (row.node_id, row.share_id) not in lost:
                by_node.setdefault(row.node_id, []).append(row)
        assert file.file_bytes is not None  # noqa: S101 - for the type checker: it is complete
        segments = range(len(segment_sizes(file.file_bytes, file.needed, file.total)))
        nodes: dict[int, set[NodeId]] = {segment: set() for segment in (MANIFEST_SEGMENT, *segments)}

        async def ask(node_id: NodeId, held: Sequence[ShareEntry]) -> None:
            for at in range(0, len(held), MAX_IDS):
                some = held[at : at + MAX_IDS]
                for row, yes in zip(some, await self._held(node_id, some), strict=True):
                    if yes:
                        nodes[row.segment].add(node_id)

        async with open_tasks() as tasks:
            for node_id, held in by_node.items():
                tasks.start_soon(ask, node_id, held)
        return all(len(holders) >= self._coding.happy for holders in nodes.values())

    async def _held(self, node_id: NodeId, rows: Sequence[ShareEntry]) -> list[bool]:
        """Which of these the node says it holds; none when it does not answer."""
        message = HaveShares(payload=b"".join(row.share_id for row in rows))
        try:
            address = self._client.catalog.node(node_id).address
            reply: HaveSharesReply = await self._client.pool.request(address, message, timeout_seconds=QUESTION_SECONDS)
            return list(read_held(reply.held, len(rows)))
        except (NodeError, RemoteProtocolError):
            return [False] * len(rows)


# --- one file ---------------------------------------------------------------------------------------------------------


async def find_file(client: Client, path: Path, coding: Coding, progress: Progress | None = None) -> Stored | None:
    """A stored file with the content of the one at `path`, which is read to its end. SourceError."""
    key = content_key(client.profile.account_secret)
    told = progress or NoProgress()
    buffer = memoryview(bytearray(READ_BYTES))
    with Source.open(path) as source:
        if source.state is None:
            raise SourceError(f"{path} can be read only once and so not be compared first; put it without --dedupe")
        source.hash_with(key)
        told.start(source.size)
        done = 0
        while filled := await trio.to_thread.run_sync(source.fill, buffer, limiter=client.disk):
            done += filled
            told.advance(done, 0)
        (content,) = source.contents()
    return await Finder(client, coding).find(content, whole=True)


async def name_stored(
    client: Client, path: Path, name: str, coding: Coding, progress: Progress | None
) -> PutResult | None:
    """Give what is stored already another name, without sending anything; None when it is not stored, or not soundly.

    The profile is held for writing meanwhile. SourceError.
    """
    began = trio.current_time()
    old = client.catalog.file(name)
    if old is not None and old.complete:
        return None  # the name is taken, as whoever stores the file will find
    stored = await find_file(client, path, coding, progress)
    if stored is None:
        return None
    file, unneeded = await trio.to_thread.run_sync(
        lambda: Contents(client.catalog).name_again(stored.file, name, now=client.clock.now(), instead_of=old),
        limiter=client.disk,
    )
    await drop_shares(client.pool, client.catalog, unneeded)
    rows = client.catalog.shares_of(file.file_id)
    nodes: dict[NodeId, NodeShares] = {}
    for row in rows:
        tally = nodes.setdefault(row.node_id, NodeShares(client.catalog.node(row.node_id).petname))
        tally.found_shares += 1
    segments = {row.segment for row in rows if row.segment >= 0}
    assert file.manifest_id is not None  # noqa: S101 - for the type checker: it is complete
    assert file.file_bytes is not None  # noqa: S101 - likewise
    return PutResult(
        name=name,
        cap=ReadCap(file.file_key, file.manifest_id),
        bytes=file.file_bytes,
        seconds=trio.current_time() - began,
        needed=file.needed,
        total=file.total,
        segments=len(segments),
        missing_shares=len(segments) * file.total - sum(row.segment >= 0 for row in rows),
        nodes=nodes,
        same_as=stored.file.folder or stored.file.name,
    )


# --- a folder's files -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class SortedOut:
    """New files of a folder: those to be sent, those that are stored, and those that are copies of one to be sent."""

    new: list[Found] = field(default_factory=list)
    stored: dict[bytes, Stored] = field(default_factory=dict)
    copies: list[tuple[Found, Content]] = field(default_factory=list)


async def sort_out(
    client: Client, root: Path, files: Sequence[Found], coding: Coding, progress: Progress | None = None
) -> SortedOut:
    """Read each of these files once and look for its content. What cannot be read, or changes, is to be sent."""
    finder = Finder(client, coding)
    key = content_key(client.profile.account_secret)
    found = SortedOut()
    sending: set[tuple[bytes, int]] = set()
    told = ProgressSum(progress or NoProgress(), sum(file.size_bytes for file in files))
    for file in files:
        content = await trio.to_thread.run_sync(_content_within, root, file, key, limiter=client.disk)
        told.add(file.size_bytes)
        if content is None:
            found.new.append(file)
        elif (stored := await finder.find(content)) is not None:
            found.stored[file.path] = stored
        elif (content.digest, content.size_bytes) in sending:
            found.copies.append((file, content))
        else:
            sending.add((content.digest, content.size_bytes))
            found.new.append(file)
    return found


def _content_within(root: Path, file: Found, key: bytes) -> Content | None:
    """The content of a file that looks as it was found, before and after; None otherwise."""
    stream = PackStream(root, Pack((file,)), strict=True, hasher=ContentHasher(key))
    buffer = memoryview(bytearray(min(READ_BYTES, file.size_bytes)))
    try:
        while stream.readinto(buffer):
            pass
    except SourceError:
        return None
    finally:
        stream.close()
    return stream.contents[0]
