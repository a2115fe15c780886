"""The node that a client under test talks to: honest but for what a scenario bends. It keeps one file, sells nothing.

Reading is free here and accounts have capacity for nothing, so that a client without a Lightning daemon can be checked;
what costs money is answered LIGHTNING_UNAVAILABLE.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from lnstore_protocol import manifest, merkle
from lnstore_protocol.caps import ReadCap
from lnstore_protocol.conformance.curve import public_key, sign_message
from lnstore_protocol.conformance.link import Link, Received
from lnstore_protocol.conformance.verdict import Failed, Trace
from lnstore_protocol.connection import ACT_BYTES, PROLOGUE
from lnstore_protocol.content import RecordSealer, ciphertext_bytes
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.identity import Identity, x25519_public
from lnstore_protocol.ids import LightningId, Msat, NodeId, ShareId
from lnstore_protocol.messages import (
    AccountState,
    AccountStatus,
    AccountStatusReply,
    ChannelInfo,
    ChannelInfoReply,
    ErrorReply,
    GetShare,
    GetShareReply,
    GetTerms,
    HaveShares,
    HaveSharesReply,
    Hello,
    HelloReply,
    ListPeers,
    ListPeersReply,
    ListShares,
    ListSharesReply,
    Message,
    OpenAccount,
    OpenAccountReply,
    Reply,
    TermsReply,
)
from lnstore_protocol.noise import Handshake
from lnstore_protocol.terms import Agreement, ChannelPolicy, Terms, binding_text

FILE_BYTES = 100_000
GIB = 1 << 30
DAY_SECONDS = 86_400


@dataclass(slots=True)
class StandIn:
    """Identity, terms and shares of the node that a client meets."""

    network: str = "regtest"
    identity: Identity = field(default_factory=Identity.generate)
    lightning_secret: int = field(default_factory=lambda: int.from_bytes(os.urandom(31), "big") + 1, repr=False)
    shares: dict[ShareId, bytes] = field(default_factory=dict, repr=False)
    content: bytes = field(default_factory=lambda: os.urandom(FILE_BYTES), repr=False)
    share_id: ShareId = field(init=False)
    """The share that a client is asked to read."""
    capability: str = field(init=False, repr=False)
    """The read capability of the file, of 1-of-1 shares, for clients that read files."""

    def __post_init__(self) -> None:
        key = os.urandom(32)
        sealed = memoryview(bytearray(ciphertext_bytes(len(self.content))))
        RecordSealer(key).seal_into(self.content, sealed, first_record=0, last=True)
        self.share_id = self._keep(bytes(sealed))
        segment = manifest.SegmentShares(len(sealed), len(sealed), (self.share_id,))
        blob = manifest.encode(manifest.Manifest(1, 1, len(self.content), (segment,)), key)
        self.capability = ReadCap(key, self._keep(blob)).to_text()

    def _keep(self, share: bytes) -> ShareId:
        name = merkle.share_id(share)
        self.shares[name] = share
        return name

    @property
    def node_id(self) -> NodeId:
        """Whom a client believes to meet."""
        return NodeId(self.identity.public_key)

    @property
    def lightning_id(self) -> LightningId:
        """Whom it would pay."""
        return LightningId(public_key(self.lightning_secret))

    # --- answers

    def hello_reply(self) -> HelloReply:
        """Version 1.0, no features, a true signature."""
        return HelloReply(
            version_major=1,
            version_minor=0,
            features=b"",
            network=self.network,
            lightning_id=self.lightning_id,
            lightning_signature=sign_message(self.lightning_secret, binding_text(self.node_id, self.lightning_id)),
            now_at=int(time.time()),
            agent="lnstore conformance",
        )

    def terms(self) -> Terms:
        """Everything for nothing."""
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
            minimum_capacity_bytes=0,
            maximum_capacity_bytes=GIB,
            channel_policy=ChannelPolicy.ANY,
            minimum_channel_sat=0,
            valid_from_at=now,
            valid_until_at=now + 7 * DAY_SECONDS,
            price_periods=1,
        )

    def answer(self, message: Message) -> Reply:
        """The honest reply to a request."""
        match message:
            case Hello():
                return self.hello_reply()
            case GetTerms():
                return TermsReply(terms=self.terms().sign(self.identity).encoded)
            case OpenAccount(agreement=encoded):
                try:
                    return OpenAccountReply(agreement=Agreement.decode(encoded).countersign(self.identity).encoded)
                except (RemoteProtocolError, ValueError) as exc:
                    return ErrorReply(code=ErrorCode.TERMS_CHANGED, message=str(exc))
            case AccountStatus():
                return _status()
            case GetShare(share_id=share_id, offset=offset, length=length):
                return self._get(share_id, offset, length)
            case HaveShares(payload=payload):
                return HaveSharesReply(held=bytes(-(-len(payload) // (8 * ShareId.SIZE))))
            case ListShares():
                return ListSharesReply(payload=b"")
            case ChannelInfo():
                return ChannelInfoReply(lightning_id=self.lightning_id, addresses=[], minimum_sat=0)
            case ListPeers():
                return ListPeersReply(peers=[])
            case _:
                return ErrorReply(
                    code=ErrorCode.LIGHTNING_UNAVAILABLE, message="this node only lets read; see its file"
                )

    def _get(self, share_id: ShareId, offset: int, length: int) -> Reply:
        share = self.shares.get(share_id)
        if share is None:
            return ErrorReply(code=ErrorCode.SHARE_UNKNOWN, message="this node does not hold that share")
        try:
            first, last = merkle.leaf_range(len(share), offset, length)
        except RemoteProtocolError as exc:
            return ErrorReply(code=exc.code, message=str(exc))
        start, end = merkle.leaf_span(len(share), first, last)
        proof = merkle.range_proof(merkle.leaf_hashes(share), first, last)
        return GetShareReply(offset=start, share_bytes=len(share), proof=proof, payload=share[start:end])


def _status() -> AccountStatusReply:
    now = int(time.time())
    return AccountStatusReply(
        state=AccountState.ACTIVE,
        capacity_bytes=GIB,
        used_bytes=0,
        shares=0,
        deposit_msat=Msat(0),
        anchor_at=now,
        paid_until_at=now,
        next_period=0,
        token_index=0,
        growth_index=0,
        deposit_index=0,
        ingress_bytes=0,
        egress_bytes=0,
        now_at=now,
        agreement=b"",
    )


class ClientLink(Link):
    """A connection that a client opened; `shake_hands` first."""

    def __init__(
        self, stream: socket.socket, trace: Trace, patience_seconds: float, shares: Mapping[ShareId, bytes]
    ) -> None:
        super().__init__(stream, trace, patience_seconds)
        self.shares = shares
        self.account = b""
        self.ephemeral = b""
        self.open_ids: set[int] = set()

    def shake_hands(self, identity: Identity) -> None:
        """The node's half of the handshake, with this identity's key; Failed with what the client does wrong."""
        state = Handshake(initiator=False, prologue=PROLOGUE, static_private=identity.x25519_private())
        act = self.receive_raw(ACT_BYTES[0])
        self.note("<", "act 1", act)
        self.ephemeral = act[:32]
        try:
            state.read_message(act)
        except RemoteProtocolError as exc:
            raise Failed("T-W2", "act 1 was not made for the key of the address") from exc
        self.send_raw(state.write_message(), "act 2")
        act = self.receive_raw(ACT_BYTES[2])
        self.note("<", "act 3", act)
        try:
            self.account = state.read_message(act)
            fits = x25519_public(self.account) == state.remote_static
        except RemoteProtocolError as exc:
            raise Failed("T-W4", f"act 3: {exc}") from exc
        if not fits:
            raise Failed("T-W4", "the payload of act 3 is not the key of the handshake")
        self.install(*state.split())

    def receive_request(self, *, seconds: float | None = None) -> Received:
        """The client's next message, which has to be a request with an id that is free (T-W11, T-W12)."""
        received = self.receive(seconds=seconds)
        if received.request_id in self.open_ids:
            raise Failed("T-W11", f"request id {received.request_id} is still in use")
        return received
