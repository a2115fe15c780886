"""Every message of version 1: one frozen dataclass each, and the Request / Reply unions (spec 02, 02a, 02b).

A message on the wire is a frame: u32 head length, u32 payload length, head, payload (frames.py). The head is the
msgpack array `[type, request id, body]`, the body a map from the key numbers given here to values. Required fields
have even keys, optional ones odd keys, so that the even/odd rule tells what an unknown key means. A field named
`payload` never enters the head: it is the frame's payload, raw bytes that nobody copies.

Rules that this file keeps: a request type is even and below 256; its reply is the same type + 256; ERROR is 512.
Lengths and element counts are bounded by `max_len` at the field; integers are 0 … 2^63-1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar

from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId, CertificateId, InvitationSecret, LightningId, Msat, ShareId

Buffer = bytes | bytearray | memoryview
"""Bulk bytes that are passed on without a copy."""

KIB = 1024
MAX_SHARE_BYTES = 4 * KIB * KIB
LEAF_BYTES = 16 * KIB
TOKENS_PER_SHARE = 24
TOKEN_INDICES = 1 << 32
TOKEN_BYTES = 16
SAMPLE_SHARES = 512
MAX_IDS = 16_384
"""Share ids in one have_shares, list_shares or drop_shares."""

MAX_DELEGATIONS = 256
"""Certificates in one list_delegations."""

MAX_TOKEN_TABLES = 1024
"""Shares in one put_tokens."""

RECEIPTS_AT_ONCE = 64
MAX_RECEIPT_BYTES = 512
"""A signed receipt or acknowledgement (receipts.py)."""

REPLY = 256
"""What a request's type and its reply's differ by."""


def wire(key: int, *, max_len: int = 0, **kwargs: Any) -> Any:
    """A dataclass field with body key `key`; `max_len` bounds bytes, text (in UTF-8 bytes) or list elements."""
    return field(metadata={"key": key, "max_len": max_len}, **kwargs)


def demands_a_feature(features: bytes) -> bool:
    """Whether the bit field of a hello sets an even bit: a demand, and version 1.0 knows no feature (M-R11, M-R12)."""
    return any(byte & 0x55 for byte in features)


class AccountState(IntEnum):
    """An account's standing. ACTIVE also before any capacity is rented."""

    ACTIVE = 0
    GRACE = 1
    LAPSED = 2


class AccountStage(IntEnum):
    """The stages of an account that rents: finer than its state, from which and the time it follows (stages.py)."""

    ACTIVE = 0
    """Paid, and nothing to do."""
    DUE = 1
    """Still paid; the next period's rent is to be paid now."""
    GRACE = 2
    LAPSED = 3
    """Its shares are being deleted."""
    SWEPT = 4
    """Nothing of it is left."""


class InvoicePurpose(IntEnum):
    """What an invoice pays for."""

    RENT = 0
    CAPACITY = 1
    DEPOSIT = 2


# --- requests and replies, in the order of their types ------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first request on a connection: version, features (bit field, least significant bit of the last byte = 0)."""

    TYPE: ClassVar[int] = 2
    version_major: int = wire(2)
    version_minor: int = wire(4)
    features: bytes = wire(6, max_len=64)
    agent: str = wire(1, max_len=128, default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class HelloReply:
    """Who the node is. `lightning_signature` (zbase32) binds its Lightning key to its node id (terms.binding_text)."""

    TYPE: ClassVar[int] = 2 + REPLY
    version_major: int = wire(2)
    version_minor: int = wire(4)
    features: bytes = wire(6, max_len=64)
    network: str = wire(8, max_len=32)
    lightning_id: LightningId = wire(10)
    lightning_signature: str = wire(12, max_len=256)
    now_at: int = wire(14)
    agent: str = wire(1, max_len=128, default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class GetTerms:
    """Ask for the node's current terms, or (with its secret) for those of an invitation. Needs no account."""

    TYPE: ClassVar[int] = 4
    invitation: InvitationSecret | None = wire(1, default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TermsReply:
    """`terms` is a signed Terms (terms.py)."""

    TYPE: ClassVar[int] = 4 + REPLY
    terms: bytes = wire(2, max_len=4 * KIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAccount:
    """`agreement` is an Agreement signed by the client (terms.py); `invitation` the secret its terms were made for.

    `lightning_id` is the client's own, where it wants the node's operator to know it.
    """

    TYPE: ClassVar[int] = 6
    agreement: bytes = wire(2, max_len=8 * KIB)
    invitation: InvitationSecret | None = wire(1, default=None, repr=False)
    lightning_id: LightningId | None = wire(3, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAccountReply:
    """The agreement signed by both; for an account that exists already, the one it has."""

    TYPE: ClassVar[int] = 6 + REPLY
    agreement: bytes = wire(2, max_len=8 * KIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountStatus:
    """Ask how the account stands."""

    TYPE: ClassVar[int] = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountStatusReply:
    """How the account stands.

    `paid_until_at` is the end of the last paid period; `next_period` the first unpaid one; `token_index` t of its
    proof; `growth_index` and `deposit_index` the numbers of the next growth and deposit. Traffic counts bytes ever.
    `quota_bytes` bounds what may be written where the operator set a quota; `blocked` and `free` are 0 or 1; proofs are
    counted over the account key's whole life.
    `delegated_bytes` and `delegated_shares` of what is used was stored by delegates. A delegate is told what it may
    and does use itself.
    `removed_at` is when an account that never paid anything may be removed.
    `agreement` is the last but one that was signed if there are several, `renewed_agreement` then the last. A change of
    prices that is not signed yet is told with all three of the announced fields.
    `next_stage` comes at `next_stage_at` unless something is paid, which its client is warned of from `warning_at` on;
    all three are None when nothing is to come. From period `shrink_period` on the capacity is `shrink_to_bytes`.
    """

    TYPE: ClassVar[int] = 8 + REPLY
    state: AccountState = wire(2)
    capacity_bytes: int = wire(4)
    used_bytes: int = wire(6)
    shares: int = wire(8)
    deposit_msat: Msat = wire(10)
    anchor_at: int = wire(12)
    paid_until_at: int = wire(14)
    next_period: int = wire(16)
    token_index: int = wire(18)
    growth_index: int = wire(20)
    deposit_index: int = wire(22)
    ingress_bytes: int = wire(24)
    egress_bytes: int = wire(26)
    now_at: int = wire(28)
    agreement: bytes = wire(30, max_len=8 * KIB)
    quota_bytes: int | None = wire(41, default=None)
    blocked: int = wire(43, default=0)
    free: int = wire(45, default=0)
    proofs_passed: int | None = wire(47, default=None)
    proofs_failed: int | None = wire(49, default=None)
    delegated_bytes: int = wire(51, default=0)
    delegated_shares: int = wire(53, default=0)
    removed_at: int | None = wire(61, default=None)
    announced_terms: bytes | None = wire(21, max_len=4 * KIB, default=None)
    announced_period: int | None = wire(23, default=None)
    announced_at: int | None = wire(25, default=None)
    renewed_agreement: bytes | None = wire(27, max_len=8 * KIB, default=None)
    next_stage: AccountStage | None = wire(31, default=None)
    next_stage_at: int | None = wire(33, default=None)
    warning_at: int | None = wire(35, default=None)
    shrink_to_bytes: int | None = wire(37, default=None)
    shrink_period: int | None = wire(39, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewAgreement:
    """Accept announced terms: an agreement over them, from the announced period on, signed by the client alone."""

    TYPE: ClassVar[int] = 34
    agreement: bytes = wire(2, max_len=8 * KIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewAgreementReply:
    """The agreement that the node signed too."""

    TYPE: ClassVar[int] = 34 + REPLY
    agreement: bytes = wire(2, max_len=8 * KIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddCapacity:
    """Raise the capacity to `capacity_bytes` in all, as growth number `growth_index` of the account."""

    TYPE: ClassVar[int] = 10
    growth_index: int = wire(2)
    capacity_bytes: int = wire(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInvoice:
    """Ask for the invoice of a rent period (period, token_index, nonce) or a deposit (deposit_index, amount_msat)."""

    TYPE: ClassVar[int] = 12
    purpose: InvoicePurpose = wire(2)
    period: int | None = wire(1, default=None)
    token_index: int | None = wire(3, default=None)
    nonce: bytes | None = wire(5, max_len=32, default=None, repr=False)
    deposit_index: int | None = wire(7, default=None)
    amount_msat: Msat | None = wire(9, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceReply:
    """An invoice and what it is computed from; the same request gives the same reply.

    It pays for `capacity_bytes` (growth: the added bytes; deposit: 0) from `from_at` to `until_at`. For rent,
    `sample` is the proof's shares, ascending: share id (32) ‖ stored token (16) each, and `lost` the ids among the
    account's shares that the node admits to have lost, left out of the sample; `shares` is how many it holds.
    Where the price is 0 there is no invoice: `bolt11` is empty, and `preimage` is what it would be locked to.
    """

    TYPE: ClassVar[int] = 12 + REPLY
    bolt11: str = wire(2, max_len=4 * KIB)
    amount_msat: Msat = wire(4)
    from_at: int = wire(6)
    until_at: int = wire(8)
    capacity_bytes: int = wire(10)
    shares: int = wire(1, default=0)
    sample: bytes = wire(3, max_len=SAMPLE_SHARES * (32 + TOKEN_BYTES), default=b"", repr=False)
    lost: bytes = wire(5, max_len=SAMPLE_SHARES * 32, default=b"", repr=False)
    preimage: bytes | None = wire(7, max_len=32, default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddCapacityReply(InvoiceReply):
    """As InvoiceReply."""

    TYPE: ClassVar[int] = 10 + REPLY


@dataclass(frozen=True, slots=True, kw_only=True)
class ShrinkCapacity:
    """Rent only `capacity_bytes` from the next period on; the present capacity takes a former request back."""

    TYPE: ClassVar[int] = 36
    capacity_bytes: int = wire(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShrinkCapacityReply:
    """The capacity now, what it will be, and from which period on."""

    TYPE: ClassVar[int] = 36 + REPLY
    capacity_bytes: int = wire(2)
    next_capacity_bytes: int = wire(4)
    from_period: int = wire(6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """End the account: its leases, its capacity, and what is paid ahead, of which the terms may give some back."""

    TYPE: ClassVar[int] = 38


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveReply:
    """When the account ended, what was given back to its deposit, and the deposit then."""

    TYPE: ClassVar[int] = 38 + REPLY
    left_at: int = wire(2)
    refund_msat: Msat = wire(4)
    deposit_msat: Msat = wire(6)


@dataclass(frozen=True, slots=True, kw_only=True)
class PutShare:
    """Store a share (the payload, 1 … 4 MiB) with its tokens for the indices from `token_start` on."""

    TYPE: ClassVar[int] = 14
    share_id: ShareId = wire(2)
    token_start: int = wire(4)
    tokens: bytes = wire(6, max_len=TOKENS_PER_SHARE * TOKEN_BYTES, repr=False)
    payload: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PutShareReply:
    """The share is on disk and leased; `used_bytes` is the account's usage now.

    `charged_msat` was taken from the deposit for it, when the account had come to `ingress_bytes` with it.
    """

    TYPE: ClassVar[int] = 14 + REPLY
    used_bytes: int = wire(2)
    charged_msat: Msat | None = wire(3, default=None)
    ingress_bytes: int | None = wire(5, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class GetShare:
    """Read `length` bytes at `offset`; length 0 is to the end."""

    TYPE: ClassVar[int] = 16
    share_id: ShareId = wire(2)
    offset: int = wire(4)
    length: int = wire(6)


@dataclass(frozen=True, slots=True, kw_only=True)
class GetShareReply:
    """The leaves that cover the range, as payload, starting at `offset`; `proof` is their Merkle range proof."""

    TYPE: ClassVar[int] = 16 + REPLY
    offset: int = wire(2)
    share_bytes: int = wire(4)
    proof: bytes = wire(6, max_len=2 * KIB, repr=False)
    payload: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HaveShares:
    """Ask which of these shares (payload: ids, 32 bytes each, up to MAX_IDS) the account holds here."""

    TYPE: ClassVar[int] = 18
    payload: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HaveSharesReply:
    """One bit per id asked, first id in the most significant bit of the first byte."""

    TYPE: ClassVar[int] = 18 + REPLY
    held: bytes = wire(2, max_len=MAX_IDS // 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListShares:
    """Own shares in ascending order of id, those after `after` (or from the first); with `certificate` that one's."""

    TYPE: ClassVar[int] = 20
    limit: int = wire(2)
    after: ShareId | None = wire(1, default=None)
    certificate: CertificateId | None = wire(3, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListSharesReply:
    """Payload: share id (32) ‖ size (u32, big-endian) each; fewer than asked means that these are the last."""

    TYPE: ClassVar[int] = 20 + REPLY
    payload: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DropShares:
    """Give up the leases on these shares (payload: ids, 32 bytes each). Unknown ids are no error.

    Own leases, or with `certificate` those made under it.
    """

    TYPE: ClassVar[int] = 22
    certificate: CertificateId | None = wire(1, default=None)
    payload: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DropSharesReply:
    """How many leases ended and what the account uses now."""

    TYPE: ClassVar[int] = 22 + REPLY
    dropped: int = wire(2)
    used_bytes: int = wire(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditShare:
    """Show one 16 KiB leaf of a share the account holds."""

    TYPE: ClassVar[int] = 24
    share_id: ShareId = wire(2)
    leaf: int = wire(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditShareReply:
    """The leaf (payload) and its Merkle path."""

    TYPE: ClassVar[int] = 24 + REPLY
    share_bytes: int = wire(2)
    proof: bytes = wire(4, max_len=2 * KIB, repr=False)
    payload: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRecord:
    """Store a signed Record (terms.py) of this account; it replaces one of the same name and a lower sequence."""

    TYPE: ClassVar[int] = 26
    record: bytes = wire(2, max_len=8 * KIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class PutRecordReply:
    """The record is stored."""

    TYPE: ClassVar[int] = 26 + REPLY


@dataclass(frozen=True, slots=True, kw_only=True)
class GetRecord:
    """Read a record of an account by name. Needs no account of one's own."""

    TYPE: ClassVar[int] = 28
    account_id: AccountId = wire(2)
    name: bytes = wire(4, max_len=32)


@dataclass(frozen=True, slots=True, kw_only=True)
class GetRecordReply:
    """The signed Record."""

    TYPE: ClassVar[int] = 28 + REPLY
    record: bytes = wire(2, max_len=8 * KIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelInfo:
    """Ask how to open a Lightning channel to the node; `lightning_id` is the client's own, if it says it."""

    TYPE: ClassVar[int] = 30
    lightning_id: LightningId | None = wire(1, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelInfoReply:
    """Where the node's Lightning daemon answers (host:port each) and the smallest channel it takes."""

    TYPE: ClassVar[int] = 30 + REPLY
    lightning_id: LightningId = wire(2)
    addresses: list[str] = wire(4, max_len=8)
    minimum_sat: int = wire(6)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPeers:
    """Ask which other nodes the operator recommends."""

    TYPE: ClassVar[int] = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPeersReply:
    """Node addresses (lnstore://…)."""

    TYPE: ClassVar[int] = 32 + REPLY
    peers: list[str] = wire(2, max_len=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentDelegation:
    """Act on this connection from now on for the account that the chain (delegation.py) begins with."""

    TYPE: ClassVar[int] = 40
    chain: bytes = wire(2, max_len=2 * KIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentDelegationReply:
    """What the certificate has stored and read so far, with those below it."""

    TYPE: ClassVar[int] = 40 + REPLY
    used_bytes: int = wire(2)
    read_bytes: int = wire(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeDelegation:
    """End a certificate of the account (`target` is its id) or all of a subject (its key), and all below it."""

    TYPE: ClassVar[int] = 42
    target: bytes = wire(2, max_len=32)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeDelegationReply:
    """Ended for good; `certificates` of those that were presented here ended by it."""

    TYPE: ClassVar[int] = 42 + REPLY
    certificates: int = wire(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListDelegations:
    """The account's certificates that were presented here, ascending by id, those after `after`."""

    TYPE: ClassVar[int] = 44
    limit: int = wire(2)
    after: CertificateId | None = wire(1, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListDelegationsReply:
    """Payload: a CBOR array of usages (delegation.Usage); fewer than asked means that these are the last."""

    TYPE: ClassVar[int] = 44 + REPLY
    payload: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GetReceipts:
    """The account's receipts from number `first_number` on, at most `limit` (1 … RECEIPTS_AT_ONCE) of them."""

    TYPE: ClassVar[int] = 46
    first_number: int = wire(2)
    limit: int = wire(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class GetReceiptsReply:
    """Payload: length (u16) ‖ signed receipt (receipts.py) each, ascending; `total` is how many the account has."""

    TYPE: ClassVar[int] = 46 + REPLY
    total: int = wire(2)
    payload: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PutReceipts:
    """Payload: length (u16) ‖ acknowledgement (receipts.py) each, signed by the account."""

    TYPE: ClassVar[int] = 48
    payload: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PutReceiptsReply:
    """How many of the account's receipts are acknowledged now."""

    TYPE: ClassVar[int] = 48 + REPLY
    acknowledged: int = wire(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class PutTokens:
    """Replace the tokens of shares that the account holds here (payload: share id (32) ‖ `count` tokens each)."""

    TYPE: ClassVar[int] = 50
    token_start: int = wire(2)
    count: int = wire(4)
    payload: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PutTokensReply:
    """One bit per share, first in the most significant bit of the first byte: whether it has tokens up to there now."""

    TYPE: ClassVar[int] = 50 + REPLY
    stored: bytes = wire(2, max_len=MAX_TOKEN_TABLES // 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReply:
    """The request failed. PAYMENT_REQUIRED may carry the invoice to pay, RATE_LIMITED when to ask again.

    CAPACITY_REFUSED may carry the capacity that the account can have at first, before it is given what it asked for.
    """

    TYPE: ClassVar[int] = 512
    code: ErrorCode = wire(2)
    message: str = wire(4, max_len=1024)
    bolt11: str | None = wire(1, max_len=4 * KIB, default=None)
    amount_msat: Msat | None = wire(3, default=None)
    retry_after_seconds: int | None = wire(5, default=None)
    capacity_bytes: int | None = wire(7, default=None)


Request = (
    Hello
    | GetTerms
    | OpenAccount
    | AccountStatus
    | RenewAgreement
    | AddCapacity
    | ShrinkCapacity
    | Leave
    | RequestInvoice
    | PutShare
    | GetShare
    | HaveShares
    | ListShares
    | DropShares
    | AuditShare
    | PutRecord
    | GetRecord
    | ChannelInfo
    | ListPeers
    | PresentDelegation
    | RevokeDelegation
    | ListDelegations
    | GetReceipts
    | PutReceipts
    | PutTokens
)
Reply = (
    HelloReply
    | TermsReply
    | OpenAccountReply
    | AccountStatusReply
    | RenewAgreementReply
    | AddCapacityReply
    | ShrinkCapacityReply
    | LeaveReply
    | InvoiceReply
    | PutShareReply
    | GetShareReply
    | HaveSharesReply
    | ListSharesReply
    | DropSharesReply
    | AuditShareReply
    | PutRecordReply
    | GetRecordReply
    | ChannelInfoReply
    | ListPeersReply
    | PresentDelegationReply
    | RevokeDelegationReply
    | ListDelegationsReply
    | GetReceiptsReply
    | PutReceiptsReply
    | PutTokensReply
    | ErrorReply
)
Message = Request | Reply


@dataclass(frozen=True, slots=True)
class SizeLimit:
    """The most bytes a message's head and payload may have."""

    head_bytes: int
    payload_bytes: int = 0


DEFAULT_LIMIT = SizeLimit(1 * KIB)
UNKNOWN_LIMIT = SizeLimit(64 * KIB)
"""For unknown types: read, then ignored (odd) or refused (even)."""

SIZE_LIMITS: dict[int, SizeLimit] = {
    TermsReply.TYPE: SizeLimit(5 * KIB),
    OpenAccount.TYPE: SizeLimit(9 * KIB),
    OpenAccountReply.TYPE: SizeLimit(9 * KIB),
    AccountStatusReply.TYPE: SizeLimit(21 * KIB),
    RenewAgreement.TYPE: SizeLimit(9 * KIB),
    RenewAgreementReply.TYPE: SizeLimit(9 * KIB),
    InvoiceReply.TYPE: SizeLimit(48 * KIB),
    AddCapacityReply.TYPE: SizeLimit(48 * KIB),
    PutShare.TYPE: SizeLimit(1 * KIB, MAX_SHARE_BYTES),
    GetShareReply.TYPE: SizeLimit(3 * KIB, MAX_SHARE_BYTES),
    HaveShares.TYPE: SizeLimit(1 * KIB, MAX_IDS * 32),
    HaveSharesReply.TYPE: SizeLimit(3 * KIB),
    ListSharesReply.TYPE: SizeLimit(1 * KIB, MAX_IDS * 36),
    DropShares.TYPE: SizeLimit(1 * KIB, MAX_IDS * 32),
    AuditShareReply.TYPE: SizeLimit(3 * KIB, LEAF_BYTES),
    PutRecord.TYPE: SizeLimit(9 * KIB),
    GetRecordReply.TYPE: SizeLimit(9 * KIB),
    ChannelInfoReply.TYPE: SizeLimit(3 * KIB),
    ListPeersReply.TYPE: SizeLimit(32 * KIB),
    PresentDelegation.TYPE: SizeLimit(3 * KIB),
    ListDelegationsReply.TYPE: SizeLimit(1 * KIB, MAX_DELEGATIONS * KIB),
    PutTokens.TYPE: SizeLimit(1 * KIB, MAX_TOKEN_TABLES * (32 + TOKENS_PER_SHARE * TOKEN_BYTES)),
    GetReceiptsReply.TYPE: SizeLimit(1 * KIB, RECEIPTS_AT_ONCE * (2 + MAX_RECEIPT_BYTES)),
    PutReceipts.TYPE: SizeLimit(1 * KIB, RECEIPTS_AT_ONCE * (2 + MAX_RECEIPT_BYTES)),
    ErrorReply.TYPE: SizeLimit(6 * KIB),
}
