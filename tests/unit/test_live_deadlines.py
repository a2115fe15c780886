"""A live test that waits for ever fails in time, and those after it run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).parents[1] / "conftest.py"
WAITING = """
import pytest, trio

@pytest.mark.live(seconds=0.05)
@pytest.mark.parametrize("where", ["daemon"])
async def test_hangs(where, tmp_path):
    assert where == "daemon" and tmp_path.is_dir()
    await trio.sleep_forever()

@pytest.mark.live
async def test_in_time():
    await trio.sleep(0.06)

async def test_not_live():
    await trio.sleep(0.06)
"""
BLOCKED = """
import pytest, threading

@pytest.mark.live(seconds=0.05)
def test_hangs():
    threading.Event().wait()
"""


def run(directory: Path, text: str, *, hanging_seconds: float) -> subprocess.CompletedProcess[str]:
    conftest = CONFTEST.read_text().replace("HANGING_SECONDS = 150.0", f"HANGING_SECONDS = {hanging_seconds}")
    (directory / "conftest.py").write_text(conftest)
    (directory / "test_some.py").write_text(text)
    (directory / "pytest.ini").write_text("[pytest]\ntrio_mode = true\nmarkers = live\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(directory)]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)


def test_a_live_test_that_waits_for_ever_fails(tmp_path: Path) -> None:
    """It fails at its own deadline; the next one has the usual one, and tests that are not live have none."""
    ended = run(tmp_path, WAITING, hanging_seconds=30)
    assert "trio.TooSlowError" in ended.stdout
    assert "1 failed, 2 passed" in ended.stdout, ended.stdout


def test_a_live_test_that_blocks_its_thread_ends_the_run(tmp_path: Path) -> None:
    """Where nothing else helps the run ends, and its last words are where each thread stands."""
    ended = run(tmp_path, BLOCKED, hanging_seconds=0.1)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr, (ended.stdout, ended.stderr)
    assert "test_some.py" in ended.stderr
