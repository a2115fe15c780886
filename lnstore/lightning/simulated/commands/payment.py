"""xpay, pay, listpays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lnstore.lightning.simulated import bolt11, faults, params, payments
from lnstore.lightning.simulated.commands import LIGHTNINGD
from lnstore.lightning.simulated.database import Row
from lnstore.lightning.simulated.failure import LostDaemonError, RpcFailure
from lnstore.lightning.simulated.params import Param
from lnstore.lightning.simulated.payments import Order
from lnstore.lightning.simulated.simulation import Daemon

MAX_DELAY_BLOCKS = 2016
FREE_FEE_MSAT = 5000
"""Without `maxfee` a payment may cost 1 %, and in any case this."""


def _order(
    text: str,
    *,
    amount_msat: int | None,
    maxfee: int | None,
    maxdelay: int,
    label: str | None,
    description: str | None = None,
) -> Order:
    try:
        invoice = bolt11.decode(text)
    except ValueError as exc:
        raise RpcFailure(params.INVALID_PARAMS, f"Invalid bolt11 invoice: {exc}") from None
    if invoice.currency != bolt11.CURRENCY:
        raise RpcFailure(params.INVALID_PARAMS, f"Invalid bolt11 invoice: Prefix {invoice.currency} is not for regtest")
    if invoice.amount_msat is None and amount_msat is None:
        raise RpcFailure(params.INVALID_PARAMS, "amount_msat required")
    if invoice.amount_msat is not None and amount_msat is not None:
        raise RpcFailure(params.INVALID_PARAMS, "amount_msat unnecessary")
    amount = invoice.amount_msat or amount_msat or 0
    limit = max(FREE_FEE_MSAT, amount // 100) if maxfee is None else maxfee
    return Order(text, invoice, amount, limit, maxdelay, label, description)


async def _pay(daemon: Daemon, order: Order) -> Row:
    """Sends the payment and waits for its end, which does not depend on this call's; its settled row."""
    daemon.simulation.crash_if(daemon.name, "payment-unsent")
    with daemon.db.transaction():
        held = None
        for kind, effect in (("hold_payment", payments.HOLD), ("fail_payment", payments.REFUSE)):
            if faults.take(daemon.db, kind, node=daemon.name):
                held = effect
        lost = daemon.simulation.dies(daemon.name, "payment-recorded")
        if lost:
            held = payments.LOST
        payment_id = payments.send(daemon.db, daemon.node, order, held=held)
    if lost:
        raise LostDaemonError(daemon.name)
    daemon.simulation.resolve_later(payment_id)
    daemon.simulation.crash_if(daemon.name, "payment-sent")
    while (row := payments.by_id(daemon.db, payment_id))["status"] == "pending":
        await daemon.bell.wait()
    daemon.simulation.crash_if(daemon.name, "payment-settled")
    if row["status"] == "failed":
        raise RpcFailure(row["failcode"], row["failure"])
    return row


@LIGHTNINGD.command(
    "xpay",
    Param("invstring", params.string),
    Param("amount_msat", params.msat, None),
    Param("maxfee", params.msat, None),
    Param("layers", params.unsupported, None),
    Param("retry_for", params.integer, 60),
    Param("partial_msat", params.unsupported, None),
    Param("maxdelay", params.integer, MAX_DELAY_BLOCKS),
    Param("payer_note", params.unsupported, None),
    Param("label", params.label, None),
    Param("localinvreqid", params.unsupported, None),
)
async def xpay(
    daemon: Daemon,
    *,
    invstring: str,
    amount_msat: int | None,
    maxfee: int | None,
    maxdelay: int,
    label: str | None,
    **unused: Any,  # noqa: ARG001
) -> dict[str, Any]:
    """Pays an invoice."""
    row = await _pay(daemon, _order(invstring, amount_msat=amount_msat, maxfee=maxfee, maxdelay=maxdelay, label=label))
    return {
        "payment_preimage": row["preimage"].hex(),
        "failed_parts": 0,
        "successful_parts": row["parts"],
        "amount_msat": row["amount_msat"],
        "amount_sent_msat": row["sent_msat"],
    }


@LIGHTNINGD.command(
    "pay",
    Param("bolt11", params.string),
    Param("amount_msat", params.msat, None),
    Param("label", params.label, None),
    Param("riskfactor", params.number, None),
    Param("maxfeepercent", params.number, None),
    Param("retry_for", params.integer, 60),
    Param("maxdelay", params.integer, MAX_DELAY_BLOCKS),
    Param("exemptfee", params.msat, None),
    Param("localinvreqid", params.unsupported, None),
    Param("exclude", params.unsupported, None),
    Param("maxfee", params.msat, None),
    Param("description", params.string, None),
    Param("partial_msat", params.unsupported, None),
)
async def pay(
    daemon: Daemon,
    *,
    bolt11: str,
    amount_msat: int | None,
    label: str | None,
    maxfeepercent: float | None,
    exemptfee: int | None,
    maxdelay: int,
    maxfee: int | None,
    description: str | None,
    **unused: Any,  # noqa: ARG001
) -> dict[str, Any]:
    """Pays an invoice; one that is paid already is reported as paid again."""
    if maxfee is not None and (maxfeepercent is not None or exemptfee is not None):
        raise RpcFailure(params.INVALID_PARAMS, "If you specify maxfee, cannot specify maxfeepercent or exemptfee.")
    order = _order(
        bolt11, amount_msat=amount_msat, maxfee=maxfee, maxdelay=maxdelay, label=label, description=description
    )
    if maxfeepercent is not None:
        limit = max(int(order.amount_msat * maxfeepercent) // 100, FREE_FEE_MSAT if exemptfee is None else exemptfee)
        order = replace(order, max_fee_msat=limit)
    try:
        row = await _pay(daemon, order)
    except RpcFailure as failure:
        if failure.code != payments.ALREADY_PAID:
            raise
        row = next(
            row
            for row in payments.attempts(daemon.db, daemon.name, order.invoice.payment_hash)
            if row["status"] == "complete"
        )
    return {
        "payment_preimage": row["preimage"].hex(),
        "status": "complete",
        "amount_msat": row["amount_msat"],
        "amount_sent_msat": row["sent_msat"],
        "destination": row["payee"],
        "payment_hash": row["payment_hash"],
        "created_at": row["created_at"],
        "parts": row["parts"],
    }


@LIGHTNINGD.command(
    "listpays",
    Param("bolt11", params.string, None),
    Param("payment_hash", params.payment_hash, None),
    Param("status", params.one_of("pending", "complete", "failed"), None),
    Param("index", params.one_of("created", "updated"), None),
    Param("start", params.integer, 0),
    Param("limit", params.integer, -1),
)
async def listpays(
    daemon: Daemon,
    *,
    bolt11: str | None,
    payment_hash: str | None,
    status: str | None,
    index: str | None,
    start: int,
    limit: int,
) -> dict[str, Any]:
    """Payments by invoice or hash, or all of them."""
    if limit >= 0 and index is None:
        raise RpcFailure(params.INVALID_PARAMS, "Can only specify {limit} with {index}")
    if bolt11 is not None:
        if payment_hash is not None:
            raise RpcFailure(params.INVALID_PARAMS, "Can only specify one of {bolt11} or {payment_hash}")
        payment_hash = _hash_of(bolt11)
    column = "updated_index" if index == "updated" else "created_index"
    rows = daemon.db.all(
        f"SELECT * FROM payment WHERE node = ?1 AND (?2 IS NULL OR payment_hash = ?2) "  # noqa: S608
        f"AND (?3 IS NULL OR status = ?3) AND {column} >= ?4 ORDER BY {column} LIMIT ?5",
        daemon.name,
        payment_hash,
        status,
        start if index else 0,
        limit,
    )
    return {"pays": [payments.as_json(row) for row in rows]}


def _hash_of(text: str) -> str:
    try:
        return bolt11.decode(text).payment_hash
    except ValueError:
        raise RpcFailure(params.INVALID_PARAMS, "Invalid invstring: invalid bech32 string") from None
