"""What a node reports of the certificates that were presented to it (spec 05a): who used how much under an account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from lnstore_protocol import cbor
from lnstore_protocol.delegation import SignedCertificate, widening
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.ids import AccountId, CertificateId
from lnstore_protocol.structures import Table, from_map, to_map


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a node says of a certificate that was presented to it: what it and those below it use there.

    `certificate` is the signed one; `parent` the id of the one above it; `revoked_at` is None while it is not revoked.
    """

    certificate: bytes
    used_bytes: int
    shares: int
    written_bytes: int
    read_bytes: int
    first_seen_at: int
    last_seen_at: int
    parent: CertificateId | None = None
    revoked_at: int | None = None


@dataclass(frozen=True, slots=True)
class VerifiedUsage:
    """A usage whose certificate was found to be genuine."""

    signed: SignedCertificate
    usage: Usage


def encode_usages(usages: Sequence[Usage]) -> bytes:
    """The payload of a list_delegations_reply."""
    return cbor.encode([_usage_map(usage) for usage in usages])


def decode_usages(payload: bytes | bytearray | memoryview, *, limit: int, after: bytes = b"") -> list[VerifiedUsage]:
    """The usages in a payload, ascending by certificate id after `after` (D-R18); RemoteProtocolError."""
    items = cbor.decode(bytes(payload), what="list of delegations")
    if not isinstance(items, list) or len(cast("list[object]", items)) > limit:
        raise RemoteProtocolError(f"a list of delegations is not an array of at most {limit}")
    listed: list[VerifiedUsage] = []
    for item in cast("list[object]", items):
        body = cbor.as_map(item)
        if body is None:
            raise RemoteProtocolError("a list of delegations holds something else than maps")
        optional: Table = {key: row for key, row in _USAGE_OPTIONAL.items() if key in body}
        fields = from_map(body, {**_USAGE, **optional}, "usage")
        usage = Usage(**fields)
        signed = SignedCertificate.decode(usage.certificate)
        if signed.certificate_id <= after:
            raise RemoteProtocolError("a list of delegations is out of order")
        after = signed.certificate_id
        listed.append(VerifiedUsage(signed, usage))
    return listed


def check_usages(listed: Sequence[VerifiedUsage], account_id: AccountId) -> None:
    """That a whole list is of this account's certificates and of those below them (D-R18); RemoteProtocolError."""
    by_id = {entry.signed.certificate_id: entry.signed.certificate for entry in listed}
    for entry in listed:
        certificate, parent = entry.signed.certificate, entry.usage.parent
        if parent is None:
            if (certificate.issuer, certificate.account_id) != (account_id, account_id):
                raise RemoteProtocolError("a certificate is listed that you did not issue", ErrorCode.BAD_SIGNATURE)
        elif parent not in by_id or widening(by_id[parent], certificate):
            raise RemoteProtocolError(
                "a certificate is listed that follows from none of yours", ErrorCode.BAD_SIGNATURE
            )


# --- the map ---------------------------------------------------------------------------------------------------------

_USAGE: Table = {
    0: ("certificate", bytes),
    2: ("used_bytes", int),
    4: ("shares", int),
    6: ("written_bytes", int),
    8: ("read_bytes", int),
    10: ("first_seen_at", int),
    12: ("last_seen_at", int),
}
_USAGE_OPTIONAL: Table = {1: ("parent", CertificateId), 3: ("revoked_at", int)}


def _usage_map(usage: Usage) -> dict[int, object]:
    optional = {key: row for key, row in _USAGE_OPTIONAL.items() if getattr(usage, row[0]) is not None}
    return to_map(usage, {**_USAGE, **optional})
