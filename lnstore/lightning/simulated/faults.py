"""Faults that the control socket asked for. They are rows of the state, so they outlast a restart."""

from __future__ import annotations

from lnstore.lightning.simulated.database import Database, Row

KINDS = {
    "delay": "answers of `node` (to `command`, or to all) come `seconds` late",
    "hold_payment": "the next payment of `node` stays pending until `release`",
    "fail_payment": "the next payment of `node` is sent, then refused by its payee (203)",
    "peer_down": "`node` and `peer` are not connected and cannot connect",
    "capacity_exhausted": "`node` can spend nothing over its channels",
    "crash": "`node` dies, without an answer, at the moment `command` (see MOMENTS)",
    "restart": "as `crash`, and `node` starts again after `seconds`",
    "disk_full": "`node` dies at the next command that writes (or at `command`), as lightningd does when its database "
    "cannot be written",
    "withhold_blocks": "no block is mined of itself",
}
MOMENTS = {
    "invoice-created": "the invoice is stored, its caller not yet answered",
    "payment-unsent": "`pay` or `xpay` was received, nothing is stored",
    "payment-recorded": "the payment is stored as pending but not sent: it is pending for ever (see payments.LOST)",
    "payment-sent": "the payment is on its way, its caller not yet answered",
    "payment-settled": "the payment is settled, its caller not yet answered",
    "channel-funded": "the funding transaction is in the mempool, the caller not yet answered",
    "channel-spliced": "the splice's transaction is in the mempool, the caller not yet answered",
    "channel-closed": "the closing transaction is in the mempool, the caller not yet answered",
}
ONCE = {"hold_payment", "fail_payment", "crash", "restart", "disk_full"}
"""Kinds that happen `count` times (once by default); the others last until they are cleared."""


def add(
    db: Database,
    kind: str,
    *,
    node: str | None = None,
    peer: str | None = None,
    command: str | None = None,
    seconds: float | None = None,
    count: int = 1,
) -> int:
    """Arms a fault; its id. ValueError for what makes no sense."""
    if kind not in KINDS:
        raise ValueError(f"there is no fault {kind!r}; there are {', '.join(KINDS)}")
    if kind != "withhold_blocks" and node is None:
        raise ValueError(f"the fault {kind!r} needs a node")
    if kind == "peer_down" and peer is None:
        raise ValueError("the fault 'peer_down' needs a peer")
    if kind in {"crash", "restart"} and command not in MOMENTS:
        raise ValueError(f"the fault {kind!r} needs a moment as its command: {', '.join(MOMENTS)}")
    if kind in {"delay", "restart"} and seconds is None:
        raise ValueError(f"the fault {kind!r} needs seconds")
    remaining = count if kind in ONCE else None
    return db.insert("fault", kind=kind, node=node, peer=peer, command=command, seconds=seconds, remaining=remaining)


def clear(db: Database, kind: str | None = None, node: str | None = None) -> int:
    """Disarms faults, of one kind and node or all; how many."""
    return db.run("DELETE FROM fault WHERE (?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR node = ?2)", kind, node)


def every(db: Database) -> list[Row]:
    """All that are armed."""
    return db.all("SELECT * FROM fault ORDER BY id")


def active(db: Database, kind: str, *, node: str | None = None) -> bool:
    """Whether a lasting fault of this kind is armed."""
    return db.one("SELECT 1 FROM fault WHERE kind = ? AND node IS ?", kind, node) is not None


def take(db: Database, kind: str, *, node: str, command: str | None = None) -> Row | None:
    """The fault of this kind that is due now, for this command or any; counts it as having happened."""
    with db.transaction():
        row = db.one(
            "SELECT * FROM fault WHERE kind = ?1 AND node = ?2 AND (command IS NULL OR command = ?3) ORDER BY id",
            kind,
            node,
            command,
        )
        if row is None:
            return None
        if row["remaining"] > 1:
            db.run("UPDATE fault SET remaining = remaining - 1 WHERE id = ?", row["id"])
        else:
            db.run("DELETE FROM fault WHERE id = ?", row["id"])
        return row


def delay_seconds(db: Database, node: str, command: str) -> float:
    """How late the node's answer to `command` is to come."""
    rows = db.all(
        "SELECT seconds FROM fault WHERE kind = 'delay' AND node = ? AND (command IS NULL OR command = ?)",
        node,
        command,
    )
    return float(sum(row["seconds"] for row in rows))
