"""The agent as a daemon: round after round, for ever.

Between two rounds it sleeps until the next job is due, and never long: a machine that was suspended, or whose clock was
set, is noticed soon. No connection and no file of the catalog is open meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Never

import trio

from lnstore.client.agent.rounds import Ran, Round, Session, work_off
from lnstore.client.profile import Profile, ProfileBusy
from lnstore.config import ClientConfig, ConfigError
from lnstore.errors import LnstoreError
from lnstore.ports import Clock

LOOK_SECONDS = 300
BUSY_SECONDS = 60
"""How soon it looks again whether whoever writes with the profile has ended."""


async def run_agent(
    profile: Profile,
    session: Session,
    clock: Clock,
    *,
    tell: Callable[[Ran], None],
    after: Callable[[Round], None],
    warn: Callable[[str], None],
    sleep: Callable[[float], Awaitable[None]] = trio.sleep,
) -> Never:
    """Work until cancelled. The profile's settings are read anew before each round.

    `tell` hears of each job, `after` of each round, `warn` of what kept it from one.
    """
    while True:
        wait_seconds = LOOK_SECONDS
        try:
            profile.config = ClientConfig.load(profile.directory)
        except ConfigError as exc:
            warn(f"{exc}; the settings that it had go on to hold")
        try:
            done = await work_off(profile, session, tell)
        except ProfileBusy as exc:
            warn(str(exc))
            wait_seconds = BUSY_SECONDS
        except LnstoreError as exc:
            warn(str(exc))
        else:
            after(done)
            if done.next_at is not None:
                wait_seconds = min(max(done.next_at - clock.now(), 1), LOOK_SECONDS)
        await sleep(wait_seconds)
