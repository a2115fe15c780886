"""Each numbered requirement is quoted where code fulfils it or a test checks it."""

from __future__ import annotations

import pytest
from spec_documents import requirements
from spec_quotes import NOT_KEPT, quotes


@pytest.mark.parametrize("name", [name for name in requirements() if name not in NOT_KEPT])
def test_requirement_is_quoted(name: str) -> None:
    """In a comment or docstring; `python tests/spec/spec_quotes.py` lists where."""
    assert quotes()[name]


def test_what_is_not_kept_is_no_must_or_not_used() -> None:
    """An entry goes when something quotes it: then it is kept."""
    for name in NOT_KEPT:
        assert not quotes()[name], name
        sentence = requirements()[name]
        assert "MUST" not in sentence or name in {"MB-R32", "R-W1"}, name
