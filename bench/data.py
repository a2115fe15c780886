"""Incompressible files, and whether two files are equal. Blocking."""

from __future__ import annotations

import filecmp
import os
from pathlib import Path

STEP_BYTES = 1 << 20


def random_file(path: Path, size_bytes: int) -> Path:
    """A file of so many random bytes, on the disk when this returns."""
    with path.open("wb") as file:
        for at in range(0, size_bytes, STEP_BYTES):
            file.write(os.urandom(min(STEP_BYTES, size_bytes - at)))
        file.flush()
        os.fsync(file.fileno())
    return path


def random_files(folder: Path, count: int, size_bytes: int) -> list[Path]:
    """So many random files in a new folder."""
    folder.mkdir()
    return [random_file(folder / f"{number:05d}", size_bytes) for number in range(count)]


def are_equal(one: Path, other: Path) -> bool:
    """Whether both files have the same content, compared byte by byte."""
    filecmp.clear_cache()
    return filecmp.cmp(one, other, shallow=False)
