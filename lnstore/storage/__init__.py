"""Where a node keeps its shares."""

from lnstore.storage.files import FileShares
from lnstore.storage.shares import NodeShares

__all__ = ["FileShares", "NodeShares"]
