"""What goes wrong with the books as such."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from lnstore.errors import ExitCode, LnstoreError
from lnstore.ports import StorageFull


class BooksUnusable(LnstoreError):
    """The books cannot be opened, read or written; the text says what to do."""

    exit_code = ExitCode.CONFIGURATION


_SENTENCES = {
    "SQLITE_BUSY": "another program keeps the books locked; stop it and try again",
    "SQLITE_NOTADB": "the file is not a database of lnstore; restore it from a backup",
    "SQLITE_CORRUPT": "the books are damaged; restore them from a backup",
    "SQLITE_CANTOPEN": "the books cannot be opened; the folder must exist and be writable",
    "SQLITE_READONLY": "the books cannot be written; check who owns the file and its folder",
    "SQLITE_PERM": "the books cannot be opened; check who owns the file and its folder",
    "SQLITE_IOERR": "the disk fails; see the system's log",
}


def translated(exc: SQLAlchemyError) -> Exception:
    """The database's error as one that the rest of the program knows; itself when it is a fault of this program."""
    cause = exc.orig if isinstance(exc, DBAPIError) else None
    if not isinstance(cause, sqlite3.Error):
        return exc
    name: str = getattr(cause, "sqlite_errorname", "")
    if name == "SQLITE_FULL":
        return StorageFull("there is no room left for the books; free some disk space")
    sentence = next((text for code, text in _SENTENCES.items() if name.startswith(code)), None)
    return exc if sentence is None else BooksUnusable(f"{sentence} ({cause})")
