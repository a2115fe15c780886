"""Real nodes for the conformance program: lnstore's own over a simulated Lightning network, in this process.

The Lightning network is one process for the whole session, with a channel from "client" to "node"; every storage node
here is paid at "node".
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trio

from lnstore.books import SqlBooks
from lnstore.clock import SteeredClock
from lnstore.config import NodeConfig
from lnstore.lightning.core import CoreLightning
from lnstore.node.directory import init_node, load_identity
from lnstore.node.limits import Deadlines
from lnstore.node.server import Node
from lnstore.storage import NodeShares
from lnstore_protocol.conformance import NodeTools, Report, check_node
from lnstore_protocol.conformance.tools import RpcPayer
from lnstore_protocol.ids import NodeAddress

CHANNEL_SAT = 10_000_000
FUNDS_SAT = 100_000_000
PATIENCE_SECONDS = 20.0
"""For what takes milliseconds on a machine that is not busy."""


@dataclass(frozen=True)
class LightningSockets:
    """Two daemons and a channel between them."""

    client: Path
    node: Path
    control: Path

    def call(self, path: Path, method: str, **params: Any) -> Any:
        """One JSON-RPC call; its result."""
        with socket.socket(socket.AF_UNIX) as rpc:
            rpc.settimeout(PATIENCE_SECONDS)
            rpc.connect(str(path))
            rpc.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())
            received = b""
            while not received.endswith(b"\n\n"):
                received += rpc.recv(65536)
        answer = json.loads(received)
        assert "result" in answer, answer
        return answer["result"]


@contextmanager
def running_lightning(directory: Path) -> Iterator[LightningSockets]:
    """The simulated network, until the block ends."""
    command = [sys.executable, "-m", "lnstore.lightning.simulated", "--dir", str(directory), "--until-stdin-ends"]
    options = ["--node", "client", "--node", "node", "--block-seconds", "-1", "--payment-seconds", "0.001"]
    with subprocess.Popen([*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            ready = json.loads(process.stdout.readline())
            sockets = LightningSockets(
                Path(ready["nodes"]["client"]), Path(ready["nodes"]["node"]), Path(ready["control"])
            )
            sockets.call(sockets.control, "fund", name="client", amount_sat=FUNDS_SAT)
            info = sockets.call(sockets.node, "getinfo")
            place = info["binding"][0]
            sockets.call(sockets.client, "connect", id=info["id"], host=place["address"], port=place["port"])
            sockets.call(sockets.client, "fundchannel", id=info["id"], amount=CHANNEL_SAT)
            sockets.call(sockets.control, "mine", blocks=6)
            yield sockets
        finally:
            process.stdin.close()
            process.wait(PATIENCE_SECONDS)


PRICES = {"ingress_msat_per_gib": 200_000}
"""Writing has a price in the checks' world: 5.2 KiB cost 1 msat."""


class NodeWorld:
    """One node's directory; the node in it may be started again."""

    def __init__(self, directory: Path, lightning: LightningSockets, **settings: Any) -> None:
        self.directory = directory / "node"
        self.lightning = lightning
        self.clock = SteeredClock(directory / "clock")
        init_node(self.directory, lightning_rpc=str(lightning.node), listen_port=0, **(PRICES | settings))
        self.config = NodeConfig.load(self.directory)
        self.deadlines = Deadlines()
        self.make_books: Callable[[Path], Any] = SqlBooks.open
        self.make_shares: Callable[[Path], Any] = NodeShares
        self.make_node: Callable[..., Node] = Node

    @asynccontextmanager
    async def running(self) -> AsyncIterator[NodeAddress]:
        """The node, until the block ends; afterwards it listens on the same port as before."""
        async with AsyncExitStack() as stack:
            shares = stack.enter_context(closing(self.make_shares(self.directory / "shares")))
            books = await stack.enter_async_context(self.make_books(self.directory / "books.db"))
            node = self.make_node(
                self.config,
                identity=load_identity(self.directory),
                lightning=CoreLightning(self.lightning.node),
                shares=shares,
                books=books,
                clock=self.clock,
                deadlines=self.deadlines,
            )
            async with trio.open_nursery() as nursery:
                address: NodeAddress = await nursery.start(node.run)
                self.config = replace(self.config, listen_port=address.port)
                yield address
                nursery.cancel_scope.cancel()

    async def check(self, only: str = "", **tools: Any) -> Report:
        """What the conformance program says of the node."""
        reports: list[Report] = []
        to_restart, restarts = trio.open_memory_channel[trio.Event](0)

        def restart() -> bool:
            up = trio.Event()
            trio.from_thread.run(to_restart.send, up)
            trio.from_thread.run(up.wait)
            return True

        def advance(seconds: int) -> bool:
            self.clock.advance(seconds)
            return True

        async def run_checks(address: NodeAddress) -> None:
            lent = NodeTools(
                payer=RpcPayer(self.lightning.client),
                restart=restart,
                advance=advance,
                patience_seconds=PATIENCE_SECONDS,
            )
            async with to_restart:
                lent = replace(lent, **tools)
                reports.append(await trio.to_thread.run_sync(lambda: check_node(address, lent, only=only)))

        async with trio.open_nursery() as nursery:
            up: trio.Event | None = None
            while not reports:
                async with self.running() as address:
                    if up is None:
                        nursery.start_soon(run_checks, address)
                    else:
                        up.set()
                    try:
                        up = await restarts.receive()
                    except trio.EndOfChannel:
                        break
        return reports[0]


# --- the program ------------------------------------------------------------------------------------------------------

WITHOUT_LNSTORE = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name == "lnstore" or name.startswith(("lnstore.", "trio", "pyln", "sqlalchemy", "structlog", "click")):
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Refuse())
sys.argv = ["conformance", *sys.argv[1:]]
runpy.run_module("lnstore_protocol.conformance", run_name="__main__")
"""


async def run_program(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the program, in an interpreter that has lnstore_protocol alone."""
    ended = await trio.run_process(
        [sys.executable, "-c", WITHOUT_LNSTORE, *arguments],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()
