"""What a run found, by requirement."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from lnstore_protocol.conformance.verdict import Entry

SHOWN_ENTRIES = 6
PASSED_ENTRIES = 2
"""How many entries a person is shown: the last before a failure; what was asked and answered before a success."""

JSON_ENTRIES = 200
"""How many of a check's last entries --json has."""

LETTERS = ("C", "T", "M", "MA", "MB", "P", "F", "R", "D", "RC", "RA", "RP", "RI", "E", "S", "V")
"""Of the specification's documents, in their order."""

_NUMBER = re.compile(r"([A-Z]+)-([WR])([0-9]+)")


class Outcome(Enum):
    """What is said of a requirement, or of one check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Result:
    """One check: what it is, how it ended, and the bytes."""

    name: str
    title: str
    requirements: tuple[str, ...]
    outcome: Outcome
    broken: str | None = None
    """The requirement that failed; it need not be one of `requirements`."""
    reached: Mapping[str, int] = field(default_factory=dict)
    """Requirements that were seen to hold, and after how many of the entries."""
    text: str = ""
    entries: tuple[Entry, ...] = field(default=(), repr=False)

    def entries_of(self, requirement: str, *, verbose: bool) -> tuple[Entry, ...]:
        """The last entries before the requirement was seen to hold."""
        end = self.reached.get(requirement, len(self.entries))
        return self.entries[max(0, end - (SHOWN_ENTRIES if verbose else PASSED_ENTRIES)) : end]


@dataclass(frozen=True, slots=True)
class Line:
    """What is said of one requirement."""

    requirement: str
    outcome: Outcome
    text: str
    results: tuple[Result, ...] = field(repr=False)
    shown: Result | None = field(default=None, repr=False)
    """The one whose bytes show it."""


def order(requirement: str) -> tuple[int, str, int]:
    """Sorts requirements as the documents have them."""
    match = _NUMBER.fullmatch(requirement)
    if match is None:
        return len(LETTERS), requirement, 0
    return LETTERS.index(match[1]), match[2], int(match[3])


class Report:
    """All results of a run. `unchecked` says of further requirements why no check tries them."""

    def __init__(self, subject: str, results: Iterable[Result], unchecked: Mapping[str, str]) -> None:
        self.subject = subject
        self.results = tuple(results)
        self._unchecked = unchecked

    @property
    def lines(self) -> list[Line]:
        """One per requirement, in the order of the documents."""
        named = {requirement for result in self.results for requirement in result.requirements}
        named |= {result.broken for result in self.results if result.broken is not None}
        return [self._line(r) for r in sorted({*named, *self._unchecked}, key=order)]

    def _line(self, requirement: str) -> Line:
        tried = tuple(r for r in self.results if requirement in r.requirements or r.broken == requirement)
        if failed := [r for r in tried if r.broken == requirement]:
            return Line(requirement, Outcome.FAILED, failed[0].text, tried, failed[0])
        passed = [r for r in tried if r.outcome is Outcome.PASSED or requirement in r.reached]
        if passed:
            return Line(requirement, Outcome.PASSED, passed[0].title, tried, passed[0])
        why = next((r.text if r.outcome is Outcome.NOT_APPLICABLE else f"{r.broken} failed first" for r in tried), "")
        return Line(requirement, Outcome.NOT_APPLICABLE, why or self._unchecked.get(requirement, ""), tried)

    @property
    def failed(self) -> dict[str, str]:
        """The requirements that failed, and how."""
        return {line.requirement: line.text for line in self.lines if line.outcome is Outcome.FAILED}

    @property
    def not_applicable(self) -> dict[str, str]:
        """Those of which nothing can be said, and why."""
        return {line.requirement: line.text for line in self.lines if line.outcome is Outcome.NOT_APPLICABLE}

    @property
    def passed(self) -> dict[str, str]:
        """Those that hold, and what was tried."""
        return {line.requirement: line.text for line in self.lines if line.outcome is Outcome.PASSED}

    def as_json(self) -> dict[str, Any]:
        """Everything, bytes as hex."""
        return {
            "subject": self.subject,
            "ok": not self.failed,
            "requirements": [
                {
                    "requirement": line.requirement,
                    "outcome": line.outcome.value,
                    "text": line.text,
                    "checks": [result.name for result in line.results],
                }
                for line in self.lines
            ],
            "checks": [_as_json(result) for result in self.results],
        }

    def as_text(self, *, verbose: bool = False) -> str:
        """For a person: a line per requirement, and the last bytes of what failed (or, `verbose`, of everything)."""
        lines = []
        for line in self.lines:
            lines.append(f"{line.requirement:<7} {line.outcome.value:<15} {line.text}")
            for result in line.results:
                if line.outcome is Outcome.FAILED and result.broken == line.requirement:
                    lines.append(f"        in {result.name}: {result.title}")
                    lines += [f"        {entry}" for entry in result.entries[-SHOWN_ENTRIES:]]
                elif line.outcome is Outcome.PASSED and (verbose or result is line.shown):
                    lines += [f"        {entry}" for entry in result.entries_of(line.requirement, verbose=verbose)]
        counts = ", ".join(f"{len(found)} {name}" for found, name in self._counts())
        lines.append(f"{self.subject}: {counts}")
        return "\n".join(lines)

    def _counts(self) -> tuple[tuple[dict[str, str], str], ...]:
        return (self.passed, "passed"), (self.failed, "failed"), (self.not_applicable, "not applicable")


def _as_json(result: Result) -> dict[str, Any]:
    return {
        "name": result.name,
        "title": result.title,
        "requirements": list(result.requirements),
        "outcome": result.outcome.value,
        "broken": result.broken,
        "text": result.text,
        "bytes": [
            {
                "connection": entry.connection,
                "way": {">": "sent", "<": "received"}[entry.way],
                "what": entry.what,
                "length": entry.length,
                "hex": entry.shown.hex(),
            }
            for entry in result.entries[-JSON_ENTRIES:]
        ],
    }
