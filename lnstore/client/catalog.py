"""The client's catalog: which nodes it knows, which files it stored and where every share of them lies.

One SQLite file per profile, through the standard library because start-up is measured. The rule that keeps payment and
repair safe: a share is written here only after its node acknowledged it and taken out before it is dropped there, so
what the catalog has is always a subset of what the nodes have.

Threads: a Catalog is one connection behind one lock, so any thread may call any method. Everything that writes waits
for the disk (synchronous=FULL) and is called from a worker thread by whoever must not wait; reads are short and may be
called directly. Other processes may have the same catalog open; writers wait BUSY_SECONDS for each other.
Payments and postings live in the same file and are read and written by the modules that know their rules, through
`transaction` and `rows`.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from lnstore.client.schema import STEPS, statements
from lnstore.errors import ExitCode, LnstoreError
from lnstore_protocol.ids import LightningId, NodeAddress, NodeId, ShareId
from lnstore_protocol.receipts import agreement_hash
from lnstore_protocol.terms import Agreement

CATALOG_FILE = "catalog.db"
BUSY_SECONDS = 5
MANIFEST_SEGMENT = -1
"""The segment number under which a file's manifest share is listed."""


class CatalogError(LnstoreError):
    """The catalog cannot be used, or does not have what was asked for; the text says what to do."""

    exit_code: ClassVar[ExitCode] = ExitCode.CONFIGURATION


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEntry:
    """A node the client knows. `terms`, `agreement` and `invitation` are the signed encodings, None without any.

    The invitation is one that no account was opened with yet. `retiring`: its shares are moved away.
    """

    node_id: NodeId
    address: NodeAddress
    petname: str
    lightning_id: LightningId | None
    terms: bytes | None = field(repr=False)
    agreement: bytes | None = field(repr=False)
    invitation: bytes | None = field(repr=False)
    added_at: int
    retiring: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A stored file, or one whose upload is not finished (`complete` False; then without manifest and size).

    `folder` names the folder that it is a tree or a pack of; None for a file by itself. `verify_only`: somebody else's
    file that is looked after; its key is the verify key, its bytes are those of the ciphertext, and the shares in the
    catalog are those stored for it here, beside whatever its owner has.
    """

    file_id: int
    name: str
    file_key: bytes = field(repr=False)
    manifest_id: ShareId | None
    file_bytes: int | None
    needed: int
    total: int
    happy: int
    created_at: int
    complete: bool
    folder: str | None = None
    verify_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareEntry:
    """A share that a node acknowledged. `token_end`: the first rent index the node has no storage token for."""

    node_id: NodeId
    share_id: ShareId
    file_id: int
    segment: int
    number: int
    size_bytes: int
    token_end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """What tells a file on disk from a changed one. A key is reused only for the very same content: hence ctime too."""

    path: bytes
    size: int
    mtime_ns: int
    ctime_ns: int


class Catalog:
    """See the module's text. Made by `open`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path) -> Self:
        """The catalog at `path`, made (mode 0600) or brought to the newest schema; CatalogError when it cannot be."""
        try:
            # Only where there is none: closing any descriptor of the file would drop the locks that another connection
            # of this process holds on it (SQLite, "How To Corrupt An SQLite Database File", section 2.2).
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as exc:
            raise CatalogError(f"the catalog {path} cannot be opened: {exc}") from exc
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            catalog = cls(connection)
            catalog._migrate(path)
        except sqlite3.Error as exc:
            connection.close()
            raise CatalogError(f"the catalog {path} cannot be used: {exc}") from exc
        except BaseException:
            connection.close()
            raise
        return catalog

    def close(self) -> None:
        """Close the file; the catalog is not usable afterwards."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction, durable when the block ends, undone when it raises. Blocks nest into one.

        CatalogError when the disk or another process does not let it.
        """
        with self._lock:
            if self._connection.in_transaction:
                yield self._connection
                return
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as exc:
                self._connection.rollback()
                if isinstance(exc, sqlite3.OperationalError):
                    raise CatalogError(f"the catalog cannot be written: {exc}; is the disk full?") from exc
                raise

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._lock:
            return self._connection.execute(sql, parameters).fetchall()

    def _migrate(self, path: Path) -> None:
        with self.transaction() as db:
            version: int = db.execute("PRAGMA user_version").fetchone()[0]
            if version > len(STEPS):
                raise CatalogError(f"the catalog {path} is from a newer lnstore (schema {version}); update lnstore")
            for step in STEPS[version:]:
                for statement in statements(step):
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {len(STEPS)}")

    # --- nodes ------------------------------------------------------------------------------------------------------

    def add_node(
        self, address: NodeAddress, *, petname: str, lightning_id: LightningId | None, added_at: int
    ) -> NodeEntry:
        """Remember a node, or the new address of a known one; CatalogError when another node has the petname."""
        with self.transaction() as db:
            try:
                db.execute(
                    "INSERT INTO nodes (node_id, address, petname, lightning_id, added_at) VALUES (?, ?, ?, ?, ?) "
                    "ON CONFLICT (node_id) DO UPDATE SET address = excluded.address, petname = excluded.petname, "
                    "lightning_id = coalesce(excluded.lightning_id, lightning_id)",
                    (bytes(address.node_id), str(address), petname, _blob(lightning_id), added_at),
                )
            except sqlite3.IntegrityError:
                raise CatalogError(f"another node is already called {petname!r}; choose another name") from None
        return self.node(address.node_id)

    def keep_agreement(self, node_id: NodeId, agreement: Agreement) -> None:
        """Keep an agreement beside the one that the account was opened with; one that is there already stays."""
        with self.transaction() as db:
            db.execute(
                "INSERT INTO renewals (node_id, anchor_at, from_period, agreement) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                (bytes(node_id), agreement.anchor_at, agreement.from_period, agreement.encoded),
            )
            _note_agreement(db, node_id, agreement.encoded)

    def kept_agreements(self, node_id: NodeId, anchor_at: int) -> list[bytes]:
        """What keep_agreement kept for the account of that anchor, by first period."""
        rows = self.rows(
            "SELECT agreement FROM renewals WHERE node_id = ? AND anchor_at = ? ORDER BY from_period",
            (bytes(node_id), anchor_at),
        )
        return [encoded for (encoded,) in rows]

    def set_agreement(self, node_id: NodeId, *, terms: bytes, agreement: bytes | None) -> None:
        """Remember a node's signed terms, and the agreement with it where there is one."""
        with self.transaction() as db:
            db.execute(
                "UPDATE nodes SET terms = ?, agreement = coalesce(?, agreement) WHERE node_id = ?",
                (terms, agreement, bytes(node_id)),
            )
            if agreement is not None:
                _note_agreement(db, node_id, agreement)

    def set_invitation(self, node_id: NodeId, invitation: bytes | None) -> None:
        """Remember the invitation to open an account with, or forget the one there is."""
        with self.transaction() as db:
            db.execute("UPDATE nodes SET invitation = ? WHERE node_id = ?", (invitation, bytes(node_id)))

    def nodes(self) -> list[NodeEntry]:
        """All known nodes, oldest first."""
        return [_node(row) for row in self.rows(f"{_NODES} ORDER BY added_at, petname")]

    def node(self, node_id: NodeId) -> NodeEntry:
        """The node of this id; CatalogError when it is not known."""
        for row in self.rows(f"{_NODES} WHERE node_id = ?", (bytes(node_id),)):
            return _node(row)
        raise CatalogError(f"node {node_id.hex()} is not known; add it with: lnstore nodes add lnstore://…")

    def find_node(self, text: str) -> NodeEntry:
        """The node a person means: its petname, its address, or its id or the only id that begins so."""
        nodes = self.nodes()
        exact = [n for n in nodes if text in (n.petname, str(n.address))]
        found = exact or [n for n in nodes if len(text) >= 4 and n.node_id.hex().startswith(text.lower())]
        match found:
            case [node]:
                return node
            case []:
                known = ", ".join(n.petname for n in nodes) or "none yet; add one with: lnstore nodes add lnstore://…"
                raise CatalogError(f"there is no node {text!r}; known nodes: {known}")
            case _:
                raise CatalogError(f"{text!r} could be {', '.join(n.petname for n in found)}; write more of it")

    # --- files and uploads ------------------------------------------------------------------------------------------

    def begin_file(
        self,
        *,
        name: str,
        file_key: bytes,
        needed: int,
        total: int,
        happy: int,
        source: SourceState | None,
        now: int,
        folder: str | None = None,
    ) -> FileEntry:
        """A new, incomplete file; `source` None means it cannot be resumed. CatalogError when the name is taken."""
        with self.transaction() as db:
            try:
                file_id = db.execute(
                    "INSERT INTO files (name, file_key, needed, total, happy, created_at, folder) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (name, file_key, needed, total, happy, now, folder),
                ).lastrowid
            except sqlite3.IntegrityError:
                raise CatalogError(f"there is already a file called {name!r}; give this one another name") from None
            if source is not None:
                db.execute(
                    "INSERT INTO uploads (path, size, mtime_ns, ctime_ns, file_id, started_at) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (source.path, source.size, source.mtime_ns, source.ctime_ns, file_id, now),
                )
        return self.named(name)

    def interrupted(self, source: SourceState, *, name: str, needed: int, total: int) -> FileEntry | None:
        """The incomplete file that a put of the same unchanged source began, to be continued with its key."""
        for (file_id,) in self.rows(
            "SELECT file_id FROM uploads WHERE path = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ?",
            (source.path, source.size, source.mtime_ns, source.ctime_ns),
        ):
            file = self.by_id(file_id)
            if (file.name, file.needed, file.total) == (name, needed, total):
                return file
        return None

    def complete_file(self, file_id: int, *, manifest_id: ShareId, file_bytes: int) -> FileEntry:
        """The file is stored; there is nothing left to resume."""
        with self.transaction() as db:
            db.execute(
                "UPDATE files SET manifest_id = ?, file_bytes = ?, complete = 1 WHERE file_id = ?",
                (bytes(manifest_id), file_bytes, file_id),
            )
            db.execute("DELETE FROM uploads WHERE file_id = ?", (file_id,))
        return self.by_id(file_id)

    def not_resumable(self, file_id: int) -> None:
        """The source changed under the put: its key must not be used again."""
        with self.transaction() as db:
            db.execute("DELETE FROM uploads WHERE file_id = ?", (file_id,))

    def remove_file(self, file_id: int) -> dict[NodeId, list[ShareId]]:  # MB-W4
        """Forget a file and its shares; by node, the shares that no other file needs: drop those there afterwards."""
        with self.transaction() as db:
            unneeded = db.execute(
                "SELECT node_id, share_id FROM shares AS mine WHERE file_id = ?1 AND NOT EXISTS (SELECT 1 FROM shares "
                "WHERE node_id = mine.node_id AND share_id = mine.share_id AND file_id <> ?1)",
                (file_id,),
            ).fetchall()
            db.execute("DELETE FROM shares WHERE file_id = ?", (file_id,))
            db.executemany("INSERT OR IGNORE INTO given_up (node_id, share_id) VALUES (?, ?)", unneeded)
            db.executemany("DELETE FROM lost_shares WHERE node_id = ? AND share_id = ?", unneeded)
            db.execute("DELETE FROM files WHERE file_id = ?", (file_id,))
        by_node: dict[NodeId, list[ShareId]] = {}
        for node_id, share_id in unneeded:
            by_node.setdefault(NodeId(node_id), []).append(ShareId(share_id))
        return by_node

    def files(self) -> list[FileEntry]:
        """All files, complete or not, by name."""
        return [_file(row) for row in self.rows(f"{_FILES} ORDER BY name")]

    def file(self, name: str) -> FileEntry | None:
        """The file of this name."""
        for row in self.rows(f"{_FILES} WHERE name = ?", (name,)):
            return _file(row)
        return None

    def by_id(self, file_id: int) -> FileEntry:
        """A file of the catalog by its number there."""
        return _file(self.rows(f"{_FILES} WHERE file_id = ?", (file_id,))[0])

    def by_manifest(self, manifest_id: ShareId) -> FileEntry | None:
        """The file of this manifest."""
        rows = self.rows(f"{_FILES} WHERE manifest_id = ?", (bytes(manifest_id),))
        return _file(rows[0]) if rows else None

    def named(self, name: str) -> FileEntry:
        """The file of this name; CatalogError when there is none."""
        if (file := self.file(name)) is None:
            raise CatalogError(f"there is no file {name!r} in your catalog; see: lnstore ls")
        return file

    def rename_file(self, file_id: int, name: str) -> None:
        """Give a file another name; CatalogError when it is taken."""
        with self.transaction() as db:
            try:
                db.execute("UPDATE files SET name = ? WHERE file_id = ?", (name, file_id))
            except sqlite3.IntegrityError:
                raise CatalogError(f"there is already something called {name!r}; remove it first") from None

    # --- shares -----------------------------------------------------------------------------------------------------

    def given_up_at(self, node_id: NodeId) -> set[ShareId]:
        """Shares that `remove_file` gave up at this node, whether it has heard of it or not."""
        rows = self.rows("SELECT share_id FROM given_up WHERE node_id = ?", (bytes(node_id),))
        return {ShareId(share_id) for (share_id,) in rows}

    def add_shares(self, shares: Iterable[ShareEntry]) -> None:
        """Record acknowledged shares, in one transaction; again is no error."""
        shares = list(shares)
        with self.transaction() as db:
            db.executemany(
                "DELETE FROM given_up WHERE node_id = ? AND share_id = ?",
                [(bytes(s.node_id), bytes(s.share_id)) for s in shares],
            )
            db.executemany(
                "INSERT OR REPLACE INTO shares (node_id, share_id, file_id, segment, number, size_bytes, token_end) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (bytes(s.node_id), bytes(s.share_id), s.file_id, s.segment, s.number, s.size_bytes, s.token_end)
                    for s in shares
                ],
            )

    def used_up_at(self, node_id: NodeId, t: int) -> list[ShareId]:
        """The shares at a node that have no storage token for index `t`, each once."""
        query = "SELECT DISTINCT share_id FROM shares WHERE node_id = ? AND token_end <= ?"
        return [ShareId(row[0]) for row in self.rows(query, (bytes(node_id), t))]

    def least_token_end(self, node_id: NodeId) -> int | None:
        """The first index for which some share at a node has no token; None when there is no share."""
        end: int | None = self.rows("SELECT min(token_end) FROM shares WHERE node_id = ?", (bytes(node_id),))[0][0]
        return end

    def tokens_renewed(self, node_id: NodeId, share_ids: Iterable[ShareId], token_end: int) -> None:  # MB-R38
        """The node has storage tokens of these shares up to `token_end` now, for whichever files need them."""
        with self.transaction() as db:
            db.executemany(
                "UPDATE shares SET token_end = max(token_end, ?) WHERE node_id = ? AND share_id = ?",
                [(token_end, bytes(node_id), bytes(share_id)) for share_id in share_ids],
            )

    def shares_of(self, file_id: int) -> list[ShareEntry]:
        """The shares of a file, manifest first, by segment and number."""
        return [share_entry(r) for r in self.rows(f"{_SHARES} WHERE file_id = ? ORDER BY segment, number", (file_id,))]

    def held_bytes(self) -> int:
        """What all nodes hold for all files, each share at a node once."""
        query = "SELECT coalesce(sum(size_bytes), 0) FROM (SELECT DISTINCT node_id, share_id, size_bytes FROM shares)"
        return int(self.rows(query)[0][0])

    def share_ids_at(self, node_id: NodeId) -> bytes:
        """The ids of all shares at a node, ascending, each once, 32 bytes each."""
        rows = self.rows("SELECT DISTINCT share_id FROM shares WHERE node_id = ? ORDER BY share_id", (bytes(node_id),))
        return b"".join(row[0] for row in rows)

    def shares_at(self, node_id: NodeId) -> list[ShareEntry]:
        """Every share at a node, ascending by id; one that several files need is there once for each."""
        return [share_entry(r) for r in self.rows(f"{_SHARES} WHERE node_id = ? ORDER BY share_id", (bytes(node_id),))]


# --- rows -------------------------------------------------------------------------------------------------------------

_NODES = "SELECT node_id, address, petname, lightning_id, terms, agreement, invitation, added_at, retiring FROM nodes"
_FILES = (
    "SELECT file_id, name, file_key, manifest_id, file_bytes, needed, total, happy, created_at, complete, folder, "
    "verify_only FROM files"
)
SHARE_COLUMNS = "node_id, share_id, file_id, segment, number, size_bytes, token_end"
_SHARES = f"SELECT {SHARE_COLUMNS} FROM shares"  # noqa: S608 -- our own names


def _node(row: tuple[Any, ...]) -> NodeEntry:
    node_id, address, petname, lightning_id, terms, agreement, invitation, added_at, retiring = row
    return NodeEntry(
        node_id=NodeId(node_id),
        address=NodeAddress.parse(address),
        petname=petname,
        lightning_id=None if lightning_id is None else LightningId(lightning_id),
        terms=terms,
        agreement=agreement,
        invitation=invitation,
        added_at=added_at,
        retiring=bool(retiring),
    )


def _file(row: tuple[Any, ...]) -> FileEntry:
    file_id, name, file_key, manifest_id, file_bytes, needed, total, happy, created_at, complete, folder, care = row
    return FileEntry(
        file_id=file_id,
        name=name,
        file_key=file_key,
        manifest_id=None if manifest_id is None else ShareId(manifest_id),
        file_bytes=file_bytes,
        needed=needed,
        total=total,
        happy=happy,
        created_at=created_at,
        complete=bool(complete),
        folder=folder,
        verify_only=bool(care),
    )


def share_entry(row: tuple[Any, ...]) -> ShareEntry:
    """A row of SHARE_COLUMNS."""
    node_id, share_id, file_id, segment, number, size_bytes, token_end = row
    return ShareEntry(
        node_id=NodeId(node_id),
        share_id=ShareId(share_id),
        file_id=file_id,
        segment=segment,
        number=number,
        size_bytes=size_bytes,
        token_end=token_end,
    )


def _blob(value: bytes | None) -> bytes | None:
    return None if value is None else bytes(value)


def _note_agreement(db: sqlite3.Connection, node_id: NodeId, agreement: bytes) -> None:
    """Keep it with all there ever were: receipts of before are judged by them."""
    db.execute(
        "INSERT INTO agreements (agreement_hash, node_id, encoded) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (bytes(agreement_hash(agreement)), bytes(node_id), agreement),
    )
