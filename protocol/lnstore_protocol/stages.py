"""The stages of an account, as a function of time: when each begins, and from when on its client is warned (spec 05).

What a node may do to an account is one table over (stage as of now, how the rent stands). Both sides compute with it:
the node bills by it, the client knows from its own books alone when which stage would come.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lnstore_protocol.messages import AccountStage, AccountState

DUE_FRACTION, MAXIMUM_DUE_SECONDS = 4, 604_800
"""The rent of the next period is due for the last quarter of the present one, at most a week."""

WARNING_FRACTION, MAXIMUM_WARNING_SECONDS = 2, 259_200
"""A stage is warned of for the last half of the one before it, at most three days."""


class Due(Enum):
    """How an account's rent stands at some time."""

    NOTHING = "nothing"
    """It owes no rent, ever: no capacity, or a price of 0."""
    PAID = "paid"
    """Nothing is to be paid yet."""
    SOON = "soon"
    """Before `paid_until_at`, and close to it."""
    OVERDUE = "overdue"
    """Past `paid_until_at`, within grace."""
    TOO_LATE = "too late"
    """Past grace."""


_IN_TIME = {
    Due.NOTHING: AccountStage.ACTIVE,
    Due.PAID: AccountStage.ACTIVE,
    Due.SOON: AccountStage.DUE,
    Due.OVERDUE: AccountStage.GRACE,
    Due.TOO_LATE: AccountStage.LAPSED,
}
NEXT_STAGE: dict[tuple[AccountStage, Due], AccountStage] = {
    **{
        (stage, due): to
        for stage in (AccountStage.ACTIVE, AccountStage.DUE, AccountStage.GRACE)
        for due, to in _IN_TIME.items()
    },
    **{(stage, due): stage for stage in (AccountStage.LAPSED, AccountStage.SWEPT) for due in Due},
}
"""Time leads nowhere from LAPSED, and deleting its shares to SWEPT: such an account is opened anew."""

STATES: dict[AccountStage, AccountState] = {
    AccountStage.ACTIVE: AccountState.ACTIVE,
    AccountStage.DUE: AccountState.ACTIVE,
    AccountStage.GRACE: AccountState.GRACE,
    AccountStage.LAPSED: AccountState.LAPSED,
    AccountStage.SWEPT: AccountState.LAPSED,
}
"""The state that an account has in a stage."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A stage to come: when, and from when on its client is warned of it."""

    stage: AccountStage
    at: int
    warning_at: int


def due_seconds(period_seconds: int) -> int:
    """How long before the end of what is paid the next rent is due."""
    return min(period_seconds // DUE_FRACTION, MAXIMUM_DUE_SECONDS)


def warning_seconds(stage_seconds: int) -> int:
    """How long before the end of a stage of this length its end is warned of."""
    return min(stage_seconds // WARNING_FRACTION, MAXIMUM_WARNING_SECONDS)


def transitions(paid_until_at: int, period_seconds: int, grace_seconds: int) -> tuple[Transition, ...]:  # RP-W1
    """What comes when nothing is paid any more, in order: DUE, GRACE, LAPSED, and SWEPT at once after it."""
    due_for = due_seconds(period_seconds)
    due_at, lapse_at = paid_until_at - due_for, paid_until_at + grace_seconds
    return (
        Transition(AccountStage.DUE, due_at, due_at - warning_seconds(period_seconds - due_for)),
        Transition(AccountStage.GRACE, paid_until_at, paid_until_at - warning_seconds(due_for)),
        Transition(AccountStage.LAPSED, lapse_at, lapse_at - warning_seconds(grace_seconds)),
        Transition(AccountStage.SWEPT, lapse_at, lapse_at),
    )


def due(*, owes: bool, now: int, paid_until_at: int, period_seconds: int, grace_seconds: int) -> Due:
    """How the rent of an account stands at `now`; `owes` is whether it has any to pay."""
    if not owes:
        return Due.NOTHING
    if now < paid_until_at:
        return Due.PAID if now < paid_until_at - due_seconds(period_seconds) else Due.SOON
    return Due.OVERDUE if now < paid_until_at + grace_seconds else Due.TOO_LATE


def next_transition(
    stage: AccountStage, *, owes: bool, paid_until_at: int, period_seconds: int, grace_seconds: int
) -> Transition | None:
    """What comes after `stage` when nothing is paid any more; None for who owes nothing, and after SWEPT."""
    if stage is AccountStage.SWEPT or (stage is not AccountStage.LAPSED and not owes):
        return None
    return transitions(paid_until_at, period_seconds, grace_seconds)[stage]
