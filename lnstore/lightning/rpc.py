"""One call to lightningd's JSON-RPC socket: a deadline, and a cancellation that ends the worker thread.

pyln-client opens one blocking socket per call and has neither. Here every call gets a socket of its own whose
every operation is bounded by the call's deadline, and which the cancelling task shuts down, so that the thread
that waits on it ends at once: no thread and no socket outlives its caller by more than that.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import socket
import threading
import time
from importlib.machinery import PathFinder
from typing import Any

import trio

from lnstore.ports import LightningError, LightningRefused, LightningUnavailable

QUEUE_POLL_SECONDS = 0.02
"""How soon a daemon with a full queue of callers is tried again."""

_importing = threading.Lock()


@functools.cache
def rpc_class() -> Any:
    """The LightningRpc of pyln, imported on first use: `--help` need not pay for it.

    Of pyln.client only the module that it is in: the package itself also brings the gossip map, and with it parsers of
    BOLT messages and bitstring, which are 4 MiB in every node and a tenth of a second.
    """
    with _importing:
        package = importlib.util.find_spec("pyln.client")
        assert package  # noqa: S101 - for the type checker, as below; pyln-client is a dependency
        spec = PathFinder.find_spec("pyln.client.lightning", package.submodule_search_locations)
        assert spec  # noqa: S101
        assert spec.loader  # noqa: S101
        default = json.JSONEncoder.default
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        # pyln replaces the default of every JSON encoder of the process; nothing here needs that.
        json.JSONEncoder.default = default  # type: ignore[method-assign]
        return module.LightningRpc


class _Socket:
    """What pyln writes to and reads from: a unix socket with one deadline for all that is done on it."""

    def __init__(self, raw: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._deadline = deadline

    def _arm(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._raw.settimeout(left)

    def sendall(self, data: bytes) -> None:
        self._arm()
        self._raw.sendall(data)

    def recv(self, size: int) -> bytes:
        self._arm()
        return self._raw.recv(size)


class Call:
    """One request and its reply, made in a worker thread, ended from any thread by `abort`."""

    def __init__(self, socket_path: str, method: str, params: dict[str, Any], timeout_seconds: float) -> None:
        self._path = socket_path
        self._method = method
        self._params = params
        self._timeout = timeout_seconds
        self._lock = threading.Lock()
        self._raw: socket.socket | None = None
        self._aborted = False

    async def run(self, limiter: trio.CapacityLimiter) -> dict[str, Any]:
        """The result object; LightningUnavailable or LightningRefused, as in `ports`."""
        try:
            result: dict[str, Any] = await trio.to_thread.run_sync(
                self._exchange, abandon_on_cancel=True, limiter=limiter
            )
            return result
        finally:
            self.abort()

    def abort(self) -> None:
        """Ends the exchange now, wherever it is; harmless when it is over."""
        with self._lock:
            self._aborted = True
            if self._raw is not None:
                try:
                    self._raw.shutdown(socket.SHUT_RDWR)
                except OSError:  # not connected yet, or the other side was faster
                    self._raw.close()

    def _exchange(self) -> dict[str, Any]:
        deadline = time.monotonic() + self._timeout
        with self._lock:
            if self._aborted:
                raise LightningUnavailable("the call was cancelled before it began")
            raw = self._raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect(raw, deadline)
            reply = self._converse(_Socket(raw, deadline))
        except TimeoutError:
            raise LightningUnavailable(
                f"lightningd did not answer {self._method} at {self._path} within {self._timeout:.0f} s, "
                "so it is not known whether it acted; look into its log for what holds it up"
            ) from None
        except FileNotFoundError:
            raise LightningUnavailable(
                f"there is no lightningd socket at {self._path}; start lightningd, or correct the configured path"
            ) from None
        except ConnectionRefusedError:
            raise LightningUnavailable(
                f"no lightningd listens at {self._path} (it is stopped or still starting); start it and try again"
            ) from None
        except OSError as exc:
            raise self._lost(exc.strerror or str(exc)) from None
        except ValueError as exc:
            raise self._lost(f"its answer is not JSON: {exc}") from None
        finally:
            with self._lock:
                self._raw = None
                raw.close()
        return self._result(reply)

    def _connect(self, raw: socket.socket, deadline: float) -> None:
        """Connect; a daemon that has too many callers waiting is asked again until the time is up."""
        raw.settimeout(self._timeout)
        while True:
            try:
                return raw.connect(self._path)
            except BlockingIOError:  # its queue is full: unix sockets say so at once, whatever the timeout
                if self._aborted or time.monotonic() + QUEUE_POLL_SECONDS > deadline:
                    raise TimeoutError from None
                time.sleep(QUEUE_POLL_SECONDS)

    def _converse(self, wire: _Socket) -> Any:
        rpc = rpc_class()(self._path)
        # The id begins with our name, so that lightningd's log says who called.
        rpc.caller_name = "lnstore"
        call_id = rpc.get_json_id(self._method, None)
        rpc._writeobj(  # noqa: SLF001  pyln's framing, on a socket that can time out
            wire, {"jsonrpc": "2.0", "method": self._method, "params": self._params, "id": call_id}
        )
        reply, _ = rpc._readobj(wire)  # noqa: SLF001
        return reply

    def _result(self, reply: Any) -> dict[str, Any]:
        # Neither the parameters nor the reply go into an error's text: both may hold preimages.
        if not isinstance(reply, dict):
            raise self._lost("its answer is not a JSON object")
        error = reply.get("error")
        if isinstance(error, dict):
            raise LightningRefused(int(error.get("code", -1)), str(error.get("message", "")))
        if error is not None:
            raise self._lost(str(error))
        result = reply.get("result")
        if not isinstance(result, dict):
            raise LightningError(f"lightningd answered {self._method} without a result; is this Core Lightning?")
        return result

    def _lost(self, why: str) -> LightningUnavailable:
        return LightningUnavailable(
            f"the connection to lightningd at {self._path} was lost during {self._method} ({why}), "
            "so it is not known whether it acted; check that it runs"
        )
