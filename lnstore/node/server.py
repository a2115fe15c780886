"""A node from its ports: listeners, sessions, services, and the orderly end."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import trio

from lnstore.config import NodeConfig
from lnstore.logs import get_logger
from lnstore.memory import give_back_memory
from lnstore.node.admission import TooMany, network_of_stream
from lnstore.node.billing import Billing
from lnstore.node.binding import backoff
from lnstore.node.channel_watch import ChannelWatch
from lnstore.node.collector import Collector
from lnstore.node.context import NodeContext
from lnstore.node.directory import announced, last_seen
from lnstore.node.errors import NodeSetupError
from lnstore.node.limits import SETTLE_SECONDS, Deadlines
from lnstore.node.session import Session
from lnstore.node.strangers import Strangers
from lnstore.node.sweeper import Sweeper
from lnstore.ports import Books, Clock, Lightning, Shares
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import NodeAddress

_log = get_logger("lnstore.node")


class Node:
    """A storage node over the given ports. One instance runs once."""

    def __init__(
        self,
        config: NodeConfig,
        *,
        identity: Identity,
        lightning: Lightning,
        shares: Shares,
        books: Books,
        clock: Clock,
        deadlines: Deadlines | None = None,
    ) -> None:
        self.context = NodeContext(
            config,
            identity=identity,
            lightning=lightning,
            shares=shares,
            books=books,
            clock=clock,
            deadlines=deadlines or Deadlines(),
        )
        self.collector = Collector(
            books, lightning, self.context.binding, clock, absent_since_at=last_seen(config.directory)
        )
        self.billing = Billing(self.context, self.collector)
        self.sweeper = Sweeper(self.context)
        self.strangers = Strangers(self.context)
        self.channel_watch = ChannelWatch(self.context)
        self._sessions: dict[int, Session] = {}
        self._next_session = 0
        self._stopping = trio.Event()
        self.tidied = 0
        """Up to how much traffic (counted as in the memory budgets) memory was given back."""

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._sessions)

    def stop(self) -> None:
        """Stop listening, finish requests in flight up to the drain deadline, and return from `run`."""
        self._stopping.set()

    async def run(self, *, task_status: trio.TaskStatus[NodeAddress] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop`. Reports its address once connections are accepted.

        NodeSetupError when it cannot listen. The address is in the file `address` while it runs.
        """
        books = self.context.books
        orphaned = await books.settle_orphaned_holds(self.context.clock.now())
        if orphaned:
            _log.warning("holds of an interrupted run were charged in full", holds=orphaned)
        listeners = await self._listen()
        address = self._address(listeners)
        try:
            # Services are cancelled at once when the node stops, sessions get until the drain deadline.
            async with trio.open_nursery() as sessions:
                async with trio.open_nursery() as services:
                    for service in (
                        self.context.binding.run,
                        self.collector.run,
                        self.billing.run,
                        self.sweeper.run,
                        self.sweeper.run_orphan_scans,
                        self.strangers.run,
                        self.channel_watch.run,
                        self.context.egress.run,
                        self.context.rate.run,
                        self._tidy_memory,
                    ):
                        services.start_soon(_keep_running, service)
                    await self.context.binding.first_contact()
                    await services.start(self._accept, listeners, sessions)
                    with announced(self.context.config.directory, address):
                        _log.info("listening", address=str(address))
                        task_status.started(address)
                        await self._stopping.wait()
                    services.cancel_scope.cancel()
                self._drain(sessions)
        finally:
            await self._settle()
        _log.info("stopped")

    async def serve_stream(self, stream: trio.abc.Stream) -> None:  # T-R9
        """Serve one connection, or close it at once when there are too many."""
        if self._stopping.is_set():
            await trio.aclose_forcefully(stream)
            return
        number, self._next_session = self._next_session, self._next_session + 1
        network = network_of_stream(stream)
        try:
            with self.context.admission.connection(network) as visit:
                session = self._sessions[number] = Session(self.context, stream, number, visit=visit)
                try:
                    await session.run()
                finally:
                    del self._sessions[number]
        except TooMany as exc:
            self.context.admission.refused(exc)
            await trio.aclose_forcefully(stream)

    # --- parts of run ---------------------------------------------------------------------------------------------

    async def _listen(self) -> list[trio.SocketListener]:
        config = self.context.config
        try:
            return await trio.open_tcp_listeners(config.listen_port, host=config.listen_host)
        except (OSError, OverflowError) as exc:
            raise NodeSetupError(
                f"cannot listen on {config.listen_host} port {config.listen_port}: {exc}; "
                "change listen_host or listen_port in node.toml, or stop what uses the port"
            ) from exc

    def _address(self, listeners: list[trio.SocketListener]) -> NodeAddress:
        config = self.context.config
        port: int = listeners[0].socket.getsockname()[1]
        return NodeAddress(self.context.node_id, config.announce_host or config.listen_host, port)

    async def _accept(
        self,
        listeners: list[trio.SocketListener],
        sessions: trio.Nursery,
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        task_status.started()
        await trio.serve_listeners(self.serve_stream, listeners, handler_nursery=sessions)

    async def _tidy_memory(self) -> None:
        """Give memory back after traffic, once it is over."""
        budgets = (self.context.incoming, self.context.outgoing)
        seen = 0
        while True:
            await trio.sleep(self.context.deadlines.quiet)
            taken = sum(budget.taken for budget in budgets)
            if taken == seen != self.tidied and not any(budget.used_bytes for budget in budgets):
                self.context.buffers.clear()
                await trio.to_thread.run_sync(give_back_memory)
                self.tidied = taken
            seen = taken

    def _drain(self, sessions: trio.Nursery) -> None:
        _log.info("stopping", connections=self.connections)
        sessions.cancel_scope.deadline = trio.current_time() + self.context.deadlines.drain
        for session in list(self._sessions.values()):
            session.drain()

    async def _settle(self) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + SETTLE_SECONDS):
            try:
                await self.context.egress.settle_idle(math.inf)
                await self.billing.heartbeat()
            except Exception:  # noqa: BLE001 - the boundary of the end: what is left is settled at the next start
                _log.exception("could not settle everything")


async def _keep_running(service: Callable[[], Awaitable[None]]) -> None:
    """Run a service to its end; when it fails (say, because the disk is full), log that and start it again."""
    for pause in backoff():
        try:
            await service()
        except Exception:  # noqa: BLE001 - the boundary of a service: one failing must not stop the node
            _log.exception("service failed; starting it again", pause_seconds=pause)
            await trio.sleep(pause)
        else:
            return
