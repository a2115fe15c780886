"""What commands that speak to nodes or to Lightning open first, and close in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lnstore.cli.output import profile_directory

if TYPE_CHECKING:
    from lnstore.client.catalog import Catalog, NodeEntry
    from lnstore.client.files import Client
    from lnstore.client.profile import Profile
    from lnstore.client.purse import Purse


def load_profile(given: Path | None) -> Profile:
    """The profile that --profile, LNSTORE_HOME or the default names."""
    from lnstore.client.profile import Profile

    return Profile.load(profile_directory(given), ask=ask_passphrase)


def ask_passphrase() -> str:
    """The account key's passphrase, from LNSTORE_PASSPHRASE_FILE or a person on a terminal; ProfileError."""
    import os
    import sys

    from lnstore.client.keyfile import PASSPHRASE_FILE_VARIABLE, passphrase_from_environment

    if PASSPHRASE_FILE_VARIABLE in os.environ or not sys.stdin.isatty():
        return passphrase_from_environment()
    return str(click.prompt("passphrase of the account key", hide_input=True, err=True))


@asynccontextmanager
async def open_session(profile: Profile) -> AsyncIterator[tuple[Purse, Client]]:
    """A profile's purse and files over the same connections. The profile is held against other writers."""
    with profile.writing():
        async with open_unheld(profile) as session:
            yield session


@asynccontextmanager
async def open_unheld(profile: Profile) -> AsyncIterator[tuple[Purse, Client]]:
    """The same for the agent, which holds the profile for each of its jobs alone."""
    from lnstore.client.files import open_client
    from lnstore.client.purse import Purse
    from lnstore.lightning.core import CoreLightning

    async with open_client(profile) as client:
        lightning = CoreLightning(profile.config.lightning_rpc)
        yield (
            Purse.of(profile, client.catalog, lightning, client.pool.dial, client.clock, buffers=client.pool.buffers),
            client,
        )


@asynccontextmanager
async def open_purse(given: Path | None) -> AsyncIterator[Purse]:
    """Everything that commands about nodes, channels and rent take."""
    async with open_session(load_profile(given)) as (purse, _):
        yield purse


def chosen_nodes(catalog: Catalog, names: Sequence[str], *, everything: bool) -> list[NodeEntry]:
    """The nodes a person named, or all of them; a usage error for neither or both, or when none is known."""
    if everything == bool(names):
        raise click.UsageError("name one or more nodes, or --all")
    if not everything:
        return [catalog.find_node(name) for name in names]
    nodes = catalog.nodes()
    if not nodes:
        raise click.UsageError("no node is known yet; add one with: lnstore nodes add lnstore://…")
    return nodes
