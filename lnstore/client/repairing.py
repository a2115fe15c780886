"""`repair` as a whole: one's own files by the catalog, and those that are looked after by what their nodes show."""

from __future__ import annotations

from collections.abc import Callable, Collection

from lnstore.client.caring import cap_in_care, care, cared_for, survey
from lnstore.client.catalog import MANIFEST_SEGMENT, FileEntry, NodeEntry
from lnstore.client.download import FileUnreadable
from lnstore.client.looking import Depth
from lnstore.client.mending import Repaired, Wanted
from lnstore.client.purse import Purse
from lnstore.client.repair import repair
from lnstore.client.targets import Targets
from lnstore.errors import LnstoreError
from lnstore_protocol.caps import VerifyCap
from lnstore_protocol.ids import NodeId

Progress = Callable[[str], None]
Silent = Callable[[NodeEntry, LnstoreError], None]
"""Told of each node that did not answer for a file that is looked after, and counts as gone therefore."""


async def repair_files(
    purse: Purse,
    targets: Targets,
    *,
    files: Collection[FileEntry] | None = None,
    away: Collection[NodeId] = frozenset(),
    progress: Progress | None = None,
    silent: Silent | None = None,
) -> list[Repaired]:
    """What files of the catalog lack (these, or all), stored again as `repair.repair` and `caring.care` do it."""
    done = await repair(purse, targets.fit, files=files, away=away, doubtful=targets.doubtful, progress=progress)
    for file in purse.catalog.files() if files is None else files:
        if file.verify_only:
            cap = cap_in_care(file)
            try:
                done += await _care(purse, targets, cap, progress, silent)
            except FileUnreadable as exc:
                manifest = Wanted(cap.manifest_id, MANIFEST_SEGMENT, 0, 0, None)
                done.append(Repaired(file, manifest, None, str(exc), sent=False))
    return done


async def repair_cap(
    purse: Purse,
    targets: Targets,
    cap: VerifyCap,
    *,
    progress: Progress | None = None,
    silent: Silent | None = None,
) -> list[Repaired]:
    """The file of a capability, whosever it is. FileUnreadable."""
    known = cared_for(purse, cap)
    if known is not None and not known.verify_only:
        return await repair_files(purse, targets, files=[known], progress=progress)
    return await _care(purse, targets, cap, progress, silent)


async def _care(
    purse: Purse, targets: Targets, cap: VerifyCap, progress: Progress | None, silent: Silent | None
) -> list[Repaired]:
    found = await survey(purse, cap, Depth.AUDITED, progress)
    if silent is not None:
        for node_id, error in found.silent.items():
            silent(purse.catalog.node(node_id), error)
    return await care(purse, targets.fit, found, doubtful=targets.doubtful, progress=progress)
