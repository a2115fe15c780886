"""Asking the allocator to keep freed buffers is a wish, never a condition."""

import ctypes

import pytest

from lnstore import writeback
from lnstore.memory import reuse_freed_memory


def test_where_the_c_library_is_another_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_library(_name: object) -> ctypes.CDLL:
        raise OSError

    reuse_freed_memory()
    monkeypatch.setattr(ctypes, "CDLL", no_such_library)
    assert not reuse_freed_memory()


def test_where_writing_cannot_be_begun_early_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a hint. What it is for shows in the measurements only."""

    def no_such_library(_name: object) -> ctypes.CDLL:
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", no_such_library)
    writeback._sync_file_range.cache_clear()
    try:
        writeback.begin_writing(-1, 0, 1)
    finally:
        writeback._sync_file_range.cache_clear()
