"""Progress bars on standard error, for people on a terminal; silent elsewhere. They leave nothing behind."""

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

TITLE_CELLS = 30


class _Bar:
    """client.progress.Progress, drawn by rich."""

    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def start(self, total_bytes: int | None) -> None:
        self._bars.reset(self._task, total=total_bytes, shares=0)
        if total_bytes != 0:
            self._bars.update(self._task, completed=1)  # the rate is measured from the first change on: from now

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
    from rich.table import Column

    from lnstore.cli.output import printable

    title_column = Column(max_width=TITLE_CELLS, no_wrap=True, overflow="ellipsis")
    with widgets.Progress(
        widgets.TextColumn("{task.description}", markup=False, table_column=title_column),
        widgets.BarColumn(),
        widgets.DownloadColumn(binary_units=True),
        widgets.TransferSpeedColumn(),
        widgets.TimeRemainingColumn(),
        widgets.TextColumn("{task.fields[shares]} shares"),
        console=Console(stderr=True),
        refresh_per_second=REFRESHES_PER_SECOND,
        transient=True,
    ) as bars:
        yield _Bar(bars, bars.add_task(printable(title), total=None, shares=0))


def pace(bytes_done: int, seconds: float) -> str:
    """How long it took and how fast that was, for the line at the end."""
    rate = bytes_done / seconds / 1e6 if seconds else 0.0
    return f"in {seconds:.1f} s, {rate:.1f} MB/s"
