"""The agent between its rounds: how long it sleeps, what it reads anew, what does not end it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from agent_world import DAY, AgentWorld, open_agent_world
from money_world import START

from lnstore.client.agent import rounds
from lnstore.client.agent.daemon import BUSY_SECONDS, LOOK_SECONDS, run_agent
from lnstore.client.agent.rounds import Round
from lnstore.client.profile import lock_file
from lnstore.config import CLIENT_FILE


class Enough(Exception):
    """Ends what would run for ever."""


class Life:
    """A daemon whose sleep moves the clock; `between` is called at each, and ends it by Enough."""

    def __init__(self, world: AgentWorld) -> None:
        self.world = world
        self.slept: list[float] = []
        self.rounds: list[Round] = []
        self.warned: list[str] = []

    async def run(self, between: Callable[[], None]) -> None:
        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            self.world.clock.at += int(seconds)
            between()

        with suppress(Enough):
            await run_agent(
                self.world.profile,
                self.world.session,
                self.world.clock,
                tell=self.world.ran.append,
                after=self.rounds.append,
                warn=self.warned.append,
                sleep=sleep,
            )


async def test_it_never_sleeps_long_and_works_when_something_is_due(tmp_path: Path) -> None:
    """A day of it: a machine that was suspended is noticed in minutes."""
    async with open_agent_world(tmp_path, 2) as world:
        life = Life(world)

        def between() -> None:
            if world.clock.at > START + DAY:
                raise Enough

        await life.run(between)
        assert (max(life.slept), life.warned) == (LOOK_SECONDS, [])
        assert all(1 <= seconds <= LOOK_SECONDS for seconds in life.slept)
        assert 2 <= sum((ran.kind, ran.petname) == ("rent", "n0") for ran in world.ran) <= 3
        # A round that does nothing comes before each long sleep only.
        assert sum(bool(done.ran) for done in life.rounds) < 15


async def test_settings_are_read_anew_and_bad_ones_do_not_end_it(tmp_path: Path) -> None:
    async with open_agent_world(tmp_path, 1, total=1) as world:
        life = Life(world)
        file = world.profile.directory / CLIENT_FILE
        good = file.read_text()
        steps = [
            good.replace('rent_every = "12h"', 'rent_every = "1h"'),
            good.replace('rent_every = "12h"', 'rent_every = "never"'),
        ]
        seen = []

        def between() -> None:
            seen.append(world.profile.config.agent.rent_every)
            if not steps:
                raise Enough
            file.write_text(steps.pop(0))

        await life.run(between)
        assert seen == [12 * 3600, 3600, 3600]
        (warned,) = life.warned
        assert "'never' is not a length of time" in warned
        assert "the settings that it had go on to hold" in warned


async def test_it_looks_again_soon_while_another_process_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "WRITER_PATIENCE_SECONDS", 0.0)
    async with open_agent_world(tmp_path, 1, total=1) as world:
        life = Life(world)
        other = lock_file(world.profile.directory / "profile.lock", 0)
        assert other is not None

        def between() -> None:
            if len(life.slept) == 2:
                os.close(other)
            if len(life.slept) == 3:
                raise Enough

        await life.run(between)
        assert life.slept[:2] == [BUSY_SECONDS, BUSY_SECONDS]
        assert [text.split(";")[0] for text in life.warned] == [
            f"another lnstore process is writing with the profile in {world.profile.directory}"
        ] * 2
        assert [bool(done.ran) for done in life.rounds] == [True]
