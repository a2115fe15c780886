"""The catalog's backup: an encrypted file on the nodes, and a small signed record at each node that points to it.

What is backed up is a copy of the catalog, without earlier backups of itself, and the settings. The record's value is
sealed under a key of the account secret; its sequence only grows, so the newest one wins and a node that serves an old
one is noticed by asking several. Two backups are kept until every node has taken the newest record, for a node that was
away.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tarfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import ClassVar, Self

import trio
from blake3 import blake3
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from lnstore.client.catalog import CATALOG_FILE, Catalog, FileEntry, NodeEntry
from lnstore.client.files import Client, Coding
from lnstore.client.node_errors import NodeError
from lnstore.client.removal import drop_shares
from lnstore.client.source import Source
from lnstore.config import CLIENT_FILE
from lnstore.errors import ExitCode, LnstoreError
from lnstore_protocol import cbor
from lnstore_protocol.caps import KEY_BYTES, ReadCap
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.ids import AccountId, NodeAddress, ShareId
from lnstore_protocol.messages import PutRecord
from lnstore_protocol.terms import MAX_RECORD_VALUE_BYTES, Record

RECORD_NAME = b"catalog"
FOLDER = ":backup"
"""What the catalog calls the folder that its backups are in: no person can."""

KEPT = 2
RECORD_SECONDS = 30.0
_POINTER_VERSION = 1
_COPY_BYTES = 1 << 20


class BackupFailed(LnstoreError):
    """The catalog could not be backed up; the text says why and what to do."""

    exit_code: ClassVar[ExitCode] = ExitCode.NODE


@dataclass(frozen=True, slots=True)
class Pointer:
    """Where a backup is: the capability that reads it, when it was made, and nodes that hold it."""

    cap: ReadCap = field(repr=False)
    made_at: int
    nodes: tuple[NodeAddress, ...]

    def sealed(self, account_secret: bytes) -> bytes:
        """The record's value; as many of the nodes as fit into it."""
        nodes = [str(address) for address in self.nodes]
        while True:
            body = {0: _POINTER_VERSION, 2: self.cap.file_key + bytes(self.cap.manifest_id), 4: self.made_at, 6: nodes}
            value = bytes(_box(account_secret).encrypt(cbor.encode(body)))
            if len(value) <= MAX_RECORD_VALUE_BYTES:
                return value
            nodes.pop()

    @classmethod
    def opened(cls, value: bytes, account_secret: bytes) -> Self:
        """What a record's value says; ValueError when it is not one of this account's."""
        try:
            body = cbor.as_map(cbor.decode(_box(account_secret).decrypt(value), what="pointer"))
        except (CryptoError, RemoteProtocolError) as exc:
            raise ValueError("the record does not open with this account's key") from exc
        match body:
            case {0: 1, 2: bytes(named), 4: int(made_at), 6: list(nodes)} if len(named) == KEY_BYTES + ShareId.SIZE:
                cap = ReadCap(named[:KEY_BYTES], ShareId(named[KEY_BYTES:]))
                return cls(cap, made_at, tuple(NodeAddress.parse(text) for text in nodes))
            case _:
                raise ValueError("the record was written by a newer lnstore; update this one")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackedUp:
    """A backup that was made: its size, the nodes that took the record, and those that did not with why."""

    made_at: int
    bytes: int
    told: tuple[NodeEntry, ...]
    not_told: tuple[tuple[NodeEntry, str], ...]


async def back_up(client: Client) -> BackedUp:
    """Store the catalog, then point to it. BackupFailed when no node took the record; else what Client.put raises."""
    config = client.profile.config
    with client.profile.writing():
        before = [file for file in client.catalog.files() if file.folder == FOLDER]
        sequence = max(client.clock.now(), *(int(file.name.rpartition(":")[2]) + 1 for file in before), 0)
        packed = await trio.to_thread.run_sync(_packed_copy, client, limiter=client.disk)
        try:
            with FileIO(packed, "rb") as copy:
                stored = await client.store(
                    Source(copy, label="the catalog's copy", size=packed.stat().st_size),
                    f"{FOLDER}:{sequence}",
                    Coding(config.needed, config.total, config.happy),
                    None,
                    folder=FOLDER,
                )
        finally:
            packed.unlink()
        holders = {share.node_id for share in client.catalog.shares_of(client.catalog.named(stored.name).file_id)}
        nodes = client.catalog.nodes()
        pointer = Pointer(stored.cap, client.clock.now(), tuple(n.address for n in nodes if n.node_id in holders))
        told, not_told = await _tell(client, [n for n in nodes if n.agreement is not None], pointer, sequence)
        if not told:
            why = "\n".join(f"  {node.petname}: {reason}" for node, reason in not_told)
            raise BackupFailed(f"no node took the record that points to the backup; try again later\n{why}")
        await _remove_old(client, before, keep=0 if not not_told else KEPT - 1)
    return BackedUp(made_at=pointer.made_at, bytes=stored.bytes, told=told, not_told=not_told)


def last_backup(catalog: Catalog) -> FileEntry | None:
    """The newest complete backup in the catalog."""
    made = [file for file in catalog.files() if file.folder == FOLDER and file.complete]
    return max(made, key=lambda file: int(file.name.rpartition(":")[2]), default=None)


async def _tell(
    client: Client, nodes: Sequence[NodeEntry], pointer: Pointer, sequence: int
) -> tuple[tuple[NodeEntry, ...], tuple[tuple[NodeEntry, str], ...]]:
    profile = client.profile
    record = Record(
        account_id=AccountId(profile.identity.public_key),
        name=RECORD_NAME,
        sequence=sequence,
        value=pointer.sealed(profile.account_secret),
    ).sign(profile.identity)
    told: list[NodeEntry] = []
    not_told: list[tuple[NodeEntry, str]] = []

    async def tell(node: NodeEntry) -> None:
        try:
            await client.pool.request(node.address, PutRecord(record=record), timeout_seconds=RECORD_SECONDS)
        except NodeError as exc:
            not_told.append((node, exc.reason))
        else:
            told.append(node)

    async with trio.open_nursery() as tasks:
        for node in nodes:
            tasks.start_soon(tell, node)
    return tuple(told), tuple(not_told)


async def _remove_old(client: Client, before: Sequence[FileEntry], *, keep: int) -> None:
    """Remove earlier backups but for the newest `keep` complete ones, once the new one is pointed to."""
    complete = sorted((f for f in before if f.complete), key=lambda f: int(f.name.rpartition(":")[2]), reverse=True)
    for file in [*(f for f in before if not f.complete), *complete[keep:]]:
        unneeded = await trio.to_thread.run_sync(client.catalog.remove_file, file.file_id, limiter=client.disk)
        await drop_shares(client.pool, client.catalog, unneeded)


# --- the copy ---------------------------------------------------------------------------------------------------------


def _packed_copy(client: Client) -> Path:
    """A compressed copy of the catalog as it is, its backups given up in it. Blocking."""
    directory = client.profile.directory
    copy, packed = directory / "backup.db", directory / "backup.tar.gz"
    for path in (copy, packed):
        path.unlink(missing_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with closing(sqlite3.connect(copy)) as target, closing(sqlite3.connect(directory / CATALOG_FILE)) as source:
            source.backup(target)
        with Catalog.open(copy) as catalog:
            for file in catalog.files():
                if file.folder == FOLDER:
                    catalog.remove_file(file.file_id)
        with closing(sqlite3.connect(copy)) as compact:
            compact.execute("PRAGMA journal_mode = DELETE")
            compact.execute("VACUUM")
        with tarfile.open(packed, "w:gz", compresslevel=3) as archive:
            archive.add(copy, CATALOG_FILE)
            archive.add(directory / CLIENT_FILE, CLIENT_FILE)
    finally:
        copy.unlink()
    return packed


def unpack_copy(packed: Path, directory: Path) -> None:
    """Write a backup's catalog and settings into `directory`, over what is there; ValueError when it is none. Blocking.

    Nothing else of it is looked at: it is our own, and yet what it names is written to a disk.
    """
    try:
        with tarfile.open(packed, "r:gz") as archive:
            for name in (CATALOG_FILE, CLIENT_FILE):
                member = archive.extractfile(name)
                if member is None:
                    raise ValueError("the backup is incomplete")
                path = directory / name
                path.unlink(missing_ok=True)
                with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as plain:  # noqa: PTH123 -- the mode must hold from the first moment
                    shutil.copyfileobj(member, plain, _COPY_BYTES)
                    plain.flush()
                    os.fsync(plain.fileno())
    except (OSError, EOFError, KeyError, tarfile.TarError) as exc:
        raise ValueError(f"the backup cannot be unpacked: {exc}") from exc


def _box(account_secret: bytes) -> SecretBox:
    return SecretBox(blake3(account_secret, derive_key_context="lnstore catalog pointer v1").digest())
