"""Delegation: an account's holder hands out a part of what it may, as a chain of signed certificates (spec 05a).

A certificate says how much of its issuer's authority its subject has at which nodes: bytes to store, bytes to read,
until when, and whether it may hand on some of it. A chain is one certificate of the account's holder or, below that,
one more by its subject. Every link allows no more than the one before, so what a chain allows is what its last
certificate says, within what is left of each above. Certificates are no secrets: only who has the last subject's key
can use a chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Self, cast

from blake3 import blake3

from lnstore_protocol import bech32m, cbor
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.identity import Identity, verify
from lnstore_protocol.ids import AccountId, CertificateId, FixedBytes, NodeAddress, NodeId
from lnstore_protocol.structures import SIGNATURE, Table, from_map, read_map, to_map, without

MAX_CERTIFICATE_BYTES = 1024
MAX_CHAIN_BYTES = 2048
MAX_CHAIN = 2
MAX_LEVELS = MAX_CHAIN - 1
MAX_NODES = 16
MAX_ADDRESSES = 64
UNLIMITED = cbor.MAX_INTEGER
"""As a number of bytes or a time: no limit of its own."""

TEXT_PREFIX = "lnsd"
TEXT_VERSION = 0
MAX_TEXT_CHARACTERS = 40_000


class Rights(IntEnum):
    """What a delegate may do: read shares, store and drop its own, or both."""

    READ = 1
    WRITE = 2
    READ_WRITE = 3


class Serial(FixedBytes):
    """16 random bytes that tell certificates of the same content apart."""

    SIZE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What `subject` may do for `account_id` in the place of `issuer`, at each node by itself.

    `nodes`: ids of the nodes that it is for, joined and ascending; empty is every node. Valid before `expires_at`.
    `levels` 1: the subject may hand on a part of it, once.
    """

    account_id: AccountId
    issuer: AccountId
    subject: AccountId
    serial: Serial
    nodes: bytes
    maximum_bytes: int
    maximum_read_bytes: int
    expires_at: int
    rights: Rights
    levels: int

    def sign(self, issuer: Identity) -> SignedCertificate:  # D-W1
        """This certificate under its issuer's signature; ValueError when `issuer` is another key or a field is off."""
        if issuer.public_key != self.issuer:
            raise ValueError("a certificate is signed by its issuer")
        if fault := _fault(self):
            raise ValueError(fault)
        body = to_map(self, _CERTIFICATE)
        unsigned = cbor.encode(body)
        encoded = cbor.encode(body | {SIGNATURE: issuer.sign("delegation", unsigned)})
        return SignedCertificate(self, encoded, _id_of(unsigned))

    def is_for(self, node_id: NodeId) -> bool:
        """Whether it says anything at this node."""
        return not self.nodes or node_id in node_ids(self.nodes)


@dataclass(frozen=True, slots=True)
class SignedCertificate:
    """A certificate whose signature holds, its bytes, and its id: what it is revoked and listed by."""

    certificate: Certificate
    encoded: bytes
    certificate_id: CertificateId

    @classmethod
    def decode(cls, encoded: bytes) -> Self:  # D-R1, D-R2
        """Read and verify; RemoteProtocolError names what is wrong."""
        if len(encoded) > MAX_CERTIFICATE_BYTES:
            raise RemoteProtocolError("certificate: too long", ErrorCode.TOO_LARGE)
        body = read_map(encoded, "certificate", signatures=(SIGNATURE,))
        certificate = Certificate(**from_map(body, _CERTIFICATE, "certificate"))
        if fault := _fault(certificate):
            raise RemoteProtocolError(f"certificate: {fault}")
        unsigned = cbor.encode(without(body, SIGNATURE))
        verify(certificate.issuer, "delegation", unsigned, body[SIGNATURE])
        return cls(certificate, bytes(encoded), _id_of(unsigned))


Chain = tuple[SignedCertificate, ...]
"""From the account's holder down to the delegate, 1 or 2 certificates."""


@dataclass(frozen=True, slots=True)
class Authority:
    """What a verified chain allows its presenter: to act for the account, within the limits of every certificate."""

    chain: Chain

    @property
    def account_id(self) -> AccountId:
        """Whose account it is."""
        return self.chain[0].certificate.account_id

    @property
    def certificate(self) -> Certificate:
        """The last one: as no link widens, its own limits are the strictest."""
        return self.chain[-1].certificate

    @property
    def certificate_id(self) -> CertificateId:
        """The last one's."""
        return self.chain[-1].certificate_id

    def allows(self, right: Rights) -> bool:
        """Whether the delegate has this right."""
        return self.certificate.rights & right == right


# --- chains -----------------------------------------------------------------------------------------------------------


def encode_chain(chain: Chain) -> bytes:
    """The chain as it is presented: a deterministic CBOR array of its certificates."""
    return cbor.encode([signed.encoded for signed in chain])


def decode_chain(encoded: bytes) -> Chain:  # D-R1, D-R3
    """Read a chain, verify each signature and that no link widens; RemoteProtocolError names what is wrong."""
    if len(encoded) > MAX_CHAIN_BYTES:
        raise RemoteProtocolError("chain: too long", ErrorCode.TOO_LARGE)
    parts = cbor.decode(encoded, what="chain")
    if not isinstance(parts, list) or not 1 <= len(cast("list[object]", parts)) <= MAX_CHAIN:
        raise RemoteProtocolError(f"a chain is an array of 1 to {MAX_CHAIN} certificates")
    signed: list[SignedCertificate] = []
    for part in cast("list[object]", parts):
        if not isinstance(part, bytes):
            raise RemoteProtocolError("a chain holds something else than a certificate")
        signed.append(SignedCertificate.decode(part))
    chain = tuple(signed)
    first = chain[0].certificate
    if first.issuer != first.account_id:
        raise RemoteProtocolError("chain: it does not begin with its account", ErrorCode.DELEGATION_REFUSED)
    for above, below in pairwise(chain):
        if fault := widening(above.certificate, below.certificate):
            raise RemoteProtocolError(f"chain: {fault}", ErrorCode.DELEGATION_REFUSED)
    return chain


def verify_chain(encoded: bytes, *, presenter: AccountId, node_id: NodeId, now: int) -> Authority:  # D-R4, D-R5
    """What a chain allows who has proven to have the key `presenter`, at this node and time.

    RemoteProtocolError: as decode_chain; DELEGATION_REFUSED when it is another's or for other nodes;
    DELEGATION_ENDED when one of its certificates has expired.
    """
    chain = decode_chain(encoded)
    if chain[-1].certificate.subject != presenter:
        raise RemoteProtocolError("the delegation is for another key", ErrorCode.DELEGATION_REFUSED)
    if not all(signed.certificate.is_for(node_id) for signed in chain):
        raise RemoteProtocolError("the delegation is for other nodes", ErrorCode.DELEGATION_REFUSED)
    if now >= min(signed.certificate.expires_at for signed in chain):
        raise RemoteProtocolError("the delegation has expired", ErrorCode.DELEGATION_ENDED)
    return Authority(chain)


def widening(above: Certificate, below: Certificate) -> str:
    """How a certificate allows more than the one above it, or does not follow from it; empty when neither."""
    checks = (
        (below.account_id != above.account_id, "a certificate is for another account than the one above"),
        (below.issuer != above.subject, "a certificate is not issued by the subject of the one above"),
        (below.maximum_bytes > above.maximum_bytes, "a certificate allows more bytes than the one above"),
        (below.maximum_read_bytes > above.maximum_read_bytes, "a certificate allows more reading than the one above"),
        (below.expires_at > above.expires_at, "a certificate outlives the one above"),
        (below.rights & ~above.rights != 0, "a certificate gives a right that the one above has not"),
        (below.levels >= above.levels, "a certificate may be handed on no more often than the one above says"),
        (
            above.nodes != b"" and not (below.nodes and node_ids(below.nodes) <= node_ids(above.nodes)),
            "a certificate is for more nodes than the one above",
        ),
    )
    return next((fault for holds, fault in checks if holds), "")


def node_ids(joined: bytes) -> frozenset[NodeId]:
    """The ids in a certificate's `nodes`."""
    return frozenset(NodeId(joined[at : at + 32]) for at in range(0, len(joined), 32))


def join_nodes(nodes: Sequence[NodeId]) -> bytes:
    """A certificate's `nodes`: each id once, ascending."""
    return b"".join(sorted(set(nodes)))


# --- as text ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delegation:
    """A chain, and where the nodes it is for answer: what an issuer gives to its subject."""

    chain: Chain
    addresses: tuple[NodeAddress, ...]

    def to_text(self) -> str:  # D-W5
        """The delegation as text. It is no secret: of use only to who has the last subject's key."""
        body = {0: encode_chain(self.chain), 2: [str(address) for address in self.addresses]}
        return bech32m.encode(TEXT_PREFIX, TEXT_VERSION, cbor.encode(body))


def parse_delegation(text: str) -> Delegation:  # D-R19
    """The delegation in `text` (spaces around it are passed over); ValueError says what is wrong with it."""
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"a delegation has at most {MAX_TEXT_CHARACTERS} characters")
    _, data = bech32m.decode(text, (TEXT_PREFIX,), what="delegation", version=TEXT_VERSION)
    try:
        return _read_delegation(data)
    except RemoteProtocolError as exc:
        raise ValueError(str(exc)) from None


def _read_delegation(data: bytes) -> Delegation:
    body = cbor.as_map(cbor.decode(data, what="the delegation"))
    if body is None:
        raise RemoteProtocolError("the delegation is not a map")
    if unknown := [key for key in body if key % 2 == 0 and key not in (0, 2)]:
        raise RemoteProtocolError(f"the delegation needs something that this version lacks ({unknown[0]}); update")
    chain, addresses = body.get(0), body.get(2)
    if not isinstance(chain, bytes) or not isinstance(addresses, list):
        raise RemoteProtocolError("the delegation lacks its chain or its addresses")
    texts = cast("list[object]", addresses)
    if len(texts) > MAX_ADDRESSES or not all(isinstance(text, str) for text in texts):
        raise RemoteProtocolError(f"the delegation's addresses are not a list of at most {MAX_ADDRESSES} texts")
    return Delegation(decode_chain(chain), tuple(NodeAddress.parse(text) for text in cast("list[str]", texts)))


# --- the maps ---------------------------------------------------------------------------------------------------------

_CERTIFICATE: Table = {
    0: ("account_id", AccountId),
    2: ("issuer", AccountId),
    4: ("subject", AccountId),
    6: ("serial", Serial),
    8: ("nodes", bytes),
    10: ("maximum_bytes", int),
    12: ("maximum_read_bytes", int),
    14: ("expires_at", int),
    16: ("rights", Rights),
    18: ("levels", int),
}


def _fault(certificate: Certificate) -> str:
    """What makes no sense about a certificate by itself; empty when nothing does."""
    nodes = certificate.nodes
    ids = [nodes[at : at + 32] for at in range(0, len(nodes), 32)]
    checks = (
        (len(nodes) % 32 != 0 or len(ids) > MAX_NODES, f"nodes are at most {MAX_NODES} ids of 32 bytes"),
        (any(first >= second for first, second in pairwise(ids)), "nodes are not in order"),
        (not 0 <= certificate.levels <= MAX_LEVELS, f"levels are at most {MAX_LEVELS}"),
        (certificate.subject in (certificate.issuer, certificate.account_id), "its subject is its issuer or account"),
        (certificate.maximum_bytes > 0 and not certificate.rights & Rights.WRITE, "bytes without the right to write"),
        (certificate.maximum_read_bytes > 0 and not certificate.rights & Rights.READ, "reading without the right to"),
    )
    return next((fault for holds, fault in checks if holds), "")


def _id_of(unsigned: bytes) -> CertificateId:
    """Over what is signed, so that two signatures of the same content make no two certificates."""
    return CertificateId(blake3(unsigned, derive_key_context="lnstore certificate id v1").digest())
