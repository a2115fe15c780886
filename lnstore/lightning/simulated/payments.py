"""Payments: sent, then settled or failed. Each of the three is one transaction.

`send` puts the HTLCs of all hops and the payer's pending row in place. `resolve` later, in one transaction, moves
every balance on the way, marks the invoice paid under its next pay index and completes the payer's row; or undoes
the HTLCs and marks the row failed. Between the two the process may die any number of times: a pending payment is
resolved when its nodes are up again. A unique index forbids a second live payment of the same hash.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from lnstore.lightning.simulated import channels, invoices, nodes, routing
from lnstore.lightning.simulated.bolt11 import Bolt11
from lnstore.lightning.simulated.database import Database, Row
from lnstore.lightning.simulated.failure import RpcFailure
from lnstore.lightning.simulated.nodes import Node

ALREADY_PAID = 219
HOLD, REFUSE, LOST = "hold", "refuse", "lost"
"""What a fault does to a payment: keep it pending until released, have the payee refuse it, or record it without
sending it, which is what remains of one when lightningd v26.06.6 dies between the two: pending for ever."""
_REFUSED = "Destination said it doesn't know invoice: incorrect_or_unknown_payment_details"


@dataclass(frozen=True, slots=True)
class Order:
    """What the caller of `pay` or `xpay` asked for."""

    text: str
    invoice: Bolt11
    amount_msat: int
    max_fee_msat: int
    max_delay: int
    label: str | None = None
    description: str | None = None


def attempts(db: Database, node: str, payment_hash: str) -> list[Row]:
    """All attempts of `node` to pay this hash, the oldest first."""
    return db.all("SELECT * FROM payment WHERE node = ? AND payment_hash = ? ORDER BY id", node, payment_hash)


def by_id(db: Database, payment_id: int) -> Row:
    """One attempt."""
    row = db.one("SELECT * FROM payment WHERE id = ?", payment_id)
    assert row is not None  # noqa: S101  rows of payments are never deleted
    return row


def send(db: Database, payer: Node, order: Order, *, held: str | None) -> int:
    """Puts a payment on its way; its id. RpcFailure -3, 205, 206, 207 or 219, as lightningd's, and nothing is sent."""
    invoice = order.invoice
    with db.transaction():
        previous = attempts(db, payer.name, invoice.payment_hash)
        if any(row["status"] == "complete" for row in previous):
            raise RpcFailure(ALREADY_PAID, "Already paid this invoice successfully")
        late = int(db.now()) - invoice.expires_at
        if late > 0:
            raise RpcFailure(207, f"Invoice expired {late} seconds ago")
        payee = nodes.by_id(db, invoice.payee)
        parts = routing.find(
            db,
            payer,
            payee,
            invoice.payee,
            order.amount_msat,
            final_cltv=invoice.final_cltv,
            max_delay=order.max_delay,
        )
        sent = sum(part.sent_msat for part in parts)
        if sent - order.amount_msat > order.max_fee_msat:
            raise RpcFailure(206, "Failed: Could not find route without excessive cost")
        for row in previous:
            if row["status"] == "pending":
                why = f"Payment with groupid={row['groupid']} still in progress, cannot retry before that completes."
                inner = f'{{"code":200,"message":"{why}"}}'
                raise RpcFailure(-3, f"Unexpected injectpaymentonion error 200: {inner}")
        payment_id = db.insert(
            "payment",
            node=payer.name,
            payee=invoice.payee,
            payment_hash=invoice.payment_hash,
            bolt11=order.text,
            label=order.label,
            description=order.description,
            groupid=secrets.randbits(62),
            parts=len(parts),
            amount_msat=order.amount_msat,
            sent_msat=sent,
            payment_secret=invoice.payment_secret,
            status="pending",
            held=held,
            created_at=db.now(),
            created_index=db.next_index(payer.name, "payments_created"),
        )
        for number, part in enumerate([] if held == LOST else parts):
            for hop in part.hops:
                db.insert(
                    "htlc",
                    payment_id=payment_id,
                    part=number,
                    channel_id=hop.channel_id,
                    forth=hop.forth,
                    amount_msat=hop.amount_msat,
                    expiry=hop.expiry,
                )
                _count(db, hop.channel_id, forth=hop.forth, what="offered", amount_msat=hop.amount_msat)
        return payment_id


def reachable(db: Database, payment: Row) -> bool:
    """Whether every node on the way runs and has its neighbour: an HTLC moves only then."""
    ends = [payment["node"]]
    payee = nodes.by_id(db, payment["payee"])
    if payee is not None:
        ends.append(payee.name)
    if not all(nodes.by_name(db, name).running for name in ends):
        return False
    return all(
        channels.usable(db, row["opener"], row["acceptor"])
        for row in db.all(
            "SELECT DISTINCT opener, acceptor FROM htlc JOIN channel USING (channel_id) WHERE payment_id = ?",
            payment["id"],
        )
    )


def resolve(db: Database, payment_id: int) -> Row:
    """Settles the payment if the payee's invoice still takes it, else fails it; the row after."""
    with db.transaction():
        payment = by_id(db, payment_id)
        if payment["status"] != "pending":
            return payment
        invoices.expire(db)
        payee = nodes.by_id(db, payment["payee"])
        invoice = None if payee is None or payment["held"] == REFUSE else _accepting(db, payee.name, payment)
        if invoice is None:
            _fail(db, payment)
        else:
            _settle(db, payment, invoice)
        return by_id(db, payment_id)


def _accepting(db: Database, payee: str, payment: Row) -> Row | None:
    row = db.one("SELECT * FROM invoice WHERE node = ? AND payment_hash = ?", payee, payment["payment_hash"])
    if row is None or row["status"] != "unpaid" or row["payment_secret"] != payment["payment_secret"]:
        return None
    wanted = row["amount_msat"]
    # BOLT 4: the payee takes up to twice what it asked for.
    return row if wanted is None or wanted <= payment["amount_msat"] <= 2 * wanted else None


def _settle(db: Database, payment: Row, invoice: Row) -> None:
    for htlc in db.all("SELECT * FROM htlc WHERE payment_id = ?", payment["id"]):
        amount = htlc["amount_msat"]
        db.run(
            "UPDATE channel SET opener_msat = opener_msat + ?1, "
            "opener_min_msat = min(opener_min_msat, opener_msat + ?1), "
            "opener_max_msat = max(opener_max_msat, opener_msat + ?1) WHERE channel_id = ?2",
            -amount if htlc["forth"] else amount,
            htlc["channel_id"],
        )
        _count(db, htlc["channel_id"], forth=bool(htlc["forth"]), what="fulfilled", amount_msat=amount)
    db.run("DELETE FROM htlc WHERE payment_id = ?", payment["id"])
    invoices.settle(db, invoice, payment["amount_msat"])
    db.run(
        "UPDATE payment SET status = 'complete', held = NULL, preimage = ?, completed_at = ?, updated_index = ? "
        "WHERE id = ?",
        invoice["preimage"],
        int(db.now()),
        db.next_index(payment["node"], "payments_updated"),
        payment["id"],
    )


def _fail(db: Database, payment: Row) -> None:
    db.run("DELETE FROM htlc WHERE payment_id = ?", payment["id"])
    db.run(
        "UPDATE payment SET status = 'failed', held = NULL, failcode = 203, failure = ?, completed_at = ?, "
        "updated_index = ? WHERE id = ?",
        _REFUSED,
        int(db.now()),
        db.next_index(payment["node"], "payments_updated"),
        payment["id"],
    )


def abandon(db: Database, channel_id: str) -> None:
    """Fails the payments that are on their way over a channel which is now closed alone.

    On the real network they time out on chain, some blocks later; the money goes back in either case.
    """
    for row in db.all("SELECT DISTINCT payment_id FROM htlc WHERE channel_id = ?", channel_id):
        _fail(db, by_id(db, row["payment_id"]))


def _count(db: Database, channel_id: str, *, forth: bool, what: str, amount_msat: int) -> None:
    column = f"{'forth' if forth else 'back'}_{what}"
    db.run(
        f"UPDATE channel SET {column} = {column} + 1, {column}_msat = {column}_msat + ? WHERE channel_id = ?",  # noqa: S608
        amount_msat,
        channel_id,
    )


def pending(db: Database) -> list[Row]:
    """All payments that are on their way and that no fault holds."""
    return db.all("SELECT * FROM payment WHERE status = 'pending' AND (held IS NULL OR held = ?) ORDER BY id", REFUSE)


def release(db: Database, node: str, outcome: str) -> int:
    """Lets the held payments of a node go on to be completed or refused ('complete', 'fail'); how many."""
    return db.run(
        "UPDATE payment SET held = ? WHERE node = ? AND status = 'pending' AND held = ?",
        None if outcome == "complete" else REFUSE,
        node,
        HOLD,
    )


def as_json(row: Row) -> dict[str, Any]:
    """The payment as `listpays` shows it."""
    entry: dict[str, Any] = {
        "payment_hash": row["payment_hash"],
        "status": row["status"],
        "destination": row["payee"],
        "created_at": int(row["created_at"]),
        "completed_at": row["completed_at"],
        "label": row["label"],
        "bolt11": row["bolt11"],
        "description": row["description"],
        "amount_msat": row["amount_msat"],
        "amount_sent_msat": row["sent_msat"],
        "created_index": row["created_index"],
        "updated_index": row["updated_index"],
    }
    if row["status"] == "failed":
        entry |= {"amount_msat": None, "completed_at": None, "amount_sent_msat": 0}
    if row["status"] == "complete":
        entry["preimage"] = row["preimage"].hex()
        if row["parts"] > 1:
            entry["number_of_parts"] = row["parts"]
    return {key: value for key, value in entry.items() if value is not None}
