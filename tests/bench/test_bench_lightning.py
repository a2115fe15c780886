"""The figures of real Core Lightning become a document; with the programs on PATH they are measured, a few of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import lightning, lightning_report
from bench.lightning_report import WORK, quantile, row
from lnstore.lightning.regtest import missing_programs

RESULTS: dict[str, Any] = {
    "format": 1,
    "began_at": "2026-11-25T04:00:00+00:00",
    "machine": {"processor": "abacus", "cores_used": 2},
    "lightning": "v26.06.6",
    "bitcoin": "Bitcoin v28",
    "load_average": 1.5,
    "sizes": lightning.Sizes(channels=2, tenants=1, payments=100, accounts=1000).as_json(),
    "rows": {
        "channel_open": row([1.25, 0.75], 2.0),
        "payment_one": row([0.001 * number for number in range(1, 101)], 5.05),
        "account_credits": {**row([], 4.0), "count": 1000},
    },
}


def test_the_document_has_the_figures_and_what_they_are_of() -> None:
    """Median and 99th percentile of each, how many a second, both daemons' versions and the machine."""
    text = lightning_report.document(RESULTS)
    assert "on 2026-11-25" in text
    assert "Core Lightning v26.06.6, Bitcoin v28" in text
    assert "processor abacus, cores used 2; load average in the end 1.5" in text
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert [line[1:] for line in lines[2:]] == [
        ["2", "1.00 s", "1.25 s", "1.0"],
        ["100", "50 ms", "99 ms", "20"],
        ["1,000", "-", "-", "250"],
    ]
    assert lines[-1][0].startswith("1,000 accounts")


@given(st.lists(st.floats(0, 100), min_size=1), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_a_time_within_which_that_part_was_done(seconds: list[float], part: float) -> None:
    found = quantile(seconds, part)
    assert found in seconds
    assert sum(one <= found for one in seconds) >= part * len(seconds)
    assert sum(one < found for one in seconds) < part * len(seconds)


def test_recorded_results_are_shown_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--from` measures nothing, and recording what was recorded changes nothing."""
    (tmp_path / "results.json").write_text(json.dumps(RESULTS))
    assert lightning.main(["--from", str(tmp_path / "results.json"), "--output", str(tmp_path / "copy.json")]) == 0
    assert capsys.readouterr().out == lightning_report.document(RESULTS)
    assert lightning_report.read(tmp_path / "copy.json") == RESULTS


def test_the_document_is_what_its_results_give() -> None:
    """Nobody edits the one or the other by hand."""
    if not lightning_report.RECORDED.exists():
        pytest.skip("nothing is recorded yet: just bench-lightning --record")
    assert lightning_report.document(lightning_report.read(lightning_report.RECORDED)) == (
        lightning_report.DOCUMENT.read_text()
    )


def test_missing_programs_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert lightning.main([]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "lightningd (Core Lightning)" in said.err


@pytest.mark.live
@pytest.mark.skipif(bool(missing_programs()), reason=f"not on PATH: {', '.join(missing_programs())}")
def test_a_small_run_has_every_figure(tmp_path: Path) -> None:
    """Two of everything, with the real daemons."""
    output = tmp_path / "results.json"
    arguments = ["--channels", "2", "--tenants", "1", "--payments", "2", "--accounts", "2", "--output", str(output)]
    assert lightning.main(arguments) == 0
    results = lightning_report.read(output)
    assert results["rows"].keys() == WORK.keys()
    assert results["lightning"].startswith("v")
    assert all(found["seconds_in_all"] > 0 for found in results["rows"].values())
