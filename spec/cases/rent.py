"""05: signed structures and the arithmetic."""

from __future__ import annotations

from typing import Any

import cbor2

from cases.common import (
    ACCOUNT,
    ACCOUNT_ID,
    LEAF,
    NODE,
    NOW,
    STRANGER,
    Case,
    example_terms,
)
from lnstore_protocol import cbor, terms
from lnstore_protocol.identity import Identity


def _signed(body: dict[int, Any], purpose: str, signer: Identity, at: int = 64) -> str:
    return cbor.encode(body | {at: signer.sign(purpose, cbor.encode(body))}).hex()


def structure_cases() -> list[Case]:
    """Terms, agreements and records. What is wrong is signed all the same, unless the signature is what is wrong."""
    signed = example_terms()
    body: dict[int, Any] = cbor.decode(signed.encoded, what="terms")
    bare = {k: v for k, v in body.items() if k != 64}
    proposed = terms.Agreement.propose(signed, ACCOUNT, NOW + 100)
    agreed = proposed.countersign(NODE)
    half: dict[int, Any] = cbor.decode(proposed.encoded, what="agreement")
    unsigned = {k: v for k, v in half.items() if k != 64}
    record = {0: bytes(ACCOUNT_ID), 2: b"catalog", 4: 7, 6: b"\x01\x02\x03"}
    valid: list[tuple[str, str, str]] = [
        ("terms", "terms", signed.encoded.hex()),
        ("terms with an unknown odd key, under the signature", "terms", _signed(bare | {31: [[[0]]]}, "terms", NODE)),
        ("agreement, proposed", "agreement", proposed.encoded.hex()),
        ("agreement, signed by both", "agreement", agreed.encoded.hex()),
        ("record", "record", _signed(record, "record", ACCOUNT)),
        ("record with an empty name and value", "record", _signed(record | {2: b"", 6: b""}, "record", ACCOUNT)),
    ]
    encoded = signed.encoded
    invalid: list[tuple[str, str, str, str]] = [
        ("empty", "terms", "", "MALFORMED"),
        ("not a map", "terms", "80", "MALFORMED"),
        ("cut short", "terms", encoded[:-1].hex(), "MALFORMED"),
        ("a byte after its end", "terms", encoded.hex() + "00", "MALFORMED"),
        ("keys in another order", "terms", cbor2.dumps(dict(reversed(body.items()))).hex(), "MALFORMED"),
        (
            "an integer in a longer form than needed",
            "terms",
            encoded.hex().replace("0619" + "07d0", "061a000007d0", 1),
            "MALFORMED",
        ),
        ("a map of indefinite length", "terms", "bf" + encoded.hex()[4:] + "ff", "MALFORMED"),
        ("a key that is text", "terms", cbor2.dumps(body | {"x": 0}, canonical=True).hex(), "MALFORMED"),
        ("an unknown even key", "terms", _signed(bare | {28: 0}, "terms", NODE), "UNKNOWN_FEATURE"),
        ("a missing key", "terms", _signed({k: v for k, v in bare.items() if k != 8}, "terms", NODE), "MALFORMED"),
        ("a price that is text", "terms", _signed(bare | {6: "2000"}, "terms", NODE), "MALFORMED"),
        ("a price that is true", "terms", _signed(bare | {6: True}, "terms", NODE), "MALFORMED"),
        ("a price that is a float", "terms", cbor2.dumps(body | {6: 2.5}, canonical=True).hex(), "MALFORMED"),
        ("a negative price", "terms", cbor2.dumps(body | {6: -1}, canonical=True).hex(), "MALFORMED"),
        ("a price of 2^63", "terms", cbor2.dumps(body | {6: 1 << 63}, canonical=True).hex(), "MALFORMED"),
        ("a tag", "terms", cbor2.dumps(body | {6: cbor2.CBORTag(1, 0)}, canonical=True).hex(), "MALFORMED"),
        ("a node id of 31 bytes", "terms", _signed(bare | {0: bytes(31)}, "terms", NODE), "MALFORMED"),
        ("an unknown channel policy", "terms", _signed(bare | {20: 3}, "terms", NODE), "MALFORMED"),
        ("a period of 0 seconds", "terms", _signed(bare | {12: 0}, "terms", NODE), "MALFORMED"),
        ("a maximum below the minimum", "terms", _signed(bare | {18: 1}, "terms", NODE), "MALFORMED"),
        ("nested too deeply", "terms", _signed(bare | {31: [[[[]]]]}, "terms", NODE), "MALFORMED"),
        ("no signature", "terms", cbor.encode(bare).hex(), "BAD_SIGNATURE"),
        ("a signature of 63 bytes", "terms", cbor.encode(bare | {64: body[64][:-1]}).hex(), "BAD_SIGNATURE"),
        ("another price under the signature", "terms", cbor.encode(body | {6: 1}).hex(), "BAD_SIGNATURE"),
        ("signed by another key", "terms", _signed(bare, "terms", STRANGER), "BAD_SIGNATURE"),
        ("signed for another purpose", "terms", _signed(bare, "record", NODE), "BAD_SIGNATURE"),
        (
            "agreement over changed terms",
            "agreement",
            _signed(unsigned | {0: cbor.encode(body | {6: 1})}, "agreement", ACCOUNT),
            "BAD_SIGNATURE",
        ),
        ("agreement signed by another account", "agreement", _signed(unsigned, "agreement", STRANGER), "BAD_SIGNATURE"),
        (
            "agreement countersigned by another node",
            "agreement",
            _signed(half, "agreement", STRANGER, 66),
            "BAD_SIGNATURE",
        ),
        (
            "agreement countersigned without the client's signature underneath",
            "agreement",
            cbor.encode(half | {66: NODE.sign("agreement", cbor.encode(unsigned))}).hex(),
            "BAD_SIGNATURE",
        ),
        (
            "agreement with another anchor under the signatures",
            "agreement",
            cbor.encode(half | {4: NOW}).hex(),
            "BAD_SIGNATURE",
        ),
        (
            "agreement without terms",
            "agreement",
            _signed({k: v for k, v in unsigned.items() if k}, "agreement", ACCOUNT),
            "MALFORMED",
        ),
        ("record with a name of 33 bytes", "record", _signed(record | {2: bytes(33)}, "record", ACCOUNT), "TOO_LARGE"),
        (
            "record with a value of 4097 bytes",
            "record",
            _signed(record | {6: bytes(4097)}, "record", ACCOUNT),
            "TOO_LARGE",
        ),
        ("record signed by another account", "record", _signed(record, "record", STRANGER), "BAD_SIGNATURE"),
        ("record with a sequence that is bytes", "record", _signed(record | {4: b"7"}, "record", ACCOUNT), "MALFORMED"),
    ]
    return [{"name": name, "kind": kind, "encoded": encoded} for name, kind, encoded in valid] + [
        {"name": name, "kind": kind, "encoded": encoded, "error": error} for name, kind, encoded, error in invalid
    ]


def rent_cases() -> list[Case]:
    """The arithmetic: rent, traffic, periods."""
    gib, month = terms.GIB, terms.MONTH_SECONDS
    cases: list[Case] = []
    for capacity, seconds, price in (
        (0, month, 2000),
        (20 * gib, 0, 2000),
        (20 * gib, month, 0),
        (1, 1, 1),
        (gib, month, 2000),
        (20 * gib, month, 2000),
        (20 * gib, month // 2, 2000),
        (gib + 1, month, 1),
        (gib - 1, month, 1),
        (gib, month + 1, 1),
        (gib, month - 1, 1),
        (1 << 43, month, 2000),
        (1 << 43, 10 * month, 1 << 40),
        ((1 << 63) - 1, (1 << 63) - 1, (1 << 63) - 1),
        (123_456_789, 86_401, 1999),
    ):
        amount = terms.rent_msat(capacity, seconds, price)
        cases.append(
            {"op": "rent", "capacity_bytes": capacity, "seconds": seconds, "price": price, "msat": str(amount)}
        )
    for traffic, price in (
        (0, 1000),
        (1, 1000),
        (gib, 1000),
        (gib + 1, 1000),
        (LEAF, 1000),
        (LEAF, 0),
        (5 * gib // 2, 3),
    ):
        cases.append(
            {"op": "traffic", "bytes": traffic, "price": price, "msat": str(terms.traffic_msat(traffic, price))}
        )
    cases += [
        {
            "op": "period",
            "anchor_at": NOW,
            "period_seconds": month,
            "at": at,
            "period": terms.period_at(NOW, month, at),
        }
        for at in (NOW, NOW + month - 1, NOW + month, NOW + 10 * month + 5, NOW - 1)
    ]
    return cases
