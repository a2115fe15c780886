"""Starting and steering a simulated Lightning network from another trio program."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import trio

from lnstore.ports import LightningRefused, LightningUnavailable

START_SECONDS = 30.0
STOP_SECONDS = 5.0
CALL_SECONDS = 30.0
REPLY_LIMIT = 16 << 20
"""Bytes of one answer of the control socket."""


class SimulatedNetwork:
    """A simulated Lightning network in a process of its own. Errors are those of `ports` (LightningError)."""

    simulated = True

    def __init__(self, directory: Path, names: Sequence[str] = (), options: Sequence[str] = ()) -> None:
        self.directory = directory
        self._names = list(names)
        self._options = list(options)
        self._process: trio.Process | None = None

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        directory: Path | str,
        names: Sequence[str] = (),
        *,
        block_seconds: float | None = 0.2,
        payment_seconds: float = 0.01,
    ) -> AsyncIterator[Self]:
        """Runs the network, with what `directory` holds from an earlier run, until the block ends.

        `block_seconds` is how soon a transaction is mined (None: only by `mine`), `payment_seconds` how long a
        payment is on its way. LightningUnavailable when the process does not start.
        """
        network = cls(
            Path(directory),
            names,
            [
                "--block-seconds",
                str(-1 if block_seconds is None else block_seconds),
                "--payment-seconds",
                str(payment_seconds),
            ],
        )
        await network.launch()
        try:
            yield network
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 2 * STOP_SECONDS):
                await network.terminate()

    @property
    def pid(self) -> int:
        """The process's id; LightningUnavailable when none runs."""
        return self._running().pid

    def _running(self) -> trio.Process:
        if self._process is None or self._process.returncode is not None:
            raise LightningUnavailable("the simulated Lightning network is not running; launch it")
        return self._process

    # --- the process --------------------------------------------------------------------------------------------

    async def launch(self) -> None:
        """Starts the process and waits until every node listens; later launches leave dead nodes dead."""
        command = [sys.executable, "-m", "lnstore.lightning.simulated", "--dir", str(self.directory)]
        names = [word for name in self._names for word in ("--node", name)]
        process = await trio.lowlevel.open_process(
            [*command, "--until-stdin-ends", *self._options, *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._process = process
        assert process.stdout is not None  # noqa: S101  asked for above
        assert process.stderr is not None  # noqa: S101
        line = b""
        with trio.move_on_after(START_SECONDS) as patience:
            while not line.endswith(b"\n") and (data := await process.stdout.receive_some()):
                line += data
        if line.endswith(b"\n"):
            self._names = []
            return
        if patience.cancelled_caught:
            await self.kill()
            raise LightningUnavailable(f"the simulated Lightning network did not start within {START_SECONDS:.0f} s")
        said = await process.stderr.receive_some()
        await process.wait()
        raise LightningUnavailable(
            f"the simulated Lightning network did not start: {said.decode(errors='replace').strip()}"
        )

    async def terminate(self) -> None:
        """Ends the process if it runs, by force if it must."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
            with trio.move_on_after(STOP_SECONDS):
                await process.wait()
        await self.kill()

    async def kill(self) -> None:
        """Ends the process with SIGKILL and waits for it. What was committed is there after the next `launch`."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                await stream.aclose()

    # --- the network --------------------------------------------------------------------------------------------

    def socket(self, name: str) -> Path:
        """Where the node's lightningd socket is."""
        return self.directory / name / "lightning-rpc"

    async def add_node(self, name: str) -> Path:
        """Makes sure that a node of this name runs; its lightningd socket."""
        return Path((await self.call("add_node", name=name))["socket"])

    async def fund(self, name: str, amount_sat: int) -> None:
        """Pays coins to a fresh address of the node's wallet; confirmed when this returns."""
        await self.call("fund", name=name, amount_sat=amount_sat)

    async def mine(self, blocks: int = 1) -> int:
        """Mines blocks now; the new height."""
        return int((await self.call("mine", blocks=blocks))["blockheight"])

    async def status(self) -> dict[str, Any]:
        """Height, mempool, faults, and each node with its wallet and channels."""
        return dict(await self.call("status"))

    async def fault(
        self,
        kind: str,
        node: str | None = None,
        *,
        peer: str | None = None,
        command: str | None = None,
        seconds: float | None = None,
        count: int = 1,
    ) -> None:
        """Arms a fault; `faults.KINDS` lists them. `command` is a command's name, or for `crash` a moment."""
        await self.call("fault", kind=kind, node=node, peer=peer, command=command, seconds=seconds, count=count)

    async def clear_faults(self, kind: str | None = None, node: str | None = None) -> None:
        """Disarms faults of one kind or node, or all."""
        await self.call("clear_faults", kind=kind, node=node)

    async def release(self, node: str, outcome: str = "complete") -> int:
        """Lets the node's held payments 'complete' or 'fail'; how many there were."""
        return int((await self.call("release", node=node, outcome=outcome))["released"])

    async def crash_node(self, name: str) -> None:
        """Ends one node's daemon as kill -9 would."""
        await self.call("crash", node=name)

    async def start_node(self, name: str) -> None:
        """Starts one node's daemon again."""
        await self.call("start", node=name)

    async def advance_clock(self, seconds: int) -> None:
        """Sets the nodes' clocks forward."""
        await self.call("advance_clock", seconds=seconds)

    async def restart_node(self, name: str, *, seconds: float = 0) -> None:
        """Ends one node's daemon, and starts it again after so long."""
        await self.call("restart", node=name, seconds=seconds)

    async def close_channel(self, name: str, peer: str, *, mutual: bool = False) -> None:
        """Has `peer` close its channels with the node, alone or together with it."""
        await self.call("close_channel", node=name, peer=peer, mutual=mutual)

    async def drain(self, name: str, peer: str) -> int:
        """Leaves the node nothing but the reserve in its channels with `peer`; how many msat the peer got."""
        return int((await self.call("drain", node=name, peer=peer))["drained_msat"])

    async def forbid_splicing(self, name: str) -> None:
        """From now on the node cannot splice, like a lightningd before v26.06."""
        await self.call("forbid_splicing", node=name)

    async def allow_zero_conf(self, name: str) -> None:
        """From now on the node takes channels that are usable before their funding has a block."""
        await self.call("allow_zero_conf", node=name)

    async def settings(
        self,
        *,
        block_seconds: float | None = None,
        payment_seconds: float | None = None,
        feerate_per_kw: int | None = None,
    ) -> None:
        """Changes how long blocks and payments take, and what transactions cost."""
        await self.call(
            "settings", block_seconds=block_seconds, payment_seconds=payment_seconds, feerate_per_kw=feerate_per_kw
        )

    async def stop(self) -> None:
        """Ends the process; its state stays."""
        await self.terminate()

    async def call(self, method: str, **params: Any) -> Any:
        """One command of the control socket; its result."""
        path = self.directory / "control"
        given = {name: value for name, value in params.items() if value is not None}
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": given}
        try:
            with trio.fail_after(CALL_SECONDS):
                async with await trio.open_unix_socket(str(path)) as stream:
                    await stream.send_all(json.dumps(request).encode())
                    answer = b""
                    while not answer.endswith(b"\n\n"):
                        data = await stream.receive_some()
                        if not data or len(answer) > REPLY_LIMIT:
                            raise LightningUnavailable("the simulated network's control connection was lost")
                        answer += data
        except trio.TooSlowError:
            raise LightningUnavailable(f"the simulated network did not answer within {CALL_SECONDS:.0f} s") from None
        except (OSError, trio.BrokenResourceError) as exc:
            raise LightningUnavailable(f"no simulated network answers at {path} ({exc}); start it") from None
        reply = json.loads(answer)
        if "error" in reply:
            raise LightningRefused(reply["error"]["code"], reply["error"]["message"])
        return reply["result"]
