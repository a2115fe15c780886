"""A development network on this machine: Lightning (simulated, or real Core Lightning on regtest), nodes, a clock.

Layout of its directory: `clock` steers everybody's time, `lightning/` is the Lightning network's, `nodes/<name>/` a
node each with its log. Node processes are tethered: their standard input is a pipe from this process, and they stop
when it ends, so that nothing is left running even when this process is killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import trio

from lnstore.clock import SteeredClock
from lnstore.errors import LnstoreError
from lnstore.node import init_node
from lnstore_protocol.ids import NodeAddress

CLIENT = "client"
"""The name of the client's Lightning daemon."""

FUNDS_SAT = 100_000_000
"""What every daemon's on-chain wallet starts with: 1 BTC of play money."""

START_DEADLINE_SECONDS = 60
STOP_DEADLINE_SECONDS = 15
LOG_LINES_SHOWN = 5


class DevnetError(LnstoreError):
    """The development network could not be started."""


class LightningKind(Enum):
    """Which Lightning network a development network runs on."""

    SIMULATED = "simulated"
    CORE = "core"


class LightningNetwork(Protocol):
    """What a development network needs of either kind."""

    async def add_node(self, name: str) -> Path:
        """Start a daemon; its JSON-RPC socket."""
        ...

    async def fund(self, name: str, amount_sat: int) -> None:
        """Put confirmed funds into a daemon's wallet."""
        ...

    async def mine(self, blocks: int) -> object:
        """Mine blocks."""
        ...


@dataclass(slots=True)
class DevnetNode:
    """A storage node process. `address` is known once it runs."""

    name: str
    directory: Path
    lightning_rpc: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    address: NodeAddress | None = None

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self.process is not None and self.process.poll() is None

    @property
    def running_address(self) -> NodeAddress:
        """Where it answers; DevnetError when it was never started."""
        if self.address is None:
            raise DevnetError(f"{self.name} was not started")
        return self.address

    def log_tail(self) -> str:
        """The last lines of its log."""
        try:
            return "\n".join((self.directory / "node.log").read_text().splitlines()[-LOG_LINES_SHOWN:])
        except OSError:
            return "(no log)"

    def kill(self) -> None:
        """Kill -9, as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.process.stdin is not None:
                self.process.stdin.close()


@dataclass(slots=True)
class Devnet:
    """A running development network."""

    directory: Path
    clock: SteeredClock
    lightning: LightningNetwork
    client_rpc: Path
    nodes: list[DevnetNode]

    @property
    def clock_file(self) -> Path:
        """What every process of this network takes as its clock."""
        return self.directory / "clock"

    async def start_node(self, node: DevnetNode) -> None:
        """Start the node's process and wait until it answers; DevnetError with the end of its log when it does not."""
        address_file = node.directory / "address"
        address_file.unlink(missing_ok=True)
        with (node.directory / "node.log").open("ab") as log:
            node.process = subprocess.Popen(  # noqa: ASYNC220 - starting takes a millisecond, nothing waits for its end
                [sys.executable, "-m", "lnstore", "node", "run", str(node.directory), "--until-eof"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # Its own session: Ctrl-C reaches only this process, which then stops the nodes in order.
                start_new_session=True,
            )
        with trio.move_on_after(START_DEADLINE_SECONDS):
            while node.running:
                if address_file.exists() and (text := address_file.read_text().strip()):
                    node.address = NodeAddress.parse(text)
                    return
                await trio.sleep(0.02)
        raise DevnetError(f"{node.name} did not start; the end of its log:\n{node.log_tail()}")

    async def stop_nodes(self) -> None:
        """Stop all nodes, each finishing what it is doing; those that take too long are killed."""
        for node in self.nodes:
            if node.running and node.process is not None and node.process.stdin is not None:
                node.process.stdin.close()
        with trio.move_on_after(STOP_DEADLINE_SECONDS):
            while any(node.running for node in self.nodes):  # noqa: ASYNC110 - a process sets no event
                await trio.sleep(0.02)
        for node in self.nodes:
            if node.running:
                node.kill()


@asynccontextmanager
async def devnet(
    directory: Path, *, nodes: int, kind: LightningKind = LightningKind.SIMULATED, settings: dict[str, Any]
) -> AsyncIterator[Devnet]:
    """Run a development network of `nodes` nodes in `directory` until the block ends.

    A directory that was used before continues where it stopped. `settings` go into each new node's node.toml.
    DevnetError or LightningError when a part cannot be started.
    """
    directory.mkdir(parents=True, exist_ok=True)
    names = [f"node{i + 1}" for i in range(nodes)]
    clock_file = directory / "clock"
    async with _lightning(directory / "lightning", kind) as lightning:
        sockets: dict[str, Path] = {}
        for name in [CLIENT, *names]:
            known = directory / "lightning" / f".funded-{name}"
            sockets[name] = await lightning.add_node(name)
            if not known.exists():
                await lightning.fund(name, FUNDS_SAT)
                known.touch()
        net = Devnet(directory, SteeredClock(clock_file), lightning, sockets[CLIENT], [])
        for name in names:
            node = DevnetNode(name, directory / "nodes" / name, sockets[name])
            if not (node.directory / "node.toml").exists():
                init_node(
                    node.directory,
                    lightning_rpc=str(sockets[name]),
                    listen_port=0,
                    clock_file=str(clock_file),
                    **settings,
                )
            net.nodes.append(node)
        try:
            await _start_all(net, net.nodes)
            yield net
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_DEADLINE_SECONDS + 5):
                await net.stop_nodes()


async def _start_all(net: Devnet, nodes: Sequence[DevnetNode]) -> None:
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(net.start_node, node)


@asynccontextmanager
async def _lightning(directory: Path, kind: LightningKind) -> AsyncIterator[LightningNetwork]:
    directory.mkdir(parents=True, exist_ok=True)
    match kind:
        case LightningKind.SIMULATED:
            from lnstore.lightning.simulated.control import SimulatedNetwork  # noqa: PLC0415 - one of the two is used

            async with SimulatedNetwork.start(directory, []) as network:
                yield network
        case LightningKind.CORE:
            from lnstore.lightning.regtest import RegtestNetwork  # noqa: PLC0415 - one of the two is used

            async with RegtestNetwork.start(directory, []) as network:
                yield network


def short_directory(prefix: str) -> Path:
    """A fresh temporary directory whose path is short enough for unix sockets (at most 107 bytes in all)."""
    import tempfile  # noqa: PLC0415

    parent = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix=prefix, dir=parent if len(os.fsencode(parent)) <= 40 else "/tmp"))  # noqa: S108 - the only short path there is
