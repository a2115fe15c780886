"""Live tests have a deadline: a daemon that hangs fails the test that waits for it, and does not hang the run.

`@pytest.mark.live(seconds=600)` gives a test more time than the usual. A test that does not notice its deadline
(a thread of it hangs) ends the whole run a little later, with the stacks of all threads; the daemons end with it.
"""

from __future__ import annotations

import faulthandler
import functools
import inspect
import os
from collections.abc import Generator
from typing import Any

import pytest
import trio

LIVE_SECONDS = 240.0
"""For a live test; the longest of the usual ones takes a tenth of it."""
HANGING_SECONDS = 150.0
"""How much later a run is ended whose test went on regardless, or whose fixtures hang."""

_STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Keeps the run's own standard error, which is not captured yet."""
    config.stash[_STDERR] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_STDERR])


def _seconds(item: pytest.Item) -> float | None:
    """The deadline of a live test; None for any other."""
    marker = item.get_closest_marker("live")
    return None if marker is None else float(marker.kwargs.get("seconds", LIVE_SECONDS))


def _bounded(test: Any, seconds: float) -> Any:
    @functools.wraps(test)
    async def run(**fixtures: Any) -> None:
        with trio.fail_after(seconds):
            await test(**fixtures)

    return run


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        seconds = _seconds(item)
        if seconds is not None and isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = _bounded(item.obj, seconds)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    seconds = _seconds(item)
    if seconds is None:
        return (yield)
    faulthandler.dump_traceback_later(seconds + HANGING_SECONDS, exit=True, file=item.config.stash[_STDERR])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
