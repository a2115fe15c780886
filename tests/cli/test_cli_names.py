"""Names may be anybody's: whatever is in one, it is shown, and neither the terminal nor a table obeys it."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnstore.cli import main
from lnstore.cli.output import printable, printable_lines
from lnstore.cli.session import load_profile
from lnstore.client.folder_catalog import FolderCatalog
from lnstore.client.tree_cache import TreeCache
from lnstore.errors import ExitCode
from lnstore_protocol.ids import ShareId
from lnstore_protocol.trees import Entry, Head, Kind

NAMES = (
    "two\nlines",
    "\x1b]0;title\x07\x1b[2Jcleared",
    "back\b\b\b\bover\rreturn",
    "[bold]red[/] [/] [link=https://example.org]here[/link]",
    ":smile: 'quoted' \"too\"",
    "\u202egnp.exe",
    "\x9b31m",
    unicodedata.normalize("NFC", "süß"),
    unicodedata.normalize("NFD", "süß"),
    "名前 🙂",
)
NOT_TEXT = b"not \xff text"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A profile whose catalog has a file and a folder of each name, and one with all names in it; no node is needed."""
    monkeypatch.setenv("LNSTORE_HOME", str(tmp_path / "home"))
    assert run(monkeypatch, "init", "--lightning-rpc", str(tmp_path / "rpc")) == 0
    capsys.readouterr()
    root = Entry(Kind.DIRECTORY, b"", 0o755, 0)
    inside = sorted([*(name.encode() for name in NAMES), NOT_TEXT])
    names = [Entry(Kind.SYMLINK, name, 0o777, 0, target=b"to " + name) for name in inside if b"/" not in name]
    with load_profile(tmp_path / "home").open_catalog() as catalog:
        folders, trees = FolderCatalog(catalog), TreeCache(tmp_path / "home")
        for name in [*NAMES, "all"]:
            tree = catalog.begin_file(
                name=f":{name}", file_key=bytes(32), needed=1, total=1, happy=1, source=None, now=0, folder=name
            )
            catalog.complete_file(tree.file_id, manifest_id=ShareId(os.urandom(32)), file_bytes=1)
            entries = [root, *names] if name == "all" else [root]
            trees.keep(tree.file_id, trees.write([Head(0), *entries]))
            folders.add_snapshot(
                folder=name,
                tree_file_id=tree.file_id,
                taken_at=0,
                entries=len(entries),
                plain_bytes=0,
                packs=(),
                seen=(),
            )
        for name in NAMES:
            catalog.begin_file(name=f"file {name}", file_key=bytes(32), needed=1, total=1, happy=1, source=None, now=0)
    return tmp_path / "home"


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """One command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["lnstore", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def lines(text: str) -> list[str]:
    """What a terminal shows; AssertionError when any of it is more than text."""
    assert text.endswith("\n")
    shown = text[:-1].split("\n")
    assert all(line.isprintable() for line in shown), shown
    return shown


def test_listings_show_names_and_obey_none(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line each, all of the name in it; --json says it exactly."""
    for words, rows in (
        (("ls",), 2 * len(NAMES) + 1),
        (("snapshots",), len(NAMES) + 1),
        (("ls", "all"), len(NAMES)),
        (("find", "*o*"), 7),
    ):
        assert run(monkeypatch, *words) == 0
        shown = lines(capsys.readouterr().out)
        told = [line for line in shown if not line.split() or line.split()[0] not in {"name", "mode", "folder"}]
        assert len(told) >= rows, (words, shown)
        assert run(monkeypatch, *words, "--json") == 0
        said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        if words != ("find", "*o*"):
            assert len(said) == len(told)
        for one in said:
            name = one.get("name", one.get("folder"))
            assert any(printable(name) in line for line in told), name
    assert home.exists()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_about_a_file_is_one_line_each(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run(monkeypatch, "info", name) == 0
    assert f"name:         {printable(name)}" in [line.rstrip() for line in lines(capsys.readouterr().out)]
    assert run(monkeypatch, "mv", name, f"{name}{name}") == 0
    assert lines(capsys.readouterr().out) == [f"{printable(name)} is now called {printable(name + name)}"]
    assert run(monkeypatch, "rm", name) == ExitCode.CONFIGURATION
    lines(capsys.readouterr().err)
    assert run(monkeypatch, "put", str(home / name)) != 0
    lines(capsys.readouterr().err)
    assert run(monkeypatch, "rm", f"{name}{name}") == 0
    (said,) = lines(capsys.readouterr().out)
    assert said.startswith(f"removed {printable(name + name)}: ")


@given(st.text())
def test_printable_text_is_printable_and_the_rest_unchanged(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
    assert printable_lines(text).split("\n") == [printable(line) for line in text.split("\n")]
    if text.isprintable():
        assert printable(text) == text
