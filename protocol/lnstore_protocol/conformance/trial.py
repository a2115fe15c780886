"""What a check works with: connections, requirements, and the things a run learns or buys once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from lnstore_protocol.conformance.link import PeerClosed, PeerSilent, message_frame, name_of
from lnstore_protocol.conformance.node_link import HELLO, NodeLink
from lnstore_protocol.conformance.tools import Advance, Payer, Restart
from lnstore_protocol.conformance.verdict import Failed, Reached, Skipped, Trace, Unreachable
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import NodeAddress, ShareId
from lnstore_protocol.messages import DropShares, ErrorReply, HelloReply, Reply, Request

if TYPE_CHECKING:
    from lnstore_protocol.conformance.tenant import Tenant
    from lnstore_protocol.terms import SignedTerms

PATIENCE_SECONDS = 5.0
"""How long the node may take for an answer, a payment to be credited, a faulty connection to be closed."""

POLL_SECONDS = 0.02

ReplyT = TypeVar("ReplyT", bound=Reply)
ValueT = TypeVar("ValueT")

_NOT_NOW = (ErrorCode.RATE_LIMITED, ErrorCode.LIGHTNING_UNAVAILABLE, ErrorCode.STORAGE_FULL, ErrorCode.SHUTTING_DOWN)
"""Errors that say nothing against a node."""


@dataclass(frozen=True, slots=True)
class NodeTools:
    """What a run may use. Without a payer, a restart or an advance the checks that need them do not apply."""

    payer: Payer | None = None
    restart: Restart | None = None
    advance: Advance | None = None
    capacity_bytes: int | None = None
    """What to rent for each account it makes; None: 8 MiB, or the node's minimum."""
    patience_seconds: float = PATIENCE_SECONDS
    wait_seconds: float = 0.0
    """How long one check may wait for a deadline of the node's, such as the handshake's 10 seconds."""


@dataclass(slots=True)
class Bench:
    """The node under test and what is known of it; shared by the checks of one run."""

    address: NodeAddress
    tools: NodeTools
    advanced_seconds: int = 0
    hello: HelloReply | None = None
    terms: SignedTerms | None = None
    tenant: Tenant | None = None
    reader: Tenant | None = None
    """An account with a deposit and no capacity."""
    no_tenant: str | None = None
    """Why there is no paid account, once that was tried in vain."""

    def now(self) -> int:
        """The time by the node's clock, as far as it is right."""
        return int(time.time()) + self.advanced_seconds


class Trial:
    """One check under way."""

    def __init__(self, bench: Bench, requirement: str) -> None:
        self.bench = bench
        self.trace = Trace()
        self.reached = Reached(self.trace)
        self._requirement = requirement
        self.leases: list[tuple[Identity, ShareId]] = []
        """What was stored, to be dropped at the end: the run's account has only so much room."""
        self._links: list[NodeLink] = []

    def close(self) -> None:
        """End every connection, and every lease."""
        for link in self._links:
            link.close()
        try:
            for identity in {id(identity): identity for identity, _ in self.leases}.values():
                ids = b"".join(share_id for owner, share_id in self.leases if owner is identity)
                self.link(identity).ask(DropShares(payload=ids))
        except (Failed, Skipped, Unreachable, PeerClosed, PeerSilent):
            return  # the check itself has said what is wrong with the node
        finally:
            for link in self._links:
                link.close()

    # --- connections

    def link(self, identity: Identity | None = None, *, hands: bool = True, hello: bool = True) -> NodeLink:
        """A connection of its own: after the handshake (`hands`) and the reply to hello (`hello`)."""
        tools = self.bench.tools
        link = NodeLink(self.bench.address, identity or Identity.generate(), self.trace, tools.patience_seconds)
        self._links.append(link)
        if hands:
            link.shake_hands()
            if hello:
                self.bench.hello = self.reply(link, HELLO, HelloReply, "M-R10")
        return link

    def hello(self) -> HelloReply:
        """The node's reply to hello."""
        if self.bench.hello is None:
            self.link().close()
        if self.bench.hello is None:
            raise AssertionError("a link without its hello")
        return self.bench.hello

    # --- judging

    def require(self, requirement: str, condition: object, text: str) -> None:
        """Failed unless the condition holds; else the requirement counts as seen to hold."""
        if not condition:
            raise Failed(requirement, text)
        self.reached.add(requirement)

    def reply(self, link: NodeLink, message: Request, kind: type[ReplyT], requirement: str | None = None) -> ReplyT:
        """Ask, and require a reply of that kind."""
        reply = link.ask(message)
        if isinstance(reply, ErrorReply) and reply.code in _NOT_NOW:
            raise Skipped(f"the node answered {name_of(reply)}")
        if not isinstance(reply, kind):
            raise Failed(requirement or self._requirement, f"{type(message).__name__} was answered {name_of(reply)}")
        return reply

    def refusal(
        self, requirement: str, link: NodeLink, message: Request, *codes: ErrorCode, what: str = ""
    ) -> ErrorReply:
        """Ask, and require an error of one of these codes; `what` says what is wrong with the message."""
        reply = link.ask(message)
        if not isinstance(reply, ErrorReply) or reply.code not in codes:
            wanted = " or ".join(code.name for code in codes)
            said = f"{what or type(message).__name__} was answered {name_of(reply)} instead of error {wanted}"
            raise Failed(requirement, said)
        self.reached.add(requirement)
        return reply

    def fault(
        self,
        requirement: str,
        data: bytes,
        *codes: ErrorCode,
        what: str,
        request_id: int | None = 0,
        hello: bool = True,
        answer: bool | None = None,
        record_bytes: int = 65519,
    ) -> None:
        """Send `data` (frames) and require that the node refuses it and closes.

        Where it answers it must be with an error of `codes` for `request_id`; `answer` True requires one (M-R7), False
        forbids one (T-W15), None leaves it open (T-W14 only recommends it).
        """
        link = self.link(hello=hello)
        link.send(data, record_bytes=record_bytes)
        errors: list[ErrorReply] = []
        try:
            while True:
                received = link.receive()
                message = received.message
                if not isinstance(message, ErrorReply):
                    raise Failed(requirement, f"{what} was answered {name_of(message)}")
                errors.append(message)
                if message.code not in codes:
                    wanted = " or ".join(code.name for code in codes) or "nothing"
                    raise Failed(requirement, f"{what} was answered {name_of(message)} instead of {wanted}")
                self.require("M-W3", received.request_id == request_id, f"an error for request {received.request_id}")
        except PeerClosed:
            pass
        except PeerSilent:
            raise Failed(requirement, f"the connection was not closed after {what}") from None
        if answer is True:
            self.require("M-R7", errors, f"{what} was not answered before the connection was closed")
        if answer is False:
            self.require("T-W15", not errors, f"{what} was answered although its request id can not be read")
        self.require("T-W13", len(errors) <= 1, f"{what} was answered {len(errors)} times")
        self.reached.add(requirement)

    def goes_on(self, requirement: str, link: NodeLink, after: str) -> None:
        """Require that the connection still serves."""
        try:
            self.reply(link, HELLO, HelloReply, requirement)
        except PeerClosed:
            raise Failed(requirement, f"the connection was closed after {after}") from None
        self.reached.add(requirement)

    def until(self, condition: Callable[[], ValueT | None], otherwise: Failed) -> ValueT:
        """What `condition` gives as soon as it is not None; `otherwise` when the patience is over."""
        end = time.monotonic() + self.bench.tools.patience_seconds
        while (value := condition()) is None:
            if time.monotonic() > end:
                raise otherwise
            time.sleep(POLL_SECONDS)
        return value


# --- the table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """A row: which requirements one function tries. The first is to blame when the node just falls silent."""

    requirements: tuple[str, ...]
    run: Callable[[Trial], None]

    @property
    def name(self) -> str:
        """For --only and --json."""
        return self.run.__name__

    @property
    def title(self) -> str:
        """What is tried, as one sentence."""
        return (self.run.__doc__ or "").partition("\n")[0]


@dataclass(slots=True)
class Checks:
    """The checks of one module, in order."""

    rows: list[Check] = field(default_factory=list)

    def on(self, *requirements: str) -> Callable[[Callable[[Trial], None]], Callable[[Trial], None]]:
        """Puts the decorated function into the table under these requirements."""

        def add(run: Callable[[Trial], None]) -> Callable[[Trial], None]:
            self.rows.append(Check(requirements, run))
            return run

        return add


__all__ = ["Bench", "Check", "Checks", "NodeTools", "Trial", "message_frame"]
