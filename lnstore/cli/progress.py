"""Progress bars on standard error, for people on a terminal; silent elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lnstore.client.progress import NoProgress, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

REFRESHES_PER_SECOND = 4
"""Drawing competes with the transfer for the processor."""


class _Bar:
    """client.progress.Progress, drawn by rich."""

    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def start(self, total_bytes: int | None) -> None:
        self._bars.update(self._task, total=total_bytes)

    def advance(self, bytes_done: int, shares_done: int) -> None:
        self._bars.update(self._task, completed=bytes_done, shares=shares_done)


@contextmanager
def transfer_bar(title: str, *, quiet: bool) -> Iterator[Progress]:
    """A bar with size, rate and time left while the block runs; nothing with `quiet` or when nobody looks."""
    import sys

    if quiet or not sys.stderr.isatty():
        yield NoProgress()
        return
    from rich import progress as widgets
    from rich.console import Console

    with widgets.Progress(
        widgets.TextColumn("{task.description}"),
        widgets.BarColumn(),
        widgets.DownloadColumn(binary_units=True),
        widgets.TransferSpeedColumn(),
        widgets.TimeRemainingColumn(),
        widgets.TextColumn("{task.fields[shares]} shares"),
        console=Console(stderr=True),
        refresh_per_second=REFRESHES_PER_SECOND,
    ) as bars:
        yield _Bar(bars, bars.add_task(title, total=None, shares=0))
