"""Rows as the port's values, and back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, select

from lnstore.books.ledger import balance
from lnstore.books.schema import accounts, holders, strangers
from lnstore.ports import Account, Announcement, BooksRefused, PlannedInvoice, Renewal
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId, LightningId, Msat
from lnstore_protocol.messages import AccountState, InvoicePurpose
from lnstore_protocol.prices import PriceStep

AnyRow = Row[*tuple[Any, ...]]
"""A row whose columns mypy need not know."""

AnySelect = Select[*tuple[Any, ...]]

_UNPAID_SINCE = select(strangers.c.opened_at).where(strangers.c.account == accounts.c.account).scalar_subquery()

ACCOUNTS: AnySelect = select(
    accounts,
    holders.c.petname,
    holders.c.quota_bytes,
    holders.c.free,
    holders.c.blocked,
    holders.c.lightning_id,
    (-balance(accounts.c.deposit)).label("deposit_msat"),
    _UNPAID_SINCE.label("unpaid_since_at"),
).join(holders, holders.c.account_id == accounts.c.account_id)
"""Accounts with their deposits and what the operator decided about them, superseded ones too."""

OF_ID = (accounts.c.account_id == bindparam("id")) & (accounts.c.superseded == 0)
"""The row that the account with the bound `id` has now."""
_CURRENT = ACCOUNTS.where(OF_ID)
_CURRENT_KEY = select(accounts.c.account).where(OF_ID)
COUNT = (
    accounts.update()
    .where(accounts.c.account == bindparam("of"))
    .values(
        used_bytes=accounts.c.used_bytes + bindparam("bytes"),
        shares=accounts.c.shares + bindparam("count"),
        ingress_bytes=accounts.c.ingress_bytes + bindparam("ingress"),
    )
)
"""Keeps an account's counters in step with its leases; always in the transaction that changes them."""


def account_of(row: AnyRow) -> Account:
    """The account of a row of ACCOUNTS."""
    return Account(
        account_id=AccountId(row.account_id),
        agreement=row.agreement,
        state=AccountState(row.state),
        anchor_at=row.anchor_at,
        period_seconds=row.period_seconds,
        grace_seconds=row.grace_seconds,
        price_msat_per_gib_month=Msat(0 if row.free else row.price_msat_per_gib_month),
        egress_msat_per_gib=Msat(0 if row.free else row.egress_msat_per_gib),
        ingress_msat_per_gib=Msat(0 if row.free else row.ingress_msat_per_gib),
        agreed_period=row.agreed_period,
        renewal=_renewal_of(row),
        announcement=_announcement_of(row),
        capacity_bytes=row.capacity_bytes,
        used_bytes=row.used_bytes,
        shares=row.shares,
        paid_until_at=row.paid_until_at,
        token_index=row.token_index,
        growth_index=row.growth_index,
        deposit_index=row.deposit_index,
        deposit_msat=Msat(row.deposit_msat),
        ingress_bytes=row.ingress_bytes,
        egress_bytes=row.egress_bytes,
        unpaid_since_at=row.unpaid_since_at,
        petname=row.petname,
        quota_bytes=row.quota_bytes,
        free=bool(row.free),
        blocked=bool(row.blocked),
        lightning_id=None if row.lightning_id is None else LightningId(row.lightning_id),
        shrink_to_bytes=row.shrink_to_bytes,
        shrink_period=row.shrink_period,
        left_at=row.left_at,
        refund_msat=None if row.refund_msat is None else Msat(row.refund_msat),
        look_at=row.look_at,
    )


def _renewal_of(row: AnyRow) -> Renewal | None:
    if row.renewed_agreement is None:
        return None
    step = PriceStep(
        from_period=row.renewed_period,
        price_msat_per_gib_month=Msat(row.renewed_price_msat_per_gib_month),
        egress_msat_per_gib=Msat(row.renewed_egress_msat_per_gib),
        ingress_msat_per_gib=Msat(row.renewed_ingress_msat_per_gib),
    )
    return Renewal(agreement=row.renewed_agreement, prices=step)


def _announcement_of(row: AnyRow) -> Announcement | None:
    if row.announced_terms is None:
        return None
    return Announcement(terms=row.announced_terms, from_period=row.announced_period, announced_at=row.announced_at)


_MOVED = (
    "state",
    "capacity_bytes",
    "paid_until_at",
    "token_index",
    "growth_index",
    "deposit_index",
    "shrink_to_bytes",
    "shrink_period",
    "left_at",
    "refund_msat",
    "look_at",
)
MOVE = (
    accounts.update()
    .where(accounts.c.account == bindparam("of"))
    .values({name: bindparam(f"new_{name}", type_=accounts.c[name].type) for name in _MOVED})
)
"""Writes what a rule made of an account (move_values)."""


def move_values(key: int, after: Account) -> dict[str, Any]:
    """The values of MOVE for the account row `key`."""
    values = {f"new_{name}": getattr(after, name) for name in _MOVED}
    return values | {"of": key, "new_state": int(after.state)}


def current_row(connection: Connection, account_id: AccountId) -> AnyRow | None:
    """The row of ACCOUNTS that the account has now."""
    return connection.execute(_CURRENT, {"id": account_id}).one_or_none()


def needed_row(connection: Connection, account_id: AccountId) -> AnyRow:
    """As current_row; BooksRefused when there is none."""
    row = current_row(connection, account_id)
    if row is None:
        raise no_account()
    return row


def account_key(connection: Connection, account_id: AccountId) -> int | None:
    """The key of the account's current row."""
    return connection.execute(_CURRENT_KEY, {"id": account_id}).scalar()


def no_account() -> BooksRefused:
    """What is answered to who has no account."""
    return BooksRefused(ErrorCode.NO_ACCOUNT, "there is no such account; open one first")


def planned_of(row: AnyRow, account_id: AccountId) -> PlannedInvoice:
    """The invoice of a row of `invoices`."""
    return PlannedInvoice(
        label=row.label,
        account_id=account_id,
        purpose=InvoicePurpose(row.purpose),
        index=row.number,
        attempt=row.attempt,
        amount_msat=Msat(row.amount_msat),
        from_at=row.from_at,
        until_at=row.until_at,
        capacity_bytes=row.capacity_bytes,
        expires_at=row.expires_at,
        preimage=row.preimage,
        nonce=row.nonce,
        token_index=row.token_index,
        shares=row.shares,
        sample=row.sample,
        lost=row.lost,
        bolt11=row.bolt11,
        credited=row.pay_index is not None or row.amount_msat == 0,
    )


def invoice_values(planned: PlannedInvoice, account: int, agreement: int) -> dict[str, Any]:
    """The row of `invoices` for a planned invoice of the account row `account`, under the row `agreement`."""
    return {
        "label": planned.label,
        "account": account,
        "agreement": agreement,
        "purpose": int(planned.purpose),
        "number": planned.index,
        "attempt": planned.attempt,
        "amount_msat": planned.amount_msat,
        "from_at": planned.from_at,
        "until_at": planned.until_at,
        "capacity_bytes": planned.capacity_bytes,
        "expires_at": planned.expires_at,
        "preimage": planned.preimage,
        "nonce": planned.nonce,
        "token_index": planned.token_index,
        "shares": planned.shares,
        "sample": planned.sample,
        "lost": planned.lost,
        "bolt11": planned.bolt11,
    }
