"""Fixtures of the conformance program's tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from conformance_world import LightningSockets, NodeWorld, running_lightning

from lnstore import logs


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    logs.configure("error")
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def lightning() -> Iterator[LightningSockets]:
    directory = Path(tempfile.mkdtemp(prefix="lnc-", dir="/tmp"))
    try:
        with running_lightning(directory) as sockets:
            yield sockets
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def world(tmp_path: Path, lightning: LightningSockets) -> NodeWorld:
    return NodeWorld(tmp_path, lightning)
