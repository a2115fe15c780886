"""A Tahoe-LAFS grid as the suite measures it: introducer, nodes, and a client driven through its web API."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import trio

from bench.processes import Roles
from bench.system import BenchError, Coding, Stored
from bench.tahoe_install import tahoe_program

READY_SECONDS = 120.0
STOP_SECONDS = 10.0
ANSWER_SECONDS = 1800.0
COPY_BYTES = 256 * 1024

T = TypeVar("T")
Timed = tuple[float, list[T]]


class Transport(Enum):
    """How its client speaks to its nodes."""

    FOOLSCAP = "Foolscap"
    HTTP = "HTTP"


class TahoeSystem:
    """A running grid; see bench.system.System. Made by `tahoe_system`."""

    def __init__(self, place: Path, coding: Coding, transport: Transport) -> None:
        self.name = f"Tahoe-LAFS ({transport.value})"
        self._place = place
        self._coding = coding
        self._transport = transport
        self._tahoe = str(tahoe_program())
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._web = 0

    # --- starting and stopping --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make and start all of it; BenchError when it does not come up. Blocking."""
        ports = _free_ports(self._coding.total + 2)
        self._web = ports.pop()
        introducer = self._create("introducer", "create-introducer", ports.pop())
        self._run("introducer")
        furl_file = introducer / "private" / "introducer.furl"
        self._wait(furl_file.exists, "the introducer")
        furl = ["--introducer", furl_file.read_text().strip()]
        for number in range(self._coding.total):
            name = f"node{number}"
            self._create(name, "create-node", ports.pop(), *furl, "--nickname", name, "--webport", "none")
            self._force(name, "storage")
            self._run(name)
        self._tahoe_command(
            "create-client",
            *furl,
            "--nickname=client",
            f"--webport=tcp:{self._web}:interface=127.0.0.1",
            f"--shares-needed={self._coding.needed}",
            f"--shares-happy={self._coding.total}",
            f"--shares-total={self._coding.total}",
            str(self._place / "client"),
        )
        self._force("client", "client")
        self._run("client")
        self._wait(self._is_connected, "the connections to all storage nodes")

    def stop(self) -> None:
        """End all processes. Blocking."""
        for process in reversed(self._running.values()):
            if process.stdin is not None:
                process.stdin.close()  # `tahoe run` ends with its standard input
        for process in self._running.values():
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _create(self, name: str, command: str, port: int, *options: str) -> Path:
        directory = self._place / name
        place = [f"--port=tcp:{port}:interface=127.0.0.1", f"--location=tcp:127.0.0.1:{port}"]
        self._tahoe_command(command, *options, *place, str(directory))
        return directory

    def _tahoe_command(self, *arguments: str) -> None:
        done = subprocess.run([self._tahoe, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"tahoe {arguments[0]} failed: {done.stderr.strip()[-300:]}")

    def _force(self, name: str, section: str) -> None:
        if self._transport is Transport.FOOLSCAP:
            file = self._place / name / "tahoe.cfg"
            head = f"[{section}]\n"
            text = file.read_text()
            text = text if head in text else f"{text}\n{head}"
            file.write_text(text.replace(head, f"{head}force_foolscap = true\n", 1))

    def _run(self, name: str) -> None:
        with (self._place / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                [self._tahoe, "run", str(self._place / name)], stdin=subprocess.PIPE, stdout=log, stderr=log
            )

    def _wait(self, is_ready: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            with suppress(OSError, ValueError, http.client.HTTPException):
                if is_ready():
                    return
            time.sleep(0.1)
        raise BenchError(f"Tahoe-LAFS: {what} did not come up within {READY_SECONDS:g} s")

    def _is_connected(self) -> bool:
        servers = json.loads(_ask(self._connect(), "GET", "/?t=json"))["servers"]
        up = [s for s in servers if s["connection_status"].lower().startswith("connected")]
        return len(up) >= self._coding.total

    # --- what is measured -------------------------------------------------------------------------------------------

    def roles(self) -> Roles:
        """Client, nodes, and the introducer."""
        alive = {name: p.pid for name, p in self._running.items() if p.poll() is None}
        nodes = [pid for name, pid in alive.items() if name.startswith("node")]
        return {"client": [alive["client"]], "nodes": nodes, "introducer": [alive["introducer"]]}

    async def put(self, files: Sequence[Path], *, at_once: int) -> Stored:
        """As System.put; the keys are read capabilities."""

        def put_one(connection: http.client.HTTPConnection, number: int) -> str:
            with files[number].open("rb") as file:
                connection.putrequest("PUT", "/uri")
                connection.putheader("Content-Length", str(files[number].stat().st_size))
                connection.endheaders()
                connection.sock.sendfile(file)
                return _body(connection.getresponse()).decode()

        seconds, keys = await self._timed(put_one, len(files), at_once)
        return Stored(seconds, tuple(keys))

    async def get(self, keys: Sequence[str], files: Sequence[Path], *, at_once: int) -> float:
        """As System.get. Not synced, as Tahoe never does."""

        def get_one(connection: http.client.HTTPConnection, number: int) -> None:
            connection.request("GET", _path(keys[number]))
            response = connection.getresponse()
            _check(response)
            piece = memoryview(bytearray(COPY_BYTES))
            with files[number].open("wb", buffering=0) as file:
                while count := response.readinto(piece):
                    file.write(piece[:count])

        return (await self._timed(get_one, len(keys), at_once))[0]

    async def first_byte(self, key: str) -> float:
        """As System.first_byte."""

        def read() -> float:
            connection = self._connect()
            connection.connect()
            began = time.perf_counter()
            connection.request("GET", _path(key))
            response = connection.getresponse()
            _check(response)
            response.read(1)
            seconds = time.perf_counter() - began
            connection.close()
            return seconds

        return await trio.to_thread.run_sync(read)

    async def verify(self, key: str) -> float:
        """As System.verify."""

        def job(connection: http.client.HTTPConnection, _: int) -> None:
            answer = json.loads(_ask(connection, "POST", f"{_path(key)}?t=check&verify=true&output=json"))
            if not answer["results"]["healthy"]:
                raise BenchError(f"Tahoe-LAFS: {answer['summary']}")

        return (await self._timed(job, 1, 1))[0]

    async def lose(self, key: str, number: int) -> None:
        """As System.lose."""

        def job(connection: http.client.HTTPConnection, _: int) -> None:
            shares = [share for folder in self._share_folders(connection, key) for share in folder.glob("*")]
            sorted(shares, key=lambda share: int(share.name))[number].unlink()

        await self._timed(job, 1, 1)

    async def repair(self, key: str) -> float:
        """As System.repair: it asks which shares there are, in the same request."""

        def job(connection: http.client.HTTPConnection, _: int) -> None:
            answer = json.loads(_ask(connection, "POST", f"{_path(key)}?t=check&repair=true&output=json"))
            if not (answer["repair-attempted"] and answer["repair-successful"]):
                raise BenchError(f"Tahoe-LAFS did not repair: {answer['post-repair-results']['summary']}")

        return (await self._timed(job, 1, 1))[0]

    def _share_folders(self, connection: http.client.HTTPConnection, key: str) -> list[Path]:
        """Where the nodes keep shares of a file; blocking."""
        verifier = json.loads(_ask(connection, "GET", f"{_path(key)}?t=json"))[1]["verify_uri"]
        index = verifier.split(":")[2]
        nodes = [self._place / f"node{node}" for node in range(self._coding.total)]
        return [node / "storage" / "shares" / index[:2] / index for node in nodes]

    async def forget(self, keys: Sequence[str]) -> None:
        """As System.forget, behind its back: a Tahoe node frees what nobody leases only weeks later."""

        def forget_one(connection: http.client.HTTPConnection, number: int) -> None:
            for folder in self._share_folders(connection, keys[number]):
                shutil.rmtree(folder, ignore_errors=True)

        await self._timed(forget_one, len(keys), 1)

    async def kill_nodes(self, count: int) -> None:
        """As System.kill_nodes, with SIGKILL."""
        for number in range(count):
            self._running[f"node{number}"].kill()
            self._running[f"node{number}"].wait()

    def commands(self, small_file: Path) -> dict[str, list[str]]:
        """As System.commands."""
        put = [self._tahoe, "-d", str(self._place / "client"), "put", str(small_file)]
        return {"help": [self._tahoe, "--help"], "put 1 KiB": put}

    # --- its web API ------------------------------------------------------------------------------------------------

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._web, timeout=ANSWER_SECONDS)

    async def _timed(self, job: Callable[[http.client.HTTPConnection, int], T], count: int, at_once: int) -> Timed[T]:
        """Seconds, and the results of `count` jobs, so many at a time, each worker on a connection of its own."""

        def work() -> Timed[T]:
            numbers = iter(range(count))
            taking = threading.Lock()
            results: dict[int, T] = {}

            def one_worker(connection: http.client.HTTPConnection) -> None:
                while True:
                    with taking:
                        number = next(numbers, None)
                    if number is None:
                        return
                    results[number] = job(connection, number)

            connections = [self._connect() for _ in range(at_once)]
            for connection in connections:
                connection.connect()
            with ThreadPoolExecutor(at_once) as workers:
                began = time.perf_counter()
                list(workers.map(one_worker, connections))
                seconds = time.perf_counter() - began
            for connection in connections:
                connection.close()
            return seconds, [results[number] for number in range(count)]

        return await trio.to_thread.run_sync(work)


def _path(key: str) -> str:
    return f"/uri/{quote(key, safe='')}"


def _ask(connection: http.client.HTTPConnection, method: str, path: str) -> bytes:
    connection.request(method, path)
    return _body(connection.getresponse())


def _check(response: http.client.HTTPResponse) -> None:
    if response.status // 100 != 2:
        raise BenchError(f"Tahoe-LAFS answered {response.status}: {response.read()[:300]!r}")


def _body(response: http.client.HTTPResponse) -> bytes:
    _check(response)
    return response.read()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@asynccontextmanager
async def tahoe_system(place: Path, coding: Coding, transport: Transport) -> AsyncIterator[TahoeSystem]:
    """A grid in `place`, stopped at the end of the block."""
    system = await trio.to_thread.run_sync(TahoeSystem, place, coding, transport)
    try:
        await trio.to_thread.run_sync(system.start)
        yield system
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(system.stop)
