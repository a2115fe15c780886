"""A small honest world for tests of money: a Lightning network in memory, a node without sockets, a purse.

The Lightning network keeps the port's promises (one live payment for each hash, outcomes read from its own list) and
can be told what happens to the next payment. The node keeps FLOWS' rules and computes real proofs; a test makes it
dishonest by giving it a `tamper` function, which sees every reply before it is sent.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from lnstore.client.catalog import Catalog, NodeEntry, ShareEntry
from lnstore.client.node_errors import NodeRefused
from lnstore.client.purse import Purse
from lnstore.config import ClientConfig
from lnstore.ports import (
    Channel,
    Closing,
    Coin,
    DecodedInvoice,
    Feerates,
    Invoice,
    InvoiceStatus,
    Lightning,
    LightningInfo,
    LightningRefused,
    Outcome,
    Payment,
)
from lnstore_protocol import merkle, proofs, receipts
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import LightningId, Msat, NodeAddress, NodeId, PaymentHash, ShareId
from lnstore_protocol.messages import (
    LEAF_BYTES,
    TOKEN_BYTES,
    TOKENS_PER_SHARE,
    AccountState,
    AccountStatus,
    AccountStatusReply,
    AddCapacity,
    AddCapacityReply,
    AuditShare,
    AuditShareReply,
    ChannelInfo,
    ChannelInfoReply,
    DropShares,
    DropSharesReply,
    ErrorReply,
    GetReceipts,
    GetReceiptsReply,
    GetTerms,
    HelloReply,
    InvoicePurpose,
    InvoiceReply,
    Leave,
    LeaveReply,
    ListShares,
    ListSharesReply,
    OpenAccount,
    OpenAccountReply,
    PutReceipts,
    PutReceiptsReply,
    RenewAgreement,
    RenewAgreementReply,
    Request,
    RequestInvoice,
    ShrinkCapacity,
    ShrinkCapacityReply,
    TermsReply,
)
from lnstore_protocol.receipts import Receipt
from lnstore_protocol.terms import (
    Agreement,
    ChannelPolicy,
    Terms,
    binding_text,
    period_at,
    period_start,
    refund_msat,
    rent_msat,
)

START = 1_800_000_000
PERIOD = 30 * 86_400
GIB = 1 << 30
SECRET = b"s" * 32


@dataclass
class SetClock:
    """A clock that a test sets."""

    at: int = START

    def now(self) -> int:
        return self.at


class Killed(BaseException):
    """What a test raises where a kill -9 would strike."""


# --- Lightning in memory --------------------------------------------------------------------------------------------


@dataclass
class _Sent:
    payment_hash: PaymentHash
    amount_msat: Msat
    status: str
    fee_msat: int = 0


@dataclass
class MemoryNetwork:
    """All daemons' invoices. `fates` says what becomes of the next payments: see MemoryLightning.pay."""

    clock: SetClock
    daemons: dict[LightningId, MemoryLightning] = field(default_factory=dict)
    fates: list[str] = field(default_factory=list)
    name: str = "regtest"
    pay_index: int = 0

    def daemon(self, number: int) -> MemoryLightning:
        """A new daemon."""
        daemon = MemoryLightning(self, LightningId(b"\x02" + bytes([number]) * 32))
        self.daemons[daemon.lightning_id] = daemon
        return daemon


class MemoryLightning:
    """A Lightning daemon in memory; implements ports.Lightning as far as paying goes."""

    def __init__(self, network: MemoryNetwork, lightning_id: LightningId) -> None:
        self.network = network
        self.lightning_id = lightning_id
        self.invoices: dict[str, Invoice] = {}
        self.preimages: dict[PaymentHash, bytes] = {}
        self.sent: list[_Sent] = []
        self.fee_msat = 0
        self.open_channels: list[Channel] = []
        self.wallet_sat = 10_000_000
        self.opening_sat = 200

    async def info(self) -> LightningInfo:
        return LightningInfo(self.lightning_id, "memory", self.network.name, 1, "memory", synced=True, simulated=True)

    async def sign_message(self, message: str) -> str:
        return f"{self.lightning_id.hex()}:{hashlib.sha256(message.encode()).hexdigest()}"

    async def check_message(self, message: str, zbase: str, signer: LightningId) -> bool:
        return zbase == f"{signer.hex()}:{hashlib.sha256(message.encode()).hexdigest()}"

    async def create_invoice(
        self, *, label: str, amount_msat: Msat, description: str, expires_in_seconds: int, preimage: bytes
    ) -> Invoice:
        payment_hash = PaymentHash(hashlib.sha256(preimage).digest())
        if label in self.invoices:
            return self.invoices[label]
        created = self.network.clock.now()
        said = {
            "payee": self.lightning_id.hex(),
            "hash": payment_hash.hex(),
            "amount": amount_msat,
            "created": created,
            "expires": created + expires_in_seconds,
            "network": self.network.name,
            "salt": secrets.token_hex(4),
        }
        invoice = Invoice(
            label=label,
            bolt11="lnmem" + json.dumps(said).encode().hex(),
            payment_hash=payment_hash,
            amount_msat=amount_msat,
            expires_at=created + expires_in_seconds,
            status=InvoiceStatus.UNPAID,
        )
        self.invoices[label] = invoice
        self.preimages[payment_hash] = preimage
        return invoice

    async def find_invoice(self, label: str) -> Invoice | None:
        return self.invoices.get(label)

    async def delete_invoice(self, label: str, status: InvoiceStatus) -> bool:
        found = self.invoices.get(label)
        if found is None or found.status is not status:
            return False
        del self.invoices[label]
        return True

    async def next_paid(self, after_pay_index: int, *, timeout_seconds: int) -> Invoice | None:
        paid = [i for i in self.invoices.values() if i.pay_index is not None and i.pay_index > after_pay_index]
        return min(paid, key=lambda i: i.pay_index or 0, default=None)

    async def decode(self, bolt11: str) -> DecodedInvoice:
        try:
            said = json.loads(bytes.fromhex(bolt11.removeprefix("lnmem")))
        except ValueError:
            raise LightningRefused(-32602, "not an invoice") from None
        return DecodedInvoice(
            payee=LightningId.from_hex(said["payee"]),
            payment_hash=PaymentHash.from_hex(said["hash"]),
            amount_msat=said["amount"],
            created_at=said["created"],
            expires_at=said["expires"],
            network=said["network"],
            description="",
        )

    async def pay(self, bolt11: str, *, max_fee_msat: Msat, retry_for_seconds: int) -> Payment:
        """Pay at once, or as the next fate says.

        "fail": refused. "hold": stays on its way until `release`. "lose": paid, but the daemon dies before it answers.
        "drop": the daemon dies before it does anything. "record": it dies between recording and sending, and will
        never pay this invoice. "kill before" and "kill after": the caller dies.
        """
        fate = self.network.fates.pop(0) if self.network.fates else ""
        before = await self.payment(bolt11)
        if before.outcome is not Outcome.FAILED or before.unpayable:
            return before
        if fate == "kill before":
            raise Killed
        if fate == "fail":
            return Payment(Outcome.FAILED, reason="no route")
        if fate == "drop":
            return Payment(Outcome.UNKNOWN, reason="the daemon went away")
        invoice = await self.decode(bolt11)
        if fate == "record":
            self.sent.append(_Sent(invoice.payment_hash, Msat(0), "lost"))
            return Payment(Outcome.UNKNOWN, reason="the daemon died")
        if self.fee_msat > max_fee_msat:
            return Payment(Outcome.FAILED, reason="too expensive")
        if self._payable(invoice) is None:
            return Payment(Outcome.FAILED, reason="the payee does not know the invoice")
        assert invoice.amount_msat is not None
        self.sent.append(_Sent(invoice.payment_hash, invoice.amount_msat, "pending", self.fee_msat))
        if fate != "hold":
            self.release()
        if fate == "kill after":
            raise Killed
        return Payment(Outcome.UNKNOWN, reason="the daemon died") if fate == "lose" else await self.payment(bolt11)

    def release(self) -> None:
        """Settle everything that is on its way."""
        for sent in self.sent:
            if sent.status == "pending":
                sent.status = "complete"
                payee, label = self._find(sent.payment_hash)
                self.network.pay_index += 1
                payee.invoices[label] = dataclasses.replace(
                    payee.invoices[label],
                    status=InvoiceStatus.PAID,
                    pay_index=self.network.pay_index,
                    paid_at=self.network.clock.now(),
                    received_msat=sent.amount_msat,
                )

    async def payment(self, bolt11: str) -> Payment:
        invoice = await self.decode(bolt11)
        for sent in self.sent:
            if sent.payment_hash == invoice.payment_hash:
                if sent.status == "lost":
                    return Payment(Outcome.FAILED, reason="recorded and never sent", unpayable=True)
                if sent.status == "pending":
                    return Payment(Outcome.PENDING, reason="on its way")
                payee, _ = self._find(sent.payment_hash)
                return Payment(
                    Outcome.SETTLED,
                    amount_msat=sent.amount_msat,
                    sent_msat=Msat(sent.amount_msat + sent.fee_msat),
                    preimage=payee.preimages[sent.payment_hash],
                )
        return Payment(Outcome.FAILED, reason="no attempt")

    def _payable(self, invoice: DecodedInvoice) -> Invoice | None:
        payee = self.network.daemons.get(invoice.payee)
        known = payee.invoices.values() if payee is not None else ()
        for one in known:
            if one.payment_hash == invoice.payment_hash and one.status is InvoiceStatus.UNPAID:
                return one if self.network.clock.now() <= one.expires_at else None
        return None

    def _find(self, payment_hash: PaymentHash) -> tuple[MemoryLightning, str]:
        return next(
            (daemon, label)
            for daemon in self.network.daemons.values()
            for label, invoice in daemon.invoices.items()
            if invoice.payment_hash == payment_hash
        )

    async def connect(self, peer: LightningId, host: str, port: int) -> None:
        if peer not in self.network.daemons:
            raise LightningRefused(401, "nobody there")

    async def open_channel(
        self, peer: LightningId, *, amount_sat: int, push_msat: Msat, announce: bool, zero_conf: bool = False
    ) -> str:
        msat = Msat(amount_sat * 1000)
        channel_id = f"{len(self.open_channels):064x}"
        self.open_channels.append(
            Channel(
                peer=peer,
                state="CHANNELD_NORMAL",
                connected=True,
                channel_id=channel_id,
                short_channel_id="1x1x1",
                funding_txid="00" * 32,
                capacity_msat=msat,
                to_us_msat=msat,
                spendable_msat=msat,
                receivable_msat=Msat(0),
            )
        )
        return channel_id

    async def channels(self, peer: LightningId | None = None) -> list[Channel]:
        return [channel for channel in self.open_channels if peer in (None, channel.peer)]

    async def close_channel(
        self, channel_id: str, *, unilateral_timeout_seconds: int, destination: str | None = None
    ) -> Closing:
        self._change(channel_id, state="CLOSINGD_COMPLETE", closed_by_us=True)
        return Closing("11" * 32, mutual=True)

    def _change(self, channel_id: str, **changes: Any) -> None:
        if channel_id not in {channel.channel_id for channel in self.open_channels}:
            raise LightningRefused(-32602, "no such channel")
        self.open_channels = [
            dataclasses.replace(channel, **changes) if channel.channel_id == channel_id else channel
            for channel in self.open_channels
        ]

    async def can_splice(self, peer: LightningId) -> bool:
        return False

    async def splice_in(self, channel_id: str, *, amount_sat: int) -> str:
        raise LightningRefused(-32601, "Unknown command 'splicein'")

    async def splice_out(self, channel_id: str, *, amount_sat: int) -> str:
        raise LightningRefused(-32601, "Unknown command 'spliceout'")

    async def set_largest_payment(self, channel_id: str, amount_msat: Msat) -> None:
        self._change(channel_id, largest_payment_msat=amount_msat)

    async def new_address(self) -> str:
        return "address"

    async def wallet_msat(self) -> Msat:
        return Msat(self.wallet_sat * 1000)

    async def coins(self) -> list[Coin]:
        return [Coin("22" * 32 + ":0", self.wallet_sat, spendable=True)]

    async def feerates(self) -> Feerates:
        return Feerates(opening=253, splice=253, mutual_close=253)

    async def opening_fee_sat(self, amount_sat: int) -> int:
        return self.opening_sat

    async def check_address(self, address: str) -> None:
        pass

    async def withdraw(self, address: str, *, coins: Sequence[str]) -> str:
        return "33" * 32


# --- a node ---------------------------------------------------------------------------------------------------------


@dataclass
class _Account:
    agreement: Agreement
    capacity_bytes: int = 0
    paid_until_at: int = 0
    token_index: int = 0
    growth_index: int = 0
    deposit_index: int = 0
    deposit_msat: int = 0
    state: AccountState = AccountState.ACTIVE
    shrink: tuple[int, int] | None = None  # the capacity, and from which period on
    left: LeaveReply | None = None


@dataclass
class _Pending:
    label: str
    request: Request
    reply: InvoiceReply
    nonce: bytes | None = None
    credited: bool = False


class HonestNode:
    """A storage node for one client, without sockets; `tamper` makes it dishonest."""

    def __init__(self, lightning: Lightning, clock: SetClock, *, number: int = 1, **terms: Any) -> None:
        self.lightning = lightning
        self.clock = clock
        self.identity = Identity(bytes([number]) * 32)
        self.node_id = NodeId(self.identity.public_key)
        self.address = NodeAddress(self.node_id, "127.0.0.1", 7000 + number)
        self.terms = terms
        self.account: _Account | None = None
        self.shares: dict[ShareId, tuple[bytes, bytes]] = {}
        self.lost: set[ShareId] = set()
        self.invoices: list[_Pending] = []
        self.tamper: Callable[[Any], Any] = lambda reply: reply
        self.refuse: ErrorCode | None = None
        self.credits = True
        self.asked: list[Request] = []
        self.places = ["127.0.0.1:9735"]
        self.receipts: list[Receipt] = []
        self.forge: Callable[[Receipt], Receipt] = lambda receipt: receipt
        self.words: dict[int, bytes] = {}
        self.hello: HelloReply

    async def start(self) -> HonestNode:
        info = await self.lightning.info()
        self.lightning_id = info.lightning_id
        self.hello = HelloReply(
            version_major=1,
            version_minor=0,
            features=b"",
            network=info.network,
            lightning_id=info.lightning_id,
            lightning_signature=await self.lightning.sign_message(binding_text(self.node_id, info.lightning_id)),
            now_at=self.clock.now(),
            agent="honest",
        )
        return self

    async def request(self, message: Request, *, timeout_seconds: float) -> Any:
        """A connection's `request`."""
        self.asked.append(message)
        if self.refuse is not None:
            raise NodeRefused(self.address, ErrorReply(code=self.refuse, message="not now"))
        await self._credit()
        match message:
            case GetTerms():
                reply: Any = TermsReply(terms=self._terms().sign(self.identity).encoded)
            case OpenAccount(agreement=encoded):
                agreement = Agreement.decode(encoded).countersign(self.identity)
                if self.account is None or self.account.state is AccountState.LAPSED:
                    index = self._next_token_index()
                    old = self.account or _Account(agreement)
                    self.shares.clear()
                    self.account = _Account(
                        agreement,
                        paid_until_at=agreement.anchor_at,
                        token_index=index,
                        growth_index=old.growth_index,
                        deposit_index=old.deposit_index,
                    )
                reply = OpenAccountReply(agreement=self.account.agreement.encoded)
            case AccountStatus():
                reply = self._status()
            case RenewAgreement(agreement=encoded):
                signed = Agreement.decode(encoded).countersign(self.identity)
                reply = RenewAgreementReply(agreement=signed.encoded)
            case AddCapacity():
                reply = await self._grow(message)
            case RequestInvoice(purpose=InvoicePurpose.DEPOSIT):
                reply = await self._deposit(message)
            case RequestInvoice():
                reply = await self._rent(message)
            case ShrinkCapacity(capacity_bytes=capacity_bytes):
                reply = self._shrink(capacity_bytes)
            case Leave():
                reply = self._leave()
            case ChannelInfo():
                reply = ChannelInfoReply(
                    lightning_id=self.lightning_id, addresses=self.places, minimum_sat=self._terms().minimum_channel_sat
                )
            case ListShares(after=after, limit=limit):
                held = sorted(share_id for share_id in self.shares if after is None or share_id > after)[:limit]
                reply = ListSharesReply(payload=b"".join(i + len(self.shares[i][0]).to_bytes(4, "big") for i in held))
            case DropShares(payload=payload):
                ids = [ShareId(bytes(payload[at : at + 32])) for at in range(0, len(payload), 32)]
                dropped = sum(self.shares.pop(share_id, None) is not None for share_id in ids)
                reply = DropSharesReply(dropped=dropped, used_bytes=0)
            case AuditShare(share_id=share_id, leaf=leaf):
                reply = self._audit(share_id, leaf)
            case GetReceipts(first_number=first, limit=limit):
                page = [self.forge(receipt).sign(self.identity) for receipt in self.receipts[first : first + limit]]
                reply = GetReceiptsReply(total=len(self.receipts), payload=receipts.join(page))
            case PutReceipts(payload=payload):
                self.words |= {receipts.Acknowledgement.decode(word).number: word for word in receipts.split(payload)}
                reply = PutReceiptsReply(acknowledged=len(self.words))
            case _:
                raise AssertionError(message)
        return self.tamper(reply)

    def _next_token_index(self) -> int:
        """Past all proofs that were asked for: their nonces are known."""
        asked = [pending.request.token_index or 0 for pending in self.invoices if _is_rent(pending.request)]
        return max(asked, default=-1) + 1

    def _terms(self) -> Terms:
        values: dict[str, Any] = {
            "node_id": self.node_id,
            "lightning_id": self.lightning_id,
            "network": "regtest",
            "price_msat_per_gib_month": 2000,
            "egress_msat_per_gib": 1000,
            "ingress_msat_per_gib": 0,
            "period_seconds": PERIOD,
            "grace_seconds": 7 * 86_400,
            "minimum_capacity_bytes": 1 << 20,
            "maximum_capacity_bytes": 1 << 40,
            "channel_policy": ChannelPolicy.ANY,
            "minimum_channel_sat": 100_000,
            "valid_from_at": self.clock.now(),
            "valid_until_at": self.clock.now() + 86_400,
            "price_periods": 12,
        }
        return Terms(**(values | self.terms))

    @property
    def open(self) -> _Account:
        if self.account is None:
            raise NodeRefused(self.address, ErrorReply(code=ErrorCode.NO_ACCOUNT, message=""))
        return self.account

    @property
    def agreed(self) -> Terms:
        return self.open.agreement.terms.terms

    def _period(self, at: int) -> int:
        return period_at(self.open.agreement.anchor_at, self.agreed.period_seconds, at)

    def _starts(self, period: int) -> int:
        return period_start(self.open.agreement.anchor_at, self.agreed.period_seconds, period)

    def _status(self) -> AccountStatusReply:
        account = self.open
        return AccountStatusReply(
            state=account.state,
            capacity_bytes=account.capacity_bytes,
            used_bytes=sum(len(data) for data, _ in self.shares.values()),
            shares=len(self.shares),
            deposit_msat=Msat(account.deposit_msat),
            anchor_at=account.agreement.anchor_at,
            paid_until_at=account.paid_until_at,
            next_period=self._period(account.paid_until_at),
            token_index=account.token_index,
            growth_index=account.growth_index,
            deposit_index=account.deposit_index,
            ingress_bytes=0,
            egress_bytes=0,
            now_at=self.clock.now(),
            agreement=account.agreement.encoded,
            shrink_to_bytes=account.shrink[0] if account.shrink else None,
            shrink_period=account.shrink[1] if account.shrink else None,
        )

    def _shrink(self, capacity_bytes: int) -> ShrinkCapacityReply:
        account = self.open
        unpaid, begun = self._period(account.paid_until_at), self._period(self.clock.now())
        invoiced = any(_is_rent(one.request) and one.request.period == unpaid for one in self.invoices)
        account.shrink = None
        period = begun
        if capacity_bytes < account.capacity_bytes:
            period = max(unpaid + invoiced, begun + 1)
            account.shrink = capacity_bytes, period
        return ShrinkCapacityReply(
            capacity_bytes=account.capacity_bytes, next_capacity_bytes=capacity_bytes, from_period=period
        )

    def _leave(self) -> LeaveReply:
        account, now = self.open, self.clock.now()
        if account.left is None:
            terms, unused = self.agreed, max(account.paid_until_at - now, 0)
            back = refund_msat(account.capacity_bytes, unused, terms.price_msat_per_gib_month, terms.refund_permille)
            account.deposit_msat += back
            account.state, account.capacity_bytes = AccountState.LAPSED, 0
            self.shares.clear()
            account.left = LeaveReply(left_at=now, refund_msat=back, deposit_msat=Msat(account.deposit_msat))
        return account.left

    async def _grow(self, message: AddCapacity) -> InvoiceReply:
        account, now = self.open, self.clock.now()
        if message.growth_index != account.growth_index:
            raise NodeRefused(self.address, ErrorReply(code=ErrorCode.PERIOD_REFUSED, message="growth index"))
        until = account.paid_until_at if account.capacity_bytes else self._starts(self._period(now) + 1)
        delta = message.capacity_bytes - account.capacity_bytes
        amount = Msat(rent_msat(delta, until - now, self.agreed.price_msat_per_gib_month))
        return await self._invoice(
            AddCapacityReply,
            message,
            f"capacity/{message.growth_index}",
            amount_msat=amount,
            from_at=now,
            until_at=until,
            capacity_bytes=delta,
        )

    async def _deposit(self, message: RequestInvoice) -> InvoiceReply:
        now = self.clock.now()
        assert message.amount_msat is not None
        return await self._invoice(
            InvoiceReply,
            message,
            f"deposit/{message.deposit_index}",
            amount_msat=message.amount_msat,
            from_at=now,
            until_at=now,
            capacity_bytes=0,
        )

    async def _rent(self, message: RequestInvoice) -> InvoiceReply:
        account = self.open
        assert message.nonce is not None
        assert message.period is not None
        assert message.token_index is not None
        if message.period != self._period(account.paid_until_at) or message.token_index < account.token_index:
            raise NodeRefused(self.address, ErrorReply(code=ErrorCode.PERIOD_REFUSED, message="period"))
        if account.shrink is not None and account.shrink[1] <= message.period:
            account.capacity_bytes, account.shrink = account.shrink[0], None
        amount = rent_msat(account.capacity_bytes, self.agreed.period_seconds, self.agreed.price_msat_per_gib_month)
        ids = proofs.select_sample(message.nonce, self.shares)
        held = [share_id for share_id in ids if share_id not in self.lost]
        answers = [(share_id, proofs.answer(message.nonce, share_id, self.shares[share_id][0])) for share_id in held]
        at = message.token_index * TOKEN_BYTES
        return await self._invoice(
            InvoiceReply,
            message,
            f"rent/{message.period}",
            amount_msat=amount,
            from_at=self._starts(message.period),
            until_at=self._starts(message.period + 1),
            capacity_bytes=account.capacity_bytes,
            preimage=proofs.fold(message.nonce, answers) if answers else None,
            shares=len(self.shares),
            sample=b"".join(share_id + self.shares[share_id][1][at : at + TOKEN_BYTES] for share_id in held),
            lost=b"".join(share_id for share_id in ids if share_id in self.lost),
        )

    async def _invoice(
        self,
        kind: type[InvoiceReply],
        request: Request,
        name: str,
        *,
        preimage: bytes | None = None,
        **said: Any,
    ) -> InvoiceReply:
        for pending in self.invoices:
            if pending.request == request and not await self._has_expired(pending):
                return pending.reply
        label = f"lnstore/{name}/{len(self.invoices)}"
        invoice = await self.lightning.create_invoice(
            label=label,
            amount_msat=said["amount_msat"],
            description=name,
            expires_in_seconds=3600,
            preimage=preimage or secrets.token_bytes(32),
        )
        reply = kind(bolt11=invoice.bolt11, **said)
        self.invoices.append(_Pending(label, request, reply))
        return reply

    async def _has_expired(self, pending: _Pending) -> bool:
        """Whether a request that was answered gets another invoice; never, so that tests see what comes of it."""
        return False

    async def _credit(self) -> None:
        for pending in self.invoices:
            if pending.credited or not self.credits:
                continue
            invoice = await self.lightning.find_invoice(pending.label)
            if invoice is None or invoice.status is not InvoiceStatus.PAID:
                continue
            pending.credited = True
            account = self.open
            self.receipts.append(self._receipt(pending, invoice))
            match pending.request:
                case AddCapacity():
                    account.capacity_bytes += pending.reply.capacity_bytes
                    account.growth_index += 1
                    account.paid_until_at = max(account.paid_until_at, pending.reply.until_at)
                case RequestInvoice(purpose=InvoicePurpose.DEPOSIT):
                    account.deposit_msat += pending.reply.amount_msat
                    account.deposit_index += 1
                case RequestInvoice():
                    account.paid_until_at = pending.reply.until_at
                    account.token_index = (pending.request.token_index or 0) + 1

    def _receipt(self, pending: _Pending, invoice: Invoice) -> Receipt:
        request, reply = pending.request, pending.reply
        purpose = request.purpose if isinstance(request, RequestInvoice) else InvoicePurpose.CAPACITY
        index = {
            InvoicePurpose.RENT: getattr(request, "period", None),
            InvoicePurpose.CAPACITY: getattr(request, "growth_index", None),
            InvoicePurpose.DEPOSIT: getattr(request, "deposit_index", None),
        }[purpose]
        sample = [ShareId(reply.sample[at : at + 32]) for at in range(0, len(reply.sample), 32 + TOKEN_BYTES)]
        return Receipt(
            account_id=self.open.agreement.account_id,
            node_id=self.node_id,
            number=len(self.receipts),
            agreement_hash=receipts.agreement_hash(self.open.agreement.encoded),
            purpose=purpose,
            index=index or 0,
            from_at=reply.from_at,
            until_at=reply.until_at,
            capacity_bytes=reply.capacity_bytes,
            amount_msat=reply.amount_msat,
            received_msat=reply.amount_msat,
            deposited_msat=reply.amount_msat if purpose is InvoicePurpose.DEPOSIT else Msat(0),
            payment_hash=invoice.payment_hash,
            credited_at=self.clock.now(),
            token_index=getattr(request, "token_index", None) or 0,
            shares=reply.shares,
            sampled=len(sample),
            sample_hash=receipts.sample_hash(sample),
        )

    def _audit(self, share_id: ShareId, leaf: int) -> AuditShareReply:
        if share_id not in self.shares or share_id in self.lost:
            raise NodeRefused(self.address, ErrorReply(code=ErrorCode.SHARE_UNKNOWN, message=""))
        data = self.shares[share_id][0]
        hashes = merkle.leaf_hashes(data)
        return AuditShareReply(
            share_bytes=len(data),
            proof=merkle.range_proof(hashes, leaf, leaf),
            payload=data[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES],
        )


def _is_rent(request: Request) -> TypeGuard[RequestInvoice]:
    return isinstance(request, RequestInvoice) and request.purpose is InvoicePurpose.RENT


# --- the client -----------------------------------------------------------------------------------------------------


class FragileCatalog(Catalog):
    """A catalog whose process dies at a commit: `dies_before` or `dies_after` count the commits still to come."""

    dies_before: int | None = None
    dies_after: int | None = None
    commits = 0

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        outermost = not self._connection.in_transaction
        with super().transaction() as db:
            yield db
            if outermost:
                FragileCatalog.commits += 1
                if self.dies_before is not None:
                    self.dies_before -= 1
                    if self.dies_before < 0:
                        raise Killed
        if outermost and self.dies_after is not None:
            self.dies_after -= 1
            if self.dies_after < 0:
                raise Killed


@dataclass
class World:
    """One client and its nodes."""

    directory: Path
    clock: SetClock
    network: MemoryNetwork
    lightning: MemoryLightning
    nodes: list[HonestNode]
    purse: Purse

    @property
    def node(self) -> HonestNode:
        return self.nodes[0]

    @property
    def entry(self) -> NodeEntry:
        """The first node, as the catalog has it now."""
        return self.purse.catalog.node(self.node.node_id)

    def reborn(self) -> Purse:
        """The purse of a new process with the same profile."""
        self.purse.catalog.close()
        self.purse = dataclasses.replace(self.purse, catalog=FragileCatalog.open(self.directory / "catalog.db"))
        return self.purse

    def received_msat(self) -> int:
        """What all nodes' daemons got."""
        daemons = self.network.daemons.values()
        return sum(i.received_msat or 0 for daemon in daemons for i in daemon.invoices.values())

    def forget(self, share_id: ShareId) -> None:
        """Take a share out of the catalog alone."""
        with self.purse.catalog.transaction() as db:
            db.execute("DELETE FROM shares WHERE share_id = ?", (bytes(share_id),))

    def store(self, *, shares: int, node: HonestNode | None = None, size: int = 40_000) -> list[ShareId]:
        """Shares that the node acknowledged and the catalog knows."""
        node = node or self.node
        catalog = self.purse.catalog
        name = f"file{len(catalog.files())}"
        file = catalog.begin_file(
            name=name, file_key=bytes(32), needed=1, total=1, happy=1, source=None, now=self.clock.now()
        )
        stored = []
        for number in range(shares):
            data = hashlib.shake_128(f"{name}/{number}".encode()).digest(size)
            share_id = merkle.share_id(data)
            tokens = proofs.make_tokens(
                data, share_id, proofs.audit_key(SECRET), proofs.token_key(SECRET), node.node_id
            )
            node.shares[share_id] = (data, tokens)
            stored.append(share_id)
        catalog.add_shares(
            ShareEntry(
                node_id=node.node_id,
                share_id=share_id,
                file_id=file.file_id,
                segment=number,
                number=0,
                size_bytes=size,
                token_end=TOKENS_PER_SHARE,
            )
            for number, share_id in enumerate(stored)
        )
        return stored


async def make_world(directory: Path, *, nodes: int = 1, config: dict[str, Any] | None = None, **terms: Any) -> World:
    """A client and its nodes, not yet added."""
    clock = SetClock()
    network = MemoryNetwork(clock)
    lightning = network.daemon(200)
    made = [await HonestNode(network.daemon(n), clock, number=n, **terms).start() for n in range(1, nodes + 1)]
    by_address = {node.address: node for node in made}

    async def dial(address: NodeAddress) -> HonestNode:
        return by_address[address]

    purse = Purse(
        config=ClientConfig(directory, **(config or {})),
        identity=Identity(b"c" * 32),
        account_secret=SECRET,
        catalog=FragileCatalog.open(directory / "catalog.db"),
        lightning=lightning,
        dial=dial,
        clock=clock,
        invoice_clock=clock,
    )
    return World(directory, clock, network, lightning, made, purse)
