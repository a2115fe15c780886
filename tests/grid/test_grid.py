"""Ten node processes that are killed, silent, wiped, corrupted and slow in every phase, and what holds all the same.

Files with enough whole shares read back, of every other one this is said; nobody is paid twice; all ledgers agree.

`just grid ROUNDS SEED` runs this for long. What breaks when follows from the seed; keys, and with them which node gets
which share, do not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest
from grid_rounds import Rounds
from grid_world import Grid, Kind, Trouble, open_grid

from lnstore.devnet import short_directory

NODES = 10
FEWEST = 7
"""Enough to repair what two of the five holders lost while a third does not answer."""

ROUNDS = int(os.environ.get("LNSTORE_GRID", "0"))
SEED = int(os.environ.get("LNSTORE_GRID_SEED") or Random().randrange(10**6))


@asynccontextmanager
async def rounds(seed: int, tell: Callable[[str], None], nodes: int = NODES) -> AsyncIterator[Rounds]:
    directory = short_directory("lng-")
    random = Random(seed)
    try:
        async with open_grid(directory, random, nodes=nodes, tell=tell) as grid:
            yield Rounds(grid, random)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def holders(grid: Grid) -> list[int]:
    """The nodes that hold segments of the one file."""
    (places,) = grid.placed().values()
    numbers = {node.running_address.node_id: number for number, node in enumerate(grid.net.nodes)}
    return sorted({numbers[node_id] for node_id, _, segment, _ in places if segment >= 0})


async def test_trouble_in_every_phase() -> None:
    """Each kind of it once: a put is killed, a silent and a wiped node are read around, what is lost is repaired."""
    async with rounds(1, lambda _: None, nodes=FEWEST) as one:
        grid = one.grid
        await one.put(Trouble(Kind.KILL_CLIENT, 0, 200_000), 300_000)
        wiped, silent, corrupted, slow, killed = holders(grid)
        await grid.befall(Trouble(Kind.WIPE, wiped, 0))
        await one.get(Trouble(Kind.SILENCE, silent, 20_000))
        await grid.befall(Trouble(Kind.CORRUPT, corrupted, 0))
        lost = len(grid.lost())
        await one.repair(Trouble(Kind.KILL, killed, 100_000))
        await one.rent(Trouble(Kind.SLOW, slow, 0))
        await one.verify()
        assert one.told["check: shares named"] >= lost >= 2
        assert one.told["file lost, and said so"] == 0
        assert set(grid.happened) == {"client killed", "silent", "killed", "slow"}


@pytest.mark.skipif(not ROUNDS, reason="takes half a minute a round: just grid ROUNDS")
async def test_rounds() -> None:
    """Everything in every phase, for as many rounds as were asked for."""

    def tell(text: str) -> None:
        print(text, flush=True)  # noqa: T201 - the run takes long and is watched

    tell(f"seed {SEED}")
    async with rounds(SEED, tell) as many:
        for number in range(ROUNDS):
            tell(f"--- seed {SEED}, round {number + 1} of {ROUNDS}")
            await many.round()
        await many.over_budget()
        tell(f"commands: {many.grid.commands}")
        for what, count in sorted({**many.told, **many.grid.happened}.items()):
            tell(f"{what}: {count}")
