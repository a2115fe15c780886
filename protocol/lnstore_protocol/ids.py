"""Typed bytes and integers: what an identifier is, how it is written, how long it is (spec 00)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar, NewType, Self

Msat = NewType("Msat", int)
"""Millisatoshi, the only unit of money."""


class FixedBytes(bytes):
    """Bytes of one fixed length that print as hex.

    Raises ValueError for any other length.
    """

    SIZE: ClassVar[int] = 32

    def __new__(cls, value: bytes) -> Self:
        """`value`, checked for its length."""
        if len(value) != cls.SIZE:
            raise ValueError(f"{cls.__name__} must have {cls.SIZE} bytes, this one has {len(value)}")
        return super().__new__(cls, value)

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """The identifier written as hex; ValueError for anything else."""
        try:
            return cls(bytes.fromhex(text))
        except ValueError as exc:
            raise ValueError(f"{text!r} is not a {cls.__name__}: {cls.SIZE * 2} hex digits are needed") from exc

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()})"

    def __str__(self) -> str:
        return self.hex()


class NodeId(FixedBytes):
    """A node's Ed25519 public key, 32 bytes."""


class AccountId(FixedBytes):
    """A client's Ed25519 public key, 32 bytes: its standing at one node goes by it."""


class ShareId(FixedBytes):
    """The Merkle root of a share, 32 bytes."""


class CertificateId(FixedBytes):
    """The hash of a delegation's certificate, 32 bytes."""


class PaymentHash(FixedBytes):
    """SHA-256 of a payment's preimage, 32 bytes."""


class Digest(FixedBytes):
    """A BLAKE3 hash of something signed, 32 bytes."""


class InvitationId(FixedBytes):
    """SHA-256 of an invitation's secret, 32 bytes: what it may be called by in public."""


class SecretBytes(FixedBytes):
    """Secret bytes of one fixed length: no text, log or error ever shows them. `hex` is for storing them."""

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """The secret written as hex; ValueError, without the text, for anything else."""
        try:
            return super().from_hex(text)
        except ValueError:
            raise ValueError(f"not a {cls.__name__}: {cls.SIZE * 2} hex digits are needed") from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    __str__ = __repr__


class InvitationSecret(SecretBytes):
    """What an invitation opens an account with, 16 bytes."""

    SIZE: ClassVar[int] = 16

    @property
    def invitation_id(self) -> InvitationId:
        """The public name of the invitation with this secret."""
        return InvitationId(sha256(self).digest())


class LightningId(FixedBytes):
    """A Lightning node's compressed secp256k1 public key, 33 bytes."""

    SIZE: ClassVar[int] = 33


_ADDRESS = re.compile(r"lnstore://([0-9a-fA-F]{64})@(\[[0-9a-fA-F:.]+\]|[^@:/\[\]\s]+):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """Where a node answers and which key it must have: `lnstore://<node id, 64 hex>@host:port`."""

    node_id: NodeId
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:  # C-R10
        """The address in `text`; ValueError when it is not of the form above."""
        match = _ADDRESS.fullmatch(text.strip())
        if match is None or not 0 < int(match[3]) < 65536:
            raise ValueError(f"{text!r} is not a node address; it looks like lnstore://<64 hex digits>@host:port")
        return cls(NodeId.from_hex(match[1]), match[2].strip("[]"), int(match[3]))

    def __str__(self) -> str:  # C-W4
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"lnstore://{self.node_id.hex()}@{host}:{self.port}"
