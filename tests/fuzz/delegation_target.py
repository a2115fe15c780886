"""The fuzz target of delegations: chains, lists of usages, texts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from lnstore_protocol import bech32m, cbor, delegation, usages
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId, NodeId

VECTORS = Path(__file__).parents[2] / "spec" / "vectors"
HOLDER, DELEGATE, BELOW = (Identity(bytes([number]) * 32) for number in (2, 1, 3))
NODE_ID = NodeId(DELEGATE.public_key)
_HOLDER_ID, _DELEGATE_ID, _BELOW_ID = (AccountId(who.public_key) for who in (HOLDER, DELEGATE, BELOW))
_SIGNERS = {bytes(_HOLDER_ID): HOLDER, bytes(_DELEGATE_ID): DELEGATE, bytes(_BELOW_ID): BELOW}


def delegations(data: bytes) -> None:
    """Chains, lists and texts of delegations, signed rightly whatever they say: what holds never widens."""
    mode, rest = (data or b"\0")[0], data[1:]
    with suppress(RemoteProtocolError):
        parts = cbor.decode(rest, what="maps")
        if mode & 1 and isinstance(parts, list):
            rest = cbor.encode([_signed(part) for part in parts])
    presenter = (_DELEGATE_ID, _BELOW_ID)[mode >> 1 & 1]
    with suppress(RemoteProtocolError):
        authority = delegation.verify_chain(rest, presenter=presenter, node_id=NODE_ID, now=1)
        assert delegation.encode_chain(authority.chain) == rest
        assert authority.account_id == authority.chain[0].certificate.issuer
        assert authority.certificate.subject == presenter != authority.account_id
        for signed in authority.chain:
            assert signed.certificate.maximum_bytes >= authority.certificate.maximum_bytes
            assert signed.certificate.maximum_read_bytes >= authority.certificate.maximum_read_bytes
            assert signed.certificate.expires_at >= authority.certificate.expires_at > 1
            assert signed.certificate.rights & authority.certificate.rights == authority.certificate.rights
            assert signed.certificate.is_for(NODE_ID)
    with suppress(RemoteProtocolError):
        usages.check_usages(usages.decode_usages(rest, limit=4), _HOLDER_ID)
    if mode & 4:
        with suppress(ValueError):
            delegation.parse_delegation(bech32m.encode("lnsd", 0, rest))


def delegation_corpus() -> list[bytes]:
    """The vectors' chains and lists, and maps that the target signs."""
    cases = json.loads((VECTORS / "delegation.json").read_text())["cases"]
    encoded = [
        bytes.fromhex(case["chain" if case["op"] == "verify" else "payload"]) for case in cases if case["op"] != "text"
    ]
    maps = [cbor.encode(chain) for chain in _certificate_maps()]
    text = cbor.encode({0: encoded[0], 2: ["lnstore://" + "ab" * 32 + "@host:1"]})
    return [*(b"\0" + one for one in encoded), *(mode + one for one in maps for mode in (b"\1", b"\3")), b"\4" + text]


def _signed(part: Any) -> bytes:
    body = cbor.as_map(part)
    if body is None:
        return b""
    body = {key: value for key, value in body.items() if key != 64}
    issuer = body.get(2)
    signer = _SIGNERS.get(issuer, HOLDER) if isinstance(issuer, bytes) else HOLDER
    return cbor.encode(body | {64: signer.sign("delegation", cbor.encode(body))})


def _certificate_maps() -> Iterator[list[dict[int, Any]]]:
    """Right ones to begin with: one, two, and two of which the second widens."""
    first = {
        0: bytes(_HOLDER_ID),
        2: bytes(_HOLDER_ID),
        4: bytes(_DELEGATE_ID),
        6: bytes(16),
        8: b"",
        10: 1000,
        12: 1000,
        14: 2000,
        16: 3,
        18: 1,
    }
    second = first | {2: bytes(_DELEGATE_ID), 4: bytes(_BELOW_ID), 8: bytes(NODE_ID), 10: 500, 18: 0}
    yield [first]
    yield [first, second]
    yield [first, second | {10: 1001}]
