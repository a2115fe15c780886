"""What people know a file of the catalog by."""

from __future__ import annotations

from lnstore.client.backup import FOLDER
from lnstore.client.catalog import FileEntry


def title(file: FileEntry) -> str:
    """Its name; for trees and packs `folder/`, that of the folder they belong to."""
    if file.folder is None:
        return file.name
    return "the catalog's backup" if file.folder == FOLDER else f"{file.folder}/"
