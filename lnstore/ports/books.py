"""The books port: a node's accounts, leases, invoices and ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from lnstore.ports.lightning import Invoice
from lnstore_protocol.delegation import Authority
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import (
    AccountId,
    CertificateId,
    Digest,
    InvitationId,
    LightningId,
    Msat,
    PaymentHash,
    ShareId,
)
from lnstore_protocol.messages import AccountStage, AccountState, Buffer, InvoicePurpose
from lnstore_protocol.prices import Prices, PriceStep
from lnstore_protocol.terms import Agreement, Record, period_at, period_start
from lnstore_protocol.usages import Usage


class BooksRefused(Exception):
    """The books' rules forbid it. `code` is what the peer is answered.

    `capacity_bytes` is what it can have instead, `amount_msat` what is lacking in the deposit.
    """

    def __init__(
        self, code: ErrorCode, message: str, *, capacity_bytes: int | None = None, amount_msat: Msat | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.capacity_bytes = capacity_bytes
        self.amount_msat = amount_msat


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """An agreement that took or will take the place of another one, and its prices."""

    agreement: bytes = field(repr=False)
    prices: PriceStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """A change of prices that an account was told of and has not signed: signed terms, and from which period on."""

    terms: bytes = field(repr=False)
    from_period: int
    announced_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account as the books have it. The meaning of the fields is messages.AccountStatusReply's.

    The prices are what the account pays: 0 where the operator made it free, whatever its agreement says.
    The prices in it are those of `agreement`, which holds from `agreed_period` on; ask `prices` for those of a period.
    `look_at` is when time next does something to it (None: never). `left_at` and `refund_msat` are set once its client
    has left.
    """

    account_id: AccountId
    agreement: bytes = field(repr=False)
    state: AccountState
    anchor_at: int
    period_seconds: int
    grace_seconds: int
    price_msat_per_gib_month: Msat
    egress_msat_per_gib: Msat
    capacity_bytes: int
    used_bytes: int
    shares: int
    paid_until_at: int
    token_index: int
    growth_index: int
    deposit_index: int
    deposit_msat: Msat
    ingress_bytes: int
    egress_bytes: int
    unpaid_since_at: int | None = None
    """When an account that never paid anything was opened; None for all others."""
    petname: str | None = None
    quota_bytes: int | None = None
    free: bool = False
    blocked: bool = False
    lightning_id: LightningId | None = None
    """Its client's own, as it says; nothing depends on it."""
    ingress_msat_per_gib: Msat = field(default=Msat(0))
    agreed_period: int = 0
    renewal: Renewal | None = None
    announcement: Announcement | None = None
    shrink_to_bytes: int | None = None
    shrink_period: int | None = None
    left_at: int | None = None
    refund_msat: Msat | None = None
    look_at: int | None = field(default=None, compare=False)

    @property
    def prices(self) -> Prices:
        """Which prices hold for which period; nothing for all of them in a free account."""
        if self.free:
            none = PriceStep(
                from_period=0,
                price_msat_per_gib_month=Msat(0),
                egress_msat_per_gib=Msat(0),
                ingress_msat_per_gib=Msat(0),
            )
            return Prices(anchor_at=self.anchor_at, period_seconds=self.period_seconds, steps=(none,))
        step = PriceStep(
            from_period=self.agreed_period,
            price_msat_per_gib_month=self.price_msat_per_gib_month,
            egress_msat_per_gib=self.egress_msat_per_gib,
            ingress_msat_per_gib=self.ingress_msat_per_gib,
        )
        return Prices(
            anchor_at=self.anchor_at,
            period_seconds=self.period_seconds,
            steps=(step,) if self.renewal is None else (step, self.renewal.prices),
            unsigned_period=None if self.announcement is None else self.announcement.from_period,
        )

    @property
    def last_agreement(self) -> bytes:
        """The one that was signed last."""
        return self.agreement if self.renewal is None else self.renewal.agreement

    def agreement_for(self, period: int) -> bytes:
        """The agreement that holds for a period."""
        renewal = self.renewal
        return self.agreement if renewal is None or period < renewal.prices.from_period else renewal.agreement

    @property
    def next_period(self) -> int:
        """The first period that is not paid."""
        return period_at(self.anchor_at, self.period_seconds, self.paid_until_at)

    @property
    def shrink_at(self) -> int | None:
        """When a planned smaller capacity begins at the latest."""
        if self.shrink_period is None:
            return None
        return period_start(self.anchor_at, self.period_seconds, self.shrink_period)

    @property
    def writable_bytes(self) -> int:
        """What its shares must fit into: the capacity, or the smaller one that is planned."""
        return self.capacity_bytes if self.shrink_to_bytes is None else self.shrink_to_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at an account found: that it entered a stage, or that a stage to come is warned of, or both.

    Each is found once. `warned_of` is the stage that its client is warned of since.
    """

    account: Account
    stage: AccountStage
    entered: bool
    warned_of: AccountStage | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedInvoice:
    """An invoice the node means to make, persisted before the daemon is asked; everything that its reply repeats.

    `index` is the period (rent), the growth index or the deposit index; `attempt` counts predecessors that were
    withdrawn unpaid.
    """

    label: str
    account_id: AccountId
    purpose: InvoicePurpose
    index: int
    attempt: int
    amount_msat: Msat
    from_at: int
    until_at: int
    capacity_bytes: int
    expires_at: int
    preimage: bytes = field(repr=False)
    nonce: bytes | None = field(default=None, repr=False)
    token_index: int | None = None
    shares: int = 0
    sample: bytes = field(default=b"", repr=False)
    lost: bytes = field(default=b"", repr=False)
    bolt11: str | None = None
    credited: bool = False

    @property
    def payment_hash(self) -> PaymentHash:
        """SHA-256 of the preimage."""
        return PaymentHash(sha256(self.preimage).digest())


StoreSmall = Callable[[Sequence[tuple[ShareId, Buffer]]], None]
"""Shares.put_small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLease:
    """A lease to be added: an account's claim on a share that is on disk, made by its holder or under a certificate."""

    account_id: AccountId
    share_id: ShareId
    size_bytes: int
    token_start: int
    tokens: bytes = field(repr=False)
    certificate_id: CertificateId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A lease as the books have it."""

    share_id: ShareId
    size_bytes: int
    token_start: int
    tokens: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Figures:
    """What is added up for an account key over its whole life, from invoices and the ledger.

    A proof has passed when its rent was credited (where the price is 0: when nothing was admitted as lost), and failed
    when its invoice was never paid: another challenge took its place, or the account lapsed.
    """

    income_msat: Msat
    proofs_passed: int
    proofs_failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """An invitation as the books have it; None: as the node's terms are for everybody."""

    invitation_id: InvitationId
    created_at: int
    expires_at: int
    petname: str | None = None
    maximum_capacity_bytes: int | None = None
    price_msat_per_gib_month: Msat | None = None
    egress_msat_per_gib: Msat | None = None
    ingress_msat_per_gib: Msat | None = None
    price_periods: int | None = None
    revoked_at: int | None = None
    used_at: int | None = None
    used_by: AccountId | None = None

    def refusal(self, now: int) -> str:
        """Why nobody may use it now; empty when somebody may."""
        if self.used_at is not None:
            return "this invitation was used already; ask for another one"
        if self.revoked_at is not None:
            return "this invitation was withdrawn by the operator"
        if now > self.expires_at:
            return "this invitation has expired; ask for another one"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegate:
    """A presented certificate: what was done under it and those below it, and what is still allowed."""

    certificate_id: CertificateId
    account_id: AccountId
    used_bytes: int
    shares: int
    read_bytes: int
    free_bytes: int
    free_read_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """An immutable ledger entry: `amount_msat` (> 0) moves from the credit account to the debit account."""

    posting_id: int
    at: int
    kind: str
    debit: str
    credit: str
    amount_msat: Msat
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Credited:
    """A credited invoice, or what was given at no price, as its receipt tells of it (receipts.Receipt).

    `number` counts the account's from 0.
    """

    number: int
    planned: PlannedInvoice
    agreement_hash: Digest
    received_msat: Msat
    deposited_msat: Msat
    credited_at: int
    acknowledgement: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class StrangerLimits:
    """What accounts that never paid may have, in all and those of one network (the key it was opened from)."""

    accounts: int
    accounts_of_network: int
    growth_percent: int
    """Of the free capacity: what their unpaid growth may reserve; half of it for one network."""


NO_LIMITS = StrangerLimits(accounts=1 << 62, accounts_of_network=1 << 62, growth_percent=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Income:
    """What one kind of income (or of its opposite, refunds, below 0) came to in a calendar month (UTC, `2026-12`).

    `account_id` is None for all accounts together.
    """

    month: str
    kind: str
    account_id: AccountId | None
    amount_msat: Msat


@dataclass(frozen=True, slots=True)
class Difference:
    """Two records that should agree and do not: what kind of difference, what it is about, and a sentence."""

    kind: str
    subject: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What the books have of an invoice. `pay_index` is None until it is credited, `received_msat` is what was."""

    label: str
    payment_hash: PaymentHash
    pay_index: int | None
    received_msat: Msat


class AccountBooks(Protocol):
    """Accounts and their states."""

    async def open_account(
        self,
        agreement: Agreement,
        now: int,
        *,
        network: bytes = b"",
        limits: StrangerLimits = NO_LIMITS,
        invited_only: bool = False,
    ) -> Account:
        """The account of this agreement, new or as it is. A lapsed account starts anew under the new agreement.

        The invitation that the terms name is used up in the same transaction. BooksRefused when it can not be, when
        there is none and only invited (or allowed, or earlier) accounts are taken, when the account is blocked, or when
        it would be one too many of those that never paid.
        """
        ...

    async def account(self, account_id: AccountId) -> Account | None:
        """The account, its state as of the last `advance`."""
        ...

    async def accounts(self) -> list[Account]:
        """All of them, oldest first."""
        ...

    async def advance(self, now: int) -> list[Look]:
        """Move every account that is due to the stage its table says for `now`; what is new about them.

        Accounts that owe nothing (no capacity, or price 0) simply move on to the current period.
        """
        ...

    async def announce(self, account_id: AccountId, announcement: Announcement | None) -> Account:
        """Put in place of the announced change this one, or none; the account then."""
        ...

    async def renew(self, agreement: Agreement, now: int) -> Account:
        """Enter an agreement, signed by both, over what was announced; the account then.

        BooksRefused when that is not announced (any more). ValueError when the node has not signed it.
        """

    async def shrink(self, account_id: AccountId, capacity_bytes: int, now: int) -> Account:
        """Plan a smaller capacity for the next period, or, with the present one, none any more; the account then."""
        ...

    async def leave(self, account_id: AccountId, now: int, *, refund_permille: int) -> Account:
        """End the account at its client's wish, give back what is said, post that; again, nothing more happens."""
        ...

    async def rented_bytes(self, now: int) -> int:
        """Capacity rented out in all, with what unexpired growth invoices would add."""
        ...


class AccountAdmin(Protocol):
    """What an operator decides about accounts. A running node goes by it from the next request on."""

    async def allow_account(self, account_id: AccountId) -> bool:
        """Let this key open an account without an invitation; whether that is new."""
        ...

    async def name_account(self, account_id: AccountId, petname: str | None) -> Account:
        """Give the account a petname, or take it away; PetnameTaken when another account has it."""
        ...

    async def set_quota(self, account_id: AccountId, quota_bytes: int | None) -> Account:
        """Bound what the account may store by writing more, whatever it has rented; None: no bound."""
        ...

    async def set_free(self, account_id: AccountId, now: int, *, free: bool) -> Account:
        """Take nothing from the account, whatever its agreement says; or what it says again, from the next period."""
        ...

    async def set_blocked(self, account_id: AccountId, now: int, *, blocked: bool) -> Account:
        """Take no writes and no money from the account any more, so that it lapses in time; or take them again."""
        ...

    async def note_lightning_id(self, account_id: AccountId, lightning_id: LightningId) -> None:
        """Write down which Lightning id an account's holder says is theirs; nothing where there is no account."""
        ...

    async def carry_on(self, account_id: AccountId, now: int) -> Account:
        """Move an account that owes nothing up to the present period, as `advance` will; others stay as they are."""
        ...

    async def figures(self, account_id: AccountId | None = None) -> dict[AccountId, Figures]:
        """What is added up for every account, or for one."""
        ...


class InvitationBooks(Protocol):
    """Invitations, by their ids."""

    async def add_invitation(self, invitation: Invitation) -> None:
        """Remember a new one."""
        ...

    async def invitation(self, invitation_id: InvitationId) -> Invitation | None:
        """That invitation."""
        ...

    async def invitations(self) -> list[Invitation]:
        """All of them, oldest first."""
        ...

    async def revoke_invitation(self, invitation_id: InvitationId, now: int) -> Invitation:
        """Nobody may use it any more; as it is then. KeyError when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Leased:
    """What a lease has come to: the used bytes, the account's or the certificate's, and what was charged for it.

    Where something was, `ingress_bytes` is what the account had written with this share.
    """

    used_bytes: int
    charged_msat: Msat | None = None
    ingress_bytes: int | None = None


class LeaseBooks(Protocol):
    """Who keeps which share alive. The holder's own leases and those under each certificate are sets of their own.

    `certificate_id` chooses the set; None is the holder's own.
    """

    async def may_write(
        self, account_id: AccountId, size_bytes: int, now: int, *, certificate_id: CertificateId | None = None
    ) -> Account:
        """Check early that a share of this size would be taken now; BooksRefused says why not."""
        ...

    async def add_lease(self, lease: NewLease, now: int, *, present: Callable[[ShareId], bool]) -> Leased:
        """Add the lease (again: replace its tokens), and charge for what was written.

        Checked inside the transaction: the account may write, used ≤ capacity, the certificate has not ended and it
        and the one above allow the bytes, the deposit pays for them, and `present(share_id)`; FileNotFoundError when
        the share was swept meanwhile (put it again). Leases of many callers share one commit, and one posting for each
        account. What is leased already is not charged again.
        """
        ...

    async def add_small(self, lease: NewLease, now: int, *, data: Buffer, store: StoreSmall) -> Leased:
        """As add_lease of a share that is stored by it: `store` gets those of all callers that are not refused.

        It is called inside the transaction. What it raises fails the commit, and so all the callers.
        """
        ...

    async def drop_leases(
        self, account_id: AccountId, share_ids: Sequence[ShareId], *, certificate_id: CertificateId | None = None
    ) -> tuple[int, int]:
        """End leases; how many ended and the used bytes now, the account's or the certificate's."""
        ...

    async def held(
        self, account_id: AccountId, share_ids: Sequence[ShareId], *, certificate_id: CertificateId | None = None
    ) -> list[bool]:
        """For each id whether the set holds a lease on it."""
        ...

    async def leases(
        self,
        account_id: AccountId,
        *,
        after: ShareId | None,
        limit: int,
        certificate_id: CertificateId | None = None,
    ) -> list[Lease]:
        """Leases in ascending order of share id."""
        ...

    async def leased_ids(self, account_id: AccountId) -> bytes:
        """All the holder's own share ids, ascending, 32 bytes each: what the sample is drawn from."""
        ...

    async def lease_tokens(self, account_id: AccountId, share_ids: Sequence[ShareId]) -> dict[ShareId, Lease]:
        """These leases of the holder's own, by share id."""
        ...

    async def visible_lease(
        self, account_id: AccountId, share_id: ShareId, *, certificate_id: CertificateId | None = None
    ) -> Lease | None:
        """A lease on this share: for the holder whosever in the account, else the certificate's own."""
        ...

    async def replace_tokens(
        self, account_id: AccountId, token_start: int, tables: Sequence[tuple[ShareId, bytes]]
    ) -> list[bool]:
        """Put other tokens, for the indices from `token_start` on, in the place of those of these leases.

        All in one transaction; a lease keeps its tokens if they begin no later and reach further. For each table,
        whether there is a lease.
        """
        ...

    async def sweep(self, *, delete: Callable[[ShareId], None], limit: int) -> int:
        """End leases of lapsed accounts and delete shares nobody leases, at most `limit`; how many shares went.

        `delete` runs inside the transaction that saw no lease, so that a put that commits a lease meanwhile is safe.
        Fewer than `limit` means that nothing is left to sweep.
        """
        ...

    async def forget_orphan(self, share_id: ShareId, *, delete: Callable[[ShareId], None]) -> bool:
        """Delete this share if nobody leases it (same rule); whether it went."""
        ...


class StrangerBooks(Protocol):
    """Accounts that never paid anything and have nothing."""

    async def stranger_count(self) -> int:
        """How many there are."""
        ...

    async def strangers(self, now: int, *, idle_since_at: int, in_any_case_at: int, limit: int) -> list[AccountId]:
        """Those to be removed, oldest first.

        Opened by `idle_since_at` and without an invoice that can still be paid, or opened by `in_any_case_at`.
        """
        ...

    async def unpaid_invoices(self, account_id: AccountId) -> list[PlannedInvoice]:
        """The latest attempt of each of the account's unpaid invoices: what its daemon may still know."""
        ...

    async def remove_stranger(
        self, account_id: AccountId, now: int, *, idle_since_at: int, in_any_case_at: int
    ) -> bool:
        """Delete the account with all that it has, if it is still one to be removed; whether it went.

        Its invoices must have been withdrawn at the daemon: their labels may be used again.
        """
        ...


class InvoiceBooks(Protocol):
    """Invoices from the intent to the credit."""

    async def plan_invoice(
        self,
        planned: PlannedInvoice,
        *,
        rentable_bytes: int | None = None,
        limits: StrangerLimits = NO_LIMITS,
    ) -> PlannedInvoice:
        """Persist the intent; the one already planned under this label wins. One over nothing is credited at once.

        BooksRefused when it does not fit the account as it is inside the transaction (its next period, token, growth
        or deposit index, its state), when growth would rent out more than `rentable_bytes` in all, or reserve more than
        `limits` allow accounts that never paid.
        """
        ...

    async def planned_invoice(
        self, account_id: AccountId, purpose: InvoicePurpose, index: int
    ) -> PlannedInvoice | None:
        """The latest attempt for this account, purpose and index."""
        ...

    async def issued(self, label: str, bolt11: str) -> None:
        """The daemon made the invoice."""
        ...

    async def withdrawing(self, label: str) -> None:
        """The invoice is about to be deleted at the daemon: who asks for it again after this has it made again."""
        ...

    async def credit(self, invoice: Invoice, now: int) -> Account | None:
        """Credit a paid invoice exactly once: postings, effect and pay index in one transaction.

        The account as it is then; None when nothing was credited: the label is not ours, the pay index was already
        passed, or the invoice was credited before.
        """
        ...

    async def pay_index(self) -> int:
        """The last pay index that was credited or passed over."""
        ...


class TrafficBooks(Protocol):
    """Egress, paid from the deposit: a hold before bytes go out, posted or voided after."""

    async def hold_egress(
        self, account_id: AccountId, traffic_bytes: int, now: int, *, certificate_id: CertificateId | None = None
    ) -> int:
        """Reserve the price of `traffic_bytes`; the hold's id. BooksRefused when the deposit or a certificate lacks."""
        ...

    async def settle_egress(self, hold_id: int, used_bytes: int, now: int) -> None:
        """Post what was used of the hold and give back the rest. Settling it again does nothing."""
        ...

    async def settle_orphaned_holds(self, now: int) -> int:
        """At start-up: post in full the holds a crash left behind (they bound what was read); how many."""
        ...


class DelegationBooks(Protocol):
    """Certificates by which others act for an account."""

    async def present(self, authority: Authority, now: int) -> Delegate:
        """Enter the chain's certificates, and what was done under the last one so far.

        BooksRefused: NO_ACCOUNT, LAPSED, DELEGATION_ENDED, or DELEGATION_REFUSED when there are too many.
        """
        ...

    async def delegate(self, certificate_id: CertificateId, now: int) -> Delegate:
        """A presented certificate as it stands; BooksRefused(DELEGATION_ENDED) when it was revoked or has expired."""
        ...

    async def revoke(self, account_id: AccountId, target: bytes, now: int) -> int:
        """End the certificate of this id, or all of this subject, with those below; how many presented ones ended."""
        ...

    async def usages(self, account_id: AccountId, *, after: CertificateId | None, limit: int) -> list[Usage]:
        """What was done under the account's certificates, ascending by id."""
        ...

    async def is_below(self, account_id: AccountId, target: CertificateId, above: CertificateId | None) -> bool:
        """Whether `target` is a certificate of the account, and (with `above`) that one or below it."""
        ...

    async def delegated(self, account_id: AccountId) -> tuple[int, int]:
        """Bytes and shares stored under the account's certificates."""
        ...


class LedgerBooks(Protocol):
    """The double-entry ledger. Spans of time include `from_at` and end before `until_at`; None has no bound."""

    async def balances(self, *, until_at: int | None = None) -> dict[str, Msat]:
        """Debits less credits by ledger account; they add up to 0."""
        ...

    async def postings(
        self, *, after_posting_id: int, limit: int, from_at: int | None = None, until_at: int | None = None
    ) -> list[Posting]:
        """Postings in order."""
        ...

    async def income(
        self, *, from_at: int | None = None, until_at: int | None = None, by_account: bool = False
    ) -> list[Income]:
        """What was earned in each month, by kind and, with `by_account`, by account."""
        ...

    async def petnames(self) -> dict[str, str]:
        """What the operator calls accounts, by their id in hex: those that have a petname."""
        ...

    async def write_off(self, account_id: AccountId, now: int, *, after_seconds: int, reason: str) -> Msat:
        """Take the deposit of an account that lapsed at least `after_seconds` ago as income; how much it was.

        BooksRefused when the account has not lapsed, not so long ago, or has no deposit.
        """
        ...


class RecordBooks(Protocol):
    """Small signed mutable records."""

    async def put_record(self, record: Record, encoded: bytes) -> None:
        """Store it; BooksRefused(RECORD_STALE) when a newer or other one of the same sequence is there."""
        ...

    async def get_record(self, account_id: AccountId, name: bytes) -> bytes | None:
        """The signed record."""
        ...


class AuditBooks(Protocol):
    """Adding everything up again."""

    async def differences(self) -> list[Difference]:
        """What the books say of themselves that does not agree; all of it of one moment."""
        ...

    async def recorded(self, labels: Sequence[str]) -> dict[str, Recorded]:
        """What the books have of the invoices with these labels, by label."""
        ...

    async def credited_since(self, pay_index: int, *, until: int) -> list[Recorded]:
        """The next credited invoices with a greater pay index, `until` included, in order; none at the end."""
        ...


class ReceiptBooks(Protocol):
    """What was credited for whom, and what clients signed for it."""

    async def credited(self, account_id: AccountId, *, first_number: int, limit: int) -> tuple[int, list[Credited]]:
        """How many invoices of the account were credited in all, ever, and those from `first_number` on, in order."""
        ...

    async def agreements(self, account_id: AccountId) -> list[bytes]:
        """Every agreement of the account that an invoice was made under or that holds, oldest first, encoded."""
        ...

    async def acknowledge(self, account_id: AccountId, words: Mapping[str, bytes]) -> int:
        """Keep acknowledgements by label of credited invoices, the first of each; how many the account has then."""
        ...


class PetnameTaken(Exception):
    """Another account has this petname."""


class Books(
    AccountBooks,
    AccountAdmin,
    InvitationBooks,
    StrangerBooks,
    LeaseBooks,
    DelegationBooks,
    InvoiceBooks,
    TrafficBooks,
    LedgerBooks,
    AuditBooks,
    RecordBooks,
    ReceiptBooks,
    Protocol,
):
    """A node's books."""
