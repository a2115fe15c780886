"""The simulated network's state: one SQLite file, one transaction per change.

WAL with synchronous=NORMAL: what is committed survives the death of the process at any instant (only a power cut
may lose the newest transactions). Balances and invoices change together or not at all.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 3

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE node (
    name TEXT PRIMARY KEY, secret BLOB NOT NULL, node_id TEXT NOT NULL UNIQUE, port INTEGER NOT NULL UNIQUE,
    running INTEGER NOT NULL DEFAULT 1 CHECK (running IN (0, 1))
) STRICT;
CREATE TABLE counter (
    node TEXT NOT NULL, name TEXT NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (node, name)
) STRICT;
CREATE TABLE address (
    script TEXT PRIMARY KEY, text TEXT NOT NULL UNIQUE, node TEXT NOT NULL REFERENCES node
) STRICT;
-- height is NULL while the transaction waits in the mempool
CREATE TABLE tx (
    txid TEXT PRIMARY KEY, raw TEXT NOT NULL, height INTEGER, position INTEGER
) STRICT;
CREATE INDEX tx_height ON tx (height);
CREATE TABLE output (
    txid TEXT NOT NULL REFERENCES tx, outnum INTEGER NOT NULL, node TEXT NOT NULL REFERENCES node,
    amount_sat INTEGER NOT NULL CHECK (amount_sat > 0), script TEXT NOT NULL, address TEXT NOT NULL,
    mature_after INTEGER NOT NULL DEFAULT 0, spent_by TEXT, PRIMARY KEY (txid, outnum)
) STRICT;
CREATE INDEX output_unspent ON output (node) WHERE spent_by IS NULL;
-- one row per pair of nodes that know each other; `caller` connected to `callee`
CREATE TABLE link (
    caller TEXT NOT NULL REFERENCES node, callee TEXT NOT NULL REFERENCES node,
    connected INTEGER NOT NULL CHECK (connected IN (0, 1)), PRIMARY KEY (caller, callee)
) STRICT;
CREATE TABLE channel (
    channel_id TEXT PRIMARY KEY, opener TEXT NOT NULL REFERENCES node, acceptor TEXT NOT NULL REFERENCES node,
    funding_txid TEXT NOT NULL REFERENCES tx, funding_outnum INTEGER NOT NULL, capacity_sat INTEGER NOT NULL,
    push_msat INTEGER NOT NULL, public INTEGER NOT NULL, state TEXT NOT NULL, scid TEXT UNIQUE,
    opener_alias TEXT NOT NULL, acceptor_alias TEXT NOT NULL,
    zero_conf INTEGER NOT NULL DEFAULT 0, closer TEXT, close_txid TEXT,
    -- a splice that waits for its block: the new funding, and what it adds to capacity and to the opener's balance
    splice_txid TEXT REFERENCES tx, splice_outnum INTEGER, splicer TEXT, splice_sat INTEGER,
    opener_largest_msat INTEGER NOT NULL, acceptor_largest_msat INTEGER NOT NULL,
    opener_msat INTEGER NOT NULL, opener_min_msat INTEGER NOT NULL, opener_max_msat INTEGER NOT NULL,
    forth_offered INTEGER NOT NULL DEFAULT 0, forth_offered_msat INTEGER NOT NULL DEFAULT 0,
    forth_fulfilled INTEGER NOT NULL DEFAULT 0, forth_fulfilled_msat INTEGER NOT NULL DEFAULT 0,
    back_offered INTEGER NOT NULL DEFAULT 0, back_offered_msat INTEGER NOT NULL DEFAULT 0,
    back_fulfilled INTEGER NOT NULL DEFAULT 0, back_fulfilled_msat INTEGER NOT NULL DEFAULT 0,
    CHECK (opener_msat BETWEEN 0 AND capacity_sat * 1000)
) STRICT;
CREATE TABLE channel_change (
    channel_id TEXT NOT NULL, at REAL NOT NULL, old_state TEXT NOT NULL, new_state TEXT NOT NULL,
    node TEXT NOT NULL, message TEXT NOT NULL
) STRICT;
CREATE INDEX channel_changed ON channel_change (channel_id);
CREATE INDEX channel_opener ON channel (opener);
CREATE INDEX channel_acceptor ON channel (acceptor);
CREATE TABLE invoice (
    node TEXT NOT NULL REFERENCES node, label TEXT NOT NULL, payment_hash TEXT NOT NULL, preimage BLOB NOT NULL,
    payment_secret TEXT NOT NULL, bolt11 TEXT NOT NULL, description TEXT, amount_msat INTEGER,
    status TEXT NOT NULL CHECK (status IN ('unpaid', 'paid', 'expired')), expires_at INTEGER NOT NULL,
    created_index INTEGER NOT NULL, updated_index INTEGER,
    pay_index INTEGER, paid_at INTEGER, received_msat INTEGER,
    PRIMARY KEY (node, label), UNIQUE (node, payment_hash), UNIQUE (node, pay_index),
    CHECK ((status = 'paid') = (pay_index IS NOT NULL))
) STRICT;
CREATE INDEX invoice_unpaid ON invoice (expires_at) WHERE status = 'unpaid';
-- `held` (see payments.py): 'hold' until the control socket releases it, 'refuse' by the payee, 'lost' before sending
CREATE TABLE payment (
    id INTEGER PRIMARY KEY, node TEXT NOT NULL REFERENCES node, payee TEXT NOT NULL, payment_hash TEXT NOT NULL,
    bolt11 TEXT NOT NULL, label TEXT, description TEXT, groupid INTEGER NOT NULL, parts INTEGER NOT NULL,
    amount_msat INTEGER NOT NULL, sent_msat INTEGER NOT NULL, payment_secret TEXT,
    status TEXT NOT NULL CHECK (status IN ('pending', 'complete', 'failed')), held TEXT,
    preimage BLOB, failcode INTEGER, failure TEXT, created_at REAL NOT NULL, completed_at INTEGER,
    created_index INTEGER NOT NULL, updated_index INTEGER
) STRICT;
CREATE INDEX payment_hash ON payment (node, payment_hash);
CREATE INDEX payment_pending ON payment (status) WHERE status = 'pending';
CREATE UNIQUE INDEX payment_once ON payment (node, payment_hash) WHERE status <> 'failed';
-- what is in flight: one row per part and hop; `forth` is from opener to acceptor
CREATE TABLE htlc (
    id INTEGER PRIMARY KEY, payment_id INTEGER NOT NULL REFERENCES payment, part INTEGER NOT NULL,
    channel_id TEXT NOT NULL REFERENCES channel, forth INTEGER NOT NULL CHECK (forth IN (0, 1)),
    amount_msat INTEGER NOT NULL CHECK (amount_msat > 0), expiry INTEGER NOT NULL
) STRICT;
CREATE INDEX htlc_channel ON htlc (channel_id);
CREATE INDEX htlc_payment ON htlc (payment_id);
CREATE TABLE fault (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, node TEXT, peer TEXT, command TEXT, seconds REAL, remaining INTEGER
) STRICT;
"""

Row = sqlite3.Row


class Database:
    """The open state file. Used from trio's thread only: every statement is short."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=5)
        self._connection.row_factory = sqlite3.Row
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in {0, SCHEMA_VERSION}:
            raise ValueError(
                f"{path} was written by another version (schema {version}, this one has {SCHEMA_VERSION}); "
                "start the simulated network in an empty directory"
            )
        if version == 0:
            self._connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")

    def close(self) -> None:
        """Ends the connection; committed state stays."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside are committed together, or none of them. Inside another one it joins that."""
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def all(self, sql: str, *args: Any) -> list[Row]:
        """All rows."""
        return self._connection.execute(sql, args).fetchall()

    def one(self, sql: str, *args: Any) -> Row | None:
        """The first row, or None."""
        row: Row | None = self._connection.execute(sql, args).fetchone()
        return row

    def run(self, sql: str, *args: Any) -> int:
        """Runs a statement; the number of rows it changed."""
        return self._connection.execute(sql, args).rowcount

    def insert(self, table: str, **values: Any) -> int:
        """Inserts a row; its rowid."""
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        sql = f"INSERT INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608  names come from this package
        return self._connection.execute(sql, tuple(values.values())).lastrowid or 0

    def next_index(self, node: str, name: str) -> int:
        """The next value of one of a node's counters (created_index, pay_index, …), from 1 on."""
        row = self.one(
            "INSERT INTO counter VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value",
            node,
            name,
        )
        assert row is not None  # noqa: S101  RETURNING always gives a row here
        return int(row["value"])

    def meta(self, key: str, default: int = 0) -> int:
        """A number that belongs to the network as a whole."""
        row = self.one("SELECT value FROM meta WHERE key = ?", key)
        return default if row is None else int(row["value"])

    def set_meta(self, key: str, value: int) -> None:
        """Writes such a number."""
        self.run("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", key, value)

    @property
    def height(self) -> int:
        """The number of blocks."""
        return self.meta("height")

    def now(self) -> float:
        """Seconds since the epoch by the network's clock, which the control socket can set forward."""
        return time.time() + self.meta("clock_offset_seconds")
