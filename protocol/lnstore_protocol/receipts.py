"""Receipts both ways: what a node was paid for which period and proof, and that its client verified it (spec 05b).

Both are deterministic CBOR maps with integer keys, signed with Ed25519 over the encoding of the map without key 64. A
node numbers the receipts of an account from 0 in the order in which it credited the payments, so that one left out
shows. `decode` takes what a stranger sent: it verifies the signature and raises RemoteProtocolError for all else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from blake3 import blake3

from lnstore_protocol import cbor
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.identity import Identity, verify
from lnstore_protocol.ids import AccountId, Digest, Msat, NodeId, PaymentHash, ShareId
from lnstore_protocol.messages import MAX_RECEIPT_BYTES, RECEIPTS_AT_ONCE, Buffer, InvoicePurpose
from lnstore_protocol.prices import Prices
from lnstore_protocol.structures import SIGNATURE, Table, from_map, read_map, to_map, without
from lnstore_protocol.terms import Agreement, period_start

_LENGTH_BYTES = 2
CLOCK_TOLERANCE_SECONDS = 600
"""How far ahead of a node's clock an anchor may lie."""


def agreement_hash(encoded: bytes) -> Digest:
    """What a receipt calls an agreement by: of its bytes as both signed it."""
    return Digest(blake3(encoded, derive_key_context="lnstore agreement hash v1").digest())


def sample_hash(share_ids: Iterable[ShareId]) -> Digest:
    """What a receipt calls a proof's sample by: of its share ids, in the sample's order."""
    return Digest(blake3(b"".join(share_ids), derive_key_context="lnstore sample hash v1").digest())


NO_SAMPLE = sample_hash(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a node credited: `received_msat` for an invoice of `amount_msat`, of which `deposited_msat` is deposit now.

    `index` is the period, the growth index or the deposit index. The token index, the numbers of shares held and
    sampled and the sample's hash are those of the proof (rent; else 0 and NO_SAMPLE).
    """

    account_id: AccountId
    node_id: NodeId
    number: int
    agreement_hash: Digest
    purpose: InvoicePurpose
    index: int
    from_at: int
    until_at: int
    capacity_bytes: int
    amount_msat: Msat
    received_msat: Msat
    deposited_msat: Msat
    payment_hash: PaymentHash
    credited_at: int
    token_index: int
    shares: int
    sampled: int
    sample_hash: Digest

    @property
    def served(self) -> bool:
        """Whether the payment bought what its invoice was for; what came too late became deposit as a whole."""
        return self.purpose is InvoicePurpose.DEPOSIT or self.deposited_msat < self.received_msat or self.given

    @property
    def given(self) -> bool:
        """Whether it is for what the node gave at no price: no payment, but the proof is there."""
        return self.amount_msat == 0 == self.received_msat

    def sign(self, node: Identity) -> bytes:  # RC-W2
        """The signed receipt: the same bytes each time. ValueError when `node` is another node."""
        if node.public_key != self.node_id:
            raise ValueError("a receipt is signed by the node it names")
        return _sign(self, _RECEIPT, "receipt", node)

    @classmethod
    def decode(cls, encoded: bytes) -> Self:  # RC-R2
        """Read and verify; RemoteProtocolError names what is wrong."""
        fields, body = _read(encoded, _RECEIPT, "receipt")
        receipt = cls(**fields)
        _verify(receipt.node_id, "receipt", body)
        return receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """A client's word for a receipt: it paid that, and verified the proof over `verified_shares` shares itself."""

    account_id: AccountId
    node_id: NodeId
    number: int
    receipt_hash: Digest
    verified_shares: int
    at: int

    @classmethod
    def of(cls, encoded_receipt: bytes, at: int) -> Self:  # RC-W3
        """For a signed receipt whose proof the client verified before it paid."""
        receipt = Receipt.decode(encoded_receipt)
        return cls(
            account_id=receipt.account_id,
            node_id=receipt.node_id,
            number=receipt.number,
            receipt_hash=receipt_hash(encoded_receipt),
            verified_shares=receipt.sampled,
            at=at,
        )

    def sign(self, account: Identity) -> bytes:
        """The signed acknowledgement; ValueError when `account` is another account."""
        if account.public_key != self.account_id:
            raise ValueError("an acknowledgement is signed by the account it names")
        return _sign(self, _ACKNOWLEDGEMENT, "acknowledgement", account)

    @classmethod
    def decode(cls, encoded: bytes) -> Self:  # RC-R2
        """Read and verify; RemoteProtocolError names what is wrong."""
        fields, body = _read(encoded, _ACKNOWLEDGEMENT, "acknowledgement")
        acknowledgement = cls(**fields)
        _verify(acknowledgement.account_id, "acknowledgement", body)
        return acknowledgement


def receipt_hash(encoded: bytes) -> Digest:
    """What an acknowledgement calls a signed receipt by."""
    return Digest(blake3(encoded, derive_key_context="lnstore receipt hash v1").digest())


# --- what a receipt must say ----------------------------------------------------------------------------------------


def receipt_faults(receipt: Receipt, agreements: Sequence[Agreement]) -> list[str]:  # RC-R7, RC-R8
    """What is wrong with a receipt under an account's agreements, a sentence each: parties, bounds of time, arithmetic.

    The one it names must be among them; the prices are those of all of them under the same anchor.
    """
    agreement = next((one for one in agreements if agreement_hash(one.encoded) == receipt.agreement_hash), None)
    if agreement is None:
        return ["its agreement is not there"]
    parties = (receipt.account_id, receipt.node_id)
    under = [one for one in agreements if one.anchor_at == agreement.anchor_at and _parties(one) == parties]
    faults: list[str] = []
    if not all(one.countersigned for one in (agreement, *under)):
        faults.append("it belongs to an agreement that the node did not sign")
    if parties != _parties(agreement):
        faults.append("its agreement is between another account and node")
        under = [agreement]
    if times := _time_faults(receipt, agreement):
        faults += times
    else:
        faults += _money_faults(receipt, under)
    if receipt.purpose is not InvoicePurpose.RENT and _proof(receipt) != (0, 0, 0, NO_SAMPLE):
        faults.append("it names a proof, which only rent has")
    if receipt.sampled > receipt.shares or (receipt.sampled == 0) is not (receipt.sample_hash == NO_SAMPLE):
        faults.append("the numbers of its shares do not fit each other")
    return faults


def _parties(agreement: Agreement) -> tuple[AccountId, NodeId]:
    return agreement.account_id, agreement.terms.terms.node_id


def _proof(receipt: Receipt) -> tuple[int, int, int, Digest]:
    return receipt.token_index, receipt.shares, receipt.sampled, receipt.sample_hash


def _time_faults(receipt: Receipt, agreement: Agreement) -> list[str]:
    anchor, seconds = agreement.anchor_at, agreement.terms.terms.period_seconds
    match receipt.purpose:
        case InvoicePurpose.RENT:
            fits = (receipt.from_at, receipt.until_at) == (
                period_start(anchor, seconds, receipt.index),
                period_start(anchor, seconds, receipt.index + 1),
            )
            return [] if fits else [f"its times are not those of period {receipt.index}"]
        case InvoicePurpose.CAPACITY:
            if receipt.from_at >= receipt.until_at:
                return ["it is for no time at all"]
            # R-R8: to the end of the next period at most, and a stranger's receipt must not cost a walk over ages.
            fits = receipt.until_at - receipt.from_at <= 2 * seconds + CLOCK_TOLERANCE_SECONDS
            return [] if fits else ["it is for a longer time than growth is ever paid for"]
        case InvoicePurpose.DEPOSIT:
            fits = receipt.from_at == receipt.until_at and receipt.capacity_bytes == 0
            return [] if fits else ["a deposit is for no time and no capacity"]


def _due(receipt: Receipt, agreements: Sequence[Agreement]) -> Msat:
    """What both sides compute for it; ValueError when its time has no price."""
    prices = Prices.of(agreements)
    if receipt.purpose is InvoicePurpose.RENT:
        return prices.rent_msat(receipt.capacity_bytes, receipt.index)
    return max(Msat(1), prices.growth_msat(receipt.capacity_bytes, receipt.from_at, receipt.until_at))


def _money_faults(receipt: Receipt, agreements: Sequence[Agreement]) -> list[str]:
    faults: list[str] = []
    if receipt.purpose is not InvoicePurpose.DEPOSIT and not receipt.given:
        try:
            due = _due(receipt, agreements)
        except ValueError as exc:
            faults.append(f"what is due for it can not be computed: {exc}")
        else:
            if receipt.amount_msat != due:
                faults.append(f"{receipt.amount_msat} msat were asked where {due} msat are due")
    over = receipt.received_msat - receipt.amount_msat
    whole = receipt.received_msat
    allowed = {whole} if receipt.purpose is InvoicePurpose.DEPOSIT or over < 0 else {over, whole}
    if receipt.deposited_msat not in allowed:
        faults.append(
            f"of {whole} msat received for {receipt.amount_msat} msat {receipt.deposited_msat} msat became deposit"
        )
    return faults


def acknowledgement_faults(acknowledgement: Acknowledgement, receipt: Receipt, encoded_receipt: bytes) -> list[str]:
    """What is wrong with an acknowledgement as the one of this receipt, a sentence each."""
    named = (acknowledgement.account_id, acknowledgement.node_id, acknowledgement.number, acknowledgement.receipt_hash)
    faults: list[str] = []
    if named != (receipt.account_id, receipt.node_id, receipt.number, receipt_hash(encoded_receipt)):
        faults.append("the acknowledgement is of another receipt")
    if acknowledgement.verified_shares != receipt.sampled:
        faults.append(
            f"the client verified {acknowledgement.verified_shares} shares, the receipt says {receipt.sampled}"
        )
    return faults


# --- several in a payload -------------------------------------------------------------------------------------------


def join(structures: Sequence[bytes]) -> bytes:
    """The payload of get_receipts_reply and put_receipts: u16 length ‖ signed structure each. ValueError over limit."""
    if len(structures) > RECEIPTS_AT_ONCE or any(len(one) > MAX_RECEIPT_BYTES for one in structures):
        raise ValueError(f"at most {RECEIPTS_AT_ONCE} structures of {MAX_RECEIPT_BYTES} bytes each")
    return b"".join(len(one).to_bytes(_LENGTH_BYTES, "big") + one for one in structures)


def split(payload: Buffer) -> list[bytes]:  # RC-R1
    """What `join` joined; RemoteProtocolError for anything else."""
    data, at, found = bytes(payload), 0, list[bytes]()
    while at < len(data):
        size = int.from_bytes(data[at : at + _LENGTH_BYTES], "big")
        one = data[at + _LENGTH_BYTES : at + _LENGTH_BYTES + size]
        if at + _LENGTH_BYTES > len(data) or len(one) != size:
            raise RemoteProtocolError("receipts: the payload is cut short")
        if size > MAX_RECEIPT_BYTES or len(found) == RECEIPTS_AT_ONCE:
            raise RemoteProtocolError("receipts: too many, or one too long", ErrorCode.TOO_LARGE)
        found.append(one)
        at += _LENGTH_BYTES + size
    return found


# --- the maps -------------------------------------------------------------------------------------------------------

_RECEIPT: Table = {
    0: ("account_id", AccountId),
    2: ("node_id", NodeId),
    4: ("number", int),
    6: ("agreement_hash", Digest),
    8: ("purpose", InvoicePurpose),
    10: ("index", int),
    12: ("from_at", int),
    14: ("until_at", int),
    16: ("capacity_bytes", int),
    18: ("amount_msat", int),
    20: ("received_msat", int),
    22: ("deposited_msat", int),
    24: ("payment_hash", PaymentHash),
    26: ("credited_at", int),
    28: ("token_index", int),
    30: ("shares", int),
    32: ("sampled", int),
    34: ("sample_hash", Digest),
}
_ACKNOWLEDGEMENT: Table = {
    0: ("account_id", AccountId),
    2: ("node_id", NodeId),
    4: ("number", int),
    6: ("receipt_hash", Digest),
    8: ("verified_shares", int),
    10: ("at", int),
}


def _sign(value: Receipt | Acknowledgement, table: Table, purpose: str, signer: Identity) -> bytes:
    body = to_map(value, table)
    return cbor.encode(body | {SIGNATURE: signer.sign(purpose, cbor.encode(body))})


def _read(encoded: bytes, table: Table, what: str) -> tuple[dict[str, Any], dict[int, Any]]:
    if len(encoded) > MAX_RECEIPT_BYTES:
        raise RemoteProtocolError(f"{what}: more than {MAX_RECEIPT_BYTES} bytes", ErrorCode.TOO_LARGE)
    body = read_map(encoded, what, signatures=(SIGNATURE,))
    return from_map(body, table, what), body


def _verify(signer: NodeId | AccountId, what: str, body: dict[int, Any]) -> None:
    verify(signer, what, cbor.encode(without(body, SIGNATURE)), body[SIGNATURE])
