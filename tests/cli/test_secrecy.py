"""No secret is in any output, log, argument or file that is not meant to hold it, whatever goes wrong."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio
from cli_world import lnstore
from secret_hunt import Secrets, gather_client, gather_node, readable_by_others

from lnstore.devnet import Devnet, devnet, short_directory
from lnstore.errors import ExitCode

PASSPHRASE = "correct horse battery staple"
SAMPLING_SECONDS = 0.1


@dataclass(slots=True)
class Watched:
    """Commands with all that they said, and the argument lists that anybody could see meanwhile."""

    passphrase_file: Path
    said: list[tuple[tuple[str, ...], bytes]] = field(default_factory=list)
    arguments: set[bytes] = field(default_factory=set)
    is_sampling: bool = False

    async def run(self, *words: str, home: Path | None, code: ExitCode = ExitCode.OK, stdin: bytes = b"") -> bytes:
        done = await trio.to_thread.run_sync(
            lambda: lnstore(*words, home=home, stdin=stdin, LNSTORE_PASSPHRASE_FILE=str(self.passphrase_file))
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        self.said.append((words, done.stdout + done.stderr))
        if self.is_sampling:  # of a fork's arguments nothing is to be seen
            self.arguments.add("\0".join(words).encode())
        return done.stdout

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Look at the arguments of all processes, often."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(SAMPLING_SECONDS):
                for file in Path("/proc").glob("[0-9]*/cmdline"):
                    try:
                        self.arguments.add(file.read_bytes())
                    except OSError:
                        continue  # it ended

        thread = threading.Thread(target=look)
        thread.start()
        self.is_sampling = True
        try:
            yield
        finally:
            self.is_sampling = False
            over.set()
            thread.join()


ON_PURPOSE = {
    ("init",): ("words",),
    ("put",): ("read cap",),
    ("cap", "show"): ("read cap",),
    ("cap", "verify"): ("verify cap",),
    ("node", "invite"): ("invitation",),
}
"""Commands whose purpose, by their help, is to show such a secret."""


def _allowed(words: tuple[str, ...]) -> tuple[str, ...]:
    return ON_PURPOSE.get(words[:1], ON_PURPOSE.get(words[:2], ()))


async def test_no_secret_is_where_it_should_not_be(tmp_path: Path) -> None:
    """The whole job, with nodes that log all they can, and an error in each phase of it."""
    directory = short_directory("lnt-")
    try:
        async with devnet(directory, nodes=3, settings={"log_level": "debug"}) as net:
            watched, secrets = Watched(tmp_path / "passphrase"), Secrets()
            watched.passphrase_file.write_text(PASSPHRASE)
            home = directory / "home"
            with watched.sampling():
                words = await _job(watched, secrets, net, home, tmp_path)
            gather_client(secrets, home, words, PASSPHRASE)
            await _errors(watched, net, home, tmp_path)
            gather_client(secrets, home, words, PASSPHRASE)
            for node in net.nodes:
                gather_node(secrets, node.directory)
        assert secrets.names >= {"words", "passphrase", "account key", "node key", "file key", "token", "nonce 5"}
        assert secrets.names >= {"preimage", "invitation", "read cap", "audit key"}
        for said_by, said in watched.said:
            assert secrets.found_in(said) == set(_allowed(said_by)), (said_by, said)
        assert secrets.found_in((home / "catalog.db").read_bytes()) >= {"file key", "preimage"}, (
            "the hunt finds nothing"
        )
        assert any(b"node\0run" in words for words in watched.arguments)
        assert not secrets.found_in(b"\n".join(watched.arguments))
        logs = [*directory.rglob("*.log"), *directory.rglob("log")]
        assert len(logs) >= 3
        for log in logs:
            assert not secrets.found_in(log.read_bytes()), log
        for path in readable_by_others(home, directory / "nodes"):
            assert not secrets.found_in(path.read_bytes()), path
        _nodes_know_nothing(secrets, directory / "nodes")
    finally:
        shutil.rmtree(directory)


async def _job(watched: Watched, secrets: Secrets, net: Devnet, home: Path, tmp_path: Path) -> str:
    """Everything a client does, once; its words."""
    (tmp_path / "file").write_bytes(os.urandom(200_000))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_bytes(os.urandom(10_000))
    settings = ("--lightning-rpc", str(net.client_rpc), "--clock-file", str(net.clock_file))
    coding = ("--needed", "2", "--total", "3", "--happy", "2")
    invited = (await watched.run("node", "invite", str(net.nodes[2].directory), home=None)).decode().strip()
    secrets.add_text("invitation", invited.rpartition("lnsi1")[2].split()[0])
    made = await watched.run("init", *settings, *coding, home=home)
    (words,) = [line.strip() for line in made.decode().splitlines() if line.startswith("  ")]
    await watched.run("nodes", "add", *(str(node.running_address) for node in net.nodes[:2]), home=home)
    await watched.run("nodes", "add", "-", "--json", home=home, stdin=invited.encode())
    await watched.run("rent", "buy", "--all", "10MiB", "--deposit", "5000", "--open-channel", "--json", home=home)
    cap = await watched.run("put", str(tmp_path / "file"), home=home)
    await watched.run("put", str(tmp_path / "folder"), "--json", home=home)
    await watched.run("get", "-", "-o", str(tmp_path / "copy"), home=home, stdin=cap.splitlines()[-1])
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "file").read_bytes()
    node = net.nodes[0].running_address.node_id.hex()
    async with trio.open_nursery() as nursery:
        for told in ("check", "ls", "info file", f"nodes show {node}", "receipts ls", "cap verify file"):
            nursery.start_soon(partial(watched.run, *told.split(), "--json", home=home))
    await watched.run("rent", "status", "--json", home=home)
    net.clock.advance(30 * 86_400)
    await watched.run("rent", "pay", "--json", home=home)
    await watched.run("backup", "--json", home=home)
    await watched.run("agent", "once", "--json", home=home)
    await watched.run("status", "--json", home=home)
    return words


async def _errors(watched: Watched, net: Devnet, home: Path, tmp_path: Path) -> None:
    """Something goes wrong in each phase."""
    cap = (await watched.run("cap", "show", "file", home=home)).decode().strip()
    mistyped = cap[:-1] + ("q" if cap[-1] != "q" else "p")
    locked = directory_with(home, tmp_path / "locked", "account.key", lambda text: text)
    await watched.run("passphrase", home=locked, stdin=PASSPHRASE.encode() + b"\n")
    await watched.run("delegate", "key", home=locked)
    watched.passphrase_file.write_text(PASSPHRASE + "r")
    wrong = directory_with(home, tmp_path / "wrong key", "account.key", lambda text: text[:-3] + b"\n")
    torn = directory_with(home, tmp_path / "torn", "catalog.db", lambda db: db[:4096] + os.urandom(len(db) - 4096))
    # Arguments that a person typed are theirs to see, but no error repeats them.
    async with trio.open_nursery() as nursery:
        for words, code in (
            (("get", mistyped, "-o", "x"), ExitCode.DATA),
            (("ls", f"{cap}/x"), ExitCode.DATA),
            (("info", cap), ExitCode.CONFIGURATION),
            (("find", "file", cap), ExitCode.USAGE),
            (("rm", cap), ExitCode.CONFIGURATION),
        ):
            nursery.start_soon(partial(watched.run, *words, "--json", home=home, code=code))
        for words, broken in ((("rent", "status"), wrong), (("get", "file"), torn), (("rent", "status"), locked)):
            nursery.start_soon(partial(watched.run, *words, home=broken, code=ExitCode.CONFIGURATION))
    await watched.run(
        "devnet", "control", "fault", "kind=fail_payment", "node=client", "--dir", str(net.directory), home=None
    )
    net.clock.advance(30 * 86_400)
    await watched.run("rent", "pay", home=home, code=ExitCode.PAYMENT)
    net.nodes[0].kill()
    await watched.run("rent", "pay", home=home, code=ExitCode.NODE)
    (tmp_path / "file").write_bytes(os.urandom(300_000))
    await watched.run("put", str(tmp_path / "file"), "--name", "other", "--json", home=home)
    await watched.run("get", "file", "-o", str(tmp_path / "z"), "--json", home=home)


def directory_with(home: Path, copy: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    """A copy of the profile, one file of which is changed."""
    shutil.copytree(home, copy)
    for beside in ("catalog.db-wal", "catalog.db-shm"):
        (copy / beside).unlink(missing_ok=True)
    (copy / name).write_bytes(change((copy / name).read_bytes()))
    return copy


def _nodes_know_nothing(secrets: Secrets, nodes: Path) -> None:
    """What is on the nodes' disks, backups of the client's catalog too, is encrypted: only what rent takes is known."""
    told = ("node", "token", "preimage", "nonce 0", "nonce 1")
    files = [path for path in nodes.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) > 300_000
    for path in files:
        assert not secrets.found_in(path.read_bytes(), apart_from=told), path
