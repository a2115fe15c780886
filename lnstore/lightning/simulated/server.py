"""JSON-RPC over a unix socket, framed as lightningd frames it.

Requests are JSON objects written one after the other; each answer is followed by an empty line. Requests of one
connection run concurrently. A caller that hangs up ends the waits it asked for (never a payment: those run on
their own).
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from lnstore.lightning.simulated.failure import LostDaemonError, RpcFailure
from lnstore.lightning.simulated.params import INVALID_PARAMS, REQUIRED, Param, bind

SOCKET_PATH_LIMIT = 107
"""Bytes the kernel takes in the address of a unix socket."""
REQUEST_LIMIT = 1 << 20
"""Bytes of one request."""
OUTSTANDING_LIMIT = 256
"""Requests of one connection that are worked on at once; more wait unread."""
BACKLOG = 128

Handler = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its name, its parameters, and the coroutine that takes a context and them by name."""

    name: str
    params: tuple[Param, ...]
    handler: Handler

    def usage(self) -> str:
        """One line as in `help`."""
        words = [param.name if param.default is REQUIRED else f"[{param.name}]" for param in self.params]
        return " ".join([self.name, *words])


Before = Callable[[Any, str], Awaitable[None]]


class Commands(dict[str, Command]):
    """The commands of one kind of socket, filled by the decorator `command`; `before` runs ahead of each."""

    def __init__(self, before: Before | None = None) -> None:
        super().__init__()
        self._before = before

    def command(self, name: str, *params: Param) -> Callable[[Handler], Handler]:
        """Registers the decorated coroutine under `name`."""

        def register(handler: Handler) -> Handler:
            self[name] = Command(name, params, handler)
            return handler

        return register

    async def dispatch(self, context: Any, request: dict[str, Any]) -> Any:
        """Runs a request; RpcFailure -32600 when it is none, -32601 when there is no such command."""
        method = request.get("method")
        if method is None or request.get("id") is None:
            raise RpcFailure(-32600, "Expected id and method in the request")
        if request.get("filter") is not None:
            raise RpcFailure(INVALID_PARAMS, "filter is not supported by the simulated Lightning network")
        command = self.get(method) if isinstance(method, str) else None
        if command is None:
            raise RpcFailure(-32601, f"Unknown command '{method}'")
        if self._before is not None:
            await self._before(context, command.name)
        return await command.handler(context, **bind(command.params, request.get("params")))


def listen(path: Path) -> trio.SocketListener:
    """A listening unix socket that only its owner may use. OSError with what to do when the path is too long."""
    name = os.fsencode(path)
    if len(name) > SOCKET_PATH_LIMIT:
        raise OSError(
            errno.ENAMETOOLONG,
            f"the socket path {path} has {len(name)} bytes and unix sockets take {SOCKET_PATH_LIMIT}; "
            "use a directory with a shorter path",
        )
    with suppress(FileNotFoundError):
        path.unlink()  # left by a process that was killed
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    raw.bind(name)
    path.chmod(0o600)
    raw.listen(BACKLOG)
    return trio.SocketListener(trio.socket.from_stdlib_socket(raw))


class Connection:
    """One caller's connection."""

    def __init__(self, stream: trio.SocketStream, commands: Commands, context: Any, lost: Callable[[], None]) -> None:
        self._stream = stream
        self._commands = commands
        self._context = context
        self._lost = lost
        self._writing = trio.Lock()
        self._slots = trio.Semaphore(OUTSTANDING_LIMIT)

    async def serve(self) -> None:
        """Answers until the caller hangs up."""
        async with trio.open_nursery() as nursery:
            buffer = b""
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # within: a nursery raises a group
                async for data in self._stream:
                    buffer += data
                    while (split := _split(buffer)) is not None:
                        request, buffer = split
                        if request is None:
                            await self._write(None, "error", {"code": -32600, "message": "Invalid JSON-RPC request"})
                            nursery.cancel_scope.cancel()
                            return
                        await self._slots.acquire()
                        nursery.start_soon(self._answer, request)
            nursery.cancel_scope.cancel()

    async def _answer(self, request: dict[str, Any]) -> None:
        request_id = request.get("id")
        try:
            result = await self._commands.dispatch(self._context, request)
            await self._write(request_id, "result", result)
        except RpcFailure as failure:
            await self._write(request_id, "error", failure.as_json())
        except LostDaemonError:
            self._lost()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the caller left before its answer
        finally:
            self._slots.release()

    async def _write(self, request_id: Any, kind: str, body: Any) -> None:
        reply = {"jsonrpc": "2.0", "id": request_id, kind: body}
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with self._writing:
                await self._stream.send_all(json.dumps(reply, ensure_ascii=False).encode() + b"\n\n")


def _split(buffer: bytes) -> tuple[dict[str, Any] | None, bytes] | None:
    """The first request and the rest; None while it is incomplete; (None, …) when it can never be one."""
    text = buffer.lstrip()
    if not text:
        return None
    if not text.startswith(b"{") or len(text) > REQUEST_LIMIT:
        return None, b""
    try:
        decoded = text.decode()
        request, end = json.JSONDecoder().raw_decode(decoded)
    except UnicodeDecodeError as exc:
        return None if exc.end == len(text) else (None, b"")
    except json.JSONDecodeError:
        return None  # as a rule the end is still to come; REQUEST_LIMIT bounds what is waited for
    return request, decoded[end:].encode()
