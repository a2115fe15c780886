"""What the books allow and what a credit does: pure, `now` is an argument, no SQL.

Ledger accounts: "lightning" is what the daemon received, "deposit:…" what clients are owed, "hold:…" the part of it
that is reserved for reading under way, "rent:…", "growth:…", "egress:…" and "ingress:…" what was earned, "refund:…"
what of that was given back, into the deposit, and "written-off:…" deposits that nobody will claim any more. A posting
moves its amount from the credit account to the debit account, so that debits less credits add up to 0 over all
accounts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from lnstore.books.states import due, first_look, shrunk_for
from lnstore.ports import Account, BooksRefused, PlannedInvoice
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId, Msat
from lnstore_protocol.messages import AccountState, InvoicePurpose
from lnstore_protocol.prices import PriceNotAgreed
from lnstore_protocol.stages import Due
from lnstore_protocol.terms import Agreement, period_at, period_start, traffic_msat

LIGHTNING = "lightning"


LATE = "unusable payment"
OVER = "overpayment"
REFUND = "refund"
WRITE_OFF = "write-off"
DEPOSITING = ("deposit", OVER, LATE)
"""The kinds of posting by which what the daemon received becomes deposit."""

BUYING = ("rent", "growth")
"""The kinds by which it becomes income."""


class Ledger(Enum):
    """The ledger accounts that each account has."""

    DEPOSIT = "deposit"
    HOLD = "hold"
    RENT = "rent"
    GROWTH = "growth"
    EGRESS = "egress"
    INGRESS = "ingress"
    REFUND = "refund"
    WRITTEN_OFF = "written-off"

    def of(self, account_id: AccountId) -> str:
        """Its name for this account."""
        return f"{self.value}:{account_id.hex()}"


FROM_THE_START = (Ledger.DEPOSIT, Ledger.HOLD, Ledger.RENT, Ledger.GROWTH, Ledger.EGRESS)
"""Those that are made when an account is opened; the others with their first posting."""


EARNING = (Ledger.RENT, Ledger.GROWTH, Ledger.EGRESS, Ledger.INGRESS, Ledger.REFUND, Ledger.WRITTEN_OFF)
"""Income, and what lessens it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A posting to be made."""

    kind: str
    debit: str
    credit: str
    amount_msat: int


# --- writing --------------------------------------------------------------------------------------------------------

_NO_WRITE: dict[AccountState, tuple[ErrorCode, str] | None] = {
    AccountState.ACTIVE: None,
    AccountState.GRACE: (ErrorCode.IN_GRACE, "rent is overdue; pay it, then write again"),
    AccountState.LAPSED: (ErrorCode.LAPSED, "rent was not paid in time; open the account anew"),
}


def blocked_refusal() -> BooksRefused:
    """What a blocked account is answered that wants to write or to pay."""
    return BooksRefused(
        ErrorCode.ACCOUNT_BLOCKED,
        "the operator has blocked this account: no money is taken, nothing is written, and what is stored here can be "
        "read until the account lapses",
    )


def write_refusal(
    state: AccountState,
    capacity_bytes: int,
    used_bytes: int,
    size_bytes: int,
    *,
    quota_bytes: int | None = None,
    blocked: bool = False,
) -> BooksRefused | None:
    """Why an account that stands so may not store `size_bytes` more (0: tokens again); None when it may."""
    if (refusal := _NO_WRITE[state]) is not None:
        return BooksRefused(*refusal)
    if blocked:  # RA-W3
        return blocked_refusal()
    if size_bytes and quota_bytes is not None and used_bytes + size_bytes > quota_bytes:  # RA-W2
        return BooksRefused(
            ErrorCode.CAPACITY_EXCEEDED,
            f"{size_bytes} bytes do not fit: the operator allows {quota_bytes} bytes here, whatever is rented, and "
            f"{used_bytes} are used; rent at another node, or ask the operator",
        )
    if used_bytes + size_bytes > capacity_bytes:
        free = capacity_bytes - used_bytes
        return BooksRefused(
            ErrorCode.CAPACITY_EXCEEDED,
            f"{size_bytes} bytes do not fit: {free} of {capacity_bytes} rented bytes are free; rent more",
        )
    return None


def ended_refusal(expires_at: int, revoked_at: int | None, now: int) -> BooksRefused | None:  # D-R5, D-R15
    """Why nothing may be done under a certificate any more; None when something may."""
    if revoked_at is not None:
        return BooksRefused(ErrorCode.DELEGATION_ENDED, "the delegation was revoked; ask the account's holder")
    if now >= expires_at:
        return BooksRefused(ErrorCode.DELEGATION_ENDED, "the delegation has expired; ask the account's holder")
    return None


def exhausted_refusal(free_bytes: int, size_bytes: int, what: str) -> BooksRefused | None:  # D-R11, D-R12
    """Why `size_bytes` more may not be stored or read under a certificate; None when they may. `what` is done."""
    if size_bytes <= free_bytes:
        return None
    return BooksRefused(
        ErrorCode.DELEGATION_EXHAUSTED,
        f"{size_bytes} bytes may not be {what} under this delegation: {free_bytes} are left of what it allows",
    )


# --- invoices -------------------------------------------------------------------------------------------------------


def growth_window(account: Account, rent: PlannedInvoice | None, now: int) -> tuple[int, int]:  # R-W8
    """From when until when growth that is asked for at `now` is charged.

    `rent` is the invoice planned for the account's next period: its amount counts the capacity of before, so growth
    pays for that period too.
    """
    if account.capacity_bytes == 0:
        # An anchor may lie some minutes ahead of this clock: the time before it belongs to period 0.
        current = max(0, period_at(account.anchor_at, account.period_seconds, now))
        end = period_start(account.anchor_at, account.period_seconds, current + 1)
        return now, max(end, account.paid_until_at)
    return now, max(account.paid_until_at, rent.until_at if rent is not None else 0)


def renewal_refusal(account: Account, agreement: Agreement) -> BooksRefused | None:  # MA-R27
    """Why the account's next agreement may not be this one; None when it may."""
    if account.state is AccountState.LAPSED:
        return BooksRefused(ErrorCode.LAPSED, "rent was not paid in time; open the account anew")
    told = account.announcement
    announced = None if told is None else (told.terms, told.from_period, account.anchor_at)
    if announced != (agreement.terms.encoded, agreement.from_period, agreement.anchor_at):
        return BooksRefused(
            ErrorCode.TERMS_CHANGED, "no such change of prices is announced; ask for the account's status"
        )
    return None


def plan_refusal(account: Account, planned: PlannedInvoice) -> BooksRefused | None:
    """Why this invoice may not be planned for the account; None when it may."""
    expected, what = _EXPECTED[planned.purpose](account)
    if account.blocked:  # RA-W3
        return blocked_refusal()
    if planned.purpose is not InvoicePurpose.DEPOSIT and account.state is AccountState.LAPSED:
        return BooksRefused(ErrorCode.LAPSED, "rent was not paid in time; open the account anew")
    if planned.purpose is InvoicePurpose.CAPACITY and account.state is AccountState.GRACE:
        return BooksRefused(ErrorCode.IN_GRACE, "rent is overdue; pay it before you rent more")
    if planned.purpose is InvoicePurpose.CAPACITY and account.shrink_to_bytes is not None:
        return BooksRefused(ErrorCode.SHRINK_PLANNED, "a smaller capacity is planned; take that back, then rent more")
    if planned.index != expected:
        return BooksRefused(ErrorCode.PERIOD_REFUSED, f"the account's next {what} is {expected}, not {planned.index}")
    if planned.purpose is InvoicePurpose.RENT and (planned.token_index or 0) < account.token_index:
        # A higher one is the client's right: it may have revealed a nonce that never arrived here.
        return BooksRefused(
            ErrorCode.PERIOD_REFUSED,
            f"the account's next token index is {account.token_index}, {planned.token_index} is used up",
        )
    try:
        if planned.purpose is not InvoicePurpose.DEPOSIT and (planned.amount_msat == 0) != _is_free(account, planned):
            return BooksRefused(ErrorCode.PERIOD_REFUSED, "the account's price has changed meanwhile; ask again")
    except PriceNotAgreed as exc:  # R-W29
        return BooksRefused(ErrorCode.PRICE_NOT_AGREED, f"{exc}; sign the change first")
    # A further attempt costs what the first did: growth since then has paid for the period by itself.
    first = planned.purpose is InvoicePurpose.RENT and planned.attempt == 0
    if first and planned.capacity_bytes != shrunk_for(account, planned.index).capacity_bytes:
        return BooksRefused(ErrorCode.PERIOD_REFUSED, "the account's capacity has changed meanwhile; ask again")
    return None


def _is_free(account: Account, planned: PlannedInvoice) -> bool:
    """Whether what the invoice is for is at no price; PriceNotAgreed when it has none."""
    if planned.purpose is InvoicePurpose.RENT:
        return account.prices.for_period(planned.index).price_msat_per_gib_month == 0
    return account.prices.growth_msat(1, planned.from_at, planned.until_at) == 0


_EXPECTED: dict[InvoicePurpose, Callable[[Account], tuple[int, str]]] = {
    InvoicePurpose.RENT: lambda account: (account.next_period, "unpaid period"),
    InvoicePurpose.CAPACITY: lambda account: (account.growth_index, "growth"),
    InvoicePurpose.DEPOSIT: lambda account: (account.deposit_index, "deposit"),
}


def planned_for(account: Account, planned: PlannedInvoice) -> Account:  # RP-W4
    """The account once this invoice is planned: rent that was charged on a smaller capacity is for no other."""
    if planned.purpose is not InvoicePurpose.RENT or planned.attempt:
        return account
    return shrunk_for(account, planned.index)


# --- credits --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Credit:
    """What a payment does: the account after it, and the postings."""

    account: Account
    entries: tuple[Entry, ...]


def credit(  # R-W15, R-W16
    account: Account, planned: PlannedInvoice, received_msat: int, now: int, *, promised_until_at: int
) -> Credit:
    """What a payment of `received_msat` for `planned` does to the account that it was planned for.

    Whatever cannot be used for its purpose any more, or is more than was asked, becomes the account's deposit.
    `promised_until_at` is the end of the last period for which a rent invoice was planned (0 for none): growth that
    ends before it was overtaken by that invoice's amount and would leave the difference unpaid.
    """
    kind, income = _BOUGHT[planned.purpose]
    after = _APPLIED[planned.purpose](account, planned, now, promised_until_at)
    if after is None or received_msat < planned.amount_msat:
        after, bought, over = account, 0, LATE
    else:
        bought, over = planned.amount_msat, OVER
    entries = (
        Entry(kind, LIGHTNING, income.of(account.account_id), bought),
        Entry(over, LIGHTNING, Ledger.DEPOSIT.of(account.account_id), received_msat - bought),
    )
    kept = received_msat if income is Ledger.DEPOSIT else received_msat - bought
    after = replace(_counted(after, planned), deposit_msat=Msat(account.deposit_msat + kept))
    if _timing(after) != _timing(account):
        after = replace(after, look_at=first_look(after, now))
    return Credit(after, tuple(entry for entry in entries if entry.amount_msat > 0))


def _timing(account: Account) -> tuple[AccountState, int, bool]:
    """What it depends on when time does something to the account."""
    return account.state, account.paid_until_at, account.capacity_bytes > 0


def _rent_paid(account: Account, planned: PlannedInvoice, now: int, _promised: int) -> Account | None:  # R-W20
    if account.state is AccountState.LAPSED or planned.until_at <= account.paid_until_at:
        return None
    paid = replace(account, paid_until_at=planned.until_at)
    overdue = due(paid, now) in {Due.OVERDUE, Due.TOO_LATE}
    return paid if overdue else replace(paid, state=AccountState.ACTIVE)


def _growth_paid(account: Account, planned: PlannedInvoice, _now: int, promised: int) -> Account | None:  # R-W10
    if account.state is AccountState.LAPSED or planned.index < account.growth_index:
        return None
    if account.shrink_to_bytes is not None:
        return None  # asked for before the shrink, which it would make worthless
    grown = replace(account, capacity_bytes=account.capacity_bytes + planned.capacity_bytes)
    if account.capacity_bytes == 0:
        return replace(grown, paid_until_at=max(account.paid_until_at, planned.until_at))
    # Only the first growth pays for its period as a whole; a later one adds to what rent has paid or will pay.
    return grown if planned.until_at >= max(account.paid_until_at, promised) else None


def _deposit_paid(account: Account, _planned: PlannedInvoice, _now: int, _promised: int) -> Account | None:
    return account


_APPLIED: dict[InvoicePurpose, Callable[[Account, PlannedInvoice, int, int], Account | None]] = {
    InvoicePurpose.RENT: _rent_paid,
    InvoicePurpose.CAPACITY: _growth_paid,
    InvoicePurpose.DEPOSIT: _deposit_paid,
}
_BOUGHT: dict[InvoicePurpose, tuple[str, Ledger]] = {
    InvoicePurpose.RENT: ("rent", Ledger.RENT),
    InvoicePurpose.CAPACITY: ("growth", Ledger.GROWTH),
    InvoicePurpose.DEPOSIT: ("deposit", Ledger.DEPOSIT),
}


def _counted(account: Account, planned: PlannedInvoice) -> Account:
    """The account with the index that a paid invoice has used up counted, whatever became of the money."""
    match planned.purpose:
        case InvoicePurpose.CAPACITY:
            return replace(account, growth_index=max(account.growth_index, planned.index + 1))
        case InvoicePurpose.DEPOSIT:
            return replace(account, deposit_index=max(account.deposit_index, planned.index + 1))
        case InvoicePurpose.RENT:
            return replace(account, token_index=max(account.token_index, (planned.token_index or 0) + 1))


# --- traffic --------------------------------------------------------------------------------------------------------


def hold_entries(account: Account, traffic_bytes: int, price_msat_per_gib: Msat) -> tuple[Entry, ...]:
    """The posting that reserves the price of `traffic_bytes`; BooksRefused when the deposit lacks."""
    price = traffic_msat(traffic_bytes, price_msat_per_gib)
    if price > account.deposit_msat:
        raise BooksRefused(
            ErrorCode.PAYMENT_REQUIRED,
            f"reading {traffic_bytes} bytes costs {price} msat and the deposit has {account.deposit_msat}; add to it",
        )
    if price == 0:
        return ()
    return (Entry("hold", Ledger.DEPOSIT.of(account.account_id), Ledger.HOLD.of(account.account_id), price),)


def settle_entries(account_id: AccountId, held_msat: int, used_msat: int) -> tuple[Entry, ...]:
    """The postings that end a hold: what was used is earned, the rest goes back to the deposit."""
    used = min(used_msat, held_msat)
    hold = Ledger.HOLD.of(account_id)
    entries = (
        Entry("egress", hold, Ledger.EGRESS.of(account_id), used),
        Entry("hold returned", hold, Ledger.DEPOSIT.of(account_id), held_msat - used),
    )
    return tuple(entry for entry in entries if entry.amount_msat > 0)


def unpaid_refusal(size_bytes: int, due_msat: Msat, left_msat: Msat) -> BooksRefused | None:  # R-W23
    """Why `size_bytes` that cost `due_msat` may not be written with so much left of the deposit; None when they may."""
    if due_msat <= left_msat:
        return None
    return BooksRefused(
        ErrorCode.PAYMENT_REQUIRED,
        f"writing {size_bytes} bytes costs {due_msat} msat and the deposit has {left_msat}; add to it",
        amount_msat=Msat(due_msat - left_msat),
    )


def ingress_entry(account_id: AccountId, charged_msat: Msat) -> Entry:
    """The posting that takes the price of what was written from the deposit."""
    return Entry("ingress", Ledger.DEPOSIT.of(account_id), Ledger.INGRESS.of(account_id), charged_msat)


# --- write-offs -----------------------------------------------------------------------------------------------------


WRITE_OFF_SECONDS = 180 * 86_400
"""The least time after a lapse that a deposit stays its account's."""


def write_off_entry(account: Account, now: int, *, after_seconds: int) -> Entry:  # RC-W5
    """The posting that takes the deposit of an account that lapsed at least `after_seconds` ago as income.

    BooksRefused for any other account: an account that pays, or may still pay in grace, keeps what it paid in.
    """
    if account.state is not AccountState.LAPSED:
        raise BooksRefused(ErrorCode.PERIOD_REFUSED, "the account has not lapsed; its deposit stays its own")
    may_at = account.paid_until_at + account.grace_seconds + max(after_seconds, WRITE_OFF_SECONDS)
    if now < may_at:
        days = -(-(may_at - now) // 86_400)
        raise BooksRefused(ErrorCode.PERIOD_REFUSED, f"the account has not lapsed for long enough; wait {days} days")
    if account.deposit_msat <= 0:
        raise BooksRefused(ErrorCode.PERIOD_REFUSED, "the account has no deposit; there is nothing to write off")
    of = account.account_id
    return Entry(WRITE_OFF, Ledger.DEPOSIT.of(of), Ledger.WRITTEN_OFF.of(of), account.deposit_msat)
