"""Bar charts as SVG, written by hand: nothing to install for them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.plan import MIB
from bench.tables import Results, figure, key_of, limit_of, title

WIDTH, LABEL_WIDTH, FIGURE_WIDTH = 860, 250, 130
BAR_HEIGHT, GROUP_GAP, TOP, BOTTOM = 18, 14, 58, 16
COLOURS = ("#b8572a", "#4f7193", "#8fa9c2")
LIMIT_COLOUR = "#222222"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its length in the chart's unit, and the text behind it."""

    system: str
    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Group:
    """The bars of one work; `limit` is drawn as a mark across them."""

    label: str
    bars: tuple[Bar, ...]
    limit: float | None = None


def charts(results: Results) -> dict[str, str]:
    """File name to SVG: transfers of large files in MB/s, and small files per second."""
    large = _groups(results, lambda row: row["mb_per_s"] is not None and row["files"] == 1 and row["file_bytes"] >= MIB)
    small = _groups(results, lambda row: row["files_per_s"] is not None)
    return {
        name: draw(heading, groups)
        for name, heading, groups in (
            ("transfers.svg", "Transfers, MB/s of plaintext (more is better; the mark is the computed limit)", large),
            ("small-files.svg", "Small files, each on its own, per second (more is better)", small),
        )
        if groups
    }


def draw(heading: str, groups: Sequence[Group]) -> str:
    """A horizontal bar chart."""
    systems = list(dict.fromkeys(bar.system for group in groups for bar in group.bars))
    most = max(max([*(bar.value for bar in group.bars), group.limit or 0]) for group in groups)
    scale = (WIDTH - LABEL_WIDTH - FIGURE_WIDTH) / most
    parts = [_text(12, 22, heading, weight="bold")]
    for at, system in enumerate(systems):
        x = LABEL_WIDTH + 190 * at
        parts += [_box(x, 34, 12, 12, COLOURS[at % len(COLOURS)]), _text(x + 18, 44, system)]
    y = TOP
    for group in groups:
        height = BAR_HEIGHT * len(group.bars)
        parts.append(_text(LABEL_WIDTH - 8, y + height / 2 + 4, group.label, anchor="end"))
        for bar in group.bars:
            colour = COLOURS[systems.index(bar.system) % len(COLOURS)]
            length = max(1.0, bar.value * scale)
            parts += [
                _box(LABEL_WIDTH, y, length, BAR_HEIGHT - 3, colour),
                _text(LABEL_WIDTH + length + 6, y + BAR_HEIGHT - 6, bar.text),
            ]
            y += BAR_HEIGHT
        if group.limit:
            parts.append(_box(LABEL_WIDTH + group.limit * scale, y - height - 2, 2, height + 1, LIMIT_COLOUR))
        y += GROUP_GAP
    size = f'width="{WIDTH}" height="{y + BOTTOM}" viewBox="0 0 {WIDTH} {y + BOTTOM}"'
    style = 'font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>'
    return "\n".join([head, _box(0, 0, WIDTH, y + BOTTOM, "#ffffff"), *parts, "</svg>", ""])


def _groups(results: Results, wanted: object) -> list[Group]:
    assert callable(wanted)
    rows = [row for row in results["rows"] if row["name"] in {"put", "get"} and wanted(row)]
    groups = []
    for key in dict.fromkeys(map(key_of, rows)):
        same = [row for row in rows if key_of(row) == key]
        bars = [Bar(row["system"], row["files_per_s"] or row["mb_per_s"], figure(row)) for row in same]
        groups.append(Group(f"{same[0]['coding']} {title(same[0])}", tuple(bars), limit_of(results, same[0])))
    return groups


def _box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
    return f"<text {where}>{escape(text)}</text>"
