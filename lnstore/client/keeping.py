"""Which snapshots of a folder are kept when others are forgotten: pure, after restic's `forget`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

_Bucket = Callable[[datetime], object]


@dataclass(frozen=True, slots=True)
class Keep:
    """How many to keep: the last ones, and the newest of each of the last days, weeks, months and years that have one.

    All in UTC; weeks begin on Monday. ValueError for a negative number, or when nothing would be kept.
    """

    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0

    def __post_init__(self) -> None:
        if min(self.last, self.daily, self.weekly, self.monthly, self.yearly) < 0:
            raise ValueError("a number of snapshots to keep is negative")
        if not any((self.last, self.daily, self.weekly, self.monthly, self.yearly)):
            raise ValueError("say what to keep, lest everything be forgotten")

    def kept(self, taken_at: Iterable[int]) -> set[int]:
        """Those of the times (Unix seconds) that are kept."""
        times = sorted(set(taken_at), reverse=True)
        kept = set(times[: self.last])
        for count, bucket in (
            (self.daily, lambda day: day.date()),
            (self.weekly, lambda day: day.isocalendar()[:2]),
            (self.monthly, lambda day: (day.year, day.month)),
            (self.yearly, lambda day: day.year),
        ):
            kept |= _newest_of_each(times, bucket, count)
        return kept


def _newest_of_each(times: list[int], bucket: _Bucket, count: int) -> set[int]:
    newest: dict[object, int] = {}
    for at in times:
        which = bucket(datetime.fromtimestamp(at, UTC))
        if which not in newest:
            if len(newest) == count:
                break
            newest[which] = at
    return set(newest.values())
