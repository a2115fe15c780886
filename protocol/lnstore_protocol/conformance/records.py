"""Checks of 02b, records: small signed mutable values."""

from __future__ import annotations

import os
from typing import Any, Final

import cbor2

from lnstore_protocol.conformance.node_link import NodeLink
from lnstore_protocol.conformance.structures import SIGNATURE, broken_encodings, signed
from lnstore_protocol.conformance.tenant import Tenant, open_account, the_tenant
from lnstore_protocol.conformance.trial import Checks, Trial
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.messages import GetRecord, GetRecordReply, PutRecord, PutRecordReply
from lnstore_protocol.terms import MAX_RECORD_NAME_BYTES, MAX_RECORD_VALUE_BYTES, Record

CHECKS = Checks()
MALFORMED: Final = ErrorCode.MALFORMED
RECORDS_AT_LEAST = 16


def _body(tenant: Tenant, *, name: bytes = b"check", sequence: int = 1, value: bytes = b"value") -> dict[int, Any]:
    return {0: bytes(tenant.account_id), 2: name, 4: sequence, 6: value}


def put_record(trial: Trial, link: NodeLink, tenant: Tenant, **fields: Any) -> bytes:
    """Store a record; its bytes."""
    encoded = signed(_body(tenant, **fields), "record", tenant.identity)
    trial.reply(link, PutRecord(record=encoded), PutRecordReply, "MB-R26")
    return encoded


def get_record(trial: Trial, link: NodeLink, tenant: Tenant, name: bytes = b"check") -> bytes:
    """The bytes of a record as the node gives them."""
    return trial.reply(link, GetRecord(account_id=tenant.account_id, name=name), GetRecordReply, "MB-R28").record


@CHECKS.on("MB-R28", "MB-R29")
def records_are_read_by_anybody(trial: Trial) -> None:
    """A record is given, byte by byte as it was stored, to a peer without an account; RECORD_UNKNOWN where none is."""
    tenant = open_account(trial)
    link, stranger = trial.link(tenant.identity), trial.link()
    unknown = GetRecord(account_id=tenant.account_id, name=b"check")
    trial.refusal("MB-R28", stranger, unknown, ErrorCode.RECORD_UNKNOWN)
    stored = put_record(trial, link, tenant, value=os.urandom(MAX_RECORD_VALUE_BYTES))
    got = get_record(trial, stranger, tenant)
    trial.require("MB-R29", got == stored, "the record that came back is not the one stored")
    Record.decode(got)
    other = GetRecord(account_id=tenant.account_id, name=b"other")
    trial.refusal("MB-R28", stranger, other, ErrorCode.RECORD_UNKNOWN)


@CHECKS.on("MB-R26")
def older_records(trial: Trial) -> None:
    """A record replaces one of a lower sequence; a lower one, or another of the same sequence, is RECORD_STALE."""
    tenant = open_account(trial)
    link = trial.link(tenant.identity)
    put_record(trial, link, tenant, sequence=5)
    newer = put_record(trial, link, tenant, sequence=7, value=b"newer")
    for sequence, value in ((6, b"older"), (5, b"value"), (0, b""), (7, b"other")):
        encoded = signed(_body(tenant, sequence=sequence, value=value), "record", tenant.identity)
        trial.refusal("MB-R26", link, PutRecord(record=encoded), ErrorCode.RECORD_STALE)
        kept = get_record(trial, link, tenant) == newer
        trial.require("MB-R26", kept, f"a record of sequence {sequence} took the place of one of sequence 7")
    trial.reply(link, PutRecord(record=newer), PutRecordReply, "MB-R26")
    newest = put_record(trial, link, tenant, sequence=(1 << 63) - 1)
    trial.require(
        "MB-R26", get_record(trial, link, tenant) == newest, "a newer record did not take the place of the older"
    )


@CHECKS.on("MB-R25", "C-R6", "C-R7", "C-R8", "R-R1")
def broken_records(trial: Trial) -> None:
    """Records that break their form, or whose signature does not fit, are refused and change nothing."""
    tenant = open_account(trial)
    link = trial.link(tenant.identity)
    stored = put_record(trial, link, tenant)
    body = _body(tenant, sequence=9)
    for requirement, what, encoded, codes in broken_encodings(body, "record", tenant.identity, key=4):
        trial.refusal(requirement, link, PutRecord(record=encoded), *codes, what=f"a record with {what}")
    for what, broken, codes in (
        ("a name that is too long", body | {2: bytes(MAX_RECORD_NAME_BYTES + 1)}, (ErrorCode.TOO_LARGE, MALFORMED)),
        ("a value that is too long", body | {6: bytes(MAX_RECORD_VALUE_BYTES + 1)}, (ErrorCode.TOO_LARGE, MALFORMED)),
        ("a name that is text", body | {2: "check"}, (MALFORMED,)),
        ("an account id of 31 bytes", body | {0: bytes(31)}, (MALFORMED, ErrorCode.BAD_SIGNATURE)),
    ):
        encoded = signed(broken, "record", tenant.identity)
        trial.refusal("MB-R25", link, PutRecord(record=encoded), *codes, what=f"a record with {what}")
    trial.require(
        "MB-R25", get_record(trial, link, tenant) == stored, "a record that was refused took the other's place"
    )


@CHECKS.on("MB-R25")
def anothers_record(trial: Trial) -> None:
    """A record of another account is refused, though its signature fits."""
    tenant, other = open_account(trial), open_account(trial)
    encoded = signed(_body(other), "record", other.identity)
    trial.refusal("MB-R25", trial.link(tenant.identity), PutRecord(record=encoded), ErrorCode.BAD_SIGNATURE)
    unknown = GetRecord(account_id=other.account_id, name=b"check")
    trial.refusal("MB-R25", trial.link(), unknown, ErrorCode.RECORD_UNKNOWN)


@CHECKS.on("MB-R27")
def sixteen_records(trial: Trial) -> None:
    """An account that was paid for may have at least 16 records, names of 0 to 32 bytes among them."""
    tenant, link = the_tenant(trial)
    names = [bytes([number]) * (2 * number) for number in range(RECORDS_AT_LEAST)]
    names[-1] = bytes(MAX_RECORD_NAME_BYTES)
    stored = {name: put_record(trial, link, tenant, name=name) for name in names}
    for name, encoded in stored.items():
        trial.require("MB-R27", get_record(trial, link, tenant, name) == encoded, f"record {name.hex()} is not kept")


@CHECKS.on("C-R9")
def odd_keys_in_records(trial: Trial) -> None:
    """An unknown odd key in a record is passed over, and kept in the bytes that are passed on."""
    tenant = open_account(trial)
    link = trial.link(tenant.identity)
    encoded = signed(_body(tenant) | {201: {1: [None, "new"]}}, "record", tenant.identity)
    trial.reply(link, PutRecord(record=encoded), PutRecordReply, "C-R9")
    trial.require(
        "C-R9", get_record(trial, link, tenant) == encoded, "the record came back otherwise than it was stored"
    )
    fields = cbor2.loads(encoded)
    trial.require("C-R9", SIGNATURE in fields, "a record without its signature")
