"""The conformance program's own readers of BOLT11 and of Lightning signatures, held against others'."""

from __future__ import annotations

import hashlib

import pytest
from coincurve import PrivateKey, PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from lnstore.lightning.messages import recover_signer
from lnstore_protocol.conformance import bolt11, curve

PAYEE = "03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad"
COFFEE = (
    "lnbc2500u1pvjluezpp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpuaztrnwngzn3kdz"
    "w5hydlzf03qdgm2hdq27cqv3agm2awhz5se903vruatfhq77w3ls4evs3ch9zw97j25emudupq63nyw24cg27h2rspfj9srp"
)
"""BOLT 11's example of a cup of coffee."""

secrets = st.integers(1, 2**256 - 2**129)


def test_the_example_of_bolt_11() -> None:
    invoice = bolt11.decode(COFFEE)
    assert invoice == bolt11.decode(COFFEE.upper())
    assert (invoice.prefix, invoice.amount_msat, invoice.expiry_seconds) == ("bc", 250_000_000, 60)
    assert (invoice.created_at, invoice.description) == (1_496_314_658, "1 cup coffee")
    assert invoice.payment_hash.hex() == "0001020304050607080900010203040506070809000102030405060708090102"
    assert invoice.payee.hex() == PAYEE


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lnbc1",
        COFFEE[:-1],
        COFFEE[:-1] + "q",
        COFFEE.replace("2500u", "2501u"),
        COFFEE[0].upper() + COFFEE[1:],
        COFFEE.replace("q", "b", 1),
        "lnsr1" + COFFEE[5:],
    ],
)
def test_what_is_no_invoice_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        bolt11.decode(text)


@settings(max_examples=4, deadline=None)
@given(secrets, st.binary(min_size=32, max_size=32))
def test_signatures_are_those_of_libsecp256k1(secret: int, digest: bytes) -> None:
    """It recovers the same key from ours, and we from its; its keys are ours."""
    key = PrivateKey.from_int(secret)
    public = key.public_key.format()
    assert curve.public_key(secret) == public
    ours = curve.sign(secret, digest)
    assert curve.recover(digest, ours) == public
    assert PublicKey.from_signature_and_message(ours, digest, hasher=None).format() == public
    assert curve.recover(digest, key.sign_recoverable(digest, hasher=None)) == public
    assert curve.recover(hashlib.sha256(digest).digest(), ours) != public


@settings(max_examples=3, deadline=None)
@given(secrets, st.text(max_size=50))
def test_signed_messages_are_those_of_core_lightning(secret: int, text: str) -> None:
    """As lnstore, which is held against real daemons, reads them."""
    zbase = curve.sign_message(secret, text)
    assert curve.message_signer(text, zbase).hex() == recover_signer(text, zbase) == curve.public_key(secret).hex()
    assert curve.message_signer(text + "!", zbase) != curve.public_key(secret)


@pytest.mark.parametrize("zbase", ["", "y" * 103, "y" * 104, "0" * 104, "d" + "9" * 103])
def test_what_is_no_signature_is_refused(zbase: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        curve.message_signer("text", zbase)
