"""Bring a database up to the newest schema with Alembic; it needs no alembic.ini."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from lnstore.books.errors import BooksUnusable


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration for the migrations in this folder, run on `connection`."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection, path: Path, revision: str = "head") -> None:
    """Migrate the database to `revision`; BooksUnusable when it is newer than this program."""
    try:
        command.upgrade(configuration(connection), revision)
    except CommandError as exc:
        raise BooksUnusable(f"{path} was made by a newer lnstore; update this one ({exc})") from exc
