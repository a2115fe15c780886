"""Reads the specification's documents: tables of fields, registry, requirements, context strings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "spec"
LETTERS = {
    "00": "C",
    "01": "T",
    "02": "M",
    "02a": "MA",
    "02b": "MB",
    "03": "P",
    "04": "F",
    "05": "R",
    "05a": "D",
    "05b": "RC",
    "05c": "RA",
    "05d": "RP",
    "05e": "RI",
    "06": "E",
    "07": "S",
    "08": "V",
}
"""The requirement letter of each numbered document."""

REQUIREMENT = re.compile(r"\b(C|T|M|MA|MB|P|F|R|RA|D|RC|RP|RI|E|S|V)-([WR])([0-9]+)\b")

_FIELDS = "| key | field | type | length | presence | meaning |"
_MESSAGE = re.compile(r"### `(\w+)` · type (\d+) · (request|reply) · head ≤ (\d+) · payload ≤ (\d+)")
_STRUCTURE = re.compile(r"### `(\w+)` · CBOR map")
_STATED = re.compile(r"^- \*\*([A-Z]+-[WR]\d+)\*\* (.*?)(?=^- \*\*|^$)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table of fields; `key` is None for the payload."""

    key: int | None
    name: str
    type: str
    length: str
    presence: str


@dataclass(frozen=True, slots=True)
class MessageTable:
    """One message as a document describes it."""

    name: str
    type: int
    direction: str
    head_bytes: int
    payload_bytes: int
    rows: tuple[Row, ...]


@cache
def documents() -> dict[str, str]:
    """The numbered documents' texts, by number."""
    return {path.name.partition("-")[0]: path.read_text() for path in sorted(SPEC.glob("0*.md"))}


@cache
def prose(number: str) -> str:
    """A document's text as one line, for looking up what a line break may cut."""
    return " ".join(documents()[number].split())


@cache
def message_tables() -> dict[str, MessageTable]:
    """All messages by name: those of 02 and its parts, and those that stand beside what they are for."""
    tables = {}
    for number in ("02", "02a", "02b", "05a", "05b", "05d"):
        for match, section in _sections(documents()[number], _MESSAGE):
            name, kind, direction, head, payload = match.groups()
            tables[name] = MessageTable(name, int(kind), direction, int(head), int(payload), _rows(section))
    return tables


@cache
def structure_tables() -> dict[str, tuple[Row, ...]]:
    """The signed structures of 05 and its further parts by name."""
    texts = [text for number, text in documents().items() if number.startswith("05")]
    return {match[1]: _rows(section) for text in texts for match, section in _sections(text, _STRUCTURE)}


def tables_with(header: str, text: str) -> list[list[list[str]]]:
    """The cells of every table that has this header line."""
    lines = text.splitlines()
    found = []
    for at, line in enumerate(lines):
        if line == header:
            rows = []
            for row in lines[at + 2 :]:
                if not row.startswith("|"):
                    break
                rows.append([cell.strip() for cell in row.strip("|").split("|")])
            found.append(rows)
    return found


@cache
def requirements() -> dict[str, str]:
    """Every stated requirement with its sentence, in order."""
    stated: dict[str, str] = {}
    for text in documents().values():
        for name, sentence in _STATED.findall(text):
            if name in stated:
                raise ValueError(f"{name} is stated twice")
            stated[name] = " ".join(sentence.split())
    return stated


def _sections(text: str, heading: re.Pattern[str]) -> list[tuple[re.Match[str], str]]:
    """What stands below each heading of this form, up to the next heading."""
    return [
        (match, re.split(r"^##", text[match.end() :], maxsplit=1, flags=re.MULTILINE)[0])
        for match in heading.finditer(text)
    ]


def _rows(section: str) -> tuple[Row, ...]:
    rows = []
    for table in tables_with(_FIELDS, section):
        for key, name, kind, length, presence, _meaning in table:
            rows.append(Row(None if key == "payload" else int(key), name.strip("`"), kind, length, presence))
    return tuple(rows)
