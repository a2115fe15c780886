"""How many sequences the machines and the longest properties run: few in the suite, as many as `just soak` says."""

from __future__ import annotations

import os


def sequences(short: int) -> int:
    """`short`, unless the environment variable LNSTORE_SOAK says otherwise."""
    return int(os.environ.get("LNSTORE_SOAK", short))
