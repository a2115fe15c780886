"""py-spy on running processes: which functions they are in, some hundred times a second."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

RATE = 250
STOP_SECONDS = 60


@dataclass(slots=True)
class Samples:
    """Samples of one process: by the function it was in, and by every function on the stack."""

    inside: Counter[str] = field(default_factory=Counter)
    below: Counter[str] = field(default_factory=Counter)
    problem: str = ""

    @property
    def total(self) -> int:
        """All samples in which some thread was running."""
        return self.inside.total()


@contextmanager
def sampling(pids: Mapping[str, int], folder: Path) -> Iterator[dict[str, Samples]]:
    """Sample processes, by name, for the block; the samples are there after it.

    Without py-spy, or where the system forbids to look into other processes, `problem` says so.
    """
    program = shutil.which("py-spy")
    samples = {name: Samples() for name in pids}
    running: dict[str, subprocess.Popen[str]] = {}
    for name, pid in pids.items() if program else ():
        options = ["--format", "raw", "--rate", str(RATE), "--output", str(folder / f"{name}.raw")]
        running[name] = subprocess.Popen(
            [str(program), "record", "--pid", str(pid), *options, "--duration", "3600", "--nonblocking"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        yield samples
    finally:
        for name in pids:
            if name not in running:
                samples[name].problem = "py-spy is not installed: just profile brings it along"
                continue
            process = running[name]
            process.send_signal(signal.SIGINT)
            try:
                _, said = process.communicate(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                _, said = process.communicate()
            _read(folder / f"{name}.raw", samples[name], said)


def _read(raw: Path, samples: Samples, said: str) -> None:
    """Collapsed stacks: `outermost;…;innermost count` per line."""
    if not raw.exists():
        samples.problem = next((line for line in said.splitlines() if "rror" in line), "py-spy gave no samples")
        return
    for line in raw.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [_short(frame) for frame in stack.split(";")]
        samples.inside[frames[-1]] += int(count)
        for frame in set(frames):
            samples.below[frame] += int(count)


def _short(frame: str) -> str:
    """`name (path/module.py:12)` as `module.py:12 name`, with the folder where that tells more."""
    name, _, place = frame.rpartition(" (")
    parts = place.rstrip(")").split("/")
    return f"{'/'.join(parts[-2:])} {name}" if name else frame
