"""The Lightning port: what lnstore needs of a Lightning daemon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from lnstore.errors import ExitCode, LnstoreError
from lnstore_protocol.ids import LightningId, Msat, PaymentHash


class LightningError(LnstoreError):
    """A Lightning daemon could not do what was asked; the text says what to do next."""

    exit_code = ExitCode.PAYMENT


class LightningUnavailable(LightningError):
    """The daemon did not answer (missing, starting, stopping, hung). Whether it acted is not known."""


class LightningRefused(LightningError):
    """The daemon answered with an error. `code` is Core Lightning's JSON-RPC error code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} (Core Lightning error {code})")
        self.code = code
        self.message = message


class Outcome(Enum):
    """What is known of a payment. PENDING and UNKNOWN are never treated as FAILED."""

    SETTLED = "settled"
    FAILED = "failed"
    PENDING = "pending"
    UNKNOWN = "unknown"


class InvoiceStatus(Enum):
    """As in Core Lightning."""

    UNPAID = "unpaid"
    PAID = "paid"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class LightningInfo:
    """Who a Lightning daemon is, how far it has seen the chain, and where peers reach it (host, port)."""

    lightning_id: LightningId
    alias: str
    network: str
    block_height: int
    version: str
    synced: bool
    simulated: bool
    addresses: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Invoice:
    """One of our own invoices. Times are Unix seconds; the last three are set once it is paid."""

    label: str
    bolt11: str
    payment_hash: PaymentHash
    amount_msat: Msat
    expires_at: int
    status: InvoiceStatus
    pay_index: int | None = None
    paid_at: int | None = None
    received_msat: Msat | None = None


@dataclass(frozen=True, slots=True)
class DecodedInvoice:
    """What a BOLT11 string says, its signature checked. `amount_msat` is None when the payer chooses."""

    payee: LightningId
    payment_hash: PaymentHash
    amount_msat: Msat | None
    created_at: int
    expires_at: int
    network: str
    description: str


@dataclass(frozen=True, slots=True)
class Payment:
    """What became of a payment we made. `sent_msat` includes routing fees; the preimage is known once SETTLED.

    `unpayable`, only ever with FAILED: nothing is in flight, but this daemon will never pay this payment hash;
    another invoice, with another hash, is needed.
    """

    outcome: Outcome
    amount_msat: Msat | None = None
    sent_msat: Msat | None = None
    preimage: bytes | None = field(default=None, repr=False)
    reason: str = ""
    unpayable: bool = False


@dataclass(frozen=True, slots=True)
class Channel:
    """A Lightning channel as this side sees it. `state` is Core Lightning's name (CHANNELD_NORMAL, …).

    `channel_id` is empty until the funding is agreed on. `status` is the daemon's own sentence about it,
    `largest_payment_msat` the most that goes over it at once. `closed_by_us` is None while nobody closes it, or nobody
    knows who did. While a splice waits for its block (`splicing`) payments pass, and the amounts are the old ones.
    """

    peer: LightningId
    state: str
    connected: bool
    channel_id: str
    short_channel_id: str | None
    funding_txid: str | None
    capacity_msat: Msat
    to_us_msat: Msat
    spendable_msat: Msat
    receivable_msat: Msat
    largest_payment_msat: Msat = Msat(2**63 - 1)  # noqa: RUF009  a constant
    status: str = ""
    opened_by_us: bool = True
    closed_by_us: bool | None = None
    splicing: bool = False

    @property
    def usable(self) -> bool:
        """Whether payments can pass now."""
        return self.connected and self.state in OPERATING


OPERATING = frozenset({"CHANNELD_NORMAL", "CHANNELD_AWAITING_SPLICE"})
"""The states in which a channel carries payments while its peers are connected."""


@dataclass(frozen=True, slots=True)
class Closing:
    """How a channel was closed: by both (`mutual`) or alone. `txid` is empty for one that was never funded."""

    txid: str
    mutual: bool


@dataclass(frozen=True, slots=True)
class Coin:
    """An output of the wallet: `outpoint` is txid:number, `spendable` once it is confirmed and not reserved."""

    outpoint: str
    amount_sat: int
    spendable: bool


@dataclass(frozen=True, slots=True)
class Feerates:
    """What transactions cost now, in sat for 1,000 of weight."""

    opening: int
    splice: int
    mutual_close: int


class LightningIdentity(Protocol):
    """Who we are on Lightning, and who others are."""

    async def info(self) -> LightningInfo:
        """This daemon's id, network and height."""
        ...

    async def sign_message(self, message: str) -> str:
        """A zbase32 signature of `message` by this daemon's key."""
        ...

    async def check_message(self, message: str, zbase: str, signer: LightningId) -> bool:
        """Whether `signer` made the signature `zbase` of `message`."""
        ...


class Invoices(Protocol):
    """Getting paid. Labels are deterministic; creating the same invoice twice gives the same invoice."""

    async def create_invoice(
        self, *, label: str, amount_msat: Msat, description: str, expires_in_seconds: int, preimage: bytes
    ) -> Invoice:
        """The invoice of this label, made now or earlier (errors 900 and 901 mean it exists already).

        LightningRefused when an existing invoice of that label has another preimage or amount.
        """
        ...

    async def find_invoice(self, label: str) -> Invoice | None:
        """The invoice of this label, or None."""
        ...

    async def delete_invoice(self, label: str, status: InvoiceStatus) -> bool:
        """Delete the invoice if it still has `status`; False when it has not (it may have been paid) or is unknown."""
        ...

    async def next_paid(self, after_pay_index: int, *, timeout_seconds: int) -> Invoice | None:
        """The first paid invoice after `after_pay_index`, in order of payment; None when none came in time."""
        ...


class InvoiceList(Protocol):
    """Looking at all invoices, for an audit."""

    async def list_invoices(self, *, from_index: int, limit: int) -> tuple[list[Invoice], int]:
        """Invoices in the order of their creation from this index (1 on), and the index to go on with, 0 at the end."""
        ...


class Payments(Protocol):
    """Paying. The outcome is decided from the daemon's list of payments, never from an error alone."""

    async def decode(self, bolt11: str) -> DecodedInvoice:
        """What the invoice says; LightningRefused when it is not a valid one."""
        ...

    async def pay(self, bolt11: str, *, max_fee_msat: Msat, retry_for_seconds: int) -> Payment:
        """Pay the invoice, at most once in all: the same call while one is in flight or settled pays nothing more."""
        ...

    async def payment(self, bolt11: str) -> Payment:
        """What became of earlier attempts to pay this invoice. No attempt at all is FAILED: nothing left us."""
        ...


class Channels(Protocol):
    """Channels with peers."""

    async def connect(self, peer: LightningId, host: str, port: int) -> None:
        """Connect to a peer (at once when already connected)."""
        ...

    async def open_channel(
        self, peer: LightningId, *, amount_sat: int, push_msat: Msat, announce: bool, zero_conf: bool = False
    ) -> str:
        """Fund a channel to a connected peer; the channel id. It is usable some blocks later (`channels`).

        With `zero_conf` it is usable at once if the peer allows that to us; else that changes nothing.
        """
        ...

    async def channels(self, peer: LightningId | None = None) -> list[Channel]:
        """All channels, or those with one peer."""
        ...

    async def close_channel(
        self, channel_id: str, *, unilateral_timeout_seconds: int, destination: str | None = None
    ) -> Closing:
        """Close the channel, alone if the peer is away for so long; our part goes to `destination`, or the wallet."""
        ...

    async def can_splice(self, peer: LightningId) -> bool:
        """Whether both daemons can change a channel's size without closing it. False while not connected."""
        ...

    async def splice_in(self, channel_id: str, *, amount_sat: int) -> str:
        """Put coins of the wallet into a channel; the transaction's id. In force once it has a block.

        Never while another splice is under way (`Channel.splicing`), nor with more than the wallet has: lightningd
        v26.06 may close the channel then.
        """
        ...

    async def splice_out(self, channel_id: str, *, amount_sat: int) -> str:
        """Take coins out of a channel into the wallet; the fee is taken from the channel too. Else as `splice_in`."""
        ...

    async def set_largest_payment(self, channel_id: str, amount_msat: Msat) -> None:
        """How much we send over a channel at once; a splice leaves it at what the channel had when it was opened."""
        ...


class OnChain(Protocol):
    """The on-chain wallet behind the channels."""

    async def new_address(self) -> str:
        """A fresh on-chain address of this daemon's wallet."""
        ...

    async def wallet_msat(self) -> Msat:
        """Confirmed, unreserved on-chain funds."""
        ...

    async def coins(self) -> list[Coin]:
        """The wallet's unspent outputs."""
        ...

    async def feerates(self) -> Feerates:
        """What transactions cost now."""
        ...

    async def opening_fee_sat(self, amount_sat: int) -> int:
        """What funding a channel of this size would cost now, from a trial that spends nothing.

        LightningRefused as `open_channel` when the wallet does not have so much (301, 313).
        """
        ...

    async def check_address(self, address: str) -> None:
        """LightningRefused (-1) unless coins can be sent to this address."""
        ...

    async def withdraw(self, address: str, *, coins: Sequence[str]) -> str:
        """Send these coins (outpoints) to an address, but for what the daemon keeps for emergencies; the txid."""
        ...


class Lightning(LightningIdentity, Invoices, Payments, Channels, OnChain, Protocol):
    """A Lightning daemon."""
