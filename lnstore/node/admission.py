"""Who is let in: connections, and requests by the work that they mean (throttle.py, limits.RATES)."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import trio

from lnstore.config import NodeConfig
from lnstore.logs import get_logger
from lnstore.node.errors import Refusal
from lnstore.node.limits import (
    HANDSHAKES,
    HANDSHAKES_PER_NETWORK,
    NETWORKS_REMEMBERED,
    RATES,
    REFUSALS_LOGGED_SECONDS,
    TURNS,
)
from lnstore.node.throttle import NO_NETWORK, Counts, Throttle, Work, network_of
from lnstore.node.turns import Turns
from lnstore_protocol.errors import ErrorCode
from lnstore_protocol.ids import AccountId
from lnstore_protocol.messages import (
    AddCapacity,
    AuditShare,
    GetReceipts,
    GetShare,
    OpenAccount,
    PresentDelegation,
    PutReceipts,
    PutRecord,
    PutShare,
    RenewAgreement,
    RequestInvoice,
    RevokeDelegation,
    ShrinkCapacity,
)

_log = get_logger("lnstore.node.admission")

WORK_OF: dict[type, Work] = {
    PutShare: Work.MOVE,
    GetShare: Work.MOVE,
    AuditShare: Work.AUDIT,
    PutRecord: Work.RECORD,
    PresentDelegation: Work.RECORD,
    RevokeDelegation: Work.RECORD,
    GetReceipts: Work.RECORD,
    PutReceipts: Work.RECORD,
    AddCapacity: Work.INVOICE,
    ShrinkCapacity: Work.INVOICE,
    RequestInvoice: Work.INVOICE,
    OpenAccount: Work.OPEN,
    RenewAgreement: Work.OPEN,
}
"""All others are Work.ASK."""


class TooMany(Exception):
    """A connection is closed at once; the text says which limit was met."""


@dataclass(slots=True, eq=False)
class Visit:
    """A connection: where it comes from, and when it was used last."""

    network: bytes
    used_at: float
    shaking: bool = True
    give_up: Callable[[], object] = lambda: None
    """Ends the connection, for the sake of another."""


class Admission:
    """Counts connections and requests of the running node. Time is trio's, which no one can set back."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._throttle = Throttle(RATES, factor=config.rate_limit_percent / 100, maximum=NETWORKS_REMEMBERED)
        self._connections = Counts()
        self._handshakes = Counts()
        turns = TURNS if config.rate_limit_percent else {}
        self._accounts = {work: Turns(of_account) for work, (of_account, _) in turns.items()}
        self._networks = {work: Turns(of_network) for work, (_, of_network) in turns.items()}
        self._visits: dict[Visit, None] = {}
        self._refused = 0
        self._told_at = -math.inf

    @contextmanager
    def connection(self, network: bytes) -> Iterator[Visit]:  # T-R9
        """Count a connection, for the block; TooMany when there is no place for it.

        When all places are taken, one of the network that has most is given up for it (`give_up`).
        """
        if self._connections.of(network) >= self._config.maximum_connections_per_address:
            raise TooMany("connections of one address")
        if self._handshakes.of(network) >= HANDSHAKES_PER_NETWORK:
            raise TooMany("handshakes of one address")
        if self._throttle.take(Work.CONNECT, network=network, now=trio.current_time()):
            raise TooMany("connections of one address in a short time")
        if self._connections.total >= self._config.maximum_connections:
            self._make_room(network, self._connections, "connections")
        if self._handshakes.total >= HANDSHAKES:
            self._make_room(network, self._handshakes, "handshakes")
        visit = Visit(network, trio.current_time())
        self._visits[visit] = None
        self._connections.enter(network)
        self._handshakes.enter(network)
        try:
            yield visit
        finally:
            self._leave(visit)

    def shaken(self, visit: Visit) -> None:
        """The connection's handshake is done."""
        if visit.shaking and visit in self._visits:
            self._handshakes.leave(visit.network)
        visit.shaking = False

    def _make_room(self, network: bytes, counts: Counts, what: str) -> None:
        """Give up the one longest unused of the network that has most, if that has more than the newcomer's would."""
        crowded, number = counts.most()
        if number <= counts.of(network) + 1:
            raise TooMany(what)
        theirs = [visit for visit in self._visits if visit.network == crowded]
        victim = min(
            (visit for visit in theirs if visit.shaking or counts is self._connections), key=lambda visit: visit.used_at
        )
        self._leave(victim)
        victim.give_up()

    def _leave(self, visit: Visit) -> None:
        if visit in self._visits:
            del self._visits[visit]
            self._connections.leave(visit.network)
            if visit.shaking:
                self._handshakes.leave(visit.network)

    def refused(self, why: TooMany) -> None:
        """A connection was closed at once. Logging each would be work for the asking."""
        self._refused += 1
        now = trio.current_time()
        if now >= self._told_at + REFUSALS_LOGGED_SECONDS:
            _log.warning("connections refused", since_last_told=self._refused, too_many=str(why))
            self._refused, self._told_at = 0, now

    @asynccontextmanager
    async def turn(self, kind: type, account_id: bytes, network: bytes) -> AsyncIterator[None]:  # S-W2
        """Work on a request of this kind: at once when it is paid for, else when the asker has few others in work."""
        work = WORK_OF.get(kind, Work.ASK)
        if work not in self._accounts:
            yield
            return
        async with self._accounts[work].holding(account_id), self._networks[work].holding(network):
            yield

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
