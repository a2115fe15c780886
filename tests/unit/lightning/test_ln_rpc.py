"""Calls to a daemon that misbehaves: bounded, cancellable, without leaks and without secrets in errors."""

from __future__ import annotations

import json
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


async def test_cancelled_waits_leave_nothing(home: Path) -> None:
    """Three hundred waits on a silent daemon end at once when cancelled, and leave neither thread nor socket."""
    async with trio.open_nursery() as nursery:
        await serve(nursery, home / "s", silence)
        lightning = CoreLightning(home / "s")
        with trio.move_on_after(0.01):
            await lightning.next_paid(0, timeout_seconds=600)
        before = descriptors()
        for _ in range(300):
            started = time.monotonic()
            with trio.move_on_after(0.001) as patience:
                await lightning.next_paid(0, timeout_seconds=600)
            assert patience.cancelled_caught
            assert time.monotonic() - started < 1

        async def ended() -> bool:
            return lightning._waits.borrowed_tokens == 0 and descriptors() <= before

        await eventually(ended)  # a thread notices that its socket was shut down, then closes it
        # The threads went back to trio's cache; none was stuck in a read, so few were ever needed.
        assert threading.active_count() < 30
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


async def test_pyln_leaves_json_alone(home: Path) -> None:
    """Pyln replaces the default of every JSON encoder when it is imported; that is undone."""
    with pytest.raises(LightningUnavailable):
        await call(home / "missing")
    assert json.JSONEncoder.default.__module__ == "json.encoder"
    with pytest.raises(TypeError):
        json.dumps(object())
