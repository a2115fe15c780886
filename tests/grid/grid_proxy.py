"""A proxy in front of each node: it counts what passes, lets things happen at a byte of it, and can be slow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import trio

PIECE_BYTES = 16 * 1024

Happening = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Traffic:
    """What passed through all proxies, and what is to happen at which byte of it."""

    passed_bytes: int = 0
    _due: list[tuple[int, Happening]] = field(default_factory=list)

    def at(self, after_bytes: int, happening: Happening) -> None:
        """Let this happen once so many more bytes have come."""
        self._due.append((self.passed_bytes + after_bytes, happening))

    def forget(self) -> int:
        """Nothing is to happen any more; how many happenings were left."""
        left = len(self._due)
        self._due.clear()
        return left

    async def count(self, size: int) -> None:
        """So many bytes came; what is due happens before they are passed on."""
        self.passed_bytes += size
        due = [one for one in self._due if one[0] <= self.passed_bytes]
        self._due = [one for one in self._due if one not in due]
        for _, happening in due:
            await happening()


@dataclass(slots=True)
class Proxy:
    """Listens on a port of its own and passes on to wherever the node listens now."""

    traffic: Traffic
    target_port: Callable[[], int]
    port: int = 0
    bytes_per_second: int | None = None

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        async with listener:
            await trio.serve_listeners(self._connection, [listener], task_status=task_status)  # type: ignore[arg-type]

    async def _connection(self, client: trio.SocketStream) -> None:
        async with client:
            try:
                node = await trio.open_tcp_stream("127.0.0.1", self.target_port())
            except OSError:
                return
            async with node, trio.open_nursery() as nursery:
                for source, sink in ((client, node), (node, client)):
                    nursery.start_soon(partial(self._pump, source, sink, nursery.cancel_scope))

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope) -> None:
        try:
            while data := await source.receive_some(PIECE_BYTES):
                await self.traffic.count(len(data))
                if self.bytes_per_second is not None:
                    await trio.sleep(len(data) / self.bytes_per_second)
                await sink.send_all(data)
        except trio.BrokenResourceError:
            pass
        both.cancel()


@asynccontextmanager
async def proxies(target_ports: list[Callable[[], int]]) -> AsyncIterator[tuple[Traffic, list[Proxy]]]:
    """One for each target, over the block."""
    traffic = Traffic()
    made = [Proxy(traffic, target_port) for target_port in target_ports]
    async with trio.open_nursery() as nursery:
        for proxy in made:
            await nursery.start(proxy.serve)
        yield traffic, made
        nursery.cancel_scope.cancel()
