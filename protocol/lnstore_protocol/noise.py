"""Noise_XK_25519_ChaChaPoly_BLAKE2b: the handshake and the transport ciphers (spec 01).

Source: The Noise Protocol Framework, revision 34; names follow its section 5. X25519 is libsodium's, BLAKE2b the
standard library's, ChaCha20-Poly1305 OpenSSL's through `cryptography`, whose encrypt_into copies nothing. There is no
rekey: a cipher refuses to go on when its 2^64-1 nonces are used up, which no connection lives to see.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base

from lnstore_protocol.errors import LocalProtocolError, RemoteProtocolError
from lnstore_protocol.messages import Buffer

PROTOCOL_NAME = b"Noise_XK_25519_ChaChaPoly_BLAKE2b"
KEY_BYTES = 32
TAG_BYTES = 16
MAX_NOISE_BYTES = 65535
"""The longest Noise message: a transport ciphertext with its tag."""

MAX_NONCE = (1 << 64) - 1
"""Reserved by the specification; the nonce before it is the last one used."""

# Each message: the tokens before its payload, written by the initiator at even positions.
_XK_MESSAGES: tuple[tuple[str, ...], ...] = (("e", "es"), ("e", "ee"), ("s", "se"))

# DH token: whose local and remote key the initiator uses; the responder uses the mirror image.
_DH_KEYS = {"ee": ("e", "e"), "es": ("e", "s"), "se": ("s", "e")}

_nonce = struct.Struct("<4xQ").pack


class CipherState:
    """One direction's key and its counting nonce. Shows neither."""

    __slots__ = ("_aead", "_next")

    def __init__(self, key: bytes, *, first_nonce: int = 0) -> None:
        self._aead = ChaCha20Poly1305(key)
        self._next = first_nonce

    def seal_into(self, plaintext: Buffer, out: memoryview) -> None:
        """Encrypt into `out`, which has exactly TAG_BYTES more; LocalProtocolError when the nonces are used up."""
        self._aead.encrypt_into(self._take_nonce(), plaintext, None, out)

    def open_into(self, ciphertext: Buffer, out: memoryview) -> None:
        """Decrypt into `out`, which has exactly TAG_BYTES less; RemoteProtocolError when the tag does not fit."""
        try:
            self._aead.decrypt_into(self._take_nonce(), ciphertext, None, out)
        except InvalidTag as exc:
            raise RemoteProtocolError("a record does not open: damaged, or not from this peer") from exc

    def seal(self, plaintext: Buffer, associated: bytes = b"") -> bytes:
        """The ciphertext with its tag, as new bytes."""
        return self._aead.encrypt(self._take_nonce(), plaintext, associated)

    def open(self, ciphertext: Buffer, associated: bytes = b"") -> bytes:
        """The plaintext, as new bytes; RemoteProtocolError when the tag does not fit."""
        try:
            return self._aead.decrypt(self._take_nonce(), ciphertext, associated)
        except InvalidTag as exc:
            raise RemoteProtocolError("a handshake message does not open: the peer has another key") from exc

    def _take_nonce(self) -> bytes:  # T-W7
        if self._next >= MAX_NONCE:
            raise LocalProtocolError("the nonces of this connection are used up; open a new one")
        number = self._next
        self._next = number + 1
        return _nonce(number)

    def __repr__(self) -> str:
        return "CipherState(…)"


class _SymmetricState:
    """Chaining key, handshake hash and the cipher in between (section 5.2)."""

    def __init__(self, prologue: bytes) -> None:
        self.hash = PROTOCOL_NAME.ljust(64, b"\0")  # shorter than a hash, so padded instead of hashed
        self._chaining_key = self.hash
        self._cipher: CipherState | None = None
        self.mix_hash(prologue)

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.blake2b(self.hash + data).digest()

    def mix_key(self, secret: bytes) -> None:
        self._chaining_key, key = _hkdf(self._chaining_key, secret)
        self._cipher = CipherState(key[:KEY_BYTES])

    def seal(self, plaintext: bytes) -> bytes:
        ciphertext = plaintext if self._cipher is None else self._cipher.seal(plaintext, self.hash)
        self.mix_hash(ciphertext)
        return ciphertext

    def open(self, ciphertext: bytes) -> bytes:
        plaintext = ciphertext if self._cipher is None else self._cipher.open(ciphertext, self.hash)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        first, second = _hkdf(self._chaining_key, b"")
        return CipherState(first[:KEY_BYTES]), CipherState(second[:KEY_BYTES])


class Handshake:
    """One side of the XK handshake: write_message and read_message in turn, three in all, then split.

    The initiator gives the responder's static key; the responder learns the initiator's with the third message
    (remote_static). `static_public` saves making it from the private key. `ephemeral_private` is for test vectors;
    without it a fresh one is drawn when it is needed. All keys are 32 bytes.
    """

    def __init__(
        self,
        *,
        initiator: bool,
        prologue: bytes,
        static_private: bytes,
        static_public: bytes | None = None,
        remote_static: bytes | None = None,
        ephemeral_private: bytes | None = None,
    ) -> None:
        if initiator is (remote_static is None):
            raise LocalProtocolError("in XK the initiator, and only it, knows the other's static key beforehand")
        self._initiator = initiator
        self._local = {"s": static_private}
        self._static_public = static_public or crypto_scalarmult_base(static_private)
        if ephemeral_private is not None:
            self._local["e"] = ephemeral_private
        self._remote: dict[str, bytes] = {}
        self._position = 0
        self._state = _SymmetricState(prologue)
        if remote_static is not None:
            self._remote["s"] = remote_static
            self._state.mix_hash(remote_static)
        else:
            self._state.mix_hash(self._static_public)

    @property
    def handshake_hash(self) -> bytes:
        """64 bytes that both sides agree on and that no other handshake has (channel binding)."""
        return self._state.hash

    @property
    def remote_static(self) -> bytes | None:
        """The peer's static X25519 key; authenticated once the handshake is complete."""
        return self._remote.get("s")

    @property
    def is_complete(self) -> bool:
        """Whether all three messages have passed."""
        return self._position == len(_XK_MESSAGES)

    def write_message(self, payload: bytes = b"") -> bytes:  # T-W2
        """The next message, with `payload` encrypted; LocalProtocolError out of turn."""
        parts: list[bytes] = []
        for token in self._tokens(writing=True):
            match token:
                case "e":
                    private = self._local.setdefault("e", secrets.token_bytes(KEY_BYTES))
                    public = crypto_scalarmult_base(private)
                    self._state.mix_hash(public)
                    parts.append(public)
                case "s":
                    parts.append(self._state.seal(self._static_public))
                case dh:
                    self._mix_dh(dh)
        parts.append(self._state.seal(payload))
        self._position += 1
        return b"".join(parts)

    def read_message(self, message: bytes) -> bytes:
        """The payload of the peer's next message; RemoteProtocolError when it does not open."""
        at = 0
        for token in self._tokens(writing=False):
            match token:
                case "e":
                    self._remote["e"] = message[at : at + KEY_BYTES]
                    self._state.mix_hash(self._remote["e"])
                    at += KEY_BYTES
                case "s":
                    self._remote["s"] = self._state.open(message[at : at + KEY_BYTES + TAG_BYTES])
                    at += KEY_BYTES + TAG_BYTES
                case dh:
                    self._mix_dh(dh)
        payload = self._state.open(message[at:])
        self._position += 1
        return payload

    def split(self) -> tuple[CipherState, CipherState]:
        """The ciphers to send and to receive with, in that order; LocalProtocolError before the third message."""
        if not self.is_complete:
            raise LocalProtocolError("the handshake is not complete")
        first, second = self._state.split()
        return (first, second) if self._initiator else (second, first)

    def _tokens(self, *, writing: bool) -> tuple[str, ...]:
        if self.is_complete or writing is not ((self._position % 2 == 0) is self._initiator):
            raise LocalProtocolError("a handshake message out of turn")
        return _XK_MESSAGES[self._position]

    def _mix_dh(self, token: str) -> None:
        mine, theirs = _DH_KEYS[token]
        if not self._initiator:
            mine, theirs = theirs, mine
        self._state.mix_key(_dh(self._local[mine], self._remote[theirs]))

    def __repr__(self) -> str:
        return f"Handshake(initiator={self._initiator}, message={self._position})"


def _dh(private: bytes, public: bytes) -> bytes:  # T-R5
    try:
        return crypto_scalarmult(private, public)
    except Exception as exc:  # libsodium refuses points of low order; nacl raises several types
        raise RemoteProtocolError("the peer's handshake key is not a usable point") from exc


def _hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """The two-output HKDF of section 4.3 over HMAC-BLAKE2b."""
    temporary = hmac.digest(chaining_key, material, hashlib.blake2b)
    first = hmac.digest(temporary, b"\x01", hashlib.blake2b)
    return first, hmac.digest(temporary, first + b"\x02", hashlib.blake2b)
