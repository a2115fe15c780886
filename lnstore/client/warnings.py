"""What a person is warned of before an account changes its stage: by our own books, and by what the node says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from lnstore.client.wallet import Standing
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
    """By our own books, or by the node's word where that is worse: it may have missed a payment, or have no mercy."""
    own = _by_our_books(agreement, prices, ours, now)
    theirs = None if status is None else _by_the_node(status)
    return own if theirs is None else max(own, theirs, key=lambda one: (one.stage, one.warned))


def _by_our_books(agreement: Agreement, prices: Prices, ours: Standing, now: int) -> Outlook:
    terms = agreement.terms.terms
    unpaid = period_at(agreement.anchor_at, terms.period_seconds, ours.paid_until_at)
    owes = prices.owes(ours.rented.in_period(unpaid), unpaid)
    own = {
        "paid_until_at": ours.paid_until_at,
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
