"""Real bitcoind and lightningds on a private regtest chain, steered like the simulated network.

Everything listens on loopback or unix sockets, keeps its files in one directory and ends with the block that
started it, or with its process, even when that is killed. The programs are taken from PATH.
"""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import trio

from lnstore.lightning.core import CoreLightning
from lnstore.lightning.tether import Tether
from lnstore.ports import LightningError, LightningRefused, LightningUnavailable

PROGRAMS = {"bitcoind": "Bitcoin Core", "bitcoin-cli": "Bitcoin Core", "lightningd": "Core Lightning"}
START_SECONDS = 60.0
"""For a program to start and to have seen the chain."""
STOP_SECONDS = 10.0
SEEN_SECONDS = 60.0
"""For the lightningds to have seen a block."""
POLL_SECONDS = 0.1
MATURE_BLOCKS = 101


def missing_programs() -> list[str]:
    """The programs a regtest network needs that are not on PATH."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RegtestNetwork:
    """One bitcoind and any number of lightningds. The same surface as SimulatedNetwork, without its faults."""

    simulated = False

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._bitcoin_port = _free_port()
        self._tether = Tether()
        self._bitcoind: trio.Process | None = None
        self._lightningds: dict[str, trio.Process] = {}
        self._ports: dict[str, int] = {}
        self._mining_address = ""

    @classmethod
    @asynccontextmanager
    async def start(
        cls, directory: Path | str, names: Sequence[str] = (), *, block_seconds: float | None = 0.5
    ) -> AsyncIterator[Self]:
        """Runs the network until the block ends; within `block_seconds` of a new transaction a block is mined.

        LightningUnavailable, with what to install, when a program is missing or does not start.
        """
        missing = missing_programs()
        if missing:
            raise LightningUnavailable(
                f"not on PATH: {', '.join(f'{name} ({PROGRAMS[name]})' for name in missing)}. Install Bitcoin Core 28 "
                "and Core Lightning 24.11 or newer, or use the simulated Lightning network"
            )
        network = cls(Path(directory))
        try:
            await network._launch_bitcoind()
            for name in names:
                await network.add_node(name)
            async with trio.open_nursery() as nursery:
                if block_seconds is not None:
                    nursery.start_soon(network._mine_when_needed, block_seconds)
                yield network
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 3 * STOP_SECONDS):
                await network.stop()

    # --- the programs -------------------------------------------------------------------------------------------

    async def _spawn(self, name: str, command: list[str]) -> trio.Process:
        return await self._tether.spawn(command, self.directory / f"{name}.out")

    async def _launch_bitcoind(self) -> None:
        data = self.directory / "bitcoin"
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._bitcoind = await self._spawn(
            "bitcoind",
            [
                *("bitcoind", f"-datadir={data}", "-regtest", "-server=1", "-listen=0", "-dnsseed=0", "-fixedseeds=0"),
                *("-discover=0", "-connect=0", "-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1", "-txindex=1"),
                *(f"-rpcport={self._bitcoin_port}", "-fallbackfee=0.00001", "-printtoconsole=0"),
            ],
        )
        await self._bitcoin("-rpcwait", f"-rpcwaittimeout={START_SECONDS:.0f}", "getblockchaininfo")
        if "miner" not in await self._bitcoin("listwallets"):
            kept = any(wallet["name"] == "miner" for wallet in (await self._bitcoin("listwalletdir"))["wallets"])
            await self._bitcoin("loadwallet" if kept else "createwallet", "miner")
        self._mining_address = await self._bitcoin("getnewaddress")
        if await self._bitcoin("getblockcount") < MATURE_BLOCKS:
            await self._bitcoin("generatetoaddress", str(MATURE_BLOCKS), self._mining_address)

    async def _bitcoin(self, *words: str) -> Any:
        """One bitcoin-cli call; what it prints, parsed."""
        command = [
            "bitcoin-cli",
            f"-datadir={self.directory / 'bitcoin'}",
            "-regtest",
            f"-rpcport={self._bitcoin_port}",
        ]
        done = await trio.run_process([*command, *words], capture_stdout=True, capture_stderr=True, check=False)
        if done.returncode:
            raise LightningUnavailable(
                f"bitcoin-cli {words[-1]} failed: {done.stderr.decode(errors='replace').strip()}; "
                f"see {self.directory / 'bitcoind.out'}"
            )
        text = done.stdout.decode().strip()
        try:
            return json.loads(text)
        except ValueError:
            return text

    async def add_node(self, name: str) -> Path:
        """Makes sure that a lightningd of this name runs; its socket."""
        await self.start_node(name)
        return self.socket(name)

    async def start_node(self, name: str) -> None:
        """Starts one lightningd, if it does not run, and waits until it has seen the chain."""
        running = self._lightningds.get(name)
        if running is not None and running.returncode is None:
            return
        home = self.directory / name
        home.mkdir(mode=0o700, exist_ok=True)
        port = self._ports.setdefault(name, _free_port())
        self._lightningds[name] = await self._spawn(
            name,
            [
                *("lightningd", f"--lightning-dir={home}", "--network=regtest", f"--alias={name}", "--disable-dns"),
                *(f"--bind-addr=127.0.0.1:{port}", f"--log-file={home / 'log'}", "--log-level=debug"),
                *(f"--bitcoin-datadir={self.directory / 'bitcoin'}", f"--bitcoin-rpcport={self._bitcoin_port}"),
                # The chain is polled every second instead of every thirty, and gossip is told at once.
                *("--developer", "--dev-bitcoind-poll=1", "--dev-fast-gossip", "--allow-deprecated-apis=true"),
            ],
        )
        await self._until_seen([name], await self._bitcoin("getblockcount"), START_SECONDS)

    async def crash_node(self, name: str) -> None:
        """Ends one lightningd with SIGKILL."""
        process = self._lightningds[name]
        process.kill()
        await process.wait()

    async def stop(self) -> None:
        """Ends all programs; their files stay."""
        for process in [*self._lightningds.values(), self._bitcoind]:
            if process is None or process.returncode is not None:
                continue
            process.terminate()
            with trio.move_on_after(STOP_SECONDS):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
        await self._tether.aclose()

    # --- the network --------------------------------------------------------------------------------------------

    def socket(self, name: str) -> Path:
        """Where the node's lightningd socket is."""
        return self.directory / name / "regtest" / "lightning-rpc"

    async def fund(self, name: str, amount_sat: int) -> None:
        """Pays coins to a fresh address of the node's wallet; confirmed when this returns."""
        lightning = CoreLightning(self.socket(name))
        before = await lightning.wallet_msat()
        address = await lightning.new_address()
        await self._bitcoin("sendtoaddress", address, f"{amount_sat // 10**8}.{amount_sat % 10**8:08d}")
        await self.mine(1)
        with trio.move_on_after(SEEN_SECONDS):
            while True:
                if await lightning.wallet_msat() >= before + amount_sat * 1000:
                    return
                await trio.sleep(POLL_SECONDS)
        raise LightningUnavailable(f"{name} does not see the coins sent to it; see {self.directory / name / 'log'}")

    async def mine(self, blocks: int = 1) -> int:
        """Mines blocks now and waits until every lightningd has seen them; the new height."""
        await self._bitcoin("generatetoaddress", str(blocks), self._mining_address)
        height = int(await self._bitcoin("getblockcount"))
        running = [name for name, process in self._lightningds.items() if process.returncode is None]
        await self._until_seen(running, height, SEEN_SECONDS)
        return height

    async def status(self) -> dict[str, Any]:
        """Height, mempool and which nodes run."""
        return {
            "blockheight": await self._bitcoin("getblockcount"),
            "mempool": len(await self._bitcoin("getrawmempool")),
            "nodes": [
                {"name": name, "running": process.returncode is None, "socket": str(self.socket(name))}
                for name, process in self._lightningds.items()
            ],
            "faults": [],
        }

    async def _until_seen(self, names: Sequence[str], height: int, seconds: float) -> None:
        for name in names:
            lightning = CoreLightning(self.socket(name))
            seen = False
            with trio.move_on_after(seconds):
                while True:
                    seen = await self._has_seen(lightning, name, height)
                    if seen:
                        break
                    await trio.sleep(POLL_SECONDS)
            if not seen:
                raise LightningUnavailable(
                    f"lightningd {name} has not seen block {height} after {seconds:.0f} s; "
                    f"see {self.directory / name / 'log'}"
                )

    async def _has_seen(self, lightning: CoreLightning, name: str, height: int) -> bool:
        process = self._lightningds[name]
        if process.returncode is not None:
            raise LightningUnavailable(
                f"lightningd {name} ended with {process.returncode}; see {self.directory / f'{name}.out'}"
            )
        try:
            info = await lightning.info()
        except (LightningUnavailable, LightningRefused):
            return False  # still starting
        return info.block_height >= height

    async def _mine_when_needed(self, seconds: float) -> None:
        while True:
            await trio.sleep(seconds)
            try:
                if await self._bitcoin("getrawmempool"):
                    await self._bitcoin("generatetoaddress", "1", self._mining_address)
            except LightningError:
                return  # bitcoind was stopped
