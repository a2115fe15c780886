"""How many sequences the machines here run: few in the suite, as many as `just soak` says for long."""

from __future__ import annotations

import os


def sequences(short: int) -> int:
    """`short`, unless the environment variable LNSTORE_SOAK says otherwise."""
    return int(os.environ.get("LNSTORE_SOAK", short))
