"""The command line as processes: how a person and a script meet it.

`lnstore()` runs forks of one process, as each command's imports would cost more than what it does; COMMAND is the real
program.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fork_server import ENVIRONMENT, run_forked

COMMAND = [sys.executable, "-m", "lnstore"]
PATIENCE_SECONDS = 60


def lnstore(
    *words: str, home: Path | None = None, stdin: bytes = b"", **variables: str
) -> subprocess.CompletedProcess[bytes]:
    """Run one command to its end; further variables of its environment may be given."""
    environment = ENVIRONMENT | variables
    if home is not None:
        environment["LNSTORE_HOME"] = str(home)
    return run_forked(list(words), stdin, environment, PATIENCE_SECONDS)


def last_json(finished: subprocess.CompletedProcess[bytes]) -> Any:
    """The last line of standard output as JSON; what was said on standard error if the command failed."""
    assert finished.returncode == 0, finished.stderr.decode()
    return json.loads(finished.stdout.splitlines()[-1])


@dataclass(frozen=True)
class RunningNet:
    """A development network in a process of its own."""

    directory: Path
    lightning_rpc: Path
    clock_file: Path
    addresses: list[str]

    def profile(self, name: str, **settings: str) -> Path:
        """A fresh profile that shares the network's client daemon."""
        home = self.directory / name
        options = [word for key, value in settings.items() for word in (f"--{key}", value)]
        made = lnstore(
            "init",
            "--lightning-rpc",
            str(self.lightning_rpc),
            "--clock-file",
            str(self.clock_file),
            *options,
            home=home,
        )
        assert made.returncode == 0, made.stderr.decode()
        return home
