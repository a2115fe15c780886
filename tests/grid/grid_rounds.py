"""Rounds of a client's life on a grid where something breaks in every phase, and what has to hold all the same.

A phase is a command during which trouble comes, then the same command with nothing in its way, then what holds. What
the nodes really have is read from their disks, and what the client says is held against it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from grid_money import check_money
from grid_world import BUDGET_MSAT, CAPACITY, DAMAGES, HAPPY, KILLED, Finished, Grid, Kind, Trouble, grid_address

from lnstore.client.scores import SUSPENDED_BELOW
from lnstore.errors import ExitCode

MONTH_SECONDS = 30 * 86_400
SIZES = (0, 1, 2_000, 50_000, 300_000, 1_500_000)
MOST_FILES = 5
TRAFFIC_BYTES = {
    "put": 1_200_000,
    "get": 400_000,
    "rent": 60_000,
    "check": 400_000,
    "repair": 600_000,
    "recover": 100_000,
}
"""What passes in a phase, about; trouble comes within it."""


@dataclass(slots=True)
class Rounds:
    """A client's life on `grid`. `stored` is what has to come back, by name."""

    grid: Grid
    random: Random
    stored: dict[str, bytes] = field(default_factory=dict)
    told: Counter[str] = field(default_factory=Counter)
    _number: int = 0
    _anew: Counter[str] = field(default_factory=Counter)
    """How often an account was rented anew after it had lapsed, by petname."""
    _unpaid: dict[str, str] = field(default_factory=dict)
    """Who could not be paid the last time, and why."""

    async def round(self) -> None:
        """Everything once, with trouble in each phase."""
        for phase in ("put", "put", "get", "rent", "damage", "get", "check", "repair", "rent", "recover"):
            match phase:
                case "put":
                    await self.put(self._trouble(phase))
                case "get":
                    await self.get(self._trouble(phase))
                case "rent":
                    await self.rent(self._trouble(phase))
                case "check":
                    await self.check(self._trouble(phase))
                case "repair":
                    await self.repair(self._trouble(phase))
                case "recover":
                    await self.recover(self._trouble(phase))
                case _:
                    await self._damage(self.random.choice((0, 1, 1, 2, 2, 3)))
        await self.verify()

    def _trouble(self, phase: str) -> Trouble | None:
        """Trouble of any kind, at the start of a phase or somewhere within it; now and then none."""
        if self.random.random() < 0.1:
            return None
        kind = self.random.choice(list(Kind))
        within = self.random.randrange(1, TRAFFIC_BYTES[phase])
        from_the_start = kind is not Kind.KILL_CLIENT and self.random.random() < 0.5
        return Trouble(kind, self.random.randrange(len(self.grid.net.nodes)), 0 if from_the_start else within)

    # --- phases -----------------------------------------------------------------------------------------------------

    async def put(self, trouble: Trouble | None, size_bytes: int | None = None) -> None:
        """A file. Whatever happened, the same command finishes it, and no node takes a share twice."""
        self._number += 1
        name = f"file{self._number}"
        data = self.random.randbytes(self.random.choice(SIZES) if size_bytes is None else size_bytes)
        path = self.grid.net.directory / name
        path.write_bytes(data)
        leased, taken = self.grid.leases(), self.grid.puts_taken()
        done = await self.grid.run("put", str(path), "--json", trouble=trouble)
        self._note("put", done, {ExitCode.DATA, ExitCode.NODE})
        if not self.grid.catalog("SELECT 1 FROM files WHERE name = ? AND complete", name):
            assert done.code != 0
            again = await self.grid.run("put", str(path), "--json")
            if again.code and await self._too_few_nodes():  # said, and nothing is counted as stored
                assert again.err
                self.told["put: too few nodes"] += 1
                return
            assert again.code == 0, again.err
        path.unlink()
        self.stored[name] = data
        if trouble is None or trouble.kind not in DAMAGES:
            new = [len(after - before) for before, after in zip(leased, self.grid.leases(), strict=True)]
            sent = [after - before for before, after in zip(taken, self.grid.puts_taken(), strict=True)]
            assert all(a <= b for a, b in zip(sent, new, strict=True)), (sent, new)

    async def get(self, trouble: Trouble | None) -> None:
        """A file during trouble: all of it or an error, and all of it if enough shares are whole without that node."""
        if not self.stored:
            return
        name = self.random.choice(sorted(self.stored))
        spare = [] if trouble is None or trouble.kind is Kind.KILL_CLIENT else [trouble.node]
        has_to = self._readable(without=spare)[name]
        await self._read(name, has_to=has_to, trouble=trouble)

    async def rent(self, trouble: Trouble | None) -> None:
        """A month passes. Who has everything is paid, once; who lost all is not and is named."""
        self.grid.net.clock.advance(MONTH_SECONDS)
        done = await self.grid.run("rent", "pay", "--json", trouble=trouble)
        self._note("rent", done, {ExitCode.NODE, ExitCode.PAYMENT, ExitCode.DATA})
        await self._pay()
        for petname, error in self._unpaid.items():
            if "has lapsed" in error:  # what could not be repaired was not proved, hence not paid
                await self.grid.well("rent", "buy", petname, CAPACITY, "--json")
                self.told["rent: lapsed, rented anew"] += 1
                self._anew[petname] += 1

    async def _pay(self) -> None:
        """Pay all rent undisturbed."""
        done = await self.grid.run("rent", "pay", "--json")
        self._note("rent", done, {ExitCode.NODE, ExitCode.PAYMENT, ExitCode.DATA})
        answers = {one["node"]: one for one in done.answers if "paid_until_at" in one}
        lost, wiped = {node_id for node_id, _ in self.grid.lost()}, self._wiped()
        for node_id, petname in self._petnames().items():
            answer = answers[petname]
            if node_id not in lost:
                assert answer["ok"], answer
                assert answer["paid_until_at"] > self.grid.net.clock.now()
            elif node_id in wiped:
                assert not answer["paid"], answer
                if not answer["ok"]:  # else the month was paid before
                    # Where tokens end, it is the reading for new ones that fails.
                    known = ("has lapsed", "can be proven no more")
                    assert answer["fault"] or any(words in answer["error"] for words in known), answer
                    self.told["rent: loss named"] += 1
        self._unpaid = {petname: answer["error"] for petname, answer in answers.items() if not answer["ok"]}

    async def _damage(self, nodes: int) -> None:
        """So many nodes lose what they have, one way or the other."""
        for node in self.random.sample(range(len(self.grid.net.nodes)), nodes):
            await self.grid.befall(Trouble(self.random.choice(DAMAGES), node, 0))

    async def check(self, trouble: Trouble | None) -> None:
        """Nothing is called lost that is there; undisturbed, everything that is lost is named."""
        done = await self.grid.run("check", "--verify", "--json", trouble=trouble)
        self._note("check", done, {ExitCode.DATA, ExitCode.NODE})
        if done.code != KILLED:
            assert self._named(done) <= self.grid.lost()
        if trouble is not None or self._named(done) != self.grid.lost():
            await self._check_all()

    async def repair(self, trouble: Trouble | None) -> None:
        """What can be put together is stored elsewhere; what cannot is named, and given up."""
        await self._check_all()
        if not self.grid.lost():
            return
        done = await self.grid.run("repair", "--all", "--json", trouble=trouble)
        self._note("repair", done, {ExitCode.DATA, ExitCode.NODE})
        if self.grid.lost():
            await self._check_all()  # trouble may have cost more shares
            again = await self.grid.run("repair", "--all", "--json")
            assert again.code in {0, ExitCode.DATA}, again.err
            refused = [one for one in again.answers if not one["ok"]]
            assert (again.code == ExitCode.DATA) == bool(refused)
            assert all(one["reason"] for one in refused)
            # Who lost shares with an account that lapsed is none of the catalog's any more.
            lost = {(one["from"], one["share_id"]) for one in refused if one["from"] is not None}
            assert {(node.hex(), share.hex()) for node, share in self.grid.lost()} == lost, again.answers
            self.told["repair: could not"] += len(lost)
        await self._give_up()
        if self._unpaid:
            await self._pay()

    async def recover(self, trouble: Trouble | None) -> None:
        """On an empty machine, from the words and the addresses of two nodes."""
        made = await self.grid.run("backup", "--json")
        if made.code:
            assert await self._too_few_nodes(), made.err
            return
        addresses = [grid_address(self.grid, node) for node in self.random.sample(range(len(self.grid.net.nodes)), 2)]
        old = self.grid.home
        for attempt in (trouble, None):
            self._number += 1
            self.grid.home = old.with_name(f"home{self._number}")
            words = ("recover", *self.grid.settings, *addresses, "--json")
            done = await self.grid.run(*words, stdin=f"{self.grid.words}\n".encode(), trouble=attempt)
            self._note("recover", done, {ExitCode.NODE, ExitCode.DATA})
            if done.code == 0:
                self.told["recovered"] += 1
                names = {str(name) for (name,) in self.grid.catalog("SELECT name FROM files WHERE complete")}
                assert {name for name in names if not name.startswith(":")} == set(self.stored), names
                return
        assert not any(self._readable().values()), done.err

    # --- after each round -------------------------------------------------------------------------------------------

    async def verify(self) -> None:
        """Every file with enough whole shares reads back, of every other one this is said; all ledgers agree."""
        await self._give_up()
        for name in self.stored:
            await self._read(name, has_to=True)
        while len(self.stored) > MOST_FILES:
            name = next(iter(self.stored))
            await self.grid.well("rm", name)
            del self.stored[name]
        paid = await check_money(self.grid.net, self.grid.home, self._anew)
        assert sum(paid.values()) <= BUDGET_MSAT

    async def over_budget(self) -> None:
        """What the budget does not allow is refused before anything is asked for."""
        paid = await check_money(self.grid.net, self.grid.home, self._anew)
        done = await self.grid.run(
            "rent", "buy", self._petnames().popitem()[1], CAPACITY, "--deposit", str(BUDGET_MSAT), "--json"
        )
        assert done.code == ExitCode.PAYMENT, (done.code, done.out, done.err)
        assert await check_money(self.grid.net, self.grid.home, self._anew) == paid

    # --- parts ------------------------------------------------------------------------------------------------------

    async def _give_up(self) -> None:
        """Files that cannot be read: that is said, and they are removed."""
        readable = self._readable()
        for name in [name for name in self.stored if not readable[name]]:
            await self._read(name, has_to=False)
            await self.grid.well("rm", name)
            del self.stored[name]
            self.told["file lost, and said so"] += 1

    async def _read(self, name: str, *, has_to: bool, trouble: Trouble | None = None) -> None:
        target = self.grid.net.directory / "copy"
        done = await self.grid.run("get", name, "-o", str(target), "--json", trouble=trouble)
        self._note("get", done, {ExitCode.DATA, ExitCode.NODE})
        if has_to:
            assert done.code in {0, KILLED}, (name, done.err)
        if done.code == 0:
            assert target.read_bytes() == self.stored[name], name
        if target.exists():  # whole also when the client was killed just after
            assert target.read_bytes() == self.stored[name], name
            target.unlink()

    async def _check_all(self) -> None:
        done = await self.grid.run("check", "--verify", "--json")
        assert done.code in {0, ExitCode.DATA}, done.err
        (told,) = done.answers
        lost = self.grid.lost()
        assert told["silent"] == []
        assert self._named(done) == lost
        assert (done.code == 0) == (not lost)
        self.told["check: shares named"] += len(lost)
        for file in told["files"]:
            assert (file["spare"] >= 0) == self._readable()[file["name"]], file

    def _named(self, done: Finished) -> set[tuple[bytes, bytes]]:
        return {
            (bytes.fromhex(loss["node_id"]), bytes.fromhex(loss["share_id"]))
            for answer in done.answers
            for file in answer["files"]
            for loss in file["lost"]
        }

    def _readable(self, *, without: Sequence[int] = ()) -> dict[str, bool]:
        names: dict[Any, str] = dict(self.grid.catalog("SELECT file_id, name FROM files WHERE complete"))
        return {names[file_id]: fine for file_id, fine in self.grid.readable(without=without).items()}

    def _wiped(self) -> set[bytes]:
        """Nodes that have lost every share which the catalog counts on."""
        lost = self.grid.lost()
        placed = {(node, share) for places in self.grid.placed().values() for node, share, _, _ in places}
        return {node for node, _ in placed if {one for one in placed if one[0] == node} <= lost}

    def _petnames(self) -> dict[bytes, str]:
        return dict(self.grid.catalog("SELECT node_id, petname FROM nodes WHERE agreement IS NOT NULL"))

    async def _too_few_nodes(self) -> bool:
        listed = (await self.grid.well("nodes", "ls", "--json")).answers
        return sum(int(one["score"]) >= SUSPENDED_BELOW for one in listed) < HAPPY

    def _note(self, phase: str, done: Finished, expected: set[ExitCode]) -> None:
        """Whatever came: one of the exit codes that the phase may have, and words for what is not 0."""
        assert done.code in {0, KILLED, *expected}, (phase, done.code, done.err)
        if done.code not in {0, KILLED}:
            assert done.err or done.out, phase
        name = "well" if done.code == 0 else "killed" if done.code == KILLED else ExitCode(done.code).name
        self.told[f"{phase}: {name}"] += 1
