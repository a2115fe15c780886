"""The table of requests: which function answers which message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from lnstore.node.context import RequestContext
from lnstore.node.handlers import (
    accounts,
    delegations,
    ending,
    growth,
    hello,
    leases,
    peers,
    receipts,
    records,
    renewal,
    rent,
    shares,
)
from lnstore_protocol.messages import (
    AccountStatus,
    AddCapacity,
    AuditShare,
    ChannelInfo,
    DropShares,
    GetReceipts,
    GetRecord,
    GetShare,
    GetTerms,
    HaveShares,
    Hello,
    Leave,
    ListDelegations,
    ListPeers,
    ListShares,
    OpenAccount,
    PresentDelegation,
    PutReceipts,
    PutRecord,
    PutShare,
    PutTokens,
    RenewAgreement,
    Reply,
    Request,
    RequestInvoice,
    RevokeDelegation,
    ShrinkCapacity,
)

Handler = Callable[[RequestContext, Any], Awaitable[Reply]]

HANDLERS: dict[type[Request], Handler] = {
    Hello: hello.hello,
    GetTerms: hello.get_terms,
    OpenAccount: accounts.open_account,
    AccountStatus: accounts.account_status,
    RenewAgreement: renewal.renew_agreement,
    AddCapacity: growth.add_capacity,
    ShrinkCapacity: ending.shrink_capacity,
    Leave: ending.leave,
    RequestInvoice: rent.request_invoice,
    PutShare: shares.put_share,
    GetShare: shares.get_share,
    AuditShare: shares.audit_share,
    HaveShares: leases.have_shares,
    ListShares: leases.list_shares,
    DropShares: leases.drop_shares,
    PutRecord: records.put_record,
    GetRecord: records.get_record,
    ChannelInfo: peers.channel_info,
    ListPeers: peers.list_peers,
    PresentDelegation: delegations.present_delegation,
    RevokeDelegation: delegations.revoke_delegation,
    ListDelegations: delegations.list_delegations,
    GetReceipts: receipts.get_receipts,
    PutReceipts: receipts.put_receipts,
    PutTokens: leases.put_tokens,
}


async def answer(request: RequestContext, message: Request) -> Reply:
    """The reply of the message's handler, once a delegate was found to be allowed to ask for it."""
    if request.authority is not None:
        await delegations.check_delegated(request, request.authority, message)
    return await HANDLERS[type(message)](request, message)
