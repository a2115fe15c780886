"""Which snapshots of a folder are kept when others are forgotten: pure, after restic's `forget`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass
from datetime import UTC, datetime

_Bucket = Callable[[datetime], object]

UNLIMITED = 1 << 62
"""As many as there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How many to keep: the last ones, and the newest of each of the last hours, days … and years that have one.

    Where there are fewer hours, days … or years than asked for, the oldest snapshot is kept besides, so that the
    history reaches as far back as it can. `within_seconds` keeps all that are not older than that before the newest.
    All in UTC; weeks begin on Monday. ValueError for a negative number, or when nothing would be kept.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within_seconds: int = 0

    def __post_init__(self) -> None:
        if min(astuple(self)) < 0:
            raise ValueError("a number of snapshots to keep is negative")
        if not any(astuple(self)):
            raise ValueError("say what to keep, lest everything be forgotten")

    def kept(self, taken_at: Iterable[int]) -> dict[int, tuple[str, ...]]:
        """Those of the times (Unix seconds) that are kept, newest first, and what for."""
        times = sorted(set(taken_at), reverse=True)
        why: dict[int, list[str]] = {}
        for at in times[: self.last]:
            why.setdefault(at, []).append("last")
        for name, count, bucket in (
            ("hourly", self.hourly, lambda hour: (hour.date(), hour.hour)),
            ("daily", self.daily, lambda day: day.date()),
            ("weekly", self.weekly, lambda day: day.isocalendar()[:2]),
            ("monthly", self.monthly, lambda day: (day.year, day.month)),
            ("yearly", self.yearly, lambda day: day.year),
        ):
            for at in _newest_of_each(times, bucket, count):
                why.setdefault(at, []).append(name)
        for at in times:
            if self.within_seconds and at >= times[0] - self.within_seconds:
                why.setdefault(at, []).append("within")
        return {at: tuple(why[at]) for at in times if at in why}


def _newest_of_each(times: list[int], bucket: _Bucket, count: int) -> list[int]:
    newest: dict[object, int] = {}
    for at in times:
        if len(newest) < count:
            newest.setdefault(bucket(datetime.fromtimestamp(at, UTC)), at)
    kept = list(newest.values())
    if times and len(kept) < count and times[-1] not in kept:
        kept.append(times[-1])
    return kept
