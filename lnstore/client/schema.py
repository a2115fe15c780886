"""The catalog's schema, as the steps that lead to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

STEPS: tuple[str, ...] = (
    # 1: the first schema
    """
    CREATE TABLE nodes (
        node_id BLOB PRIMARY KEY CHECK (length(node_id) = 32),
        address TEXT NOT NULL,
        petname TEXT NOT NULL UNIQUE,
        lightning_id BLOB CHECK (length(lightning_id) = 33),
        terms BLOB,
        agreement BLOB,
        invitation BLOB,
        added_at INTEGER NOT NULL,
        retiring INTEGER NOT NULL DEFAULT 0 CHECK (retiring IN (0, 1))
    ) STRICT;
    CREATE TABLE renewals (
        node_id BLOB NOT NULL,
        anchor_at INTEGER NOT NULL,
        from_period INTEGER NOT NULL CHECK (from_period >= 0),
        agreement BLOB NOT NULL,
        PRIMARY KEY (node_id, anchor_at, from_period)
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER renewals_are_not_changed BEFORE UPDATE ON renewals
        BEGIN SELECT RAISE(ABORT, 'renewals are append-only'); END;
    CREATE TABLE files (
        file_id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        file_key BLOB NOT NULL CHECK (length(file_key) = 32),
        manifest_id BLOB CHECK (length(manifest_id) = 32),
        file_bytes INTEGER CHECK (file_bytes >= 0),
        needed INTEGER NOT NULL CHECK (needed >= 1),
        total INTEGER NOT NULL CHECK (total >= happy),
        happy INTEGER NOT NULL CHECK (happy >= needed),
        created_at INTEGER NOT NULL,
        complete INTEGER NOT NULL DEFAULT 0 CHECK (complete IN (0, 1)),
        folder TEXT,
        verify_only INTEGER NOT NULL DEFAULT 0 CHECK (verify_only IN (0, 1)),
        CHECK (complete = 0 OR (manifest_id IS NOT NULL AND file_bytes IS NOT NULL))
    ) STRICT;
    CREATE INDEX files_by_manifest ON files (manifest_id) WHERE manifest_id IS NOT NULL;
    CREATE TABLE shares (
        node_id BLOB NOT NULL,
        share_id BLOB NOT NULL CHECK (length(share_id) = 32),
        file_id INTEGER NOT NULL REFERENCES files,
        segment INTEGER NOT NULL CHECK (segment >= -1),
        number INTEGER NOT NULL CHECK (number >= 0),
        size_bytes INTEGER NOT NULL CHECK (size_bytes > 0),
        token_end INTEGER NOT NULL,
        PRIMARY KEY (node_id, share_id, file_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX shares_by_file ON shares (file_id, segment);
    CREATE TABLE contents (
        digest BLOB NOT NULL CHECK (length(digest) = 32),
        size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
        file_id INTEGER NOT NULL REFERENCES files ON DELETE CASCADE,
        offset INTEGER NOT NULL CHECK (offset >= 0),
        PRIMARY KEY (digest, file_id, offset)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX contents_by_file ON contents (file_id);
    CREATE TABLE given_up (
        node_id BLOB NOT NULL,
        share_id BLOB NOT NULL CHECK (length(share_id) = 32),
        PRIMARY KEY (node_id, share_id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE node_events (
        event_id INTEGER PRIMARY KEY,
        node_id BLOB NOT NULL CHECK (length(node_id) = 32),
        at INTEGER NOT NULL,
        happening TEXT NOT NULL,
        fault TEXT,
        shares INTEGER NOT NULL CHECK (shares >= 0),
        reference TEXT NOT NULL,
        UNIQUE (node_id, reference)
    ) STRICT;
    CREATE TABLE node_contacts (
        node_id BLOB NOT NULL CHECK (length(node_id) = 32),
        hour_at INTEGER NOT NULL CHECK (hour_at % 3600 = 0),
        answered INTEGER NOT NULL CHECK (answered >= 0),
        failed INTEGER NOT NULL CHECK (failed >= 0),
        PRIMARY KEY (node_id, hour_at)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE node_prices (
        price_id INTEGER PRIMARY KEY,
        node_id BLOB NOT NULL CHECK (length(node_id) = 32),
        seen_at INTEGER NOT NULL,
        rent_msat_per_gib_month INTEGER NOT NULL CHECK (rent_msat_per_gib_month >= 0),
        egress_msat_per_gib INTEGER NOT NULL CHECK (egress_msat_per_gib >= 0),
        ingress_msat_per_gib INTEGER NOT NULL CHECK (ingress_msat_per_gib >= 0)
    ) STRICT;
    CREATE INDEX node_prices_by_node ON node_prices (node_id, price_id);
    CREATE TABLE lost_shares (
        node_id BLOB NOT NULL,
        share_id BLOB NOT NULL CHECK (length(share_id) = 32),
        fault TEXT NOT NULL,
        found_at INTEGER NOT NULL,
        PRIMARY KEY (node_id, share_id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE uploads (
        upload_id INTEGER PRIMARY KEY,
        path BLOB NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        ctime_ns INTEGER NOT NULL,
        file_id INTEGER NOT NULL UNIQUE REFERENCES files ON DELETE CASCADE,
        started_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE snapshots (
        snapshot_id INTEGER PRIMARY KEY,
        folder TEXT NOT NULL,
        tree_file_id INTEGER NOT NULL UNIQUE REFERENCES files,
        taken_at INTEGER NOT NULL,
        entries INTEGER NOT NULL CHECK (entries >= 1),
        plain_bytes INTEGER NOT NULL CHECK (plain_bytes >= 0)
    ) STRICT;
    CREATE INDEX snapshots_by_folder ON snapshots (folder, taken_at);
    CREATE TABLE snapshot_packs (
        snapshot_id INTEGER NOT NULL REFERENCES snapshots ON DELETE CASCADE,
        file_id INTEGER NOT NULL REFERENCES files,
        PRIMARY KEY (snapshot_id, file_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX snapshot_packs_by_file ON snapshot_packs (file_id);
    CREATE TABLE seen (
        folder TEXT NOT NULL,
        path BLOB NOT NULL,
        size_bytes INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        ctime_ns INTEGER NOT NULL,
        device INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        file_id INTEGER NOT NULL REFERENCES files ON DELETE CASCADE,
        offset INTEGER NOT NULL CHECK (offset >= 0),
        PRIMARY KEY (folder, path)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX seen_by_file ON seen (file_id);
    CREATE TABLE payments (
        payment_id INTEGER PRIMARY KEY,
        node_id BLOB NOT NULL,
        purpose INTEGER NOT NULL,
        idx INTEGER NOT NULL,
        bolt11 TEXT NOT NULL,
        payment_hash BLOB NOT NULL CHECK (length(payment_hash) = 32),
        amount_msat INTEGER NOT NULL CHECK (amount_msat >= 0),
        fee_limit_msat INTEGER NOT NULL DEFAULT 0 CHECK (fee_limit_msat >= 0),
        fee_msat INTEGER CHECK (fee_msat >= 0),
        state TEXT NOT NULL CHECK (state IN ('pending', 'unknown', 'settled', 'failed')),
        from_at INTEGER NOT NULL,
        until_at INTEGER NOT NULL,
        capacity_bytes INTEGER NOT NULL,
        shares INTEGER NOT NULL DEFAULT 0,
        sampled INTEGER NOT NULL DEFAULT 0,
        token_index INTEGER,
        sample_hash BLOB NOT NULL CHECK (length(sample_hash) = 32),
        preimage BLOB CHECK (length(preimage) = 32),
        created_at INTEGER NOT NULL,
        settled_at INTEGER,
        CHECK ((purpose = 0) = (token_index IS NOT NULL)),
        CHECK ((amount_msat = 0) = (bolt11 = ''))
    ) STRICT;
    CREATE UNIQUE INDEX payments_by_invoice ON payments (bolt11) WHERE bolt11 <> '';
    CREATE INDEX payments_by_node ON payments (node_id, purpose, idx);
    CREATE TABLE agreements (
        agreement_hash BLOB PRIMARY KEY CHECK (length(agreement_hash) = 32),
        node_id BLOB NOT NULL CHECK (length(node_id) = 32),
        encoded BLOB NOT NULL
    ) STRICT;
    CREATE TABLE receipts (
        node_id BLOB NOT NULL CHECK (length(node_id) = 32),
        number INTEGER NOT NULL CHECK (number >= 0),
        encoded BLOB NOT NULL,
        acknowledgement BLOB,
        acknowledged INTEGER NOT NULL DEFAULT 0 CHECK (acknowledged IN (0, 1)),
        received_at INTEGER NOT NULL,
        PRIMARY KEY (node_id, number),
        CHECK (acknowledged = 0 OR acknowledgement IS NOT NULL)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE shrinks (
        shrink_id INTEGER PRIMARY KEY,
        node_id BLOB NOT NULL CHECK (length(node_id) = 32),
        capacity_bytes INTEGER NOT NULL CHECK (capacity_bytes > 0),
        growths INTEGER NOT NULL CHECK (growths >= 0),
        from_period INTEGER CHECK (from_period >= 0),
        asked_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX shrinks_by_node ON shrinks (node_id);
    CREATE TABLE challenges (
        node_id BLOB NOT NULL CHECK (length(node_id) = 32),
        token_index INTEGER NOT NULL,
        period INTEGER NOT NULL,
        expected BLOB NOT NULL CHECK (length(expected) % 32 = 0),
        shares INTEGER NOT NULL,
        revealed_at INTEGER NOT NULL,
        state TEXT NOT NULL DEFAULT 'revealed'
            CHECK (state IN ('revealed', 'failed', 'failed at no price', 'abandoned')),
        PRIMARY KEY (node_id, token_index)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE postings (
        posting_id INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        kind TEXT NOT NULL,
        debit TEXT NOT NULL,
        credit TEXT NOT NULL,
        amount_msat INTEGER NOT NULL CHECK (amount_msat > 0),
        reference TEXT NOT NULL UNIQUE,
        CHECK (debit <> credit)
    ) STRICT;
    CREATE TABLE agent_jobs (
        job TEXT PRIMARY KEY,
        runs INTEGER NOT NULL CHECK (runs >= 1),
        last_at INTEGER NOT NULL,
        last_ok_at INTEGER,
        failures INTEGER NOT NULL CHECK (failures >= 0),
        failing_since INTEGER,
        unanswered_since INTEGER,
        result TEXT NOT NULL,
        CHECK ((failures = 0) = (failing_since IS NULL)),
        CHECK (unanswered_since IS NULL OR failures > 0)
    ) STRICT;
    CREATE TABLE agent_alerts (
        job TEXT NOT NULL,
        subject TEXT NOT NULL,
        text TEXT NOT NULL,
        opened_at INTEGER NOT NULL,
        closed_at INTEGER,
        told TEXT NOT NULL DEFAULT 'nothing' CHECK (told IN ('nothing', 'opened')),
        PRIMARY KEY (job, subject)
    ) STRICT;
    CREATE TABLE delegations (
        certificate_id BLOB PRIMARY KEY CHECK (length(certificate_id) = 32),
        role TEXT NOT NULL CHECK (role IN ('issued', 'accepted')),
        text TEXT NOT NULL,
        at INTEGER NOT NULL,
        revoked INTEGER NOT NULL DEFAULT 0 CHECK (revoked IN (0, 1))
    ) STRICT;
    CREATE TRIGGER postings_are_not_changed BEFORE UPDATE ON postings
        BEGIN SELECT RAISE(ABORT, 'postings are append-only'); END;
    CREATE TRIGGER postings_are_not_deleted BEFORE DELETE ON postings
        BEGIN SELECT RAISE(ABORT, 'postings are append-only'); END;
    """,
)
"""Schema version i + 1 is made from version i by STEPS[i]; a step, once released, is never edited."""


def statements(script: str) -> Iterator[str]:
    """The statements of a script one by one, since executescript would commit the transaction they belong to."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if line.rstrip().endswith(";") and sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        raise ValueError("a migration step does not end with a semicolon")
