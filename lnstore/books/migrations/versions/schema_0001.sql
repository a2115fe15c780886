CREATE TABLE ledger_accounts (
    ledger_account INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (ledger_account),
    UNIQUE (name)
)
 STRICT;

CREATE TABLE holders (
    account_id BLOB NOT NULL CHECK (length(account_id) = 32),
    petname TEXT CHECK (length(petname) BETWEEN 1 AND 64),
    quota_bytes INTEGER CHECK (quota_bytes >= 0),
    free INTEGER NOT NULL CHECK (free IN (0, 1)),
    blocked INTEGER NOT NULL CHECK (blocked IN (0, 1)),
    lightning_id BLOB CHECK (length(lightning_id) = 33),
    PRIMARY KEY (account_id),
    UNIQUE (petname)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE renewals (
    account_id BLOB NOT NULL CHECK (length(account_id) = 32),
    anchor_at INTEGER NOT NULL,
    from_period INTEGER NOT NULL CHECK (from_period >= 0),
    encoded BLOB NOT NULL,
    entered_at INTEGER NOT NULL,
    PRIMARY KEY (account_id, anchor_at, from_period)
)
 WITHOUT ROWID,
 STRICT;

CREATE TRIGGER renewals_no_update BEFORE UPDATE ON renewals BEGIN SELECT RAISE(ABORT, 'renewals are append-only'); END;

CREATE TRIGGER renewals_no_delete BEFORE DELETE ON renewals BEGIN SELECT RAISE(ABORT, 'renewals are append-only'); END;

CREATE TABLE certificates (
    certificate INTEGER NOT NULL,
    certificate_id BLOB NOT NULL CHECK (length(certificate_id) = 32),
    account_id BLOB NOT NULL CHECK (length(account_id) = 32),
    parent INTEGER,
    subject BLOB NOT NULL CHECK (length(subject) = 32),
    encoded BLOB NOT NULL,
    maximum_bytes INTEGER NOT NULL,
    maximum_read_bytes INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_bytes INTEGER NOT NULL,
    shares INTEGER NOT NULL,
    written_bytes INTEGER NOT NULL,
    read_bytes INTEGER NOT NULL,
    first_seen_at INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    revoked_at INTEGER,
    PRIMARY KEY (certificate),
    CHECK (used_bytes BETWEEN 0 AND maximum_bytes),
    CHECK (read_bytes BETWEEN 0 AND maximum_read_bytes),
    CHECK (shares >= 0 AND written_bytes >= 0),
    CHECK (parent <> certificate),
    UNIQUE (certificate_id),
    FOREIGN KEY(parent) REFERENCES certificates (certificate)
)
 STRICT;

CREATE INDEX certificates_by_account ON certificates (account_id, certificate_id);

CREATE INDEX certificates_by_parent ON certificates (parent);

CREATE TABLE revocations (
    account_id BLOB NOT NULL CHECK (length(account_id) = 32),
    target BLOB NOT NULL CHECK (length(target) = 32),
    at INTEGER NOT NULL,
    PRIMARY KEY (account_id, target)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE unleased (
    share_id BLOB NOT NULL CHECK (length(share_id) = 32),
    PRIMARY KEY (share_id)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE agreements (
    agreement INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    encoded BLOB NOT NULL,
    PRIMARY KEY (agreement),
    UNIQUE (hash)
)
 STRICT;

CREATE TRIGGER agreements_no_update BEFORE UPDATE ON agreements BEGIN SELECT RAISE(ABORT, 'agreements are append-only'); END;

CREATE TABLE pay_cursor (
    one INTEGER NOT NULL CHECK (one = 1),
    pay_index INTEGER NOT NULL CHECK (pay_index >= 0),
    PRIMARY KEY (one)
)
 STRICT;

CREATE TABLE records (
    account_id BLOB NOT NULL CHECK (length(account_id) = 32),
    name BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    encoded BLOB NOT NULL,
    PRIMARY KEY (account_id, name)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE invitations (
    invitation_id BLOB NOT NULL CHECK (length(invitation_id) = 32),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    petname TEXT CHECK (length(petname) BETWEEN 1 AND 64),
    maximum_capacity_bytes INTEGER CHECK (maximum_capacity_bytes > 0),
    price_msat_per_gib_month INTEGER CHECK (price_msat_per_gib_month >= 0),
    egress_msat_per_gib INTEGER CHECK (egress_msat_per_gib >= 0),
    ingress_msat_per_gib INTEGER CHECK (ingress_msat_per_gib >= 0),
    price_periods INTEGER CHECK (price_periods > 0),
    revoked_at INTEGER,
    used_at INTEGER,
    used_by BLOB,
    PRIMARY KEY (invitation_id),
    CHECK ((used_at IS NULL) = (used_by IS NULL)),
    CHECK (used_at IS NULL OR revoked_at IS NULL),
    FOREIGN KEY(used_by) REFERENCES holders (account_id)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE accounts (
    account INTEGER NOT NULL,
    account_id BLOB NOT NULL,
    superseded INTEGER NOT NULL CHECK (superseded IN (0, 1)),
    deposit INTEGER NOT NULL,
    agreement BLOB NOT NULL,
    opened_at INTEGER NOT NULL,
    state INTEGER NOT NULL CHECK (state IN (0, 1, 2)),
    anchor_at INTEGER NOT NULL,
    period_seconds INTEGER NOT NULL,
    grace_seconds INTEGER NOT NULL,
    price_msat_per_gib_month INTEGER NOT NULL,
    egress_msat_per_gib INTEGER NOT NULL,
    ingress_msat_per_gib INTEGER NOT NULL,
    agreed_period INTEGER NOT NULL,
    capacity_bytes INTEGER NOT NULL,
    used_bytes INTEGER NOT NULL,
    shares INTEGER NOT NULL,
    paid_until_at INTEGER NOT NULL,
    token_index INTEGER NOT NULL,
    growth_index INTEGER NOT NULL,
    deposit_index INTEGER NOT NULL,
    ingress_bytes INTEGER NOT NULL,
    egress_bytes INTEGER NOT NULL,
    renewed_agreement BLOB,
    renewed_period INTEGER,
    renewed_price_msat_per_gib_month INTEGER,
    renewed_egress_msat_per_gib INTEGER,
    renewed_ingress_msat_per_gib INTEGER,
    announced_terms BLOB,
    announced_period INTEGER,
    announced_at INTEGER,
    shrink_to_bytes INTEGER,
    shrink_period INTEGER,
    left_at INTEGER,
    refund_msat INTEGER CHECK (refund_msat >= 0),
    look_at INTEGER,
    PRIMARY KEY (account),
    CHECK ((renewed_agreement IS NULL) = (renewed_period IS NULL)),
    CHECK ((renewed_agreement IS NULL) = (renewed_price_msat_per_gib_month IS NULL)),
    CHECK ((renewed_agreement IS NULL) = (renewed_egress_msat_per_gib IS NULL)),
    CHECK ((renewed_agreement IS NULL) = (renewed_ingress_msat_per_gib IS NULL)),
    CHECK (renewed_period > agreed_period),
    CHECK ((announced_terms IS NULL) = (announced_period IS NULL)),
    CHECK ((announced_terms IS NULL) = (announced_at IS NULL)),
    CHECK (announced_period > coalesce(renewed_period, agreed_period)),
    CHECK (period_seconds > 0),
    CHECK (grace_seconds >= 0 AND price_msat_per_gib_month >= 0 AND egress_msat_per_gib >= 0 AND capacity_bytes >= 0),
    CHECK (used_bytes >= 0 AND shares >= 0 AND token_index >= 0 AND growth_index >= 0 AND deposit_index >= 0),
    CHECK (ingress_bytes >= 0 AND egress_bytes >= 0 AND ingress_msat_per_gib >= 0 AND agreed_period >= 0),
    CHECK (renewed_period >= 0 AND renewed_price_msat_per_gib_month >= 0 AND renewed_egress_msat_per_gib >= 0 AND renewed_ingress_msat_per_gib >= 0),
    CHECK (used_bytes <= capacity_bytes OR state = 2),
    CHECK (shrink_to_bytes BETWEEN used_bytes AND capacity_bytes - 1),
    CHECK ((shrink_to_bytes IS NULL) = (shrink_period IS NULL)),
    CHECK (left_at IS NULL OR state = 2),
    CHECK ((left_at IS NULL) = (refund_msat IS NULL)),
    CHECK ((look_at IS NULL) = (state = 2)),
    CHECK (superseded = 0 OR state = 2),
    CHECK (paid_until_at >= anchor_at),
    FOREIGN KEY(account_id) REFERENCES holders (account_id),
    FOREIGN KEY(deposit) REFERENCES ledger_accounts (ledger_account)
)
 STRICT;

CREATE INDEX accounts_to_bill ON accounts (look_at) WHERE look_at IS NOT NULL;

CREATE UNIQUE INDEX accounts_by_id ON accounts (account_id) WHERE superseded = 0;

CREATE INDEX accounts_of_holder ON accounts (account_id);

CREATE INDEX accounts_by_deposit ON accounts (deposit);

CREATE INDEX accounts_to_sweep ON accounts (account) WHERE state = 2 AND shares > 0;

CREATE TABLE postings (
    posting INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    debit INTEGER NOT NULL,
    credit INTEGER NOT NULL,
    amount_msat INTEGER NOT NULL CHECK (amount_msat > 0),
    reference TEXT NOT NULL,
    PRIMARY KEY (posting),
    CHECK (debit <> credit),
    UNIQUE (reference, kind),
    FOREIGN KEY(debit) REFERENCES ledger_accounts (ledger_account),
    FOREIGN KEY(credit) REFERENCES ledger_accounts (ledger_account)
)
 STRICT;

CREATE INDEX postings_by_debit ON postings (debit, posting, amount_msat);

CREATE INDEX postings_by_credit ON postings (credit, posting, amount_msat);

CREATE TRIGGER postings_no_update BEFORE UPDATE ON postings BEGIN SELECT RAISE(ABORT, 'postings are append-only'); END;

CREATE TRIGGER postings_no_delete BEFORE DELETE ON postings BEGIN SELECT RAISE(ABORT, 'postings are append-only'); END;

CREATE TABLE strangers (
    account INTEGER NOT NULL,
    network BLOB NOT NULL,
    opened_at INTEGER NOT NULL,
    PRIMARY KEY (account),
    FOREIGN KEY(account) REFERENCES accounts (account)
)
 STRICT;

CREATE INDEX strangers_by_age ON strangers (opened_at);

CREATE INDEX strangers_by_network ON strangers (network);

CREATE TABLE leases (
    lease INTEGER NOT NULL,
    account INTEGER NOT NULL,
    certificate INTEGER,
    share_id BLOB NOT NULL CHECK (length(share_id) = 32),
    size_bytes INTEGER NOT NULL CHECK (size_bytes > 0),
    token_start INTEGER NOT NULL CHECK (token_start >= 0),
    tokens BLOB NOT NULL,
    PRIMARY KEY (lease),
    FOREIGN KEY(account) REFERENCES accounts (account),
    FOREIGN KEY(certificate) REFERENCES certificates (certificate)
)
 STRICT;

CREATE UNIQUE INDEX leases_by_account ON leases (account, coalesce(certificate, 0), share_id);

CREATE INDEX leases_by_certificate ON leases (certificate) WHERE certificate IS NOT NULL;

CREATE INDEX leases_by_share ON leases (share_id);

CREATE TABLE invoices (
    invoice INTEGER NOT NULL,
    label TEXT NOT NULL,
    account INTEGER NOT NULL,
    agreement INTEGER NOT NULL,
    purpose INTEGER NOT NULL CHECK (purpose IN (0, 1, 2)),
    number INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    amount_msat INTEGER NOT NULL,
    from_at INTEGER NOT NULL,
    until_at INTEGER NOT NULL,
    capacity_bytes INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    preimage BLOB NOT NULL CHECK (length(preimage) = 32),
    nonce BLOB,
    token_index INTEGER,
    shares INTEGER NOT NULL,
    sample BLOB NOT NULL,
    lost BLOB NOT NULL,
    bolt11 TEXT,
    pay_index INTEGER,
    receipt INTEGER CHECK (receipt >= 0),
    credited_at INTEGER,
    PRIMARY KEY (invoice),
    CHECK ((receipt IS NULL) = (credited_at IS NULL)),
    CHECK (receipt IS NOT NULL OR pay_index IS NULL),
    CHECK (amount_msat >= 0 AND until_at >= from_at AND capacity_bytes >= 0),
    CHECK (amount_msat > 0 OR (bolt11 IS NULL AND pay_index IS NULL)),
    UNIQUE (account, purpose, number, attempt),
    UNIQUE (label),
    FOREIGN KEY(account) REFERENCES accounts (account),
    FOREIGN KEY(agreement) REFERENCES agreements (agreement),
    UNIQUE (pay_index)
)
 STRICT;

CREATE INDEX invoices_by_agreement ON invoices (agreement);

CREATE INDEX invoices_growing ON invoices (expires_at) WHERE purpose = 1 AND pay_index IS NULL;

CREATE UNIQUE INDEX invoices_receipted ON invoices (account, receipt);

CREATE TABLE holds (
    hold INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    account INTEGER NOT NULL,
    certificate INTEGER,
    at INTEGER NOT NULL,
    traffic_bytes INTEGER NOT NULL,
    amount_msat INTEGER NOT NULL,
    price_msat_per_gib INTEGER NOT NULL,
    CHECK (traffic_bytes >= 0 AND amount_msat >= 0 AND price_msat_per_gib >= 0),
    FOREIGN KEY(account) REFERENCES accounts (account),
    FOREIGN KEY(certificate) REFERENCES certificates (certificate)
)
 STRICT;

CREATE TABLE closings (
    ledger_account INTEGER NOT NULL,
    posting INTEGER NOT NULL,
    balance_msat INTEGER NOT NULL,
    PRIMARY KEY (ledger_account, posting),
    FOREIGN KEY(ledger_account) REFERENCES ledger_accounts (ledger_account),
    FOREIGN KEY(posting) REFERENCES postings (posting)
)
 WITHOUT ROWID,
 STRICT;

CREATE TRIGGER closings_no_update BEFORE UPDATE ON closings BEGIN SELECT RAISE(ABORT, 'closings are append-only'); END;

CREATE TRIGGER closings_no_delete BEFORE DELETE ON closings BEGIN SELECT RAISE(ABORT, 'closings are append-only'); END;

CREATE TABLE acknowledgements (
    invoice INTEGER NOT NULL,
    encoded BLOB NOT NULL CHECK (length(encoded) <= 512),
    PRIMARY KEY (invoice),
    FOREIGN KEY(invoice) REFERENCES invoices (invoice)
)
 STRICT;

CREATE TRIGGER acknowledgements_no_update BEFORE UPDATE ON acknowledgements BEGIN SELECT RAISE(ABORT, 'acknowledgements are append-only'); END;

CREATE TRIGGER acknowledgements_no_delete BEFORE DELETE ON acknowledgements BEGIN SELECT RAISE(ABORT, 'acknowledgements are append-only'); END;

INSERT INTO pay_cursor (one, pay_index) VALUES (1, 0);
