"""What the catalog knows of a file that a reader would otherwise ask nodes for: its manifest, put together again."""

from __future__ import annotations

from collections.abc import Iterable

from lnstore.client.catalog import MANIFEST_SEGMENT, FileEntry, ShareEntry
from lnstore.client.segments import segment_sizes
from lnstore_protocol import manifest as manifests
from lnstore_protocol import merkle
from lnstore_protocol.caps import ReadCap
from lnstore_protocol.ids import ShareId
from lnstore_protocol.manifest import Manifest, SegmentShares

MOST_SHARES = 256
"""Of a file with more, the manifest is fetched: one question more is little among so many."""


def remembered_manifest(file: FileEntry, shares: Iterable[ShareEntry], cap: ReadCap) -> Manifest | None:
    """The manifest that `cap` names, if the shares in the catalog make it up; never another than that one.

    A manifest is always the same for the same input (F-W6), so its id tells.
    """
    if file.file_bytes is None or file.file_key != cap.file_key:
        return None
    ids: dict[int, dict[int, ShareId]] = {}
    for share in shares:
        if share.segment != MANIFEST_SEGMENT:
            ids.setdefault(share.segment, {})[share.number] = share.share_id
    sizes = segment_sizes(file.file_bytes, file.needed, file.total)
    if len(sizes) * file.total > MOST_SHARES:
        return None
    segments = []
    for number, size in enumerate(sizes):
        of_segment = ids.get(number, {})
        if sorted(of_segment) != list(range(file.total)):
            return None
        share_ids = tuple(of_segment[share] for share in range(file.total))
        segments.append(SegmentShares(size.size_bytes, size.share_bytes, share_ids))
    manifest = Manifest(file.needed, file.total, file.file_bytes, tuple(segments))
    return manifest if merkle.share_id(manifests.encode(manifest, cap.file_key)) == cap.manifest_id else None
