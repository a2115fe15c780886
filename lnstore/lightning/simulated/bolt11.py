"""BOLT11 invoices: real ones, signed by the virtual node's key (docs/adr/0002 says why with which library)."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import bitstring
import coincurve
from pyln.proto import invoice as pyln

CURRENCY = "bcrt"
FINAL_CLTV = 10
FEATURES = bytes.fromhex("02024100")
"""Variable onion, payment secret, multi-part, route blinding: what lightningd's invoices say."""
_DEFAULT_EXPIRY_SECONDS = 3600
_DEFAULT_FINAL_CLTV = 18
_MSAT_PER_BTC = 10**11


@dataclass(frozen=True, slots=True)
class Bolt11:
    """A decoded invoice; hashes, keys and signature are hex, times are seconds."""

    currency: str
    created_at: int
    expiry: int
    payee: str
    payment_hash: str
    signature: str
    amount_msat: int | None
    description: str | None
    description_hash: str | None
    payment_secret: str | None = field(repr=False)
    features: str
    final_cltv: int

    @property
    def expires_at(self) -> int:
        """Unix seconds."""
        return self.created_at + self.expiry


def encode(
    *,
    secret: bytes,
    payment_hash: bytes,
    payment_secret: bytes,
    amount_msat: int | None,
    description: str | bytes,
    created_at: int,
    expiry: int,
    final_cltv: int,
) -> str:
    """The signed invoice. `description` as bytes is the SHA-256 of one."""
    # pyln's own Invoice.encode knows neither payment secret nor features, without which nobody pays an invoice
    # today; this is its sequence with those fields, from its own pieces.
    data = bitstring.pack("uint:35", created_at)
    data += pyln.tagged_bytes("s", payment_secret)
    data += pyln.tagged_bytes("p", payment_hash)
    if isinstance(description, str):
        data += pyln.tagged_bytes("d", description.encode())
    else:
        data += pyln.tagged_bytes("h", description)
    data += pyln.tagged("x", _shortest(expiry))
    data += pyln.tagged("c", _shortest(final_cltv))
    data += pyln.tagged("9", bitstring.BitArray(uint=int.from_bytes(FEATURES, "big"), length=30))
    amount = "" if amount_msat is None else _amount(amount_msat)
    prefix = f"ln{CURRENCY}{amount}"
    data += coincurve.PrivateKey(secret).sign_recoverable(prefix.encode() + data.tobytes())
    return str(pyln.bech32_encode(prefix, pyln.bitarray_to_u5(data)))


def _amount(amount_msat: int) -> str:
    """The amount with the largest unit that divides it (pyln's own goes wrong from 1000 bitcoin up)."""
    pico = amount_msat * 10
    for unit, size in (("", 10**12), ("m", 10**9), ("u", 10**6), ("n", 10**3)):
        if pico % size == 0:
            return f"{pico // size}{unit}"
    return f"{pico}p"


def _shortest(number: int) -> bitstring.BitArray:
    return bitstring.BitArray(uint=number, length=max(1, -(-number.bit_length() // 5)) * 5)


@functools.lru_cache(maxsize=1024)
def decode(text: str) -> Bolt11:
    """The invoice in `text`, its signature checked; ValueError, in lightningd's words, when it is none."""
    body = text.strip().lower().removeprefix("lightning:")
    if not body.startswith("ln"):
        raise ValueError("Prefix bech32 string does not start with ln" if "1" in body else "Bad bech32 string")
    try:
        parsed = pyln.Invoice.decode(body)
    except Exception as exc:
        # pyln raises ValueError, bitstring.Error, coincurve's bare Exception, … for the many ways to be wrong.
        raise ValueError("Bad bech32 string") from exc
    tags = dict(parsed.tags)
    unknown = {tag: pyln.trim_to_bytes(bits) for tag, bits in parsed.unknown_tags}
    features = next((bits.uint for tag, bits in parsed.unknown_tags if tag == "9"), 0)
    if parsed.paymenthash is None:
        raise ValueError("Missing required payment hash (p) field")
    amount = None if parsed.amount is None else int(parsed.amount * _MSAT_PER_BTC)
    return Bolt11(
        currency=parsed.currency,
        created_at=parsed.date,
        expiry=tags.get("x", _DEFAULT_EXPIRY_SECONDS),
        payee=parsed.hexpubkey,
        payment_hash=parsed.hexpaymenthash,
        signature=_der(parsed.signature),
        amount_msat=amount,
        description=tags.get("d"),
        description_hash=tags["h"].hex() if "h" in tags else None,
        payment_secret=unknown["s"].hex() if "s" in unknown else None,
        features=features.to_bytes((features.bit_length() + 7) // 8, "big").hex(),
        final_cltv=parsed.min_final_cltv_expiry or _DEFAULT_FINAL_CLTV,
    )


def _der(signature: object) -> str:
    """The signature as lightningd prints it: DER, hex."""
    plain = coincurve.ecdsa.recoverable_convert(signature)
    return str(coincurve.ecdsa.cdata_to_der(plain).hex())
