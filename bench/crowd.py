"""`python -m bench.crowd`: a node with many connections that all send, and nodes with many accounts and leases.

The accounts and leases are written into the nodes' books; everything else is nodes' own processes on a development
network, as they are shipped but without their rates, and clients in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import trio
from sqlalchemy import Connection

from bench.billing import furnish
from bench.plan import KIB, MIB
from bench.processes import cpu_seconds, memory_bytes, reset_peak, two_cores
from lnstore.books.database import Database
from lnstore.books.schema import leases
from lnstore.client.transport import NodeConnection, connect
from lnstore.devnet import Devnet, DevnetNode, devnet, short_directory
from lnstore_protocol import merkle
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import AccountId
from lnstore_protocol.messages import PutShare

SETTINGS: dict[str, Any] = {"capacity": "1000TiB", "rate_limit_percent": 0, "maximum_connections_per_address": 1000}
SENT_BYTES = 256 * KIB
SENT_SHARES = 2
"""Each connection sends these two in turn, the next when the one before was acknowledged."""

PUT_BYTES = 10 * KIB
TOKENS = bytes(24 * 16)
LEASES_TOGETHER = 50_000
TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. `scales`: accounts and leases of the nodes; the others are held against the first."""

    scales: tuple[tuple[int, int], ...] = ((10, 10_000), (1_000, 10_000), (100_000, 10_000), (1_000, 1_000_000))
    puts: int = 200
    starts: int = 3
    connections: int = 200
    sending_seconds: float = 20.0


FULL = Size()
TINY = Size(scales=((2, 10), (20, 100)), puts=3, starts=1, connections=4, sending_seconds=0.3)


def _put(data: bytes) -> PutShare:
    return PutShare(share_id=merkle.share_id(data), token_start=0, tokens=b"", payload=data)


async def _furnish(node: DevnetNode, members: Sequence[AccountId], now: int, *, accounts: int, held: int) -> None:
    """So many accounts in the books of a node that is stopped, `members` among them, and so many leases in all."""
    others = [AccountId(os.urandom(32)) for _ in range(accounts - len(members))]
    database = Database(node.directory / "books.db")
    try:
        write = database.writer.write
        numbers = await write(lambda connection: furnish(connection, [*members, *others], now=now))
        for first in range(0, held, LEASES_TOGETHER):
            await write(partial(_lease, numbers, min(LEASES_TOGETHER, held - first)))
    finally:
        database.close()


def _lease(numbers: Sequence[int], count: int, connection: Connection) -> None:
    fixed = {"certificate": None, "size_bytes": MIB, "token_start": 0, "tokens": TOKENS}
    of = cycle(numbers)
    connection.execute(
        leases.insert(), [{"account": next(of), "share_id": os.urandom(32)} | fixed for _ in range(count)]
    )


# --- connections ------------------------------------------------------------------------------------------------------


async def connections(net: Devnet, node: DevnetNode, size: Size) -> dict[str, Any]:
    """All send as fast as they are let: the node's memory, and what the slowest got through."""
    members = [Identity.generate() for _ in range(size.connections)]
    await net.stop_nodes()
    ids = [AccountId(member.public_key) for member in members]
    await _furnish(node, ids, net.clock.now(), accounts=size.connections, held=0)
    await net.start_node(node)
    assert node.process is not None
    sent = [0] * size.connections
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(connect(node.running_address, member)) for member in members]
        reset_peak(node.process.pid)
        with trio.move_on_after(size.sending_seconds):
            async with trio.open_nursery() as nursery:
                for number, connection in enumerate(opened):
                    nursery.start_soon(_send, connection, sent, number)
        peak = memory_bytes(node.process.pid, peak=True)
    return {
        "connections": size.connections,
        "node_peak_bytes": peak,
        "mb_per_s": round(sum(sent) * SENT_BYTES / size.sending_seconds / 1e6, 1),
        "shares_median": statistics.median(sent),
        "shares_slowest": min(sent),
    }


async def _send(connection: NodeConnection, sent: list[int], number: int) -> None:
    for put in cycle([_put(os.urandom(SENT_BYTES)) for _ in range(SENT_SHARES)]):
        await connection.request(put, timeout_seconds=TIMEOUT_SECONDS)
        sent[number] += 1


# --- accounts and leases ----------------------------------------------------------------------------------------------


async def scales(net: Devnet, nodes: Sequence[DevnetNode], size: Size) -> list[dict[str, Any]]:
    """Start-up and puts of nodes with ever more accounts and leases, one node in turn with the others."""
    member = Identity.generate()
    await net.stop_nodes()
    for node, (accounts, held) in zip(nodes, size.scales, strict=True):
        await _furnish(node, [AccountId(member.public_key)], net.clock.now(), accounts=accounts, held=held)
    started: list[list[float]] = [[] for _ in nodes]
    computed: list[list[float]] = [[] for _ in nodes]
    for _ in range(size.starts):
        await net.stop_nodes()
        for node, seconds, cpu in zip(nodes, started, computed, strict=True):
            began = time.perf_counter()
            await net.start_node(node)
            seconds.append(time.perf_counter() - began)
            assert node.process is not None
            cpu.append(cpu_seconds(node.process.pid))
    put: list[list[float]] = [[] for _ in nodes]
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(connect(node.running_address, member)) for node in nodes]
        for _ in range(size.puts):
            for connection, seconds in zip(opened, put, strict=True):
                message = _put(os.urandom(PUT_BYTES))
                began = time.perf_counter()
                await connection.request(message, timeout_seconds=TIMEOUT_SECONDS)
                seconds.append(time.perf_counter() - began)
    return [
        {
            "accounts": accounts,
            "leases": held,
            "start_seconds": round(statistics.median(starts), 3),
            "start_cpu_seconds": round(statistics.median(cpu), 3),
            "put_seconds": round(statistics.median(puts), 5),
            "times_the_first": round(statistics.median(puts) / statistics.median(put[0]), 3),
        }
        for (accounts, held), starts, cpu, puts in zip(size.scales, started, computed, put, strict=True)
    ]


async def measure(place: Path, size: Size = FULL) -> dict[str, Any]:
    """Both, in a network in `place`."""
    async with devnet(place, nodes=len(size.scales), settings=SETTINGS) as net:
        at_scale = await scales(net, net.nodes, size)
    async with devnet(place.with_name(f"{place.name}2"), nodes=1, settings=SETTINGS) as net:
        return {"scales": at_scale, "connections": await connections(net, net.nodes[0], size)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.crowd", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a few of everything, to see that it runs")
    size = TINY if parser.parse_args().tiny else FULL
    two_cores()
    place = short_directory("lnstore-crowd-")
    try:
        json.dump(trio.run(measure, place / "net", size), sys.stdout, indent=1)
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
