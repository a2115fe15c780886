"""Invitations: what a node's operator hands to somebody who may open an account there (spec 05c).

A deterministic CBOR map that the node signed, as bech32m text `lnsi1…`. Whoever has the text can use it once, so it is
a secret; `invitation_id`, the SHA-256 of the secret inside, is what it may be called by in public. Whether it is still
good is known to the node alone. The node signs terms for its bearer, which are no worse than what stands here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from lnstore_protocol import bech32m, cbor
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.identity import Identity, verify
from lnstore_protocol.ids import InvitationId, InvitationSecret, Msat, NodeAddress, NodeId
from lnstore_protocol.structures import SIGNATURE, Table, from_map, read_map, to_map, without

PREFIX = "lnsi"
VERSION = 0
MAX_PLACE_BYTES = 300
"""`host:port`; a host name has at most 253 characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """Where the node is, the secret that opens an account there, until when, and what is other than usual there."""

    node_id: NodeId
    place: str
    secret: InvitationSecret = field(repr=False)
    expires_at: int
    maximum_capacity_bytes: int | None = None
    price_msat_per_gib_month: Msat | None = None
    egress_msat_per_gib: Msat | None = None
    price_periods: int | None = None
    ingress_msat_per_gib: Msat | None = None
    encoded: bytes = field(default=b"", repr=False, compare=False)
    """The signed map, once it is signed."""

    @property
    def address(self) -> NodeAddress:
        """Where the node answers."""
        return NodeAddress.parse(f"lnstore://{self.node_id.hex()}@{self.place}")

    @property
    def invitation_id(self) -> InvitationId:
        """What it may be called by in public."""
        return self.secret.invitation_id

    def sign(self, node: Identity) -> Self:  # RA-W6
        """The invitation with its signed map. ValueError for another node or a place that is none."""
        if node.public_key != self.node_id:
            raise ValueError("an invitation is signed by the node it names")
        if len(self.place.encode()) > MAX_PLACE_BYTES:
            raise ValueError("the node's host name is too long for an invitation")
        _ = self.address
        body = to_map(self, _INVITATION)
        body[SIGNATURE] = node.sign("invitation", cbor.encode(body))
        return replace(self, encoded=cbor.encode(body))

    def to_text(self) -> str:
        """The signed invitation as text: a secret. ValueError when it is not signed."""
        if not self.encoded:
            raise ValueError("an invitation is signed first")
        return bech32m.encode(PREFIX, VERSION, self.encoded)

    @classmethod
    def decode(cls, encoded: bytes) -> Self:  # R-R1, RA-R2
        """Read and verify the map; RemoteProtocolError names what is wrong."""
        body = read_map(encoded, "invitation", signatures=(SIGNATURE,))
        invitation = cls(**from_map(body, _INVITATION, "invitation"), encoded=bytes(encoded))
        if len(invitation.place.encode()) > MAX_PLACE_BYTES:
            raise RemoteProtocolError("invitation: the place is too long")
        try:
            _ = invitation.address
        except ValueError as exc:
            raise RemoteProtocolError("invitation: the place is no host:port") from exc
        verify(invitation.node_id, "invitation", cbor.encode(without(body, SIGNATURE)), body[SIGNATURE])
        return invitation


def is_invitation(text: str) -> bool:
    """Whether the text is meant as an invitation, right or wrong."""
    return text.strip().lower().startswith(f"{PREFIX}1")


def parse_invitation(text: str) -> Invitation:  # RA-R2
    """The invitation in `text`; ValueError says what is wrong, without the text."""
    _, encoded = bech32m.decode(text, (PREFIX,), what="invitation", version=VERSION)
    try:
        return Invitation.decode(encoded)
    except RemoteProtocolError as exc:
        raise ValueError(f"the invitation cannot be used: {exc}") from exc


_INVITATION: Table = {
    0: ("node_id", NodeId),
    1: ("maximum_capacity_bytes", int),
    2: ("place", str),
    3: ("price_msat_per_gib_month", int),
    4: ("secret", InvitationSecret),
    5: ("egress_msat_per_gib", int),
    6: ("expires_at", int),
    7: ("price_periods", int),
    9: ("ingress_msat_per_gib", int),
}
