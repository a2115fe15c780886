"""Certificates of delegation as people and programs read them, at clients and at nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lnstore.cli.output import human_time
from lnstore.sizes import human_bytes

if TYPE_CHECKING:
    from lnstore_protocol.delegation import Certificate
    from lnstore_protocol.usages import Usage

SHOWN_DIGITS = 12
"""Of a certificate's id and of a key, where a person reads them."""


def shown(identifier: bytes) -> str:
    """An id or a key, by its beginning."""
    return identifier.hex()[:SHOWN_DIGITS]


def limits_of(certificate: Certificate) -> str:
    """`read and write up to 4.0 MiB until 2026-12-22 10:00 UTC`."""
    from lnstore_protocol.delegation import UNLIMITED

    what = certificate.rights.name.lower().replace("_", " and ")
    store = f" up to {human_bytes(certificate.maximum_bytes)}" if 0 < certificate.maximum_bytes < UNLIMITED else ""
    further = ", a part may be handed on" if certificate.levels else ""
    return f"{what}{store} until {human_time(certificate.expires_at)}{further}"


def certificate_json(certificate: Certificate) -> dict[str, Any]:
    """What was signed, but for the serial number and the nodes."""
    return {
        "account_id": certificate.account_id,
        "issuer": certificate.issuer,
        "subject": certificate.subject,
        "rights": certificate.rights.name.lower(),
        "maximum_bytes": certificate.maximum_bytes,
        "maximum_read_bytes": certificate.maximum_read_bytes,
        "expires_at": certificate.expires_at,
        "may_be_handed_on": certificate.levels > 0,
    }


def usage_json(usage: Usage) -> dict[str, Any]:
    """What was done under a certificate, with those below it, at one node."""
    return {
        "used_bytes": usage.used_bytes,
        "shares": usage.shares,
        "written_bytes": usage.written_bytes,
        "read_bytes": usage.read_bytes,
        "first_seen_at": usage.first_seen_at,
        "last_seen_at": usage.last_seen_at,
        "revoked_at": usage.revoked_at,
    }
