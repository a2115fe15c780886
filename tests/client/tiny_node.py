"""A node of a dictionary: the protocol spoken truly, over memory streams, with faults on demand.

It is here for what a real node cannot be made to do: serve other bytes, stall, die within a message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio
import trio.testing

from lnstore_protocol import merkle
from lnstore_protocol.connection import (
    NEED_DATA,
    Connection,
    PeerClosed,
    RequestReceived,
    Role,
)
from lnstore_protocol.errors import ErrorCode, RemoteProtocolError
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import LightningId, Msat, NodeAddress, NodeId, ShareId
from lnstore_protocol.messages import (
    LEAF_BYTES,
    AccountState,
    AccountStatus,
    AccountStatusReply,
    AuditShare,
    AuditShareReply,
    DropShares,
    DropSharesReply,
    ErrorReply,
    GetShare,
    GetShareReply,
    HaveShares,
    HaveSharesReply,
    Hello,
    HelloReply,
    PutShare,
    PutShareReply,
    PutTokens,
    PutTokensReply,
    Request,
)
from lnstore_protocol.replies import pack_bits

GIB = 1 << 30
Fault = Callable[[Request], ErrorReply | str | None]
"""Asked before a request is answered: an error to answer, "die", "stall", or None for the true answer."""


def no_fault(_request: Request) -> None:
    return None


@dataclass
class TinyNode:
    """One node; `port` only tells it apart."""

    port: int
    identity: Identity = field(default_factory=Identity.generate)
    shares: dict[bytes, bytes] = field(default_factory=dict)
    tokens: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    capacity_bytes: int = GIB
    state: AccountState = AccountState.ACTIVE
    token_index: int = 0
    fault: Fault = no_fault
    down: bool = False
    connections: int = 0
    most_open: int = 0

    @property
    def address(self) -> NodeAddress:
        return NodeAddress(NodeId(self.identity.public_key), "tiny", self.port)

    @property
    def used_bytes(self) -> int:
        return sum(map(len, self.shares.values()))

    def count(self, kind: type[Any]) -> int:
        return sum(isinstance(r, kind) for r in self.requests)

    # --- answers

    def answer(self, request: Request) -> Any:
        self.requests.append(request)
        match request:
            case Hello():
                return HelloReply(
                    version_major=1,
                    version_minor=0,
                    features=b"",
                    network="regtest",
                    lightning_id=LightningId(b"\2" * 33),
                    lightning_signature="",
                    now_at=0,
                )
            case AccountStatus():
                return self._status()
            case PutShare(share_id=share_id, token_start=start, tokens=tokens, payload=payload):
                return self._put(share_id, bytes(payload), start, tokens)
            case GetShare(share_id=share_id, offset=offset, length=length):
                return self._get(share_id, offset, length)
            case AuditShare(share_id=share_id, leaf=leaf):
                return self._audit(share_id, leaf)
            case PutTokens(token_start=start, payload=payload):
                whose, tokens = bytes(payload[:32]), bytes(payload[32:])
                if whose in self.shares:
                    self.tokens[whose] = (start, tokens)
                return PutTokensReply(stored=pack_bits([whose in self.shares]))
            case HaveShares(payload=payload):
                ids = [bytes(payload[i : i + 32]) for i in range(0, len(payload), 32)]
                bits = "".join("01"[i in self.shares] for i in ids).ljust(-(-len(ids) // 8) * 8, "0")
                return HaveSharesReply(held=int(bits or "0", 2).to_bytes(len(bits) // 8, "big"))
            case DropShares(payload=payload):
                ids = [bytes(payload[i : i + 32]) for i in range(0, len(payload), 32)]
                dropped = sum(self.shares.pop(i, None) is not None for i in ids)
                return DropSharesReply(dropped=dropped, used_bytes=self.used_bytes)
            case _:
                return ErrorReply(code=ErrorCode.UNKNOWN_MESSAGE, message="")

    def _status(self) -> AccountStatusReply:
        return AccountStatusReply(
            state=self.state,
            capacity_bytes=self.capacity_bytes,
            used_bytes=self.used_bytes,
            shares=len(self.shares),
            deposit_msat=Msat(0),
            anchor_at=0,
            paid_until_at=0,
            next_period=0,
            token_index=self.token_index,
            growth_index=0,
            deposit_index=0,
            ingress_bytes=0,
            egress_bytes=0,
            now_at=0,
            agreement=b"",
        )

    def _put(self, share_id: ShareId, share: bytes, start: int, tokens: bytes) -> PutShareReply | ErrorReply:
        if merkle.share_id(share) != share_id:
            return ErrorReply(code=ErrorCode.ROOT_MISMATCH, message="")
        if self.used_bytes + len(share) > self.capacity_bytes:
            return ErrorReply(code=ErrorCode.CAPACITY_EXCEEDED, message="")
        self.shares[bytes(share_id)] = share
        self.tokens[bytes(share_id)] = (start, tokens)
        return PutShareReply(used_bytes=self.used_bytes)

    def _get(self, share_id: ShareId, offset: int, length: int) -> GetShareReply | ErrorReply:
        share = self.shares.get(bytes(share_id))
        if share is None:
            return ErrorReply(code=ErrorCode.SHARE_UNKNOWN, message="")
        try:
            first, last = merkle.leaf_range(len(share), offset, length)
        except RemoteProtocolError:
            return ErrorReply(code=ErrorCode.RANGE_INVALID, message="")
        start, end = merkle.leaf_span(len(share), first, last)
        proof = merkle.range_proof(merkle.leaf_hashes(share), first, last)
        return GetShareReply(offset=start, share_bytes=len(share), proof=proof, payload=share[start:end])

    def _audit(self, share_id: ShareId, leaf: int) -> AuditShareReply | ErrorReply:
        got = self._get(share_id, leaf * LEAF_BYTES, 1)
        if isinstance(got, ErrorReply):
            return got
        return AuditShareReply(share_bytes=got.share_bytes, proof=got.proof, payload=got.payload)

    # --- serving

    async def serve(self, stream: trio.abc.Stream) -> None:
        protocol = Connection(Role.NODE, self.identity)
        self.connections += 1
        try:
            while True:
                data = await stream.receive_some(65536)
                protocol.receive_data(data) if data else protocol.receive_eof()
                while (event := protocol.next_event()) is not NEED_DATA:
                    match event:
                        case PeerClosed():
                            return
                        case RequestReceived(request_id=request_id, message=request):
                            self.most_open = max(self.most_open, protocol.pending_requests)
                            fault = self.fault(request)
                            if fault == "die":
                                return
                            if fault == "stall":
                                self.requests.append(request)
                                continue
                            reply = fault if isinstance(fault, ErrorReply) else self.answer(request)
                            for chunk in protocol.send_reply(request_id, reply):
                                await stream.send_all(chunk)
                if handshake := protocol.data_to_send():
                    await stream.send_all(handshake)
        except (trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError):
            return
        finally:
            await trio.aclose_forcefully(stream)


class TinyNetwork:
    """Nodes by address, and how to reach them without a socket."""

    def __init__(self, tasks: trio.Nursery, count: int) -> None:
        self._tasks = tasks
        self.nodes = [TinyNode(port) for port in range(1, count + 1)]

    async def open_stream(self, address: NodeAddress) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        node = next((n for n in self.nodes if n.port == address.port), None)
        if node is None or node.down:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        self._tasks.start_soon(node.serve, theirs)
        return ours
