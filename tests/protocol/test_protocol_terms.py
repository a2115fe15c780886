"""Signed terms, agreements and records; the rent arithmetic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_scalarmult_base
from protocol_strategies import CLIENT_KEY, NODE_ID, NODE_KEY, example_terms, uint63

from lnstore_protocol import cbor, terms
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.identity import Identity, verify, x25519_public
from lnstore_protocol.ids import AccountId, LightningId, NodeId
from lnstore_protocol.terms import Agreement, ChannelPolicy, Record, SignedTerms, rent_msat, traffic_msat

OTHER_KEY = Identity(b"\x33" * 32)
SIGNED = example_terms().sign(NODE_KEY)
PROPOSED = Agreement.propose(SIGNED, CLIENT_KEY, anchor_at=1_800_000_123)
AGREED = PROPOSED.countersign(NODE_KEY)
RECORD = Record(account_id=AccountId(CLIENT_KEY.public_key), name=b"catalog", sequence=7, value=b"v" * 100)


def resigned(encoded: bytes, context: str, key: Identity, **changes: Any) -> bytes:
    """A signed map with some keys changed (kN=value, None removes) and a right signature."""
    body: dict[int, Any] = cbor.decode(encoded, what="")
    for name, value in changes.items():
        if value is None:
            del body[int(name[1:])]
        else:
            body[int(name[1:])] = value
    body.pop(64)
    body[64] = key.sign(context, cbor.encode(body))
    return cbor.encode(body)


def refused(decode: Any, encoded: bytes) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as info:
        decode(encoded)
    return info.value


# --- arithmetic -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capacity", "seconds", "price", "msat"),
    [
        (20 << 30, 2_592_000, 2000, 40_000),
        (1 << 30, 2_592_000, 2000, 2000),
        (1, 1, 1, 1),
        (0, 2_592_000, 2000, 0),
        (1 << 30, 0, 2000, 0),
        (1 << 30, 2_592_000, 0, 0),
        ((1 << 30) + 1, 2_592_000, 2000, 2001),
        (1 << 50, 31_536_000, 10**9, 12_757_674_666_666_667),
    ],
)
def test_rent(capacity: int, seconds: int, price: int, msat: int) -> None:
    """Rounded up to a whole msat, exact at any size."""
    assert rent_msat(capacity, seconds, price) == msat


@given(st.integers(0, 1 << 60), st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_rent_is_the_ceiling_of_the_exact_value(capacity: int, seconds: int, price: int) -> None:  # R-W2
    """Never less, and less than one msat more."""
    exact = Fraction(capacity * seconds * price, (1 << 30) * 2_592_000)
    assert 0 <= rent_msat(capacity, seconds, price) - exact < 1
    exact = Fraction(capacity * price, 1 << 30)
    assert 0 <= traffic_msat(capacity, price) - exact < 1


def test_negative_amounts_are_mistakes() -> None:
    """Of this side."""
    for values in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)):
        with pytest.raises(ValueError, match="negative"):
            rent_msat(*values)
    with pytest.raises(ValueError, match="negative"):
        traffic_msat(-1, 1)


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 30), st.integers(0, 1 << 41))
def test_every_time_lies_in_its_period(anchor: int, seconds: int, at: int) -> None:
    """Starts belong to the period, ends to the next."""
    index = terms.period_at(anchor, seconds, at)
    assert terms.period_start(anchor, seconds, index) <= at < terms.period_start(anchor, seconds, index + 1)
    assert terms.period_at(anchor, seconds, anchor) == 0


def test_the_binding_names_both_keys() -> None:
    """What a Lightning daemon signs for its node."""
    lightning_id = LightningId(b"\x02" + b"\x33" * 32)
    assert terms.binding_text(NODE_ID, lightning_id) == f"lnstore node {NODE_ID} is paid at {lightning_id}"


# --- terms ------------------------------------------------------------------------------------------------------------


@given(uint63, uint63, st.sampled_from(ChannelPolicy), st.text(max_size=10))
def test_terms_round_trip(price: int, grace: int, policy: ChannelPolicy, network: str) -> None:
    """Signed, encoded, decoded: equal; signing again gives the same bytes."""
    sheet = example_terms(price_msat_per_gib_month=price, grace_seconds=grace, channel_policy=policy, network=network)
    signed = sheet.sign(NODE_KEY)
    assert SignedTerms.decode(signed.encoded) == signed
    assert signed.terms == sheet
    assert sheet.sign(NODE_KEY) == signed


def test_terms_are_signed_by_the_node_they_name() -> None:
    """Another key is this side's mistake when signing, and a bad signature when reading."""
    with pytest.raises(ValueError, match="node they name"):
        example_terms().sign(OTHER_KEY)
    assert refused(SignedTerms.decode, resigned(SIGNED.encoded, "terms", OTHER_KEY)).code is ErrorCode.BAD_SIGNATURE


@given(st.data())
def test_no_changed_byte_passes_in_terms(data: st.DataObject) -> None:
    """The signature covers all of it."""
    encoded = bytearray(SIGNED.encoded)
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    refused(SignedTerms.decode, bytes(encoded))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"k98": 1}, ErrorCode.UNKNOWN_FEATURE),
        ({"k4": None}, ErrorCode.MALFORMED),
        ({"k4": b"bytes"}, ErrorCode.MALFORMED),
        ({"k6": True}, ErrorCode.MALFORMED),
        ({"k6": "2000"}, ErrorCode.MALFORMED),
        ({"k0": b"short"}, ErrorCode.MALFORMED),
        ({"k20": 9}, ErrorCode.MALFORMED),
        ({"k12": 0}, ErrorCode.MALFORMED),
        ({"k18": 5}, ErrorCode.MALFORMED),
    ],
)
def test_terms_with_a_fault_are_refused(changes: dict[str, Any], code: ErrorCode) -> None:  # C-R8, R-R2
    """Also under a right signature."""
    assert refused(SignedTerms.decode, resigned(SIGNED.encoded, "terms", NODE_KEY, **changes)).code is code


def test_unknown_odd_keys_in_terms_are_passed_over_but_signed() -> None:  # C-R9
    """A newer node may say more; nobody else may."""
    newer = resigned(SIGNED.encoded, "terms", NODE_KEY, k99="new")
    assert SignedTerms.decode(newer).terms == SIGNED.terms
    body = cbor.decode(newer, what="") | {99: "changed"}
    assert refused(SignedTerms.decode, cbor.encode(body)).code is ErrorCode.BAD_SIGNATURE


@pytest.mark.parametrize("encoded", [b"", b"\x80", cbor.encode({}), cbor.encode({64: 5}), cbor.encode("terms")])
def test_what_is_no_signed_map_is_refused(encoded: bytes) -> None:
    """In each of the three structures."""
    for decode in (SignedTerms.decode, Agreement.decode, Record.decode):
        refused(decode, encoded)


# --- agreements -------------------------------------------------------------------------------------------------------


def test_an_agreement_has_two_halves() -> None:
    """Proposed by the account, countersigned by the node; both read back."""
    assert Agreement.decode(PROPOSED.encoded) == PROPOSED
    assert Agreement.decode(AGREED.encoded) == AGREED
    assert (PROPOSED.countersigned, AGREED.countersigned) == (False, True)
    assert AGREED.account_id == CLIENT_KEY.public_key
    assert AGREED.terms == SIGNED
    assert AGREED.countersign(NODE_KEY) == AGREED
    with pytest.raises(ValueError, match="node its terms name"):
        PROPOSED.countersign(OTHER_KEY)


@given(st.data())
def test_no_changed_byte_passes_in_an_agreement(data: st.DataObject) -> None:  # R-R1
    """Neither in the terms within, nor in the two signatures."""
    encoded = bytearray(AGREED.encoded)
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    refused(Agreement.decode, bytes(encoded))


def test_the_node_signs_what_the_account_signed() -> None:
    """The countersignature covers the account's; a signature of another account does not pass."""
    body = cbor.decode(AGREED.encoded, what="")
    moved = body | {4: 1_800_000_124}
    assert refused(Agreement.decode, cbor.encode(moved)).code is ErrorCode.BAD_SIGNATURE
    foreign = body | {2: bytes(OTHER_KEY.public_key)}
    assert refused(Agreement.decode, cbor.encode(foreign)).code is ErrorCode.BAD_SIGNATURE
    swapped = body | {64: body[66]}
    assert refused(Agreement.decode, cbor.encode(swapped)).code is ErrorCode.BAD_SIGNATURE


# --- records ----------------------------------------------------------------------------------------------------------


def test_records_round_trip() -> None:
    """Signed by their account, at most 32 bytes of name and 4,096 of value."""
    assert Record.decode(RECORD.sign(CLIENT_KEY)) == RECORD
    with pytest.raises(ValueError, match="own account"):
        RECORD.sign(OTHER_KEY)
    for name, value in ((b"n" * 33, b""), (b"", b"v" * 4097)):
        record = Record(account_id=RECORD.account_id, name=name, sequence=1, value=value)
        with pytest.raises(ValueError, match="too long"):
            record.sign(CLIENT_KEY)


def test_records_of_others_and_too_long_ones_are_refused() -> None:
    """With the code that says which."""
    encoded = RECORD.sign(CLIENT_KEY)
    assert refused(Record.decode, resigned(encoded, "record", OTHER_KEY)).code is ErrorCode.BAD_SIGNATURE
    assert refused(Record.decode, resigned(encoded, "terms", CLIENT_KEY)).code is ErrorCode.BAD_SIGNATURE
    for change in ({"k2": b"n" * 33}, {"k6": b"v" * 4097}):
        assert refused(Record.decode, resigned(encoded, "record", CLIENT_KEY, **change)).code is ErrorCode.TOO_LARGE


# --- identity ---------------------------------------------------------------------------------------------------------


def test_a_signature_is_for_one_purpose_one_message_one_key() -> None:
    """Context, message, key and length all count."""
    signature = CLIENT_KEY.sign("terms", b"message")
    verify(CLIENT_KEY.public_key, "terms", b"message", signature)
    for key, context, message, mark in (
        (CLIENT_KEY.public_key, "record", b"message", signature),
        (CLIENT_KEY.public_key, "terms", b"massage", signature),
        (OTHER_KEY.public_key, "terms", b"message", signature),
        (CLIENT_KEY.public_key, "terms", b"message", signature[:-1]),
        (b"short", "terms", b"message", signature),
    ):
        with pytest.raises(RemoteProtocolError) as info:
            verify(key, context, message, mark)
        assert info.value.code is ErrorCode.BAD_SIGNATURE


def test_both_forms_of_a_key_belong_together() -> None:
    """The X25519 form of the secret key is that of the public key's; no key, no form."""
    for _ in range(3):
        identity = Identity.generate()
        assert crypto_scalarmult_base(identity.x25519_private()) == x25519_public(identity.public_key)
        assert Identity(identity.seed).public_key == identity.public_key
    for bad in (b"", bytes(32), b"\xff" * 32):
        with pytest.raises(RemoteProtocolError, match="valid Ed25519"):
            x25519_public(bad)


def test_an_identity_prints_its_public_key_only() -> None:  # S-R1
    """Logs hold no seeds."""
    assert repr(CLIENT_KEY) == f"Identity({NodeId(CLIENT_KEY.public_key)})"
