"""Who is let in: connections, and requests by the work that they mean (throttle.py, limits.RATES)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from lnstore.config import NodeConfig
from lnstore.node.errors import Refusal
from lnstore.node.limits import HANDSHAKES, HANDSHAKES_PER_NETWORK, NETWORKS_REMEMBERED, RATES
from lnstore.node.throttle import NO_NETWORK, Counts, Throttle, Work, network_of
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId
from lnstore_protocol.messages import (
    AddCapacity,
    AuditShare,
    GetReceipts,
    GetShare,
    OpenAccount,
    PutReceipts,
    PutRecord,
    PutShare,
    RenewAgreement,
    RequestInvoice,
)

WORK_OF: dict[type, Work] = {
    PutShare: Work.MOVE,
    GetShare: Work.MOVE,
    AuditShare: Work.AUDIT,
    PutRecord: Work.RECORD,
    GetReceipts: Work.RECORD,
    PutReceipts: Work.RECORD,
    AddCapacity: Work.INVOICE,
    RequestInvoice: Work.INVOICE,
    OpenAccount: Work.OPEN,
    RenewAgreement: Work.OPEN,
}
"""All others are Work.ASK."""


class TooMany(Exception):
    """A connection is closed at once; the text says which limit was met."""


class Admission:
    """Counts connections and requests of the running node. Time is trio's, which no one can set back."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._throttle = Throttle(RATES, factor=config.rate_limit_percent / 100, maximum=NETWORKS_REMEMBERED)
        self._connections = Counts()
        self._handshakes = Counts()

    @contextmanager
    def connection(self, network: bytes) -> Iterator[Callable[[], None]]:  # T-R9
        """A connection; what is given is called once its handshake is done. TooMany when there is no place for it."""
        config = self._config
        if self._connections.total >= config.maximum_connections:
            raise TooMany("connections")
        if self._connections.of(network) >= config.maximum_connections_per_address:
            raise TooMany("connections of one address")
        if self._handshakes.total >= HANDSHAKES or self._handshakes.of(network) >= HANDSHAKES_PER_NETWORK:
            raise TooMany("handshakes")
        if self._throttle.take(Work.CONNECT, network=network, now=trio.current_time()):
            raise TooMany("connections of one address in a short time")
        shaking = True

        def shaken() -> None:
            nonlocal shaking
            if shaking:
                shaking = False
                self._handshakes.leave(network)

        self._connections.enter(network)
        self._handshakes.enter(network)
        try:
            yield shaken
        finally:
            shaken()
            self._connections.leave(network)

    def request(self, kind: type, account_id: AccountId, network: bytes) -> Refusal | None:  # S-W2, E-W4, MB-R22
        """Why a request of this kind is not looked at now; None when it is, and is counted."""
        return self.work(WORK_OF.get(kind, Work.ASK), account_id, network)

    def work(self, work: Work, account_id: AccountId, network: bytes) -> Refusal | None:
        """The same for work that a request turns out to mean."""
        wait = self._throttle.take(work, account=account_id, network=network, now=trio.current_time())
        if not wait:
            return None
        seconds = math.ceil(wait)
        return Refusal(
            ErrorCode.RATE_LIMITED,
            f"too many {work.value} by this account or from its address; ask again in {seconds} s",
            retry_after_seconds=seconds,
            pause_seconds=wait,
        )


def network_of_stream(stream: trio.abc.Stream) -> bytes:
    """Where a connection comes from; NO_NETWORK when that cannot be told."""
    if not isinstance(stream, trio.SocketStream):
        return NO_NETWORK
    try:
        name = stream.socket.getpeername()
    except OSError:  # gone already
        return NO_NETWORK
    return network_of(name[0]) if isinstance(name, tuple) else NO_NETWORK
