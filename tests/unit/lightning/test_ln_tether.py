"""Programs on a tether end with whoever started them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from lnstore.lightning.tether import Tether
from tests.unit.lightning.conftest import eventually

STARTER = """
import sys, trio
from pathlib import Path
from lnstore.lightning.tether import Tether

async def main():
    tether = Tether()
    processes = [await tether.spawn(["sleep", "1000"], Path(sys.argv[1])) for _ in range(2)]
    print(*[process.pid for process in processes], flush=True)
    await trio.sleep_forever()

trio.run(main)
"""


def gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody has waited for yet counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_a_killed_starter_leaves_nothing_running(tmp_path: Path) -> None:
    """SIGKILL of the process that holds the tether ends what hangs on it."""
    command = [sys.executable, "-c", STARTER, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as starter:  # noqa: ASYNC220  it prints at once
        assert starter.stdout is not None
        pids = [int(word) for word in starter.stdout.readline().split()]
        assert len(pids) == 2
        assert not any(gone(pid) for pid in pids)
        starter.kill()

    async def ended() -> bool:
        return all(gone(pid) for pid in pids)

    await eventually(ended)


async def test_closing_ends_what_still_runs(tmp_path: Path) -> None:
    """A tether that is closed takes along what was not stopped before; this process is not of its group."""
    tether = Tether()
    process = await tether.spawn(["sh", "-c", "echo started; sleep 1000"], tmp_path / "out")
    assert os.getpgid(process.pid) != os.getpgid(0)

    async def started() -> bool:
        return (tmp_path / "out").read_text() == "started\n"

    await eventually(started)
    await tether.aclose()
    with trio.fail_after(10):
        assert await process.wait() == -9
    await tether.aclose()


async def test_a_program_that_does_not_exist(tmp_path: Path) -> None:
    """What cannot be started is said at once, and the tether holds what comes later."""
    tether = Tether()
    with pytest.raises(FileNotFoundError):
        await tether.spawn(["no-such-program-here"], tmp_path / "out")
    process = await tether.spawn(["true"], tmp_path / "out")
    assert await process.wait() == 0
    await tether.aclose()
