"""fsspec opens stored files by name, over running nodes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import fsspec
import pytest
from cli_world import RunningNet, last_json, lnstore

from lnstore.config import ConfigError
from lnstore.filesystem import LnstoreFileSystem


@pytest.fixture(scope="module")
def home(net: RunningNet) -> Path:
    home = net.profile("fsspec", needed="1", happy="2", total="2")
    for number, address in enumerate(net.addresses[:2]):
        assert lnstore("nodes", "add", address, "--petname", f"n{number}", home=home).returncode == 0
    bought = lnstore("rent", "buy", "--all", "20MiB", "--deposit", "10000", "--open-channel", home=home)
    assert bought.returncode == 0, bought.stderr
    return home


def test_files_and_folders_by_name(home: Path, tmp_path: Path) -> None:
    """Written, listed, read in pieces, renamed, removed; what is missing is a FileNotFoundError."""
    table = b"day,rain\n" + b"".join(b"%d,%d\n" % (day, day % 7) for day in range(200_000))
    where = {"profile": str(home)}
    with fsspec.open("lnstore://tables/rain.csv", "wb", **where) as out:
        out.write(table)
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "folder" / "below" / "file").write_bytes(os.urandom(100_000))
    assert last_json(lnstore("put", str(tmp_path / "folder"), "--json", home=home))["ok"]
    fs = fsspec.filesystem("lnstore", **where)
    assert isinstance(fs, LnstoreFileSystem)
    assert sorted(fs.ls("", detail=False)) == ["folder", "tables/rain.csv"]
    assert fs.ls("lnstore://folder/below", detail=False) == ["folder/below/file"]
    assert fs.find("folder") == ["folder/below/file"]
    assert fs.info("folder/below/file")["size"] == 100_000
    assert fs.isdir("folder/below")
    assert not fs.exists("nothing")
    with fsspec.open("lnstore://tables/rain.csv", "rt", **where) as text:
        assert [next(text) for _ in range(3)] == ["day,rain\n", "0,0\n", "1,1\n"]
    with fs.open("tables/rain.csv") as file:
        file.seek(-5, os.SEEK_END)
        assert file.read() == table[-5:]
    assert fs.cat_file("tables/rain.csv", -20, -10) == table[-20:-10]
    assert fs.cat("folder/below/file") == (tmp_path / "folder" / "below" / "file").read_bytes()
    fs.mv("tables/rain.csv", "rain")
    fs.rm("rain")
    with pytest.raises(FileNotFoundError):
        fs.cat_file("rain")
    with pytest.raises(FileNotFoundError):
        fs.open("rain")
    with pytest.raises(ValueError, match="write it whole"):
        fs.open("rain", "ab")
    fs.close()


def test_the_librarys_guide(home: Path, tmp_path: Path) -> None:
    """Both of its examples, as they stand there."""
    (tmp_path / "photos.tar").write_bytes(os.urandom(300_000))
    guide = (Path(__file__).parents[2] / "docs/guides/library.md").read_text()
    examples = [textwrap.dedent(block) for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", guide, re.MULTILINE)]
    assert len(examples) == 2
    for example in examples:
        done = subprocess.run(
            [sys.executable, "-c", example],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "LNSTORE_HOME": str(home)},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_no_profile_no_file_system(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        fsspec.filesystem("lnstore", profile=str(tmp_path))
