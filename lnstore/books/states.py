"""In which state an account is: a table over (state as of now, how its rent stands)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lnstore.ports import Account
from lnstore_protocol.messages import AccountState
from lnstore_protocol.terms import period_at, period_start


class Due(Enum):
    """How an account's rent stands at some time."""

    NOTHING = "nothing"
    """It owes no rent as things are: no capacity, or a price of 0 and not blocked."""
    PAID = "paid"
    """The time lies before `paid_until_at`."""
    OVERDUE = "overdue"
    """Past `paid_until_at`, within grace."""
    TOO_LATE = "too late"
    """Past grace."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What time makes of an account."""

    state: AccountState
    paid_until_at: int


NEXT_STATE: dict[tuple[AccountState, Due], AccountState] = {
    (AccountState.ACTIVE, Due.NOTHING): AccountState.ACTIVE,
    (AccountState.ACTIVE, Due.PAID): AccountState.ACTIVE,
    (AccountState.ACTIVE, Due.OVERDUE): AccountState.GRACE,
    (AccountState.ACTIVE, Due.TOO_LATE): AccountState.LAPSED,
    (AccountState.GRACE, Due.NOTHING): AccountState.ACTIVE,
    (AccountState.GRACE, Due.PAID): AccountState.ACTIVE,
    (AccountState.GRACE, Due.OVERDUE): AccountState.GRACE,
    (AccountState.GRACE, Due.TOO_LATE): AccountState.LAPSED,
    (AccountState.LAPSED, Due.NOTHING): AccountState.LAPSED,
    (AccountState.LAPSED, Due.PAID): AccountState.LAPSED,
    (AccountState.LAPSED, Due.OVERDUE): AccountState.LAPSED,
    (AccountState.LAPSED, Due.TOO_LATE): AccountState.LAPSED,
}
"""Nothing leads out of LAPSED: such an account is opened anew."""


def owes_nothing(account: Account) -> bool:  # RA-W4
    """Whether no rent is due whatever the time: a blocked account's end comes though its price is 0."""
    blocked = account.blocked and account.capacity_bytes > 0
    return not blocked and not account.prices.owes(account.capacity_bytes, account.next_period)


def due(account: Account, now: int) -> Due:
    """How the account's rent stands at `now`."""
    if owes_nothing(account):
        return Due.NOTHING
    if now < account.paid_until_at:
        return Due.PAID
    return Due.OVERDUE if now < account.paid_until_at + account.grace_seconds else Due.TOO_LATE


def standing(account: Account, now: int) -> Standing:  # R-W3, R-W4
    """The account's state at `now`, and until when it is paid: who owes nothing moves on to the current period."""
    rent = due(account, now)
    state = NEXT_STATE[account.state, rent]
    if rent is not Due.NOTHING or state is AccountState.LAPSED:
        return Standing(state, account.paid_until_at)
    upto = period_at(account.anchor_at, account.period_seconds, now)
    owed = account.prices.first_owed(account.capacity_bytes, account.next_period)
    if owed is not None:
        upto = min(upto, owed)
    return Standing(state, max(account.paid_until_at, period_start(account.anchor_at, account.period_seconds, upto)))
