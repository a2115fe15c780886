"""What tests of the books start from: a node's terms, accounts with capacity, paid invoices, leases."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, or_, select, text

from lnstore.books import SqlBooks
from lnstore.books.rows import ACCOUNTS
from lnstore.books.schema import accounts, certificates, leases
from lnstore.ports import Account, Invoice, InvoiceStatus, NewLease, PlannedInvoice
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, LightningId, Msat, NodeId, ShareId
from lnstore_protocol.messages import AccountState, InvoicePurpose
from lnstore_protocol.terms import Agreement, ChannelPolicy, Terms, period_start, rent_msat

NODE = Identity(bytes(31) + b"\x01")
ANCHOR = 1_000_000
PERIOD = 1_000
GRACE = 300
GIB = 1 << 30
PRICE = Msat(2_592_000)  # per GiB and 30 days: 1 msat per GiB and second
EGRESS = Msat(1_024)


def agreement(client: Identity, anchor_at: int = ANCHOR, **changes: Any) -> Agreement:
    """An agreement signed by both, on terms that are easy to compute with."""
    terms: dict[str, Any] = {
        "node_id": NodeId(NODE.public_key),
        "lightning_id": LightningId(b"\x02" * 33),
        "network": "regtest",
        "price_msat_per_gib_month": PRICE,
        "egress_msat_per_gib": EGRESS,
        "ingress_msat_per_gib": Msat(0),
        "period_seconds": PERIOD,
        "grace_seconds": GRACE,
        "minimum_capacity_bytes": 0,
        "maximum_capacity_bytes": 1 << 50,
        "channel_policy": ChannelPolicy.ANY,
        "minimum_channel_sat": 0,
        "valid_from_at": 0,
        "valid_until_at": 1 << 40,
        "price_periods": 12,
    }
    signed = Terms(**(terms | changes)).sign(NODE)
    return Agreement.propose(signed, client, anchor_at).countersign(NODE)


def an_account(**changes: Any) -> Account:
    """An account that rents a GiB and is paid until the end of period 0."""
    account = Account(
        account_id=AccountId(b"\xaa" * 32),
        agreement=b"",
        state=AccountState.ACTIVE,
        anchor_at=ANCHOR,
        period_seconds=PERIOD,
        grace_seconds=GRACE,
        price_msat_per_gib_month=PRICE,
        egress_msat_per_gib=EGRESS,
        capacity_bytes=GIB,
        used_bytes=0,
        shares=0,
        paid_until_at=ANCHOR + PERIOD,
        token_index=0,
        growth_index=1,
        deposit_index=0,
        deposit_msat=Msat(0),
        ingress_bytes=0,
        egress_bytes=0,
    )
    return replace(account, **changes)


def _planned(account: Account, purpose: InvoicePurpose, number: int, **values: Any) -> PlannedInvoice:
    base: dict[str, Any] = {
        "label": f"test/{account.account_id.hex()}/{purpose.name}/{secrets.token_hex(8)}",
        "account_id": account.account_id,
        "purpose": purpose,
        "index": number,
        "attempt": 0,
        "capacity_bytes": 0,
        "preimage": secrets.token_bytes(32),
    }
    return PlannedInvoice(**(base | values))


def growth(account: Account, added_bytes: int, now: int, until_at: int, **changes: Any) -> PlannedInvoice:
    """The invoice that adds capacity from `now` until `until_at`."""
    price = account.price_msat_per_gib_month
    values: dict[str, Any] = {
        "amount_msat": Msat(max(1, rent_msat(added_bytes, until_at - now, price)) if price else 0),
        "from_at": now,
        "until_at": until_at,
        "capacity_bytes": added_bytes,
        "expires_at": now + 3600,
    }
    return _planned(account, InvoicePurpose.CAPACITY, account.growth_index, **(values | changes))


def rent(account: Account, **changes: Any) -> PlannedInvoice:
    """The invoice for the account's next period."""
    start = period_start(account.anchor_at, account.period_seconds, account.next_period)
    values: dict[str, Any] = {
        "amount_msat": rent_msat(account.capacity_bytes, account.period_seconds, account.price_msat_per_gib_month),
        "from_at": start,
        "until_at": start + account.period_seconds,
        "capacity_bytes": account.capacity_bytes,
        "expires_at": start + account.grace_seconds,
        "nonce": bytes(32),
        "token_index": account.token_index,
    }
    return _planned(account, InvoicePurpose.RENT, account.next_period, **(values | changes))


def deposit(account: Account, amount_msat: int, now: int, **changes: Any) -> PlannedInvoice:
    """The invoice that adds to the deposit."""
    values: dict[str, Any] = {
        "amount_msat": Msat(amount_msat),
        "from_at": now,
        "until_at": now,
        "expires_at": now + 3600,
    }
    return _planned(account, InvoicePurpose.DEPOSIT, account.deposit_index, **(values | changes))


def paid(planned: PlannedInvoice, pay_index: int, *, received_msat: int | None = None, now: int = ANCHOR) -> Invoice:
    """The daemon's invoice for `planned`, paid."""
    received = planned.amount_msat if received_msat is None else Msat(received_msat)
    return Invoice(
        label=planned.label,
        bolt11="lnbc",
        payment_hash=planned.payment_hash,
        amount_msat=planned.amount_msat,
        expires_at=planned.expires_at,
        status=InvoiceStatus.PAID,
        pay_index=pay_index,
        paid_at=now,
        received_msat=received,
    )


def share_id(number: int) -> ShareId:
    """A share id for each number."""
    return ShareId(sha256(number.to_bytes(8, "big")).digest())


def lease(account: Account, number: int, size_bytes: int = 100, **changes: Any) -> NewLease:
    """A lease of share `number`."""
    values: dict[str, Any] = {"size_bytes": size_bytes, "token_start": 0, "tokens": b"\x01" * 16}
    return NewLease(account_id=account.account_id, share_id=share_id(number), **(values | changes))


def always(_share_id: ShareId) -> bool:
    """Every share is on the disk."""
    return True


@dataclass
class World:
    """Open books, and the pay index that the daemon has come to."""

    books: SqlBooks
    pay_index: int = 0
    clients: list[Identity] = field(default_factory=list)

    async def opened(self, now: int = ANCHOR, **terms: Any) -> Account:
        """A new account."""
        self.clients.append(Identity.generate())
        return await self.books.open_account(agreement(self.clients[-1], now, **terms), now)

    async def pay(self, planned: PlannedInvoice, now: int = ANCHOR, received_msat: int | None = None) -> Account:
        """Plan the invoice and have it paid, unless it is over nothing; the account then."""
        planned = await self.books.plan_invoice(planned)
        if not planned.amount_msat:
            assert planned.credited
            found = await self.books.account(planned.account_id)
            assert found is not None
            return found
        self.pay_index += 1
        account = await self.books.credit(paid(planned, self.pay_index, received_msat=received_msat, now=now), now)
        assert account is not None
        return account

    async def renting(self, capacity_bytes: int = GIB, now: int = ANCHOR, **terms: Any) -> Account:
        """An account with capacity, paid until the end of period 0."""
        account = await self.opened(now, **terms)
        return await self.pay(growth(account, capacity_bytes, now, now + account.period_seconds), now)

    async def now_is(self, account: Account) -> Account:
        """The account as the books have it now."""
        found = await self.books.account(account.account_id)
        assert found is not None
        return found


def check(connection: Connection) -> None:
    """Recompute what the books keep as counters, and add up the ledger."""
    counted = (
        select(
            accounts.c.account,
            accounts.c.state,
            accounts.c.capacity_bytes,
            accounts.c.used_bytes,
            accounts.c.shares,
            func.coalesce(func.sum(leases.c.size_bytes), 0).label("sum"),
            func.count(leases.c.lease).label("count"),
        )
        .outerjoin(leases, leases.c.account == accounts.c.account)
        .group_by(accounts.c.account)
    )
    for row in connection.execute(counted):
        assert (row.used_bytes, row.shares) == (row.sum, row.count)
        assert row.used_bytes <= row.capacity_bytes or row.state == AccountState.LAPSED
    of = certificates.alias()
    below = or_(of.c.certificate == certificates.c.certificate, of.c.parent == certificates.c.certificate)
    stored = (
        select(
            certificates.c.used_bytes,
            certificates.c.shares,
            func.coalesce(func.sum(leases.c.size_bytes), 0).label("size"),
            func.count(leases.c.lease).label("number"),
        )
        .select_from(certificates.join(of, below).outerjoin(leases, leases.c.certificate == of.c.certificate))
        .group_by(certificates.c.certificate)
    )
    for found in connection.execute(stored):
        assert (found.used_bytes, found.shares) == (found.size, found.number)
    assert connection.execute(text("PRAGMA foreign_key_check")).first() is None
    for closing in connection.execute(text("SELECT * FROM closings")):
        total = connection.execute(
            text(
                "SELECT coalesce(sum(CASE WHEN debit = :key THEN amount_msat ELSE -amount_msat END), 0) FROM postings "
                "WHERE (debit = :key OR credit = :key) AND posting <= :last"
            ),
            {"key": closing.ledger_account, "last": closing.posting},
        )
        assert total.scalar_one() == closing.balance_msat


def add_up(connection: Connection) -> dict[str, int]:
    """The balances, after checking everything that they must fulfil."""
    check(connection)
    totals: dict[str, int] = {name: total for name, total in connection.execute(_BALANCES)}  # noqa: C416  (typed)
    assert sum(totals.values()) == 0
    assert all(total <= 0 for name, total in totals.items() if name.startswith(("deposit:", "hold:")))
    for row in connection.execute(ACCOUNTS):
        assert row.deposit_msat == -totals[f"deposit:{row.account_id.hex()}"]
    return totals


_BALANCES = text(
    "SELECT name, (SELECT coalesce(sum(amount_msat), 0) FROM postings WHERE debit = ledger_account)"
    " - (SELECT coalesce(sum(amount_msat), 0) FROM postings WHERE credit = ledger_account) FROM ledger_accounts"
)


async def sound(books: SqlBooks) -> None:
    """Every invariant of the books that a query can tell, and the file itself."""
    totals = await books._database.read(add_up)
    assert await books.balances() == totals
    intact = await books._database.read(lambda c: c.execute(text("PRAGMA integrity_check")).scalar_one())
    assert intact == "ok"


@asynccontextmanager
async def a_world(directory: Path) -> AsyncIterator[World]:
    """Fresh books; when the test is over they must add up."""
    async with SqlBooks.open(file_in(directory)) as books:
        yield World(books)
        await sound(books)


def file_in(directory: Path) -> Path:
    """Where a test's books are."""
    return directory / "books.db"
