"""Fixtures of the node's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from node_world import World

from lnstore import logs


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    logs.configure("info")
    yield
    structlog.reset_defaults()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
