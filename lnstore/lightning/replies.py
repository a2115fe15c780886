"""lightningd's replies as values of the Lightning port."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from lnstore.ports import (
    OPERATING,
    Channel,
    Coin,
    DecodedInvoice,
    Feerates,
    Invoice,
    InvoiceStatus,
    LightningError,
    LightningInfo,
    Outcome,
    Payment,
)
from lnstore_protocol.ids import LightningId, Msat, PaymentHash

_LISTING_HTLCS = frozenset({"OPENINGD", "CHANNELD_AWAITING_LOCKIN", *OPERATING, "CHANNELD_SHUTTING_DOWN"})
LOST = Payment(
    Outcome.FAILED,
    reason="lightningd recorded this payment and died before it sent it; nothing is in flight, but it will never pay "
    "this payment hash. Ask for another invoice",
    unpayable=True,
)

NETWORKS = {"bc": "bitcoin", "tb": "testnet", "tbs": "signet", "bcrt": "regtest"}
"""The currency prefix of a BOLT11 string → the network's name as `getinfo` says it."""


@contextmanager
def understanding(method: str) -> Iterator[None]:
    """Turns a reply of an unexpected shape into a LightningError that names the command."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as exc:
        raise LightningError(
            f"lightningd's answer to {method} has another form than expected ({type(exc).__name__}: {exc}); "
            "this lnstore was written for Core Lightning 24.11 to 26.06"
        ) from None


def invoice(entry: dict[str, Any]) -> Invoice:
    """From an entry of `listinvoices`, or from `waitanyinvoice`."""
    status = InvoiceStatus(entry["status"])
    paid = status is InvoiceStatus.PAID
    return Invoice(
        label=str(entry["label"]),
        bolt11=entry["bolt11"],
        payment_hash=PaymentHash.from_hex(entry["payment_hash"]),
        amount_msat=Msat(int(entry.get("amount_msat", 0))),
        expires_at=int(entry["expires_at"]),
        status=status,
        pay_index=int(entry["pay_index"]) if paid else None,
        paid_at=int(entry["paid_at"]) if paid else None,
        received_msat=Msat(int(entry["amount_received_msat"])) if paid else None,
    )


def payment(outcome: Outcome, attempt: dict[str, Any]) -> Payment:
    """From an entry of `listpays`."""
    amount, sent, preimage = attempt.get("amount_msat"), attempt.get("amount_sent_msat"), attempt.get("preimage")
    return Payment(
        outcome,
        amount_msat=None if amount is None else Msat(int(amount)),
        sent_msat=None if sent is None else Msat(int(sent)),
        preimage=None if preimage is None else bytes.fromhex(preimage),
        reason="" if outcome is Outcome.SETTLED else "the payment is on its way; wait for it",
    )


def channel(entry: dict[str, Any]) -> Channel:
    """From an entry of `listpeerchannels`."""
    return Channel(
        peer=LightningId.from_hex(entry["peer_id"]),
        state=str(entry["state"]),
        connected=entry["peer_connected"] is True,
        channel_id=str(entry.get("channel_id", "")),
        short_channel_id=entry.get("short_channel_id"),
        funding_txid=entry.get("funding_txid"),
        capacity_msat=Msat(int(entry.get("total_msat", 0))),
        to_us_msat=Msat(int(entry.get("to_us_msat", 0))),
        spendable_msat=Msat(int(entry.get("spendable_msat", 0))),
        receivable_msat=Msat(int(entry.get("receivable_msat", 0))),
        largest_payment_msat=Msat(int(entry.get("maximum_htlc_out_msat", 0))),
        status=str((entry.get("status") or [""])[-1]).partition(":")[2].strip(),
        opened_by_us=entry.get("opener") == "local",
        closed_by_us=None if entry.get("closer") is None else entry["closer"] == "local",
        splicing=bool(entry.get("inflight")) and entry["state"] in OPERATING,
    )


def coin(output: dict[str, Any]) -> Coin:
    """From an entry of `listfunds`."""
    return Coin(
        outpoint=f"{output['txid']}:{output['output']}",
        amount_sat=int(output["amount_msat"]) // 1000,
        spendable=output["status"] == "confirmed" and not output["reserved"],
    )


def feerates(rates: dict[str, Any]) -> Feerates:
    """From the rates of `feerates`; where an estimate is missing (as `splice` before v26.04), the least accepted."""
    least = int(rates["min_acceptable"])
    opening = int(rates.get("opening", least))
    return Feerates(
        opening=opening,
        splice=int(rates.get("splice", opening)),
        mutual_close=int(rates.get("mutual_close", least)),
    )


def may_carry(entry: dict[str, Any], payment_hash: str, created_at: int) -> bool:
    """Whether a channel may hold an HTLC of a payment that was made at `created_at` (Unix seconds).

    Of a channel in operation lightningd lists the HTLCs. Of one that is being closed on chain it does not, so such a
    channel may carry it unless it had stopped taking payments before this one was made.
    """
    if any(htlc["payment_hash"] == payment_hash for htlc in entry.get("htlcs", [])):
        return True
    if entry["state"] in _LISTING_HTLCS:
        return False
    # A splice takes a channel out of its normal state, but not out of operation.
    left = [
        change
        for change in entry.get("state_changes", [])
        if change["old_state"] in OPERATING and change["new_state"] not in OPERATING
    ]
    return not left or datetime.fromisoformat(left[0]["timestamp"]).timestamp() >= created_at


def info(reply: dict[str, Any]) -> LightningInfo:
    """From `getinfo`."""
    # A daemon that announces nothing (regtest, behind NAT) is still reachable where it listens.
    places = reply.get("address") or reply.get("binding") or []
    version = str(reply["version"])
    return LightningInfo(
        lightning_id=LightningId.from_hex(reply["id"]),
        alias=str(reply.get("alias", "")),
        network=str(reply["network"]),
        block_height=int(reply["blockheight"]),
        version=version,
        synced=not any(name.startswith("warning_") and name.endswith("_sync") for name in reply),
        simulated="simulated" in version,
        addresses=tuple((str(place["address"]), int(place["port"])) for place in places if "port" in place),
    )


def decoded(reply: dict[str, Any]) -> DecodedInvoice:
    """From `decode` of a BOLT11 invoice."""
    created_at = int(reply["created_at"])
    amount = reply.get("amount_msat")
    return DecodedInvoice(
        payee=LightningId.from_hex(reply["payee"]),
        payment_hash=PaymentHash.from_hex(reply["payment_hash"]),
        amount_msat=None if amount is None else Msat(int(amount)),
        created_at=created_at,
        expires_at=created_at + int(reply["expiry"]),
        network=NETWORKS.get(reply["currency"], str(reply["currency"])),
        description=str(reply.get("description", "")),
    )
