"""renew_agreement: an account's signature under prices that were announced to it."""

from __future__ import annotations

from lnstore.node.context import RequestContext
from lnstore.node.errors import Refusal
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.messages import RenewAgreement, RenewAgreementReply
from lnstore_protocol.terms import Agreement


async def renew_agreement(request: RequestContext, message: RenewAgreement) -> RenewAgreementReply:  # MA-R27, MA-R28
    """Countersign an agreement over announced terms; one that is there already is given again."""
    node = request.node
    async with node.account_locks.holding(request.account_id):
        account = await request.account()
        agreement = Agreement.decode(message.agreement)
        if agreement.account_id != request.account_id:
            raise Refusal(ErrorCode.BAD_SIGNATURE, "the agreement is another account's")
        last = Agreement.decode(account.last_agreement)
        if _deal(agreement) == _deal(last):
            return RenewAgreementReply(agreement=last.encoded)
        now = node.clock.now()
        node.prices.check(agreement.terms, node.binding.require(), now)
        account = await node.books.renew(agreement.countersign(node.identity), now)
        request.log.info("agreement renewed", account=request.account_id, from_period=agreement.from_period)
        return RenewAgreementReply(agreement=account.last_agreement)


def _deal(agreement: Agreement) -> tuple[bytes, int, int]:
    return agreement.terms.encoded, agreement.from_period, agreement.anchor_at
