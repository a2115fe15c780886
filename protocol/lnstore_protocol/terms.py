"""Terms, agreements and records: what is signed; and the rent arithmetic that both sides share (spec 05).

Their form is that of structures.py. `encoded` is the whole signed map as bytes, which is what is stored and sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self

from lnstore_protocol import cbor
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.identity import Identity, verify
from lnstore_protocol.ids import AccountId, InvitationId, LightningId, Msat, NodeId
from lnstore_protocol.structures import NODE_SIGNATURE, SIGNATURE, Table, from_map, read_map, to_map, without

GIB = 1 << 30
MONTH_SECONDS = 2_592_000
"""30 days: the unit of prices, whatever an agreement's period is."""

CURRENCY = re.compile("[A-Z]{3,8}")
FIAT_AMOUNT = re.compile("[0-9]{1,9}([.][0-9]{1,9})?")
"""What a pinned amount is written like: plain digits, so that it can be shown to a person as it is."""
WHOLE_PERMILLE = 1000

MAX_RECORD_NAME_BYTES = 32
MAX_RECORD_VALUE_BYTES = 4096


class ChannelPolicy(IntEnum):
    """Which way a node wants its rent to come: over any route, rather a direct channel, a direct channel only."""

    ANY = 0
    PREFERRED = 1
    REQUIRED = 2


# --- arithmetic ---------------------------------------------------------------------------------------------------


def rent_msat(capacity_bytes: int, seconds: int, price_msat_per_gib_month: int) -> Msat:  # R-W2
    """Rent for `capacity_bytes` over `seconds`, rounded up to a whole msat; ValueError for negative input."""
    if min(capacity_bytes, seconds, price_msat_per_gib_month) < 0:
        raise ValueError("capacity, seconds and price must not be negative")
    return Msat(-(-capacity_bytes * seconds * price_msat_per_gib_month // (GIB * MONTH_SECONDS)))


def traffic_msat(traffic_bytes: int, price_msat_per_gib: int) -> Msat:  # R-W2
    """The price of `traffic_bytes`, rounded up to a whole msat; ValueError for negative input."""
    if min(traffic_bytes, price_msat_per_gib) < 0:
        raise ValueError("bytes and price must not be negative")
    return Msat(-(-traffic_bytes * price_msat_per_gib // GIB))


def ingress_msat(before_bytes: int, added_bytes: int, price_msat_per_gib: int) -> Msat:  # RI-W1
    """The price of `added_bytes` written after the `before_bytes` that an account wrote before them.

    What was paid covers all bytes ever written, rounded up once, however they were cut. ValueError for negative input.
    """
    if added_bytes < 0:
        raise ValueError("bytes must not be negative")
    before = traffic_msat(before_bytes, price_msat_per_gib)
    return Msat(traffic_msat(before_bytes + added_bytes, price_msat_per_gib) - before)


def refund_msat(capacity_bytes: int, seconds: int, price_msat_per_gib_month: int, permille: int) -> Msat:  # R-W2
    """What is given back of the rent for `capacity_bytes` over `seconds` unused ones, rounded down to a whole msat.

    ValueError for negative input, or for more than the whole.
    """
    if min(capacity_bytes, seconds, price_msat_per_gib_month, permille) < 0 or permille > WHOLE_PERMILLE:
        raise ValueError("capacity, seconds and price must not be negative, nor the permille above 1000")
    exact = capacity_bytes * seconds * price_msat_per_gib_month * permille
    return Msat(exact // (GIB * MONTH_SECONDS * WHOLE_PERMILLE))


def period_at(anchor_at: int, period_seconds: int, at: int) -> int:
    """The index of the period that time `at` lies in; period 0 starts at the anchor.

    ValueError for a period of no seconds, which no terms have.
    """
    if period_seconds <= 0:
        raise ValueError("a period has at least a second")
    return (at - anchor_at) // period_seconds


def period_start(anchor_at: int, period_seconds: int, index: int) -> int:
    """When period `index` starts (and the one before it ends)."""
    return anchor_at + index * period_seconds


def binding_text(node_id: NodeId, lightning_id: LightningId) -> str:
    """What a node's Lightning daemon signs (signmessage) to bind its key to the node id."""
    return f"lnstore node {node_id.hex()} is paid at {lightning_id.hex()}"


# --- signed structures --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A node's price sheet. Prices are msat per GiB (rent: per GiB and 30 days), times Unix seconds.

    They hold for `price_periods` periods, from the first one of an agreement over these terms. `fiat_currency` and
    `fiat_per_tib_month`, a decimal number, say what the rent was pinned to; both are empty when it was not.
    """

    node_id: NodeId
    lightning_id: LightningId
    network: str
    price_msat_per_gib_month: Msat
    egress_msat_per_gib: Msat
    ingress_msat_per_gib: Msat
    period_seconds: int
    grace_seconds: int
    minimum_capacity_bytes: int
    maximum_capacity_bytes: int
    channel_policy: ChannelPolicy
    minimum_channel_sat: int
    valid_from_at: int
    valid_until_at: int
    price_periods: int
    fiat_currency: str = ""
    fiat_per_tib_month: str = ""
    invitation: InvitationId | None = None
    """Whose bearer alone may accept these terms; None: anybody."""
    refund_permille: int = 0

    def sign(self, node: Identity) -> SignedTerms:
        """These terms under the node's signature; ValueError when `node` is another node."""
        if node.public_key != self.node_id:
            raise ValueError("terms are signed by the node they name")
        body = to_map(self, _TERMS)
        body[SIGNATURE] = node.sign("terms", cbor.encode(body))
        return SignedTerms(self, cbor.encode(body))


@dataclass(frozen=True, slots=True)
class SignedTerms:
    """Terms whose signature holds, and their bytes."""

    terms: Terms
    encoded: bytes

    @classmethod
    def decode(cls, encoded: bytes) -> Self:  # R-R1, R-R2
        """Read and verify; RemoteProtocolError names what is wrong."""
        body = read_map(encoded, "terms", signatures=(SIGNATURE,))
        terms = Terms(**from_map(body, _TERMS, "terms"))
        if terms.period_seconds <= 0 or terms.maximum_capacity_bytes < terms.minimum_capacity_bytes:
            raise RemoteProtocolError("terms: the period or the capacity limits make no sense")
        if terms.price_periods <= 0:
            raise RemoteProtocolError("terms: the prices hold for no period")
        if (31 in body or 33 in body) and not (  # R-R26
            CURRENCY.fullmatch(terms.fiat_currency) and FIAT_AMOUNT.fullmatch(terms.fiat_per_tib_month)
        ):
            raise RemoteProtocolError("terms: the pinned amount is not a currency and a number")
        if terms.refund_permille > WHOLE_PERMILLE:
            raise RemoteProtocolError("terms: more is given back than was paid")
        verify(terms.node_id, "terms", cbor.encode(without(body, SIGNATURE)), body[SIGNATURE])
        return cls(terms, bytes(encoded))


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Terms that an account accepted, from period `from_period` on. Complete once both have signed."""

    terms: SignedTerms
    account_id: AccountId
    anchor_at: int
    from_period: int
    encoded: bytes
    countersigned: bool

    @classmethod
    def propose(cls, terms: SignedTerms, account: Identity, anchor_at: int, *, from_period: int = 0) -> Self:
        """The client's half: signed by the account, not yet by the node."""
        account_id = AccountId(account.public_key)
        body: dict[int, Any] = {0: terms.encoded, 2: bytes(account_id), 4: anchor_at, 6: from_period}
        body[SIGNATURE] = account.sign("agreement", cbor.encode(body))
        return cls(
            terms=terms,
            account_id=account_id,
            anchor_at=anchor_at,
            from_period=from_period,
            encoded=cbor.encode(body),
            countersigned=False,
        )

    def countersign(self, node: Identity) -> Self:
        """The node's half, over the client's; ValueError when `node` is not the node of the terms."""
        if node.public_key != self.terms.terms.node_id:
            raise ValueError("an agreement is countersigned by the node its terms name")
        body = cbor.decode(self.encoded, what="agreement")
        body[NODE_SIGNATURE] = node.sign("agreement", cbor.encode(without(body, NODE_SIGNATURE)))
        return type(self)(
            terms=self.terms,
            account_id=self.account_id,
            anchor_at=self.anchor_at,
            from_period=self.from_period,
            encoded=cbor.encode(body),
            countersigned=True,
        )

    @classmethod
    def decode(cls, encoded: bytes) -> Self:
        """Read and verify every signature in it; RemoteProtocolError names what is wrong."""
        body = read_map(encoded, "agreement", signatures=(SIGNATURE,), optional=(NODE_SIGNATURE,))
        fields = from_map(body, _AGREEMENT, "agreement")
        terms = SignedTerms.decode(fields["terms"])
        account_id: AccountId = fields["account_id"]
        unsigned = without(body, SIGNATURE, NODE_SIGNATURE)
        verify(account_id, "agreement", cbor.encode(unsigned), body[SIGNATURE])
        countersigned = NODE_SIGNATURE in body
        if countersigned:
            signed = cbor.encode(without(body, NODE_SIGNATURE))
            verify(terms.terms.node_id, "agreement", signed, body[NODE_SIGNATURE])
        return cls(
            terms=terms,
            account_id=account_id,
            anchor_at=fields["anchor_at"],
            from_period=fields["from_period"],
            encoded=bytes(encoded),
            countersigned=countersigned,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A small mutable value of an account, kept by nodes: the newest sequence wins."""

    account_id: AccountId
    name: bytes
    sequence: int
    value: bytes

    def sign(self, account: Identity) -> bytes:
        """The signed record; ValueError when too long or when `account` is another account."""
        if account.public_key != self.account_id:
            raise ValueError("a record is signed by its own account")
        if len(self.name) > MAX_RECORD_NAME_BYTES or len(self.value) > MAX_RECORD_VALUE_BYTES:
            raise ValueError("the record's name or value is too long")
        body = to_map(self, _RECORD)
        body[SIGNATURE] = account.sign("record", cbor.encode(body))
        return cbor.encode(body)

    @classmethod
    def decode(cls, encoded: bytes) -> Self:
        """Read and verify; RemoteProtocolError names what is wrong."""
        body = read_map(encoded, "record", signatures=(SIGNATURE,))
        record = cls(**from_map(body, _RECORD, "record"))
        if len(record.name) > MAX_RECORD_NAME_BYTES or len(record.value) > MAX_RECORD_VALUE_BYTES:
            raise RemoteProtocolError("record: name or value too long", ErrorCode.TOO_LARGE)
        verify(record.account_id, "record", cbor.encode(without(body, SIGNATURE)), body[SIGNATURE])
        return record


# --- the maps -------------------------------------------------------------------------------------------------------

_TERMS: Table = {
    0: ("node_id", NodeId),
    2: ("lightning_id", LightningId),
    4: ("network", str),
    6: ("price_msat_per_gib_month", int),
    8: ("egress_msat_per_gib", int),
    10: ("ingress_msat_per_gib", int),
    12: ("period_seconds", int),
    14: ("grace_seconds", int),
    16: ("minimum_capacity_bytes", int),
    18: ("maximum_capacity_bytes", int),
    20: ("channel_policy", ChannelPolicy),
    22: ("minimum_channel_sat", int),
    24: ("valid_from_at", int),
    26: ("valid_until_at", int),
    27: ("refund_permille", int),
    28: ("price_periods", int),
    31: ("fiat_currency", str),
    33: ("fiat_per_tib_month", str),
    41: ("invitation", InvitationId),
}
_AGREEMENT: Table = {
    0: ("terms", bytes),
    2: ("account_id", AccountId),
    4: ("anchor_at", int),
    6: ("from_period", int),
}
_RECORD: Table = {0: ("account_id", AccountId), 2: ("name", bytes), 4: ("sequence", int), 6: ("value", bytes)}
