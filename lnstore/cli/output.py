"""What all commands share: --json, --profile, running trio, and how quantities are written for people."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

WIDE_COLUMNS = 240
"""Tables for files and pipes are not folded to a terminal's width."""

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """`--json`: one JSON object (or, where documented, one per line) on standard output."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(function)


def lightning_option(function: F) -> F:
    """`--lightning simulated|core`: what a development network runs on."""
    return click.option(
        "--lightning",
        type=click.Choice(["simulated", "core"]),
        default="simulated",
        show_default=True,
        help="core: bitcoind and lightningd from PATH, on regtest.",
    )(function)


def profile_option(function: F) -> F:
    """`--profile DIR` or LNSTORE_HOME; the default is the platform's data directory."""
    return click.option(
        "--profile",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="LNSTORE_HOME",
        help="Profile directory (default: $LNSTORE_HOME, else the XDG data directory).",
    )(function)


class _Secret(click.ParamType[str]):
    """A capability or an invitation: the arguments of a running command are for all on this machine to see."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value != "-":
            return str(value)
        if not (line := sys.stdin.readline().strip()):
            self.fail("standard input has no first line", param, ctx)
        return line


SECRET_TEXT = _Secret()
"""`-` stands for the first line of standard input, where nobody else sees it."""


class _Moment(click.ParamType[int]):
    """A day or a time, UTC unless it says otherwise, as Unix seconds; a day, hour or minute stands for its end."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            moment = datetime.fromisoformat(value.removesuffix(" UTC"))
        except ValueError:
            self.fail(f"{value!r} is no day or time like 2026-11-25 or 2026-11-25T18:00", param, ctx)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        _, *times = re.split("[T ]", value.removesuffix(" UTC"), maxsplit=1)
        digits = len(re.sub("[^0-9]", "", re.split("[-+Z]", times[0])[0])) if times else 0
        return int(moment.timestamp()) + {0: 86_400, 2: 3600, 4: 60}.get(digits, 1) - 1


MOMENT = _Moment()


def at_option(function: F) -> F:
    """`--at TIME`: a folder as it was then."""
    return click.option("--at", type=MOMENT, metavar="TIME", help="A folder as it was then (2026-11-25[T18:00], UTC).")(
        function
    )


def profile_directory(given: Path | None) -> Path:
    """The profile directory to use."""
    from lnstore.client.profile import default_directory

    return default_directory() if given is None else given


def run(function: Callable[[], Awaitable[T]]) -> T:
    """Run a command's async part."""
    import trio

    return trio.run(function)


async def unless_terminated(function: Callable[[], Awaitable[T]]) -> T:
    """What the function returns; SIGTERM ends it in order, as Ctrl-C does, with click.Abort."""
    import signal

    import trio

    results: list[T] = []

    async def work(scope: trio.CancelScope) -> None:
        results.append(await function())
        scope.cancel()

    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, nursery.cancel_scope)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                break
    if not results:
        raise click.Abort
    return results[0]


def print_json(value: Any) -> None:
    """One line of JSON; bytes as hex."""
    click.echo(json.dumps(value, default=lambda v: v.hex() if isinstance(v, bytes) else str(v)))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output; columns of numbers (their name ends in a unit, or a # that is not shown) go right.

    What is in a cell may be anybody's: it is shown, and means nothing to the terminal nor to what draws the table.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE_COLUMNS)

    drawn = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column.endswith(("#", "sat", "msat", "size", "used", "capacity", "MB/s", "paid", "shares"))
        drawn.add_column(column.removesuffix(" #"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    console.print(drawn)


def printable(name: str) -> str:
    """A name for a terminal: nothing in it moves the cursor or breaks the line."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)


def printable_lines(text: str) -> str:
    """The same for a message of several lines."""
    return "\n".join(printable(line) for line in text.split("\n"))


def counted(count: int, what: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def human_msat(amount: int) -> str:
    """`40 sat`, `40.250 sat`, `12 msat`."""
    if amount % 1000 == 0:
        return f"{amount // 1000:,} sat"
    return f"{amount / 1000:,.3f} sat" if abs(amount) >= 1000 else f"{amount} msat"


CALENDARS_END_AT = 253_402_300_800
"""The first second of the year 10000."""


def human_time(at: int) -> str:
    """`2026-12-22 10:00 UTC`. The other side may have written any number: what no calendar has is far away."""
    if at >= CALENDARS_END_AT:
        return "after the year 9999"
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def pairs(values: Mapping[str, str]) -> None:
    """Aligned `name: value` lines."""
    width = max((len(k) for k in values), default=0) + 1
    for key, value in values.items():
        click.echo(f"{key + ':':<{width}} {printable(value)}")


def progress_lines(subject: str, *, as_json: bool) -> Callable[[str], None]:
    """Tells a person on a terminal what is waited for; silent for programs."""

    def tell(text: str) -> None:
        if not as_json:
            click.echo(f"{subject}: {text}", err=True)

    return tell


def seconds_argument(text: str, hint: str) -> int:
    """A length of time a person wrote, in seconds; a usage error names the argument."""
    from lnstore.config import parse_seconds

    try:
        return parse_seconds(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint=hint) from exc


def size_argument(text: str, hint: str) -> int:
    """A size a person wrote, in bytes; a usage error names the argument."""
    from lnstore.config import parse_bytes

    try:
        return parse_bytes(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint=hint) from exc
