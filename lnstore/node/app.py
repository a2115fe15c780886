"""The node as a program: the one place where the ports meet their adapters."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from lnstore import logs
from lnstore.books import BooksUnusable, SqlBooks
from lnstore.clock import clock_for
from lnstore.config import NODE_FILE, ConfigError, NodeConfig
from lnstore.lightning.core import CoreLightning
from lnstore.logs import get_logger
from lnstore.memory import reuse_freed_memory
from lnstore.node.directory import load_identity, locked
from lnstore.node.errors import NodeSetupError
from lnstore.node.server import Node
from lnstore.ports import Account, Books, StorageFull
from lnstore.storage import NodeShares
from lnstore_protocol.ids import Msat, NodeAddress

BOOKS_FILE = "books.db"
SHARES_FOLDER = "shares"

_log = get_logger("lnstore.node")


async def run_node(
    config: NodeConfig,
    *,
    stop: trio.Event | None = None,
    task_status: trio.TaskStatus[NodeAddress] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the node of this configuration until SIGTERM, SIGINT or `stop`; a second signal ends it at once.

    Reports its address when it accepts connections. NodeSetupError and ConfigError say what to do.
    """
    check(config)
    logs.configure(config.log_level)
    reuse_freed_memory()
    identity = load_identity(config.directory)
    with locked(config.directory):
        async with _books(config.directory) as books, _shares(config) as shares:
            node = Node(
                config,
                identity=identity,
                lightning=CoreLightning(config.lightning_rpc),
                shares=shares,
                books=books,
                clock=clock_for(config.clock_file),
            )
            failure: NodeSetupError | None = None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_stop_on_signal, node, nursery.cancel_scope)
                if stop is not None:
                    nursery.start_soon(_stop_on_event, node, stop)
                try:
                    await node.run(task_status=task_status)
                except NodeSetupError as exc:  # kept out of the nursery, which would wrap it in a group
                    failure = exc
                nursery.cancel_scope.cancel()
            if failure is not None:
                raise failure


async def node_balances(directory: Path) -> dict[str, Msat]:
    """The balances of a node's ledger, read from its directory; NodeSetupError when the books cannot be used."""
    async with _books(directory) as books:
        return await books.balances()


async def node_accounts(directory: Path) -> list[Account]:
    """The accounts in a node's books, also while it runs; none where it never ran. NodeSetupError as node_balances."""
    if not (directory / BOOKS_FILE).exists():
        return []
    async with _books(directory) as books:
        return await books.accounts()


@asynccontextmanager
async def open_books(directory: Path) -> AsyncIterator[Books]:
    """A node's books, also while it runs. NodeSetupError when it has none yet, or they cannot be used."""
    if not (directory / BOOKS_FILE).exists():
        raise NodeSetupError(f"{directory} has no books yet; start the node first: lnstore node run {directory}")
    async with _books(directory) as books:
        yield books


def check(config: NodeConfig) -> None:
    """ConfigError for settings that read well but that no node can run with."""
    file = config.directory / NODE_FILE
    if config.log_level not in logs.LEVELS:
        raise ConfigError(f"{file}: log_level: {config.log_level!r} is not one of {', '.join(logs.LEVELS)}")
    for peer in config.peers:
        try:
            NodeAddress.parse(peer)
        except ValueError as exc:
            raise ConfigError(f"{file}: peers: {exc}") from None


@asynccontextmanager
async def _books(directory: Path) -> AsyncIterator[SqlBooks]:
    try:
        async with SqlBooks.open(directory / BOOKS_FILE) as books:
            yield books
    except (BooksUnusable, StorageFull) as exc:
        raise NodeSetupError(f"{directory / BOOKS_FILE}: {exc}") from exc


@asynccontextmanager
async def _shares(config: NodeConfig) -> AsyncIterator[NodeShares]:
    folder = config.directory / SHARES_FOLDER
    try:
        shares = await trio.to_thread.run_sync(NodeShares, folder)
    except (OSError, StorageFull) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise NodeSetupError(f"{folder} cannot be used: {reason}; check who owns it") from exc
    try:
        yield shares
    finally:
        # Moves the write-ahead log into the file; bounded by the database's busy timeout.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(shares.close)


async def _stop_on_signal(node: Node, scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        asked = False
        async for _ in signals:
            if asked:
                _log.warning("stopping at once")
                scope.cancel()
            asked = True
            node.stop()


async def _stop_on_event(node: Node, stop: trio.Event) -> None:
    await stop.wait()
    node.stop()
