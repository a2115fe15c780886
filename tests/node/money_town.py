"""A client, a node and both their Lightning daemons, each of which can be killed at any moment and started again.

Everything runs in one trio loop in a thread of its own: the simulated network with its sockets, the node as it runs
everywhere (books, sessions, collector), the client's money code over its catalog. A process that can be killed has a
Life: whatever of it can be seen from outside (a commit, a request, a call to its daemon) asks the Life first, and once
that is over nothing more comes out of it, as after kill -9.
"""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import trio
import trio.testing
from ledger_check import check_ledgers

from lnstore.books import SqlBooks
from lnstore.client.buying import buy
from lnstore.client.catalog import Catalog, ShareEntry
from lnstore.client.nodes import add_node
from lnstore.client.payments import resolve_open
from lnstore.client.pool import open_pool
from lnstore.client.purse import Purse
from lnstore.client.rent import pay_rent
from lnstore.client.wallet import Wallet
from lnstore.config import ClientConfig, NodeConfig
from lnstore.errors import LnstoreError
from lnstore.lightning.core import CoreLightning
from lnstore.lightning.simulated.commands import load
from lnstore.lightning.simulated.commands.control import fund
from lnstore.lightning.simulated.simulation import Simulation
from lnstore.node.directory import init_node, load_identity
from lnstore.node.server import Node
from lnstore.storage.files import FileShares
from lnstore_protocol import merkle, proofs
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import Msat, NodeAddress
from lnstore_protocol.messages import TOKENS_PER_SHARE, PutShare

Result = TypeVar("Result")

MIB = 1 << 20
PERIOD = 100_000
GRACE = 30_000
CLIENT = Identity(b"c" * 32)
SECRET = b"s" * 32
CHANNEL_SAT = 5_000_000
PATIENCE_SECONDS = 20.0
QUIET_SECONDS = 0.02
ATTEMPTS_TO_SETTLE = 40
LONG_AGO = -(10.0**9)
"""A daemon's word on a lost payment is taken at once, whatever the steered clock says."""


class Killed(BaseException):
    """The process that was about to do something is dead."""


class Life:
    """Counts what a process does that can be seen from outside; it dies at number `dies_at`, or when it is killed."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.dies_at = dies_at
        self.effects = 0
        self.over = False
        self._lock = threading.Lock()

    def effect(self) -> None:
        """To be called just before an effect, and just after it."""
        with self._lock:
            self.effects += 1
            self.over = self.over or self.effects == self.dies_at
            if self.over:
                raise Killed


class MortalLightning(CoreLightning):
    """A process's way to its daemon."""

    def __init__(self, socket_path: Path, life: Life) -> None:
        super().__init__(socket_path, lost_after_seconds=LONG_AGO, listed_seconds=0.1)
        self._life = life

    async def _call(self, *args: Any) -> dict[str, Any]:
        self._life.effect()
        try:
            return await super()._call(*args)
        finally:
            self._life.effect()


class MortalCatalog(Catalog):
    """A client's catalog."""

    life: Life | None = None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        outermost = self.life is not None and not self._connection.in_transaction
        with super().transaction() as db:
            yield db
            if outermost and self.life is not None:
                self.life.effect()  # undone: the process died before the commit
        if outermost and self.life is not None:
            self.life.effect()


@dataclass
class MortalConversation:
    """A client's connection to its node."""

    inner: Any
    life: Life

    @property
    def hello(self) -> Any:
        return self.inner.hello

    async def request(self, message: Any, *, timeout_seconds: float) -> Any:
        self.life.effect()
        try:
            return await self.inner.request(message, timeout_seconds=timeout_seconds)
        finally:
            self.life.effect()


class Clock:
    """Everybody's: the system's, set forward by the test."""

    def __init__(self) -> None:
        self.offset = 0

    def now(self) -> int:
        return int(time.time()) + self.offset


@dataclass
class Doing:
    """A command of the client that was begun."""

    life: Life
    scope: trio.CancelScope
    done: trio.Event
    ended: str = ""
    said: str = ""


class Town:
    """See the module's text. All methods may be called from the test's thread."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = Clock()
        self.doing: Doing | None = None
        self.capacity_bytes = 8 * MIB
        self.deposit_msat = 0
        self._node_life: Life | None = None
        self._node_scope = trio.CancelScope()
        self._node_ended = trio.Event()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="money-town")
        self._thread.start()
        assert self._ready.wait(PATIENCE_SECONDS)
        self._reraise()

    # --- the loop -----------------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            trio.run(self._live)
        except BaseException as exc:  # noqa: BLE001  handed to the thread that waits
            self._failure = exc
            self._ready.set()

    async def _live(self) -> None:
        self._token, self._end = trio.lowlevel.current_trio_token(), trio.Event()
        (self.directory / "ln").mkdir()
        self.simulation = Simulation(self.directory / "ln", block_seconds=None, payment_seconds=0.002, commands=load())
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self.simulation.run)
            for name in ("client", "node"):
                await self.simulation.add(name)
            await self._open_channel()
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            init_node(
                self.directory / "node",
                lightning_rpc=str(self.simulation.path("node")),
                listen_port=port,
                period=f"{PERIOD}s",
                grace=f"{GRACE}s",
                price_msat_per_gib_month=10**9,
                minimum_account="1MiB",
            )
            self.address = NodeAddress(load_identity(self.directory / "node").public_key, "127.0.0.1", port)  # type: ignore[arg-type]
            await self._start_node()
            with self._catalog(Life()) as catalog:
                async with self._purse(catalog, Life()) as purse:
                    await add_node(purse, self.address, "node")
            self._ready.set()
            await self._end.wait()
            nursery.cancel_scope.cancel()

    async def _open_channel(self) -> None:
        payer, payee = (CoreLightning(self.simulation.path(name)) for name in ("client", "node"))
        await fund(self.simulation, name="client", amount_sat=2 * CHANNEL_SAT)
        info = await payee.info()
        await payer.connect(info.lightning_id, *info.addresses[0])
        await payer.open_channel(info.lightning_id, amount_sat=CHANNEL_SAT, push_msat=Msat(0), announce=False)
        self.simulation.mine(1)
        await until(lambda: self._usable(payer))

    async def _usable(self, payer: CoreLightning) -> bool:
        return any(channel.usable for channel in await payer.channels())

    def do(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Run something in the town's loop."""
        return trio.from_thread.run(work, trio_token=self._token)

    def stop(self) -> None:
        self._token.run_sync_soon(self._end.set)
        self._thread.join(PATIENCE_SECONDS)
        self._reraise()

    def _reraise(self) -> None:
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    # --- the node -----------------------------------------------------------------------------------------------

    async def _start_node(self) -> None:
        if self._node_life is not None and self._node_life.over:
            await self._node_ended.wait()
        if self._node_life is not None:
            return
        self._node_life, self._node_scope, self._node_ended = Life(), trio.CancelScope(), trio.Event()
        await self._nursery.start(self._run_node, self._node_life, self._node_scope, self._node_ended)

    async def _run_node(
        self, life: Life, scope: trio.CancelScope, ended: trio.Event, *, task_status: trio.TaskStatus[None]
    ) -> None:
        folder = self.directory / "node"
        try:
            with scope:
                async with SqlBooks.open(folder / "books.db") as books:
                    node = Node(
                        NodeConfig.load(folder),
                        identity=load_identity(folder),
                        lightning=MortalLightning(self.simulation.path("node"), life),
                        shares=FileShares(folder / "shares"),
                        books=books,
                        clock=self.clock,
                    )
                    self._books, self._node = books, node
                    async with trio.open_nursery() as nursery:
                        await nursery.start(_run, node)
                        task_status.started()
        except* Killed:
            pass
        finally:
            life.over = True
            if self._node_life is life:
                self._node_life = None
            ended.set()

    @property
    def node_runs(self) -> bool:
        return self._node_life is not None

    def kill_node(self) -> None:
        async def kill() -> None:
            if self._node_life is not None:
                self._node_life.over = True  # whatever it still does on its way out comes to nothing
                self._node_scope.cancel()
                await self._node_ended.wait()

        self.do(kill)

    def kill_node_at(self, effect: int) -> None:
        """The node dies before or after one of its next calls to its daemon."""
        if self._node_life is not None:
            self._node_life.dies_at = self._node_life.effects + effect

    def start_node(self) -> None:
        self.do(self._start_node)

    # --- the daemons --------------------------------------------------------------------------------------------

    def daemon_runs(self, name: str) -> bool:
        async def runs() -> bool:
            return name in self.simulation._daemons

        return self.do(runs)

    def crash(self, name: str) -> None:
        async def crash() -> None:
            await self.simulation.crash(name).wait()

        self.do(crash)

    def start_daemon(self, name: str) -> None:
        self.do(lambda: self.simulation.start(name))

    # --- time ---------------------------------------------------------------------------------------------------

    def advance(self, seconds: int) -> None:
        async def advance() -> None:
            # In so long a time every daemon would have read what a client asked of it just before its death.
            await trio.testing.wait_all_tasks_blocked(QUIET_SECONDS)
            self.clock.offset += seconds
            self.simulation.db.set_meta("clock_offset_seconds", self.clock.offset)

        self.do(advance)

    # --- the client ---------------------------------------------------------------------------------------------

    @contextmanager
    def _catalog(self, life: Life) -> Iterator[MortalCatalog]:
        catalog = MortalCatalog.open(self.directory / "catalog.db")
        catalog.life = life
        try:
            yield catalog
        finally:
            catalog.close()

    def _purse(self, catalog: Catalog, life: Life) -> Any:
        return _open_purse(self, catalog, life)

    def begin(self, command: str, dies_at: int | None, patience_seconds: float) -> str | None:
        """Run a command of the client, which dies at an effect if asked to; wait a little for its end, as `wait`."""
        assert self.doing is None
        doing = self.doing = Doing(Life(dies_at), trio.CancelScope(), trio.Event())

        async def start() -> None:
            self._nursery.start_soon(self._command, command, doing)

        self.do(start)
        return self.wait(patience_seconds)

    def wait(self, seconds: float) -> str | None:
        """Wait for the command under way to end; how it ended, None if it goes on."""
        doing = self.doing
        assert doing is not None

        async def wait() -> None:
            with trio.move_on_after(seconds):
                await doing.done.wait()

        self.do(wait)
        if not doing.done.is_set():
            return None
        self.doing, self.last = None, doing
        return doing.ended

    def kill_client(self) -> None:
        doing = self.doing
        assert doing is not None

        async def kill() -> None:
            doing.life.over = True
            doing.scope.cancel()
            await doing.done.wait()

        self.do(kill)
        self.doing = None

    async def _command(self, command: str, doing: Doing) -> None:
        try:
            with doing.scope, self._catalog(doing.life) as catalog:
                async with self._purse(catalog, doing.life) as purse:
                    await getattr(self, f"_{command}")(purse)
                    doing.ended = "done"
        except* LnstoreError as errors:
            doing.ended, doing.said = type(errors.exceptions[0]).__name__, str(errors.exceptions[0])
        except* Killed:
            doing.ended = "killed"
        finally:
            doing.done.set()

    async def _buy(self, purse: Purse) -> None:
        node = purse.catalog.node(self.address.node_id)
        await buy(purse, node, self.capacity_bytes, deposit_msat=self.deposit_msat)

    async def _rent(self, purse: Purse, ahead: int = 0) -> None:
        for outcome in await pay_rent(purse, ahead=ahead):
            if outcome.error is not None:
                raise outcome.error

    async def _ahead(self, purse: Purse) -> None:
        await self._rent(purse, 1)

    async def _resolve(self, purse: Purse) -> None:
        await resolve_open(purse)

    async def _put(self, purse: Purse) -> None:
        """Store one share, so that rent has a proof."""
        data = b"share" * 2000
        share_id, node_id = merkle.share_id(data), self.address.node_id
        tokens = proofs.make_tokens(data, share_id, proofs.audit_key(SECRET), proofs.token_key(SECRET), node_id)
        conversation = await purse.dial(self.address)
        message = PutShare(share_id=share_id, token_start=0, tokens=tokens, payload=data)
        await conversation.request(message, timeout_seconds=5)
        catalog = purse.catalog
        file = catalog.file("file") or catalog.begin_file(
            name="file", file_key=bytes(32), needed=1, total=1, happy=1, source=None, now=0
        )
        entry = ShareEntry(
            node_id=node_id,
            share_id=share_id,
            file_id=file.file_id,
            segment=0,
            number=0,
            size_bytes=len(data),
            token_end=TOKENS_PER_SHARE,
        )
        catalog.add_shares([entry])

    # --- in the end ---------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Everybody runs and nothing is held up: commands are run until nothing is open and all is credited."""
        if self.doing is not None:
            self.kill_client()

        async def clear() -> None:
            self.simulation.db.run("DELETE FROM fault")
            self.simulation.db.run("UPDATE payment SET held = NULL WHERE status = 'pending' AND held = 'hold'")
            for name in ("client", "node"):
                await self.simulation.start(name)
            self.simulation.changed()
            await until(lambda: self._usable(CoreLightning(self.simulation.path("client"))))
            if self._node_life is not None:
                self._node_life.dies_at = None
            await self._start_node()

        self.do(clear)
        said: dict[str, str] = {}
        for attempt in range(ATTEMPTS_TO_SETTLE):
            # An attempt whose caller died is over after two minutes; what nothing else helps, a new account does.
            self.advance(130 if attempt < ATTEMPTS_TO_SETTLE // 2 else GRACE)
            command = ("resolve", "buy", "rent")[attempt % 3]
            ended, doing = self.begin(command, None, PATIENCE_SECONDS), self.last
            assert ended is not None, "a command does not end"
            said[command] = doing.said
            if said == {"resolve": "", "buy": "", "rent": ""} and self.do(self._is_quiet):
                return
        raise AssertionError(f"it does not go well again: {said}")

    async def _is_quiet(self) -> bool:
        with self._catalog(Life()) as catalog:
            if Wallet(catalog).open_payments():
                return False
        with trio.fail_after(PATIENCE_SECONDS):
            await self._node.context.binding.confirmed.wait()
            await self._node.collector.wait_caught_up()
        return True

    def check(self) -> dict[str, int]:
        """Both ledgers say what both daemons say; every invoice was paid and credited at most once. Some figures."""
        return self.do(self._check)

    async def _check(self) -> dict[str, int]:
        with self._catalog(Life()) as catalog:
            return await check_ledgers(
                payer=CoreLightning(self.simulation.path("client")),
                payee=CoreLightning(self.simulation.path("node")),
                wallet=Wallet(catalog),
                books=self._books,
                node_id=self.address.node_id,
            )


async def until(true: Callable[[], Awaitable[object]]) -> None:
    """Wait until `true` is."""
    with trio.fail_after(PATIENCE_SECONDS):
        while not await true():  # noqa: ASYNC110 - what is waited for sets no event
            await trio.sleep(0.002)


async def _run(node: Node, *, task_status: trio.TaskStatus[NodeAddress]) -> None:
    await node.run(task_status=task_status)


class _open_purse:  # noqa: N801  a context manager
    """The purse of a client's process, whose connections end with the block."""

    def __init__(self, town: Town, catalog: Catalog, life: Life) -> None:
        self._town, self._catalog, self._life = town, catalog, life
        self._pool = open_pool(CLIENT)

    async def __aenter__(self) -> Purse:
        pool = await self._pool.__aenter__()
        life = self._life

        async def dial(address: NodeAddress) -> MortalConversation:
            return MortalConversation(await pool.dial(address), life)

        return Purse(
            config=ClientConfig(self._town.directory, maximum_msat_per_gib_month=10**12),
            identity=CLIENT,
            account_secret=SECRET,
            catalog=self._catalog,
            lightning=MortalLightning(self._town.simulation.path("client"), life),
            dial=dial,
            clock=self._town.clock,
            invoice_clock=self._town.clock,
        )

    async def __aexit__(self, *exc: object) -> Any:
        return await self._pool.__aexit__(*exc)  # type: ignore[arg-type]
