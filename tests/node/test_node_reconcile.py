"""`node ledger verify`: the books against the daemon's invoices; every kind of difference is named."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from node_world import GRACE, MIB, PERIOD, MemoryDaemon, World
from sqlalchemy import Connection, text

from lnstore.books import SqlBooks, ledger
from lnstore.node.app import BOOKS_FILE
from lnstore.node.reconcile import Reconciled, reconcile
from lnstore.ports import Invoice, InvoiceStatus
from lnstore_protocol.ids import Msat, PaymentHash
from lnstore_protocol.messages import InvoiceReply


class Listed:
    """The daemon's invoices as its list gives them, a few at a time."""

    def __init__(self, daemon: MemoryDaemon) -> None:
        self.invoices = dict(daemon.invoices)

    async def list_invoices(self, *, from_index: int, limit: int) -> tuple[list[Invoice], int]:
        few = min(limit, 2)
        page = list(self.invoices.values())[from_index - 1 : from_index - 1 + few]
        return page, from_index + few if len(page) == few else 0

    def change(self, purpose: str, **changes: object) -> None:
        label = self.of(purpose)
        self.invoices[label] = replace(self.invoices[label], **changes)  # type: ignore[arg-type]  # a test's

    def of(self, purpose: str) -> str:
        return next(label for label in self.invoices if f"/{purpose}/" in label)


async def _history(world: World) -> None:
    """A growth, a deposit and an unpaid invoice; payments that are not lnstore's."""
    async with world.running() as node, world.client(node) as client:
        preimage = bytes(32)
        other = await world.daemon.create_invoice(
            label="coffee", amount_msat=Msat(9), description="", expires_in_seconds=60, preimage=preimage
        )
        assert world.daemon.pay(other.bolt11)
        await client.rent(8 * MIB)
        await client.deposit(5000)
        await client.ask(client.rent_request(node.address, await client.status()), InvoiceReply)


async def _verify(world: World, listed: Listed, *, deleted_are_fine: bool = False) -> Reconciled:
    async with SqlBooks.open(world.directory / BOOKS_FILE) as books:
        return await reconcile(books, listed, deleted_are_fine=deleted_are_fine)


async def test_books_that_were_kept_agree(world: World) -> None:
    """Unpaid invoices and those of other programs at the daemon are no difference."""
    await _history(world)
    told: list[int] = []
    async with SqlBooks.open(world.directory / BOOKS_FILE) as books:
        result = await reconcile(books, Listed(world.daemon), tell=told.append)
        assert result.received_msat == (await books.balances())["lightning"]
    assert result.differences == ()
    assert (result.invoices, result.paid, result.waiting) == (3, 2, 0)
    assert told[-1] == 3


async def test_what_is_paid_while_the_node_is_away_is_waiting_and_no_difference(world: World) -> None:
    await _history(world)
    rent = next(one for label, one in world.daemon.invoices.items() if "/rent/" in label)
    assert world.daemon.pay(rent.bolt11)
    result = await _verify(world, Listed(world.daemon))
    assert (result.differences, result.waiting, result.waiting_msat) == ((), 1, rent.amount_msat)
    async with world.running() as node:
        async with world.client(node) as client:
            await client.open_account()
        await node.bill()
    result = await _verify(world, Listed(world.daemon))
    assert (result.differences, result.waiting, result.paid) == ((), 0, 3)


UNPAID = {"status": InvoiceStatus.UNPAID, "pay_index": None, "received_msat": None}


@pytest.mark.parametrize(
    ("purpose", "changes", "kinds"),
    [
        ("deposit", {"received_msat": Msat(5001)}, ["amount"]),
        ("deposit", {"received_msat": Msat(4999)}, ["amount"]),
        ("deposit", {"payment_hash": PaymentHash(sha256(b"other").digest())}, ["payment hash"]),
        ("deposit", UNPAID, ["not paid", "pay index"]),
        ("capacity", UNPAID, ["not paid"]),
        ("capacity", {"pay_index": 7}, ["pay index"]),
        ("rent", {"status": InvoiceStatus.PAID, "pay_index": 1, "received_msat": Msat(151)}, ["not credited"]),
        (
            "rent",
            {
                "status": InvoiceStatus.PAID,
                "pay_index": 1,
                "received_msat": Msat(151),
                "payment_hash": PaymentHash(bytes(32)),
            },
            ["payment hash"],
        ),
        ("rent", {"status": InvoiceStatus.PAID, "pay_index": 1, "label": "lnstore/00/rent/0/0"}, ["no account"]),
    ],
)
async def test_every_difference_is_named(
    world: World, purpose: str, changes: dict[str, object], kinds: list[str]
) -> None:
    """Amounts, hashes, indices, payments that were never credited or never made."""
    await _history(world)
    listed = Listed(world.daemon)
    label = listed.of(purpose)
    listed.change(purpose, **changes)
    result = await _verify(world, listed)
    assert [difference.kind for difference in result.differences] == kinds
    assert result.differences[0].subject == changes.get("label", label)
    assert all(difference.text for difference in result.differences)


async def test_invoices_that_the_daemon_deleted_are_named_unless_that_is_meant(world: World) -> None:
    await _history(world)
    listed = Listed(world.daemon)
    listed.invoices.clear()
    result = await _verify(world, listed)
    assert [one.kind for one in result.differences] == ["unknown to the daemon"] * 2 + ["pay index"]
    assert (await _verify(world, listed, deleted_are_fine=True)).differences == ()


_HELD = (
    "INSERT INTO holds (account, at, traffic_bytes, amount_msat, price_msat_per_gib) "
    "SELECT account, 0, 1, 7, 1 FROM accounts"
)
_POSTING = (
    "INSERT INTO postings SELECT 99, 0, 'made up', d.ledger_account, c.ledger_account, 5001, 'nothing' "
    "FROM ledger_accounts d, ledger_accounts c WHERE d.name LIKE '{}%' AND c.name LIKE 'rent:%'"
)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        (
            "INSERT INTO closings SELECT ledger_account, 1, 5 FROM ledger_accounts WHERE name LIKE 'deposit:%'",
            "closing",
        ),
        (_HELD, "hold"),
        ("UPDATE pay_cursor SET pay_index = 2", "pay index"),
        (_POSTING.format("lightning"), "posting without invoice"),
        (_POSTING.format("deposit:"), "overdrawn"),
    ],
)
async def test_books_that_disagree_with_themselves_are_found(world: World, statement: str, kind: str) -> None:
    """Whatever was written into the database beside lnstore: every sum is made anew."""
    await _history(world)

    def spoil(connection: Connection) -> None:
        connection.execute(text(statement))

    async with SqlBooks.open(world.directory / BOOKS_FILE) as books:
        await books._database.writer.write(spoil)
        (difference,) = await books.differences()
    assert difference.kind == kind
    assert difference.text


async def test_after_a_lapse_and_much_traffic_the_books_still_agree(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closings, holds and superseded accounts add up."""
    monkeypatch.setattr(ledger, "POSTINGS_PER_CLOSING", 10)
    async with world.running() as node, world.client(node) as client:
        await client.rent(8 * MIB)
        await client.deposit(5000)
        for _ in range(12):
            hold = await node.books.hold_egress(client.account_id, 4096, world.clock.now())
            await node.books.settle_egress(hold, 1, world.clock.now())
        world.clock.time += PERIOD + GRACE
        await node.bill()
        await client.rent(8 * MIB)
        await node.books.hold_egress(client.account_id, 4096, world.clock.now())
        assert await node.books.differences() == []
        result = await reconcile(node.books, Listed(world.daemon))
        assert result.differences == ()
