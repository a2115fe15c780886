"""An Ed25519 identity, its signatures, and its X25519 form for the handshake (spec 01, 05)."""

from __future__ import annotations

import secrets
from typing import Self

from nacl.bindings import (
    crypto_scalarmult_base,
    crypto_sign_ed25519_pk_to_curve25519,
    crypto_sign_ed25519_sk_to_curve25519,
)
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from lnstore_protocol.errors import ErrorCode, RemoteProtocolError


class Identity:
    """A secret Ed25519 key and its X25519 form (spec 01). Prints only its public key.

    The seed is 32 bytes; nacl's ValueError for any other length.
    """

    __slots__ = ("_key", "_x25519_private", "_x25519_public", "public_key")

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self.public_key: bytes = bytes(self._key.verify_key)
        # Made once, not per connection: a stranger's costs us no more than the operation with its own key (T-R8).
        self._x25519_private = crypto_sign_ed25519_sk_to_curve25519(bytes(self._key) + self.public_key)
        self._x25519_public = crypto_scalarmult_base(self._x25519_private)

    @classmethod
    def generate(cls) -> Self:
        """A fresh identity from the system's randomness."""
        return cls(secrets.token_bytes(32))

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes; for storing them only."""
        return bytes(self._key)

    def sign(self, context: str, message: bytes) -> bytes:
        """64-byte signature of `message` for one purpose; the context keeps purposes apart."""
        return self._key.sign(_bound(context, message)).signature

    def x25519_private(self) -> bytes:
        """The secret key's X25519 form, 32 bytes (RFC 7748, libsodium's conversion)."""
        return self._x25519_private

    def x25519_public(self) -> bytes:
        """The public key's X25519 form, 32 bytes: what the function of that name makes of public_key."""
        return self._x25519_public

    def __repr__(self) -> str:
        return f"Identity({self.public_key.hex()})"


def x25519_public(ed25519_public: bytes) -> bytes:  # T-R1
    """The X25519 form of an Ed25519 public key; RemoteProtocolError when it is not a valid one."""
    try:
        return crypto_sign_ed25519_pk_to_curve25519(bytes(ed25519_public))
    except Exception as exc:  # nacl raises RuntimeError or its own types, depending on the fault
        raise RemoteProtocolError("not a valid Ed25519 public key") from exc


def verify(public_key: bytes, context: str, message: bytes, signature: bytes) -> None:  # R-R1, S-R3
    """Check a signature; RemoteProtocolError(BAD_SIGNATURE) when it does not fit."""
    try:
        VerifyKey(bytes(public_key)).verify(_bound(context, message), bytes(signature))
    except (BadSignatureError, ValueError, TypeError) as exc:
        raise RemoteProtocolError(f"the signature of the {context} does not fit", ErrorCode.BAD_SIGNATURE) from exc


def _bound(context: str, message: bytes) -> bytes:
    label = f"lnstore {context} v1".encode()
    return len(label).to_bytes(1, "big") + label + message
