"""The database file: how it is opened, made, brought up to date, written by one and read by several."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import trio
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from lnstore.books.errors import BooksUnusable, translated
from lnstore.books.migrations import HEAD
from lnstore.books.schema import metadata, pay_cursor
from lnstore.books.writer import Writer

READERS = 4
"""Connections, and so threads, that read at once."""
BUSY_SECONDS = 30
"""How long a transaction waits for another process's."""
CACHE_KIB = 16_384
CHECKPOINT_PAGES = 4_000
"""Of 4 KiB, in the write-ahead log before they are moved into the file."""

Result = TypeVar("Result")

_VERSION_TABLE = (
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
    "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)
"""As Alembic makes it."""


class Database:
    """An open database at the newest schema. Made and closed in a worker thread."""

    def __init__(self, where: str | Path) -> None:
        url = _url(where)
        path = Path(url.database or "")
        try:
            # Preimages are in it, so it is nobody else's to read; SQLite's other files copy these rights.
            # Only where there is none: closing any descriptor of the file would drop the locks that another connection
            # of this process holds on it (SQLite, "How To Corrupt An SQLite Database File", section 2.2).
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError as exc:
            raise BooksUnusable(f"{path} cannot be opened: {exc.strerror}") from exc
        self._writing = _engine(url, "BEGIN IMMEDIATE", connections=1)
        self._reading = _engine(url, None, connections=READERS)
        self._readers = trio.CapacityLimiter(READERS)
        self._idle: list[Connection] = []
        try:
            connection = self._writing.connect()
            _bring_up_to_date(connection, path)
        except SQLAlchemyError as exc:
            self.close()
            raise translated(exc) from exc
        except BooksUnusable:
            self.close()
            raise
        self._connection = connection
        self.writer = Writer(connection)

    def close(self) -> None:
        """Close every connection."""
        while self._idle:
            self._idle.pop().close()
        if hasattr(self, "_connection"):
            self.writer.close()
            self._connection.close()
        self._writing.dispose()
        self._reading.dispose()

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """What `work` reads. It waits for no writer; what one statement reads is of one moment."""
        return await trio.to_thread.run_sync(self._read, work, limiter=self._readers)

    def _read(self, work: Callable[[Connection], Result]) -> Result:
        # The limiter lets in as many as there may be connections; they are kept, checking them out costs as much
        # as a query.
        try:
            connection = self._idle.pop() if self._idle else self._reading.connect()
            try:
                return work(connection)
            finally:
                connection.rollback()
                self._idle.append(connection)
        except SQLAlchemyError as exc:
            raise translated(exc) from exc


def _url(where: str | Path) -> URL:
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite+pysqlite", database=os.fspath(where))
    url = make_url(where)
    if url.get_backend_name() != "sqlite" or not url.database:
        raise BooksUnusable(f"{url.render_as_string()}: the books are kept in a SQLite file; name one")
    return url


def _engine(url: URL, begin: str | None, *, connections: int) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,  # preimages and nonces must not get into an error's text
        connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS},
    )

    def connected(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own idea of when to begin is switched off
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            f"cache_size = -{CACHE_KIB}",
            f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    event.listen(engine, "connect", connected)
    if begin is not None:
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _bring_up_to_date(connection: Connection, path: Path) -> None:
    """Make the tables in an empty file, migrate an older one. Alembic takes long to import: only when it is needed."""
    with connection.begin():
        tables = set(inspect(connection).get_table_names())
        if not tables:
            _make(connection)
            return
        if "alembic_version" not in tables:
            raise BooksUnusable(f"{path} is not a node's books; name another file")
        version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    if version != HEAD:
        from lnstore.books.migrations.upgrade import upgrade  # noqa: PLC0415  (see above)

        upgrade(connection, path)


def _make(connection: Connection) -> None:
    metadata.create_all(connection)
    connection.execute(pay_cursor.insert(), {"one": 1, "pay_index": 0})
    connection.execute(text(_VERSION_TABLE))
    connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})
