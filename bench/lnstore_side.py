"""lnstore as the suite measures it: a development network with simulated Lightning, and one client process."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import trio

from bench.processes import Roles, children_of
from bench.system import BenchError, Coding, Stored
from lnstore.client.profile import init_profile
from lnstore.devnet import Devnet, devnet
from lnstore.storage.shares import SMALL_FILE
from lnstore_protocol.terms import MONTH_SECONDS

READ_BYTES = 64 * 1024
FREED_SECONDS = 60.0
BEFORE_DUE_SECONDS = 3600
"""Rent is paid this long before its period begins."""

STORED_NAME = "stored from the command line"


class ClientProcess:
    """A process of bench.client_process (or of what wraps it)."""

    def __init__(self, process: trio.Process) -> None:
        self.pid = process.pid
        self._process = process
        self._waiting = b""

    async def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """The answer to a command; BenchError when it fails or the process ends."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        await stdin.send_all(json.dumps({"do": do, **arguments}).encode() + b"\n")
        while b"\n" not in self._waiting:
            data = await stdout.receive_some(READ_BYTES)
            if not data:
                raise BenchError(f"the lnstore client ended while it did {do!r}")
            self._waiting += data
        line, _, self._waiting = self._waiting.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchError(answer["error"])
        return answer

    async def close(self) -> None:
        """Let it end."""
        if self._process.stdin is not None:
            await self._process.stdin.aclose()
        await self._process.wait()


class LnstoreSystem:
    """A running network and its client; see bench.system.System. Made by `lnstore_system`."""

    name = "lnstore"

    def __init__(self, net: Devnet, client: ClientProcess, profile: Path, others: Sequence[int]) -> None:
        self.net = net
        self.client = client
        self._profile = profile
        self._lightning = others
        self._numbers = itertools.count()

    def roles(self) -> Roles:
        """Client, nodes, and the simulated Lightning network."""
        nodes = [node.process.pid for node in self.net.nodes if node.process is not None and node.running]
        return {"client": [self.client.pid], "nodes": nodes, "lightning": self._lightning}

    async def put(self, files: Sequence[Path], *, at_once: int) -> Stored:
        """As System.put; the keys are names in the catalog."""
        names = [f"{next(self._numbers)}" for _ in files]
        answer = await self.client.ask("put", files=[str(file) for file in files], names=names, at_once=at_once)
        return Stored(answer["seconds"], tuple(names))

    async def get(self, keys: Sequence[str], files: Sequence[Path], *, at_once: int) -> float:
        """As System.get."""
        answer = await self.client.ask("get", names=list(keys), files=[str(f) for f in files], at_once=at_once)
        return float(answer["seconds"])

    async def put_folder(self, folder: Path, name: str) -> float:
        """Store a folder with all that is in it in one put; seconds."""
        return float((await self.client.ask("put_folder", folder=str(folder), name=name))["seconds"])

    async def get_folder(self, name: str, folder: Path) -> float:
        """Read it back to a folder that is not there yet; seconds."""
        return float((await self.client.ask("get_folder", name=name, folder=str(folder)))["seconds"])

    async def first_byte(self, key: str) -> float:
        """As System.first_byte."""
        return float((await self.client.ask("first_byte", name=key))["seconds"])

    async def verify(self, key: str) -> float:
        """As System.verify."""
        return await self._check(key, "read")

    async def audit(self, key: str) -> float:
        """Have a piece of every share shown, without reading the rest; seconds. BenchError when anything is lost."""
        return await self._check(key, "audited")

    async def _check(self, key: str, depth: str) -> float:
        answer = await self.client.ask("check", name=key, depth=depth)
        if not answer["sound"]:
            raise BenchError("something is lost, or a node did not answer")
        return float(answer["seconds"])

    async def lose(self, key: str, number: int) -> None:
        """As System.lose: what one node has of all segments, as a peer's share has a part of each."""
        node = self.net.nodes[number % len(self.net.nodes)]
        answer = await self.client.ask("shares_at", name=key, node=node.running_address.node_id.hex())
        for share_id in answer["share_ids"]:
            (node.directory / "shares" / share_id[:2] / share_id[2] / share_id).unlink()

    async def repair(self, key: str) -> float:
        """As System.repair."""
        answer = await self.client.ask("repair", name=key)
        if not answer["shares"] or answer["problems"]:
            raise BenchError(f"{answer['shares']} shares were lost, and not all repaired: {answer['problems']}")
        return float(answer["seconds"])

    async def forget(self, keys: Sequence[str]) -> None:
        """As System.forget; waits until the nodes' sweepers have deleted the shares."""
        before = self._stored_bytes()
        answer = await self.client.ask("forget", names=list(keys))
        with trio.move_on_after(FREED_SECONDS):
            while self._stored_bytes() > before - answer["freed_bytes"]:  # noqa: ASYNC110 - processes set no event
                await trio.sleep(0.05)

    async def kill_nodes(self, count: int) -> None:
        """As System.kill_nodes, with SIGKILL."""
        for node in self.net.nodes[:count]:
            node.kill()

    def commands(self, small_file: Path) -> dict[str, list[str]]:
        """As System.commands. The one that stores must be followed by forgetting STORED_NAME."""
        program = str(Path(sys.executable).with_name("lnstore"))
        profile = ["--profile", str(self._profile)]
        return {
            "help": [program, "--help"],
            "ls": [program, "ls", *profile],
            "put 1 KiB": [program, "put", str(small_file), "--name", STORED_NAME, *profile],
        }

    async def pay_rent(self) -> dict[str, Any]:
        """Let a month pass and pay the next one's rent at every node."""
        self.net.clock.advance(MONTH_SECONDS - BEFORE_DUE_SECONDS)
        answer = await self.client.ask("rent")
        self.net.clock.advance(BEFORE_DUE_SECONDS)
        return answer

    def _stored_bytes(self) -> int:
        found = 0
        for node in self.net.nodes:
            with closing(sqlite3.connect(node.directory / "shares" / SMALL_FILE, timeout=FREED_SECONDS)) as small:
                found += small.execute("SELECT coalesce(sum(length(bytes)), 0) FROM shares").fetchone()[0]
            for folder, _, names in os.walk(node.directory / "shares"):
                for name in names:
                    if name.startswith(SMALL_FILE):
                        continue
                    try:
                        found += (Path(folder) / name).stat().st_size
                    except FileNotFoundError:
                        continue
        return found


@asynccontextmanager
async def lnstore_system(
    place: Path,
    coding: Coding,
    *,
    capacity_bytes: int,
    stepped: bool = False,
    listen_host: str = "127.0.0.1",
    client_prefix: Sequence[str] = (),
) -> AsyncIterator[tuple[LnstoreSystem, dict[str, Any]]]:
    """A network in `place` whose client has joined every node, and the seconds that channels and accounts took.

    `stepped` runs client and nodes under bench.stepped, which measures where their time goes; `client_prefix` is a
    command that runs the client as its last arguments say.
    """
    before = children_of(os.getpid())
    settings = {"capacity": "1000TiB", "listen_host": listen_host}
    async with devnet(place, nodes=coding.total, settings=settings) as net:
        known = {node.process.pid for node in net.nodes if node.process is not None}
        lightning = sorted(children_of(os.getpid()) - before - known)
        if stepped:
            await _restart_stepped(net)
        profile = init_profile(
            place / "profile",
            lightning_rpc=str(net.client_rpc),
            clock_file=str(net.clock_file),
            needed=coding.needed,
            total=coding.total,
            happy=coding.total,
        )
        steps = place / "client.steps"
        program = ["bench.stepped", str(steps), "client"] if stepped else ["bench.client_process"]
        process = await trio.lowlevel.open_process(
            [*client_prefix, sys.executable, "-m", *program, str(profile.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        client = ClientProcess(process)
        try:
            seconds = await client.ask(
                "join",
                nodes={node.name: str(node.running_address) for node in net.nodes},
                capacity_bytes=capacity_bytes,
                read_bytes=100 * capacity_bytes,
            )
            yield LnstoreSystem(net, client, profile.directory, lightning), seconds
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(10):
                await client.close()
            if process.returncode is None:
                process.kill()


async def _restart_stepped(net: Devnet) -> None:
    """Run the nodes under bench.stepped instead."""
    await net.stop_nodes()
    for node in net.nodes:
        address_file = node.directory / "address"
        address_file.unlink(missing_ok=True)
        with (node.directory / "node.log").open("ab") as log:
            node.process = subprocess.Popen(  # noqa: ASYNC220 - starting takes a millisecond, nothing waits for its end
                [sys.executable, "-m", "bench.stepped", str(node.directory / "steps"), "node", str(node.directory)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        with trio.fail_after(FREED_SECONDS):
            while not address_file.exists() or not address_file.read_text().strip():  # noqa: ASYNC110 - no event tells
                await trio.sleep(0.02)
        node.address = type(node.running_address).parse(address_file.read_text().strip())
