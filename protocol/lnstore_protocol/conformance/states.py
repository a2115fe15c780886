"""Checks that need the node's clock set ahead, or the node restarted: states of accounts, durability."""

from __future__ import annotations

import dataclasses
from typing import Final

from lnstore_protocol.conformance.leases import audited, have, listed, put_tokens
from lnstore_protocol.conformance.link import PeerClosed, PeerSilent
from lnstore_protocol.conformance.node_link import NodeLink
from lnstore_protocol.conformance.reading import judge_range, read
from lnstore_protocol.conformance.records import get_record, put_record
from lnstore_protocol.conformance.rent import Case, prepare, rent
from lnstore_protocol.conformance.tenant import (
    add_deposit,
    growth,
    new_share,
    open_account,
    pay,
    put,
    status,
    the_reader,
)
from lnstore_protocol.conformance.trial import Checks, Trial
from lnstore_protocol.conformance.verdict import Failed, Skipped, Unreachable
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import Msat
from lnstore_protocol.merkle import share_id
from lnstore_protocol.messages import (
    AccountState,
    AccountStatusReply,
    AddCapacity,
    AddCapacityReply,
    AuditShare,
    DropShares,
    DropSharesReply,
    HaveShares,
    InvoiceReply,
    ListShares,
    PutShare,
    PutTokens,
)
from lnstore_protocol.terms import period_at, period_start

CHECKS = Checks()
LAPSED: Final = ErrorCode.LAPSED
IN_GRACE: Final = ErrorCode.IN_GRACE
DEPOSIT_MSAT = 5_000


# --- restart ----------------------------------------------------------------------------------------------------------


@CHECKS.on("MB-R4", "MA-R18", "R-W14", "R-W15", "MB-R26")
def restart(trial: Trial) -> None:
    """Whatever was acknowledged is there after the node was ended as by a crash and started again."""
    again = trial.bench.tools.restart
    if again is None:
        raise Skipped("needs a way to restart the node: give --restart-command")
    case = prepare(trial, 100, 100_000, 700_000)
    tenant = case.tenant
    record = put_record(trial, case.link, tenant)
    offer, _ = rent(trial, case)
    after_offer = put(trial, case.link, tenant, new_share(2_000))
    before = status(trial, case.link)
    if not again():
        raise Failed("MB-R4", "the node did not start again")
    link = trial.until(lambda: _link(trial, case), Failed("MB-R4", "the node does not answer after its restart"))
    held = have(trial, link, [*case.shares, after_offer])
    trial.require("MB-R4", all(held), "a share that was acknowledged before the restart is gone")
    for wanted, share in case.shares.items():
        trial.require("MB-R4", audited(trial, link, wanted, "MB-R4") == share[:16_384], "a share's bytes are gone")
    after = status(trial, link)
    same = dataclasses.replace(after, now_at=before.now_at) == before
    trial.require("R-W15", same, "the account stands otherwise than before the restart")
    trial.require("MB-R26", get_record(trial, link, tenant) == record, "a record is gone")
    offered = trial.reply(link, case.request, InvoiceReply, "MA-R18")
    trial.require("MA-R18", offered == offer, "the same request for rent gave another reply after the restart")
    trial.reached.add("R-W14")


def _link(trial: Trial, case: Case) -> NodeLink | None:
    try:
        return trial.link(case.tenant.identity)
    except (Unreachable, PeerClosed, PeerSilent):
        return None


# --- time -------------------------------------------------------------------------------------------------------------


def _advance_to(trial: Trial, at: int) -> None:
    """Set the node's clock to `at`, by the clock of the run."""
    advance = trial.bench.tools.advance
    seconds = max(0, at - trial.bench.now())
    if advance is None:
        raise Skipped("needs a way to set the node's clock ahead: give --advance-command")
    if not advance(seconds):
        raise Skipped("the node's clock could not be set ahead")
    trial.bench.advanced_seconds += seconds
    trial.bench.terms = None  # they may have expired


def _in_state(trial: Trial, case: Case, state: AccountState) -> AccountStatusReply:
    def moved() -> AccountStatusReply | None:
        now = status(trial, case.link)
        return now if now.state is state else None

    return trial.until(moved, Failed("R-W3", f"the account did not become {state.name} when its time had come"))


@CHECKS.on("R-W4", "R-W3")
def accounts_that_owe_nothing(trial: Trial) -> None:
    """An account without capacity stays ACTIVE and is taken as paid up to the present period."""
    tenant = open_account(trial)
    anchor, period = tenant.agreement.anchor_at, tenant.terms.period_seconds
    _advance_to(trial, period_start(anchor, period, 2) + 1 + tenant.terms.grace_seconds)
    link = trial.link(tenant.identity)

    def moved() -> AccountStatusReply | None:
        now = status(trial, link)
        present = period_start(anchor, period, period_at(anchor, period, now.now_at))
        return now if now.paid_until_at == present else None

    after = trial.until(moved, Failed("R-W4", "paid_until_at was not moved up to the present period"))
    trial.require("R-W3", after.state is AccountState.ACTIVE, f"an account that owes nothing is {after.state.name}")


@CHECKS.on("R-W3", "MB-R2", "MA-R12", "MB-R18", "R-W20", "R-W19", "MB-R34")
def grace(trial: Trial) -> None:
    """From the end of what is paid an account reads and drops but does not write or grow, until it pays."""
    case = prepare(trial, 3_000, 4_000)
    tenant = case.tenant
    _, reader = the_reader(trial)
    _advance_to(trial, case.standing.paid_until_at - 1)
    trial.require("R-W3", status(trial, case.link).state is AccountState.ACTIVE, "an account is not ACTIVE while paid")
    _advance_to(trial, case.standing.paid_until_at + 1)
    case.link = trial.link(tenant.identity)
    now = _in_state(trial, case, AccountState.GRACE)
    share = new_share(100)
    new = PutShare(share_id=share_id(share), token_start=0, tokens=b"", payload=share)
    trial.refusal("MB-R2", case.link, new, IN_GRACE, what="a put in GRACE")
    more = AddCapacity(growth_index=now.growth_index, capacity_bytes=now.capacity_bytes + 1)
    trial.refusal("MA-R12", case.link, more, IN_GRACE, what="a growth in GRACE")
    (first, one), (second, two) = case.shares.items()
    judge_range(trial, one, read(trial, reader, first), 0, 0)
    trial.require("R-W3", audited(trial, case.link, second) == two, "an audit fails in GRACE")
    trial.require("R-W3", listed(trial, case.link).keys() == case.shares.keys(), "the list changes in GRACE")
    put_record(trial, case.link, tenant)
    renewed = put_tokens(trial, case.link, [one, two], [tenant.tokens(one), tenant.tokens(two)])
    trial.require("MB-R34", all(renewed), "tokens are not taken in GRACE")
    dropped = trial.reply(case.link, DropShares(payload=second), DropSharesReply, "MB-R18").dropped
    trial.require("MB-R18", dropped == 1, "a lease could not be dropped in GRACE")
    del case.shares[second]
    case.standing = now
    offer, _ = rent(trial, case)
    pay(trial, offer.bolt11)
    paid = _in_state(trial, case, AccountState.ACTIVE)
    trial.require("R-W20", paid.paid_until_at == offer.until_at, "rent that was paid in GRACE was not credited")
    put(trial, case.link, tenant, share)
    trial.reached.add("R-W19")


def _pay_too_late(trial: Trial, case: Case, offer: AddCapacityReply, deposit_msat: Msat) -> Msat:
    """Pay a growth of the account that has lapsed since (R-W16); its deposit then."""
    pay(trial, offer.bolt11)

    def credited() -> AccountStatusReply | None:
        now = status(trial, case.link)
        return now if now.deposit_msat != deposit_msat else None

    late = trial.until(credited, Failed("R-W16", "what was paid for a growth after the lapse is not in the deposit"))
    due = Msat(deposit_msat + offer.amount_msat)
    trial.require("R-W16", late.deposit_msat == due, f"a deposit of {late.deposit_msat} msat instead of {due}")
    trial.require("R-W16", late.capacity_bytes == 0, "a growth that was paid after the lapse gave capacity")
    return due


@CHECKS.on("R-W6", "R-W16", "R-W3", "R-W7", "MA-R8", "MA-R3", "MB-R1", "MA-R12", "MA-R17", "MB-R8")
def lapse(trial: Trial) -> None:
    """At the end of the grace an account lapses; opened anew it goes on with deposit, records and greater indices."""
    case = prepare(trial, 2_500)
    tenant = case.tenant
    deposit = add_deposit(trial, case.link, DEPOSIT_MSAT).deposit_msat
    record = put_record(trial, case.link, tenant)
    rent(trial, case)
    late = growth(trial, case.link, tenant, case.standing.capacity_bytes + 1)
    _advance_to(trial, case.standing.paid_until_at + tenant.terms.grace_seconds + 1)
    case.link = link = trial.link(tenant.identity)
    now = _in_state(trial, case, AccountState.LAPSED)
    trial.require("R-W6", now.capacity_bytes == 0, f"a lapsed account has {now.capacity_bytes} bytes of capacity")
    (stored,) = case.shares
    share = new_share(10)
    for requirement, request in (
        ("MB-R1", PutShare(share_id=share_id(share), token_start=0, tokens=b"", payload=share)),
        ("MB-R1", HaveShares(payload=stored)),
        ("MB-R1", ListShares(limit=1)),
        ("MB-R1", DropShares(payload=stored)),
        ("MB-R1", AuditShare(share_id=stored, leaf=0)),
        ("MB-R1", PutTokens(token_start=0, count=1, payload=stored + bytes(16))),
        ("MA-R12", AddCapacity(growth_index=now.growth_index, capacity_bytes=1 << 30)),
        ("MA-R17", case.request),
    ):
        trial.refusal(requirement, link, request, LAPSED, what=f"a {type(request).__name__} of a lapsed account")
    deposit = _pay_too_late(trial, case, late, deposit)
    anew = open_account(trial, tenant.identity)
    trial.require("MA-R3", anew.agreement.encoded != tenant.agreement.encoded, "a lapsed account kept its agreement")
    after = status(trial, link)
    trial.require("R-W7", after.state is AccountState.ACTIVE, f"opened anew the account is {after.state.name}")
    trial.require("R-W7", after.deposit_msat == deposit, f"of {deposit} msat {after.deposit_msat} are left")
    trial.require("R-W7", get_record(trial, link, tenant) == record, "the record is gone")
    greater = after.token_index > case.standing.token_index
    trial.require("R-W7", greater, f"token index {after.token_index}, whose nonce was revealed, is asked for again")
    trial.require("R-W7", after.growth_index >= now.growth_index, "the growth index went back")
    trial.require("R-W7", after.deposit_index >= now.deposit_index, "the deposit index went back")
    trial.require("R-W6", not any(have(trial, link, [stored])), "a lease outlived its account's lapse")
    trial.reached.update({"MA-R8", "MB-R8"})
