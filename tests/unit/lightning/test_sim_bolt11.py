"""Invoices and signatures of the simulated network are real ones."""

from __future__ import annotations

import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnstore.lightning.messages import recover_signer
from lnstore.lightning.simulated import bolt11, crypto
from lnstore_protocol.ids import LightningId

# BOLT 11, "Examples": 2500 micro-bitcoin for a cup of coffee, signed by the specification's test key.
SPECIFIED = (
    "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqw"
    "zqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0"
    "eh0ymjpf39tuven09sam30g4vgpfna3rh"
)


def test_the_specifications_example() -> None:
    """The example in BOLT 11 decodes to what the specification says."""
    decoded = bolt11.decode(SPECIFIED)
    assert decoded.payee == "03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad"
    assert decoded.amount_msat == 250_000_000
    assert decoded.description == "1 cup coffee"
    assert decoded.payment_secret == "11" * 32
    assert decoded.payment_hash == "000102030405060708090001020304050607080900010203040506070809" + "0102"
    assert (decoded.created_at, decoded.expiry, decoded.currency) == (1_496_314_658, 60, "bc")


@given(
    amount=st.none() | st.integers(1, 10**14),
    description=st.text(max_size=100),
    expiry=st.integers(1, 2**31 - 1),
    cltv=st.integers(1, 2016),
    secret=st.binary(min_size=32, max_size=32).filter(lambda raw: 0 < int.from_bytes(raw, "big") < 2**255),
    preimage=st.binary(min_size=32, max_size=32),
)
def test_round_trip(
    *, amount: int | None, description: str, expiry: int, cltv: int, secret: bytes, preimage: bytes
) -> None:
    """What is put into an invoice comes out of it, signed by its payee."""
    text = bolt11.encode(
        secret=secret,
        payment_hash=hashlib.sha256(preimage).digest(),
        payment_secret=preimage,
        amount_msat=amount,
        description=description,
        created_at=1_700_000_000,
        expiry=expiry,
        final_cltv=cltv,
    )
    decoded = bolt11.decode(text)
    assert decoded == bolt11.Bolt11(
        currency="bcrt",
        created_at=1_700_000_000,
        expiry=expiry,
        payee=crypto.public_key(secret),
        payment_hash=hashlib.sha256(preimage).hexdigest(),
        signature=decoded.signature,
        amount_msat=amount,
        description=description,
        description_hash=None,
        payment_secret=preimage.hex(),
        features="02024100",
        final_cltv=cltv,
    )


@given(st.data())
def test_a_damaged_invoice_is_none(data: st.DataObject) -> None:
    """One changed character is noticed."""
    position = data.draw(st.integers(10, len(SPECIFIED) - 1))
    other = data.draw(st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l").filter(lambda c: c != SPECIFIED[position]))
    with pytest.raises(ValueError, match="Bad bech32"):
        bolt11.decode(SPECIFIED[:position] + other + SPECIFIED[position + 1 :])


@pytest.mark.parametrize("text", ["", "garbage", "lnbc", "lnbcrt1", "lno1qq", "1" * 200, "lnbc1é"])
def test_garbage(text: str) -> None:
    """Anything else is a ValueError."""
    with pytest.raises(ValueError, match="bech32"):
        bolt11.decode(text)


@given(st.text(max_size=200))
def test_signed_messages(message: str) -> None:
    """A signature is its key's and its message's, as lightningd makes them."""
    secret = crypto.new_secret()
    signed = crypto.sign_message(secret, message)
    assert recover_signer(message, signed.zbase) == crypto.public_key(secret)
    assert recover_signer(message + ".", signed.zbase) != crypto.public_key(secret)


def test_signing_is_deterministic_and_garbage_refused() -> None:
    """The same text signed twice gives the same signature; what is not zbase32 of the right length is refused."""
    assert crypto.sign_message(b"\x01" * 32, "x").zbase == crypto.sign_message(b"\x01" * 32, "x").zbase
    for text in ("", "y" * 103, "!" * 104, "é" * 104):
        with pytest.raises(ValueError, match="zbase32"):
            recover_signer("x", text)


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses have the form of their kind, and node ids are points on the curve."""
    assert crypto.new_script(0).address.startswith("bcrt1q")
    assert crypto.new_script(1).address.startswith("bcrt1p")
    # BIP 350's test vector for a version 1 output.
    program = bytes.fromhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
    monkeypatch.setattr(crypto, "NETWORK_PREFIX", "bc")
    assert crypto.witness_script(1, program) == crypto.Script(
        "5120" + program.hex(), "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0"
    )
    key = LightningId.from_hex(crypto.public_key(os.urandom(32)))
    assert crypto.is_public_key(key.hex())
    assert not crypto.is_public_key("02" + "11" * 32)
    assert not crypto.is_public_key("zz")
