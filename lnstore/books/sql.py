"""A node's books in a SQLite file: ports.Books, put together from its parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import trio

from lnstore.books.accounts import SqlAccounts
from lnstore.books.audit import SqlAudit
from lnstore.books.database import Database
from lnstore.books.delegations import SqlDelegations
from lnstore.books.holders import SqlHolders
from lnstore.books.inviting import SqlInvitations
from lnstore.books.invoices import SqlInvoices
from lnstore.books.leases import SqlLeases
from lnstore.books.receipts import SqlReceipts
from lnstore.books.records import SqlRecords
from lnstore.books.renewals import SqlRenewals
from lnstore.books.statements import SqlLedger
from lnstore.books.strangers import SqlStrangers
from lnstore.books.traffic import SqlTraffic


class SqlBooks(
    SqlAccounts,
    SqlHolders,
    SqlInvitations,
    SqlRenewals,
    SqlStrangers,
    SqlLeases,
    SqlDelegations,
    SqlInvoices,
    SqlTraffic,
    SqlLedger,
    SqlAudit,
    SqlRecords,
    SqlReceipts,
):
    """ports.Books over one database. Several processes may open the same file: SQLite lets one write at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    @asynccontextmanager
    async def open(cls, where: str | Path) -> AsyncIterator[Self]:
        """The books in the file (or `sqlite:///` URL) `where`, made when new, migrated when older, closed at the end.

        Raises BooksUnusable when it is not such a file, made by a newer lnstore, locked, or cannot be written.
        """
        database = await trio.to_thread.run_sync(Database, where)
        try:
            yield cls(database)
        finally:
            # Moves the write-ahead log into the file; bounded by the database's busy timeout.
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(database.close)

    @property
    def commits(self) -> int:
        """How many transactions were committed since the books were opened."""
        return self._database.writer.commits
