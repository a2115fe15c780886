"""The running network: its daemons, its miner, and the payments on their way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import trio

from lnstore.lightning.simulated import chain, channels, faults, nodes, payments
from lnstore.lightning.simulated.database import Database
from lnstore.lightning.simulated.failure import LostDaemonError
from lnstore.lightning.simulated.server import Commands, Connection, listen

RPC_FILE = "lightning-rpc"
CONTROL_FILE = "control"
RECONNECT_SECONDS = 1.0
"""After a disconnect, before peers that have a channel connect again."""
STOP_SECONDS = 0.02
"""Between the answer to `stop` and the end."""


class Bell:
    """Wakes all who wait for a change of something; they look again themselves."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        """Wakes everyone who waits now."""
        self._event.set()
        self._event = trio.Event()

    async def wait(self) -> None:
        """Returns at the next ring."""
        await self._event.wait()


@dataclass(frozen=True, slots=True)
class _Running:
    """A daemon that listens: cancelling the scope ends it, the event says that it ended."""

    scope: trio.CancelScope
    ended: trio.Event


class Simulation:
    """All that runs. `block_seconds` after something entered the mempool a block is mined (None: only on demand)."""

    def __init__(
        self, directory: Path, *, block_seconds: float | None, payment_seconds: float, commands: Commands
    ) -> None:
        self.directory = directory
        self.db = Database(directory / "network.sqlite3")
        self.block_seconds = block_seconds
        self.payment_seconds = payment_seconds
        self._commands = commands
        self._nursery: trio.Nursery | None = None
        self._daemons: dict[str, _Running] = {}
        self._bells: dict[str, Bell] = {}
        self._resolving: set[int] = set()
        self._mempool = Bell()
        self.blocks = Bell()
        """Rings when a block was mined."""
        self.stopped = trio.Event()
        """Set when the control socket asks the process to end."""
        with self.db.transaction():
            if self.db.height == 0:
                self.db.set_meta("height", chain.START_HEIGHT)

    def path(self, name: str) -> Path:
        """Where the node's JSON-RPC socket is."""
        return self.directory / name / RPC_FILE

    def bell(self, name: str) -> Bell:
        """Rings when the node's invoices, payments, channels or peers may have changed."""
        return self._bells.setdefault(name, Bell())

    def changed(self) -> None:
        """To be called after a transaction that may concern several nodes: moves on whatever can move now."""
        channels.advance(self.db)
        for row in payments.pending(self.db):
            self.resolve_later(row["id"])
        if chain.mempool_size(self.db):
            self._mempool.ring()
        for bell in self._bells.values():
            bell.ring()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; started when every daemon listens."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for node in nodes.every(self.db):
                    if node.running:
                        await self.start(node.name)
                nursery.start_soon(self._mine_when_needed)
                self.changed()
                task_status.started()
                await trio.sleep_forever()
        finally:
            self.db.close()

    @staticmethod
    def serve(
        path: Path, commands: Commands, context: object, lost: Callable[[], None]
    ) -> Callable[[], Awaitable[None]]:
        """Listens at `path` from now on; the coroutine function that answers there."""
        listener = listen(path)

        async def handle(stream: trio.SocketStream) -> None:
            await Connection(stream, commands, context, lost).serve()

        async def answer() -> None:
            await trio.serve_listeners(handle, [listener])

        return answer

    # --- daemons ------------------------------------------------------------------------------------------------

    async def add(self, name: str) -> Path:
        """Makes sure that the node exists and runs; its socket."""
        nodes.add(self.db, name)
        await self.start(name)
        return self.path(name)

    async def start(self, name: str) -> None:
        """Starts the node's daemon, if it does not run."""
        if name in self._daemons:
            return
        nodes.by_name(self.db, name)
        path = self.path(name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        running = _Running(trio.CancelScope(), trio.Event())

        def lost() -> None:
            self.crash(name)

        answer = self.serve(path, self._commands, Daemon(self, name), lost)

        async def run() -> None:
            try:
                with running.scope:
                    await answer()
            finally:
                running.ended.set()

        assert self._nursery is not None  # noqa: S101  daemons start inside run()
        self._daemons[name] = running
        self._nursery.start_soon(run)
        nodes.set_running(self.db, name, running=True)
        self.changed()

    def crash(self, name: str) -> trio.Event:
        """Ends the daemon as kill -9 does: callers lose their connections, its peers lose it, its state stays.

        The event is set when its socket is closed.
        """
        nodes.set_running(self.db, name, running=False)
        running = self._daemons.pop(name, None)
        if running is not None:
            running.scope.cancel()
        self.changed()
        if running is None:
            ended = trio.Event()
            ended.set()
            return ended
        return running.ended

    def stop_soon(self, name: str | None) -> None:
        """Stops the daemon (all of them and the process for None) once its caller has had its answer."""
        assert self._nursery is not None  # noqa: S101  asked for by a caller, so it runs
        self._nursery.start_soon(self._stop, name)

    async def _stop(self, name: str | None) -> None:
        await trio.sleep(STOP_SECONDS)
        if name is None:
            self.stopped.set()
        else:
            self.crash(name)

    def reconnect_soon(self) -> None:
        """Connects peers that have channels again after a while, as lightningd does by itself."""
        assert self._nursery is not None  # noqa: S101  asked for by a caller, so it runs
        self._nursery.start_soon(self._reconnect)

    async def _reconnect(self) -> None:
        await trio.sleep(RECONNECT_SECONDS)
        nodes.reconnect(self.db)
        self.changed()

    def restart_after(self, name: str, seconds: float) -> None:
        """Starts the daemon so long from now; whoever asks for it ends it."""
        assert self._nursery is not None  # noqa: S101  asked for by a caller, so it runs
        self._nursery.start_soon(self._start_later, name, seconds)

    async def _start_later(self, name: str, seconds: float) -> None:
        await trio.sleep(seconds)
        await self.start(name)

    def dies(self, name: str, moment: str) -> bool:
        """Whether a fault wants the daemon to die at this moment; the caller then raises LostDaemonError."""
        if (fault := faults.take(self.db, "restart", node=name, command=moment)) is not None:
            self.restart_after(name, fault["seconds"])
            return True
        return faults.take(self.db, "crash", node=name, command=moment) is not None

    def crash_if(self, name: str, moment: str) -> None:
        """LostDaemonError if a fault wants the daemon to die at this moment."""
        if self.dies(name, moment):
            raise LostDaemonError(name)

    # --- blocks -------------------------------------------------------------------------------------------------

    def mine(self, blocks: int) -> int:
        """Mines now; the new height."""
        height = chain.mine(self.db, blocks)
        self.changed()
        self.blocks.ring()
        return height

    async def _mine_when_needed(self) -> None:
        while True:
            if self.block_seconds is None or not chain.mempool_size(self.db):
                await self._mempool.wait()
            if self.block_seconds is None:
                continue
            await trio.sleep(self.block_seconds)
            if chain.mempool_size(self.db):
                if faults.active(self.db, "withhold_blocks"):
                    await self._mempool.wait()
                else:
                    self.mine(1)

    # --- payments -----------------------------------------------------------------------------------------------

    def resolve_later(self, payment_id: int) -> None:
        """Resolves the payment after its time on the way, as soon as everyone it needs is up. Outlives its caller."""
        if payment_id not in self._resolving and self._nursery is not None:
            self._resolving.add(payment_id)
            self._nursery.start_soon(self._resolve, payment_id)

    def release(self, name: str, outcome: str) -> int:
        """Lets the node's held payments go on, to complete or to fail; how many."""
        released = payments.release(self.db, name, outcome)
        self.changed()
        return released

    async def _resolve(self, payment_id: int) -> None:
        try:
            await trio.sleep(self.payment_seconds)
            row = payments.by_id(self.db, payment_id)
            if (
                row["status"] != "pending"
                or row["held"] in {payments.HOLD, payments.LOST}
                or not payments.reachable(self.db, row)
            ):
                return  # `changed` tries again when that may have changed
            payee = nodes.by_id(self.db, row["payee"])
            payments.resolve(self.db, payment_id)
            for name in {row["node"], payee.name if payee else row["node"]}:
                self.bell(name).ring()
        finally:
            self._resolving.discard(payment_id)


class Daemon:
    """What a command's handler works with: one virtual node of a running network."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.simulation = simulation
        self.db = simulation.db
        self.name = name

    @property
    def node(self) -> nodes.Node:
        """The node's row."""
        return nodes.by_name(self.db, self.name)

    @property
    def bell(self) -> Bell:
        """Rings when something of this node may have changed."""
        return self.simulation.bell(self.name)

    async def wait_for_change(self, seconds: float | None = None) -> bool:
        """Waits for the bell, at most so long; whether it rang."""
        if seconds is None:
            await self.bell.wait()
            return True
        with trio.move_on_after(seconds):
            await self.bell.wait()
            return True
        return False
