"""The tables. What must never be wrong is a CHECK, a key or a trigger here, whatever the code above does.

Times are Unix seconds, sizes bytes, money msat. An account that lapsed and is opened anew gets a new row in
`accounts`: leases and invoices belong to the row, deposits, records, the ledger and what the operator decided
(`holders`) to the account id.
"""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    event,
    func,
    literal_column,
)

metadata = MetaData()
_Number = Integer().with_variant(BigInteger(), "postgresql")


def _numbers(*names: str) -> list[Column[int]]:
    return [Column(name, _Number, nullable=False) for name in names]


def _not_negative(*names: str) -> CheckConstraint:
    return CheckConstraint(" AND ".join(f"{name} >= 0" for name in names))


_RENEWED = ("period", "price_msat_per_gib_month", "egress_msat_per_gib", "ingress_msat_per_gib")
"""What an account's row says of its last agreement beside the one before it."""

ledger_accounts = Table(
    "ledger_accounts",
    metadata,
    Column("ledger_account", _Number, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    sqlite_strict=True,
)

holders = Table(
    "holders",
    metadata,
    Column("account_id", LargeBinary, CheckConstraint("length(account_id) = 32"), primary_key=True),
    Column("petname", Text, CheckConstraint("length(petname) BETWEEN 1 AND 64"), nullable=True, unique=True),
    Column("quota_bytes", _Number, CheckConstraint("quota_bytes >= 0"), nullable=True),
    Column("free", _Number, CheckConstraint("free IN (0, 1)"), nullable=False),
    Column("blocked", _Number, CheckConstraint("blocked IN (0, 1)"), nullable=False),
    Column("lightning_id", LargeBinary, CheckConstraint("length(lightning_id) = 33"), nullable=True),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Who has an account or may open one uninvited, and what the operator decided about them. It outlives a lapse.

`lightning_id` is the client's word, which nothing but a list shows."""

invitations = Table(
    "invitations",
    metadata,
    Column("invitation_id", LargeBinary, CheckConstraint("length(invitation_id) = 32"), primary_key=True),
    *_numbers("created_at", "expires_at"),
    Column("petname", Text, CheckConstraint("length(petname) BETWEEN 1 AND 64"), nullable=True),
    Column("maximum_capacity_bytes", _Number, CheckConstraint("maximum_capacity_bytes > 0"), nullable=True),
    Column("price_msat_per_gib_month", _Number, CheckConstraint("price_msat_per_gib_month >= 0"), nullable=True),
    Column("egress_msat_per_gib", _Number, CheckConstraint("egress_msat_per_gib >= 0"), nullable=True),
    Column("ingress_msat_per_gib", _Number, CheckConstraint("ingress_msat_per_gib >= 0"), nullable=True),
    Column("price_periods", _Number, CheckConstraint("price_periods > 0"), nullable=True),
    Column("revoked_at", _Number, nullable=True),
    Column("used_at", _Number, nullable=True),
    Column("used_by", LargeBinary, ForeignKey("holders.account_id"), nullable=True),
    CheckConstraint("(used_at IS NULL) = (used_by IS NULL)"),
    CheckConstraint("used_at IS NULL OR revoked_at IS NULL"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""By the hash of their secret, which is kept nowhere. Conditions given here take the place of the node's usual ones."""

accounts = Table(
    "accounts",
    metadata,
    Column("account", _Number, primary_key=True),
    Column("account_id", LargeBinary, ForeignKey("holders.account_id"), nullable=False),
    Column("superseded", _Number, CheckConstraint("superseded IN (0, 1)"), nullable=False),
    Column("deposit", _Number, ForeignKey("ledger_accounts.ledger_account"), nullable=False),
    Column("agreement", LargeBinary, nullable=False),
    Column("opened_at", _Number, nullable=False),
    Column("state", _Number, CheckConstraint("state IN (0, 1, 2)"), nullable=False),
    *_numbers("anchor_at", "period_seconds", "grace_seconds", "price_msat_per_gib_month", "egress_msat_per_gib"),
    *_numbers("ingress_msat_per_gib", "agreed_period"),
    *_numbers("capacity_bytes", "used_bytes", "shares", "paid_until_at"),
    *_numbers("token_index", "growth_index", "deposit_index", "ingress_bytes", "egress_bytes"),
    Column("renewed_agreement", LargeBinary, nullable=True),
    *(Column(f"renewed_{name}", _Number, nullable=True) for name in _RENEWED),
    Column("announced_terms", LargeBinary, nullable=True),
    Column("announced_period", _Number, nullable=True),
    Column("announced_at", _Number, nullable=True),
    *(CheckConstraint(f"(renewed_agreement IS NULL) = (renewed_{name} IS NULL)") for name in _RENEWED),
    CheckConstraint("renewed_period > agreed_period"),
    CheckConstraint("(announced_terms IS NULL) = (announced_period IS NULL)"),
    CheckConstraint("(announced_terms IS NULL) = (announced_at IS NULL)"),
    CheckConstraint("announced_period > coalesce(renewed_period, agreed_period)"),
    Column("shrink_to_bytes", _Number, nullable=True),
    Column("shrink_period", _Number, nullable=True),
    Column("left_at", _Number, nullable=True),
    Column("refund_msat", _Number, CheckConstraint("refund_msat >= 0"), nullable=True),
    Column("look_at", _Number, nullable=True),
    CheckConstraint("period_seconds > 0"),
    _not_negative("grace_seconds", "price_msat_per_gib_month", "egress_msat_per_gib", "capacity_bytes"),
    _not_negative("used_bytes", "shares", "token_index", "growth_index", "deposit_index"),
    _not_negative("ingress_bytes", "egress_bytes", "ingress_msat_per_gib", "agreed_period"),
    _not_negative(*(f"renewed_{name}" for name in _RENEWED)),
    CheckConstraint("used_bytes <= capacity_bytes OR state = 2"),
    CheckConstraint("shrink_to_bytes BETWEEN used_bytes AND capacity_bytes - 1"),
    CheckConstraint("(shrink_to_bytes IS NULL) = (shrink_period IS NULL)"),
    CheckConstraint("left_at IS NULL OR state = 2"),
    CheckConstraint("(left_at IS NULL) = (refund_msat IS NULL)"),
    CheckConstraint("(look_at IS NULL) = (state = 2)"),
    CheckConstraint("superseded = 0 OR state = 2"),
    CheckConstraint("paid_until_at >= anchor_at"),
    sqlite_strict=True,
)
Index("accounts_by_id", accounts.c.account_id, unique=True, sqlite_where=accounts.c.superseded == 0)
Index("accounts_by_deposit", accounts.c.deposit)
Index("accounts_of_holder", accounts.c.account_id)
Index("accounts_to_bill", accounts.c.look_at, sqlite_where=accounts.c.look_at.is_not(None))
"""A pass of the billing touches only those that time does something to: look_at is when it next does."""
TO_SWEEP = (accounts.c.state == literal_column("2")) & (accounts.c.shares > literal_column("0"))
"""Lapsed, and with leases left. SQLite uses an index over some rows only where their condition stands word for word."""
Index("accounts_to_sweep", accounts.c.account, sqlite_where=TO_SWEEP)

renewals = Table(
    "renewals",
    metadata,
    Column("account_id", LargeBinary, CheckConstraint("length(account_id) = 32"), primary_key=True),
    Column("anchor_at", _Number, primary_key=True),
    Column("from_period", _Number, CheckConstraint("from_period >= 0"), primary_key=True),
    Column("encoded", LargeBinary, nullable=False),
    Column("entered_at", _Number, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Every agreement of the accounts that ever renewed theirs, for good: their rows have the last two only."""

strangers = Table(
    "strangers",
    metadata,
    Column("account", _Number, ForeignKey("accounts.account"), primary_key=True),
    Column("network", LargeBinary, nullable=False),
    Column("opened_at", _Number, nullable=False),
    sqlite_strict=True,
)
"""Accounts that never paid anything, and (as a keyed hash) where they were opened from. Their first payment ends it."""
Index("strangers_by_network", strangers.c.network)
Index("strangers_by_age", strangers.c.opened_at)

certificates = Table(
    "certificates",
    metadata,
    Column("certificate", _Number, primary_key=True),
    Column("certificate_id", LargeBinary, CheckConstraint("length(certificate_id) = 32"), nullable=False, unique=True),
    Column("account_id", LargeBinary, CheckConstraint("length(account_id) = 32"), nullable=False),
    Column("parent", _Number, ForeignKey("certificates.certificate"), nullable=True),
    Column("subject", LargeBinary, CheckConstraint("length(subject) = 32"), nullable=False),
    Column("encoded", LargeBinary, nullable=False),
    *_numbers("maximum_bytes", "maximum_read_bytes", "expires_at"),
    *_numbers("used_bytes", "shares", "written_bytes", "read_bytes", "first_seen_at", "last_seen_at"),
    Column("revoked_at", _Number, nullable=True),
    CheckConstraint("used_bytes BETWEEN 0 AND maximum_bytes"),
    CheckConstraint("read_bytes BETWEEN 0 AND maximum_read_bytes"),
    _not_negative("shares", "written_bytes"),
    CheckConstraint("parent <> certificate"),
    sqlite_strict=True,
)
"""Certificates of delegations that were presented, by the account they come from. Counters include those below."""
Index("certificates_by_account", certificates.c.account_id, certificates.c.certificate_id)
Index("certificates_by_parent", certificates.c.parent)

revocations = Table(
    "revocations",
    metadata,
    Column("account_id", LargeBinary, CheckConstraint("length(account_id) = 32"), primary_key=True),
    Column("target", LargeBinary, CheckConstraint("length(target) = 32"), primary_key=True),
    Column("at", _Number, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Certificate ids and subjects' keys that an account's holder has revoked, presented by then or not."""

leases = Table(
    "leases",
    metadata,
    Column("lease", _Number, primary_key=True),
    Column("account", _Number, ForeignKey("accounts.account"), nullable=False),
    Column("certificate", _Number, ForeignKey("certificates.certificate"), nullable=True),
    Column("share_id", LargeBinary, CheckConstraint("length(share_id) = 32"), nullable=False),
    Column("size_bytes", _Number, CheckConstraint("size_bytes > 0"), nullable=False),
    Column("token_start", _Number, CheckConstraint("token_start >= 0"), nullable=False),
    Column("tokens", LargeBinary, nullable=False),
    sqlite_strict=True,
)
leased_under = func.coalesce(leases.c.certificate, literal_column("0"))
"""The certificate that a lease was made under, 0 for the holder's own: leases of the two are sets of their own."""
Index("leases_by_account", leases.c.account, leased_under, leases.c.share_id, unique=True)
Index("leases_by_share", leases.c.share_id)
Index("leases_by_certificate", leases.c.certificate, sqlite_where=leases.c.certificate.isnot(None))

unleased = Table(
    "unleased",
    metadata,
    Column("share_id", LargeBinary, CheckConstraint("length(share_id) = 32"), primary_key=True),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Shares whose last lease ended: what the sweep deletes. A new lease takes its share out again."""

agreements = Table(
    "agreements",
    metadata,
    Column("agreement", _Number, primary_key=True),
    Column("hash", LargeBinary, CheckConstraint("length(hash) = 32"), nullable=False, unique=True),
    Column("encoded", LargeBinary, nullable=False),
    sqlite_strict=True,
)
"""Agreements that invoices were made under: receipts name them by their hash (receipts.agreement_hash)."""

invoices = Table(
    "invoices",
    metadata,
    Column("invoice", _Number, primary_key=True),
    Column("label", Text, nullable=False, unique=True),
    Column("account", _Number, ForeignKey("accounts.account"), nullable=False),
    Column("agreement", _Number, ForeignKey("agreements.agreement"), nullable=False),
    Column("purpose", _Number, CheckConstraint("purpose IN (0, 1, 2)"), nullable=False),
    *_numbers("number", "attempt", "amount_msat", "from_at", "until_at", "capacity_bytes", "expires_at"),
    Column("preimage", LargeBinary, CheckConstraint("length(preimage) = 32"), nullable=False),
    Column("nonce", LargeBinary, nullable=True),
    Column("token_index", _Number, nullable=True),
    Column("shares", _Number, nullable=False),
    Column("sample", LargeBinary, nullable=False),
    Column("lost", LargeBinary, nullable=False),
    Column("bolt11", Text, nullable=True),
    Column("pay_index", _Number, nullable=True, unique=True),
    Column("receipt", _Number, CheckConstraint("receipt >= 0"), nullable=True),
    Column("credited_at", _Number, nullable=True),
    CheckConstraint("(receipt IS NULL) = (credited_at IS NULL)"),
    CheckConstraint("receipt IS NOT NULL OR pay_index IS NULL"),
    CheckConstraint("amount_msat >= 0 AND until_at >= from_at AND capacity_bytes >= 0"),
    CheckConstraint("amount_msat > 0 OR (bolt11 IS NULL AND pay_index IS NULL)"),
    UniqueConstraint("account", "purpose", "number", "attempt"),
    sqlite_strict=True,
)
"""Credited are those with a pay index, and those over nothing: no daemon ever hears of one."""
Index("invoices_by_agreement", invoices.c.agreement)
Index(
    "invoices_growing",
    invoices.c.expires_at,
    sqlite_where=(invoices.c.purpose == 1) & invoices.c.pay_index.is_(None),
)

Index("invoices_receipted", invoices.c.account, invoices.c.receipt, unique=True)

acknowledgements = Table(
    "acknowledgements",
    metadata,
    Column("invoice", _Number, ForeignKey("invoices.invoice"), primary_key=True),
    Column("encoded", LargeBinary, CheckConstraint("length(encoded) <= 512"), nullable=False),
    sqlite_strict=True,
)
"""What clients signed for receipts: that they verified the proof. At most one for each credited invoice."""

pay_cursor = Table(
    "pay_cursor",
    metadata,
    Column("one", _Number, CheckConstraint("one = 1"), primary_key=True),
    Column("pay_index", _Number, CheckConstraint("pay_index >= 0"), nullable=False),
    sqlite_strict=True,
)

holds = Table(
    "holds",
    metadata,
    Column("hold", _Number, primary_key=True),
    Column("account", _Number, ForeignKey("accounts.account"), nullable=False),
    Column("certificate", _Number, ForeignKey("certificates.certificate"), nullable=True),
    *_numbers("at", "traffic_bytes", "amount_msat", "price_msat_per_gib"),
    _not_negative("traffic_bytes", "amount_msat", "price_msat_per_gib"),
    sqlite_autoincrement=True,  # a settled hold's row goes, its number stays in the ledger
    sqlite_strict=True,
)

postings = Table(
    "postings",
    metadata,
    Column("posting", _Number, primary_key=True),
    Column("at", _Number, nullable=False),
    Column("kind", Text, nullable=False),
    Column("debit", _Number, ForeignKey("ledger_accounts.ledger_account"), nullable=False),
    Column("credit", _Number, ForeignKey("ledger_accounts.ledger_account"), nullable=False),
    Column("amount_msat", _Number, CheckConstraint("amount_msat > 0"), nullable=False),
    Column("reference", Text, nullable=False),
    CheckConstraint("debit <> credit"),
    UniqueConstraint("reference", "kind"),  # the same event is never posted twice
    sqlite_strict=True,
)
Index("postings_by_debit", postings.c.debit, postings.c.posting, postings.c.amount_msat)
Index("postings_by_credit", postings.c.credit, postings.c.posting, postings.c.amount_msat)

closings = Table(
    "closings",
    metadata,
    Column("ledger_account", _Number, ForeignKey("ledger_accounts.ledger_account"), primary_key=True),
    Column("posting", _Number, ForeignKey("postings.posting"), primary_key=True),
    Column("balance_msat", _Number, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
"""Debits less credits of a ledger account up to a posting: where adding up may begin. Says nothing new."""

records = Table(
    "records",
    metadata,
    Column("account_id", LargeBinary, CheckConstraint("length(account_id) = 32"), primary_key=True),
    Column("name", LargeBinary, primary_key=True),
    Column("sequence", _Number, nullable=False),
    Column("encoded", LargeBinary, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# An agreement that no invoice names any more may go: the account that asked for it never paid.
for _table in (postings, closings, agreements, acknowledgements, renewals):
    for _change in ("UPDATE",) if _table is agreements else ("UPDATE", "DELETE"):
        event.listen(
            _table,
            "after_create",
            DDL(  # type: ignore[no-untyped-call]  # SQLAlchemy left this one untyped
                f"CREATE TRIGGER {_table.name}_no_{_change.lower()} BEFORE {_change} ON {_table.name} "
                f"BEGIN SELECT RAISE(ABORT, '{_table.name} are append-only'); END"
            ).execute_if(dialect="sqlite"),
        )
