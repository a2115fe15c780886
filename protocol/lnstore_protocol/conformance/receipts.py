"""Checks of 05b: receipts of what was paid, and acknowledgements of them."""

from __future__ import annotations

import dataclasses
from typing import Final

from lnstore_protocol.conformance.node_link import NodeLink
from lnstore_protocol.conformance.tenant import Tenant, new_tenant, open_account
from lnstore_protocol.conformance.trial import Checks, Trial
from lnstore_protocol.conformance.verdict import Failed, Skipped
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, Digest
from lnstore_protocol.messages import (
    MAX_RECEIPT_BYTES,
    RECEIPTS_AT_ONCE,
    GetReceipts,
    GetReceiptsReply,
    InvoicePurpose,
    PutReceipts,
    PutReceiptsReply,
)
from lnstore_protocol.receipts import Acknowledgement, Receipt, join, receipt_faults, split

CHECKS = Checks()
AT: Final = 1_800_000_000


def _receipts(trial: Trial, link: NodeLink, first_number: int = 0) -> tuple[int, list[bytes]]:
    asked = GetReceipts(first_number=first_number, limit=RECEIPTS_AT_ONCE)
    reply = trial.reply(link, asked, GetReceiptsReply, "RC-R4")
    try:
        return reply.total, split(reply.payload)
    except RemoteProtocolError as exc:
        raise Failed("RC-R1", f"receipts that can not be taken apart: {exc}") from exc


def _paid(trial: Trial) -> tuple[Tenant, NodeLink, bytes]:
    """An account that has paid for one growth, and its only receipt."""
    tenant = new_tenant(trial, for_writing=False)
    if not tenant.terms.price_msat_per_gib_month:
        raise Skipped("capacity is free at this node")
    link = trial.link(tenant.identity)
    total, signed = _receipts(trial, link)
    trial.require("RC-W1", (total, len(signed)) == (1, 1), f"{total} receipts, {len(signed)} given, for one payment")
    return tenant, link, signed[0]


@CHECKS.on("RC-W1", "RC-W2", "RC-R4")
def receipts_of_what_was_paid(trial: Trial) -> None:
    """A growth has one receipt, signed, right under the agreement, and the same bytes each time."""
    tenant, link, encoded = _paid(trial)
    try:
        receipt = Receipt.decode(encoded)
    except RemoteProtocolError as exc:
        raise Failed("RC-W1", f"a receipt that can not be read: {exc}") from exc
    faults = receipt_faults(receipt, [tenant.agreement])
    trial.require("RC-W1", not faults, f"a receipt is wrong: {'; '.join(faults)}")
    bought = (receipt.number, receipt.purpose, receipt.capacity_bytes)
    trial.require("RC-W1", bought == (0, InvoicePurpose.CAPACITY, tenant.capacity_bytes), f"a receipt for {bought}")
    trial.require("RC-W2", _receipts(trial, link) == (1, [encoded]), "another receipt the second time")
    trial.require("RC-R4", _receipts(trial, link, 1) == (1, []), "receipts after the last one")
    for limit in (0, RECEIPTS_AT_ONCE + 1):
        asked = GetReceipts(first_number=0, limit=limit)
        trial.refusal("RC-R4", link, asked, ErrorCode.TOO_LARGE, what=f"a limit of {limit}")


@CHECKS.on("RC-R3")
def receipts_need_an_account(trial: Trial) -> None:
    """Without an account there is nothing to give or to take; an account that paid nothing has no receipts."""
    stranger = trial.link()
    trial.refusal("RC-R3", stranger, GetReceipts(first_number=0, limit=1), ErrorCode.NO_ACCOUNT)
    trial.refusal("RC-R3", stranger, PutReceipts(payload=b""), ErrorCode.NO_ACCOUNT)
    new = trial.link(open_account(trial).identity)
    trial.require("RC-R3", _receipts(trial, new) == (0, []), "receipts of an account that paid nothing")


@CHECKS.on("RC-R5", "RC-R6", "RC-R1", "RC-R2")
def acknowledgements(trial: Trial) -> None:
    """The first of each receipt is kept; those of others, of other receipts or with another signature are refused."""
    tenant, link, encoded = _paid(trial)
    word, other = Acknowledgement.of(encoded, AT), Identity.generate()
    good = word.sign(tenant.identity)
    foreign = dataclasses.replace(word, account_id=AccountId(other.public_key)).sign(other)
    elsewhere = dataclasses.replace(word, receipt_hash=Digest(bytes(32))).sign(tenant.identity)
    later = dataclasses.replace(word, number=1).sign(tenant.identity)
    forged = good[:-1] + bytes([good[-1] ^ 1])
    long = b"\0\1" + bytes([0xA0]) + (MAX_RECEIPT_BYTES + 1).to_bytes(2, "big") + bytes(MAX_RECEIPT_BYTES + 1)
    for requirement, what, payload, code in (
        ("RC-R5", "another account's acknowledgement", join([good, foreign]), ErrorCode.BAD_SIGNATURE),
        ("RC-R5", "an acknowledgement of another receipt", join([elsewhere]), ErrorCode.RECORD_UNKNOWN),
        ("RC-R5", "an acknowledgement of a receipt there is none of", join([good, later]), ErrorCode.RECORD_UNKNOWN),
        ("RC-R2", "an acknowledgement with another signature", join([forged]), ErrorCode.BAD_SIGNATURE),
        ("RC-R1", "a payload that is cut short", join([good])[:-1], ErrorCode.MALFORMED),
        ("RC-R1", "an acknowledgement that is too long", long, ErrorCode.TOO_LARGE),
        ("RC-R1", "65 acknowledgements", b"\0\1\xa0" * 65, ErrorCode.TOO_LARGE),
    ):
        trial.refusal(requirement, link, PutReceipts(payload=payload), code, what=what)
    none = trial.reply(link, PutReceipts(payload=b""), PutReceiptsReply, "RC-R5")
    trial.require("RC-R5", none.acknowledged == 0, "part of a request that was refused is kept")
    again = dataclasses.replace(word, at=AT + 1).sign(tenant.identity)
    for payload in (join([good]), join([good]), join([again])):
        kept = trial.reply(link, PutReceipts(payload=payload), PutReceiptsReply, "RC-R6")
        trial.require("RC-R6", kept.acknowledged == 1, f"{kept.acknowledged} receipts are acknowledged instead of 1")
