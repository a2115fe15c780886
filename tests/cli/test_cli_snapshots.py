"""`snapshots`, `forget` and `--at`: what restic's users expect, over a catalog that has snapshots."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from lnstore.cli import cli
from lnstore.cli.output import MOMENT
from lnstore.client.catalog import CatalogError
from lnstore.client.folder_catalog import FolderCatalog
from lnstore.client.profile import Profile, init_profile
from lnstore.errors import ExitCode
from lnstore_protocol.ids import ShareId


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


TIMES = [at(text) for text in ("2026-10-03T07:00", "2026-11-24T08:00", "2026-11-25T09:00:10", "2026-11-25T09:00:40")]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two folders with the same four snapshots; nothing of them is at a node."""
    init_profile(tmp_path / "profile")
    with Profile.load(tmp_path / "profile").open_catalog() as catalog:
        for folder in ("photos", "texts"):
            for time in TIMES:
                tree = catalog.begin_file(
                    name=f":tree:{folder}{time}", file_key=bytes(32), needed=1, total=1, happy=1, source=None, now=time,
                    folder=folder,
                )  # fmt: skip
                catalog.complete_file(tree.file_id, manifest_id=ShareId(bytes(32)), file_bytes=1)
                FolderCatalog(catalog).add_snapshot(
                    folder=folder, tree_file_id=tree.file_id, taken_at=time, entries=1, plain_bytes=1, packs=(), seen=()
                )
    return tmp_path / "profile"


def run(home: Path, *words: str, code: int = 0) -> list[dict[str, Any]]:
    done = CliRunner().invoke(cli, [*words, "--profile", str(home), "--json"])
    assert done.exit_code == code, done.output
    return [json.loads(line) for line in done.stdout.splitlines()] if code == 0 else []


def left(home: Path, folder: str) -> list[int]:
    return [row["taken_at"] for row in run(home, "snapshots", folder)]


def test_a_dry_run_says_what_is_kept_for_what_and_changes_nothing(home: Path) -> None:
    keep = ("--keep-last", "1", "--keep-daily", "2", "--dry-run")
    (told,) = run(home, "forget", "photos", *keep)
    assert told["forgotten"] == [TIMES[0], TIMES[2]]
    assert told["kept"] == [
        {"taken_at": TIMES[1], "for": ["daily"]},
        {"taken_at": TIMES[3], "for": ["last", "daily"]},
    ]
    assert left(home, "photos") == TIMES
    said = CliRunner().invoke(cli, ["forget", "photos", *keep, "--profile", str(home)]).stdout.splitlines()
    assert said == [
        "photos of 2026-11-25 09:00 UTC: kept (last, daily)",
        "photos of 2026-11-25 09:00 UTC: would be forgotten",
        "photos of 2026-11-24 08:00 UTC: kept (daily)",
        "photos of 2026-10-03 07:00 UTC: would be forgotten",
        "would forget 2 snapshots of photos, 2 kept: 0 B given up at the nodes",
    ]


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (["--keep-last", "2"], [2, 3]),
        (["--keep-hourly", "1"], [3]),
        (["--keep-hourly", "unlimited"], [0, 1, 3]),
        (["--keep-daily", "7"], [0, 1, 3]),
        (["--keep-weekly", "1"], [3]),
        (["--keep-monthly", "12"], [0, 3]),
        (["--keep-yearly", "3"], [0, 3]),
        (["--keep-within", "30d"], [1, 2, 3]),
        (["--keep-within", "0s", "--keep-last", "unlimited"], [0, 1, 2, 3]),
    ],
)
def test_each_option_keeps_what_it_says(home: Path, keep: list[str], kept: list[int]) -> None:
    run(home, "forget", "photos", *keep)
    assert left(home, "photos") == [TIMES[number] for number in kept]
    assert left(home, "texts") == TIMES


def test_several_folders_all_of_them_and_one_snapshot(home: Path) -> None:
    assert [row["folder"] for row in run(home, "forget", "--all", "--keep-last", "3")] == ["photos", "texts"]
    run(home, "forget", "photos", "--at", "2026-11-25 09:00 UTC")
    assert (left(home, "photos"), left(home, "texts")) == (TIMES[1:3], TIMES[1:])
    one_unknown = ["forget", "photos", "none", "--keep-last", "1", "--profile", str(home)]
    with pytest.raises(CatalogError, match="no folder 'none'"):
        CliRunner().invoke(cli, one_unknown, catch_exceptions=False)
    assert left(home, "photos") == TIMES[1:3]
    for wrong in (
        ["photos"],
        ["photos", "--all", "--keep-last", "1"],
        ["--keep-last", "1"],
        ["photos", "--keep-last", "-1"],
        ["photos", "--keep-last", "some"],
        ["photos", "--keep-within", "soon"],
        ["photos", "--at", "2026-11-25", "--keep-last", "1"],
    ):
        run(home, "forget", *wrong, code=ExitCode.USAGE)


def test_prune_with_nothing_to_do(tmp_path: Path) -> None:
    init_profile(tmp_path / "profile")
    nothing: dict[str, Any] = {"ok": True, "packs": 0, "pack_bytes": 0, "moved_bytes": 0, "snapshots": []}
    assert run(tmp_path / "profile", "prune", "--dry-run") == [nothing | {"dry_run": True}]
    assert run(tmp_path / "profile", "prune") == [nothing | {"dry_run": False, "freed_bytes": 0, "not_told": []}]
    for words, said in ((["prune", "--dry-run"], "would prune no packs"), (["prune"], "pruned no packs: 0 B given up")):
        assert CliRunner().invoke(cli, [*words, "--profile", str(tmp_path / "profile")]).stdout.startswith(said)


def test_a_day_hour_or_minute_is_meant_to_its_end() -> None:
    """So that what `snapshots` prints names the snapshot it stands beside."""
    for text, moment in (
        ("2026-11-25", "2026-11-25T23:59:59"),
        ("2026-11-25T18", "2026-11-25T18:59:59"),
        ("2026-11-25T18:00", "2026-11-25T18:00:59"),
        ("2026-11-25 18:00 UTC", "2026-11-25T18:00:59"),
        ("2026-11-25T18:00+01:00", "2026-11-25T17:00:59"),
        ("2026-11-25T18:00-01:00", "2026-11-25T19:00:59"),
        ("2026-11-25T18:00Z", "2026-11-25T18:00:59"),
        ("2026-11-25T18:00:07", "2026-11-25T18:00:07"),
    ):
        assert MOMENT.convert(text, None, None) == at(moment), text
    with pytest.raises(click.BadParameter, match="no day or time"):
        MOMENT.convert("yesterday", None, None)
