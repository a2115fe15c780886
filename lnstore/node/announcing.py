"""Changes of prices: when an account is told of one, and of what.

Prices that were agreed hold for a number of periods and then go on; a change is announced as late as its notice
allows. Told of once, it stands until the client signs it, the prices move on from it, or they are again what was
agreed. The accounts of all clients who ask for something are looked at as they ask: nothing goes through all of them.
"""

from __future__ import annotations

from dataclasses import replace

from lnstore.logs import get_logger
from lnstore.node.context import NodeContext
from lnstore.node.errors import Refusal
from lnstore.ports import Account, Announcement
from lnstore_protocol.messages import AccountState
from lnstore_protocol.prices import NOTICE_PERIODS, earliest_change
from lnstore_protocol.terms import Agreement, SignedTerms, Terms, period_at, period_start

_log = get_logger("lnstore.node.announcing")

_PRICES = ("price_msat_per_gib_month", "egress_msat_per_gib", "ingress_msat_per_gib")


def prices_differ(before: Terms, after: Terms, *, tolerance_percent: int) -> bool:
    """Whether a price differs by more than so many percent of what it was before."""
    return any(
        abs(getattr(after, name) - getattr(before, name)) * 100 > getattr(before, name) * tolerance_percent
        for name in _PRICES
    )


def change_to_announce(  # R-W27
    account: Account, offered: Terms, now: int, *, tolerance_percent: int, invited_for_good: bool = True
) -> tuple[Terms, int] | None:
    """The terms and the first period of the change that the account is to be told of; None for none.

    The prices of an invitation stay for good, unless it was made for a number of periods (`invited_for_good` False).
    What it was told of already stays as it is while the prices are still within the tolerance of that.
    """
    last = Agreement.decode(account.last_agreement)
    terms = replace(offered, period_seconds=account.period_seconds, grace_seconds=account.grace_seconds)
    # Its prices are the operator's favour, not the price sheet's.
    invited = invited_for_good and last.terms.terms.invitation is not None
    # The books have the last two agreements at hand: both may still hold for a period that is present or unpaid.
    present = max(period_at(account.anchor_at, account.period_seconds, now), 0)
    waiting = min(present, account.next_period) < last.from_period
    if invited or waiting or account.free or account.state is AccountState.LAPSED:
        return None
    if not prices_differ(last.terms.terms, terms, tolerance_percent=tolerance_percent):
        return None
    if account.announcement is not None:
        told = SignedTerms.decode(account.announcement.terms).terms
        same = told.lightning_id == terms.lightning_id
        if same and not prices_differ(told, terms, tolerance_percent=tolerance_percent):
            return told, account.announcement.from_period
    first = earliest_change(last, now)
    if first > present + NOTICE_PERIODS:
        return None
    ends_at = period_start(account.anchor_at, account.period_seconds, first) + account.grace_seconds
    return replace(terms, valid_from_at=now, valid_until_at=ends_at), first


async def announce_changes(node: NodeContext, account: Account) -> Account:  # R-W28
    """The account, told of a change if there is one. The caller holds the account's lock.

    While the node has no price to offer, what was announced stands.
    """
    now = node.clock.now()
    try:
        offered = node.prices.current(node.binding.require(), now).terms
    except Refusal:
        return account
    change = change_to_announce(
        account,
        offered,
        now,
        tolerance_percent=node.prices.tolerance_percent,
        invited_for_good=await _invited_for_good(node, account),
    )
    told = account.announcement
    if change is None:
        return account if told is None else await node.books.announce(account.account_id, None)
    terms, first = change
    if told is not None and (first, terms) == (told.from_period, SignedTerms.decode(told.terms).terms):
        return account
    signed = terms.sign(node.identity)
    _log.info(
        "change of prices announced",
        account=account.account_id,
        from_period=first,
        price_msat_per_gib_month=terms.price_msat_per_gib_month,
        sign_by_at=terms.valid_until_at,
    )
    return await node.books.announce(
        account.account_id, Announcement(terms=signed.encoded, from_period=first, announced_at=now)
    )


async def _invited_for_good(node: NodeContext, account: Account) -> bool:
    """Whether the account's prices are those of an invitation that says nothing of periods."""
    invited_by = Agreement.decode(account.last_agreement).terms.terms.invitation
    invitation = None if invited_by is None else await node.books.invitation(invited_by)
    return invitation is None or invitation.price_periods is None
