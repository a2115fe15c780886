"""A storage node that keeps its shares in a dict: all of the protocol but Lightning, in blocking code.

    python node.py --lightning-id 02… --lightning-signature d7… --network regtest --listen 127.0.0.1:7460

It is a free node: the price is 0, every account has its capacity from the beginning and owes nothing ever, so that it
needs no invoices; what would take one is answered LIGHTNING_UNAVAILABLE. Hello has to name a Lightning key that signed
where the node is paid, even if nobody pays: without --lightning-signature it prints the text to sign with
`lightning-cli signmessage`. All is lost when it stops (against MB-R4): it shows how a node answers, not how one stores.
"""

from __future__ import annotations

import argparse
import os
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lnstore_protocol import merkle, receipts
from lnstore_protocol import messages as m
from lnstore_protocol.connection import Connection, Role
from lnstore_protocol.errors import ERROR_RULES, ErrorCode, RemoteProtocolError
from lnstore_protocol.events import HandshakeDone, NeedData, PeerClosed, RequestReceived, UnknownRequest
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import CertificateId, LightningId, Msat, NodeAddress, NodeId, ShareId
from lnstore_protocol.proofs import split_token_tables
from lnstore_protocol.replies import pack_bits
from lnstore_protocol.terms import Agreement, ChannelPolicy, Record, Terms, binding_text, period_at, period_start
from lnstore_protocol.usages import encode_usages

CAPACITY_BYTES = 64 << 20
DAY_SECONDS = 86_400
HANDSHAKE_SECONDS, IDLE_SECONDS = 10, 900
MAX_RECORDS = 16


class Refused(Exception):
    """Why a request is answered with an error."""

    def __init__(self, code: ErrorCode, text: str = "") -> None:
        super().__init__(text or ERROR_RULES[code].sentence)
        self.code = code


@dataclass
class Account:
    """What the node knows of a client."""

    agreement: Agreement
    leases: dict[ShareId, tuple[int, bytes]] = field(default_factory=dict)
    """The first token's index and the tokens of each share here; nobody will ask for them, as no rent is due."""
    records: dict[bytes, tuple[Record, bytes]] = field(default_factory=dict)
    ingress_bytes: int = 0
    egress_bytes: int = 0
    left: m.LeaveReply | None = None
    """What its client was told when it left; the account has lapsed since, and may be opened anew."""


class DictNode:
    """Everything the node keeps, and its answers. One request at a time."""

    def __init__(self, identity: Identity, lightning_id: LightningId, signature: str, network: str) -> None:
        self.identity, self.node_id = identity, NodeId(identity.public_key)
        self.lightning_id, self.signature, self.network = lightning_id, signature, network
        self.accounts: dict[bytes, Account] = {}
        self.shares: dict[ShareId, bytes] = {}
        self.lock = threading.Lock()
        self.answers: dict[type[Any], Callable[[bytes, Any], m.Reply]] = {
            m.Hello: self.hello,
            m.GetTerms: lambda _peer, _message: m.TermsReply(terms=self.terms().sign(identity).encoded),
            m.OpenAccount: self.open_account,
            m.AccountStatus: self.account_status,
            m.RenewAgreement: self.renew_agreement,
            m.AddCapacity: self.add_capacity,
            m.RequestInvoice: self.request_invoice,
            m.PutShare: self.put_share,
            m.GetShare: self.get_share,
            m.HaveShares: self.have_shares,
            m.ListShares: self.list_shares,
            m.DropShares: self.drop_shares,
            m.AuditShare: self.audit_share,
            m.PutRecord: self.put_record,
            m.GetRecord: self.get_record,
            m.ChannelInfo: self.channel_info,
            m.PutTokens: self.put_tokens,
            m.ListPeers: lambda _peer, _message: m.ListPeersReply(peers=[]),
            m.GetReceipts: self.get_receipts,
            m.PutReceipts: self.put_receipts,
            m.ShrinkCapacity: self.shrink_capacity,
            m.Leave: self.leave,
            m.PresentDelegation: self.present_delegation,
            m.RevokeDelegation: self.revoke_delegation,
            m.ListDelegations: self.list_delegations,
        }

    def answer(self, peer: bytes, message: m.Request) -> m.Reply:
        """The reply to a request of the client with this key."""
        try:
            with self.lock:
                return self.answers[type(message)](peer, message)
        except (Refused, RemoteProtocolError) as exc:
            return m.ErrorReply(code=exc.code, message=str(exc))

    def account(self, peer: bytes, *, even_lapsed: bool = False) -> Account:
        """The client's account; Refused when it has none, or has left it."""
        if peer not in self.accounts:
            raise Refused(ErrorCode.NO_ACCOUNT)
        if self.accounts[peer].left is not None and not even_lapsed:
            raise Refused(ErrorCode.LAPSED)
        return self.accounts[peer]

    def used_bytes(self, account: Account) -> int:
        """What its shares take."""
        return sum(len(self.shares[share_id]) for share_id in account.leases)

    # --- terms and accounts

    def hello(self, _peer: bytes, message: m.Hello) -> m.Reply:
        if message.version_major != 1:
            raise Refused(ErrorCode.UNSUPPORTED_VERSION)
        if any(byte & 0x55 for byte in message.features):
            raise Refused(ErrorCode.UNKNOWN_FEATURE)
        return m.HelloReply(
            version_major=1,
            version_minor=0,
            features=b"",
            network=self.network,
            lightning_id=self.lightning_id,
            lightning_signature=self.signature,
            now_at=int(time.time()),
            agent="lnstore example",
        )

    def terms(self) -> Terms:
        now = int(time.time())
        return Terms(
            node_id=self.node_id,
            lightning_id=self.lightning_id,
            network=self.network,
            price_msat_per_gib_month=Msat(0),
            egress_msat_per_gib=Msat(0),
            ingress_msat_per_gib=Msat(0),
            period_seconds=30 * DAY_SECONDS,
            grace_seconds=7 * DAY_SECONDS,
            minimum_capacity_bytes=CAPACITY_BYTES,
            maximum_capacity_bytes=CAPACITY_BYTES,
            channel_policy=ChannelPolicy.ANY,
            minimum_channel_sat=0,
            valid_from_at=now,
            valid_until_at=now + 7 * DAY_SECONDS,
            price_periods=12,
        )

    def open_account(self, peer: bytes, message: m.OpenAccount) -> m.Reply:
        account = self.accounts.get(peer)
        if account is None or account.left is not None:
            agreement, now = Agreement.decode(message.agreement), int(time.time())
            terms = agreement.terms.terms
            if agreement.account_id != peer:
                raise Refused(ErrorCode.BAD_SIGNATURE)
            if agreement.from_period:
                raise Refused(ErrorCode.MALFORMED, "a first agreement begins with period 0")
            known = (terms.node_id, terms.lightning_id) == (self.node_id, self.lightning_id)
            if not known or terms.valid_until_at < now:
                raise Refused(ErrorCode.TERMS_CHANGED)
            if abs(agreement.anchor_at - now) > 600:
                raise Refused(ErrorCode.ACCOUNT_REFUSED, f"here it is {now}; set the clock right")
            self.accounts[peer] = Account(agreement.countersign(self.identity))
            if account is not None:
                self.accounts[peer].records = account.records  # they outlive a lapse (R-W7)
        return m.OpenAccountReply(agreement=self.accounts[peer].agreement.encoded)

    def renew_agreement(self, peer: bytes, message: m.RenewAgreement) -> m.Reply:
        self.account(peer)
        if Agreement.decode(message.agreement).account_id != peer:
            raise Refused(ErrorCode.BAD_SIGNATURE)
        raise Refused(ErrorCode.TERMS_CHANGED, "prices never change here")

    def account_status(self, peer: bytes, _message: m.AccountStatus) -> m.Reply:
        account, now = self.account(peer, even_lapsed=True), int(time.time())
        anchor, length = account.agreement.anchor_at, account.agreement.terms.terms.period_seconds
        period = max(0, period_at(anchor, length, now))
        return m.AccountStatusReply(
            state=m.AccountState.ACTIVE if account.left is None else m.AccountState.LAPSED,
            capacity_bytes=CAPACITY_BYTES if account.left is None else 0,
            used_bytes=self.used_bytes(account),
            shares=len(account.leases),
            deposit_msat=Msat(0),
            anchor_at=anchor,
            paid_until_at=period_start(anchor, length, period),  # it owes nothing (R-W4)
            next_period=period,
            token_index=0,
            growth_index=0,
            deposit_index=0,
            ingress_bytes=account.ingress_bytes,
            egress_bytes=account.egress_bytes,
            now_at=now,
            agreement=account.agreement.encoded,
        )

    def shrink_capacity(self, peer: bytes, message: m.ShrinkCapacity) -> m.Reply:
        account, now = self.account(peer), int(time.time())
        if message.capacity_bytes != CAPACITY_BYTES:
            raise Refused(ErrorCode.CAPACITY_REFUSED, f"every account here has {CAPACITY_BYTES} bytes")
        length = account.agreement.terms.terms.period_seconds
        return m.ShrinkCapacityReply(
            capacity_bytes=CAPACITY_BYTES,
            next_capacity_bytes=CAPACITY_BYTES,
            from_period=max(0, period_at(account.agreement.anchor_at, length, now)),
        )

    def leave(self, peer: bytes, _message: m.Leave) -> m.Reply:
        account = self.account(peer, even_lapsed=True)
        if account.left is None:
            self.end(account, list(account.leases))
            account.left = m.LeaveReply(left_at=int(time.time()), refund_msat=Msat(0), deposit_msat=Msat(0))
        return account.left

    def add_capacity(self, peer: bytes, message: m.AddCapacity) -> m.Reply:
        self.account(peer)
        raise Refused(ErrorCode.PERIOD_REFUSED if message.growth_index else ErrorCode.CAPACITY_REFUSED)

    def request_invoice(self, peer: bytes, message: m.RequestInvoice) -> m.Reply:
        self.account(peer)
        if message.purpose is m.InvoicePurpose.RENT:
            if message.period is None or message.token_index is None or len(message.nonce or b"") != 32:
                raise Refused(ErrorCode.MALFORMED)
            raise Refused(ErrorCode.PERIOD_REFUSED, "this node is free: no rent is due")
        deposit = message.purpose is m.InvoicePurpose.DEPOSIT and message.deposit_index is not None
        if not deposit or not 1 <= (message.amount_msat or 0) <= 10**12:
            raise Refused(ErrorCode.MALFORMED)
        raise Refused(ErrorCode.PERIOD_REFUSED if message.deposit_index else ErrorCode.LIGHTNING_UNAVAILABLE)

    def channel_info(self, _peer: bytes, _message: m.ChannelInfo) -> m.Reply:
        raise Refused(ErrorCode.LIGHTNING_UNAVAILABLE)

    # --- shares

    def put_share(self, peer: bytes, message: m.PutShare) -> m.Reply:
        account, share = self.account(peer), bytes(message.payload)
        if not share or len(message.tokens) % m.TOKEN_BYTES:
            raise Refused(ErrorCode.MALFORMED)
        new = message.share_id not in account.leases
        if new and self.used_bytes(account) + len(share) > CAPACITY_BYTES:
            raise Refused(ErrorCode.CAPACITY_EXCEEDED)
        if merkle.share_id(share) != message.share_id:
            raise Refused(ErrorCode.ROOT_MISMATCH)
        self.shares[message.share_id] = share
        account.leases[message.share_id] = message.token_start, message.tokens
        account.ingress_bytes += len(share)
        return m.PutShareReply(used_bytes=self.used_bytes(account))

    def get_share(self, peer: bytes, message: m.GetShare) -> m.Reply:
        account = self.account(peer)
        if message.share_id not in self.shares:
            raise Refused(ErrorCode.SHARE_UNKNOWN)
        share = self.shares[message.share_id]
        first, last = merkle.leaf_range(len(share), message.offset, message.length)
        start, end = merkle.leaf_span(len(share), first, last)
        proof = merkle.range_proof(merkle.leaf_hashes(share), first, last)
        account.egress_bytes += end - start
        return m.GetShareReply(offset=start, share_bytes=len(share), proof=proof, payload=share[start:end])

    def audit_share(self, peer: bytes, message: m.AuditShare) -> m.Reply:
        if message.share_id not in self.account(peer).leases:
            raise Refused(ErrorCode.SHARE_UNKNOWN)
        share = self.shares[message.share_id]
        hashes = merkle.leaf_hashes(share)
        if message.leaf >= len(hashes):
            raise Refused(ErrorCode.RANGE_INVALID)
        start, end = merkle.leaf_span(len(share), message.leaf, message.leaf)
        proof = merkle.range_proof(hashes, message.leaf, message.leaf)
        return m.AuditShareReply(share_bytes=len(share), proof=proof, payload=share[start:end])

    def have_shares(self, peer: bytes, message: m.HaveShares) -> m.Reply:
        account, ids = self.account(peer), _ids(message.payload)
        return m.HaveSharesReply(held=pack_bits(share_id in account.leases for share_id in ids))

    def list_shares(self, peer: bytes, message: m.ListShares) -> m.Reply:
        account = self.account(peer)
        if not 1 <= message.limit <= m.MAX_IDS:
            raise Refused(ErrorCode.TOO_LARGE)
        after = sorted(i for i in account.leases if message.after is None or i > message.after)[: message.limit]
        return m.ListSharesReply(payload=b"".join(i + len(self.shares[i]).to_bytes(4, "big") for i in after))

    def drop_shares(self, peer: bytes, message: m.DropShares) -> m.Reply:
        account, ids = self.account(peer), _ids(message.payload)
        dropped = self.end(account, ids)
        return m.DropSharesReply(dropped=dropped, used_bytes=self.used_bytes(account))

    def end(self, account: Account, ids: list[ShareId]) -> int:
        """End those leases of the account, and delete what nobody else leases; how many there were."""
        dropped = [share_id for share_id in set(ids) if account.leases.pop(share_id, None) is not None]
        for share_id in dropped:
            if not any(share_id in other.leases for other in self.accounts.values()):
                del self.shares[share_id]
        return len(dropped)

    def put_tokens(self, peer: bytes, message: m.PutTokens) -> m.Reply:
        account, tables = self.account(peer), split_token_tables(message.payload, message.token_start, message.count)
        held = [share_id in account.leases for share_id, _ in tables]
        for (share_id, tokens), is_held in zip(tables, held, strict=True):
            if is_held:
                start, old = account.leases[share_id]
                end, old_end = message.token_start + message.count, start + len(old) // m.TOKEN_BYTES
                if start > message.token_start or old_end <= end:
                    account.leases[share_id] = message.token_start, tokens
        return m.PutTokensReply(stored=pack_bits(held))

    # --- records

    def put_record(self, peer: bytes, message: m.PutRecord) -> m.Reply:
        account, record = self.account(peer), Record.decode(message.record)
        if record.account_id != peer:
            raise Refused(ErrorCode.BAD_SIGNATURE)
        kept = account.records.get(record.name)
        if kept is None and len(account.records) >= MAX_RECORDS:
            raise Refused(ErrorCode.CAPACITY_EXCEEDED)
        if kept is not None and kept[1] != message.record and record.sequence <= kept[0].sequence:
            raise Refused(ErrorCode.RECORD_STALE)
        account.records[record.name] = (record, message.record)
        return m.PutRecordReply()

    def get_record(self, _peer: bytes, message: m.GetRecord) -> m.Reply:
        account = self.accounts.get(message.account_id)
        if account is None or message.name not in account.records:
            raise Refused(ErrorCode.RECORD_UNKNOWN)
        return m.GetRecordReply(record=account.records[message.name][1])

    # --- delegation: every chain is refused (D-R9), so nothing is done under any

    def present_delegation(self, _peer: bytes, _message: m.PresentDelegation) -> m.Reply:
        raise Refused(ErrorCode.DELEGATION_REFUSED, "nobody acts for another here")

    def revoke_delegation(self, peer: bytes, message: m.RevokeDelegation) -> m.Reply:
        self.account(peer, even_lapsed=True)
        if len(message.target) != CertificateId.SIZE:
            raise Refused(ErrorCode.MALFORMED)
        return m.RevokeDelegationReply(certificates=0)

    def list_delegations(self, peer: bytes, message: m.ListDelegations) -> m.Reply:
        self.account(peer, even_lapsed=True)
        if not 1 <= message.limit <= m.MAX_DELEGATIONS:
            raise Refused(ErrorCode.TOO_LARGE)
        return m.ListDelegationsReply(payload=encode_usages([]))

    # --- receipts: nothing is paid here, so there are none

    def get_receipts(self, peer: bytes, message: m.GetReceipts) -> m.Reply:
        self.account(peer, even_lapsed=True)
        if not 1 <= message.limit <= m.RECEIPTS_AT_ONCE:
            raise Refused(ErrorCode.TOO_LARGE)
        return m.GetReceiptsReply(total=0, payload=b"")

    def put_receipts(self, peer: bytes, message: m.PutReceipts) -> m.Reply:
        self.account(peer, even_lapsed=True)
        for encoded in receipts.split(message.payload):
            word = receipts.Acknowledgement.decode(encoded)
            if (word.account_id, word.node_id) != (peer, self.node_id):
                raise Refused(ErrorCode.BAD_SIGNATURE)
            raise Refused(ErrorCode.RECORD_UNKNOWN)
        return m.PutReceiptsReply(acknowledged=0)


def _ids(payload: m.Buffer) -> list[ShareId]:
    if len(payload) % ShareId.SIZE:
        raise Refused(ErrorCode.MALFORMED)
    return [ShareId(bytes(payload[at : at + 32])) for at in range(0, len(payload), 32)]


# --- connections ------------------------------------------------------------------------------------------------------


class Server(socketserver.ThreadingTCPServer):
    """Listens; each connection is a thread."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, place: tuple[str, int], node: DictNode) -> None:
        super().__init__(place, Session)
        self.node = node

    @property
    def address(self) -> NodeAddress:
        """What clients are told."""
        host, port = self.socket.getsockname()[:2]
        return NodeAddress(self.node.node_id, host, port)


class Session(socketserver.BaseRequestHandler):
    """One connection: the protocol's events in, replies out."""

    server: Server
    request: socket.socket

    def handle(self) -> None:
        """Serve until the client closes, breaks the protocol or stays silent."""
        self.connection = Connection(Role.NODE, self.server.node.identity)
        self.request.settimeout(HANDSHAKE_SECONDS)
        with suppress(OSError):  # the client has gone, or said nothing for too long
            try:
                self.serve()
            except RemoteProtocolError as exc:
                if exc.request_id is not None:
                    self.send(exc.request_id, m.ErrorReply(code=exc.code, message=str(exc)[:1000]))
            # The client has to read our last words before the connection is reset.
            self.request.settimeout(1)
            self.request.shutdown(socket.SHUT_WR)
            while self.request.recv(65536):
                pass

    def serve(self) -> None:
        """Answer requests."""
        peer, greeted = b"", False
        while True:
            event = self.connection.next_event()
            self.request.sendall(self.connection.data_to_send())
            match event:
                case NeedData():
                    data = self.request.recv(self.connection.receive_bytes)
                    self.connection.receive_data(data) if data else self.connection.receive_eof()
                case HandshakeDone(peer=peer):
                    self.request.settimeout(IDLE_SECONDS)
                case RequestReceived(request_id=request_id, message=message):
                    reply: m.Reply = m.ErrorReply(code=ErrorCode.HELLO_REQUIRED, message="say hello first")
                    if greeted or isinstance(message, m.Hello):
                        reply = self.server.node.answer(peer, message)
                    greeted |= isinstance(reply, m.HelloReply)
                    self.send(request_id, reply)
                case UnknownRequest(request_id=request_id):
                    text = "this node does not know that message"
                    self.send(request_id, m.ErrorReply(code=ErrorCode.UNKNOWN_MESSAGE, message=text))
                case PeerClosed():
                    return

    def send(self, request_id: int, reply: m.Reply) -> None:
        """Send a reply."""
        for chunk in self.connection.send_reply(request_id, reply):
            self.request.sendall(chunk)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="A free lnstore node that keeps shares in memory.")
    parser.add_argument("--listen", default="127.0.0.1:7460", metavar="HOST:PORT")
    parser.add_argument("--key", type=Path, default=Path("node.key"), help="the node's secret key; made if missing")
    parser.add_argument("--lightning-id", type=LightningId.from_hex, required=True, metavar="HEX")
    parser.add_argument("--lightning-signature", metavar="ZBASE", help="that key's signature; without it, what to sign")
    parser.add_argument("--network", default="regtest")
    given = parser.parse_args()
    if not given.key.exists():
        os.close(os.open(given.key, os.O_CREAT | os.O_EXCL, 0o600))
        given.key.write_text(Identity.generate().seed.hex())
    identity = Identity(bytes.fromhex(given.key.read_text()))
    if given.lightning_signature is None:
        sys.exit(f"sign this as --lightning-signature: {binding_text(NodeId(identity.public_key), given.lightning_id)}")
    host, _, port = given.listen.rpartition(":")
    node = DictNode(identity, given.lightning_id, given.lightning_signature, given.network)
    with Server((host, int(port)), node) as server:
        print(server.address, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
