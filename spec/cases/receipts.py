"""05b: receipts, acknowledgements, and bundles of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

from cases.common import ACCOUNT, ACCOUNT_ID, NODE, NODE_ID, NOW, STRANGER, Case, example_terms, key
from lnstore_protocol import bundles, cbor, receipts, terms
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import Msat, PaymentHash, ShareId
from lnstore_protocol.messages import InvoicePurpose
from lnstore_protocol.prices import Prices
from lnstore_protocol.receipts import Acknowledgement, Receipt

GIB, MONTH = terms.GIB, terms.MONTH_SECONDS
ANCHOR = NOW + 100
AGREEMENT = terms.Agreement.propose(example_terms(), ACCOUNT, ANCHOR).countersign(NODE)
GROWTH_MSAT = terms.rent_msat(20 * GIB, MONTH - 50, 2000)
SAMPLE = receipts.sample_hash(sorted(ShareId(key(f"share {i}")) for i in range(3)))
Body = dict[int, Any]


def _receipt(number: int, purpose: InvoicePurpose, index: int, amount: int, **fields: Any) -> Receipt:
    values: dict[str, Any] = {
        "account_id": ACCOUNT_ID,
        "node_id": NODE_ID,
        "number": number,
        "agreement_hash": receipts.agreement_hash(AGREEMENT.encoded),
        "purpose": purpose,
        "index": index,
        "from_at": ANCHOR + 50,
        "until_at": ANCHOR + 50,
        "capacity_bytes": 0,
        "amount_msat": Msat(amount),
        "received_msat": Msat(amount),
        "deposited_msat": Msat(0),
        "payment_hash": PaymentHash(sha256(key(f"preimage {number}")).digest()),
        "credited_at": ANCHOR + 60,
        "token_index": 0,
        "shares": 0,
        "sampled": 0,
        "sample_hash": receipts.NO_SAMPLE,
    }
    return Receipt(**values | fields)


def _rent(number: int, period: int, **fields: Any) -> Receipt:
    values: dict[str, Any] = {
        "from_at": ANCHOR + period * MONTH,
        "until_at": ANCHOR + (period + 1) * MONTH,
        "capacity_bytes": 20 * GIB,
        "token_index": period - 1,
        "shares": 3,
        "sampled": 3,
        "sample_hash": SAMPLE,
    }
    return _receipt(number, InvoicePurpose.RENT, period, 40_000, **values | fields)


def _growth(**fields: Any) -> Receipt:
    values: dict[str, Any] = {"until_at": ANCHOR + MONTH, "capacity_bytes": 20 * GIB}
    numbers = fields.pop("number", 0), InvoicePurpose.CAPACITY, fields.pop("index", 0)
    return _receipt(*numbers, GROWTH_MSAT, **values | fields)


def _deposit(**fields: Any) -> Receipt:
    return _receipt(1, InvoicePurpose.DEPOSIT, 0, 5000, **{"deposited_msat": Msat(5000)} | fields)


def _body(encoded: bytes) -> Body:
    body: Body = cbor.decode(encoded, what="receipt")
    return {number: value for number, value in body.items() if number != 64}


def _signed(body: Body, purpose: str, signer: Identity) -> str:
    return cbor.encode(body | {64: signer.sign(purpose, cbor.encode(body))}).hex()


def receipt_cases() -> list[Case]:
    """Structures, what a receipt says under its agreement, and whole bundles."""
    return [*_structures(), *_judged(), *_bundles()]


def _structures() -> list[Case]:
    rent = _body(_rent(2, 1).sign(NODE))
    word = _body(Acknowledgement.of(_rent(2, 1).sign(NODE), ANCHOR + 70).sign(ACCOUNT))
    valid = [
        ("a receipt for rent", "receipt", _signed(rent, "receipt", NODE)),
        ("a receipt for growth", "receipt", _growth().sign(NODE).hex()),
        ("a receipt for a deposit", "receipt", _deposit().sign(NODE).hex()),
        ("an unknown odd key, under the signature", "receipt", _signed(rent | {35: [0]}, "receipt", NODE)),
        ("an acknowledgement", "acknowledgement", _signed(word, "acknowledgement", ACCOUNT)),
    ]
    invalid = [
        ("empty", "receipt", "", "MALFORMED"),
        ("not a map", "receipt", "80", "MALFORMED"),
        ("cut short", "receipt", _signed(rent, "receipt", NODE)[:-2], "MALFORMED"),
        ("a byte after its end", "receipt", _signed(rent, "receipt", NODE) + "00", "MALFORMED"),
        ("an unknown even key", "receipt", _signed(rent | {36: 0}, "receipt", NODE), "UNKNOWN_FEATURE"),
        ("an unknown purpose", "receipt", _signed(rent | {8: 3}, "receipt", NODE), "MALFORMED"),
        ("a number that is text", "receipt", _signed(rent | {4: "2"}, "receipt", NODE), "MALFORMED"),
        ("a number that is true", "receipt", _signed(rent | {4: True}, "receipt", NODE), "MALFORMED"),
        ("a hash of 31 bytes", "receipt", _signed(rent | {24: bytes(31)}, "receipt", NODE), "MALFORMED"),
        ("no amount", "receipt", _signed({k: v for k, v in rent.items() if k != 18}, "receipt", NODE), "MALFORMED"),
        ("more than 512 bytes", "receipt", _signed(rent | {35: bytes(512)}, "receipt", NODE), "TOO_LARGE"),
        ("no signature", "receipt", cbor.encode(rent).hex(), "BAD_SIGNATURE"),
        ("another amount under the signature", "receipt", _altered(rent, 18, 39_999), "BAD_SIGNATURE"),
        ("another period under the signature", "receipt", _altered(rent, 10, 2), "BAD_SIGNATURE"),
        ("a receipt signed by its account", "receipt", _signed(rent, "receipt", ACCOUNT), "BAD_SIGNATURE"),
        ("signed for another purpose", "receipt", _signed(rent, "terms", NODE), "BAD_SIGNATURE"),
        ("a receipt as acknowledgement", "acknowledgement", _signed(rent, "receipt", NODE), "UNKNOWN_FEATURE"),
        (
            "an acknowledgement signed by the node",
            "acknowledgement",
            _signed(word, "acknowledgement", NODE),
            "BAD_SIGNATURE",
        ),
        ("an acknowledgement signed as receipt", "acknowledgement", _signed(word, "receipt", ACCOUNT), "BAD_SIGNATURE"),
        (
            "an acknowledgement without its time",
            "acknowledgement",
            _signed({k: v for k, v in word.items() if k != 10}, "acknowledgement", ACCOUNT),
            "MALFORMED",
        ),
    ]
    return [
        *({"op": "structure", "name": name, "kind": kind, "encoded": text} for name, kind, text in valid),
        *(
            {"op": "structure", "name": name, "kind": kind, "encoded": text, "error": error}
            for name, kind, text, error in invalid
        ),
    ]


def _altered(body: Body, number: int, value: int) -> str:
    encoded: Body = cbor.decode(bytes.fromhex(_signed(body, "receipt", NODE)), what="receipt")
    return cbor.encode(encoded | {number: value}).hex()


def _judged() -> list[Case]:
    """Receipts whose signatures fit: how many things are wrong with each under the agreement."""
    stranger = terms.Agreement.propose(example_terms(), STRANGER, ANCHOR).countersign(NODE)
    later = terms.Agreement.propose(example_terms(), ACCOUNT, ANCHOR + 1).countersign(NODE)
    own = [AGREEMENT]
    dearer = replace(example_terms().terms, price_msat_per_gib_month=Msat(3000)).sign(NODE)
    renewed = terms.Agreement.propose(dearer, ACCOUNT, ANCHOR, from_period=2).countersign(NODE)
    prices = Prices.of([AGREEMENT, renewed])
    over = _growth(number=3, index=1, from_at=ANCHOR + MONTH + 5, until_at=ANCHOR + 3 * MONTH, **_under(renewed))
    grown = replace(over, **_asked(prices.growth_msat(20 * GIB, over.from_at, over.until_at)))
    cases: list[tuple[str, Receipt, list[terms.Agreement]]] = [
        ("rent", _rent(2, 1), own),
        ("rent with nothing stored", _rent(2, 1, shares=0, sampled=0, sample_hash=receipts.NO_SAMPLE), own),
        ("rent, paid twice: all of it is deposit", _rent(2, 1, deposited_msat=Msat(40_000)), own),
        ("rent with more received", _rent(2, 1, received_msat=Msat(41_000), deposited_msat=Msat(1000)), own),
        ("growth", _growth(), own),
        ("rent at no price", _rent(2, 1, **_asked(0)), own),
        ("growth at no price", _growth(**_asked(0)), own),
        ("rent that asked for nothing and got something", _rent(2, 1, amount_msat=Msat(0)), own),
        ("deposit", _deposit(), own),
        ("rent: 1 msat too many", _rent(2, 1, amount_msat=Msat(40_001), received_msat=Msat(40_001)), own),
        ("rent: 1 msat too few", _rent(2, 1, amount_msat=Msat(39_999), received_msat=Msat(39_999)), own),
        ("rent: of another period", _rent(2, 2, from_at=ANCHOR + MONTH, until_at=ANCHOR + 2 * MONTH), own),
        ("rent: a second longer", _rent(2, 1, until_at=ANCHOR + 2 * MONTH + 1), own),
        ("rent: more sampled than held", _rent(2, 1, shares=2), own),
        ("rent: a sample of nothing", _rent(2, 1, sampled=0), own),
        ("rent: some of it went nowhere", _rent(2, 1, received_msat=Msat(41_000)), own),
        ("rent: less received, and not all deposited", _rent(2, 1, received_msat=Msat(39_000)), own),
        ("growth: for no time", _growth(until_at=ANCHOR + 50, amount_msat=Msat(1), received_msat=Msat(1)), own),
        ("growth: for ages", _growth(until_at=1 << 62, capacity_bytes=1, **_asked(1 << 62)), own),
        ("growth: for nothing", _growth(capacity_bytes=0, **_asked(2)), own),
        ("growth: with a proof", _growth(token_index=1), own),
        ("deposit: not deposited", _deposit(deposited_msat=Msat(0)), own),
        ("deposit: for capacity", _deposit(capacity_bytes=1), own),
        ("another account's agreement", _rent(2, 1), [stranger]),
        ("rent before a change of prices", _rent(2, 1, **_under(renewed)), [AGREEMENT, renewed]),
        ("rent after a change of prices", _rent(2, 2, **_under(renewed), **_asked(60_000)), [renewed, AGREEMENT]),
        ("growth across a change of prices", grown, [AGREEMENT, renewed]),
        ("rent at the prices of before", _rent(2, 2, **_under(renewed)), [AGREEMENT, renewed]),
        ("rent at the prices of after", _rent(2, 1, **_under(renewed), **_asked(60_000)), [AGREEMENT, renewed]),
        ("rent before the only agreement", _rent(2, 1, **_under(renewed)), [renewed]),
        ("growth across a change that is not there", replace(grown, **_under(AGREEMENT)), own),
        ("no agreement at all", _rent(2, 1), []),
        ("another anchor", _rent(2, 1), [later]),
        ("an agreement of this hash, of another account", _of(stranger), [stranger]),
        ("an agreement that the node did not sign", _of(_half()), [_half()]),
    ]
    return [
        {
            "op": "judge",
            "name": name,
            "receipt": receipt.sign(NODE).hex(),
            "agreements": [agreement.encoded.hex() for agreement in agreements],
            **_refused("faults", len(receipts.receipt_faults(receipt, agreements))),
        }
        for name, receipt, agreements in cases
    ]


def _under(agreement: terms.Agreement) -> Case:
    return {"agreement_hash": receipts.agreement_hash(agreement.encoded)}


def _asked(amount_msat: int) -> Case:
    return {"amount_msat": Msat(amount_msat), "received_msat": Msat(amount_msat)}


def _refused(what: str, count: int) -> Case:
    return {what: count, "refused": "RC-R8"} if count else {what: 0}


def _half() -> terms.Agreement:
    return terms.Agreement.propose(example_terms(), ACCOUNT, ANCHOR)


def _of(agreement: terms.Agreement) -> Receipt:
    return _rent(2, 1, agreement_hash=receipts.agreement_hash(agreement.encoded))


def _line(receipt: Receipt, **change: Any) -> str:
    encoded = receipt.sign(NODE)
    acknowledgement = Acknowledgement.of(encoded, ANCHOR + 70).sign(ACCOUNT)
    parts: dict[str, Any] = {"preimage": key(f"preimage {receipt.number}"), "acknowledgement": acknowledgement}
    return bundles.receipt_line(encoded, **parts | change)


def _bundles() -> list[Case]:
    """Whole bundles, and each with one thing wrong."""
    agreed = bundles.agreement_line(AGREEMENT.encoded)
    whole = [bundles.HEADER, agreed, *map(_line, (_growth(), _deposit(), _rent(2, 1), _rent(3, 2)))]
    bare = [*whole[:-1], bundles.receipt_line(_rent(3, 2).sign(NODE))]
    other_word = Acknowledgement.of(_rent(3, 2).sign(NODE), ANCHOR).sign(ACCOUNT)
    fewer = Acknowledgement(
        account_id=ACCOUNT_ID,
        node_id=NODE_ID,
        number=2,
        receipt_hash=receipts.receipt_hash(_rent(2, 1).sign(NODE)),
        verified_shares=2,
        at=ANCHOR,
    ).sign(ACCOUNT)
    build: Callable[..., list[str]] = lambda *lines: [*whole[:4], *lines]  # noqa: E731 - one line says it
    cases: list[tuple[str, list[str]]] = [
        ("a whole bundle", whole),
        ("a bundle without the last preimage and acknowledgement", bare),
        ("only the first line", whole[:1]),
        ("an empty bundle", []),
        ("no first line", whole[1:]),
        ("a line that is no JSON", [*whole, "receipt"]),
        ("a line that is no object", [*whole, "[]"]),
        ("a line with something else", [*whole, '{"agreement": "00", "receipt": "00"}']),
        ("bytes that are not hex", [*whole, '{"receipt": "xx"}']),
        ("no agreement", [whole[0], *whole[2:3]]),
        ("a receipt is left out", [*whole[:3], *whole[4:]]),
        ("a receipt stands there twice", [*whole, whole[-1]]),
        ("receipts in another order", [*whole[:3], whole[4], whole[3], whole[5]]),
        ("nothing was taken for a period", build(_line(_rent(2, 1)), _line(_rent(3, 3)))),
        ("nothing was taken for periods 1 to 11", build(_line(_rent(2, 12)))),
        ("a receipt is left out where a period is", build(_line(_rent(2, 1)), _line(_rent(4, 3)))),
        ("a period is paid twice", build(_line(_rent(2, 1)), _line(_rent(3, 1)))),
        ("a period overpaid into the deposit", build(_line(_rent(2, 1)), _line(_rent(3, 1, deposited_msat=40_000)))),
        ("another preimage", build(_line(_rent(2, 1), preimage=key("preimage 3")))),
        ("another receipt's acknowledgement", build(_line(_rent(2, 1), acknowledgement=other_word))),
        ("an acknowledgement of fewer shares", build(_line(_rent(2, 1), acknowledgement=fewer))),
        ("an acknowledgement that is none", build(_line(_rent(2, 1), acknowledgement=b"\xa0"))),
        ("an overcharge", build(_line(_rent(2, 1, amount_msat=40_001, received_msat=40_001)))),
    ]
    return [{"op": "bundle", "name": name, "lines": lines, **_checked(lines)} for name, lines in cases]


def _checked(lines: list[str]) -> Case:
    check = bundles.BundleCheck()
    check.feed(lines)
    check.finish()
    uncharged = sum(series.uncharged_periods for series in check.series)
    return _refused("found", check.found) | ({"uncharged_periods": uncharged} if uncharged else {})
