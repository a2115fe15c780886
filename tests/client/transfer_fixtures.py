"""A client over tiny nodes, for the tests of transfers."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path

import trio
from tiny_node import TinyNetwork

from lnstore.client.files import Client, open_client
from lnstore.client.profile import Profile, init_profile
from lnstore.clock import SteeredClock

PATIENCE_SECONDS = (0.2, 0.2)


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


class Bed:
    """A profile, its network of tiny nodes, and clients on them."""

    def __init__(self, directory: Path, network: TinyNetwork, needed: int, total: int, happy: int) -> None:
        self.directory = directory
        self.network = network
        self.clock = SteeredClock(directory / "clock")
        self.profile: Profile = init_profile(
            directory / "profile", needed=needed, total=total, happy=happy, clock_file=str(directory / "clock")
        )
        with self.profile.open_catalog() as catalog:
            for number, node in enumerate(network.nodes):
                catalog.add_node(node.address, petname=f"n{number}", lightning_id=None, added_at=number)

    @asynccontextmanager
    async def client(self, *, share_seconds: float = 20.0) -> AsyncIterator[Client]:
        """As a new process would have it: the profile read again."""
        async with open_client(
            Profile.load(self.directory / "profile"),
            open_stream=self.network.open_stream,
            share_seconds=share_seconds,
            patience_seconds=PATIENCE_SECONDS,
        ) as client:
            yield client

    def file(self, data: bytes, name: str = "report.bin") -> Path:
        path = self.directory / name
        path.write_bytes(data)
        return path

    @property
    def nodes(self) -> list:  # type: ignore[type-arg]  # of TinyNode
        return self.network.nodes


async def read_back(client: Client, cap: object, **kwargs: int) -> bytes:
    out = BytesIO()
    await client.get(cap, out, **kwargs)  # type: ignore[arg-type]
    return out.getvalue()


def bed_of(directory: Path, tasks: trio.Nursery, *, nodes: int, needed: int, happy: int | None = None) -> Bed:
    return Bed(directory, TinyNetwork(tasks, nodes), needed, nodes, happy or needed)
