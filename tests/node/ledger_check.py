"""Whether a client's ledger, a node's books and both their Lightning daemons tell the same story."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from lnstore.books import SqlBooks
from lnstore.client.wallet import Wallet
from lnstore.lightning.core import CoreLightning
from lnstore.ports import Outcome
from lnstore_protocol.ids import NodeId
from lnstore_protocol.messages import AccountState


async def check_ledgers(
    *, payer: CoreLightning, payee: CoreLightning, wallet: Wallet, books: SqlBooks, node_id: NodeId
) -> dict[str, int]:
    """AssertionError when something was paid or credited twice or lost, or is still open. Some figures.

    For one client with one channel, opened by it, to the one node that it pays, all of it without fees.
    """
    pays = (await payer.call("listpays"))["pays"]
    complete = [pay for pay in pays if pay["status"] == "complete"]
    sent = {pay["payment_hash"]: pay["amount_sent_msat"] for pay in complete}
    assert len(sent) == len(complete), "an invoice was paid twice"
    invoices = (await payee.call("listinvoices"))["invoices"]
    paid = {one["label"]: one for one in invoices if one["status"] == "paid"}
    assert sent == {one["payment_hash"]: one["amount_received_msat"] for one in paid.values()}
    (channel,) = await payer.channels()
    assert channel.capacity_msat - channel.to_us_msat == sum(sent.values())
    _check_wallet(wallet, sent)
    await _check_books(books, paid)
    for account in await books.accounts():
        ours = wallet.standing(node_id, anchor_at=account.anchor_at)
        told = f"the node has {account}, the client {ours}"
        assert account.token_index <= ours.latest_proof, told
        if account.state is not AccountState.LAPSED:
            # Both move on by themselves while the account owes nothing, the node's without a payment.
            assert account.paid_until_at >= ours.paid_until_at, told
            assert account.capacity_bytes <= ours.rented.capacity_bytes, told
    return {
        "paid": len(complete),
        "rents paid": sum("/rent/" in label for label in paid),
        "failed": sum(pay["status"] == "failed" for pay in pays),
        "lost": sum(pay["status"] == "pending" for pay in pays),
        "invoices": len(invoices),
    }


def _check_wallet(wallet: Wallet, sent: dict[str, int]) -> None:
    entries = wallet.payments()
    assert not [entry for entry in entries if entry.open]
    settled = {entry.payment_hash.hex(): entry.amount_msat for entry in entries if entry.state is Outcome.SETTLED}
    assert settled == sent, f"the client has {settled}, its daemon {sent}"
    assert sum(wallet.balances().values()) == 0
    assert wallet.balances().get("lightning", 0) == -sum(sent.values())


async def _check_books(books: SqlBooks, paid: dict[str, dict[str, Any]]) -> None:
    received = {label: one["amount_received_msat"] for label, one in paid.items()}
    balances = await books.balances()
    assert sum(balances.values()) == 0
    assert balances.get("lightning", 0) == sum(received.values())

    async def pairs(query: str) -> dict[str, int]:
        return {
            str(name): int(number)
            for name, number in await books._database.read(lambda connection: connection.execute(text(query)).all())
        }

    credited = await pairs("SELECT label, pay_index FROM invoices WHERE pay_index IS NOT NULL")
    assert credited == {label: one["pay_index"] for label, one in paid.items()}
    posted = await pairs("SELECT reference, sum(amount_msat) FROM postings GROUP BY reference")
    assert posted == received
