"""What time makes of an account: the billing engine, a pure function of (account, now) over the table of stages."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lnstore.ports import Account, Look
from lnstore_protocol import stages
from lnstore_protocol.messages import AccountStage, AccountState
from lnstore_protocol.stages import NEXT_STAGE, STATES, Due, Transition
from lnstore_protocol.terms import period_at, period_start


@dataclass(frozen=True, slots=True)
class Billed:
    """An account as of some time. `look_at` in it is when time next does something to it, None if never."""

    account: Account
    stage: AccountStage
    coming: Transition | None


def owes_nothing(account: Account) -> bool:  # RA-W4
    """Whether its next period is to be had for nothing: a blocked account's end comes though its price is 0."""
    blocked = account.blocked and account.capacity_bytes > 0
    return not blocked and not account.prices.owes(account.capacity_bytes, account.next_period)


def owed_at(account: Account) -> int | None:
    """When the first period begins that is to be paid: the end of what is paid, or of what costs nothing after it."""
    if account.blocked and account.capacity_bytes > 0:
        return account.paid_until_at
    return account.prices.owed_at(account.capacity_bytes, account.paid_until_at)


def due(account: Account, now: int) -> Due:
    """How the account's rent stands at `now`."""
    at = owed_at(account)
    return stages.due(
        owes=at is not None,
        now=now,
        paid_until_at=account.paid_until_at if at is None else at,
        period_seconds=account.period_seconds,
        grace_seconds=account.grace_seconds,
    )


def stage(account: Account, now: int) -> AccountStage:
    """The stage of an account in the state that it has: one that nobody has billed yet is no further than that."""
    match account.state:
        case AccountState.ACTIVE:
            return AccountStage.ACTIVE if due(account, now) in {Due.NOTHING, Due.PAID} else AccountStage.DUE
        case AccountState.GRACE:
            return AccountStage.GRACE
        case AccountState.LAPSED:
            return AccountStage.LAPSED if account.shares else AccountStage.SWEPT


def coming(account: Account, now: int) -> Transition | None:
    """The stage that comes next for an account in the state that it has."""
    at = owed_at(account)
    return stages.next_transition(
        stage(account, now),
        owes=at is not None,
        paid_until_at=account.paid_until_at if at is None else at,
        period_seconds=account.period_seconds,
        grace_seconds=account.grace_seconds,
    )


def bill(account: Account, now: int) -> Billed:  # R-W3, RP-W1
    """The account at `now`: its state, what it is paid until, what it rents, and when to look at it again."""
    after = _moved(account, now)
    # Who moves on to the first period that has a price may be overdue by now: looking late is looking often.
    while (again := _moved(after, now)) != after:
        after = again
    after = replace(after, look_at=min((at for at in _times(after, now) if at > now), default=None))
    return Billed(after, stage(after, now), coming(after, now))


def _moved(account: Account, now: int) -> Account:  # R-W4, R-W6, RP-W4
    """One step of time."""
    account = shrunk(account, now)
    to = NEXT_STAGE[stage(account, now), due(account, now)]
    after = replace(account, state=STATES[to])
    if after.state is AccountState.LAPSED:
        return replace(after, capacity_bytes=0, shrink_to_bytes=None, shrink_period=None)
    if not owes_nothing(after):
        return after
    upto = period_at(after.anchor_at, after.period_seconds, now)
    owed = after.prices.first_owed(after.capacity_bytes, after.next_period)
    if owed is not None:
        upto = min(upto, owed)
    start = period_start(after.anchor_at, after.period_seconds, upto)
    return replace(after, paid_until_at=max(after.paid_until_at, start))


def news(before: Account, after: Billed, now: int) -> Look | None:  # RP-W2
    """What looking at an account found, if anything: what lies between the look that was planned and now."""
    since = now if before.look_at is None else before.look_at
    entered = after.account.state is not before.state
    if after.stage is AccountStage.DUE:
        entered |= since <= (owed_at(before) or before.paid_until_at) - stages.due_seconds(before.period_seconds)
    to = after.coming
    warned_of = to.stage if to is not None and since <= to.warning_at <= now else None
    if not entered and warned_of is None:
        return None
    return Look(account=after.account, stage=after.stage, entered=entered, warned_of=warned_of)


def first_look(account: Account, now: int) -> int | None:
    """When an account that has just changed is to be looked at: in the past when a warning is due already."""
    return min(_times(account, now), default=None)


def _times(account: Account, now: int) -> list[int]:
    """When time does something to the account, or its client is to be warned."""
    if account.state is AccountState.LAPSED:
        return []
    times = [] if account.shrink_at is None else [account.shrink_at]
    if owes_nothing(account):  # it moves on with the periods
        times.append(account.paid_until_at + account.period_seconds)
    nearing = coming(account, now)
    return times if nearing is None else [*times, nearing.warning_at, nearing.at]


def shrunk(account: Account, now: int) -> Account:  # RP-W4
    """The account with the smaller capacity that was planned for a period that has begun."""
    return _shrink(account) if account.shrink_at is not None and account.shrink_at <= now else account


def shrunk_for(account: Account, period: int) -> Account:  # RP-W4
    """The account as the rent of `period` is charged: a shrink planned for it counts."""
    return _shrink(account) if account.shrink_period is not None and account.shrink_period <= period else account


def _shrink(account: Account) -> Account:
    if account.shrink_to_bytes is None:
        return account
    return replace(account, capacity_bytes=account.shrink_to_bytes, shrink_to_bytes=None, shrink_period=None)
