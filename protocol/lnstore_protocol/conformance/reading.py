"""Checks of 02b and 03: reading ranges with proofs, auditing, and what reading costs."""

from __future__ import annotations

import os
from typing import Final

from lnstore_protocol import merkle
from lnstore_protocol.conformance.node_link import NodeLink
from lnstore_protocol.conformance.tenant import (
    add_deposit,
    new_share,
    open_account,
    put,
    status,
    the_reader,
    the_tenant,
)
from lnstore_protocol.conformance.trial import Checks, Trial
from lnstore_protocol.conformance.verdict import Failed, Skipped
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.ids import ShareId
from lnstore_protocol.messages import (
    LEAF_BYTES,
    AccountStatusReply,
    AuditShare,
    AuditShareReply,
    ErrorReply,
    GetShare,
    GetShareReply,
)
from lnstore_protocol.terms import GIB, traffic_msat

CHECKS = Checks()
RANGE_INVALID: Final = ErrorCode.RANGE_INVALID
UNKNOWN: Final = ErrorCode.SHARE_UNKNOWN
STEP_BYTES = 1 << 20
"""The smallest step of traffic that a node may round up (R-W24)."""

MANY_READINGS = 16
_L = LEAF_BYTES


def judge_range(trial: Trial, share: bytes, reply: GetShareReply, offset: int, length: int) -> None:
    """Failed unless the reply is exactly the leaves that cover the range, with exactly their proof."""
    wanted = merkle.share_id(share)
    asked = f"bytes {offset} to {offset + length} of {len(share)}" if length else f"bytes from {offset} of {len(share)}"
    try:
        merkle.verify_range(wanted, reply.share_bytes, reply.offset, reply.payload, reply.proof)
    except RemoteProtocolError as exc:
        requirement = "P-R5" if exc.code is ErrorCode.ROOT_MISMATCH else "P-R3"
        raise Failed(requirement, f"{asked}: {exc}") from exc
    first, last = merkle.leaf_range(len(share), offset, length)
    start, end = merkle.leaf_span(len(share), first, last)
    got = (reply.offset, reply.offset + len(reply.payload))
    trial.require("MB-W2", got == (start, end), f"{asked}: bytes {got} came instead of {(start, end)}")
    proof = merkle.range_proof(merkle.leaf_hashes(share), first, last)
    trial.require("P-W2", reply.proof == proof, f"{asked}: a proof of {len(reply.proof)} bytes, {len(proof)} are right")
    trial.reached.update({"P-R2", "P-R3", "P-R4", "P-R5", "MB-R10", "MB-R11"})


def read(trial: Trial, link: NodeLink, wanted: ShareId, offset: int = 0, length: int = 0) -> GetShareReply:
    """A range of a share."""
    return trial.reply(link, GetShare(share_id=wanted, offset=offset, length=length), GetShareReply, "MB-R8")


@CHECKS.on("MB-W2", "P-W2", "P-R5", "P-R2", "P-R3", "P-R4", "MB-R10", "MB-R11", "MB-R8")
def ranges(trial: Trial) -> None:
    """Every range of shares of one leaf, of several, and of a ragged one comes as its leaves with their proof."""
    tenant, link = the_tenant(trial)
    _, reader = the_reader(trial)
    for size in (1, _L, _L + 1, 5 * _L, 6 * _L + 100):
        share = new_share(size)
        stored = put(trial, link, tenant, share)
        cuts = {0, 1, _L - 1, _L, _L + 1, 2 * _L, 4 * _L + 5, size - 1} & set(range(size))
        for offset in sorted(cuts):
            for length in {0, 1, _L, size - offset} & {0, *range(1, size - offset + 1)}:
                judge_range(trial, share, read(trial, reader, stored, offset, length), offset, length)
    trial.reached.add("MB-R8")


@CHECKS.on("MB-R8")
def ranges_outside(trial: Trial) -> None:
    """A range that is empty or not within the share is RANGE_INVALID, a share that is not held SHARE_UNKNOWN."""
    tenant, link = the_tenant(trial)
    _, reader = the_reader(trial)
    size = _L + 10
    stored = put(trial, link, tenant, new_share(size))
    greatest = (1 << 63) - 1
    for offset, length in ((size, 0), (size, 1), (0, size + 1), (size - 1, 2), (greatest, greatest), (0, greatest)):
        request = GetShare(share_id=stored, offset=offset, length=length)
        trial.refusal("MB-R8", reader, request, RANGE_INVALID, what=f"{length} bytes at {offset} of {size}")
    request = GetShare(share_id=ShareId(os.urandom(32)), offset=0, length=0)
    trial.refusal("MB-R8", reader, request, UNKNOWN, what="a share that nobody stored")


# --- auditing ---------------------------------------------------------------------------------------------------------


@CHECKS.on("MB-R22", "MB-R21", "MB-R23", "P-R5", "P-W2")
def audits(trial: Trial) -> None:
    """Every leaf of a share is shown with its proof, free of charge; a leaf that it lacks is RANGE_INVALID."""
    tenant, link = the_tenant(trial)
    share = new_share(3 * _L + 100)
    stored = put(trial, link, tenant, share)
    hashes = merkle.leaf_hashes(share)
    before = status(trial, link)
    for leaf in range(4):
        reply = trial.reply(link, AuditShare(share_id=stored, leaf=leaf), AuditShareReply)
        try:
            merkle.verify_range(stored, reply.share_bytes, leaf * _L, reply.payload, reply.proof)
        except RemoteProtocolError as exc:
            raise Failed("P-R5", f"leaf {leaf}: {exc}") from exc
        trial.require("MB-R23", reply.payload == share[leaf * _L :][:_L], f"leaf {leaf} is another")
        trial.require("P-W2", reply.proof == merkle.range_proof(hashes, leaf, leaf), f"leaf {leaf}: another proof")
    for leaf in (4, 1 << 32, (1 << 63) - 1):
        request = AuditShare(share_id=stored, leaf=leaf)
        trial.refusal("MB-R21", link, request, RANGE_INVALID, what=f"leaf {leaf} of a share with 4")
    request = AuditShare(share_id=ShareId(os.urandom(32)), leaf=0)
    trial.refusal("MB-R21", link, request, UNKNOWN, what="an audit of a share that nobody stored")
    after = status(trial, link)
    free = (after.deposit_msat, after.egress_bytes) == (before.deposit_msat, before.egress_bytes)
    trial.require("MB-R22", free, "an audit was charged")
    trial.reached.update({"P-R5", "MB-R21"})


# --- what reading costs -----------------------------------------------------------------------------------------------


@CHECKS.on("MB-R9", "R-W23")
def reading_without_a_deposit(trial: Trial) -> None:
    """An account whose deposit does not allow it gets PAYMENT_REQUIRED and the sum that is lacking, and no bytes."""
    tenant, link = the_tenant(trial)
    price = tenant.terms.egress_msat_per_gib
    if not price:
        raise Skipped("reading is free at this node")
    share = new_share(3 * _L)
    stored = put(trial, link, tenant, share)
    poor = trial.link(open_account(trial).identity)
    for offset, length, leaves in ((0, 0, 3), (0, 1, 1), (_L - 1, 2, 2)):
        request = GetShare(share_id=stored, offset=offset, length=length)
        error = trial.refusal("MB-R9", poor, request, ErrorCode.PAYMENT_REQUIRED, what="reading without a deposit")
        due = traffic_msat(leaves * _L, price)
        trial.require("MB-R9", error.amount_msat == due, f"{error.amount_msat} msat are lacking, {due} would be due")
    trial.require("R-W23", status(trial, poor).deposit_msat == 0, "the deposit of an account that never had one")


@CHECKS.on("R-W22", "MB-R9", "R-W23", "R-W24", "R-R23")
def reading_is_charged(trial: Trial) -> None:
    """Reading costs its payload bytes at the agreed price, rounded up once per step, and not more."""
    tenant, link = the_tenant(trial)
    account = open_account(trial)
    price = account.terms.egress_msat_per_gib
    if not price:
        raise Skipped("reading is free at this node")
    share = new_share(32 * _L)
    stored = put(trial, link, tenant, share)
    reader = trial.link(account.identity)
    times = 8
    count = times * len(share)
    before = add_deposit(trial, reader, 2 * traffic_msat(count, price) + 10)
    for _ in range(times):
        judge_range(trial, share, read(trial, reader, stored), 0, 0)
    reader.close()
    fresh = trial.link(account.identity)

    def settled() -> AccountStatusReply | None:
        now = status(trial, fresh)
        return now if now.egress_bytes >= before.egress_bytes + count else None

    after = trial.until(settled, Failed("R-W22", f"egress_bytes did not come to {count}"))
    charged, due = before.deposit_msat - after.deposit_msat, traffic_msat(count, price)
    most = (-(-count // STEP_BYTES) + 1) * traffic_msat(STEP_BYTES, price)  # each step rounded up, the last one in part
    trial.require("R-W22", due <= charged <= most, f"{charged} msat charged for {count} bytes, {due} are due")
    trial.require("R-R23", after.egress_bytes == before.egress_bytes + count, f"{after.egress_bytes} bytes counted")
    trial.reached.update({"R-W23", "R-W24", "MB-R9"})


@CHECKS.on("MB-R9", "R-W23")
def reading_beyond_the_deposit(trial: Trial) -> None:
    """A deposit that allows one reading and not two is used up to that, and never falls below 0."""
    tenant, link = the_tenant(trial)
    account = open_account(trial)
    price = account.terms.egress_msat_per_gib
    if not price:
        raise Skipped("reading is free at this node")
    share = new_share(64 * _L)
    due = traffic_msat(len(share), price)
    allowed = due * GIB // price // len(share)
    if allowed > MANY_READINGS:
        raise Skipped(f"one msat pays for {allowed} readings of 1 MiB")
    stored = put(trial, link, tenant, share)
    reader = trial.link(account.identity)
    add_deposit(trial, reader, due)
    judge_range(trial, share, read(trial, reader, stored), 0, 0)
    times = 1
    while not isinstance(reply := reader.ask(GetShare(share_id=stored, offset=0, length=0)), ErrorReply):
        times += 1
        trial.require(
            "R-W23", times <= allowed, f"a deposit of {due} msat paid for {times} readings of {len(share)} bytes"
        )
    trial.require("MB-R9", reply.code is ErrorCode.PAYMENT_REQUIRED, f"answered {reply.code.name}")
    trial.reached.add("R-W23")
