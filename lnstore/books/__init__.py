"""Accounts, leases, invoices and the ledger of a node."""

from lnstore.books.errors import BooksUnusable
from lnstore.books.sql import SqlBooks

__all__ = ["BooksUnusable", "SqlBooks"]
