"""The run against a client: for each scenario the client comes to the stand-in, and what it does there is judged."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from lnstore_protocol.conformance.coverage import client_unchecked
from lnstore_protocol.conformance.link import PeerClosed, PeerSilent
from lnstore_protocol.conformance.node_run import CHECKS
from lnstore_protocol.conformance.report import Outcome, Report, Result
from lnstore_protocol.conformance.scenarios import SCENARIOS, Must, Scenario, honest
from lnstore_protocol.conformance.stand_in import ClientLink, StandIn
from lnstore_protocol.conformance.trial import PATIENCE_SECONDS
from lnstore_protocol.conformance.verdict import Failed, Reached, Skipped, Trace, Unreachable
from lnstore_protocol.identity import Identity
from lnstore_protocol.ids import NodeAddress
from lnstore_protocol.messages import Hello

LOOK_SECONDS = 0.02
COMING_SECONDS = 600.0
"""How long is waited for a person to point the client here."""

CLIENT_WRITES = ("T-W6", "T-W7", "T-W10", "T-W11", "T-W12", "C-W1", "C-W2", "M-W1", "M-W2", "M-W4", "M-W6")
"""What every request of a client is held against."""


@dataclass(frozen=True, slots=True)
class Task:
    """What the client is to do: read a share, or the file, from the node at the address."""

    address: NodeAddress
    share_id: str
    capability: str = field(repr=False)


class Running(Protocol):
    """A client at work."""

    def succeeded(self) -> bool | None:
        """Whether it did its task; None while it is at it."""
        ...

    def end(self) -> None:
        """Stop it."""
        ...


StartClient = Callable[[Task], Running]


class CommandClient:
    """Runs a command with {address}, {share_id} and {capability} in it; exit code 0 means that it read it."""

    def __init__(self, template: str) -> None:
        if "{address}" not in template or not ("{share_id}" in template or "{capability}" in template):
            raise ValueError("--client-command needs {address}, and {share_id} or {capability}, in it")
        self._words = shlex.split(template)

    def __call__(self, task: Task) -> Running:
        """Start it."""
        values = {"address": str(task.address), "share_id": task.share_id, "capability": task.capability}
        words = [re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), word) for word in self._words]
        return _Process(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))


class _Process:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def succeeded(self) -> bool | None:
        code = self._process.poll()
        return None if code is None else code == 0

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


@dataclass(slots=True)
class _Seen:
    """What a client did in one scenario."""

    connections: int = 0
    bent: int = 0
    closed: bool = False
    """The last connection with a bent reply was closed by the client."""
    asked_after: bool = False
    """A request came after a bent reply, on the same connection."""
    ephemerals: list[bytes] = field(default_factory=list)


def check_client(
    start: StartClient | None,
    *,
    listen: tuple[str, int] = ("127.0.0.1", 0),
    network: str = "regtest",
    only: str = "",
    patience_seconds: float = PATIENCE_SECONDS,
    coming_seconds: float = COMING_SECONDS,
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Check a client, started anew for each scenario, or (None) pointed here by a person whom `tell` tells to.

    `only` is a regular expression for a scenario's name or requirement. Blocking. Unreachable when the address can not
    be listened at.
    """
    stand_in = StandIn(network=network)
    chosen = [s for s in SCENARIOS if not only or any(re.fullmatch(only, n) for n in (s.name, *s.requirements))]
    try:
        listener = socket.create_server(listen, backlog=16)
    except OSError as exc:
        raise Unreachable(f"cannot listen at {listen[0]}:{listen[1]} ({exc}); choose another --listen") from exc
    with listener:
        address = NodeAddress(stand_in.node_id, listen[0], listener.getsockname()[1])
        task = Task(address, str(stand_in.share_id), stand_in.capability)
        tell(f"node {address}\nshare {task.share_id}\nfile {task.capability}")
        results = []
        for number, scenario in enumerate(chosen, start=1):
            tell(f"{number} of {len(chosen)}, {scenario.name}: let the client read the share or the file now")
            run = _Run(stand_in, listener, scenario, patience_seconds, coming_seconds)
            results.append(run.run(start, task))
    on_nodes = {requirement for check in CHECKS for requirement in check.requirements}
    tried = {requirement for result in results for requirement in result.requirements}
    return Report("the client", results, {} if only else client_unchecked(tried, on_nodes))


class _Run:
    """One scenario."""

    def __init__(
        self,
        stand_in: StandIn,
        listener: socket.socket,
        scenario: Scenario,
        patience_seconds: float,
        coming_seconds: float,
    ) -> None:
        self._stand_in = stand_in
        self._listener = listener
        self._scenario = scenario
        self._patience_seconds = patience_seconds
        self._coming_seconds = coming_seconds
        self._trace = Trace()
        self._seen = _Seen()
        self._reached = Reached(self._trace)

    def run(self, start: StartClient | None, task: Task) -> Result:
        scenario = self._scenario
        outcome, broken, text = Outcome.PASSED, None, ""
        try:
            succeeded = self._until_done(start, task)
            self._judge(succeeded)
        except Failed as exc:
            outcome, broken, text = Outcome.FAILED, exc.requirement, exc.text
        except Skipped as exc:
            outcome, text = Outcome.NOT_APPLICABLE, str(exc)
        return Result(
            name=scenario.name,
            title=scenario.title,
            requirements=(*scenario.requirements, *(CLIENT_WRITES if scenario.send is honest else ())),
            outcome=outcome,
            broken=broken,
            reached=self._reached.after,
            text=text,
            entries=tuple(self._trace.entries),
        )

    # --- serving

    def _until_done(self, start: StartClient | None, task: Task) -> bool | None:
        """Serve until the client has ended, or (a person's) has come and gone; whether it did its task."""
        running = None if start is None else start(task)
        wait = self._coming_seconds if running is None else self._patience_seconds
        end = time.monotonic() + wait
        try:
            while time.monotonic() < end:
                self._listener.settimeout(LOOK_SECONDS)
                try:
                    stream, _ = self._listener.accept()
                except TimeoutError:
                    succeeded = None if running is None else running.succeeded()
                    if succeeded is not None:
                        return succeeded
                    continue
                self._serve(stream, running)
                end = time.monotonic() + self._patience_seconds
                if running is None:
                    return None
            if running is None:
                raise Skipped("no client came")
            succeeded = running.succeeded()
            return bool(succeeded)
        finally:
            if running is not None:
                running.end()

    def _serve(self, stream: socket.socket, running: Running | None) -> None:
        link = ClientLink(stream, self._trace, self._patience_seconds, self._stand_in.shares)
        self._seen.connections += 1
        try:
            self._converse(link, running)
        finally:
            link.close()

    def _converse(self, link: ClientLink, running: Running | None) -> None:
        seen, scenario = self._seen, self._scenario
        identity = Identity.generate() if scenario.wrong_key else self._stand_in.identity
        try:
            self._hands(link, identity)
        except (PeerClosed, PeerSilent):
            if scenario.wrong_key:
                seen.closed = True
            return
        bent = False
        first = True
        end = time.monotonic() + self._patience_seconds
        while time.monotonic() < end and (running is None or running.succeeded() is None):
            try:
                request = link.receive_request(seconds=LOOK_SECONDS)
            except PeerSilent:
                continue
            except PeerClosed:
                seen.closed |= bent
                return
            end = time.monotonic() + self._patience_seconds
            if first and not isinstance(request.message, Hello):
                raise Failed("M-W6", f"the first request is a {type(request.message).__name__}")
            first = False
            seen.asked_after |= bent
            reply = self._stand_in.answer(request.message)
            if scenario.applies(request.message, reply):
                bent = True
                seen.bent += 1
                scenario.send(link, request, reply)
            else:
                honest(link, request, reply)
        # A client that has ended has closed all it had, whether that is seen already or not.
        seen.closed |= bent and running is not None and running.succeeded() is not None

    def _hands(self, link: ClientLink, identity: Identity) -> None:
        if self._scenario.wrong_key:
            self._seen.bent += 1
            link.receive_raw(48)
            link.send_raw(identity.public_key + bytes(16), "an act 2 that does not open")
            link.receive_raw(1)
            raise Failed("T-R3", "the client went on after an act 2 that does not open")
        link.shake_hands(identity)
        fresh = link.ephemeral not in self._seen.ephemerals
        self._seen.ephemerals.append(link.ephemeral)
        if not fresh:
            raise Failed("T-W2", "two connections with the same ephemeral key")
        self._reached.update({"T-W2", "T-W4"})

    # --- judging

    def _judge(self, succeeded: bool | None) -> None:
        """Failed with the scenario's requirement, or Skipped when nothing can be said."""
        scenario, seen = self._scenario, self._seen
        requirement = scenario.requirements[0]
        if not seen.connections:
            raise Failed(requirement, "the client ended without a connection")
        if not seen.bent:
            raise Skipped(f"the client never asked with a {scenario.on.__name__}")
        match scenario.must:
            case Must.GO_ON:
                if succeeded is False:
                    raise Failed(requirement, "the client did not do its task")
                if succeeded is None and not seen.asked_after:
                    raise Failed(requirement, "the client asked for nothing more")
            case Must.CLOSE:
                if succeeded:
                    raise Failed(requirement, "the client did its task nonetheless")
                if not seen.closed:
                    raise Failed(requirement, "the client did not close the connection")
            case Must.REFUSE:
                if succeeded:
                    raise Failed(requirement, "the client took it for what it had asked for")
                if succeeded is None:
                    raise Skipped("whether the client took it only its exit code can tell: give --client-command")
