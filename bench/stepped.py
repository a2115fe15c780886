"""Run the measured client, or a node, with stopwatches on its steps (bench.steps).

`python -m bench.stepped SNAPSHOT client PROFILE` or `python -m bench.stepped SNAPSHOT node DIRECTORY`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import lnstore.cli.node_commands
import lnstore.node  # noqa: F401 - imported so that its steps can be timed
from bench import client_process
from bench.steps import install
from lnstore.cli import main as lnstore_command


def main() -> None:
    """Do what the arguments say."""
    snapshot, kind, directory = sys.argv[1:]
    install(Path(snapshot))
    if kind == "client":
        sys.argv = [sys.argv[0], directory]
        client_process.main()
    else:
        sys.argv = ["lnstore", "node", "run", directory, "--until-eof"]
        lnstore_command()


if __name__ == "__main__":
    main()
