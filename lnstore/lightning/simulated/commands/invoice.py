"""invoice, listinvoices, waitanyinvoice, waitinvoice, delinvoice, decode."""

from __future__ import annotations

from typing import Any

import trio

from lnstore.lightning.simulated import bolt11, invoices, params
from lnstore.lightning.simulated.commands import LIGHTNINGD
from lnstore.lightning.simulated.failure import RpcFailure
from lnstore.lightning.simulated.params import Param
from lnstore.lightning.simulated.simulation import Daemon

DEFAULT_EXPIRY_SECONDS = 7 * 86_400
DESCRIPTION_LIMIT_BYTES = 639  # what a field of a BOLT11 invoice holds


@LIGHTNINGD.command(
    "invoice",
    Param("amount_msat", params.msat_or_any),
    Param("label", params.label),
    Param("description", params.string),
    Param("expiry", params.integer, DEFAULT_EXPIRY_SECONDS),
    Param("fallbacks", params.unsupported, None),
    Param("preimage", params.preimage, None),
    Param("exposeprivatechannels", params.unsupported, None),
    Param("cltv", params.integer, bolt11.FINAL_CLTV),
    Param("deschashonly", params.boolean, default=False),
)
async def invoice(
    daemon: Daemon,
    *,
    amount_msat: int | None,
    label: str,
    description: str,
    expiry: int,
    fallbacks: None,  # noqa: ARG001
    preimage: str | None,
    exposeprivatechannels: None,  # noqa: ARG001
    cltv: int,
    deschashonly: bool,
) -> dict[str, Any]:
    """Makes an invoice."""
    if len(description.encode()) > DESCRIPTION_LIMIT_BYTES and not deschashonly:
        raise RpcFailure(
            params.INVALID_PARAMS,
            f"Description greater than {DESCRIPTION_LIMIT_BYTES} bytes invalid (description length "
            f"{len(description.encode())})",
        )
    reply = invoices.create(
        daemon.db,
        daemon.name,
        label=label,
        amount_msat=amount_msat,
        description=description,
        expiry=expiry,
        preimage=None if preimage is None else bytes.fromhex(preimage),
        final_cltv=cltv,
        hash_description=deschashonly,
    )
    daemon.simulation.crash_if(daemon.name, "invoice-created")
    return reply


@LIGHTNINGD.command(
    "listinvoices",
    Param("label", params.label, None),
    Param("invstring", params.string, None),
    Param("payment_hash", params.payment_hash, None),
    Param("offer_id", params.unsupported, None),
    Param("index", params.one_of("created", "updated"), None),
    Param("start", params.integer, 0),
    Param("limit", params.integer, -1),
)
async def listinvoices(
    daemon: Daemon,
    *,
    label: str | None,
    invstring: str | None,
    payment_hash: str | None,
    offer_id: None,  # noqa: ARG001
    index: str | None,
    start: int,
    limit: int,
) -> dict[str, Any]:
    """Invoices by label, hash or text, or all of them."""
    if sum(given is not None for given in (label, invstring, payment_hash)) > 1:
        raise RpcFailure(
            params.INVALID_PARAMS, "Can only specify one of {label}, {invstring}, {payment_hash} or {offer_id}"
        )
    invoices.expire(daemon.db)
    if invstring is not None:
        try:
            payment_hash = bolt11.decode(invstring).payment_hash
        except ValueError:
            raise RpcFailure(params.INVALID_PARAMS, "Invalid invstring: invalid bech32 string") from None
    column = "updated_index" if index == "updated" else "created_index"
    rows = daemon.db.all(
        f"SELECT * FROM invoice WHERE node = ?1 AND (?2 IS NULL OR label = ?2) "  # noqa: S608
        f"AND (?3 IS NULL OR payment_hash = ?3) AND {column} >= ?4 ORDER BY {column} LIMIT ?5",
        daemon.name,
        label,
        payment_hash,
        start if index else 0,
        limit,
    )
    return {"invoices": [invoices.as_json(row) for row in rows]}


@LIGHTNINGD.command("waitanyinvoice", Param("lastpay_index", params.integer, 0), Param("timeout", params.integer, None))
async def waitanyinvoice(daemon: Daemon, lastpay_index: int, timeout: int | None) -> dict[str, Any]:
    """The next paid invoice after a pay index, now or when it is paid."""
    with trio.move_on_after(float("inf") if timeout is None else timeout):
        while (row := invoices.next_paid(daemon.db, daemon.name, lastpay_index)) is None:
            await daemon.bell.wait()
        return invoices.as_json(row)
    raise RpcFailure(904, "Timed out while waiting for invoice to be paid")


@LIGHTNINGD.command("waitinvoice", Param("label", params.label))
async def waitinvoice(daemon: Daemon, label: str) -> dict[str, Any]:
    """This invoice, when it is paid or expired."""
    while True:
        row = invoices.find(daemon.db, daemon.name, label)
        if row is None:
            raise RpcFailure(-1, "Label not found")
        if row["status"] == "paid":
            return invoices.as_json(row)
        if row["status"] == "expired":
            raise RpcFailure(903, "invoice expired during wait", invoices.as_json(row))
        await daemon.wait_for_change(max(row["expires_at"] + 1 - daemon.db.now(), 0.01))


@LIGHTNINGD.command(
    "delinvoice",
    Param("label", params.label),
    Param("status", params.string),
    Param("desconly", params.boolean, default=False),
)
async def delinvoice(daemon: Daemon, label: str, status: str, desconly: bool) -> dict[str, Any]:
    """Deletes an invoice that has this status."""
    return invoices.as_json(invoices.delete(daemon.db, daemon.name, label, status, description_only=desconly))


@LIGHTNINGD.command("decode", Param("string", params.string))
async def decode(_daemon: Daemon, string: str) -> dict[str, Any]:
    """What an invoice says."""
    try:
        decoded = bolt11.decode(string)
    except ValueError as exc:
        why = str(exc) if string.lower().startswith("ln") else "Unparsable string"
        raise RpcFailure(params.INVALID_PARAMS, f"string: {why}: invalid token '\"{string}\"'") from None
    entry = {
        "type": "bolt11 invoice",
        "currency": decoded.currency,
        "created_at": decoded.created_at,
        "expiry": decoded.expiry,
        "payee": decoded.payee,
        "amount_msat": decoded.amount_msat,
        "description": decoded.description,
        "description_hash": decoded.description_hash,
        "min_final_cltv_expiry": decoded.final_cltv,
        "payment_secret": decoded.payment_secret,
        "features": decoded.features,
        "payment_hash": decoded.payment_hash,
        "signature": decoded.signature,
        "valid": True,
    }
    return {key: value for key, value in entry.items() if value is not None}
