"""--client: lnstore's own client passes; clients with one defect each are caught by requirement."""

from __future__ import annotations

import io
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import trio
from conformance_world import run_program
from examples_world import EXAMPLES, example_client

from lnstore.client.files import open_client
from lnstore.client.profile import init_profile
from lnstore.errors import LnstoreError
from lnstore_protocol import merkle
from lnstore_protocol.conformance import Outcome
from lnstore_protocol.conformance.client_run import Task, check_client
from lnstore_protocol.conformance.scenarios import SCENARIOS
from lnstore_protocol.conformance.stand_in import FILE_BYTES
from lnstore_protocol.connection import NEED_DATA, Connection, HandshakeDone, ReplyReceived, Role
from lnstore_protocol.errors import LocalProtocolError, RemoteProtocolError
from lnstore_protocol.frames import Frame, FrameReader
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import NodeAddress, ShareId
from lnstore_protocol.messages import GetShare, GetShareReply, GetTerms, Hello, HelloReply, Message, Request

HELLO = Hello(version_major=1, version_minor=0, features=b"")
PATIENCE_SECONDS = 0.5
"""Only what a broken client fails to do is waited for so long."""


@dataclass
class InThread:
    """A client that runs in a thread: check_client's StartClient."""

    read: Callable[[Task], bool]
    results: list[bool] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def __call__(self, task: Task) -> InThread:
        started = InThread(self.read)
        started.threads.append(threading.Thread(target=started._run, args=(task,)))
        started.threads[0].start()
        return started

    def _run(self, task: Task) -> None:
        try:
            self.results.append(self.read(task))
        finally:  # an error is told by pytest; whoever waits goes on
            self.results.append(False)

    def succeeded(self) -> bool | None:
        return self.results[0] if self.results else None

    def end(self) -> None:
        self.threads[0].join()


# --- lnstore's own ----------------------------------------------------------------------------------------------------


def reader_of_lnstore(directory: Path) -> Callable[[Task], bool]:
    """Read the file as `lnstore get` does, each time with the same profile."""
    profile = init_profile(directory)

    async def get(task: Task) -> bool:
        output = io.BytesIO()
        async with open_client(profile, connect_seconds=5, share_seconds=5) as client:
            client.catalog.add_node(task.address, petname="stand-in", lightning_id=None, added_at=0)
            try:
                await client.get(task.capability, output)
            except LnstoreError:
                return False
            return len(output.getvalue()) == FILE_BYTES

    return lambda task: trio.run(get, task)


def test_the_client_conforms(tmp_path: Path) -> None:
    """In every scenario, and in each something can be said."""
    report = check_client(InThread(reader_of_lnstore(tmp_path)), patience_seconds=10)
    assert report.failed == {}
    assert [result.name for result in report.results if result.outcome is not Outcome.PASSED] == []


def test_the_example_client_conforms() -> None:
    """The one of protocol/examples, reading a share."""
    key = Identity.generate()

    def get(task: Task) -> bool:
        address = task.address
        try:
            with socket.create_connection((address.host, address.port), timeout=5) as stream:
                node = example_client.Node(stream, address, key, "no-lightning-here")
                share: bytes = example_client.get(node, ShareId.from_hex(task.share_id))
        except (SystemExit, RemoteProtocolError, LocalProtocolError, OSError):
            return False
        return len(share) > FILE_BYTES

    report = check_client(InThread(get), patience_seconds=10)
    assert report.failed == {}
    assert report.not_applicable.keys() & {r for scenario in SCENARIOS for r in scenario.requirements} == set()


async def test_the_program_starts_a_client(tmp_path: Path) -> None:
    """With --client-command it starts the client for each scenario, and says by number what it makes of it."""
    command = f"{sys.executable} {EXAMPLES / 'client.py'} {{address}} get {{share_id}} --key {tmp_path / 'key'}"
    only = "honest|wrong_bytes|unknown_odd_key"
    code, output, errors = await run_program("--client", "--client-command", command, "--only", only)
    assert code == 0, errors
    for requirement in ("T-W2", "P-R5", "M-R3"):
        assert any(line.startswith(f"{requirement:<7} passed") for line in output.splitlines())


def test_a_person_points_the_client_at_the_stand_in() -> None:
    """Without a command the address is told, and whoever comes is judged; what only an exit code shows is left open."""
    threads: list[threading.Thread] = []
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        if len(told) > 1:
            address, share, capability = (line.partition(" ")[2] for line in told[0].splitlines())
            task = Task(NodeAddress.parse(address), share, capability)
            threads.append(threading.Thread(target=lambda: Client(task).read()))
            threads[-1].start()

    report = check_client(None, only="M-R3|M-R6|P-R4", tell=tell)
    for thread in threads:
        thread.join()
    assert report.passed.keys() == {"M-R3", "M-R6"}
    assert "exit code" in report.not_applicable["P-R4"]


# --- broken ones ------------------------------------------------------------------------------------------------------


class Client:
    """A small blocking client that reads one share; each subclass below has one defect."""

    identity = Identity(b"\x07" * 32)
    protocol: type[Connection] = Connection
    ephemeral: bytes | None = None

    def __init__(self, task: Task) -> None:
        self.task = task
        self.share_id = ShareId.from_hex(task.share_id)

    def read(self) -> bool:
        """Whether the share was read."""
        address = self.task.address
        self.connection = self.protocol(
            Role.CLIENT, Identity.generate(), remote=address.node_id, ephemeral_private=self.ephemeral
        )
        with socket.create_connection((address.host, address.port), timeout=2) as self.stream:
            try:
                self.stream.sendall(self.connection.initiate())
                self.next_event()
                self.stream.sendall(self.connection.data_to_send())
                return self.converse()
            except (RemoteProtocolError, OSError, EOFError):
                return False

    def converse(self) -> bool:
        self.check_hello(self.ask(HELLO))
        reply = self.ask(GetShare(share_id=self.share_id, offset=0, length=0))
        return isinstance(reply, GetShareReply) and self.check_share(reply)

    def check_hello(self, reply: Message) -> None:
        assert isinstance(reply, HelloReply)
        if reply.version_major != 1 or any(byte & 0x55 for byte in reply.features):
            raise RemoteProtocolError("another version")

    def check_share(self, reply: GetShareReply) -> bool:
        merkle.verify_range(self.share_id, reply.share_bytes, reply.offset, reply.payload, reply.proof)
        return len(reply.payload) == reply.share_bytes

    def ask(self, message: Request) -> Message:
        _, chunks = self.connection.send_request(message)
        for chunk in chunks:
            self.stream.sendall(chunk)
        while not isinstance(event := self.next_event(), ReplyReceived):
            pass
        return event.message

    def next_event(self) -> Any:
        while (event := self.connection.next_event()) is NEED_DATA:
            data = self.stream.recv(4096)
            if not data:
                raise EOFError
            self.connection.receive_data(data)
        if not isinstance(event, (HandshakeDone, ReplyReceived)):
            raise EOFError
        return event


class VerifiesNothing(Client):
    def check_share(self, reply: GetShareReply) -> bool:
        return True


class IgnoresTheRestOfAProof(Client):
    def check_share(self, reply: GetShareReply) -> bool:
        return super().check_share(replace(reply, proof=b""))


class TakesWhatComes(Client):
    def check_share(self, reply: GetShareReply) -> bool:
        merkle.verify_range(self.share_id, reply.share_bytes, reply.offset, reply.payload, reply.proof)
        return True


class _PassesOverEvenMessages(Connection):
    def _frame_event(self, frame: Frame) -> Any:
        return None if frame.type == 1000 else super()._frame_event(frame)


class PassesOverEvenMessages(Client):
    protocol = _PassesOverEvenMessages


class _RefusesOddMessages(Connection):
    def _frame_event(self, frame: Frame) -> Any:
        if frame.type == 1001:
            raise RemoteProtocolError("not known")
        return super()._frame_event(frame)


class RefusesOddMessages(Client):
    protocol = _RefusesOddMessages


class _RefusesOddKeys(Connection):
    def _reply_event(self, frame: Frame) -> Any:
        if b"\xcc\xc9" in frame.head:  # the key 201
            raise RemoteProtocolError("not known")
        return super()._reply_event(frame)


class RefusesOddKeys(Client):
    protocol = _RefusesOddKeys


class _Unlimited(FrameReader):
    def _check_limits(self) -> None:
        self._type = 258


class _HasNoLimits(Connection):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._frames = _Unlimited()


class HasNoLimits(Client):
    protocol = _HasNoLimits


class _TakesAnyReply(Connection):
    def _reply_event(self, frame: Frame) -> Any:
        self._pending.setdefault(1000, Hello.TYPE)
        return super()._reply_event(frame)


class TakesAnyReply(Client):
    protocol = _TakesAnyReply


class TakesAnyVersion(Client):
    def check_hello(self, reply: Message) -> None:
        return


class UsesOneEphemeralKey(Client):
    ephemeral = b"\x09" * 32

    def converse(self) -> bool:
        again = Client(self.task)
        again.ephemeral = self.ephemeral
        done = super().converse()
        self.stream.close()
        return again.read() and done


class SaysNoHello(Client):
    def converse(self) -> bool:
        self.ask(GetTerms())
        return super().converse()


class TakesTheEndForAnAnswer(Client):
    def read(self) -> bool:
        try:
            return super().read() or self.ended
        except AttributeError:
            return False

    ended = False

    def next_event(self) -> Any:
        try:
            return super().next_event()
        except EOFError:
            self.ended = self.connection.is_open
            raise


@pytest.mark.parametrize(
    ("client", "requirement"),
    [
        (VerifiesNothing, "P-R5"),
        (IgnoresTheRestOfAProof, "P-R4"),
        (TakesWhatComes, "MB-R11"),
        (PassesOverEvenMessages, "M-R6"),
        (RefusesOddMessages, "M-R4"),
        (RefusesOddKeys, "M-R3"),
        (HasNoLimits, "T-R12"),
        (TakesAnyReply, "T-R17"),
        (TakesAnyVersion, "M-R12"),
        (UsesOneEphemeralKey, "T-W2"),
        (SaysNoHello, "M-W6"),
        (TakesTheEndForAnAnswer, "T-R21"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_broken_clients_are_caught(client: type[Client], requirement: str) -> None:
    """By the number of the requirement they break, which a client without the defect keeps."""

    def run(kind: type[Client]) -> dict[str, str]:
        start = InThread(lambda task: kind(task).read())
        return check_client(start, only=requirement, patience_seconds=PATIENCE_SECONDS).failed

    assert requirement in run(client)
    assert run(Client) == {}


def test_every_scenario_is_of_a_requirement() -> None:
    assert all(scenario.requirements for scenario in SCENARIOS)
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
