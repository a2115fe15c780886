"""From twelve words and one node's address to the accounts, the catalog and the files.

The account key comes from the words. The node's record, opened with it, names the newest backup that it knows of and
other nodes; those are asked as well, and the greatest sequence wins. A node that serves an older record than another is
named: it rolled back, or was away when the newest was made. The profile appears once it is whole.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import trio

from lnstore.client.backup import FOLDER, RECORD_NAME, Pointer, unpack_copy
from lnstore.client.catalog import CATALOG_FILE, MANIFEST_SEGMENT, Catalog, ShareEntry
from lnstore.client.download import Download, FileUnreadable
from lnstore.client.keyfile import ProfileError, seed_of
from lnstore.client.node_errors import NodeError, NodeRefused
from lnstore.client.pool import NodePool, open_pool
from lnstore.client.profile import Profile, init_profile
from lnstore.client.sink import FileSink
from lnstore.client.transport import OpenStream, open_tcp
from lnstore.client.wallet import Wallet
from lnstore.config import CLIENT_FILE, ClientConfig
from lnstore.errors import ExitCode, LnstoreError
from lnstore_protocol import manifest as manifests
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, NodeAddress, NodeId, ShareId
from lnstore_protocol.manifest import Manifest
from lnstore_protocol.messages import MAX_IDS, TOKENS_PER_SHARE, GetRecord, GetRecordReply, HaveShares, HaveSharesReply
from lnstore_protocol.replies import read_held
from lnstore_protocol.terms import Record

ASK_SECONDS = 30.0


class NotRecovered(LnstoreError):
    """The backup could not be found or read; the text says where it was looked for, and that nothing was made."""

    exit_code: ClassVar[ExitCode] = ExitCode.NODE


@dataclass(frozen=True, slots=True)
class Answer:
    """What one node said when it was asked for the record."""

    address: NodeAddress
    sequence: int | None = None
    pointer: Pointer | None = field(default=None, repr=False)
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A profile that is there again.

    `older` are nodes that serve a record older than the newest, `silent` those that gave none, with why.
    """

    profile: Profile
    made_at: int
    files: int
    folders: int
    older: tuple[Answer, ...]
    silent: tuple[Answer, ...]


async def recover(
    directory: Path,
    words: str,
    addresses: Sequence[NodeAddress],
    *,
    passphrase: str | None = None,
    open_stream: OpenStream = open_tcp,
    **settings: Any,
) -> Recovered:
    """Make the profile in `directory` from words and the addresses of one or more of its nodes.

    Raises ProfileError (there is one already; the words are none), NotRecovered.
    """
    if directory.exists() and any(directory.iterdir()):
        raise ProfileError(f"{directory} is not empty; recover into another directory, or move it away")
    identity = Identity(seed_of(words))
    part = directory.with_name(f".{directory.name}.recovering")
    shutil.rmtree(part, ignore_errors=True)
    try:
        profile = init_profile(part, words=words, passphrase=passphrase, **settings)
        async with open_pool(identity, open_stream=open_stream) as pool:
            newest, older, silent = await _newest(pool, profile, addresses)
            manifest = await _fetch(pool, newest, addresses, part)
            stored = tomllib.loads((part / CLIENT_FILE).read_text())
            (part / CLIENT_FILE).write_text(ClientConfig.template(**(stored | settings)))
            with Catalog.open(part / CATALOG_FILE) as catalog:
                await _enter_backup(pool, catalog, newest, manifest)
                files = catalog.files()
        part.rename(directory)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    assert newest.pointer is not None  # noqa: S101 - for the type checker: the newest answer has one
    return Recovered(
        profile=Profile.load(directory, ask=lambda: passphrase or ""),
        made_at=newest.pointer.made_at,
        files=sum(file.folder is None for file in files),
        folders=len({file.folder for file in files if file.folder not in {None, FOLDER}}),
        older=older,
        silent=silent,
    )


# --- the record -------------------------------------------------------------------------------------------------------


async def _newest(
    pool: NodePool, profile: Profile, addresses: Sequence[NodeAddress]
) -> tuple[Answer, tuple[Answer, ...], tuple[Answer, ...]]:  # MB-R30
    """The newest record among the nodes given and those that they name; then who has an older one, and who none."""
    answers: dict[NodeId, Answer] = {}
    asked = list(addresses)
    while asked:
        async with trio.open_nursery() as tasks:
            for address in asked:
                tasks.start_soon(_ask, pool, profile, address, answers)
        named = [address for answer in answers.values() if answer.pointer for address in answer.pointer.nodes]
        asked = [address for address in _distinct(named) if address.node_id not in answers]
    found = [answer for answer in answers.values() if answer.sequence is not None]
    silent = tuple(answer for answer in answers.values() if answer.sequence is None)
    if not found:
        lines = "\n".join(f"  {answer.address}: {answer.fault}" for answer in silent)
        raise NotRecovered(
            f"no backup of this account was found; are these its words, and was lnstore backup ever run?\n{lines}"
        )
    best = max(found, key=lambda answer: answer.sequence or 0)
    return best, tuple(answer for answer in found if answer.sequence != best.sequence), silent


async def _ask(pool: NodePool, profile: Profile, address: NodeAddress, answers: dict[NodeId, Answer]) -> None:
    account_id = AccountId(profile.identity.public_key)
    try:
        reply: GetRecordReply = await pool.request(
            address, GetRecord(account_id=account_id, name=RECORD_NAME), timeout_seconds=ASK_SECONDS
        )
        record = Record.decode(reply.record)
        pointer = _checked(record, profile)
    except NodeRefused as exc:
        unknown = exc.code is ErrorCode.RECORD_UNKNOWN
        answers[address.node_id] = Answer(address, fault="has no backup's record" if unknown else exc.reason)
    except NodeError as exc:
        answers[address.node_id] = Answer(address, fault=exc.reason)
    except (RemoteProtocolError, ValueError) as exc:
        answers[address.node_id] = Answer(address, fault=f"gave a wrong record: {exc}")
    else:
        answers[address.node_id] = Answer(address, record.sequence, pointer)


def _checked(record: Record, profile: Profile) -> Pointer:  # MB-R29
    if (record.account_id, record.name) != (profile.account_id, RECORD_NAME):
        raise ValueError("it is another record than was asked for")
    return Pointer.opened(record.value, profile.account_secret)


def _distinct(addresses: Iterable[NodeAddress]) -> list[NodeAddress]:
    return list({address.node_id: address for address in addresses}.values())


# --- the backup -------------------------------------------------------------------------------------------------------


async def _fetch(pool: NodePool, newest: Answer, addresses: Sequence[NodeAddress], part: Path) -> Manifest:
    """Read the backup and put it in the place of the fresh catalog and settings; its manifest."""
    assert newest.pointer is not None  # noqa: S101 - for the type checker: the newest answer has one
    nodes = {address.node_id: address for address in [*addresses, *newest.pointer.nodes]}
    download = Download(pool, newest.pointer.cap, addresses=nodes, known={})
    packed = part / "backup.tar.gz"
    try:
        manifest = await download.manifest()
        await download.run(FileSink(packed))
        await trio.to_thread.run_sync(unpack_copy, packed, part)
    except (FileUnreadable, ValueError) as exc:
        raise NotRecovered(
            f"the backup was found but cannot be read, and nothing was made: {exc}\nTry again, with the addresses of "
            "more nodes; reading is paid from the deposit there"
        ) from exc
    packed.unlink()
    return manifest


async def _enter_backup(pool: NodePool, catalog: Catalog, newest: Answer, manifest: Manifest) -> None:
    """The copy does not know the file that it came from: enter it, with what each node holds of it."""
    assert newest.pointer is not None  # noqa: S101 - for the type checker: the newest answer has one
    cap = newest.pointer.cap
    file = catalog.begin_file(
        name=f"{FOLDER}:{newest.sequence}",
        file_key=cap.file_key,
        needed=manifest.needed,
        total=manifest.total,
        happy=manifest.needed,
        source=None,
        now=newest.pointer.made_at,
        folder=FOLDER,
    )
    blob_bytes = len(manifests.encode(manifest, cap.file_key))
    wanted = [(cap.manifest_id, MANIFEST_SEGMENT, 0, blob_bytes)]
    for segment, shares in enumerate(manifest.segments):
        wanted += [(share_id, segment, number, shares.share_bytes) for number, share_id in enumerate(shares.share_ids)]
    held: list[ShareEntry] = []

    async def ask(node_id: NodeId, address: NodeAddress) -> None:
        # The backup was sent right after the copy was made: its tokens begin at the next proof, or later.
        first_index = Wallet(catalog).standing(node_id, anchor_at=0).next_proof
        for at in range(0, len(wanted), MAX_IDS):
            some = wanted[at : at + MAX_IDS]
            payload = b"".join(share_id for share_id, *_ in some)
            try:
                reply: HaveSharesReply = await pool.request(
                    address, HaveShares(payload=payload), timeout_seconds=ASK_SECONDS
                )
                bits = read_held(reply.held, len(some))
            except (NodeError, RemoteProtocolError):
                return  # what it holds of the backup is not known any more, and left alone
            held.extend(
                ShareEntry(
                    node_id=node_id,
                    share_id=ShareId(share_id),
                    file_id=file.file_id,
                    segment=segment,
                    number=number,
                    size_bytes=size,
                    token_end=first_index + TOKENS_PER_SHARE,
                )
                for there, (share_id, segment, number, size) in zip(bits, some, strict=True)
                if there
            )

    async with trio.open_nursery() as tasks:
        for node in catalog.nodes():
            if node.agreement is not None:
                tasks.start_soon(ask, node.node_id, node.address)
    with catalog.transaction():
        catalog.add_shares(held)
        catalog.complete_file(file.file_id, manifest_id=cap.manifest_id, file_bytes=manifest.file_bytes)
