"""05: signed structures and the arithmetic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cbor2

from cases.common import (
    ACCOUNT,
    ACCOUNT_ID,
    LEAF,
    LIGHTNING_ID,
    NODE,
    NODE_ID,
    NOW,
    STRANGER,
    Case,
    example_terms,
    key,
)
from lnstore_protocol import cbor, stages, terms
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import Msat
from lnstore_protocol.messages import AccountStage
from lnstore_protocol.prices import Prices, PriceStep, earliest_change


def _signed(body: dict[int, Any], purpose: str, signer: Identity, at: int = 64) -> str:
    return cbor.encode(body | {at: signer.sign(purpose, cbor.encode(body))}).hex()


def _less(body: dict[int, Any], key: int) -> dict[int, Any]:
    return {k: v for k, v in body.items() if k != key}


def _broken_invitations(whole: dict[int, Any], granted: dict[int, Any]) -> list[tuple[str, str, str, str]]:
    wrong: list[tuple[str, dict[int, Any]]] = [
        ("a secret of 15 bytes", {4: whole[4][:-1]}),
        ("a place without a port", {2: "node.example.org"}),
        ("a place of 301 bytes", {2: "n" * 296 + ":7460"}),
        ("an expiry that is text", {6: "soon"}),
        ("a price that is bytes", {3: b""}),
    ]
    return [
        *((what, "invitation", _signed(whole | change, "invitation", NODE), "MALFORMED") for what, change in wrong),
        ("without a secret", "invitation", _signed({0: whole[0], 2: whole[2], 6: 0}, "invitation", NODE), "MALFORMED"),
        (
            "invitation with an unknown even key",
            "invitation",
            _signed(whole | {8: 0}, "invitation", NODE),
            "UNKNOWN_FEATURE",
        ),
        ("invitation without a signature", "invitation", cbor.encode(whole).hex(), "BAD_SIGNATURE"),
        ("signed by another node", "invitation", _signed(whole, "invitation", STRANGER), "BAD_SIGNATURE"),
        ("signed as terms", "invitation", _signed(whole, "terms", NODE), "BAD_SIGNATURE"),
        (
            "more granted than was signed",
            "invitation",
            cbor.encode(whole | granted | {64: NODE.sign("invitation", cbor.encode(whole))}).hex(),
            "BAD_SIGNATURE",
        ),
    ]


def structure_cases() -> list[Case]:
    """Terms, agreements and records. What is wrong is signed all the same, unless the signature is what is wrong."""
    signed = example_terms()
    body: dict[int, Any] = cbor.decode(signed.encoded, what="terms")
    bare = {k: v for k, v in body.items() if k != 64}
    proposed = terms.Agreement.propose(signed, ACCOUNT, NOW + 100)
    agreed = proposed.countersign(NODE)
    renewed = terms.Agreement.propose(signed, ACCOUNT, NOW + 100, from_period=12).countersign(NODE)
    half: dict[int, Any] = cbor.decode(proposed.encoded, what="agreement")
    unsigned = {k: v for k, v in half.items() if k != 64}
    record = {0: bytes(ACCOUNT_ID), 2: b"catalog", 4: 7, 6: b"\x01\x02\x03"}
    invitation = {
        0: bytes(NODE_ID),
        2: "node.example.org:7460",
        4: key("secret")[:16],
        6: NOW + 604_800,
    }
    granted = {1: 20 << 30, 3: 0, 5: 0, 7: 12}
    valid: list[tuple[str, str, str]] = [
        ("terms", "terms", signed.encoded.hex()),
        ("terms with an unknown odd key, under the signature", "terms", _signed(bare | {97: [[[0]]]}, "terms", NODE)),
        ("terms that are pinned", "terms", _signed(bare | {31: "EUR", 33: "1.25"}, "terms", NODE)),
        ("terms that are pinned to a whole number", "terms", _signed(bare | {31: "USDT", 33: "2"}, "terms", NODE)),
        ("terms that give back half", "terms", _signed(bare | {27: 500}, "terms", NODE)),
        ("terms that say that they give back nothing", "terms", _signed(bare | {27: 0}, "terms", NODE)),
        ("agreement, proposed", "agreement", proposed.encoded.hex()),
        ("agreement, signed by both", "agreement", agreed.encoded.hex()),
        ("agreement that renews another, signed by both", "agreement", renewed.encoded.hex()),
        ("record", "record", _signed(record, "record", ACCOUNT)),
        ("terms for the bearer of an invitation", "terms", _signed(bare | {41: key("invitation")}, "terms", NODE)),
        ("invitation", "invitation", _signed(invitation, "invitation", NODE)),
        ("invitation that grants", "invitation", _signed(invitation | granted, "invitation", NODE)),
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
        ("an unknown even key", "terms", _signed(bare | {98: 0}, "terms", NODE), "UNKNOWN_FEATURE"),
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
        ("prices for 0 periods", "terms", _signed(bare | {28: 0}, "terms", NODE), "MALFORMED"),
        ("without the periods of its prices", "terms", _signed(_less(bare, 28), "terms", NODE), "MALFORMED"),
        ("pinned to no amount", "terms", _signed(bare | {31: "EUR"}, "terms", NODE), "MALFORMED"),
        ("pinned to no currency", "terms", _signed(bare | {33: "1.25"}, "terms", NODE), "MALFORMED"),
        ("an empty currency", "terms", _signed(bare | {31: "", 33: "1.25"}, "terms", NODE), "MALFORMED"),
        ("a currency in small letters", "terms", _signed(bare | {31: "eur", 33: "1.25"}, "terms", NODE), "MALFORMED"),
        (
            "a currency that breaks the line",
            "terms",
            _signed(bare | {31: "EUR\n", 33: "1"}, "terms", NODE),
            "MALFORMED",
        ),
        ("an amount with a comma", "terms", _signed(bare | {31: "EUR", 33: "1,25"}, "terms", NODE), "MALFORMED"),
        ("an amount below nothing", "terms", _signed(bare | {31: "EUR", 33: "-1"}, "terms", NODE), "MALFORMED"),
        ("an amount in other digits", "terms", _signed(bare | {31: "EUR", 33: "\u0661"}, "terms", NODE), "MALFORMED"),
        ("an amount that is a number", "terms", _signed(bare | {31: "EUR", 33: 1}, "terms", NODE), "MALFORMED"),
        ("nested too deeply", "terms", _signed(bare | {97: [[[[]]]]}, "terms", NODE), "MALFORMED"),
        ("more given back than paid", "terms", _signed(bare | {27: 1001}, "terms", NODE), "MALFORMED"),
        ("a permille that is text", "terms", _signed(bare | {27: "500"}, "terms", NODE), "MALFORMED"),
        ("no signature", "terms", cbor.encode(bare).hex(), "BAD_SIGNATURE"),
        ("a signature of 63 bytes", "terms", cbor.encode(bare | {64: body[64][:-1]}).hex(), "BAD_SIGNATURE"),
        ("another price under the signature", "terms", cbor.encode(body | {6: 1}).hex(), "BAD_SIGNATURE"),
        ("signed by another key", "terms", _signed(bare, "terms", STRANGER), "BAD_SIGNATURE"),
        ("an invitation of 31 bytes", "terms", _signed(bare | {41: bytes(31)}, "terms", NODE), "MALFORMED"),
        *_broken_invitations(invitation, granted),
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
            "agreement from another period on under the signatures",
            "agreement",
            cbor.encode(half | {6: 1}).hex(),
            "BAD_SIGNATURE",
        ),
        (
            "agreement without its first period",
            "agreement",
            _signed(_less(unsigned, 6), "agreement", ACCOUNT),
            "MALFORMED",
        ),
        (
            "agreement whose first period is text",
            "agreement",
            _signed(unsigned | {6: "0"}, "agreement", ACCOUNT),
            "MALFORMED",
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


_RESULTS = ("msat", "error", "coming", "table")


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
    for before, added, price in (
        (0, 0, 1000),
        (0, 1, 1000),
        (1, 1, 1000),
        (300_000, 300_000, 1000),
        (900_000, 300_000, 1000),
        (gib - 1, 1, 1000),
        (gib, 1, 1000),
        (5 * gib, LEAF, 0),
        ((1 << 62) + 1, gib, 999_999_999),
    ):
        due = terms.ingress_msat(before, added, price)
        cases.append({"op": "ingress", "before": before, "bytes": added, "price": price, "msat": str(due)})
    for capacity, seconds, price, permille in (
        (20 * gib, month // 2, 2000, 500),
        (20 * gib, month // 2, 2000, 0),
        (gib - 1, month, 1, 1000),
        (123_456_789, 86_401, 1999, 333),
    ):
        back = terms.refund_msat(capacity, seconds, price, permille)
        case: Case = {"op": "refund", "capacity_bytes": capacity, "seconds": seconds, "price": price}
        cases.append(case | {"permille": permille, "msat": str(back)})
    cases += _stages()
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
    cases += _prices()
    plain = [
        {"name": ", ".join(f"{field} {value}" for field, value in case.items() if field not in _RESULTS)} | case
        for case in cases + _misuse()
    ]
    return plain + _replies()


_STEPS = [[0, 2000], [12, 3000], [20, 0]]
"""Prices from periods on, as in the vectors."""


def prices_of(case: Case) -> Prices:
    """The prices that a case of rent.json tells of."""
    return Prices(
        anchor_at=case["anchor_at"],
        period_seconds=case["period_seconds"],
        steps=tuple(
            PriceStep(
                from_period=period,
                price_msat_per_gib_month=Msat(price),
                egress_msat_per_gib=Msat(0),
                ingress_msat_per_gib=Msat(0),
            )
            for period, price in case["steps"]
        ),
        unsigned_period=case["unsigned_period"],
    )


def _prices() -> list[Case]:
    """Which price holds for which period; what rent and growth cost across a change; when a change may begin."""
    gib, month = terms.GIB, terms.MONTH_SECONDS
    whole: Case = {"anchor_at": NOW, "period_seconds": month, "steps": _STEPS, "unsigned_period": None}
    unsigned = whole | {"steps": _STEPS[:1], "unsigned_period": 14}
    cases: list[Case] = []
    for of, periods in ((whole, (-1, 0, 11, 12, 19, 20, 1000)), (unsigned, (0, 12, 13))):
        for period in periods:
            case = {"op": "rent of a period", **of, "capacity_bytes": gib + 1, "period": period}
            cases.append(case | {"msat": str(prices_of(case).rent_msat(gib + 1, period))})
    for of, from_at, until_at in (
        (whole, NOW - 300, NOW + month),
        (whole, NOW + 12 * month - 100, NOW + 13 * month),
        (whole, NOW + 12 * month - 1, NOW + 12 * month + 1),
        (whole, NOW + 20 * month - 7, NOW + 21 * month),
        (whole, NOW + 20 * month, NOW + 21 * month),
        (whole, NOW, NOW + 30 * month),
        (unsigned, NOW + 12 * month, NOW + 14 * month),
    ):
        case = {"op": "growth", **of, "added_bytes": 123_456_789, "from_at": from_at, "until_at": until_at}
        cases.append(case | {"msat": str(prices_of(case).growth_msat(123_456_789, from_at, until_at))})
    for from_period, price_periods, announced_at in (
        (0, 12, NOW),
        (0, 12, NOW + 9 * month),
        (0, 12, NOW + 10 * month),
        (0, 12, NOW + 11 * month - 1),
        (0, 12, NOW + 30 * month),
        (12, 6, NOW + 12 * month),
        (0, 1, NOW - 600),
        (0, 1, NOW + month - 1),
    ):
        sheet = replace(example_terms().terms, price_periods=price_periods).sign(NODE)
        agreement = terms.Agreement.propose(sheet, ACCOUNT, NOW, from_period=from_period)
        cases.append(
            {
                "op": "earliest change",
                "anchor_at": NOW,
                "period_seconds": month,
                "from_period": from_period,
                "price_periods": price_periods,
                "announced_at": announced_at,
                "period": earliest_change(agreement, announced_at),
            }
        )
    refused = "PRICE_NOT_AGREED"
    return [
        *cases,
        *(
            {"op": "rent of a period", **unsigned, "capacity_bytes": gib, "period": period, "error": refused}
            for period in (14, 15, 26, 1000)
        ),
        {"op": "rent of a period", **whole, "steps": _STEPS[1:], "capacity_bytes": gib, "period": 3, "error": refused},
        *(
            {"op": "growth", **unsigned, "added_bytes": 1, "from_at": NOW, "until_at": until_at, "error": refused}
            for until_at in (NOW + 14 * month + 1, NOW + 15 * month, NOW + 100 * month)
        ),
        {"op": "growth", **whole, "added_bytes": -1, "from_at": NOW, "until_at": NOW + 1, "error": "MALFORMED"},
        *(
            {"op": "rent of a period", **whole, "steps": steps, "capacity_bytes": 1, "period": 0, "error": "MALFORMED"}
            for steps in ([], _STEPS[::-1], _STEPS[:1] * 2, [_STEPS[0], _STEPS[2], _STEPS[1]])
        ),
    ]


def _stages() -> list[Case]:
    """For usual terms and very short ones: what comes when, and what the table says a second before and then."""
    cases: list[Case] = []
    for period, grace in ((terms.MONTH_SECONDS, 604_800), (1000, 300), (3, 0), (1, 1)):
        to = stages.transitions(NOW, period, grace)
        rows: list[Case] = []
        for at in sorted({second for one in to for second in (one.at - 1, one.at)}):
            for owes in (True, False):
                due = stages.due(owes=owes, now=at, paid_until_at=NOW, period_seconds=period, grace_seconds=grace)
                then = {stage.name: stages.NEXT_STAGE[stage, due].name for stage in AccountStage}
                rows.append({"at": at, "owes": owes, "next": then})
        cases.append(
            {
                "op": "stages",
                "paid_until_at": NOW,
                "period_seconds": period,
                "grace_seconds": grace,
                "coming": [{"stage": one.stage.name, "at": one.at, "warning_at": one.warning_at} for one in to],
                "table": rows,
            }
        )
    return cases


def _misuse() -> list[Case]:
    """What nobody may compute with."""
    return [
        *(
            {
                "op": "refund",
                "capacity_bytes": capacity,
                "seconds": seconds,
                "price": price,
                "permille": permille,
                "error": "MALFORMED",
            }
            for capacity, seconds, price, permille in (
                (-1, 1, 1, 1),
                (1, -1, 1, 1),
                (1, 1, -1, 1),
                (1, 1, 1, -1),
                (1, 1, 1, 1001),
                (-1, -1, 1, 1),
                (0, 0, 0, 1001),
                (1 << 43, 1, 1, 1 << 63),
                (1, -1, 0, 0),
            )
        ),
        *(
            {"op": "rent", "capacity_bytes": capacity, "seconds": seconds, "price": price, "error": "MALFORMED"}
            for capacity, seconds, price in ((-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, 1))
        ),
        *(
            {"op": "traffic", "bytes": traffic, "price": price, "error": "MALFORMED"}
            for traffic, price in ((-1, 1), (1, -1))
        ),
        *(
            {"op": "ingress", "before": before, "bytes": added, "price": price, "error": "MALFORMED"}
            for before, added, price in (
                (-1, 1, 1),
                (-1, 2, 1),
                (1, -1, 1),
                (1, 1, -1),
                (0, 0, -1),
                (-2, -1, 1),
                (-1, -1, -1),
                (-1, 0, 0),
                (0, -1, 0),
            )
        ),
        *(
            {"op": "period", "anchor_at": NOW, "period_seconds": seconds, "at": NOW, "error": "MALFORMED"}
            for seconds in (0, -1)
        ),
    ]


def _replies() -> list[Case]:
    """Invoices for rent and growth, and whether a client pays: `refused` names the rule if it does not.

    The account pays 2000 msat per GiB-month and has 20 GiB, or nothing yet; a growth is asked for at the anchor + 100.
    """
    gib, month, anchor = terms.GIB, terms.MONTH_SECONDS, NOW
    rent: Case = {
        "op": "rent reply",
        "agreement": {"anchor_at": anchor, "period_seconds": month, "price": 2000},
        "period": 1,
        "capacity_bytes": 20 * gib,
        "now": anchor + 100,
        "reply": {
            "from_at": anchor + month,
            "until_at": anchor + 2 * month,
            "capacity_bytes": 20 * gib,
            "amount_msat": 40_000,
        },
        "invoice": {
            "amount_msat": 40_000,
            "payee": LIGHTNING_ID.hex(),
            "network": "regtest",
            "payment_hash": key("hash").hex(),
            "expires_at": anchor + 3700,
        },
        "preimage_hash": key("hash").hex(),
    }
    whole = terms.rent_msat(20 * gib, month - 100, 2000)
    growth: Case = {
        **rent,
        "op": "growth reply",
        "period": 0,
        "capacity_bytes": 0,
        "wanted_bytes": 20 * gib,
        "reply": {
            "from_at": anchor + 100,
            "until_at": anchor + month,
            "capacity_bytes": 20 * gib,
            "amount_msat": whole,
        },
        "invoice": {**rent["invoice"], "amount_msat": whole},
        "preimage_hash": None,
    }

    def asking(base: Case, amount: int) -> Case:
        return {
            "reply": {**base["reply"], "amount_msat": amount},
            "invoice": {**base["invoice"], "amount_msat": amount},
        }

    def reply(base: Case, **change: int) -> Case:
        return {"reply": {**base["reply"], **change}}

    def invoice(base: Case, **change: object) -> Case:
        return {"invoice": {**base["invoice"], **change}}

    small = terms.rent_msat(gib + 1, month, 1)
    tiny = {**growth, "wanted_bytes": 1, **asking({**growth, **reply(growth, capacity_bytes=1)}, 1)}
    valid: list[tuple[str, Case]] = [
        ("rent", rent),
        ("rent for less", {**rent, **asking(rent, 39_999)}),
        ("rent for fewer bytes", {**rent, **reply(rent, capacity_bytes=gib)}),
        ("growth", growth),
        ("growth to the end of the next period", {**growth, **reply(growth, until_at=anchor + 2 * month)}),
        ("growth that rounds up to 1 msat", tiny),
    ]
    overcharged: list[tuple[str, Case, str]] = [
        ("one msat too many", asking(rent, 40_001), "R-R13"),
        ("a price per 10^9 bytes", asking(rent, -(-20 * gib * 2000 // 10**9)), "R-R13"),
        ("a month of 31 days", asking(rent, 40_000 * 31 // 30), "R-R13"),
        ("a month of 28 days", asking(rent, -(-40_000 * 30 // 28)), "R-R13"),
        ("rounded up though exact", asking(rent, 40_000 + 1), "R-R13"),
        (
            "rounded up to whole GiB",
            {
                "capacity_bytes": gib + 1,
                **reply({**rent, **asking(rent, 4000)}, capacity_bytes=gib + 1),
                "invoice": {**rent["invoice"], "amount_msat": 4000},
            },
            "R-R13",
        ),
        (
            "rounded up every day",
            {
                "agreement": {**rent["agreement"], "price": 1},
                "capacity_bytes": gib + 1,
                "reply": {**rent["reply"], "capacity_bytes": gib + 1, "amount_msat": 30},
                "invoice": {**rent["invoice"], "amount_msat": 30},
            },
            "R-R13",
        ),
        (
            "a fee of 1 sat",
            {
                "agreement": {**rent["agreement"], "price": 1},
                "capacity_bytes": gib + 1,
                "reply": {**rent["reply"], "capacity_bytes": gib + 1, "amount_msat": small + 1000},
                "invoice": {**rent["invoice"], "amount_msat": small + 1000},
            },
            "R-R13",
        ),
    ]
    others: list[tuple[str, Case, str]] = [
        ("another payee", invoice(rent, payee="02" + "11" * 32), "R-R11"),
        ("another network", invoice(rent, network="bitcoin"), "R-R12"),
        ("no amount", invoice(rent, amount_msat=None), "R-R13"),
        ("an amount of 0", invoice(rent, amount_msat=0), "R-R13"),
        ("less in the reply than in the invoice", reply(rent, amount_msat=39_999), "R-R13"),
        ("more in the reply than in the invoice", reply(rent, amount_msat=40_001), "R-R13"),
        ("another payment hash", invoice(rent, payment_hash=key("other hash").hex()), "P-R13"),
        ("expired", invoice(rent, expires_at=anchor + 99), "R-R14"),
        ("29 seconds left", invoice(rent, expires_at=anchor + 129), "R-R14"),
        ("the period before", reply(rent, from_at=anchor, until_at=anchor + month), "R-R19"),
        ("the period after", reply(rent, from_at=anchor + 2 * month, until_at=anchor + 3 * month), "R-R19"),
        ("from a second later", reply(rent, from_at=anchor + month + 1), "R-R19"),
        ("until a second earlier", reply(rent, until_at=anchor + 2 * month - 1), "R-R19"),
        ("two periods at once", reply(rent, until_at=anchor + 3 * month), "R-R19"),
        ("a byte more than was rented", reply(rent, capacity_bytes=20 * gib + 1), "R-R19"),
    ]
    grown: list[tuple[str, Case, str]] = [
        ("one msat too many", asking(growth, whole + 1), "R-R9"),
        ("a whole period instead of the rest", asking(growth, 40_000), "R-R9"),
        ("a byte more than was asked for", reply(growth, capacity_bytes=20 * gib + 1), "R-R8"),
        ("a byte less than was asked for", reply(growth, capacity_bytes=20 * gib - 1), "R-R8"),
        (
            "the new capacity instead of the growth",
            {"capacity_bytes": gib, "wanted_bytes": 21 * gib, **reply(growth, capacity_bytes=21 * gib)},
            "R-R8",
        ),
        ("from the future", reply(growth, from_at=anchor + 701), "R-R8"),
        ("from before the anchor", reply(growth, from_at=anchor - 601), "R-R8"),
        ("no time at all", reply(growth, until_at=anchor + 100), "R-R8"),
        ("until before it begins", reply(growth, until_at=anchor + 99), "R-R8"),
        ("until after the next period", reply(growth, until_at=anchor + 2 * month + 1), "R-R8"),
        ("another payee", invoice(growth, payee="02" + "11" * 32), "R-R11"),
        ("another network", invoice(growth, network="signet"), "R-R12"),
        ("no amount", invoice(growth, amount_msat=None), "R-R13"),
        ("less in the reply than in the invoice", reply(growth, amount_msat=whole - 1), "R-R13"),
        ("29 seconds left", invoice(growth, expires_at=anchor + 129), "R-R14"),
    ]
    return [
        *({"name": name, **case} for name, case in valid),
        *(
            {"name": f"rent: {name}", **rent, **change, "refused": rule}
            for name, change, rule in (*overcharged, *others)
        ),
        *({"name": f"growth: {name}", **growth, **change, "refused": rule} for name, change, rule in grown),
    ]
