"""Signing a change of prices that a node announced: only ever at the user's word, and within the user's limits."""

from __future__ import annotations

from dataclasses import dataclass

from lnstore.client.accounts import check_prices, standing
from lnstore.client.agreements import Change, announced_change, check_agreement
from lnstore.client.catalog import NodeEntry
from lnstore.client.money_errors import NodeUntrusted, TermsRefused
from lnstore.client.purse import Purse
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import RenewAgreement, RenewAgreementReply
from lnstore_protocol.terms import Agreement, rent_msat


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A change, and what it makes of the account's rent by our own books."""

    change: Change
    capacity_bytes: int
    rent_before_msat: Msat
    rent_after_msat: Msat


async def find_change(purse: Purse, node: NodeEntry) -> Comparison | None:
    """What the node announces, held against what holds now; None when there is nothing to sign.

    AccountMissing when there is no account.
    """
    first, status = await standing(purse, node)
    change = announced_change(purse, node, first, status)
    if change is None:
        return None
    capacity = purse.wallet.standing(node.node_id, anchor_at=first.anchor_at).rented.in_period(change.from_period)
    before, after = change.before.terms.terms, change.after.terms
    return Comparison(
        change=change,
        capacity_bytes=capacity,
        rent_before_msat=rent_msat(capacity, before.period_seconds, before.price_msat_per_gib_month),
        rent_after_msat=rent_msat(capacity, after.period_seconds, after.price_msat_per_gib_month),
    )


def check_change(purse: Purse, change: Change) -> None:  # R-R27, R-R28
    """TermsRefused, with what to do, when the change may not or is not to be signed."""
    petname = change.node.petname
    if change.fault:
        raise TermsRefused(
            f"the change of prices that {petname} announces is not one that it may: {change.fault}. Nothing was "
            "signed, and what you agreed goes on; ask its operator, or move your data"
        )
    check_prices(change.after.terms, purse.config, petname)


async def sign_change(purse: Purse, change: Change) -> Agreement:  # MA-W8, MA-R29
    """Sign the change, have the node sign it, and keep it; again after an interruption gives the same agreement.

    Only what the user has seen and wants may be given here. TermsRefused as check_change; NodeUntrusted when the node
    answers with something else.
    """
    check_change(purse, change)
    node = change.node
    proposal = Agreement.propose(change.after, purse.identity, change.before.anchor_at, from_period=change.from_period)
    reply = await purse.ask(node, RenewAgreement(agreement=proposal.encoded), RenewAgreementReply)
    agreement = check_agreement(
        reply.agreement, node_id=node.node_id, account_id=purse.account_id, petname=node.petname
    )
    deal = (agreement.terms.encoded, agreement.from_period, agreement.anchor_at)
    if deal != (proposal.terms.encoded, proposal.from_period, proposal.anchor_at):
        raise NodeUntrusted(f"{node.petname} signed another agreement than was proposed; use another node")
    await purse.write(purse.catalog.keep_agreement, node.node_id, agreement)
    return agreement
