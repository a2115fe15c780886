"""The closed registry of error codes, and the two exceptions that say whose fault an error is (spec 06)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum


class Retry(Enum):
    """What the receiver of an error may do about it."""

    NEVER = "never"
    """The same request will fail again."""
    LATER = "later"
    """The same request may succeed after a pause; back off."""
    AFTER_ACTION = "after_action"
    """First do what the error says (pay, fetch terms, free capacity), then repeat."""


class ErrorCode(IntEnum):
    """Every error a peer may send. Codes are never reused; an unknown code is read as INTERNAL."""

    MALFORMED = 1
    UNKNOWN_MESSAGE = 2
    TOO_LARGE = 3
    UNSUPPORTED_VERSION = 4
    UNKNOWN_FEATURE = 5
    HELLO_REQUIRED = 6
    NO_ACCOUNT = 10
    ACCOUNT_REFUSED = 11
    BAD_SIGNATURE = 12
    TERMS_CHANGED = 13
    PAYMENT_REQUIRED = 14
    IN_GRACE = 15
    LAPSED = 16
    ACCOUNT_BLOCKED = 17
    INVITATION_REQUIRED = 18
    CAPACITY_EXCEEDED = 20
    CAPACITY_REFUSED = 21
    SHARE_UNKNOWN = 22
    ROOT_MISMATCH = 23
    RANGE_INVALID = 24
    STORAGE_FULL = 25
    DELEGATION_REFUSED = 26
    DELEGATION_EXHAUSTED = 27
    DELEGATION_ENDED = 28
    NONCE_MISMATCH = 30
    PERIOD_REFUSED = 31
    LIGHTNING_UNAVAILABLE = 32
    RATE_LIMITED = 33
    PRICE_NOT_AGREED = 36
    PRICE_UNAVAILABLE = 37
    SHRINK_PLANNED = 38
    CAPACITY_IN_USE = 39
    RECORD_STALE = 40
    RECORD_UNKNOWN = 41
    SHUTTING_DOWN = 50
    INTERNAL = 51


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """How an error is to be met: its retry rule and a sentence for the person who meets it."""

    retry: Retry
    sentence: str


ERROR_RULES: dict[ErrorCode, ErrorRule] = {
    ErrorCode.MALFORMED: ErrorRule(Retry.NEVER, "The peer could not read the message; one of the two is faulty."),
    ErrorCode.UNKNOWN_MESSAGE: ErrorRule(Retry.NEVER, "The peer does not know this message; it may be older."),
    ErrorCode.TOO_LARGE: ErrorRule(Retry.NEVER, "The message is larger than its type allows."),
    ErrorCode.UNSUPPORTED_VERSION: ErrorRule(Retry.NEVER, "The two sides share no protocol version; update one."),
    ErrorCode.UNKNOWN_FEATURE: ErrorRule(Retry.NEVER, "The peer requires a feature that this side lacks; update."),
    ErrorCode.HELLO_REQUIRED: ErrorRule(Retry.AFTER_ACTION, "The first request of a connection must be hello."),
    ErrorCode.NO_ACCOUNT: ErrorRule(Retry.AFTER_ACTION, "There is no account at this node; open one first."),
    ErrorCode.ACCOUNT_REFUSED: ErrorRule(Retry.NEVER, "The node's operator does not serve this account."),
    ErrorCode.BAD_SIGNATURE: ErrorRule(Retry.NEVER, "A signature does not fit its content."),
    ErrorCode.TERMS_CHANGED: ErrorRule(Retry.AFTER_ACTION, "These are not the node's current terms; get them again."),
    ErrorCode.PAYMENT_REQUIRED: ErrorRule(Retry.AFTER_ACTION, "Pay first: the invoice comes with the error."),
    ErrorCode.IN_GRACE: ErrorRule(Retry.AFTER_ACTION, "Rent is overdue: pay it, then write again."),
    ErrorCode.LAPSED: ErrorRule(
        Retry.AFTER_ACTION, "Rent was not paid in time and the shares are gone; open the account anew."
    ),
    ErrorCode.ACCOUNT_BLOCKED: ErrorRule(
        Retry.AFTER_ACTION, "The node's operator has blocked this account: read what is there, and ask the operator."
    ),
    ErrorCode.INVITATION_REQUIRED: ErrorRule(
        Retry.AFTER_ACTION, "An account here takes a valid invitation; ask the node's operator for one."
    ),
    ErrorCode.CAPACITY_EXCEEDED: ErrorRule(Retry.AFTER_ACTION, "The rented capacity is used up; rent more."),
    ErrorCode.CAPACITY_REFUSED: ErrorRule(Retry.NEVER, "The node does not rent out that capacity."),
    ErrorCode.SHARE_UNKNOWN: ErrorRule(Retry.NEVER, "The node does not hold this share."),
    ErrorCode.ROOT_MISMATCH: ErrorRule(Retry.NEVER, "The bytes do not have the Merkle root they were sent under."),
    ErrorCode.RANGE_INVALID: ErrorRule(Retry.NEVER, "The range lies outside the share."),
    ErrorCode.STORAGE_FULL: ErrorRule(Retry.LATER, "The node's disk is full or failing."),
    ErrorCode.DELEGATION_REFUSED: ErrorRule(
        Retry.NEVER, "The delegation does not allow this; ask the account's holder, or use an account of your own."
    ),
    ErrorCode.DELEGATION_EXHAUSTED: ErrorRule(
        Retry.AFTER_ACTION, "What the delegation allows is used up; drop something, or ask for another delegation."
    ),
    ErrorCode.DELEGATION_ENDED: ErrorRule(
        Retry.AFTER_ACTION, "The delegation has expired or was revoked; ask the account's holder for another one."
    ),
    ErrorCode.NONCE_MISMATCH: ErrorRule(Retry.NEVER, "Another nonce was already revealed for this token index."),
    ErrorCode.PERIOD_REFUSED: ErrorRule(
        Retry.AFTER_ACTION, "That period or index is not the account's next; ask for its status again."
    ),
    ErrorCode.LIGHTNING_UNAVAILABLE: ErrorRule(Retry.LATER, "The node's Lightning daemon does not answer."),
    ErrorCode.RATE_LIMITED: ErrorRule(Retry.LATER, "Too many requests of this kind; slow down."),
    ErrorCode.PRICE_NOT_AGREED: ErrorRule(
        Retry.AFTER_ACTION, "The price of that period is announced to change; sign the new terms, then pay."
    ),
    ErrorCode.PRICE_UNAVAILABLE: ErrorRule(Retry.LATER, "The node cannot say what it costs now; ask again later."),
    ErrorCode.SHRINK_PLANNED: ErrorRule(
        Retry.AFTER_ACTION, "A smaller capacity is planned; take that back, then rent more."
    ),
    ErrorCode.CAPACITY_IN_USE: ErrorRule(
        Retry.AFTER_ACTION, "More is stored than that capacity holds; remove files first."
    ),
    ErrorCode.RECORD_STALE: ErrorRule(Retry.NEVER, "The node holds a newer record."),
    ErrorCode.RECORD_UNKNOWN: ErrorRule(Retry.NEVER, "The node holds no such record."),
    ErrorCode.SHUTTING_DOWN: ErrorRule(Retry.LATER, "The node is stopping; reconnect later."),
    ErrorCode.INTERNAL: ErrorRule(Retry.LATER, "The node failed; its log says why."),
}


class ProtocolError(Exception):
    """A rule of the protocol was broken. Only the two subclasses are raised."""


class LocalProtocolError(ProtocolError):
    """This side used the library wrongly (send before the handshake, a message over its limit, …)."""


class RemoteProtocolError(ProtocolError):
    """The peer's bytes break the protocol. `code` is what to answer before closing.

    `request_id` is the request at fault, where that much could be read: the one to answer.
    """

    def __init__(self, message: str, code: ErrorCode = ErrorCode.MALFORMED) -> None:
        super().__init__(message)
        self.code = code
        self.request_id: int | None = None
