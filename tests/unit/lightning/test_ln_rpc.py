"""Calls to a daemon that misbehaves: bounded, cancellable, without leaks and without secrets in errors."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from lnstore.lightning import core
from lnstore.lightning.core import CoreLightning
from lnstore.lightning.rpc import Call
from lnstore.lightning.simulated.server import listen
from lnstore.ports import LightningError, LightningRefused, LightningUnavailable, Outcome
from tests.unit.lightning.conftest import eventually

SECRET = "5ec2e7" * 10 + "5ec2"
Daemon = Callable[[trio.SocketStream], Awaitable[None]]


async def serve(nursery: trio.Nursery, path: Path, daemon: Daemon) -> None:
    """A daemon of our own at `path` until the nursery is cancelled."""
    listener = listen(path)

    async def handle(stream: trio.SocketStream) -> None:
        try:
            await daemon(stream)
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(stream)

    nursery.start_soon(trio.serve_listeners, handle, [listener])


async def silence(stream: trio.SocketStream) -> None:
    """Takes everything and never answers."""
    async for _ in stream:
        pass


def answering(text: bytes) -> Daemon:
    """Answers anything with `text` and hangs up."""

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(text)

    return answer


async def call(path: Path, timeout_seconds: float = 5.0) -> object:
    return await Call(str(path), "invoice", {"preimage": SECRET}, timeout_seconds).run(trio.CapacityLimiter(4))


async def test_silent_daemon(home: Path) -> None:
    """A daemon that never answers is LightningUnavailable when the call's time is over."""
    async with trio.open_nursery() as nursery:
        await serve(nursery, home / "s", silence)
        started = time.monotonic()
        with pytest.raises(LightningUnavailable, match="did not answer invoice"):
            await call(home / "s", 0.05)
        assert time.monotonic() - started < 2
        nursery.cancel_scope.cancel()


async def test_daemon_that_dribbles(home: Path) -> None:
    """The deadline is the whole call's, not each read's."""

    async def dribble(stream: trio.SocketStream) -> None:
        while True:
            await stream.send_all(b" ")
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        await serve(nursery, home / "s", dribble)
        started = time.monotonic()
        with pytest.raises(LightningUnavailable):
            await call(home / "s", 0.1)
        assert time.monotonic() - started < 2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"", LightningUnavailable),
        (b'{"jsonrpc":"2.0","id"', LightningUnavailable),
        (b"no json at all\n\n", LightningUnavailable),
        (b"\xff\xfe\n\n", LightningUnavailable),
        (b'{"jsonrpc":"2.0","id":"x"}\n\n', LightningError),
        (b'{"jsonrpc":"2.0","id":"x","result":[1]}\n\n', LightningError),
        (b'{"jsonrpc":"2.0","id":"x","error":{"code":900,"message":"Duplicate label"}}\n\n', LightningRefused),
    ],
)
async def test_broken_answers(home: Path, text: bytes, kind: type[LightningError]) -> None:
    """Whatever comes back is one of our errors, and none of them repeats the preimage that was sent."""
    async with trio.open_nursery() as nursery:
        await serve(nursery, home / "s", answering(text))
        with pytest.raises(kind) as caught:
            await call(home / "s")
        nursery.cancel_scope.cancel()
    chain: BaseException | None = caught.value
    while chain is not None:
        assert SECRET not in repr(chain)
        assert SECRET not in str(chain)
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)


async def test_nobody_there(home: Path) -> None:
    """A missing socket, and one that nobody listens at, say what to do."""
    with pytest.raises(LightningUnavailable, match="there is no lightningd socket"):
        await call(home / "missing")
    async with trio.open_nursery() as nursery:
        await serve(nursery, home / "s", silence)
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    with pytest.raises(LightningUnavailable, match="no lightningd listens"):
        await call(home / "s")


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_a_full_queue_is_waited_for(home: Path) -> None:
    """A daemon that is too busy to accept callers is tried again, and nothing is said to be lost meanwhile."""
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    raw.bind(str(home / "s"))
    raw.listen(0)
    with raw, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as first:
        first.connect(str(home / "s"))
        with pytest.raises(LightningUnavailable, match="did not answer"):
            await call(home / "s", 0.1)
        async with trio.open_nursery() as nursery:
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(raw.dup()))

            async def accept_soon() -> None:
                await trio.testing.wait_all_tasks_blocked(0.03)
                daemon = answering(b'{"jsonrpc":"2.0","id":"x","result":{"label":"l"}}\n\n')
                await trio.serve_listeners(daemon, [listener])

            nursery.start_soon(accept_soon)
            assert await call(home / "s") == {"label": "l"}
            nursery.cancel_scope.cancel()


CANCELLED = 2400
AT_ONCE = 24  # more than there are threads for waits, so that some are cancelled while they queue


async def test_thousands_of_cancelled_waits_leave_nothing(home: Path) -> None:
    """Waits on a silent daemon end at once when cancelled, at whatever moment, and leave neither thread nor socket."""
    chance = random.Random(4)
    async with trio.open_nursery() as nursery:
        await serve(nursery, home / "s", silence)
        lightning = CoreLightning(home / "s")
        cancelled = 0

        async def wait() -> None:
            nonlocal cancelled
            with trio.move_on_after(chance.choice((0, 0.0002, 0.001, 0.004))) as patience:
                await lightning.next_paid(0, timeout_seconds=600)
            cancelled += patience.cancelled_caught

        async def some(rounds: int) -> tuple[int, int]:
            """Descriptors and threads once the daemon and the threads have noticed that their callers are gone."""
            for _ in range(rounds):
                async with trio.open_nursery() as waiting:
                    for _ in range(AT_ONCE):
                        waiting.start_soon(wait)

            async def quiet() -> bool:
                return lightning._waits.borrowed_tokens == 0 and descriptors() <= idle

            await eventually(quiet)
            return descriptors(), threading.active_count()

        idle = descriptors()
        first = await some(10)
        started = time.monotonic()
        last = await some(CANCELLED // AT_ONCE - 10)
        assert cancelled == CANCELLED
        assert last[0] <= first[0]
        assert last[1] <= max(first[1], core.WAITS + 8)
        assert time.monotonic() - started < 10
        nursery.cancel_scope.cancel()


async def test_waits_do_not_hold_up_calls(home: Path) -> None:
    """More waits than there are threads for them leave quick calls and payments their own."""

    async def only_getinfo(stream: trio.SocketStream) -> None:
        async for data in stream:
            request = json.loads(data)
            if request["method"] == "signmessage":
                reply = {"jsonrpc": "2.0", "id": request["id"], "result": {"zbase": "y"}}
                await stream.send_all(json.dumps(reply).encode() + b"\n\n")

    async with trio.open_nursery() as nursery:
        await serve(nursery, home / "s", only_getinfo)
        lightning = CoreLightning(home / "s")

        async def wait() -> None:
            await lightning.next_paid(0, timeout_seconds=600)

        for _ in range(core.WAITS + 5):
            nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.fail_after(5):
            assert await lightning.sign_message("x") == "y"
        nursery.cancel_scope.cancel()


async def test_answers_of_another_shape(home: Path) -> None:
    """An answer that lacks what we need names the command and the versions this was written for."""
    async with trio.open_nursery() as nursery:
        await serve(nursery, home / "s", answering(b'{"jsonrpc":"2.0","id":"x","result":{"odd":1}}\n\n'))
        with pytest.raises(LightningError, match="answer to getinfo has another form"):
            await CoreLightning(home / "s").info()
        nursery.cancel_scope.cancel()


async def test_outcome_is_unknown_when_nothing_is_known(home: Path) -> None:
    """A daemon that says nothing about payments leaves their outcome unknown, which is not failed."""
    payment = await CoreLightning(home / "missing").payment("lnbcrt1")
    assert payment.outcome is Outcome.UNKNOWN
    async with trio.open_nursery() as nursery:
        odd = b'{"jsonrpc":"2.0","id":"x","result":{"pays":[{"status":"confused"}]}}\n\n'
        await serve(nursery, home / "s", answering(odd))
        assert (await CoreLightning(home / "s").payment("lnbcrt1")).outcome is Outcome.UNKNOWN
        nursery.cancel_scope.cancel()


def test_of_pyln_only_the_client_of_the_socket_is_imported() -> None:
    """A node does without the gossip map and the parsers that pyln's package brings: they are 4 MiB."""
    code = (
        "import json, sys; from lnstore.lightning.rpc import rpc_class; rpc_class(); print(json.dumps([*sys.modules]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    loaded = json.loads(result.stdout)
    assert not {"pyln.client", "pyln.proto", "pyln.spec", "bitstring", "coincurve", "cryptography"} & set(loaded)


async def test_pyln_leaves_json_alone(home: Path) -> None:
    """Pyln replaces the default of every JSON encoder when it is imported; that is undone."""
    with pytest.raises(LightningUnavailable):
        await call(home / "missing")
    assert json.JSONEncoder.default.__module__ == "json.encoder"
    with pytest.raises(TypeError):
        json.dumps(object())
