"""Checks of 05, signed structures, and of 02a, opening accounts: what a node does with every wrong agreement."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import cbor2

from lnstore_protocol import cbor
from lnstore_protocol.conformance.tenant import judge_agreement, open_account, status, take_terms
from lnstore_protocol.conformance.trial import Checks, Trial
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import LightningId, NodeId
from lnstore_protocol.messages import AccountState, AccountStatus, OpenAccount, OpenAccountReply, RenewAgreement
from lnstore_protocol.terms import Agreement

CHECKS = Checks()
MALFORMED: Final = ErrorCode.MALFORMED
BAD_SIGNATURE: Final = ErrorCode.BAD_SIGNATURE
SIGNATURE = 64
NODE_SIGNATURE = 66


def signed(body: dict[Any, Any], purpose: str, identity: Identity, *, canonical: bool = True) -> bytes:
    """The encoding of a map with this identity's signature under key 64, deterministic or (else) not."""
    unsigned = {key: value for key, value in body.items() if key not in (SIGNATURE, NODE_SIGNATURE)}
    whole = body | {SIGNATURE: identity.sign(purpose, cbor2.dumps(unsigned, canonical=True))}
    if canonical:
        return cbor2.dumps(whole, canonical=True)
    return cbor2.dumps(dict(sorted(whole.items(), reverse=True)))


def broken_encodings(
    body: dict[int, Any], purpose: str, identity: Identity, *, key: int
) -> list[tuple[str, str, bytes, tuple[ErrorCode, ...]]]:
    """(requirement, what, bytes, codes) of a structure broken in its CBOR; `key` is an integer field of it."""
    good = signed(body, purpose, identity)
    long_key = cbor2.dumps(body[key])
    at = good.index(bytes([key]) + long_key)
    longer = good[:at] + bytes([key]) + b"\x1b" + body[key].to_bytes(8, "big") + good[at + 1 + len(long_key) :]
    unsigned = (BAD_SIGNATURE,)
    missing = {k: v for k, v in body.items() if k != key}
    return [
        ("C-R6", "keys that are not in order", signed(body, purpose, identity, canonical=False), (MALFORMED,)),
        ("C-R6", "an integer in a longer encoding", longer if len(long_key) < 9 else good + b"\0", (MALFORMED,)),
        ("C-R6", "a byte after it", good + b"\0", (MALFORMED,)),
        ("C-R6", "its last byte missing", good[:-1], (MALFORMED,)),
        ("C-R6", "no end to its map", b"\xbf" + good[1:] + b"\xff", (MALFORMED,)),
        ("C-R7", "a key that is there twice", _twice(good, body), (MALFORMED,)),
        ("C-R7", "a float", signed(body | {key: 1.5}, purpose, identity), (MALFORMED,)),
        ("C-R7", "a tag", signed(body | {201: cbor2.CBORTag(99, 1)}, purpose, identity), (MALFORMED,)),
        ("C-R7", "a negative integer", signed(body | {key: -1}, purpose, identity), (MALFORMED,)),
        ("C-R7", "2^63", signed(body | {key: 1 << 63}, purpose, identity), (MALFORMED,)),
        ("C-R7", "five levels", signed(body | {201: [[[[[1]]]]]}, purpose, identity), (MALFORMED,)),
        ("C-R7", "a key that is text", signed({**body, "a": 1}, purpose, identity), (MALFORMED,)),
        ("C-R8", "a required key missing", signed(missing, purpose, identity), (MALFORMED,)),
        ("C-R8", "an unknown even key", signed(body | {40: 1}, purpose, identity), (ErrorCode.UNKNOWN_FEATURE,)),
        ("R-R1", "no signature", cbor.encode(body), unsigned),
        ("R-R1", "a short signature", cbor.encode(body | {SIGNATURE: bytes(63)}), unsigned),
        ("R-R1", "a signature of zeros", cbor.encode(body | {SIGNATURE: bytes(64)}), (BAD_SIGNATURE,)),
        ("R-R1", "another purpose's signature", signed(body, "receipt", identity), (BAD_SIGNATURE,)),
        ("R-R1", "another key's signature", signed(body, purpose, Identity.generate()), (BAD_SIGNATURE,)),
        ("R-R1", "a field changed after signing", _changed(good, body, key), (BAD_SIGNATURE,)),
    ]


def _twice(good: bytes, body: dict[int, Any]) -> bytes:
    first = min(body)
    item = cbor2.dumps(first) + cbor2.dumps(body[first], canonical=True)
    return bytes([good[0] + 1]) + item + good[1:]


def _changed(good: bytes, body: dict[int, Any], key: int) -> bytes:
    return cbor.encode(cbor2.loads(good) | {key: body[key] + 1})


# --- agreements -------------------------------------------------------------------------------------------------------


def _proposal(trial: Trial, identity: Identity) -> dict[int, Any]:
    encoded = Agreement.propose(take_terms(trial), identity, trial.bench.now()).encoded
    body: dict[int, Any] = cbor2.loads(encoded)
    del body[SIGNATURE]
    return body


@CHECKS.on("MA-R4", "C-R6", "C-R7", "C-R8", "R-R1")
def broken_agreements(trial: Trial) -> None:
    """Agreements that break their form or whose signature does not fit are refused, and open nothing."""
    identity = Identity.generate()
    body = _proposal(trial, identity)
    link = trial.link(identity)
    for requirement, what, encoded, codes in broken_encodings(body, "agreement", identity, key=4):
        trial.refusal(requirement, link, OpenAccount(agreement=encoded), *codes, what=f"an agreement with {what}")
    trial.refusal("MA-R8", link, _STATUS, ErrorCode.NO_ACCOUNT)
    trial.reached.add("MA-R4")


@CHECKS.on("MA-R4")
def anothers_agreement(trial: Trial) -> None:
    """An agreement of another account is refused, though its signature fits."""
    other = Identity.generate()
    agreement = Agreement.propose(take_terms(trial), other, trial.bench.now())
    trial.refusal("MA-R4", trial.link(), OpenAccount(agreement=agreement.encoded), BAD_SIGNATURE)


@CHECKS.on("MA-R4", "R-R2")
def terms_that_are_not_the_nodes(trial: Trial) -> None:
    """Agreements over terms of another node, for another Lightning id, changed, or forged are refused."""
    signed_terms = take_terms(trial)
    identity, stranger = Identity.generate(), Identity.generate()
    terms = signed_terms.terms
    theirs = dataclasses.replace(terms, node_id=NodeId(stranger.public_key)).sign(stranger)
    other: dict[int, Any] = cbor2.loads(signed_terms.encoded) | {6: terms.price_msat_per_gib_month ^ 1}
    forged = dataclasses.replace(signed_terms, encoded=cbor.encode(other))
    misled = dataclasses.replace(terms, lightning_id=LightningId(b"\2" * 33), node_id=NodeId(stranger.public_key))
    link = trial.link(identity)
    for what, proposed, codes in (
        ("another node's terms", theirs, (ErrorCode.TERMS_CHANGED,)),
        ("another node's terms for another Lightning id", misled.sign(stranger), (ErrorCode.TERMS_CHANGED,)),
        ("the node's terms with other prices", forged, (BAD_SIGNATURE, ErrorCode.TERMS_CHANGED)),
    ):
        agreement = Agreement.propose(proposed, identity, trial.bench.now())
        trial.refusal("MA-R4", link, OpenAccount(agreement=agreement.encoded), *codes, what=what)
    trial.refusal("MA-R8", link, _STATUS, ErrorCode.NO_ACCOUNT)


@CHECKS.on("MA-R4")
def agreements_from_a_later_period(trial: Trial) -> None:
    """An account's first agreement begins with period 0."""
    identity = Identity.generate()
    late = Agreement.propose(take_terms(trial), identity, trial.bench.now(), from_period=1)
    trial.refusal("MA-R4", trial.link(identity), OpenAccount(agreement=late.encoded), ErrorCode.MALFORMED)


@CHECKS.on("MA-R5")
def anchors_far_away(trial: Trial) -> None:
    """An anchor more than 600 seconds from the node's clock is refused."""
    now = trial.hello().now_at
    for anchor_at in (now - 700, now + 700, 0, (1 << 63) - 1):
        identity = Identity.generate()
        agreement = Agreement.propose(take_terms(trial), identity, anchor_at)
        trial.refusal("MA-R5", trial.link(identity), OpenAccount(agreement=agreement.encoded), _ACCOUNT_REFUSED)


@CHECKS.on("MA-R7", "MA-R3", "MA-R8", "C-R9", "R-W3")
def opening_an_account(trial: Trial) -> None:
    """A new account gets the agreement signed by both, and the same one whatever it proposes later."""
    tenant = open_account(trial)
    link = trial.link(tenant.identity)
    first = status(trial, link)
    trial.require("MA-R3", first.agreement == tenant.agreement.encoded, "account_status shows another agreement")
    trial.require("R-W3", first.state is AccountState.ACTIVE, f"a new account is {first.state.name}")
    trial.require("MA-R8", first.anchor_at == tenant.agreement.anchor_at, "account_status shows another anchor")
    later = Agreement.propose(take_terms(trial), tenant.identity, tenant.agreement.anchor_at + 100)
    for encoded in (later.encoded, b"\xa0", b""):
        reply = trial.reply(link, OpenAccount(agreement=encoded), OpenAccountReply, "MA-R3")
        same = reply.agreement == tenant.agreement.encoded
        trial.require("MA-R3", same, "opening an account that exists gave another agreement")


@CHECKS.on("MA-R27", "MA-W7", "R-W27")
def renewals_that_nobody_announced(trial: Trial) -> None:
    """Where no change is announced none can be signed; a broken agreement or another account's is no renewal either."""
    tenant = open_account(trial)
    link = trial.link(tenant.identity)
    shown = status(trial, link)
    told = [shown.announced_terms, shown.announced_period, shown.announced_at]
    trial.require("MA-W7", told.count(None) in (0, 3), "account_status tells one part of a change without the others")
    trial.require(
        "R-W27", shown.announced_terms is None, "a change is announced to an account that was opened just now"
    )
    terms, anchor_at = take_terms(trial), tenant.agreement.anchor_at
    renewed = Agreement.propose(terms, tenant.identity, anchor_at, from_period=terms.terms.price_periods + 2)
    other = Agreement.propose(terms, Identity.generate(), anchor_at, from_period=terms.terms.price_periods + 2)
    for what, encoded, code in (
        ("a renewal that was not announced", renewed.encoded, ErrorCode.TERMS_CHANGED),
        ("another account's renewal", other.encoded, BAD_SIGNATURE),
        ("a renewal that is no agreement", b"\xa0", ErrorCode.BAD_SIGNATURE),
    ):
        trial.refusal("MA-R27", link, RenewAgreement(agreement=encoded), code, what=what)
    nobody = Identity.generate()
    theirs = Agreement.propose(terms, nobody, anchor_at)
    trial.refusal(
        "MA-R27", trial.link(nobody), RenewAgreement(agreement=theirs.encoded), ErrorCode.NO_ACCOUNT, what="a renewal"
    )
    after = status(trial, link)
    trial.require("MA-R27", after.agreement == shown.agreement, "a refused renewal changed the agreement")


@CHECKS.on("C-R9")
def odd_keys_in_agreements(trial: Trial) -> None:
    """An unknown odd key in an agreement is passed over, kept, and covered by the node's signature."""
    identity = Identity.generate()
    proposed = signed(_proposal(trial, identity) | {201: [b"new", {1: True}]}, "agreement", identity)
    reply = trial.reply(trial.link(identity), OpenAccount(agreement=proposed), OpenAccountReply, "C-R9")
    judge_agreement(trial, reply.agreement, identity)
    kept = cbor2.loads(reply.agreement).get(201) == [b"new", {1: True}]
    trial.require("C-R9", kept, "the key is missing from the agreement that came back")


_ACCOUNT_REFUSED: Final = ErrorCode.ACCOUNT_REFUSED
_STATUS: Final = AccountStatus()
