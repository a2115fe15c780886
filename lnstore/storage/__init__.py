"""Where a node keeps its shares: one file each."""

from lnstore.storage.files import FileShares

__all__ = ["FileShares"]
