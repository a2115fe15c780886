"""What can keep the client from spending: one class per thing a person does next, each text saying what that is.

Every class here means that nothing was paid, except PaymentOpen (not known yet) and NotCredited (paid, and the node
has not said so).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import ClassVar

from lnstore.client.faults import Fault
from lnstore.errors import ExitCode, LnstoreError
from lnstore_protocol.ids import ShareId


class NodeUntrusted(LnstoreError):
    """What the node says of itself or of our account does not hold: its Lightning key, network, terms or numbers."""

    exit_code: ClassVar[ExitCode] = ExitCode.NODE


class TermsRefused(LnstoreError):
    """The node's terms are beyond the limits of the profile, or no longer valid."""

    exit_code: ClassVar[ExitCode] = ExitCode.PAYMENT


class PriceUnsigned(LnstoreError):
    """The price of a period is announced to change, and you have not signed the change."""

    exit_code: ClassVar[ExitCode] = ExitCode.PAYMENT


class AccountMissing(LnstoreError):
    """There is no usable account at the node: none opened yet, or it lapsed."""

    exit_code: ClassVar[ExitCode] = ExitCode.NODE


class CapacityUnfit(LnstoreError):
    """The node's terms do not allow this capacity, or the account already has more."""

    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


class InvoiceFault(Enum):
    """The check of an invoice that failed."""

    UNREADABLE = "unreadable"
    WRONG_PAYEE = "wrong_payee"
    WRONG_NETWORK = "wrong_network"
    NO_AMOUNT = "no_amount"
    OVERPRICED = "overpriced"
    AMOUNT_DIFFERS = "amount_differs"
    WRONG_HASH = "wrong_hash"
    EXPIRED = "expired"
    WRONG_PERIOD = "wrong_period"
    WRONG_CAPACITY = "wrong_capacity"
    ALREADY_PAID = "already_paid"


class InvoiceRefused(LnstoreError):
    """The node's invoice is not what it should be; `fault` says which check failed."""

    exit_code: ClassVar[ExitCode] = ExitCode.PAYMENT

    def __init__(self, fault: InvoiceFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class PaymentFailed(LnstoreError):
    """The payment failed for good; nothing left us."""

    exit_code: ClassVar[ExitCode] = ExitCode.PAYMENT


class InvoiceLost(PaymentFailed):
    """Nothing left us, and our daemon will never pay this invoice: it died between recording and sending."""


class BudgetExceeded(LnstoreError):
    """The payment is more than a budget of the profile has left."""

    exit_code: ClassVar[ExitCode] = ExitCode.PAYMENT


class PaymentOpen(LnstoreError):
    """The payment is on its way, or its outcome is not known. Run the command again: nothing is paid twice."""

    exit_code: ClassVar[ExitCode] = ExitCode.PAYMENT


class NotCredited(LnstoreError):
    """The payment settled, and the node did not credit it in time. It is not paid again."""

    exit_code: ClassVar[ExitCode] = ExitCode.PAYMENT


class ProofFailed(LnstoreError):
    """The node did not prove that it holds our shares; `fault` says how.

    `lost`: those it says it lost; `missing`: those it left out or does not list.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.DATA

    def __init__(
        self, fault: Fault, message: str, *, missing: Sequence[ShareId] = (), lost: Sequence[ShareId] = ()
    ) -> None:
        super().__init__(message)
        self.fault = fault
        self.missing = tuple(missing)
        self.lost = tuple(lost)


class TokensUsedUp(LnstoreError):
    """Some shares have no storage token left for the proof that is due; new ones must be made (renewal.py)."""

    exit_code: ClassVar[ExitCode] = ExitCode.DATA

    def __init__(self, message: str, *, shares: Sequence[ShareId]) -> None:
        super().__init__(message)
        self.shares = tuple(shares)
