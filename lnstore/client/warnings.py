"""What a person is warned of before an account changes its stage: by our own books, and by what the node says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from lnstore.client.wallet_entries import Standing
from lnstore_protocol import stages
from lnstore_protocol.messages import AccountStage, AccountState, AccountStatusReply
from lnstore_protocol.prices import Prices
from lnstore_protocol.stages import STATES, Transition
from lnstore_protocol.terms import Agreement, period_at


@dataclass(frozen=True, slots=True)
class Outlook:
    """Where an account stands, what comes next if nothing is paid, and whether it is time to warn of that."""

    stage: AccountStage
    coming: Transition | None
    warned: bool


def outlook(  # RP-R1
    agreement: Agreement, prices: Prices, ours: Standing, status: AccountStatusReply | None, now: int
) -> Outlook:
    """By our own books, or by the node's word where that is worse: it may have missed a payment, or have no mercy.

    What the node took nothing for is in its books alone: there its word is the only one.
    """
    if status is None:
        return _by_our_books(agreement, prices, ours, ours.paid_until_at, now)
    theirs = _by_the_node(status)
    if status.free:
        return theirs
    own = _by_our_books(agreement, prices, ours, known_until(ours, status), now)
    return max(own, theirs, key=lambda one: (one.stage, one.warned))


def known_until(ours: Standing, status: AccountStatusReply | None) -> int:
    """Until when an account is paid: by our own payments, or longer by the node's word, which may have been free."""
    if status is None or status.state is AccountState.LAPSED:
        return ours.paid_until_at
    return max(ours.paid_until_at, status.paid_until_at)


def _by_our_books(agreement: Agreement, prices: Prices, ours: Standing, paid_until_at: int, now: int) -> Outlook:
    terms = agreement.terms.terms
    unpaid = period_at(agreement.anchor_at, terms.period_seconds, paid_until_at)
    owed_at = prices.owed_at(ours.rented.in_period(unpaid), paid_until_at)
    owes = owed_at is not None
    own = {
        "paid_until_at": paid_until_at if owed_at is None else owed_at,
        "period_seconds": terms.period_seconds,
        "grace_seconds": terms.grace_seconds,
    }
    stage = stages.NEXT_STAGE[AccountStage.ACTIVE, stages.due(owes=owes, now=now, **own)]
    coming = stages.next_transition(stage, owes=owes, **own)
    return Outlook(stage, coming, coming is not None and coming.warning_at <= now)


def _by_the_node(status: AccountStatusReply) -> Outlook:
    if status.next_stage is None or status.next_stage_at is None or status.warning_at is None:
        done = AccountStage.SWEPT if status.state is AccountState.LAPSED else AccountStage.ACTIVE
        return Outlook(done, None, warned=False)
    stage = AccountStage(max(status.next_stage - 1, 0))
    if STATES[stage] is not status.state:  # it contradicts itself: its state is what it acts by
        stage = next(one for one, state in STATES.items() if state is status.state)
    coming = Transition(status.next_stage, status.next_stage_at, status.warning_at)
    return Outlook(stage, coming, status.warning_at <= status.now_at)


def sentence(petname: str, seen: Outlook) -> str:
    """The warning as a person reads it; empty when there is none to give."""
    pay = f"pay with: lnstore rent pay {petname}"
    if seen.stage in (AccountStage.LAPSED, AccountStage.SWEPT):
        return f"{petname}: the account has lapsed; rent anew with: lnstore rent buy {petname} SIZE"
    if seen.coming is None:
        return ""
    when = f"{datetime.fromtimestamp(seen.coming.at, UTC):%Y-%m-%d %H:%M} UTC"
    match seen.stage:
        case AccountStage.GRACE:
            return f"{petname}: rent is overdue and nothing can be stored; on {when} all is deleted there; {pay}"
        case AccountStage.DUE:
            return f"{petname}: rent is due; from {when} on nothing can be stored unless it is paid; {pay}"
        case _:
            return f"{petname}: rent is due from {when} on" if seen.warned else ""
