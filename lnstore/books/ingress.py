"""Charging for writing, in the transaction that commits the leases: there is nothing that a crash could leave behind.

What an account wrote is counted in bytes, ever; a share costs the price of the bytes with it less the price of those
before it, each rounded up. So what is taken for many small shares is what is taken for one large one, and most small
shares take nothing. The shares of a transaction are charged with one posting for each account.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, bindparam

from lnstore.books.ledger import close, make_ledger_accounts, post
from lnstore.books.rows import ACCOUNTS, account_of
from lnstore.books.rules import Ledger, ingress_entry, unpaid_refusal
from lnstore.books.schema import accounts
from lnstore.ports import Account, BooksRefused
from lnstore_protocol.ids import Msat
from lnstore_protocol.terms import ingress_msat

_THESE = ACCOUNTS.where(accounts.c.account.in_(bindparam("keys", expanding=True)))


@dataclass(slots=True)
class Tab:
    """What an account comes to while its shares are added: bytes written ever, what they cost, what is left."""

    account: Account
    row: int = 0
    deposit: int = 0
    """The numbers of its row and of the ledger account of its deposit."""

    ingress_bytes: int = field(init=False)
    left_msat: Msat = field(init=False)

    def __post_init__(self) -> None:
        self.ingress_bytes = self.account.ingress_bytes
        self.left_msat = self.account.deposit_msat

    @property
    def charged_msat(self) -> Msat:
        """What was charged so far."""
        return Msat(self.account.deposit_msat - self.left_msat)

    def refusal(self, size_bytes: int, now: int) -> BooksRefused | None:
        """Why the deposit does not allow so many bytes more; None when it does."""
        return unpaid_refusal(size_bytes, self._due(size_bytes, now), self.left_msat)

    def charge(self, size_bytes: int, now: int) -> Msat:
        """Count bytes that are not refused; what they cost."""
        due = self._due(size_bytes, now)
        self.ingress_bytes += size_bytes
        self.left_msat = Msat(self.left_msat - due)
        return due

    def _due(self, size_bytes: int, now: int) -> Msat:  # RI-W1
        price = self.account.prices.for_traffic(now).ingress_msat_per_gib
        return ingress_msat(self.ingress_bytes, size_bytes, price)


def tabs_of(connection: Connection, keys: Sequence[int]) -> dict[int, Tab]:
    """The tabs of these account rows, by key; nothing is asked when there are none."""
    if not keys:
        return {}
    rows = connection.execute(_THESE, {"keys": list(keys)})
    return {row.account: Tab(account_of(row), row.account, row.deposit) for row in rows}


def post_tabs(connection: Connection, tabs: Iterable[Tab], now: int) -> None:  # RI-W3
    """Post what was charged. The reference says up to which byte, which no two postings of an account share."""
    for tab in tabs:
        if not tab.charged_msat:
            continue
        account_id = tab.account.account_id
        make_ledger_accounts(connection, [Ledger.INGRESS.of(account_id)])
        entry = ingress_entry(account_id, tab.charged_msat)
        post(connection, [entry], at=now, reference=f"ingress/{tab.row}/{tab.ingress_bytes}")
        close(connection, tab.deposit)
