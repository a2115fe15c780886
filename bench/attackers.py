"""One attack on a node, as a process of its own: `python -m bench.attackers`, told what to do on standard input.

It comes from another loopback address than the honest clients, obeys no "later", and prints what it was answered.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import trio

from lnstore_protocol.connection import Connection, Role
from lnstore_protocol.errors import RemoteProtocolError
from lnstore_protocol.events import HandshakeDone, NeedData, PeerClosed, ReplyReceived
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import NodeAddress, ShareId
from lnstore_protocol.messages import (
    AccountStatus,
    AddCapacity,
    AuditShare,
    ErrorReply,
    GetTerms,
    Hello,
    InvoicePurpose,
    OpenAccount,
    Reply,
    Request,
    RequestInvoice,
    TermsReply,
)
from lnstore_protocol.terms import Agreement, SignedTerms

ADDRESS = "127.0.0.2"
CONNECTIONS = 8
IN_FLIGHT = 64
MIB = 1 << 20
HELLO = Hello(version_major=1, version_minor=0, features=b"")
LOST = (OSError, AssertionError, RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError)


@dataclass(slots=True)
class Orders:
    """What to attack, with whose account, and what came of it."""

    node: NodeAddress
    identity: Identity
    shares: list[ShareId]
    period: int
    now: int
    answered: Counter[str] = field(default_factory=Counter)


class Wire:
    """A connection past hello that sends as fast as it is let."""

    def __init__(self, stream: trio.SocketStream, connection: Connection) -> None:
        self._stream = stream
        self._connection = connection

    @classmethod
    async def open(cls, node: NodeAddress, identity: Identity) -> Wire:
        """Raises one of LOST when the node does not want it."""
        stream = await trio.open_tcp_stream(node.host, node.port, local_address=ADDRESS)
        wire = cls(stream, Connection(Role.CLIENT, identity, remote=node.node_id))
        try:
            await stream.send_all(wire._connection.initiate())
            assert isinstance(await wire._event(), HandshakeDone)
            await stream.send_all(wire._connection.data_to_send())
            await wire.ask(HELLO)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return wire

    async def ask(self, message: Request) -> Reply:
        """One request and its reply."""
        await self.send(message)
        return await self.receive()

    async def send(self, message: Request) -> None:
        """One request."""
        _, chunks = self._connection.send_request(message)
        for chunk in chunks:
            await self._stream.send_all(chunk)

    async def receive(self) -> Reply:
        """The next reply, to whatever."""
        event = await self._event()
        if isinstance(event, ReplyReceived):
            return event.message
        raise trio.BrokenResourceError

    async def close(self) -> None:
        """At once."""
        await trio.aclose_forcefully(self._stream)

    async def _event(self) -> Any:
        while isinstance(event := self._connection.next_event(), NeedData):
            data = await self._stream.receive_some(65536)
            if data:
                self._connection.receive_data(data)
            else:
                self._connection.receive_eof()
        return PeerClosed() if event is None else event


# --- the attacks ------------------------------------------------------------------------------------------------------


async def _flood(orders: Orders, identity: Identity, requests: Iterator[Request]) -> None:
    """Send one after the other over one connection, many in flight; again when it is closed."""
    while True:
        try:
            wire = await Wire.open(orders.node, identity)
        except LOST:
            orders.answered["connection refused"] += 1
            await trio.sleep(0.05)
            continue
        places = trio.Semaphore(IN_FLIGHT)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_receive, orders, wire, places)
                while True:
                    await places.acquire()
                    await wire.send(next(requests))
        except* LOST:
            orders.answered["connection lost"] += 1
        finally:
            await wire.close()


async def _receive(orders: Orders, wire: Wire, places: trio.Semaphore) -> None:
    while True:
        _count(orders, await wire.receive())
        places.release()


def _count(orders: Orders, reply: Reply) -> None:
    orders.answered[reply.code.name if isinstance(reply, ErrorReply) else "granted"] += 1


def _growths() -> Iterator[Request]:
    return (AddCapacity(growth_index=0, capacity_bytes=MIB + 1024 * number) for number in count())


async def _growth(orders: Orders) -> None:
    """Each connection an account that never paid, asking for another capacity each time."""
    identity = Identity.generate()
    try:
        wire = await Wire.open(orders.node, identity)
        terms = await wire.ask(GetTerms())
        assert isinstance(terms, TermsReply)
        _count(orders, await wire.ask(_opening(terms, identity, orders.now)))
        await wire.close()
    except LOST:
        orders.answered["connection refused"] += 1
    await _flood(orders, identity, _growths())


def _opening(terms: TermsReply, identity: Identity, now: int) -> OpenAccount:
    return OpenAccount(agreement=Agreement.propose(SignedTerms.decode(terms.terms), identity, now).encoded)


async def _accounts(orders: Orders) -> None:
    """Ten thousand accounts, each over a connection of its own."""
    terms: Reply | None = None
    while True:
        identity = Identity.generate()
        try:
            wire = await Wire.open(orders.node, identity)
            terms = terms or await wire.ask(GetTerms())
            assert isinstance(terms, TermsReply)
            _count(orders, await wire.ask(_opening(terms, identity, orders.now)))
            await wire.close()
        except LOST:
            orders.answered["connection refused"] += 1
            await trio.sleep(0.01)


async def _handshakes(orders: Orders) -> None:
    """Connections that say nothing, as many as there can be."""
    async with trio.open_nursery() as nursery:
        for _ in range(32):
            nursery.start_soon(_silent, orders)


async def _silent(orders: Orders) -> None:
    while True:
        try:
            stream = await trio.open_tcp_stream(orders.node.host, orders.node.port, local_address=ADDRESS)
        except OSError:
            orders.answered["connection refused"] += 1
            continue
        held = True
        with trio.move_on_after(5):
            try:
                held = bool(await stream.receive_some(1))
            except LOST:
                held = False
        orders.answered["place held" if held else "connection refused"] += 1
        await trio.aclose_forcefully(stream)


async def _questions(orders: Orders) -> None:
    await _flood(orders, orders.identity, iter(AccountStatus, None))


async def _audits(orders: Orders) -> None:
    await _flood(orders, orders.identity, _leaves(orders.shares))


def _leaves(shares: list[ShareId]) -> Iterator[Request]:
    return (AuditShare(share_id=shares[number % len(shares)], leaf=number % 64) for number in count())


async def _proofs(orders: Orders) -> None:
    await _flood(orders, orders.identity, _challenges(orders.period))


def _challenges(period: int) -> Iterator[Request]:
    return (
        RequestInvoice(purpose=InvoicePurpose.RENT, period=period, token_index=n, nonce=n.to_bytes(32, "big"))
        for n in count()
    )


async def _computing(_orders: Orders) -> None:
    """What any process costs on this machine: it computes, and sends nothing."""
    while True:
        sum(range(20_000))
        await trio.lowlevel.checkpoint()


ATTACKS: dict[str, tuple[Callable[[Orders], Awaitable[None]], int]] = {
    "computing": (_computing, 1),
    "growth": (_growth, CONNECTIONS),
    "accounts": (_accounts, CONNECTIONS),
    "handshakes": (_handshakes, CONNECTIONS),
    "questions": (_questions, CONNECTIONS),
    "audits": (_audits, CONNECTIONS),
    "proofs": (_proofs, CONNECTIONS),
}
"""By name, and how many of it at once. "computing" is the control."""


async def _attack(name: str, orders: Orders, seconds: float) -> None:
    attack, times = ATTACKS[name]
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for _ in range(times):
                nursery.start_soon(attack, orders)


def main() -> None:
    """Attack as told, then print the counts."""
    told = json.loads(sys.stdin.readline())
    orders = Orders(
        node=NodeAddress.parse(told["node"]),
        identity=Identity(bytes.fromhex(told["seed"])),
        shares=[ShareId.from_hex(one) for one in told["shares"]],
        period=told["period"],
        now=told["now"],
    )
    trio.run(_attack, told["attack"], orders, told["seconds"])
    sys.stdout.write(json.dumps(orders.answered) + "\n")


if __name__ == "__main__":
    main()
