"""The documents are complete and consistent in themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from spec_documents import LETTERS, REQUIREMENT, ROOT, SPEC, documents, requirements

MAX_LINES = 300


def test_every_document_of_the_list_exists() -> None:
    assert sorted(documents()) == sorted(LETTERS)


def test_readme_and_introduction_list_every_document() -> None:
    for listing in (SPEC / "README.md", SPEC / "00-introduction.md"):
        linked = set(re.findall(r"\]\((0\w*-[\w-]+\.md)\)", listing.read_text()))
        assert linked == {path.name for path in SPEC.glob("0*.md")}, listing.name


@pytest.mark.parametrize("number", LETTERS)
def test_document_has_version_letter_and_changes_and_is_not_long(number: str) -> None:
    text = documents()[number]
    assert re.search(rf"^Version 1\.0 · draft \d+ · letter {LETTERS[number]}$", text, re.MULTILINE)
    assert "\n## Changes\n" in text
    assert len(text.splitlines()) <= MAX_LINES


@pytest.mark.parametrize("number", LETTERS)
def test_requirements_are_numbered_without_gaps(number: str) -> None:
    for side in "WR":
        prefix = f"{LETTERS[number]}-{side}"
        stated = [name for name in requirements() if name.startswith(prefix)]
        assert stated == [f"{prefix}{i + 1}" for i in range(len(stated))]


def test_requirements_stand_in_the_document_of_their_letter() -> None:
    for number, text in documents().items():
        for letter in re.findall(r"^- \*\*([A-Z]+)-[WR]\d+\*\*", text, re.MULTILINE):
            assert letter == LETTERS[number]


@pytest.mark.parametrize("name", requirements())
def test_requirement_is_one_sentence_that_binds(name: str) -> None:
    sentence = requirements()[name]
    assert re.search(r"\b(MUST|SHOULD|MAY)\b", sentence)
    assert sentence.endswith(".")
    assert not re.search(r"\.\s+[A-Z]", sentence), "more than one sentence"


def test_every_requirement_that_is_quoted_is_stated() -> None:
    """In the documents, and in whatever code or test of the project quotes one."""
    stated = requirements()
    quoting = [*SPEC.glob("*.md"), *SPEC.glob("*.py"), SPEC / "lnstore.cddl"]
    for folder in ("protocol", "lnstore", "tests"):
        quoting += (ROOT / folder).rglob("*.py")
    unknown = {
        (path.relative_to(ROOT).as_posix(), match[0])
        for path in quoting
        if "__pycache__" not in path.parts
        for match in REQUIREMENT.finditer(path.read_text())
        if match[0] not in stated
    }
    assert unknown == set()


def test_every_relative_link_leads_somewhere() -> None:
    for path in SPEC.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def _contexts(text: str) -> set[str]:
    return set(re.findall(r'"(lnstore [a-z ]+ v1)"', text))


def test_context_strings_are_those_of_the_code() -> None:
    """Every derive-key context in the documents occurs in the code, and every one in the code is documented."""
    sources: list[Path] = [*(ROOT / "protocol/lnstore_protocol").glob("*.py"), ROOT / "lnstore/client/profile.py"]
    code = set().union(*(_contexts(path.read_text()) for path in sources))
    assert _contexts("".join(documents()[number] for number in ("03", "04", "05a", "05b"))) == code


def test_no_word_that_the_house_does_not_use() -> None:
    for number, text in documents().items():
        found = re.findall(r"\b(bucket|slot|manager|helper|utils?|TODO|FIXME|TBD)s?\b", text, re.IGNORECASE)
        assert found == [], number
