"""Invoices of the virtual nodes: made, expired, paid, deleted."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from lnstore.lightning.simulated import bolt11, channels, nodes
from lnstore.lightning.simulated.database import Database, Row
from lnstore.lightning.simulated.failure import RpcFailure


def create(
    db: Database,
    node: str,
    *,
    label: str,
    amount_msat: int | None,
    description: str,
    expiry: int,
    preimage: bytes | None,
    final_cltv: int,
    hash_description: bool,
) -> dict[str, Any]:
    """The reply of `invoice`. RpcFailure 900 (label) or 901 (preimage) when there is one already."""
    preimage = preimage or secrets.token_bytes(32)
    payment_hash = hashlib.sha256(preimage).digest()
    payment_secret = secrets.token_bytes(32)
    with db.transaction():
        if db.one("SELECT 1 FROM invoice WHERE node = ? AND payment_hash = ?", node, payment_hash.hex()):
            raise RpcFailure(901, "preimage already used")
        if find(db, node, label) is not None:
            raise RpcFailure(900, f"Duplicate label '{label}'")
        created_at = int(db.now())
        text = bolt11.encode(
            secret=nodes.secret(db, node),
            payment_hash=payment_hash,
            payment_secret=payment_secret,
            amount_msat=amount_msat,
            description=hashlib.sha256(description.encode()).digest() if hash_description else description,
            created_at=created_at,
            expiry=expiry,
            final_cltv=final_cltv,
        )
        created_index = db.next_index(node, "invoices_created")
        db.insert(
            "invoice",
            node=node,
            label=label,
            payment_hash=payment_hash.hex(),
            preimage=preimage,
            payment_secret=payment_secret.hex(),
            bolt11=text,
            description=description,
            amount_msat=amount_msat,
            status="unpaid",
            expires_at=created_at + expiry,
            created_index=created_index,
        )
    reply: dict[str, Any] = {
        "payment_hash": payment_hash.hex(),
        "expires_at": created_at + expiry,
        "bolt11": text,
        "payment_secret": payment_secret.hex(),
        "created_index": created_index,
    }
    receivable = sum(side.receivable for side in channels.of_node(db, node) if side.row["state"] == "CHANNELD_NORMAL")
    if receivable < (amount_msat or 1):
        reply["warning_capacity"] = "Insufficient incoming channel capacity to pay invoice"
    return reply


def expire(db: Database) -> None:
    """Marks the unpaid invoices whose time is over."""
    now = int(db.now())
    with db.transaction():
        for row in db.all("SELECT rowid, node FROM invoice WHERE status = 'unpaid' AND expires_at < ?", now):
            db.run(
                "UPDATE invoice SET status = 'expired', updated_index = ? WHERE rowid = ?",
                db.next_index(row["node"], "invoices_updated"),
                row["rowid"],
            )


def find(db: Database, node: str, label: str) -> Row | None:
    """The invoice of this label."""
    expire(db)
    return db.one("SELECT * FROM invoice WHERE node = ? AND label = ?", node, label)


def next_paid(db: Database, node: str, after: int) -> Row | None:
    """The paid invoice with the smallest pay index above `after`."""
    return db.one("SELECT * FROM invoice WHERE node = ? AND pay_index > ? ORDER BY pay_index LIMIT 1", node, after)


def settle(db: Database, row: Row, received_msat: int) -> None:
    """Marks the invoice paid under the next pay index. Only inside the transaction that moves the balances."""
    node = row["node"]
    db.run(
        "UPDATE invoice SET status = 'paid', pay_index = ?, paid_at = ?, received_msat = ?, updated_index = ? "
        "WHERE node = ? AND label = ?",
        db.next_index(node, "pay_index"),
        int(db.now()),
        received_msat,
        db.next_index(node, "invoices_updated"),
        node,
        row["label"],
    )


def delete(db: Database, node: str, label: str, status: str, *, description_only: bool) -> Row:
    """Deletes the invoice (or its description) and returns what it was. RpcFailure 905 or 906."""
    with db.transaction():
        row = find(db, node, label)
        if row is None:
            raise RpcFailure(905, "Unknown invoice")
        if row["status"] != status:
            raise RpcFailure(
                906,
                f"Invoice status is {row['status']} not {status}",
                {"current_status": row["status"], "expected_status": status},
            )
        if not description_only:
            db.run("DELETE FROM invoice WHERE node = ? AND label = ?", node, label)
            return row
        if row["description"] is None:
            raise RpcFailure(908, "Invoice description already removed")
        db.run("UPDATE invoice SET description = NULL WHERE node = ? AND label = ?", node, label)
        changed = find(db, node, label)
        assert changed is not None  # noqa: S101  the same transaction
        return changed


def as_json(row: Row) -> dict[str, Any]:
    """The invoice as listinvoices, waitanyinvoice, waitinvoice and delinvoice show it."""
    entry: dict[str, Any] = {
        "label": row["label"],
        "bolt11": row["bolt11"],
        "payment_hash": row["payment_hash"],
        "status": row["status"],
        "expires_at": row["expires_at"],
        "created_index": row["created_index"],
        "description": row["description"],
        "amount_msat": row["amount_msat"],
        "updated_index": row["updated_index"],
    }
    if row["status"] == "paid":
        entry |= {
            "pay_index": row["pay_index"],
            "amount_received_msat": row["received_msat"],
            "paid_at": row["paid_at"],
            "payment_preimage": row["preimage"].hex(),
        }
    return {key: value for key, value in entry.items() if value is not None}
