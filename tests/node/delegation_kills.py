"""A delegation's whole life between a real node and two real clients, killed (SIGKILL) at its writes, and gone on with.

Run as a program with an empty directory: it prints a line for each kill. Everything is imported before the first fork
and no thread runs in the parent, so that a life costs no more than itself. All three sides are in the process that
dies: whatever one of them had told another before, nobody remembers but the files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import trio
from books_world import sound
from node_world import GRACE, MIB, START_AT, MemoryDaemon, TestClock, World
from sqlalchemy import event
from sqlalchemy.engine import Engine

from lnstore.books import SqlBooks
from lnstore.client.catalog import Catalog
from lnstore.client.delegates import Limits, accept, drop, issue, overview, revoke
from lnstore.client.files import Client, open_client
from lnstore.client.profile import Profile, init_profile
from lnstore.node.directory import init_node
from lnstore.node.limits import Deadlines
from lnstore.storage import NodeShares
from lnstore_protocol.delegation import UNLIMITED, Rights, parse_delegation
from lnstore_protocol.terms import Agreement

DATA = bytes(range(256)) * 100
KILLS = 6
"""Of the writes of a life so many are died at, evenly."""

LIMITS = Limits(
    maximum_bytes=MIB,
    maximum_read_bytes=UNLIMITED,
    expires_at=START_AT + GRACE,
    rights=Rights.READ_WRITE,
    levels=0,
)


class Death:
    """Counts writes, and ends the process at one of them: before it is committed or after."""

    def __init__(self, at: int | None) -> None:
        self.at, self.writes = at, 0

    def near(self) -> None:
        self.writes += 1
        if self.writes == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """From now on: the node's commits (its shares are in them, or on disk before), and those of both catalogs."""
        event.listen(Engine, "commit", lambda _connection: self.near())
        event.listen(Engine, "after_cursor_execute", self._executed)
        true = Catalog.transaction

        @contextlib.contextmanager
        def transaction(catalog: Catalog) -> Iterator[Any]:
            with true(catalog) as db:
                yield db
                self.near()  # not committed yet
            self.near()

        Catalog.transaction = transaction  # type: ignore[method-assign,assignment]

    def _executed(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA", "BEGIN")):
            self.near()


class Site(World):
    """A node's directory with the profiles of a holder and a friend beside it; all else is new in each process."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.base = directory / "node", directory
        self.clock = TestClock()
        self.daemon = MemoryDaemon(self.clock)
        self.shares = NodeShares(self.directory / "shares")
        self.deadlines = Deadlines()

    @asynccontextmanager
    async def acting(self, name: str) -> AsyncIterator[Client]:
        """The holder's client, or the friend's."""
        async with open_client(Profile.load(self.base / name)) as client:
            client.clock = self.clock
            yield client


def acknowledge(directory: Path, *words: str) -> None:
    """What was done as far as anybody was told: a line in a file, on the disk before the next step begins."""
    with (directory / "told").open("a") as told:
        told.write(" ".join(words) + "\n")


def told(directory: Path) -> dict[str, str]:
    try:
        lines = (directory / "told").read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {word: rest for word, _, rest in (line.partition(" ") for line in lines)}


# --- what is done in a process of its own -----------------------------------------------------------------------------


async def furnish(directory: Path) -> None:
    """A node with one account that is paid for, and two profiles; nothing is delegated."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    init_node(directory / "node", listen_port=port, minimum_account="1KiB", egress_msat_per_gib=0)
    holder = init_profile(directory / "holder", needed=1, happy=1, total=1)
    init_profile(directory / "friend", needed=1, happy=1, total=1)
    site = Site(directory)
    async with site.running() as node:
        async with site.client(node, holder.identity) as client:
            await client.rent(8 * MIB)
            agreement = Agreement.decode((await client.status()).agreement)
        with holder.open_catalog() as catalog:
            catalog.add_node(node.address, petname="node", lightning_id=None, added_at=START_AT)
            catalog.set_agreement(node.address.node_id, terms=agreement.terms.encoded, agreement=agreement.encoded)


async def live(directory: Path, death: Death) -> None:
    """Issued, accepted, written under, read back, revoked, dropped; each step only if nobody was told of it before."""
    done, site = told(directory), Site(directory)
    async with site.running() as node:
        await sound(cast("SqlBooks", node.books))
        death.watch()
        async with site.acting("holder") as holder:
            if "issued" not in done:
                entry = issue(holder, Profile.load(directory / "friend").account_id, LIMITS)
                acknowledge(directory, "issued", entry.delegation.to_text())
        text = told(directory)["issued"]
        if "revoked" in done:
            await refused(site, text)
        else:
            await write(site, text)
        async with site.acting("holder") as holder:
            certificate = parse_delegation(text).chain[-1].certificate_id.hex()
            await revoke(holder, certificate)
            acknowledge(directory, "revoked")
            await refused(site, text)
            await drop(holder, certificate)
            acknowledge(directory, "dropped")
            ((usage,), _) = await overview(holder)
            at = usage.usages["node"]
            assert (at.used_bytes, at.shares, usage.revoked) == (0, 0, True)
        (account,) = await node.books.accounts()
        assert (account.used_bytes, account.shares) == (0, 0)
        await sound(cast("SqlBooks", node.books))


async def write(site: Site, text: str) -> None:
    """Accept, have the file stored, and read it back: what was told of before is there."""
    async with site.acting("friend") as friend:
        _, (at,) = await accept(friend, text)
        if at.problem:  # the holder's word had reached the node, and no answer the holder
            assert "revoked" in at.problem, at.problem
            return
        acknowledge(site.base, "accepted")
        if "stored" not in told(site.base):
            stored = await friend.put(BytesIO(DATA), name=f"file {os.getpid()}")
            acknowledge(site.base, "stored", stored.cap.to_text())
        output = BytesIO()
        await friend.get(told(site.base)["stored"], output)
        assert output.getvalue() == DATA


async def refused(site: Site, text: str) -> None:
    """The friend can do nothing any more."""
    async with site.acting("friend") as friend:
        _, (at,) = await accept(friend, text)
        assert at.problem, "a revoked delegation was taken"


# --- processes --------------------------------------------------------------------------------------------------------


def process(work: Callable[[], Awaitable[None]]) -> int:
    """Run it in a process of its own; how that ended, as os.waitstatus_to_exitcode has it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        trio.run(work)
    except BaseException:  # noqa: BLE001 - this process ends here, whatever it was
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main(directory: Path) -> None:
    """Count the writes of a whole life, then kill lives at some of them and let each go on to its end."""
    made = directory / "made"
    made.mkdir()
    assert process(lambda: furnish(made)) == 0
    shutil.copytree(made, directory / "whole")
    count = Death(None)

    async def whole() -> None:
        await live(directory / "whole", count)
        acknowledge(directory, "writes", str(count.writes))

    assert process(whole) == 0
    writes = int(told(directory)["writes"])
    for at in range(1, writes + 1, max(1, writes // KILLS)):
        there = directory / str(at)
        shutil.copytree(made, there)
        ended = process(lambda there=there, at=at: live(there, Death(at)))  # type: ignore[misc]
        assert ended in {-signal.SIGKILL, 0}, f"write {at} of {writes}: ended with {ended}"
        if ended == 0:
            continue  # it had fewer writes than the first one: what is committed together is up to the moment
        sys.stdout.write(" ".join([str(at), *told(there)]) + "\n")
        assert process(lambda there=there: live(there, Death(None))) == 0, f"write {at} of {writes}"  # type: ignore[misc]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
