"""Asking the allocator to keep freed buffers is a wish, never a condition."""

import ctypes

import pytest

from lnstore.memory import reuse_freed_memory


def test_where_the_c_library_is_another_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_library(_name: object) -> ctypes.CDLL:
        raise OSError

    reuse_freed_memory()
    monkeypatch.setattr(ctypes, "CDLL", no_such_library)
    assert not reuse_freed_memory()
