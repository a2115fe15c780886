"""The lnstore client that is measured, in a process of its own: commands as JSON lines on stdin, answers on stdout.

`python -m bench.client_process PROFILE`. It ends when its standard input does.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from bench.paced import PacedStream
from lnstore.client.accounts import fetch_terms
from lnstore.client.buying import buy
from lnstore.client.catalog import MANIFEST_SEGMENT, FileEntry
from lnstore.client.checking import check
from lnstore.client.files import Client, Coding, cap_of, open_client
from lnstore.client.folder_catalog import FolderCatalog
from lnstore.client.folder_get import get_folder, tree_of_snapshot
from lnstore.client.folder_put import put_folder
from lnstore.client.looking import Depth
from lnstore.client.node_channels import open_channel
from lnstore.client.nodes import add_node
from lnstore.client.profile import Profile
from lnstore.client.purse import Purse
from lnstore.client.rent import pay_rent
from lnstore.client.repairing import repair_files
from lnstore.client.scores import Scores
from lnstore.client.targets import find_targets
from lnstore.client.transport import open_tcp
from lnstore.errors import LnstoreError
from lnstore.lightning.core import CoreLightning
from lnstore_protocol.caps import ReadCap
from lnstore_protocol.ids import NodeAddress, NodeId
from lnstore_protocol.messages import MAX_IDS, DropShares
from lnstore_protocol.terms import traffic_msat

READ_BYTES = 64 * 1024
DROP_SECONDS = 60.0
RETRY_SECONDS = 0.5
PACES: dict[NodeAddress, float] = {}
"""Nodes that are slow, and how many bytes a second go either way."""


@contextmanager
def _purse(client: Client) -> Iterator[Purse]:
    """The client's purse over its own connections; the profile is held only meanwhile, for commands to be timed."""
    profile = client.profile
    with profile.writing():
        lightning = CoreLightning(profile.config.lightning_rpc)
        yield Purse.of(profile, client.catalog, lightning, client.pool.dial, client.clock, buffers=client.pool.buffers)


async def _join(client: Client, *, nodes: dict[str, str], capacity_bytes: int, read_bytes: int) -> dict[str, Any]:
    """A channel and an account at each node, with capacity and with a deposit for so much reading; how long each."""
    seconds: dict[str, list[float]] = {"channel": [], "account": []}
    with _purse(client) as purse:
        for name, address in nodes.items():
            node = await add_node(purse, NodeAddress.parse(address), name)
            began = time.perf_counter()
            await open_channel(purse, node, capacity_bytes=capacity_bytes)
            opened = time.perf_counter()
            terms = (await fetch_terms(purse, node)).terms
            deposit_msat = traffic_msat(read_bytes, terms.egress_msat_per_gib)
            await buy(purse, node, capacity_bytes, deposit_msat=deposit_msat)
            seconds["channel"].append(opened - began)
            seconds["account"].append(time.perf_counter() - opened)
    return seconds


async def _rent(client: Client) -> dict[str, Any]:
    """Pay the next period's rent everywhere, each against its proof."""
    began = time.perf_counter()
    with _purse(client) as purse:
        outcomes = await pay_rent(purse, ahead=1)
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    paid = [payment for outcome in outcomes for payment in outcome.paid]
    return {
        "seconds": time.perf_counter() - began,
        "payments": len(paid),
        "shares_proven": sum(p.sampled for p in paid),
    }


async def _put(
    client: Client, *, files: list[str], names: list[str], at_once: int, happy: int | None = None
) -> dict[str, Any]:
    paths = [Path(file) for file in files]
    jobs = [partial(client.put, path, name=name, happy=happy) for path, name in zip(paths, names, strict=True)]
    return {"seconds": await _timed(jobs, at_once)}


async def _put_folder(client: Client, *, folder: str, name: str) -> dict[str, Any]:
    config = client.profile.config
    coding = Coding(config.needed, config.total, config.happy)
    began = time.perf_counter()
    stored = await put_folder(client, Path(folder), name=name, coding=coding)
    seconds = time.perf_counter() - began
    assert not stored.problems, stored.problems
    return {"seconds": seconds}


async def _get_folder(client: Client, *, name: str, folder: str) -> dict[str, Any]:
    tree = await tree_of_snapshot(client, FolderCatalog(client.catalog).newest(name))
    began = time.perf_counter()
    await get_folder(client, tree, Path(folder))
    return {"seconds": time.perf_counter() - began}


async def _get(client: Client, *, names: list[str], files: list[str], at_once: int) -> dict[str, Any]:
    caps = [_cap(client, name) for name in names]
    paths = [Path(file) for file in files]
    jobs = [partial(client.get, cap, path) for cap, path in zip(caps, paths, strict=True)]
    return {"seconds": await _timed(jobs, at_once)}


async def _first_byte(client: Client, *, name: str) -> dict[str, Any]:
    cap = _cap(client, name)
    began = time.perf_counter()
    first = _FirstByte()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.get, cap, first)
        await first.arrived.wait()
        nursery.cancel_scope.cancel()
    return {"seconds": first.at - began}


async def _check(client: Client, *, name: str, depth: str) -> dict[str, Any]:
    file = _file(client, name)
    with _purse(client) as purse:
        began = time.perf_counter()
        checked = await check(purse, files=[file], depth=Depth(depth))
        return {"seconds": time.perf_counter() - began, "sound": checked.sound and not checked.silent}


async def _repair(client: Client, *, name: str) -> dict[str, Any]:
    """As `check --verify` and `repair` do it, one after the other; then nothing is held against the nodes."""
    file = _file(client, name)
    with _purse(client) as purse:
        began = time.perf_counter()
        await check(purse, files=[file], depth=Depth.AUDITED)
        done = await repair_files(purse, await find_targets(client), files=[file])
        seconds = time.perf_counter() - began
    for node in client.catalog.nodes():
        Scores(client.catalog).readmit(node.node_id, client.clock.now())
    return {
        "seconds": seconds,
        "shares": len(done),
        "problems": [one.reason for one in done if one.to is None or one.reason],
    }


async def _shares_at(client: Client, *, name: str, node: str) -> dict[str, Any]:
    node_id = NodeId.from_hex(node)
    rows = client.catalog.shares_of(_file(client, name).file_id)
    ids = [row.share_id.hex() for row in rows if row.node_id == node_id and row.segment != MANIFEST_SEGMENT]
    return {"share_ids": ids}


async def _forget(client: Client, *, names: list[str]) -> dict[str, Any]:
    freed = 0
    for name in names:
        if (file := client.catalog.file(name)) is None:
            continue
        freed += sum(share.size_bytes for share in client.catalog.shares_of(file.file_id))
        for node_id, share_ids in client.catalog.remove_file(file.file_id).items():
            address = client.catalog.node(node_id).address
            for at in range(0, len(share_ids), MAX_IDS):
                drop = DropShares(payload=b"".join(share_ids[at : at + MAX_IDS]))
                await client.pool.request(address, drop, timeout_seconds=DROP_SECONDS)
    return {"freed_bytes": freed}


async def _pace(client: Client, *, rates: dict[str, float]) -> dict[str, Any]:
    """Connect anew to every node, to those named at so many bytes a second each way."""
    PACES.clear()
    PACES.update({NodeAddress.parse(text): rate for text, rate in rates.items()})
    for node in client.catalog.nodes():
        client.pool.drop(node.address, "is connected to anew")
        while True:
            try:
                await client.pool.dial(node.address)
                break
            except LnstoreError:
                await trio.sleep(RETRY_SECONDS)
    return {}


async def _open_stream(address: NodeAddress) -> trio.abc.Stream:
    stream = await open_tcp(address)
    return PacedStream(stream, PACES[address]) if address in PACES else stream


class _FirstByte:
    """A stream that notes when its first bytes came."""

    def __init__(self) -> None:
        self.arrived = trio.Event()
        self.at = 0.0
        self._token = trio.lowlevel.current_trio_token()

    def write(self, data: memoryview) -> int:
        if not self.at:
            self.at = time.perf_counter()
            self._token.run_sync_soon(self.arrived.set)
        return len(data)

    def flush(self) -> None:
        """Nothing is buffered."""


def _file(client: Client, name: str) -> FileEntry:
    file = client.catalog.file(name)
    assert file is not None
    return file


def _cap(client: Client, name: str) -> ReadCap:
    return cap_of(_file(client, name))


async def _timed(jobs: Sequence[Callable[[], Awaitable[object]]], at_once: int) -> float:
    """Do all jobs, so many at a time; seconds."""
    todo = iter(jobs)

    async def work() -> None:
        for job in todo:
            await job()

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(work)
    return time.perf_counter() - began


COMMANDS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "join": _join,
    "rent": _rent,
    "put": _put,
    "put_folder": _put_folder,
    "get_folder": _get_folder,
    "get": _get,
    "first_byte": _first_byte,
    "check": _check,
    "repair": _repair,
    "shares_at": _shares_at,
    "forget": _forget,
    "pace": _pace,
}


async def _serve(directory: Path) -> None:
    async with open_client(Profile.load(directory), open_stream=_open_stream) as client:
        stdin = trio.lowlevel.FdStream(sys.stdin.fileno())
        waiting = b""
        while data := await stdin.receive_some(READ_BYTES):
            *lines, waiting = (waiting + data).split(b"\n")
            for line in lines:
                command = json.loads(line)
                print(json.dumps(await _answer(client, **command)), flush=True)


async def _answer(client: Client, *, do: str, **arguments: Any) -> dict[str, Any]:
    try:
        return await COMMANDS[do](client, **arguments)
    except* LnstoreError as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        answer = {"error": f"{do}: {first}"}
    return answer


def main() -> None:
    """Serve the profile named on the command line."""
    trio.run(_serve, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
