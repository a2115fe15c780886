"""A folder's tree as it is stored: each object of the catalog before the first entry that lies in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from lnstore.client.catalog import Catalog, CatalogError
from lnstore.client.folder_catalog import Place
from lnstore_protocol.caps import ReadCap
from lnstore_protocol.trees import Entry, Head, Object


def tree_items(
    catalog: Catalog, taken_at: int, entries: Iterable[tuple[Entry, Place | None]]
) -> Iterator[Head | Object | Entry]:
    """The items of a tree from its entries and where their bytes are; CatalogError when those are not all stored."""
    numbers: dict[int, int] = {}
    known = {file.file_id: file for file in catalog.files() if file.folder is not None}
    yield Head(taken_at)
    for entry, place in entries:
        if place is None:
            yield entry
            continue
        if place.file_id not in numbers:
            file = known[place.file_id]
            if file.manifest_id is None or file.file_bytes is None:
                raise CatalogError(f"a pack of {file.folder!r} is not stored completely; put the folder again")
            numbers[place.file_id] = len(numbers)
            yield Object(ReadCap(file.file_key, file.manifest_id), file.file_bytes)
        yield replace(entry, object_index=numbers[place.file_id], offset=place.offset)
