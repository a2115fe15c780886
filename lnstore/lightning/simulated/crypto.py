"""Keys, signed messages, addresses and transactions, as real as their users need them to be.

Keys are secp256k1 (libsecp256k1 through coincurve), message signatures are lightningd's: zbase32 of a recoverable
ECDSA signature over the double SHA-256 of a fixed prefix and the message. Transactions have the real serialisation
and ids, but their witnesses are filler: nothing but this package verifies them.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from dataclasses import dataclass

import coincurve
from pyln.proto import bech32, zbase32

from lnstore.lightning.messages import RECOVERY_OFFSET, SIGNED_PREFIX, double_sha256

NETWORK_PREFIX = "bcrt"
_BECH32M = 0x2BC830A3


def new_secret() -> bytes:
    """A private key, 32 bytes."""
    return coincurve.PrivateKey().secret


def public_key(secret: bytes) -> str:
    """The compressed public key, 66 hex digits."""
    return coincurve.PrivateKey(secret).public_key.format().hex()


def is_public_key(text: str) -> bool:
    """Whether `text` is the hex of a point on the curve in compressed form."""
    try:
        return len(text) == 66 and coincurve.PublicKey(bytes.fromhex(text)) is not None
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class MessageSignature:
    """What `signmessage` answers."""

    signature: str
    recid: str
    zbase: str


def sign_message(secret: bytes, message: str) -> MessageSignature:
    """The node's signature of `message`."""
    digest = double_sha256(SIGNED_PREFIX + message.encode())
    raw = coincurve.PrivateKey(secret).sign_recoverable(digest, hasher=None)
    recid = raw[64]
    zbase = zbase32.encode(bytes([recid + RECOVERY_OFFSET]) + raw[:64]).decode()
    return MessageSignature(raw[:64].hex(), f"{recid:02x}", zbase)


@dataclass(frozen=True, slots=True)
class Script:
    """A locking script (hex) and the address that stands for it."""

    script: str
    address: str


def witness_script(version: int, program: bytes) -> Script:
    """The segwit output of this version: v0 as bech32, later ones as bech32m."""
    data = bytes([version, *bech32.convertbits(program, 8, 5)])
    if version == 0:
        address = bech32.bech32_encode(NETWORK_PREFIX, data)
    else:
        values = bech32.bech32_hrp_expand(NETWORK_PREFIX) + data
        polymod = bech32.bech32_polymod(values + bytes(6)) ^ _BECH32M
        address = f"{NETWORK_PREFIX}1" + "".join(
            bech32.CHARSET[value] for value in (*data, *((polymod >> 5 * (5 - i)) & 31 for i in range(6)))
        )
    opcode = 0 if version == 0 else 0x50 + version
    return Script((bytes([opcode, len(program)]) + program).hex(), address)


def script_of_address(address: str) -> str:
    """The script (hex) behind any segwit address of this network; ValueError for anything else."""
    prefix, _, data = address.lower().rpartition("1")
    values = [bech32.CHARSET.find(character) for character in data]
    if prefix != NETWORK_PREFIX or len(values) < 8 or -1 in values or address not in {address.lower(), address.upper()}:
        raise ValueError("not an address of this network")
    version, program = values[0], bech32.convertbits(values[1:-6], 5, 8, False)  # noqa: FBT003  pyln's signature
    if program is None or version > 16:
        raise ValueError("not an address of this network")
    script = witness_script(version, bytes(program))
    if script.address != address.lower():
        raise ValueError("the address is mistyped")
    return script.script


def new_script(version: int) -> Script:
    """A fresh output of a wallet: version 0 (P2WPKH) or 1 (P2TR). Spending it needs no key here, so none is kept."""
    return witness_script(version, secrets.token_bytes(20 if version == 0 else 32))


def funding_script(a: str, b: str) -> str:
    """The P2WSH script (hex) of a two-of-two between two node ids."""
    first, second = sorted((bytes.fromhex(a), bytes.fromhex(b)))
    two_of_two = b"\x52\x21" + first + b"\x21" + second + b"\x52\xae"
    return witness_script(0, hashlib.sha256(two_of_two).digest()).script


@dataclass(frozen=True, slots=True)
class Transaction:
    """A serialised transaction (hex) and its id."""

    txid: str
    raw: str


def transaction(inputs: list[tuple[str, int]], outputs: list[tuple[int, str]], locktime: int) -> Transaction:
    """Spends (txid, outnum) pairs to (sat, script) pairs. Witnesses are random bytes of the usual length."""
    ins = b"".join(bytes.fromhex(txid)[::-1] + struct.pack("<IBI", outnum, 0, 0xFFFFFFFD) for txid, outnum in inputs)
    outs = b"".join(struct.pack("<QB", sat, len(script) // 2) + bytes.fromhex(script) for sat, script in outputs)
    body = bytes([len(inputs)]) + ins + bytes([len(outputs)]) + outs
    version, end = struct.pack("<I", 2), struct.pack("<I", locktime)
    witnesses = b"".join(b"\x02\x47" + secrets.token_bytes(71) + b"\x21\x02" + secrets.token_bytes(32) for _ in inputs)
    txid = double_sha256(version + body + end)[::-1].hex()
    return Transaction(txid, (version + b"\x00\x01" + body + witnesses + end).hex())
