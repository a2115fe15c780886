"""Core Lightning behind `ports.Lightning`: lightningd's unix socket, real or simulated.

Every call has a finite timeout and ends promptly when cancelled (see `rpc`). What became of a payment is always
read from `listpays`: neither an error nor a lost connection says that nothing was paid.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import trio

from lnstore.lightning import replies
from lnstore.lightning.core_channels import ChannelCommands
from lnstore.lightning.messages import recover_signer
from lnstore.lightning.replies import understanding
from lnstore.lightning.rpc import Call
from lnstore.ports import (
    DecodedInvoice,
    Invoice,
    InvoiceStatus,
    LightningError,
    LightningInfo,
    LightningRefused,
    LightningUnavailable,
    Outcome,
    Payment,
)
from lnstore_protocol.ids import LightningId, Msat, PaymentHash

CALL_SECONDS = 30.0
"""For a call that lightningd answers from its own state."""
MARGIN_SECONDS = 15.0
"""How much longer than its own limit a call may take that has one (pay, close, waitanyinvoice)."""

LISTED_SECONDS = 2.0
LISTED_POLL_SECONDS = 0.05
"""How long lightningd's list may lag behind its channels and its answers; how often it is looked at meanwhile."""

LOST_SECONDS = 120.0
"""How old a payment must be that is listed as pending and that no channel carries, to be taken for lost.

By then no call that pays it (they try for 60 s) sends it any more.
"""

CALLS = 16
PAYMENTS = 64
WAITS = 16
"""Worker threads per adapter for quick calls, for payments (which may hang on a peer) and for waits."""

EXPIRY_LIMIT_SECONDS = 2**31 - 1

_IN_FLIGHT = -3
_LABEL_EXISTS, _PREIMAGE_EXISTS, _WAIT_TIMEOUT, _NO_INVOICE, _WRONG_STATUS = 900, 901, 904, 905, 906


class CoreLightning(ChannelCommands):
    """A Lightning daemon reached through its JSON-RPC unix socket. Implements `ports.Lightning`.

    Errors: LightningUnavailable when the daemon does not answer, LightningRefused with its code when it says no.
    """

    def __init__(
        self,
        socket_path: str | Path,
        *,
        lost_after_seconds: float = LOST_SECONDS,
        listed_seconds: float = LISTED_SECONDS,
    ) -> None:
        self._path = str(socket_path)
        self._calls = trio.CapacityLimiter(CALLS)
        self._payments = trio.CapacityLimiter(PAYMENTS)
        self._waits = trio.CapacityLimiter(WAITS)
        self._has_xpay: bool | None = None
        self._lost_after_seconds = lost_after_seconds
        self._listed_seconds = listed_seconds

    def __repr__(self) -> str:
        return f"CoreLightning({self._path!r})"

    async def call(self, method: str, *, timeout_seconds: float = CALL_SECONDS, **params: Any) -> dict[str, Any]:
        """One raw command with named parameters (those that are None are left out); its result object."""
        return await self._call(method, params, timeout_seconds, self._calls)

    async def _wait(self, method: str, *, timeout_seconds: float, **params: Any) -> dict[str, Any]:
        return await self._call(method, params, timeout_seconds, self._waits)

    async def _call(
        self, method: str, params: dict[str, Any], timeout_seconds: float, limiter: trio.CapacityLimiter
    ) -> dict[str, Any]:
        given = {name: value for name, value in params.items() if value is not None}
        return await Call(self._path, method, given, timeout_seconds).run(limiter)

    # --- identity -----------------------------------------------------------------------------------------------

    async def info(self) -> LightningInfo:
        """Who the daemon is; `simulated` comes from its version, addresses from what it announces or listens on."""
        reply = await self.call("getinfo")
        with understanding("getinfo"):
            return replies.info(reply)

    async def sign_message(self, message: str) -> str:
        """A zbase32 signature of `message` by the daemon's key."""
        reply = await self.call("signmessage", message=message)
        with understanding("signmessage"):
            return str(reply["zbase"])

    async def check_message(self, message: str, zbase: str, signer: LightningId) -> bool:
        """Whether `signer` made the signature; worked out here, because lightningd aborts on some that are none."""
        try:
            return await trio.to_thread.run_sync(recover_signer, message, zbase) == signer.hex()
        except ValueError:
            return False

    # --- invoices -----------------------------------------------------------------------------------------------

    async def create_invoice(
        self, *, label: str, amount_msat: Msat, description: str, expires_in_seconds: int, preimage: bytes
    ) -> Invoice:
        """The invoice of this label, made now or found; refused (900, 901) when another one has label or preimage."""
        if not 0 < expires_in_seconds <= EXPIRY_LIMIT_SECONDS:
            # Core Lightning v26.06.6 aborts on an expiry that does not fit its invoice field, a negative one included.
            raise ValueError(f"an invoice must expire within {EXPIRY_LIMIT_SECONDS} s, not {expires_in_seconds}")
        payment_hash = PaymentHash(hashlib.sha256(preimage).digest())
        try:
            reply = await self.call(
                "invoice",
                label=label,
                amount_msat=int(amount_msat),
                description=description,
                expiry=expires_in_seconds,
                preimage=preimage.hex(),
            )
        except LightningRefused as refused:
            if refused.code not in {_LABEL_EXISTS, _PREIMAGE_EXISTS}:
                raise
            existing = await self.find_invoice(label)
            if existing is None or (existing.payment_hash, existing.amount_msat) != (payment_hash, amount_msat):
                raise
            return existing
        with understanding("invoice"):
            return Invoice(
                label=label,
                bolt11=reply["bolt11"],
                payment_hash=PaymentHash.from_hex(reply["payment_hash"]),
                amount_msat=amount_msat,
                expires_at=int(reply["expires_at"]),
                status=InvoiceStatus.UNPAID,
            )

    async def find_invoice(self, label: str) -> Invoice | None:
        """The invoice of this label, or None."""
        reply = await self.call("listinvoices", label=label)
        with understanding("listinvoices"):
            return replies.invoice(reply["invoices"][0]) if reply["invoices"] else None

    async def list_invoices(self, *, from_index: int, limit: int) -> tuple[list[Invoice], int]:
        """Invoices in the order of their creation from this index (1 on), and the index to go on with, 0 at the end."""
        reply = await self.call("listinvoices", index="created", start=from_index, limit=limit)
        with understanding("listinvoices"):
            entries = reply["invoices"]
            # An offer's invoice has no BOLT11 text; it is none of lnstore's.
            found = [replies.invoice(entry) for entry in entries if "bolt11" in entry]
            return found, int(entries[-1]["created_index"]) + 1 if len(entries) == limit else 0

    async def delete_invoice(self, label: str, status: InvoiceStatus) -> bool:
        """Deletes the invoice if it still has `status`; False when it has not, or is unknown."""
        try:
            await self.call("delinvoice", label=label, status=status.value)
        except LightningRefused as refused:
            if refused.code not in {_NO_INVOICE, _WRONG_STATUS}:
                raise
            return False
        return True

    async def next_paid(self, after_pay_index: int, *, timeout_seconds: int) -> Invoice | None:
        """The first invoice paid after `after_pay_index`; None when none came within `timeout_seconds`."""
        params = {"lastpay_index": after_pay_index, "timeout": timeout_seconds}
        try:
            reply = await self._call("waitanyinvoice", params, timeout_seconds + MARGIN_SECONDS, self._waits)
        except LightningRefused as refused:
            if refused.code != _WAIT_TIMEOUT:
                raise
            return None
        with understanding("waitanyinvoice"):
            return replies.invoice(reply)

    # --- payments -----------------------------------------------------------------------------------------------

    async def decode(self, bolt11: str) -> DecodedInvoice:
        """What a BOLT11 string says, signature checked by the daemon; refused (-32602) for anything else."""
        reply = await self.call("decode", string=bolt11)
        with understanding("decode"):
            if reply.get("type") != "bolt11 invoice" or reply.get("valid") is not True:
                raise LightningRefused(
                    -32602, f"not a valid BOLT11 invoice but a {reply.get('type', 'something else')}"
                )
            return replies.decoded(reply)

    async def pay(self, bolt11: str, *, max_fee_msat: Msat, retry_for_seconds: int) -> Payment:
        """Pays at most once in all. Never raises for an unreachable daemon: that is UNKNOWN."""
        before = await self.payment(bolt11)
        if before.outcome is not Outcome.FAILED or before.unpayable:
            return before
        error: LightningError | None = None
        try:
            await self._send(bolt11, max_fee_msat, retry_for_seconds)
        except LightningRefused as refused:
            error = refused
        except LightningUnavailable as unavailable:
            error = unavailable
        after = await self.payment(bolt11)
        if isinstance(error, LightningRefused):
            # lightningd answers a moment before its list says `failed`; what is really in flight stays pending.
            with trio.move_on_after(self._listed_seconds):
                while after.outcome is Outcome.PENDING:
                    await trio.sleep(LISTED_POLL_SECONDS)
                    after = await self.payment(bolt11)
        if after.outcome is not Outcome.FAILED or after.unpayable:
            return after
        # The daemon's list shows nothing in flight. That settles it only when the attempt itself is over.
        if isinstance(error, LightningRefused):
            if error.code == _IN_FLIGHT:
                return Payment(Outcome.PENDING, reason=str(error))
            return Payment(Outcome.FAILED, reason=str(error))
        return Payment(Outcome.UNKNOWN, reason=str(error or "lightningd reported success but lists no payment"))

    async def payment(self, bolt11: str) -> Payment:
        """What `listpays` says of this invoice; UNKNOWN when the daemon does not answer."""
        payment = await self._listed(bolt11)
        if payment.unpayable:
            # It may have ended between the two questions (pending? in which channel?). As nobody sends it any more, one
            # that had settled is listed as complete now, and one that is still pending was in no channel then, either.
            await trio.sleep(self._listed_seconds)
            payment = await self._listed(bolt11)
        return payment

    async def _listed(self, bolt11: str) -> Payment:
        try:
            reply = await self.call("listpays", bolt11=bolt11)
            with understanding("listpays"):
                by_status = {attempt["status"]: attempt for attempt in reply["pays"]}
                if "complete" in by_status:
                    return replies.payment(Outcome.SETTLED, by_status["complete"])
                if "pending" in by_status:
                    pending = by_status["pending"]
                    lost = await self._is_lost(pending["payment_hash"], int(pending["created_at"]))
                    return replies.LOST if lost else replies.payment(Outcome.PENDING, pending)
                if by_status.keys() - {"failed"}:
                    return Payment(Outcome.UNKNOWN, reason=f"listpays speaks of {sorted(by_status)}")
        except LightningUnavailable as unavailable:
            return Payment(Outcome.UNKNOWN, reason=str(unavailable))
        return Payment(Outcome.FAILED, reason="no attempt to pay this invoice is in flight or settled")

    async def _is_lost(self, payment_hash: str, created_at: int) -> bool:
        """Whether a payment that was listed as pending is recorded, and now in no channel.

        A lightningd that dies between the two (seen with v26.06.6) lists it as pending for ever, and refuses to pay
        the hash again (-3). It is lost only if it is not new and no channel may carry it.
        """
        if time.time() - created_at < self._lost_after_seconds:
            return False
        reply = await self.call("listpeerchannels")
        with understanding("listpeerchannels"):
            return not any(replies.may_carry(entry, payment_hash, created_at) for entry in reply["channels"])

    async def _send(self, bolt11: str, max_fee_msat: Msat, retry_for_seconds: int) -> None:
        limits = {"maxfee": int(max_fee_msat), "retry_for": retry_for_seconds}
        timeout = retry_for_seconds + MARGIN_SECONDS
        if self._has_xpay is None:
            self._has_xpay = await self._knows("xpay")
        if self._has_xpay:
            await self._call("xpay", {"invstring": bolt11, **limits}, timeout, self._payments)
        else:
            await self._call("pay", {"bolt11": bolt11, **limits}, timeout, self._payments)

    async def _knows(self, command: str) -> bool:
        try:
            await self.call("help", command=command)
        except LightningRefused:
            return False
        return True
