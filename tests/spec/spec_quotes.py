"""Where code and tests quote the numbered requirements of the specification, in comments and docstrings.

uv run python tests/spec/spec_quotes.py        # lists them all
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from spec_documents import REQUIREMENT, ROOT, requirements

FOLDERS = ("protocol/lnstore_protocol", "lnstore", "tests")
LISTS = ("protocol/lnstore_protocol/conformance/", "tests/conformance/")
"""The conformance program has a table of all requirements: what it lists there fulfils none."""

NOT_KEPT = {
    "MA-R6": "a permission: lnstore's node serves everybody",
    "MB-R32": "lnstore's client does not ask for peers",
    "R-W1": "lnstore's client writes no records",
    "R-R23": "lnstore's client shows the node's count of what was read, and keeps none of its own",
    "V-W1": "lnstore's client has one key per profile: who wants several takes several profiles",
    "V-W2": "a permission: lnstore's client does not pad",
    "V-W4": "lnstore's client pays when it is told to",
    "V-W5": "lnstore's client announces the channels it opens",
}
"""What lnstore does not do and why: no MUST but about what its client does not use (records, list_peers)."""


def _texts(source: str) -> Iterator[tuple[int, str]]:
    """Every comment and docstring (of attributes too) with its line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def _files() -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(LISTS) and path != Path(__file__).resolve():
                yield path


@cache
def quotes() -> dict[str, list[str]]:
    """By requirement, the places (file:line) that quote it, in the specification's order."""
    found: dict[str, list[str]] = {name: [] for name in requirements()}
    for path in _files():
        source = path.read_text()
        if REQUIREMENT.search(source):
            for line, text in _texts(source):
                for match in REQUIREMENT.finditer(text):
                    found.setdefault(match[0], []).append(f"{path.relative_to(ROOT).as_posix()}:{line}")
    return found


def main() -> None:
    """One line per requirement."""
    for name, places in quotes().items():
        where = ", ".join(places) or f"not kept: {NOT_KEPT.get(name, 'NOWHERE')}"
        sys.stdout.write(f"{name}: {requirements()[name]}\n    {where}\n")


if __name__ == "__main__":
    main()
