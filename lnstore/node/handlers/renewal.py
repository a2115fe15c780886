"""renew_agreement: an account's signature under prices that were announced to it."""

from __future__ import annotations

from lnstore.node.context import RequestContext
from lnstore.node.errors import Refusal
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.messages import RenewAgreement, RenewAgreementReply
from lnstore_protocol.terms import Agreement


async def renew_agreement(
    request: RequestContext, message: RenewAgreement
) -> RenewAgreementReply:  # MA-R27, MA-R28, R-W28
    """Countersign an agreement over announced terms; one that is there already is given again."""
    account = await request.account()
    agreement = Agreement.decode(message.agreement)
    if agreement.account_id != request.account_id:
        raise Refusal(ErrorCode.BAD_SIGNATURE, "the agreement is another account's")
    present = Agreement.decode(account.agreement)
    if _deal(agreement) == _deal(present):
        return RenewAgreementReply(agreement=account.agreement)
    raise Refusal(ErrorCode.TERMS_CHANGED, "no such change of prices is announced; ask for the account's status")


def _deal(agreement: Agreement) -> tuple[bytes, int, int]:
    return agreement.terms.encoded, agreement.from_period, agreement.anchor_at
