"""Ten node processes, their shares on disk, and a client whose commands are processes: what may be broken, and how."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import trio
from cli_world import COMMAND
from grid_disk import GridDisk
from grid_proxy import Proxy, Traffic, proxies

from lnstore.devnet import Devnet, DevnetNode, devnet
from lnstore.lightning.core import CoreLightning
from lnstore_protocol.ids import Msat, NodeAddress, NodeId, ShareId

NEEDED, TOTAL, HAPPY = 3, 5, 4
COMMAND_SECONDS = 300
SLOW_BYTES_PER_SECOND = 200_000
CHANNEL_SAT = 200_000
CAPACITY = "256MiB"
DEPOSIT_MSAT = 100_000
BUDGET_MSAT = 2_000_000
"""In total, of which the deposits are half."""

KILLED = -signal.SIGKILL


WAKER = "import os, signal, sys, time; time.sleep(float(sys.argv[2])); os.kill(int(sys.argv[1]), signal.SIGCONT)"


class Kind(Enum):
    """What can befall a node, or the client."""

    KILL = "killed"
    SILENCE = "silent"
    WIPE = "wiped"
    CORRUPT = "corrupted"
    SLOW = "slow"
    KILL_CLIENT = "client killed"


DAMAGES = (Kind.WIPE, Kind.CORRUPT)
"""What loses shares for good."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that befalls a node once so many bytes of a command's traffic have passed."""

    kind: Kind
    node: int
    after_bytes: int
    silent_seconds: float = 1.0


@dataclass(slots=True)
class Finished:
    """What a command did. `code` is KILLED when it was."""

    code: int
    out: bytes
    err: str
    came_true: bool

    @property
    def answers(self) -> list[dict[str, Any]]:
        """Its lines of JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(slots=True)
class Grid:
    """A running grid. `honest` and what follows from it are read from the nodes' disks."""

    net: Devnet
    home: Path
    proxies: list[Proxy]
    traffic: Traffic
    random: Random
    tell: Callable[[str], None]
    settings: tuple[str, ...]
    """What each profile is made with."""
    words: str = ""
    commands: int = 0
    happened: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    _client: trio.Process | None = None
    _wakers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    # --- the client -------------------------------------------------------------------------------------------------

    async def run(self, *words: str, trouble: Trouble | None = None, stdin: bytes = b"") -> Finished:
        """One command of the client's to its end, and everything put right afterwards."""
        self.commands += 1
        told = "" if trouble is None else f"; {trouble.kind.value} node {trouble.node} at byte {trouble.after_bytes}"
        self.tell(f"{' '.join(words)}{told}")
        if trouble is not None and trouble.after_bytes == 0 and trouble.kind is not Kind.KILL_CLIENT:
            await self.befall(trouble)
        elif trouble is not None:
            self.traffic.at(trouble.after_bytes, partial(self.befall, trouble))
        streams = [(self.net.directory / name).open("w+b") for name in ("stdin", "stdout", "stderr")]
        with streams[0] as given, streams[1] as out, streams[2] as err:
            given.write(stdin)
            given.seek(0)
            environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "LNSTORE_HOME": str(self.home)}
            environment |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}
            self._client = process = await trio.lowlevel.open_process(
                [*COMMAND, *words], stdin=given, stdout=out, stderr=err, env=environment
            )
            try:
                with trio.fail_after(COMMAND_SECONDS):
                    code = await process.wait()
            finally:
                process.kill()
            out.seek(0)
            err.seek(0)
            finished = Finished(code, out.read(), err.read().decode(), came_true=not self.traffic.forget())
        if trouble is not None and finished.came_true:
            self.happened[trouble.kind.value] += 1
        await self.restore()
        assert "Traceback" not in finished.err, (words, trouble, finished.err)
        return finished

    async def well(self, *words: str, trouble: Trouble | None = None, stdin: bytes = b"") -> Finished:
        """The same for a command that has to succeed."""
        done = await self.run(*words, trouble=trouble, stdin=stdin)
        assert done.code == 0, (words, trouble, done.code, done.out[-2000:], done.err[-2000:])
        return done

    # --- what befalls -----------------------------------------------------------------------------------------------

    async def befall(self, trouble: Trouble) -> None:
        """Let it happen now."""
        node = self.net.nodes[trouble.node]
        match trouble.kind:
            case Kind.KILL:
                node.kill()
            case Kind.SILENCE:
                self._silence(node, trouble.silent_seconds)
            case Kind.WIPE:
                GridDisk(node.directory).wipe()
            case Kind.CORRUPT:
                GridDisk(node.directory).flip_bits(self.random)
            case Kind.SLOW:
                self.proxies[trouble.node].bytes_per_second = SLOW_BYTES_PER_SECOND
            case Kind.KILL_CLIENT:
                assert self._client is not None
                self._client.kill()

    def _silence(self, node: DevnetNode, seconds: float) -> None:
        """Stop the process for a while. Another one wakes it: a stopped one would not notice that we ended."""
        if node.running and node.process is not None:
            pid = node.process.pid
            os.kill(pid, signal.SIGSTOP)
            self._wakers.append(subprocess.Popen([sys.executable, "-c", WAKER, str(pid), str(seconds)]))

    async def restore(self) -> None:
        """All nodes run and answer at full speed; what they lost stays lost."""
        for waker in self._wakers:
            waker.kill()
            waker.wait()
        self._wakers.clear()
        for node, proxy in zip(self.net.nodes, self.proxies, strict=True):
            proxy.bytes_per_second = None
            _signal(node, signal.SIGCONT)
            if not node.running:
                await self.net.start_node(node)

    # --- what the nodes really have ---------------------------------------------------------------------------------

    def honest(self) -> dict[NodeId, set[ShareId]]:
        """Which shares each node really has, by their bytes."""
        return {node.running_address.node_id: GridDisk(node.directory).honest() for node in self.net.nodes}

    def placed(self) -> dict[int, list[tuple[NodeId, ShareId, int, int]]]:
        """By file, what the client's catalog says: node, share, segment, number."""
        files = defaultdict(list)
        for file_id, node_id, share_id, segment, number in self.catalog(
            "SELECT s.file_id, s.node_id, s.share_id, s.segment, s.number FROM shares s JOIN files f USING (file_id) "
            "WHERE f.complete"
        ):
            files[file_id].append((NodeId(node_id), ShareId(share_id), segment, number))
        return files

    def readable(self, *, without: Iterable[int] = ()) -> dict[int, bool]:
        """By file, whether each segment has enough honest shares (a manifest one), also without these nodes."""
        honest = self.honest()
        for index in without:
            honest[self.net.nodes[index].running_address.node_id] = set()
        answer = {}
        for file_id, places in self.placed().items():
            there: dict[int, set[int]] = {segment: set() for _, _, segment, _ in places}
            for node_id, share_id, segment, number in places:
                if share_id in honest[node_id]:
                    there[segment].add(number)
            answer[file_id] = all(len(found) >= (1 if segment < 0 else NEEDED) for segment, found in there.items())
        return answer

    def lost(self) -> set[tuple[NodeId, ShareId]]:
        """Shares that the catalog counts on and that are not there."""
        honest = self.honest()
        return {
            (node_id, share_id)
            for places in self.placed().values()
            for node_id, share_id, _, _ in places
            if share_id not in honest[node_id]
        }

    def catalog(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows of the client's catalog."""
        with closing(sqlite3.connect(self.home / "catalog.db")) as db:
            return db.execute(query, parameters).fetchall()

    # --- what was sent ----------------------------------------------------------------------------------------------

    def leases(self) -> list[set[bytes]]:
        """By node, the shares that it has a lease of."""
        return [set(GridDisk(node.directory).sizes()) for node in self.net.nodes]

    def puts_taken(self) -> list[int]:
        """By node, how many times it took a share, going by its log."""
        return [sum(1 for _ in _puts(node.directory / "node.log")) for node in self.net.nodes]


def _puts(log: Path) -> Iterator[None]:
    for line in log.read_bytes().splitlines():
        if b'"PutShare"' in line and b'"refused": null' in line:
            yield


def _signal(node: DevnetNode, number: int) -> None:
    if node.running and node.process is not None:
        os.kill(node.process.pid, number)


@asynccontextmanager
async def open_grid(directory: Path, random: Random, *, nodes: int, tell: Callable[[str], None]) -> AsyncIterator[Grid]:
    """A grid with a client that has an account and a channel at each node."""
    home = directory / "home"
    async with (
        devnet(directory, nodes=nodes, settings={"log_level": "debug"}) as net,
        proxies([partial(_port, node) for node in net.nodes]) as (traffic, made),
    ):
        network = ("--lightning-rpc", str(net.client_rpc), "--clock-file", str(net.clock_file))
        grid = Grid(net, home, made, traffic, random, tell, network)
        await _open_channels(net)
        coding = {"needed": NEEDED, "total": TOTAL, "happy": HAPPY}
        options = [word for name, value in coding.items() for word in (f"--{name}", str(value))]
        shown = await grid.well("init", *network, *options)
        (grid.words,) = [line.strip() for line in shown.out.decode().splitlines() if line.startswith("  ")]
        settings = home / "client.toml"
        settings.write_text(
            re.sub("(?m)^budget_msat_total = .*", f"budget_msat_total = {BUDGET_MSAT}", settings.read_text())
        )
        await grid.well("nodes", "add", *(grid_address(grid, index) for index in range(nodes)))
        await grid.well("rent", "buy", "--all", CAPACITY, "--deposit", str(DEPOSIT_MSAT), "--json")
        yield grid


def grid_address(grid: Grid, index: int) -> str:
    """Where the client finds a node: at its proxy."""
    return str(NodeAddress(grid.net.nodes[index].running_address.node_id, "127.0.0.1", grid.proxies[index].port))


def _port(node: DevnetNode) -> int:
    return node.running_address.port


async def _open_channels(net: Devnet) -> None:
    """A block after each, since the next one is paid from its change; the client's own commands would wait for six."""
    client = CoreLightning(net.client_rpc)
    for node in net.nodes:
        peer = await CoreLightning(node.lightning_rpc).info()
        await client.connect(peer.lightning_id, *peer.addresses[0])
        await client.open_channel(peer.lightning_id, amount_sat=CHANNEL_SAT, push_msat=Msat(0), announce=False)
        await net.lightning.mine(1)
    await net.lightning.mine(6)
