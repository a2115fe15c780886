"""Renting less, and leaving: what a client may do to end what it pays for. Pure, `now` is an argument, no SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lnstore.books.rules import REFUND, Credit, Entry, Ledger
from lnstore.books.states import first_look, owes_nothing
from lnstore.ports import Account, BooksRefused
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import AccountState
from lnstore_protocol.prices import PaidFor
from lnstore_protocol.terms import period_at


def plan_shrink(account: Account, capacity_bytes: int, now: int, *, invoiced: bool) -> Account:  # RP-W3, RP-W4
    """The account with `capacity_bytes` planned; BooksRefused says why not.

    It begins with the first period that is not paid, not begun and not invoiced: `invoiced` is whether a rent invoice
    was made for the first unpaid one. Where no rent is owed there is nothing to wait for.
    """
    if account.state is AccountState.LAPSED:
        raise _ended()
    if capacity_bytes > account.capacity_bytes:
        raise BooksRefused(
            ErrorCode.CAPACITY_REFUSED, f"the account has {account.capacity_bytes} bytes; to have more, add capacity"
        )
    if capacity_bytes < account.used_bytes:
        raise BooksRefused(
            ErrorCode.CAPACITY_IN_USE,
            f"{account.used_bytes} bytes are stored and do not fit into {capacity_bytes}; remove files first",
        )
    if capacity_bytes == account.capacity_bytes:
        return _looked_at(replace(account, shrink_to_bytes=None, shrink_period=None), now)
    if owes_nothing(account):
        return _looked_at(
            replace(account, capacity_bytes=capacity_bytes, shrink_to_bytes=None, shrink_period=None), now
        )
    begun = period_at(account.anchor_at, account.period_seconds, now)
    period = max(account.next_period + invoiced, begun + 1)
    return _looked_at(replace(account, shrink_to_bytes=capacity_bytes, shrink_period=period), now)


def leaving(account: Account, now: int, refund_permille: int, paid: Sequence[PaidFor]) -> Credit:  # RP-W7, RP-W8
    """The account ended at its client's wish, and the posting of what its terms give back of what was `paid`."""
    if account.state is AccountState.LAPSED:
        raise _ended()
    refund = account.prices.refund_msat(account.capacity_bytes, now, account.paid_until_at, refund_permille, paid)
    after = replace(
        account,
        state=AccountState.LAPSED,
        capacity_bytes=0,
        shrink_to_bytes=None,
        shrink_period=None,
        deposit_msat=Msat(account.deposit_msat + refund),
        left_at=now,
        refund_msat=refund,
        look_at=None,
    )
    of = account.account_id
    back = (Entry(REFUND, Ledger.REFUND.of(of), Ledger.DEPOSIT.of(of), refund),) if refund else ()
    return Credit(after, back)


def _looked_at(account: Account, now: int) -> Account:
    return replace(account, look_at=first_look(account, now))


def _ended() -> BooksRefused:
    return BooksRefused(ErrorCode.LAPSED, "the account has ended; open it anew")
