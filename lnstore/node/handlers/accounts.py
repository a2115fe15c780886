"""open_account and account_status."""

from __future__ import annotations

from lnstore.books.states import coming
from lnstore.config import Admission
from lnstore.node.announcing import announce_changes
from lnstore.node.context import RequestContext
from lnstore.node.errors import Refusal
from lnstore.node.handlers import delegations
from lnstore.node.handlers.peers import note_lightning_id
from lnstore.node.limits import ANCHOR_SKEW_SECONDS
from lnstore.node.strangers import limits_of, network_key
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.messages import (
    AccountState,
    AccountStatus,
    AccountStatusReply,
    OpenAccount,
    OpenAccountReply,
)
from lnstore_protocol.terms import Agreement


async def open_account(request: RequestContext, message: OpenAccount) -> OpenAccountReply:  # MA-R3, MA-R4, MA-R5, RA-R5
    """Countersign the agreement and open the account; an account that exists keeps its agreement.

    Whether the invitation is still good, and whether one is needed, is decided in the books.
    """
    node = request.node
    now = node.clock.now()
    existing = await node.books.account(request.account_id)
    if existing is not None and existing.state is not AccountState.LAPSED:
        await note_lightning_id(request, message.lightning_id)
        return OpenAccountReply(agreement=existing.agreement)
    agreement = Agreement.decode(message.agreement)
    if agreement.account_id != request.account_id:
        raise Refusal(ErrorCode.BAD_SIGNATURE, "the agreement is another account's")
    if agreement.from_period:
        raise Refusal(ErrorCode.MALFORMED, "an account's first agreement begins with period 0")
    node.prices.check(agreement.terms, node.binding.require(), now)
    bearer = None if message.invitation is None else message.invitation.invitation_id
    if agreement.terms.terms.invitation != bearer:
        raise Refusal(
            ErrorCode.INVITATION_REQUIRED, "these terms are for whoever has the invitation they were made for"
        )
    if abs(agreement.anchor_at - now) > ANCHOR_SKEW_SECONDS:
        raise Refusal(
            ErrorCode.ACCOUNT_REFUSED,
            f"the agreement starts at {agreement.anchor_at}, here it is {now}; set the clock right",
        )
    account = await node.books.open_account(
        agreement.countersign(node.identity),
        now,
        network=network_key(node.identity, request.network),
        limits=limits_of(node.config),
        invited_only=node.config.accounts is Admission.INVITED,
    )
    await note_lightning_id(request, message.lightning_id)
    request.log.info("account opened", account=request.account_id, invited=bearer is not None)
    return OpenAccountReply(agreement=account.agreement)


async def account_status(  # MA-R8, MA-W7, RP-W2
    request: RequestContext, _message: AccountStatus
) -> AccountStatusReply:
    """How the account stands, lapsed or not."""
    account = await request.account(even_lapsed=True)
    if request.authority is not None:
        return await delegations.delegate_status(request, account, request.authority)
    async with request.node.account_locks.holding(request.account_id):
        account = await announce_changes(request.node, await request.account(even_lapsed=True))
    told = account.announcement
    delegated_bytes, delegated_shares = await request.node.books.delegated(request.account_id)
    unpaid_since_at = account.unpaid_since_at
    figures = (await request.node.books.figures(request.account_id))[request.account_id]
    now = request.node.clock.now()
    nearing = coming(account, now)
    return AccountStatusReply(
        state=account.state,
        capacity_bytes=account.capacity_bytes,
        used_bytes=account.used_bytes,
        shares=account.shares,
        deposit_msat=account.deposit_msat,
        anchor_at=account.anchor_at,
        paid_until_at=account.paid_until_at,
        next_period=account.next_period,
        token_index=account.token_index,
        growth_index=account.growth_index,
        deposit_index=account.deposit_index,
        ingress_bytes=account.ingress_bytes,
        egress_bytes=account.egress_bytes,
        now_at=now,
        agreement=account.agreement,
        delegated_bytes=delegated_bytes,
        delegated_shares=delegated_shares,
        announced_terms=None if told is None else told.terms,
        announced_period=None if told is None else told.from_period,
        announced_at=None if told is None else told.announced_at,
        renewed_agreement=None if account.renewal is None else account.renewal.agreement,
        removed_at=None if unpaid_since_at is None else unpaid_since_at + request.node.config.unpaid_account_time,
        quota_bytes=account.quota_bytes,
        blocked=int(account.blocked),
        free=int(account.free),  # RA-W1
        proofs_passed=figures.proofs_passed,
        proofs_failed=figures.proofs_failed,
        next_stage=nearing.stage if nearing else None,
        next_stage_at=nearing.at if nearing else None,
        warning_at=nearing.warning_at if nearing else None,
        shrink_to_bytes=account.shrink_to_bytes,
        shrink_period=account.shrink_period,
    )
