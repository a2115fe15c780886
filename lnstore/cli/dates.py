"""`--from` and `--to`: spans of time by dates in UTC."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_FORMS = ("%Y-%m-%d", "%Y-%m", "%Y", "%Y-%m-%dT%H:%M:%S")


class Date(click.ParamType[int]):
    """A date (or month, year, or time to the second), UTC, as Unix seconds of its beginning."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The beginning of what was written."""
        if isinstance(value, int):
            return value
        for form in _FORMS:
            try:
                return int(datetime.strptime(value, form).replace(tzinfo=UTC).timestamp())
            except ValueError:
                continue
        return self.fail(f"{value!r} is no date: write 2026-12-31, 2026-12 or 2026-12-31T23:59:59, in UTC", param, ctx)


def span_options(function: F) -> F:
    """`--from` (inclusive) and `--to` (exclusive)."""
    until = click.option("--to", "until_at", type=Date(), metavar="DATE", help="Before this date (UTC), exclusive.")
    since = click.option("--from", "from_at", type=Date(), metavar="DATE", help="From this date (UTC) on, inclusive.")
    return since(until(function))


def day(at: int) -> str:
    """`2026-12-31`, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
